"""From two sets of images to a table of scores, each with its interval, and a record of everything that shaped it, by
which two tables are found comparable or not."""

import platform
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch

from adaln.codec import encode, leaves
from adaln.metrics.features import Extractor
from adaln.metrics.images import ImagesLike, ImageStream, open_images
from adaln.metrics.registry import METRICS, Comparison, Score, score
from adaln.metrics.statistics import (
    Part,
    Statistics,
    StatisticsFile,
    check_one_extractor,
    check_one_width,
    collect,
    is_statistics,
    load_statistics,
)
from adaln.parallel import from_first
from adaln.report import Column, Shown, Table
from adaln.version import __version__

Source = ImageStream | StatisticsFile | Statistics
"""What is compared, once it is known what it is."""
REPLICATES = 200
"""Bootstrap replicates behind an interval: its width is then known to about 5 %."""
DECISIVE = ("reference.sha256", "samples.num_images", "extractor.name", "extractor.fingerprint", "dtypes", "choices")
"""What two comparable scores have in common; the settings of the scores that both have are added."""
IDENTITY = frozenset({"run", "step", "seed", "num_images"})
"""Choices that say which samples were scored, not how samples are made: the thing compared, no obstacle to it. Their
number is counted where it matters, in what was scored."""
PUBLISHED = {
    "features": ("extractor.name", "inception"),
    "samples": ("samples.num_images", 50_000),
    "reference images (0: ADM's precomputed statistics)": ("reference.num_images", 0),
    "solver": ("choices.sampler.solver", "ddpm"),
    "solver steps": ("choices.sampler.steps", 250),
    "weights": ("choices.weights", "ema"),
}
"""The protocol behind the published numbers of DiT and of the paper: where it lies in a record, and what it is."""


@dataclass(frozen=True, slots=True)
class Scores(Shown):
    """Scores of one set of samples against one reference; printed, or the last line of a notebook's cell, a table."""

    scores: dict[str, Score]
    provenance: dict[str, Any]
    """Hashes and counts of both sides, extractor, settings, dtypes, versions and the caller's choices: JSON-able."""
    notes: tuple[str, ...]
    """What a reader must be told beside the numbers, one sentence each."""

    def __getitem__(self, metric: str) -> Score:
        return self.scores[metric]

    def blocks(self) -> list[Table]:
        """Each score with its interval and how that was found."""
        rows = [
            [METRICS[name].title, s.cell, METRICS[name].better, s.num_samples, s.num_reference or None, s.interval]
            for name, s in self.scores.items()
        ]
        columns = [
            Column("score"),
            Column("value", "95 % interval"),
            Column("better"),
            Column("samples", format=",d"),
            Column("reference", format=",d"),
            Column("interval by"),
        ]
        sides = f"{self.provenance['samples']['name']} beside {self.provenance['reference']['name']}"
        apart = unlike_published(self)
        notes = [str(self.provenance["extractor"]["label"])]
        if apart and self.provenance["extractor"]["name"] == "inception":
            notes.append(f"Not the protocol of published ImageNet scores (ours, theirs): {'; '.join(apart)}")
        return [Table(f"Scores of {sides}", columns, rows, notes, footnotes=self.notes)]


def evaluate(
    samples: ImagesLike | Source,
    reference: ImagesLike | Source,
    extractor: Extractor,
    metrics: Sequence[str] | None = None,
    *,
    num_images: int | None = None,
    batch_size: int = 64,
    replicates: int = REPLICATES,
    seed: int = 0,
    choices: Mapping[str, Any] | None = None,
) -> Scores:
    """Scores of `samples` against `reference` in the feature space of `extractor`.

    Either side is an array, an npz, a folder or zip of images, a statistics file, or `Statistics` collected before
    (the way to score many sets against one reference). `num_images` takes the first so many samples. `metrics` are
    names of `METRICS`; None is all of ADM's that the extractor has features for. `replicates` is the number of
    bootstrap replicates behind the intervals, 0 for no bootstrap. `choices` (sampler, steps, guidance, EMA...) are
    recorded as given, for `differences` to compare. Processes of torchrun share the features; all get the scores.
    """
    needs = {METRICS[name].needs for name in metrics or ()}  # an unknown name fails here, before images are read
    samples, reference = parse_source(samples, num_images), parse_source(reference)  # so does what is wrong with either
    of_reference = statistics(reference, extractor, batch_size=batch_size)
    check_one_extractor(extractor.describe(), of_reference.extractor)
    of_samples = statistics(samples, extractor, needs=needs, batch_size=batch_size)
    sides = ((samples, of_samples), (reference, of_reference))
    check_one_width(
        [(str(side.path) if isinstance(side, StatisticsFile) else known.origin.name, known) for side, known in sides]
    )
    return from_first(
        lambda: compare(of_samples, of_reference, metrics, replicates=replicates, seed=seed, choices=choices)
    )


def statistics(
    source: ImagesLike | Source, extractor: Extractor, *, needs: Collection[Part] = (), batch_size: int = 64
) -> Statistics:
    """What is known of `source` in the feature space of `extractor`: collected, or read from a statistics file."""
    match parse_source(source):
        case Statistics() as known:
            return known
        case StatisticsFile() as file:
            return load_statistics(file.path, extractor, batch_size=batch_size)
        case images:
            return collect(images, extractor, needs=needs, batch_size=batch_size)


def parse_source(source: ImagesLike | Source, num_images: int | None = None) -> Source:
    """What is to be compared, told once for all who use it: a stream of images (the first so many), or statistics.

    ValueError where it is neither, as far as can be told without reading it whole.
    """
    if not isinstance(source, Statistics | StatisticsFile):
        if not is_statistics(source):
            return open_images(source, num_images)
        source = StatisticsFile(Path(source))
    if num_images is not None:
        raise ValueError(f"{num_images} images asked for of statistics, which cannot be cut; expected images")
    return source


def compare(
    samples: Statistics,
    reference: Statistics,
    metrics: Sequence[str] | None = None,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
    choices: Mapping[str, Any] | None = None,
) -> Scores:
    """Scores of two sides that were collected before; the arguments are those of `evaluate`."""
    comparison = Comparison(samples, reference, replicates, seed)
    adms = (name for name, metric in METRICS.items() if metric.in_adm and comparison.offers(metric.needs))
    names = list(adms if metrics is None else dict.fromkeys(metrics))
    scores = {name: score(name, comparison) for name in names}
    settings: dict[str, Any] = {"replicates": replicates, "seed": seed}
    settings |= {name: dict(METRICS[name].settings) for name in names}
    return Scores(scores, provenance(samples, reference, settings, choices or {}), notes(samples, reference))


def provenance(
    samples: Statistics, reference: Statistics, settings: Mapping[str, Any], choices: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything that shaped the numbers, as plain data."""
    return {
        "samples": encode(samples.origin),
        "reference": encode(reference.origin),
        "extractor": samples.extractor,
        "settings": dict(settings),
        "dtypes": {"features": "float32", "algebra": "float64"},
        "versions": {
            "adaln": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
        "choices": dict(choices),
    }


def notes(samples: Statistics, reference: Statistics) -> tuple[str, ...]:
    """What a reader must be told, e.g. that a covariance of fewer images than features is singular."""
    sentences = []
    for side, of in (("samples", samples), ("reference images", reference)):
        if 0 < of.origin.num_images <= of.dim:
            sentences.append(
                f"{of.origin.num_images} {side} for {of.dim} features: the covariance is singular and FID is biased "
                f"upwards, by more the fewer images there are; compare only scores of equal N"
            )
    return tuple(sentences)


def differences(a: Scores, b: Scores) -> list[str]:
    """The choices that shape a score and in which `a` and `b` differ, as "what: a's, b's"; none: comparable.

    Versions of packages are recorded but not counted: they move a score by rounding, not by choice.
    """
    known = [bool(scores.provenance.get("choices")) for scores in (a, b)]
    if known[0] != known[1]:
        states = ", ".join("recorded" if there else "not recorded" for there in known)
        return [f"how the samples were drawn: {states}", *differences(_unchosen(a), _unchosen(b))]
    of_a, of_b = dict(_decisive(a, b)), dict(_decisive(b, a))
    keys = [*of_a, *(key for key in of_b if key not in of_a)]
    return [
        f"{key}: {_short(of_a.get(key))}, {_short(of_b.get(key))}" for key in keys if of_a.get(key) != of_b.get(key)
    ]


def _unchosen(scores: Scores) -> Scores:
    return replace(scores, provenance={**scores.provenance, "choices": {}})


def unlike_published(scores: Scores) -> list[str]:
    """What keeps a score from being set beside published FIDs of ImageNet, as "what: ours, theirs"; none: nothing.

    Whether the reference is ADM's file for this very data set and size, nobody but the reader can tell: its SHA-256 is
    in the record.
    """
    compared = [(what, _at(scores.provenance, path), published) for what, (path, published) in PUBLISHED.items()]
    return [f"{what}: {_short(value)}, {published}" for what, value, published in compared if value != published]


def _at(record: Mapping[str, Any], path: str) -> Any:
    value: Any = record
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _decisive(scores: Scores, other: Scores) -> Iterator[tuple[str, Any]]:
    common = [f"settings.{name}" for name in scores.scores if name in other.scores]
    for path in (*DECISIVE, *common):
        value = _at(scores.provenance, path)
        if path == "choices" and value:
            value = {key: entry for key, entry in value.items() if key not in IDENTITY}
        yield from leaves({path: value})


def _short(value: Any) -> str:
    if value is None:
        return "not recorded"
    return f"{value[:12]}..." if isinstance(value, str) and len(value) > 40 else str(value)
