"""The public port of the 2015 Inception weights: found, fetched once, checked by hash, loaded without running code."""

import urllib.request
from pathlib import Path

from torch import Tensor

from adaln.files import atomic_file, file_sha256
from adaln.progress import progress
from adaln.tensors import load_pickle

FILE = "pt_inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{FILE}"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
TIMEOUT_SECONDS = 30
PIECE_BYTES = 1 << 20


def read_weights(path: Path | None, cache: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors and their file's SHA-256, which must be the published one.

    Raises ValueError where the file is missing, damaged or another one, saying what to do.
    """
    path = path or _cached(cache)
    if not path.is_file():
        raise ValueError(f"{path}: no such file, expected {FILE} from {URL}")
    digest = file_sha256(path)
    if digest != SHA256:
        raise ValueError(f"{path}: damaged or another file, got SHA-256 {digest[:12]}..., expected {SHA256[:12]}...")
    return dict(load_pickle(path)), digest


def _cached(cache: Path) -> Path:
    path = cache / FILE
    if not path.is_file():
        _fetch(path)
    return path


def _fetch(path: Path) -> None:
    """Download to a temporary name beside `path`; it takes its name only when its hash is right."""
    try:
        with atomic_file(path) as temporary:
            _download(temporary)
            if file_sha256(temporary) != SHA256:
                raise ValueError(f"{URL}: what came is not the published file (SHA-256 {SHA256[:12]}...); try again")
    except OSError as error:  # URLError, time-outs and broken connections are all OSErrors
        raise ValueError(f"cannot fetch Inception weights ({error}); put {FILE} from {URL} at {path}") from error


def _download(path: Path) -> None:
    with urllib.request.urlopen(URL, timeout=TIMEOUT_SECONDS) as response, path.open("wb") as file:
        total = int(response.headers.get("Content-Length", 0))
        while piece := response.read(PIECE_BYTES):
            file.write(piece)
            progress("fetching Inception weights", file.tell(), total, "bytes")
