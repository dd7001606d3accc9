"""Many images to one file: by one process or many, killed at any moment, the same bytes in the end.

Every batch that is drawn becomes a part, `START-STOP-HASH.npy` in the folder `OUT.npz.parts`, which is there completely
or not at all. HASH is over all that decides the images, the weights included, so no part of another sample is
taken. Process r draws each world-th missing batch; the first one puts the file together and removes the parts. The file
itself carries HASH as the comment of its zip, so what is finished is known as such.
"""

import json
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from numpy.lib import format as npy

from adaln.codec import short_hash
from adaln.data.autoencoder import weights_sha256
from adaln.files import atomic_file, claimed, remove_folder, remove_temporaries, write_atomically
from adaln.parallel import barrier, from_first, rank, world
from adaln.sampling.sampler import Sampler, updates_as_progress
from adaln.tensor_files import load_tensors


def save_samples(sampler: Sampler, path: Path) -> bool:
    """Draw all images into ADM's npz (`arr_0` uint8 NHWC, `arr_1` labels), with their provenance beside it as .json.

    Returns whether that was to be done: False where the npz holds these images already. Goes on where a killed call for
    the same images stopped: each process loses one batch at most. Equal batches give equal bytes, whatever the number
    of processes and of kills; another batch size gives the same images up to rounding. All processes return once the
    file is there. Meanwhile the disk holds the images up to twice, memory one batch.
    """
    folder = path.with_name(f"{path.name}.parts")
    folder.mkdir(parents=True, exist_ok=True)
    with claimed(folder / f".rank-{rank()}.lock", f"{path}: another process is drawing these samples"):
        if rank() == 0:
            for suffix in (".npz", ".json", ".png"):
                remove_temporaries(path.parent, path.with_suffix(suffix).name)
        key = from_first(lambda: sample_key(sampler))
        is_missing = from_first(lambda: not holds_sample(path, key))
        if is_missing:
            write_sample(path, folder, sampler, key)
        else:
            updates_as_progress(sampler, before=sampler.config.num_images)
        if rank() == 0:
            record = {**sampler.record, "key": key}
            write_atomically(path.with_suffix(".json"), json.dumps(record, indent=1, sort_keys=True) + "\n")
            remove_folder(folder)
        barrier()
    return is_missing


def sample_key(sampler: Sampler) -> str:
    """A hash over all that decides the images."""
    weights = [weights_sha256(load_tensors(file)) for file in sampler.weights]
    return short_hash({**sampler.provenance, "weights": weights})


def holds_sample(path: Path, key: str) -> bool:
    """Whether the npz holds the images of that key, every byte of which is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.comment == key.encode() and archive.testzip() is None
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error):  # what damage may lead to
        return False


def write_sample(path: Path, folder: Path, sampler: Sampler, key: str) -> None:
    """Draw the parts that `folder` lacks, then put all of them together."""
    parts = {indices: folder / f"{indices.start:08d}-{indices.stop:08d}-{key}.npy" for indices in sampler.batches()}
    missing = from_first(lambda: batches_to_draw(folder, parts))
    share = missing[rank() :: world()]
    num_missing, num_here = (sum(len(indices) for indices in batches) for batches in (missing, share))
    after_update = updates_as_progress(sampler, sampler.config.num_images - num_missing, (num_here, num_missing))
    for indices in share:
        images = sampler.images(indices, after_update)
        with atomic_file(parts[indices]) as temporary, temporary.open("wb") as file:
            np.save(file, images)
    barrier()
    if rank() == 0:
        assemble(list(parts.values()), sampler.labels, path, key)


def batches_to_draw(folder: Path, parts: dict[range, Path]) -> list[range]:
    """The batches still to be drawn; what else lies in the folder is removed."""
    remove_temporaries(folder)
    for file in set(folder.glob("*.npy")) - set(parts.values()):
        file.unlink()
    return [indices for indices, part in parts.items() if not is_part(part, len(indices))]


def is_part(path: Path, num_images: int) -> bool:
    """Whether that many images are there whole."""
    try:
        return len(np.load(path, mmap_mode="r")) == num_images
    except (OSError, EOFError, ValueError):
        return False


def assemble(parts: Sequence[Path], labels: Int64[np.ndarray, "N"], path: Path, key: str) -> None:
    """The npz that `np.savez` would write of all parts, of which one is in memory at a time, and the key as comment.

    The record of other images that stood there goes first: at no moment does it lie beside these.
    """
    shape = (len(labels), *np.load(parts[0], mmap_mode="r").shape[1:])
    header = {"descr": npy.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
    with atomic_file(path) as temporary:
        with zipfile.ZipFile(temporary, "w") as archive:
            with archive.open("arr_0.npy", "w", force_zip64=True) as member:
                npy.write_array_header_1_0(member, header)
                for part in parts:
                    member.write(np.load(part).data)
            with archive.open("arr_1.npy", "w", force_zip64=True) as member:
                npy.write_array(member, labels, allow_pickle=False)
            archive.comment = key.encode()
        path.with_suffix(".json").unlink(missing_ok=True)
