"""The two sides of a score by the names that users give them, and the score.

Samples on disk are ADM's npz, beside it the record of how they were drawn, and a grid to look at.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adaln.codec import short_hash
from adaln.data import DataConfig, Dataset, are_files, default_cache, load
from adaln.data.dataset import SHOWN
from adaln.files import about, expanded, reading, write_atomically
from adaln.metrics import (
    Extractor,
    ImagesLike,
    LabelledImages,
    Scores,
    Source,
    StatisticsFile,
    check_request,
    check_sides,
    load_extractor,
    open_images,
    parse_source,
)
from adaln.metrics import evaluate as scores_between
from adaln.metrics.classifier import NAME as CLASSIFIER
from adaln.metrics.images import SOURCES, ImageStream, check_path, is_npz
from adaln.metrics.scores import REPLICATES
from adaln.metrics.stability import moves
from adaln.parallel import find_device, first_goes_first, group_of_torchrun, rank
from adaln.report import ImageGrid, picture
from adaln.runs import Run, is_run, local_or_data
from adaln.sampling import SampleConfig, Sampler, Samples, load_sampler, save_samples

WEIGHTS = {"ema": "averaged weights", "model": "raw weights"}
"""The sets of a checkpoint's weights, in words."""


def named_images(name: str) -> Path | Dataset:
    """An npz, or a folder, zip or tar of pictures, as its path, to be streamed; else the data set of that name.

    Raises ValueError where there is nothing of that name.
    """
    if not name.strip():
        raise ValueError(f"no images are named by {name!r}; expected {SOURCES}, or a data set")
    path = expanded(name)
    if path.is_file() or path.suffix == ".npz":
        check_path(path)
        return path
    return path if path.exists() and are_files(name) else load(DataConfig(path=name))


@dataclass(frozen=True, slots=True)
class Reference:
    """What samples are held against: images or statistics, and of a data set the classes that a classifier learns."""

    source: Source
    data: Dataset | None

    @classmethod
    def of(cls, source: ImagesLike) -> "Reference":
        """A data set, an array or a file; ValueError where that is no side of a comparison."""
        return cls(parse_source(source), source if isinstance(source, Dataset) else None)

    @property
    def default_features(self) -> str:
        """What statistics were made with; for labelled data the classifier of its classes; Inception for all else."""
        if isinstance(self.source, StatisticsFile):
            of = self.source.extractor
            return str(of.get("details", {}).get("folder", of["name"]))
        return CLASSIFIER if self.data and len(self.data.class_names) > 1 else "inception"

    @property
    def labelled(self) -> LabelledImages | None:
        """What a classifier learns from, of a data set."""
        return LabelledImages(np.asarray(self.data.images), self.data.labels) if self.data else None

    def check_shape(self, shape: tuple[int, ...], features: str | None = None) -> None:
        """ValueError where a classifier of this data cannot see images of that shape (C, H, W; empty: not known)."""
        if not shape or (features or self.default_features) != CLASSIFIER:
            return
        learned = "x".join(map(str, self.data.images.shape[1:])) if self.data else ""
        if isinstance(self.source, StatisticsFile):
            learned = self.source.extractor["details"]["image_shape"]
        got = "x".join(map(str, shape))
        if learned not in ("", got):
            raise ValueError(
                f"samples are {got} (channels, height, width), the reference {learned}: a {CLASSIFIER} sees one shape"
                " only; bring both to one, or use features inception"
            )

    def beside(
        self, images: ImagesLike, num_images: int | None, metrics: Sequence[str], features: str | None
    ) -> Source:
        """The samples (the first so many of `images`) as the other side of a comparison in `features`.

        Raises ValueError where they are too few for `metrics`, or none that a classifier of this data can see.
        """
        source = parse_source(images, num_images)
        check_sides((source, self.source), metrics)
        self.check_shape(source.shape if isinstance(source, ImageStream) else (), features)
        return source

    def extractor(self, features: str | None = None, weights: Path | None = None, device: str = "cpu") -> Extractor:
        """The feature network in which samples meet this; `features` None is `default_features`.

        Raises ValueError where it cannot be had: no labels to learn from, no Inception weights.
        """
        name = features or self.default_features
        if weights is not None and name != "inception":
            raise ValueError(f"weights {str(weights)!r} are Inception's, features are {name!r}; expected one of both")
        labelled = self.labelled if name == CLASSIFIER else None
        recorded = self.source.extractor if isinstance(self.source, StatisticsFile) else None
        cache = default_cache()
        with about(self.source.path) if isinstance(self.source, StatisticsFile) else nullcontext():
            return load_extractor(name, cache=cache, data=labelled, recorded=recorded, weights=weights, device=device)


def named_reference(name: str, features: str | None) -> Reference:
    """As `named_images`; a run stands for its data, and a folder or zip comes with its labels where they may be needed.

    Raises ValueError where there is nothing of that name, or no side of a comparison.
    """
    if is_run(name := local_or_data(name)):
        return Reference.of(Run.open(name).dataset)
    source = named_images(name)
    if isinstance(source, Path) and not is_npz(source) and features in (None, CLASSIFIER):
        source = load(DataConfig(path=name))
    return Reference.of(source)


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
    """As `samples_or_sampler`, drawn and kept."""
    found = samples_or_sampler(name, num_images, device)
    return keep_samples(found)[0] if isinstance(found, Sampler) else found


def samples_or_sampler(name: str, num_images: int | None, device: torch.device) -> Path | Dataset | Sampler:
    """As `named_images`; a run stands for the last of `samples_of`, or for what draws `num_images`.

    Raises `ValueError` where a run has none and nothing says how many, or has fewer than asked for.
    """
    if not is_run(name := local_or_data(name)):
        return named_images(name)
    files = samples_of(Path(name))
    if not files and num_images is None:
        raise ValueError(f"run {name!r} has no samples yet; say --num-images N to draw some, or use: adaln sample")
    if not files:
        return load_sampler(Run.open(name, device), SampleConfig(num_images or 0))
    enough = [file for file in files if num_images is None or open_images(file).num_images >= num_images]
    if not enough:
        most = max(open_images(file).num_images for file in files)
        way_on = f"adaln sample {name} --num-images {num_images} draws them"
        raise ValueError(f"run {name!r} has samples of {most:,} images at most, asked for are {num_images}; {way_on}")
    return enough[-1]


def samples_of(run: Path, pattern: str = "samples/*.npz") -> list[Path]:
    """The files of samples that a run holds, by the step that they are of, then by when they were written."""
    return sorted(run.glob(pattern), key=lambda file: (step_beside(file) or -1, file.stat().st_mtime_ns))


def step_beside(file: Path) -> int | None:
    """The step that samples are of, by the record beside them."""
    step = record_beside(file).get("step")
    return step if isinstance(step, int) else None


def about_samples(file: Path) -> list[str]:
    """What is to be said of samples that lie in a run: which they are of several, and how far on the run is."""
    file = file if len(file.parts) > 2 else file.absolute()
    folder, step = file.parent.parent, step_beside(file)
    if file.parent.name not in ("samples", "scores") or not is_run(folder) or step is None:
        return []
    files, newest = samples_of(folder), max(Run.open(folder).steps_saved(), default=step)
    lines = []
    if len(files) > 1 and file in files:
        steps = [f"step {of:,}" for of in sorted({step_beside(one) or 0 for one in files})]
        which = ", that of the newest step which was written last" if file == files[-1] else ""
        lines.append(f"{file.name} is one of {len(files)} files in {file.parent} ({', '.join(steps[-SHOWN:])}){which}")
    if newest != step:
        whose = "" if newest > step else " (they are of an earlier training)"
        at = f"the samples are of step {step:,}{whose}, the run is at step {newest:,}"
        lines.append(f"{at}: adaln sample {folder} draws anew")
    return lines


def record_beside(source: Path | Dataset) -> dict[str, Any]:
    """How samples were drawn, where the record that `keep_samples` writes lies beside them; else nothing."""
    if isinstance(source, Dataset) or not (record := source.with_suffix(".json")).is_file():
        return {}
    with reading(record, "the record of samples"):
        row = json.loads(record.read_text(encoding="utf-8"))
    return row if isinstance(row, dict) and "sampler" in row else {}


def check_record(file: Path, record: Mapping[str, Any]) -> None:
    """ValueError where the record beside an npz is of other samples: by its key, else by their number."""
    if not record or not is_npz(file):
        return
    if "key" in record:
        with reading(file, "an intact npz"), zipfile.ZipFile(file) as archive:
            is_of_these = archive.comment == str(record["key"]).encode()
    else:
        is_of_these = record.get("num_images") == open_images(file).num_images
    if not is_of_these:
        beside = file.with_suffix(".json")
        raise ValueError(f"{file}: {beside.name} beside it is the record of other samples; draw them anew or remove it")


def first_images(file: Path, most: int, across: int) -> tuple[np.ndarray, int]:
    """The first images of an npz (rows, columns, H, W, C) in full rows of up to `across`, and how many it holds."""
    stream = open_images(file)
    columns = min(stream.num_images, most, across)
    rows = min(stream.num_images, most) // columns
    images = next(iter(stream.batches(rows * columns))).permute(0, 2, 3, 1).numpy()
    return images.reshape(rows, columns, *images.shape[1:]), stream.num_images


def sample_grid(file: Path, provenance: Mapping[str, Any], title: str) -> ImageGrid:
    """The first images of an npz in rows of up to eight."""
    images, count = first_images(file, 64, 8)
    weights = WEIGHTS[provenance["weights"]]
    caption = (
        f"First {images.shape[0] * images.shape[1]} of {count:,} samples, step {provenance['step']}, {weights},"
        f" solver {provenance['sampler']['solver']}, guidance {provenance['guidance']['scale']:g}, seed"
        f" {provenance['seed']}."
    )
    return ImageGrid(title, caption, images)


def evaluate(
    samples: Samples | Run | ImagesLike,
    reference: Reference | Run | ImagesLike,
    features: str | None = None,
    metrics: Sequence[str] = (),
    *,
    validation: Reference | Run | ImagesLike | None = None,
    num_images: int | None = None,
    weights: Path | None = None,
    batch_size: int = 64,
    replicates: int = REPLICATES,
    check: bool = False,
    device: str = "auto",
) -> Scores:
    """FID, sFID, Inception Score, precision and recall of `samples` against `reference`, with 95 % intervals.

    Either side is what `sample` gave, an array of bytes (N, H, W, C) or (N, C, H, W), an .npz as ADM writes them, a
    folder, a zip or a data set by its name. A run stands for the samples it holds (or `num_images` are drawn), as
    reference for its data; a reference may be a file of statistics as well. `features` is "inception",
    "dataset-classifier" (trained once on the reference, which must have labels), "module:function" or the folder of a
    network (transformers, timm); default: what the reference suggests. `metrics` are names of `METRICS`; default: all
    of ADM's that the features allow. `validation`, other images of what the reference is of, adds FDr. `weights` are
    Inception's own; `replicates`, of the bootstrap behind the intervals, may be 0; with `check` the features are
    computed twice more, and `moves` says how far each score goes. The processes of torchrun share the features.

    Raises `ValueError` for an unknown name, for too few images, and for features that cannot be had.

    >>> import adaln
    >>> noise = np.random.default_rng(0).integers(0, 256, (100, 8, 8, 1), np.uint8)
    >>> scores = adaln.evaluate(noise, "digits", metrics=["fid"], replicates=0)
    >>> scores["fid"].value > 100, scores["fid"].num_samples, scores["fid"].num_reference
    (True, 100, 1797)
    """
    check_request(metrics, replicates, batch_size, validation)  # said before anything is read, trained or fetched
    computing = find_device(device)
    reference = _as_reference(reference, features)
    beside = None if validation is None else _as_reference(validation, "inception").source  # needs no labels
    with group_of_torchrun():
        images, choices = _images_of(samples, num_images, computing)
        source = reference.beside(images, num_images, metrics, features)
        with first_goes_first():  # weights are fetched, or a classifier trained, by one process
            extractor = reference.extractor(features, weights, str(computing))
        how: Any = {"batch_size": batch_size, "replicates": replicates, "validation": beside}
        scores = scores_between(source, reference.source, extractor, metrics or None, choices=choices, **how)
        if check:
            moved = moves(scores, source, reference.source, extractor, batch_size, computing.type, beside)
            scores = replace(scores, moves=moved)
    return replace(scores, notes=(*scores.notes, *(about_samples(images) if isinstance(images, Path) else ())))


def _as_reference(source: Reference | Run | ImagesLike, features: str | None) -> Reference:
    if isinstance(source, Reference):
        return source
    if isinstance(source, str | Path):
        return named_reference(str(source), features)
    return Reference.of(source.dataset if isinstance(source, Run) else source)


def _images_of(
    samples: Samples | Run | ImagesLike, num_images: int | None, device: torch.device
) -> tuple[ImagesLike, dict[str, Any]]:
    """The images, and how they were drawn, where that is known."""
    if isinstance(samples, Samples):
        return samples.images, samples.provenance
    source = samples.path if isinstance(samples, Run) else samples
    if not isinstance(source, str | Path):
        return source, {}
    images = named_samples(str(source), num_images, device)
    record = record_beside(images)
    if isinstance(images, Path):
        check_record(images, record)
    return images, record
