#!/usr/bin/env bash
# hf_xet 1.8.0 under huggingface_hub 2.4.0: weights of a model on the hub come from a second service, the storage of chunks.
# Expected: where that cannot be reached, one of huggingface_hub's errors, such as its `XetDownloadError`, or an OSError.
# Seen: a bare RuntimeError ("Task error: ... CAS Client Error ..."), after retries of minutes (57 and 224 s); nothing
# in huggingface_hub raises `XetDownloadError`, so that `except (HfHubHTTPError, OSError)` around a download misses it.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet huggingface_hub==2.4.0 hf_xet==1.8.0
"$room/venv/bin/python" - "$room" <<'PY'
import socket
import sys
import time
from pathlib import Path

import hf_xet
import huggingface_hub

with socket.socket() as free:  # a port at which nobody listens once it is given back
    free.bind(("127.0.0.1", 0))
    endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
start, caught = time.monotonic(), None
try:
    session = hf_xet.XetSession()
    with session.new_file_download_group(endpoint=endpoint, token="none", token_expiry_unix_secs=2**40) as group:
        group.start_download_file(hf_xet.XetFileInfo("a" * 64, 100), f"{sys.argv[1]}/weights")
except Exception as error:
    caught = error
seconds = time.monotonic() - start
print(f"after {seconds:.0f} s: {type(caught).__name__}: {str(caught)[:90]}")
assert type(caught) is RuntimeError, caught
assert "CAS Client Error" in str(caught), caught
assert 10 < seconds < 600, seconds
sources = [path.read_text() for path in Path(huggingface_hub.__file__).parent.rglob("*.py")]
named = sum(source.count("XetDownloadError") for source in sources)
print(f"XetDownloadError stands {named} time in huggingface_hub: where it is defined")
assert named == 1
PY
