#!/usr/bin/env bash
# commands.sh OTHER_SRC [TURNS]: processor seconds and peak memory (MB) of commands that nobody is to wait for, of this
# source tree and of another one (its folder src), in turns; medians. An empty cache of its own for each: the first turn
# of this tree's `study list` times products, the others remember. Needs GNU time and a python that has the dependencies.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd) other=$(cd "$1" && pwd) turns=${2:-3}
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT && cd "$work"

measured() { # SRC CACHE FILE WORDS...
  local src=$1 cache=$2 file=$3; shift 3
  PYTHONPATH=$src ADALN_CACHE=$cache OMP_NUM_THREADS=1 /usr/bin/time -o seconds -f '%U %S %M' python -m adaln "$@" >/dev/null 2>&1 || true
  tail -1 seconds >>"$file"
}
median() { awk '{print $1 + $2, $3 / 1000}' "$1" | sort -n | awk '{s[NR] = $1; m[NR] = $2} END {k = int((NR + 1) / 2); printf "%.2f s %.0f MB", s[k], m[k]}'; }

printf '%-46s %-18s %s\n' "adaln ..." "this tree" "the other"
while read -r words; do
  rm -f ours theirs
  for _ in $(seq "$turns"); do
    measured "$here/src" "$work/cache" ours $words
    measured "$other" "$work/other-cache" theirs $words
  done
  printf '%-46s %-18s %s\n' "$words" "$(median ours)" "$(median theirs)"
done <<'WORDS'
schemes
presets
models
study list
train --help
trian digits
train digit
train digits --model DiT-XL2
train digits --scheme adaln-zro
train digits --process dpm
train digits --optim.lrr 1
sample run --sampler.solver dim
study quickstrat
evaluate samples --reference digits --metrics fdi
WORDS
