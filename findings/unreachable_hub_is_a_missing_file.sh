#!/usr/bin/env bash
# huggingface_hub 2.4.0: a hub that cannot be reached is, to `hf_hub_download`, a file that is not on the disk.
# Expected: an error of the network where there is no network, and a missing entry only where the hub says that one lacks.
# Seen: LocalEntryNotFoundError, which is an EntryNotFoundError and a FileNotFoundError and no error of a connection; only
# its __cause__ is one. `HfApi.model_info`, asked for the same, raises httpx2's ConnectError itself.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet huggingface-hub==2.4.0
HF_HOME="$room/hf" HF_ENDPOINT=http://127.0.0.1:9 "$room/venv/bin/python" - <<'PY' 2>/dev/null
import httpx2
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

raised = {}
for name, call in (("hf_hub_download", lambda: hf_hub_download("a/b", "c")), ("model_info", lambda: HfApi().model_info("a/b"))):
    try:
        call()
    except Exception as error:
        raised[name] = error
        print(f"{name}: {type(error).__name__}, a missing entry: {isinstance(error, EntryNotFoundError)}")
missing, refused = raised["hf_hub_download"], raised["model_info"]
assert isinstance(missing, EntryNotFoundError) and isinstance(missing, FileNotFoundError)
assert not isinstance(missing, ConnectionError | httpx2.TransportError)
assert isinstance(missing.__cause__, httpx2.TransportError)
assert isinstance(refused, httpx2.TransportError)
PY
