#!/usr/bin/env bash
# torch 2.13.0: `torch.load` of a path that ends in `.safetensors` reads safetensors, of any other it unpickles, whatever
# the file holds; `torch.save` to such a path still writes its zip.
# Expected: what `torch.save(PATH)` wrote, `torch.load(PATH)` reads; content decides, as it does for an open file.
# Seen: a checkpoint saved as `x.safetensors` is refused by torch.load ("Error while deserializing header"), and read from
# an open file or under another name; safetensors are read under their own ending and refused under `.pt`.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet torch==2.13.0 safetensors==0.8.0 numpy
"$room/venv/bin/python" - <<'PY'
import pickle
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

weights = {"a": torch.ones(2)}


def read(path):
    try:
        return torch.load(path)["a"].tolist()
    except (SafetensorError, pickle.UnpicklingError) as error:
        return type(error).__name__


with tempfile.TemporaryDirectory() as folder:
    zipped, tensors = Path(folder, "zip.safetensors"), Path(folder, "tensors.safetensors")
    torch.save(weights, zipped)
    save_file(weights, tensors)
    renamed = {file.stem: shutil.copy(file, file.with_suffix(".pt")) for file in (zipped, tensors)}
    with zipped.open("rb") as file:
        handle = read(file)
    found = {
        "zip.safetensors": read(zipped),
        "zip.safetensors, open": handle,
        "zip.pt": read(renamed["zip"]),
        "tensors.safetensors": read(tensors),
        "tensors.pt": read(renamed["tensors"]),
    }
print(*(f"{name}: {value}" for name, value in found.items()), sep="\n")
assert found == {
    "zip.safetensors": "SafetensorError",
    "zip.safetensors, open": [1.0, 1.0],
    "zip.pt": [1.0, 1.0],
    "tensors.safetensors": [1.0, 1.0],
    "tensors.pt": "UnpicklingError",
}
PY
