"""What a path holds, without having to trust it: kind, how many, which classes, whether all of it can be read."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from adaln.data.attributes import split_attribute
from adaln.data.dataset import DataConfig
from adaln.data.decoding import AT_ONCE, decode_all, stored_mode
from adaln.data.digits import named_source
from adaln.data.hub import PREFIX, is_saved_dataset
from adaln.data.legacy import FixedLatents
from adaln.data.loading import ENCODED, load
from adaln.data.shards import map_shard, read_index, sha256_of
from adaln.progress import progress


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found at a path."""

    path: str
    kind: str
    """E.g. "images in a zip", "shards of adaln", "latents of fast-DiT"."""
    num_items: int
    shapes: dict[str, int]
    """How many items have which shape, e.g. {"3x32x32": 15400}."""
    class_counts: dict[str, int]
    """Items per class; empty without classes."""
    problems: tuple[str, ...]
    """One line per thing that is missing, damaged or out of place, naming the file."""
    notes: dict[str, str]
    """What else the set says of itself."""

    @property
    def is_intact(self) -> bool:
        return not self.problems


def inspect(path: str) -> Inspection:
    """Look through everything at `path`: every picture is decoded, every shard and every latent read."""
    kind = kind_of(path)
    look = {"images": pictures, "shards": shards}.get(kind.split()[0], latents)
    try:
        return look(path, kind)
    except ValueError as error:
        return Inspection(path, kind, 0, {}, {}, (str(error),), {})


def kind_of(path: str) -> str:
    """What the path looks like from outside."""
    place = Path(split_attribute(path)[0]).expanduser()
    for kind, (is_one, _) in ENCODED.items():
        if is_one(place):
            return kind
    if path == "digits":
        return "images (embedded)"
    if path.startswith(PREFIX) or is_saved_dataset(place):
        return "images in a Hugging Face dataset"
    return f"images in a {'folder' if place.is_dir() else place.suffix[1:].lower() or 'file'}"


def pictures(path: str, kind: str) -> Inspection:
    """Decode every picture."""
    source = named_source(path)
    shapes: Counter[str] = Counter()
    problems = []
    for index, picture in enumerate(decode_all(source, None, stored_mode(source))):
        if isinstance(picture, ValueError):
            problems.append(f"{source.names[index]}: {picture}")
        else:
            shapes[dimensions(picture.shape)] += 1
        progress(f"inspect {path}", index + 1, len(source.names), "images")
    counts = count(source.labels, source.class_names)
    notes = {"size": "set one to crop the images to"} if len(shapes) > 1 else {}
    return Inspection(path, kind, len(source.names), dict(shapes), counts, tuple(problems), notes)


def shards(path: str, kind: str) -> Inspection:
    """Hold every shard against its hash in the index."""
    folder = Path(path).expanduser()
    index = read_index(folder)
    problems, labels, shape = [], [np.zeros(0, np.int64)], "unknown"
    for number, shard in enumerate(index.shards):
        try:
            tensors = map_shard(folder, shard, index.plan)
        except ValueError as error:
            problems.append(str(error))
        else:
            labels.append(tensors["labels"])
            shape = dimensions(tensors[index.plan.tensor].shape[1:])
            if sha256_of(tensors) != shard.sha256:
                problems.append(f"{folder / shard.file}: its content is not what was written (SHA-256 differs)")
        progress(f"inspect {path}", number + 1, len(index.shards), "shards")
    plan = index.plan
    notes = {
        "of": plan.tensor,
        "source": plan.source,
        "fingerprint": index.fingerprint,
        "skipped": str(len(index.skipped)),
    }
    if plan.space:
        notes |= {"autoencoder": plan.space.autoencoder, "scaling factor": str(plan.space.scaling_factor)}
    counts = count(np.concatenate(labels), plan.class_names)
    return Inspection(path, kind, index.num_rows, {shape: index.num_rows}, counts, tuple(problems), notes)


def latents(path: str, kind: str) -> Inspection:
    """Read every latent of an extraction by another project."""
    found = load(DataConfig(path))
    assert isinstance(found, FixedLatents)
    problems = []
    for start in range(0, len(found), AT_ONCE):
        rows = range(start, min(start + AT_ONCE, len(found)))
        try:
            if not np.isfinite(found.latents[rows.start : rows.stop]).all():
                problems.append(f"{path}: latents {rows.start} to {rows.stop - 1} are not all finite")
        except ValueError as error:
            problems.append(str(error))
        progress(f"inspect {path}", rows.stop, len(found), "latents")
    counts = count(found.labels, found.class_names)
    return Inspection(
        path, kind, len(found), {dimensions(found.latents.shape[1:]): len(found)}, counts, tuple(problems), {}
    )


def dimensions(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def count(labels: Int64[np.ndarray, "N"], class_names: tuple[str, ...]) -> dict[str, int]:
    numbers = np.bincount(labels, minlength=len(class_names)).tolist()
    return dict(zip(class_names, numbers, strict=False))
