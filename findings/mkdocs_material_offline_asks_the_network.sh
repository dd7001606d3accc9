#!/usr/bin/env bash
# mkdocs-material 9.8.2: its `offline` plugin, for sites that are opened as files, puts a script of unpkg.com in every page.
# Expected: a site that was built to be read offline asks the network for nothing, and its search works without one.
# Seen: every page has <script src="https://unpkg.com/iframe-worker/shim">, unless `extra.polyfills` names some file with
# `iframe-worker` in its name; without the network no worker can be started from a file, and the search hides itself.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet mkdocs-material==9.8.2
mkdir "$room/docs"
echo "# A page" >"$room/docs/index.md"
for polyfills in "[]" "[own-iframe-worker.js]"; do
    cat >"$room/mkdocs.yml" <<YML
site_name: s
theme: {name: material, font: false}
plugins: [search, offline]
extra: {polyfills: $polyfills}
YML
    (cd "$room" && NO_MKDOCS_2_WARNING=1 venv/bin/mkdocs build --quiet)
    echo "polyfills $polyfills: $(grep -o '<script src="[^"]*"' "$room/site/index.html" | tr '\n' ' ')"
    case $polyfills in
    "[]") grep -q '<script src="https://unpkg.com/iframe-worker/shim"' "$room/site/index.html" ;;
    *) ! grep -q 'src="https' "$room/site/index.html" ;;
    esac
done
