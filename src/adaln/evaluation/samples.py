"""Samples on disk: ADM's npz, beside it the record of how they were drawn, a grid to look at, and their scores."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from adaln.codec import short_hash
from adaln.data import Dataset
from adaln.evaluation.images import named_images
from adaln.files import write_atomically
from adaln.metrics import Scores, open_images
from adaln.parallel import rank
from adaln.report import ImageGrid, picture
from adaln.runs import Run, is_run
from adaln.sampling import SampleConfig, Sampler, load_sampler, save_samples


def keep_samples(sampler: Sampler, out: Path | None = None) -> tuple[Path, bool]:
    """Draw and write samples with their record and a grid of some of them, by default into the run.

    Returns the npz, and whether it had to be drawn.
    """
    run, record = sampler.run, sampler.provenance
    out = out or run.path / "samples" / f"{record['step']:09d}-{short_hash(record)}.npz"
    are_new = save_samples(sampler, out)
    if rank() == 0:
        write_atomically(out.with_suffix(".png"), picture(sample_grid(out, record, run.path.name), "png"))
    return out, are_new


def named_samples(name: str, num_images: int | None, device: torch.device) -> Path | Dataset:
    """As `named_images`; a run stands for its samples that were written last, or `num_images` are drawn and kept.

    Raises `ValueError` where a run has none and nothing says how many.
    """
    if not is_run(name):
        return named_images(name)
    files = sorted(Path(name, "samples").glob("*.npz"), key=lambda file: file.stat().st_mtime_ns)
    if files:
        return files[-1]
    if num_images is None:
        raise ValueError(f"run {name!r} has no samples yet; say --num-images N to draw some, or use: adaln sample")
    return keep_samples(load_sampler(Run.open(name, device), SampleConfig(num_images)))[0]


def record_beside(source: Path | Dataset) -> dict[str, Any]:
    """How samples were drawn, where the record that `keep_samples` writes lies beside them; else nothing."""
    if isinstance(source, Dataset) or not (record := source.with_suffix(".json")).is_file():
        return {}
    try:
        row = json.loads(record.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{record}: not the record of samples ({error})") from None
    return row if isinstance(row, dict) and "sampler" in row else {}


def scores_beside(source: Path | Dataset, scores: Scores) -> Path:
    """Where scores lie beside any samples, for a data set here; another way of scoring has another name."""
    record = scores.provenance
    row = {side: record[side]["sha256"] for side in ("samples", "reference")}
    key = short_hash(row | {"extractor": record["extractor"]["fingerprint"], "settings": record["settings"]})
    if isinstance(source, Dataset):
        return Path(f"{source.name}-{key}.scores.json")
    return source.with_name(f"{source.name if source.is_dir() else source.stem}-{key}.scores.json")


def sample_grid(file: Path, provenance: Mapping[str, Any], title: str, most: int = 64) -> ImageGrid:
    """The first images of an npz in rows of up to eight."""
    stream = open_images(file)
    count = min(stream.num_images, most)
    columns = min(count, 8)
    rows = count // columns
    images = next(iter(stream.batches(rows * columns))).permute(0, 2, 3, 1).numpy()
    caption = (
        f"First {rows * columns} of {stream.num_images:,} samples, step {provenance['step']}, averaged weights, solver"
        f" {provenance['sampler']['solver']}, guidance {provenance['guidance']['scale']:g}, seed {provenance['seed']}."
    )
    return ImageGrid(title, caption, images.reshape(rows, columns, *images.shape[1:]))
