"""Which items of a set are never learned from: those whose content has a small hash, whatever the set lies in.

Equal items have one hash, so a picture and its copies are on the same side; a larger share holds a smaller one's items.
"""

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt64

from adaln.data.dataset import Dataset, Split, in_line
from adaln.files import filling, write_atomically
from adaln.progress import progress
from adaln.tensor_files import load_npy

AT_ONCE = 256
"""Rows in memory at once, per thread."""
ALL_HASHES = 2.0**64


def split_of(dataset: Dataset, share: float, cache: Path) -> Split:
    """The set, an item held out where its hash, as a number in [0, 1), is below `share`; hashes are kept in `cache`.

    Raises ValueError, with the shares that fit, where nothing of the set or of one of its classes would be on one side.
    """
    hashes = content_hashes(dataset, cache)
    numbers = hashes / ALL_HASHES
    check_sides(dataset, numbers, share)
    is_held_out = numbers < share
    return Split(np.flatnonzero(~is_held_out), *by_hash(dataset, hashes, np.flatnonzero(is_held_out)))


def by_hash(
    dataset: Dataset, hashes: UInt64[np.ndarray, "N"], rows: Int64[np.ndarray, "H"]
) -> tuple[Int64[np.ndarray, "H"], UInt64[np.ndarray, "H"]]:
    """The rows by their hashes (copies by their labels), and these hashes."""
    rows = rows[np.lexsort((dataset.labels[rows], hashes[rows]))]
    return rows, hashes[rows]


def check_sides(dataset: Dataset, numbers: np.ndarray, share: float) -> None:
    """See `split_of`; items of an unconditional set are of one class."""
    classes = dataset.labels if dataset.spec.num_classes else np.zeros(len(dataset), np.int64)
    present = np.unique(classes)
    ends = [(of_class.min(), of_class.max()) for label in present for of_class in [numbers[classes == label]]]
    wrong = next((k for k, (least, most) in enumerate(ends) if not least < share <= most), None)
    if wrong is None:
        return
    nothing = "held out" if share <= ends[wrong][0] else "learned from"
    of_class = f" of class {in_line(dataset.class_names[present[wrong]])!r}" if dataset.spec.num_classes else ""
    low, high = max(least for least, _ in ends), min(most for _, most in ends)
    fits = f"a share above {low:.4g} and up to {high:.4g}" if low < high else "a set with more pictures of each class"
    raise ValueError(
        f"data.held_out is {share}: no picture{of_class} of {dataset.name!r} is {nothing}; expected {fits}"
    )


def content_hashes(dataset: Dataset, cache: Path) -> UInt64[np.ndarray, "N"]:
    """The first 8 bytes of the SHA-256 of each item's content; all of a set is read for them, once."""
    file = cache / "hashes" / f"{dataset.fingerprint[:24]}.npy"
    if not file.exists():
        content = io.BytesIO()
        np.save(content, hashed(dataset))
        with filling(cache):
            write_atomically(file, content.getvalue())
    return load_npy(file)


def hashed(dataset: Dataset) -> UInt64[np.ndarray, "N"]:
    """See `content_hashes`."""
    count, hashes = len(dataset), np.zeros(len(dataset), np.uint64)

    def hash_rows(start: int) -> None:
        rows = dataset.content[np.arange(start, min(start + AT_ONCE, count))]
        digests = [hashlib.sha256(row.tobytes()).digest()[:8] for row in rows]
        hashes[start : start + len(rows)] = np.frombuffer(b"".join(digests), "<u8")

    with ThreadPoolExecutor() as pool:
        for start, _ in zip(range(0, count, AT_ONCE), pool.map(hash_rows, range(0, count, AT_ONCE)), strict=True):
            progress(f"hash {dataset.name}", min(start + AT_ONCE, count), count, "images")
    return hashes
