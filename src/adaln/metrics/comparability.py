"""Whether two scores may be compared, and if not, because of what."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from adaln.codec import leaves
from adaln.metrics.evaluation import Scores

DECISIVE = ("reference.sha256", "samples.num_images", "extractor.name", "extractor.fingerprint", "dtypes", "choices")
"""What two comparable scores have in common; the settings of the scores that both have are added."""
IDENTITY = frozenset({"run", "step", "seed", "num_images"})
"""Choices that say which samples were scored, not how samples are made: the thing compared, no obstacle to it. Their
number is counted where it matters, in what was scored."""


def differences(a: Scores, b: Scores) -> list[str]:
    """The choices that shape a score and in which `a` and `b` differ, as "what: a's, b's"; none: comparable.

    Versions of packages are recorded but not counted: they move a score by rounding, not by choice.
    """
    known = [bool(scores.provenance.get("choices")) for scores in (a, b)]
    if known[0] != known[1]:
        told = ", ".join("recorded" if there else "not recorded" for there in known)
        return [f"how the samples were drawn: {told}", *differences(_unchosen(a), _unchosen(b))]
    ours, theirs = dict(_decisive(a, b)), dict(_decisive(b, a))
    keys = [*ours, *(key for key in theirs if key not in ours)]
    return [
        f"{key}: {_short(ours.get(key))}, {_short(theirs.get(key))}" for key in keys if ours.get(key) != theirs.get(key)
    ]


def _unchosen(scores: Scores) -> Scores:
    return replace(scores, provenance={**scores.provenance, "choices": {}})


PUBLISHED = {
    "features": ("extractor.name", "inception"),
    "samples": ("samples.num_images", 50_000),
    "reference images (0: ADM's precomputed statistics)": ("reference.num_images", 0),
    "solver": ("choices.sampler.solver", "ddpm"),
    "solver steps": ("choices.sampler.steps", 250),
    "weights": ("choices.weights", "ema"),
}
"""The protocol behind the published numbers of DiT and of the paper: where it lies in a record, and what it is."""


def unlike_published(scores: Scores) -> list[str]:
    """What keeps a score from being set beside published FIDs of ImageNet, as "what: ours, theirs"; none: nothing.

    Whether the reference is ADM's file for this very data set and size, nobody but the reader can tell: its SHA-256 is
    in the record.
    """
    found = [(what, _at(scores.provenance, path), theirs) for what, (path, theirs) in PUBLISHED.items()]
    return [f"{what}: {_short(ours)}, {theirs}" for what, ours, theirs in found if ours != theirs]


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
