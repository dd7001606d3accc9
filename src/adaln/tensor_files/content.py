"""What a file is that holds no weights, by its first bytes: whoever is sent a web page for a model is told so."""

import json
import re
import zipfile
from codecs import BOM_UTF8
from pathlib import Path

HEAD_BYTES = 4096
MAGIC = {
    b"GGUF": "a GGUF file, quantised for llama.cpp",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, as Keras saves weights",
    b"\x93NUMPY": "a NumPy array",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ\0": "an xz archive",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"PAR1": "a Parquet file (datasets.Dataset.from_parquet(FILE).save_to_disk(FOLDER) makes a set of it)",
    b"ARROW1": "an Arrow file, a part of a Hugging Face dataset: give the folder of the set",
    b"%PDF": "a PDF document",
    b"\x7fELF": "a program",
}


def what_is(file: Path) -> str:
    """In words what a file is other than weights, and for a pointer or an archive the way on; "" where unknown."""
    with file.open("rb") as opened:
        head = opened.read(HEAD_BYTES)
    if not head:
        return "an empty file"
    if not any(head):
        return f"a file of zero bytes only, at least the first {len(head)}: nothing was written into it"
    for magic, words in MAGIC.items():
        if head.startswith(magic):
            return words
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it first"
    if head.startswith(b"\xff\xff\xff\xff") and 0 < int.from_bytes(head[4:8], "little") < 2**24:
        return "an Arrow stream, a part of a Hugging Face dataset: give the folder of the set"
    if head[0] == 8 and head[2:3] == b"\x12":  # fields 1 and 2 of its protocol buffer, the version and the producer
        return "an ONNX model"
    if head.startswith(b"PK"):
        return _archive(file)
    return what_text(head) or (
        "a file that was copied as text (a byte order mark before it)" if head[:3] == BOM_UTF8 else ""
    )


def check_alone(file: Path, archive: zipfile.ZipFile) -> None:
    """ValueError where another zip stands before this one in its file: members before all that its directory lists."""
    first = min((entry.header_offset for entry in archive.infolist()), default=0)
    with file.open("rb") as opened:
        if first > 0 and opened.read(4) == b"PK\3\4":
            raise ValueError(
                "another zip stands before it in the file, of which nothing would be read; take them apart"
            )


def _archive(file: Path) -> str:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except Exception:  # whatever a damaged directory leads to
        return "a zip archive that was cut short"
    inner = {Path(name).name for name in names}
    if {"data.pkl", "constants.pkl"} <= inner and any("/code/" in name for name in names):
        return "a TorchScript program: save its state_dict() instead"
    if "model.weights.h5" in inner:
        return "a Keras model"
    if ".data" in inner or "data.pkl" in inner:
        return ""
    if names and all(name.endswith(".npy") for name in names):
        return f"an archive of NumPy arrays ({', '.join(names[:3])})"
    return f"a zip archive ({', '.join(names[:3])}): unpack it first" if names else "an empty zip archive"


def what_text(head: bytes) -> str:
    """In words what a file is that begins with these bytes; "" where they are no text."""
    head = head[:HEAD_BYTES]
    try:
        text = head.decode("utf-8", errors="strict" if len(head) < HEAD_BYTES else "ignore").strip()
    except UnicodeDecodeError:
        return ""
    if not text or not all(character.isprintable() or character.isspace() for character in text):
        return ""
    if text.startswith("version https://git-lfs"):
        size = re.search(r"^size (\d+)$", text, re.MULTILINE)
        of = f" of {int(size[1]):,} bytes" if size else ""
        return f"a pointer of Git LFS, not the file{of} that it stands for: run `git lfs pull`"
    if re.match(r"<(!doctype|html|\?xml|!--)", text, re.IGNORECASE):
        title = re.search(r"<title>\s*([^<]{1,60})", text, re.IGNORECASE)
        return f"a web page{f' ({title[1].strip()})' if title else ''}, not the file that was asked for"
    first = " ".join(text.split())[:60]
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return f"a text that begins {first!r}"
    return f"a JSON text that begins {first!r}"
