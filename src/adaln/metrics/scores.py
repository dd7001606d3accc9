"""From two sets of images to a table of scores, each with its interval, and a record of everything that shaped it."""

import json
import platform
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from adaln.codec import json_text
from adaln.data.dataset import SHOWN
from adaln.metrics.comparability import comparable_words, unlike_published
from adaln.metrics.feature_statistics import (
    Part,
    Statistics,
    StatisticsFile,
    check_one_extractor,
    check_one_width,
    collect,
    load_statistics,
)
from adaln.metrics.features import Extractor
from adaln.metrics.images import ImagesLike
from adaln.metrics.names import METRICS
from adaln.metrics.noise import noise_line
from adaln.metrics.registry import Comparison, Score, score
from adaln.metrics.sides import Source, check_request, check_sides, has_too_few, parse_source
from adaln.parallel import from_first
from adaln.report import Cell, Column, Shown, Table
from adaln.version import __version__

REPLICATES = 200
"""Bootstrap replicates behind an interval: its width is then known to about 5 %."""
MANIFOLD = {"precision", "precision-half"}
"""Scores that only say how many samples lie near some image of the reference."""
MUCH_OF_THE_START = 0.05
"""Of an average: from here on a reader of its samples or scores is told."""


@dataclass(frozen=True, slots=True)
class Scores(Shown):
    """Scores of one set of samples against one reference; printed, or the last line of a notebook's cell, a table."""

    scores: dict[str, Score]
    provenance: dict[str, Any]
    """Hashes and counts of both sides, extractor, settings, dtypes, versions and the caller's choices: JSON-able."""
    notes: tuple[str, ...]
    """What a reader must be told beside the numbers, one sentence each."""
    moves: dict[str, dict[str, float | None]] = field(default_factory=dict)
    """By how much each score moves where its features are computed otherwise (`stability.moves`), if it was tried."""

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
        of, reference = sample_words(self.provenance["choices"]), self.provenance["reference"]["name"]
        sides = f"{self.provenance['samples']['name']}{f' ({of})' if of else ''} beside {reference}"
        apart = unlike_published(self)
        notes = [str(self.provenance["extractor"]["label"])]
        if apart and self.provenance["extractor"]["name"] == "inception":
            notes.append(f"Not the protocol of published ImageNet scores (ours, theirs): {'; '.join(apart)}")
        footnotes = (*self.notes, comparable_words(self))
        return [Table(f"Scores of {sides}", columns, rows, notes, footnotes=footnotes), *self._moved()]

    def _moved(self) -> list[Table]:
        if not self.moves:
            return []
        columns = [Column("score"), Column("value"), *(Column(otherwise, format="+.2g") for otherwise in self.moves)]
        rows: list[list[Cell]] = [
            [METRICS[name].title, score.value, *(moved[name] for moved in self.moves.values())]
            for name, score in self.scores.items()
        ]
        return [Table("By how much a score moves where its features are computed otherwise", columns, rows)]


def evaluate(
    samples: ImagesLike | Source,
    reference: ImagesLike | Source,
    extractor: Extractor,
    metrics: Sequence[str] | None = None,
    *,
    further: Sequence[str] = (),
    validation: ImagesLike | Source | None = None,
    num_images: int | None = None,
    batch_size: int = 64,
    replicates: int = REPLICATES,
    seed: int = 0,
    choices: Mapping[str, Any] | None = None,
) -> Scores:
    """Scores of `samples` against `reference` in the feature space of `extractor`.

    Either side is an array, an npz, a folder or zip of images, a statistics file, or `Statistics` collected before
    (the way to score many sets against one reference). `num_images` takes the first so many samples. `metrics` are
    names of `METRICS`; None is all of ADM's that the extractor has features for, and those of `further`.
    `replicates` is the number of bootstrap replicates behind the intervals, 0 for no bootstrap. `choices` (sampler,
    steps, guidance, EMA...) are recorded as given, for `differences` to compare. `validation`, other images of what the
    reference is of, adds FDr: the samples' Frechet distance in units of the validation set's. Processes of torchrun
    share the features; all get the scores.
    """
    check_request(metrics or further, replicates, batch_size, validation)
    samples, reference = parse_source(samples, num_images), parse_source(reference)
    beside = [parse_source(validation)] if validation is not None else []
    check_sides((samples, reference, *beside), metrics)
    needs = {METRICS[name].needs for name in metrics or further}
    of_reference = statistics(reference, extractor, batch_size=batch_size)
    check_one_extractor(extractor.describe(), of_reference.extractor)
    of_validation = [statistics(side, extractor, batch_size=batch_size) for side in beside]
    of_samples = statistics(samples, extractor, needs=needs, batch_size=batch_size)
    sides = ((samples, of_samples), (reference, of_reference), *zip(beside, of_validation, strict=True))
    check_one_width(
        [(str(side.path) if isinstance(side, StatisticsFile) else known.origin.name, known) for side, known in sides]
    )
    how: Any = {"further": further, "replicates": replicates, "seed": seed, "choices": choices}
    third = of_validation[0] if beside else None

    def scored() -> Scores:
        scores = compare(of_samples, of_reference, metrics, validation=third, **how)
        line = noise_line(of_reference, extractor, batch_size) if {*scores.scores} & MANIFOLD else ""
        return replace(scores, notes=(*scores.notes, *([line] if line else [])))

    return from_first(scored)


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


def compare(
    samples: Statistics,
    reference: Statistics,
    metrics: Sequence[str] | None = None,
    *,
    further: Sequence[str] = (),
    validation: Statistics | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
    choices: Mapping[str, Any] | None = None,
) -> Scores:
    """Scores of two sides that were collected before; the arguments are those of `evaluate`."""
    check_request(metrics or further, replicates, 1, validation)
    check_sides((samples, reference), metrics)
    comparison = Comparison(samples, reference, replicates, seed, validation)
    adms = [name for name, metric in METRICS.items() if metric.in_adm and comparison.offers(metric.needs)]
    asked = [*adms, *further] if metrics is None else metrics
    names = [*dict.fromkeys([*asked, *(["fdr"] if validation else ())])]
    left_out = [name for name in names if any(has_too_few(name, side) for side in (samples, reference))]
    names = [name for name in names if name not in left_out]
    scores = {name: score(name, comparison) for name in names}
    settings: dict[str, Any] = {"replicates": replicates, "seed": seed}
    settings |= {name: dict(METRICS[name].settings) for name in names}
    said = (
        *notes(samples, reference, choices or {}),
        *_of_validation(samples, reference, validation),
        *(_left_out_line(name) for name in left_out),
    )
    sides = {"samples": samples, "reference": reference} | ({"validation": validation} if validation else {})
    return Scores(scores, provenance(sides, settings, choices or {}), said)


def _apart(side: str, of: Statistics, reference: Statistics) -> list[str]:
    """Sentences where a side has another size or colour than the reference, or some of its images."""
    sentences = []
    shapes = [known.origin.shape for known in (of, reference)]
    if all(shapes) and shapes[0][1:] != shapes[1][1:]:
        ours, theirs = ("x".join(map(str, shape[1:])) for shape in shapes)
        sentences.append(
            f"{side} of {ours} pixels beside reference images of {theirs}: their difference in size is part of"
            " every score; compare only scores of the same two sizes"
        )
    if all(shapes) and shapes[0][0] != shapes[1][0]:
        ours, theirs = ("grey" if shape[0] == 1 else "in colour" for shape in shapes)
        sentences.append(f"{side} {ours} beside reference images {theirs}: that is part of every score")
    if (shared := len(of.images & reference.images)) and of.origin.sha256 != reference.origin.sha256:
        sentences.append(f"{shared:,} of the {side} are images of the reference, pixel for pixel")
    return sentences


def _of_validation(samples: Statistics, reference: Statistics, validation: Statistics | None) -> list[str]:
    """What a reader of FDr must be told: how the validation set differs, and unequal N."""
    if validation is None:
        return []
    sentences = _apart("validation images", validation, reference)
    if validation.origin.sha256 == samples.origin.sha256:
        sentences.append("samples and validation set are the very same images")
    elif shared := len(samples.images & validation.images):
        sentences.append(f"{shared:,} of the samples are images of the validation set, pixel for pixel")
    counts = [side.origin.num_images for side in (samples, validation)]
    if counts[0] == counts[1] or not all(counts):
        return sentences
    return [
        *sentences,
        f"{counts[0]:,} samples beside {counts[1]:,} validation images: a Frechet distance falls with N, so FDr is 1"
        " for samples as near as the validation set at equal numbers only",
    ]


def _left_out_line(name: str) -> str:
    return f"{METRICS[name].title} is left out: it needs at least {METRICS[name].fewest} images on either side"


def provenance(
    sides: Mapping[str, Statistics], settings: Mapping[str, Any], choices: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything that shaped the numbers, as plain data."""
    return {
        **{side: json.loads(json_text(of.origin)) for side, of in sides.items()},
        "extractor": sides["samples"].extractor,
        "settings": dict(settings),
        "dtypes": {"features": "float32", "algebra": "float64"},
        "versions": {
            "adaln": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "scipy": version("scipy"),
        },
        "choices": dict(choices),
    }


def notes(samples: Statistics, reference: Statistics, choices: Mapping[str, Any]) -> tuple[str, ...]:
    """What a reader must be told, e.g. that a covariance of fewer images than features is singular."""
    sentences = []
    for side, of in (("samples", samples), ("reference images", reference)):
        if 0 < of.origin.num_images <= of.dim:
            sentences.append(
                f"{of.origin.num_images} {side} for {of.dim} features: the covariance is singular and FID is biased "
                f"upwards, by more the fewer images there are; compare only scores of equal N"
            )
        if of.origin.passed_over:
            sentences.append(f"passed over beside the {side}: {', '.join(of.origin.passed_over[:SHOWN])}")
    sentences += _apart("samples", samples, reference)
    if samples.origin.sha256 == reference.origin.sha256:
        sentences.append("samples and reference are the very same images")
    return (*sentences, *([left] if (left := start_left(choices)) else ()))


def start_left(choices: Mapping[str, Any]) -> str:
    """One sentence where samples are drawn from averaged weights that still hold much of their start; else nothing."""
    share = choices.get("start_in_average") or 0.0
    if share < MUCH_OF_THE_START:
        return ""
    return (
        f"{100 * share:.3g} % of the start is still in the averaged weights of step {choices['step']} (ema_decay to"
        " that power): --weights model draws from the raw ones"
    )


def sample_words(choices: Mapping[str, Any]) -> str:
    """Which samples they are: their step, and the class and the weights where these are not as usual."""
    words = [f"step {choices['step']}"] if "step" in choices else []
    words += [f"all of class {choices['class']!r}"] if "class" in choices else []
    return ", ".join([*words, *(["raw weights"] if choices.get("weights") == "model" else [])])
