"""From two sets of images to a table of scores, each with its interval, and a record of everything that shaped it, by
which two tables are found comparable or not."""

import json
import platform
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from adaln.codec import json_text, leaves
from adaln.data.dataset import SHOWN
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
from adaln.metrics.registry import Comparison, Score, score
from adaln.metrics.sides import Source, check_request, check_sides, has_too_few, parse_source
from adaln.parallel import from_first
from adaln.report import Column, Shown, Table
from adaln.version import __version__

REPLICATES = 200
"""Bootstrap replicates behind an interval: its width is then known to about 5 %."""
DECISIVE = ("reference.sha256", "samples.num_images", "extractor.name", "extractor.fingerprint", "dtypes", "choices")
"""What two comparable scores have in common; the settings of the scores that both have are added."""
IDENTITY = frozenset({"run", "step", "seed", "num_images", "start_in_average", "class", "key"})
"""Choices that say which samples were scored, not how samples are made: the thing compared, no obstacle to it. Their
number is counted where it matters, in what was scored."""
MUCH_OF_THE_START = 0.05
"""Of an average: from here on a reader of its samples or scores is told."""
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
        of, reference = sample_words(self.provenance["choices"]), self.provenance["reference"]["name"]
        sides = f"{self.provenance['samples']['name']}{f' ({of})' if of else ''} beside {reference}"
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
    check_request(metrics or (), replicates, batch_size)
    samples, reference = parse_source(samples, num_images), parse_source(reference)
    check_sides((samples, reference), metrics)
    needs = {METRICS[name].needs for name in metrics or ()}
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
    check_request(metrics or (), replicates, batch_size=1)
    check_sides((samples, reference), metrics)
    comparison = Comparison(samples, reference, replicates, seed)
    adms = [name for name, metric in METRICS.items() if metric.in_adm and comparison.offers(metric.needs)]
    names = [*dict.fromkeys(adms if metrics is None else metrics)]
    left_out = [name for name in names if any(has_too_few(name, side) for side in (samples, reference))]
    names = [name for name in names if name not in left_out]
    scores = {name: score(name, comparison) for name in names}
    settings: dict[str, Any] = {"replicates": replicates, "seed": seed}
    settings |= {name: dict(METRICS[name].settings) for name in names}
    said = (*notes(samples, reference, choices or {}), *(_left_out_line(name) for name in left_out))
    return Scores(scores, provenance(samples, reference, settings, choices or {}), said)


def _left_out_line(name: str) -> str:
    return f"{METRICS[name].title} is left out: it needs at least {METRICS[name].fewest} images on either side"


def provenance(
    samples: Statistics, reference: Statistics, settings: Mapping[str, Any], choices: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything that shaped the numbers, as plain data."""
    return {
        **{side: json.loads(json_text(of.origin)) for side, of in (("samples", samples), ("reference", reference))},
        "extractor": samples.extractor,
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
    sizes = ["x".join(map(str, side.origin.shape[1:])) for side in (samples, reference)]
    if all(sizes) and sizes[0] != sizes[1]:
        sentences.append(
            f"samples of {sizes[0]} pixels beside reference images of {sizes[1]}: their difference in size is part of"
            " every score; compare only scores of the same two sizes"
        )
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
    sizes = [(_at(side.provenance, "samples.shape") or ())[1:] for side in (scores, other)]
    if all(sizes):  # files of scores may not say it
        yield "samples.size", "x".join(map(str, sizes[0]))


def _short(value: Any) -> str:
    if value is None:
        return "not recorded"
    return f"{value[:12]}..." if isinstance(value, str) and len(value) > 40 else str(value)
