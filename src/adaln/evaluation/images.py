"""The two sides of a score by the names that users give them, and the features in which the sides meet."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adaln.data import DataConfig, Dataset, default_cache, is_encoded, load
from adaln.metrics import Extractor, ImagesLike, LabelledImages, Source, StatisticsFile, load_extractor, parse_source
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
            return str(self.source.extractor["name"])
        return CLASSIFIER if self.data and len(self.data.class_names) > 1 else "inception"

    def extractor(self, features: str | None = None, weights: Path | None = None, device: str = "cpu") -> Extractor:
        """The feature network in which samples meet this; `features` None is `default_features`.

        Raises ValueError where it cannot be had: no labels to learn from, no Inception weights.
        """
        name, labelled = features or self.default_features, None
        if name == CLASSIFIER and self.data:
            labelled = LabelledImages(np.asarray(self.data.images), self.data.labels)
        recorded = self.source.extractor if isinstance(self.source, StatisticsFile) else None
        cache = default_cache()
        return load_extractor(name, cache=cache, data=labelled, recorded=recorded, weights=weights, device=device)


def named_reference(name: str, features: str | None) -> Reference:
    """As `named_images`; a run stands for its data, and a folder or zip comes with its labels where they may be needed.

    Raises ValueError where there is nothing of that name, or no side of a comparison.
    """
    if is_run(name):
        return Reference.of(Run.open(name).dataset)
    source = named_images(name)
    if isinstance(source, Path) and source.suffix != ".npz" and features in (None, CLASSIFIER):
        source = load(DataConfig(path=name))
    return Reference.of(source)
