"""The two sides of a score by the names that users give them, and the features in which the sides meet."""

import zipfile
from pathlib import Path

import numpy as np

from adaln.data import DataConfig, Dataset, default_cache, is_encoded, load
from adaln.metrics import Extractor, ImagesLike, LabelledImages, is_statistics, load_extractor, recorded_extractor
from adaln.metrics.classifier import NAME as CLASSIFIER
from adaln.runs import Run, is_run


def named_images(name: str) -> Path | Dataset:
    """An npz, a folder or a zip as its path, to be streamed; else the data set of that name.

    Raises ValueError where there is nothing of that name.
    """
    path = Path(name).expanduser()
    if path.suffix == ".npz" and not path.is_file():
        raise ValueError(f"{name}: no such file")
    if path.suffix == ".npz" or (path.is_dir() and not is_encoded(name)) or zipfile.is_zipfile(path):
        return path
    return load(DataConfig(path=name))


def named_reference(name: str, features: str | None) -> Path | Dataset:
    """As `named_images`; a run stands for its data, and a folder or zip comes with its labels where they may be needed.

    Raises ValueError where there is nothing of that name.
    """
    if is_run(name):
        return Run.open(name).dataset
    source = named_images(name)
    if isinstance(source, Path) and source.suffix != ".npz" and features in (None, CLASSIFIER):
        return load(DataConfig(path=name))
    return source


def default_features(reference: ImagesLike) -> str:
    """What statistics were made with; for labelled data the classifier of its classes; Inception for all else."""
    if is_statistics(reference):
        return str(recorded_extractor(Path(reference))["name"])
    return CLASSIFIER if isinstance(reference, Dataset) and len(reference.class_names) > 1 else "inception"


def extractor_for(
    reference: ImagesLike,
    features: str | None = None,
    weights: Path | None = None,
    device: str = "cpu",
) -> Extractor:
    """The feature network in which samples meet `reference`; `features` None is `default_features`.

    Raises ValueError where it cannot be had: no labels to learn from, latents, no Inception weights.
    """
    name = features or default_features(reference)
    labelled = None
    if name == CLASSIFIER and isinstance(reference, Dataset):
        labelled = LabelledImages(np.asarray(reference.images), reference.labels)
    recorded = recorded_extractor(Path(reference)) if is_statistics(reference) else None
    return load_extractor(
        name,
        cache=default_cache(),
        data=labelled,
        recorded=recorded,
        weights=weights,
        device=device,
    )
