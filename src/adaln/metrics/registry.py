"""The table of scores: what each needs, how it is computed, and in which direction it is better."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from adaln.metrics.cmmd import SCALE, SIGMA, gaussian_mmd
from adaln.metrics.feature_statistics import PARTS, Part, Statistics, check_one_extractor
from adaln.metrics.frechet import RESIDUAL_LIMIT, frechet_distance, frechet_interval
from adaln.metrics.intervals import ScoreInterval, around, wilson
from adaln.metrics.kid_and_is import (
    SPLIT_SIZE,
    SUBSET_SIZE,
    SUBSETS,
    inception_score,
    inception_score_interval,
    kernel_distance,
)
from adaln.metrics.names import METRICS
from adaln.metrics.precision_recall import (
    DENSITY_NEIGHBOURS,
    NEIGHBOURS,
    Blocks,
    DensityCoverage,
    PrecisionRecall,
    density_coverage,
    exact_blocks,
    precision_recall,
    published_blocks,
)
from adaln.metrics.sliced import DIRECTIONS, sliced_distance
from adaln.report import Measurement
from adaln.rng import generator


@dataclass(frozen=True, slots=True)
class Score:
    """One number with its interval; both sides' counts and the features it was computed on."""

    metric: str
    value: float
    low: float | None
    high: float | None
    """95 % interval, of which `interval` says how; None where single rows or replicates lack."""
    interval: str
    """How the interval was found and what it holds fixed."""
    num_samples: int
    num_reference: int
    """0: not known (statistics of ADM's without images)."""
    label: str

    @property
    def cell(self) -> Measurement | float:
        """The value with its interval, where it has one."""
        return self.value if self.low is None or self.high is None else Measurement(self.value, self.low, self.high)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two sides in one feature space; what several scores share is computed once."""

    samples: Statistics
    reference: Statistics
    replicates: int
    seed: int
    validation: Statistics | None = None
    """Other images of what the reference is of, for FDr."""

    def __post_init__(self) -> None:
        for side in (self.samples, *([self.validation] if self.validation else ())):
            check_one_extractor(side.extractor, self.reference.extractor)

    _manifolds: dict[Blocks, PrecisionRecall] = field(default_factory=dict)

    def offers(self, part: Part) -> bool:
        """Whether that part is known of the sides that need it: probabilities of the samples, all else of both."""
        sides = [self.samples] if part == "probs" else [self.samples, self.reference]
        return all(getattr(side, part) is not None for side in sides)

    def rng(self, metric: str) -> torch.Generator:
        """The draws of one score's interval; each score has its own, so that asking for more changes none."""
        return generator("score interval", metric, self.seed)

    def manifold(self, blocks: Blocks) -> PrecisionRecall:
        """Precision and recall by these distances, exact or as ADM's evaluator publishes them."""
        if blocks not in self._manifolds:
            self._manifolds[blocks] = precision_recall(*self.rows, NEIGHBOURS, blocks)
        return self._manifolds[blocks]

    @property
    def rows(self) -> tuple[Tensor, Tensor]:
        """The features of single images (M, F) and (N, F), of the reference and of the samples."""
        return needed(self.reference, "pool_rows"), needed(self.samples, "pool_rows")

    @cached_property
    def balls(self) -> DensityCoverage:
        """Density and coverage."""
        return density_coverage(*self.rows)


Measure = Callable[[Comparison], tuple[float, ScoreInterval | None]]


@dataclass(frozen=True, slots=True)
class Metric:
    """A row of the table."""

    title: str
    needs: Part
    better: Literal["lower", "higher"]
    measure: Measure
    settings: Mapping[str, Any] = field(default_factory=dict)
    in_adm: bool = False
    """Part of ADM's suite, and so of the default."""
    digits: int = 3
    """Decimals that people are shown."""
    fewest: int = 2
    """Images that it needs on either side."""


def needed(statistics: Statistics, part: Part) -> Any:
    """That part of the statistics; ValueError where they lack it."""
    value = getattr(statistics, part)
    if value is None:
        raise ValueError(f"{statistics.origin.name}: has no {PARTS[part]} (extractor {statistics.extractor['name']})")
    return value


def score(name: str, comparison: Comparison) -> Score:
    """One score of the table."""
    metric, rows = METRICS[name], comparison.reference.pool_rows
    value, interval = metric.measure(comparison)
    num_rows = None if rows is None or metric.needs != "pool_rows" else len(rows)
    return Score(
        metric=name,
        value=value,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        interval=interval.method if interval else "none",
        num_samples=comparison.samples.origin.num_images,
        num_reference=num_rows or comparison.reference.origin.num_images,  # ADM's files describe more than they hold
        label=str(comparison.samples.extractor["label"]),
    )


def _frechet(part: Literal["pool", "spatial"], name: str) -> Measure:
    def measure(comparison: Comparison) -> tuple[float, ScoreInterval | None]:
        samples, reference = needed(comparison.samples, part), needed(comparison.reference, part)
        value = frechet_distance(samples, reference).value
        rows = getattr(comparison.samples, f"{part}_rows")
        if rows is None or not comparison.replicates:
            return value, None
        return value, frechet_interval(value, rows, samples, reference, comparison.replicates, comparison.rng(name))

    return measure


def _ratio(comparison: Comparison) -> tuple[float, ScoreInterval | None]:
    """The Frechet distance over that of the validation set, both from the reference, which are held fixed."""
    validation, reference = comparison.validation, comparison.reference
    if validation is None:
        raise ValueError(
            "FDr needs a validation set, other images of what the reference is of; got none (--validation)"
        )
    is_of_reference = validation.images and validation.images <= reference.images
    if is_of_reference or validation.origin.sha256 == reference.origin.sha256:
        raise ValueError(
            f"{validation.origin.name}: all images of the validation set are of the reference; FDr divides by their"
            " distance: expected images that are held out from it"
        )
    floor = frechet_distance(validation.pool, reference.pool).value
    rounding = (
        RESIDUAL_LIMIT * reference.pool.covariance.trace()
        + torch.finfo(torch.float64).eps * reference.pool.mean.square().sum()
    )
    if floor <= rounding:
        raise ValueError(
            f"{validation.origin.name}: in these features the validation set is at the distance {floor:.1g} from the"
            " reference, which is rounding; FDr divides by it: expected features that tell the two apart"
        )
    value, interval = _frechet("pool", "fdr")(comparison)
    if interval is None:
        return value / floor, None
    method = f"{interval.method} and validation fixed"
    return value / floor, ScoreInterval(interval.low / floor, interval.high / floor, method)


def _inception_score(comparison: Comparison) -> tuple[float, ScoreInterval | None]:
    probs = needed(comparison.samples, "probs")
    value = inception_score(probs)
    if not comparison.replicates:
        return value, None
    rng = comparison.rng("is")
    return value, inception_score_interval(value, probs, SPLIT_SIZE, comparison.replicates, rng)


def _kernel(comparison: Comparison) -> tuple[float, ScoreInterval | None]:
    return kernel_distance(*comparison.rows, comparison.rng("kid"))


def _sliced(comparison: Comparison) -> tuple[float, ScoreInterval | None]:
    return sliced_distance(*comparison.rows, comparison.rng("mind"))


def _gaussian(comparison: Comparison) -> tuple[float, ScoreInterval | None]:
    return gaussian_mmd(*comparison.rows)


def _density(comparison: Comparison) -> tuple[float, ScoreInterval | None]:
    density = comparison.balls.balls.double() / DENSITY_NEIGHBOURS
    value, error = float(density.mean()), float(density.std() / len(density) ** 0.5)
    return value, around(value, error, "standard error, reference fixed")


def _coverage(comparison: Comparison) -> tuple[float, ScoreInterval | None]:
    covered = comparison.balls.covered
    return float(covered.double().mean()), wilson(covered)


def _of_manifolds(title: str, side: str, blocks: Blocks, settings: Mapping[str, Any], in_adm: bool = False) -> Metric:
    def measure(comparison: Comparison) -> tuple[float, ScoreInterval | None]:
        inside = getattr(comparison.manifold(blocks), side)
        return float(inside.double().mean()), wilson(inside)

    return Metric(title, "pool_rows", "higher", measure, settings, in_adm, fewest=NEIGHBOURS + 1)


_EXACT = {"k": NEIGHBOURS, "distances": "float32"}
_HALF = {"k": NEIGHBOURS, "distances": "float16, as published"}
_SUBSETS = {"subsets": SUBSETS, "subset_size": SUBSET_SIZE}
_BALLS = {"k": DENSITY_NEIGHBOURS}
_SAMPLES, _REFERENCE = "sample_inside", "reference_inside"
TABLE: Mapping[str, Metric] = {
    "fid": Metric("FID", "pool", "lower", _frechet("pool", "fid"), in_adm=True, digits=2),
    "fdr": Metric("FDr", "pool", "lower", _ratio),
    "sfid": Metric("sFID", "spatial", "lower", _frechet("spatial", "sfid"), in_adm=True, digits=2),
    "is": Metric("Inception Score", "probs", "higher", _inception_score, {"split_size": SPLIT_SIZE}, True, 2),
    "precision": _of_manifolds("Precision", _SAMPLES, exact_blocks, _EXACT, in_adm=True),
    "recall": _of_manifolds("Recall", _REFERENCE, exact_blocks, _EXACT, in_adm=True),
    "precision-half": _of_manifolds("Precision (half)", _SAMPLES, published_blocks, _HALF),
    "recall-half": _of_manifolds("Recall (half)", _REFERENCE, published_blocks, _HALF),
    "kid": Metric("KID", "pool_rows", "lower", _kernel, _SUBSETS, digits=5, fewest=4),
    "mind": Metric("MIND", "pool_rows", "lower", _sliced, {"directions": DIRECTIONS}, digits=2),
    "density": Metric("Density", "pool_rows", "higher", _density, _BALLS, fewest=DENSITY_NEIGHBOURS + 1),
    "coverage": Metric("Coverage", "pool_rows", "higher", _coverage, _BALLS, fewest=DENSITY_NEIGHBOURS + 1),
    "cmmd": Metric("CMMD", "pool_rows", "lower", _gaussian, {"sigma": SIGMA, "scale": SCALE}),
}
"""Every score by its name. `-half` is ADM's evaluator to the bit, with the half-precision distances it publishes."""
