"""Which scores may be compared: what two records have in common, and what published numbers were made by."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adaln.codec import leaves

if TYPE_CHECKING:
    from adaln.metrics.scores import Scores

DECISIVE = (
    "reference.sha256",
    "samples.num_images",
    "extractor.name",
    "extractor.fingerprint",
    "dtypes",
    "choices",
)
"""What two comparable scores have in common; the settings of the scores that both have are added, and of FDr the
validation set."""
IDENTITY = frozenset(
    {"run", "step", "seed", "num_images", "start_in_average", "class", "key", "device", "ema_distance"}
)
"""Choices that say which samples were scored, not how samples are made: the thing compared, no obstacle to it. Their
number is counted where it matters, in what was scored, and a device moves a score by rounding."""
ROUNDING = ("choices.device", "versions.adaln", "versions.torch")
"""What moves a score by rounding alone, and is named where it differs."""
PUBLISHED = {
    "features": ("extractor.name", "inception"),
    "samples": ("samples.num_images", 50_000),
    "reference images (0: ADM's precomputed statistics)": ("reference.num_images", 0),
    "solver": ("choices.sampler.solver", "ddpm"),
    "solver steps": ("choices.sampler.steps", 250),
    "weights": ("choices.weights", "ema"),
}
"""The protocol behind the published numbers of DiT and of the paper: where it lies in a record, and what it is."""

KNOWN_REFERENCES = {
    "b32732719497e42660a9affb4a966068cba0855ac449b82015e34ec376d20758": "ADM's VIRTUAL_imagenet256_labeled.npz",
}
"""Public references by the SHA-256 of their file, as several repositories record it."""


def differences(a: "Scores", b: "Scores") -> list[str]:
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


def _unchosen(scores: "Scores") -> "Scores":
    return replace(scores, provenance={**scores.provenance, "choices": {}})


def unlike_published(scores: "Scores") -> list[str]:
    """What keeps a score from being set beside published FIDs of ImageNet, as "what: ours, theirs"; none: nothing.

    Whether the reference is ADM's file for this very data set and size, nobody but the reader can tell: its SHA-256 is
    in the record.
    """
    compared = [(what, _at(scores.provenance, path), published) for what, (path, published) in PUBLISHED.items()]
    return [f"{what}: {_short(value)}, {published}" for what, value, published in compared if value != published]


def rounding_differences(a: "Scores", b: "Scores") -> list[str]:
    """What moves a score by rounding alone and in which `a` and `b` differ, as "what: a's, b's"."""
    values = [(path, _at(a.provenance, path), _at(b.provenance, path)) for path in ROUNDING]
    return [f"{path.split('.')[-1]}: {_short(one)}, {_short(other)}" for path, one, other in values if one != other]


def comparable_words(scores: "Scores") -> str:
    """One sentence: with which other scores these may be compared."""
    record, choices = scores.provenance, scores.provenance["choices"]
    reference, size = record["reference"], "x".join(map(str, record["samples"].get("shape", ())[1:]))
    known = KNOWN_REFERENCES.get(reference["sha256"], reference["sha256"][:12])
    beside = f"as many samples{size and f' of {size} pixels'} beside the same reference ({known})"
    return f"May be compared with scores in these features of {beside}, {_drawn(choices)}."


def _drawn(choices: Mapping[str, Any]) -> str:
    """How samples were drawn, in words."""
    if not choices:
        return "if they were drawn alike: how these were is not recorded"
    decay, sampler, guidance = (choices.get(name) for name in ("ema_decay", "sampler", "guidance"))
    if not (isinstance(sampler, Mapping) and isinstance(guidance, Mapping) and {"labels", "dtype"} <= choices.keys()):
        return "drawn by the very choices that are recorded"  # by a caller of his own words
    weights = "raw weights" if choices.get("weights") == "model" else "averaged weights"
    weights += f" of width {choices['ema']:g}" if choices.get("ema") else ""
    guided = f" of channels {guidance['channels']}" if guidance["scale"] != 1 else ""
    guided += f" at times {guidance['interval']}" if guidance.get("interval") else ""
    labels = choices["labels"] if isinstance(choices["labels"], str) else f"of class {choices['labels']}"
    return ", ".join(
        [
            f"drawn from {weights}{f' (decay {decay:g})' if decay is not None else ''}",
            f"labels {labels}",
            f"guidance {guidance['scale']:g}{guided}",
            f"{sampler['solver']} in {sampler['steps'] or 'its own'} steps",
            str(choices["dtype"]),
        ]
    )


def _at(record: Mapping[str, Any], path: str) -> Any:
    value: Any = record
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _decisive(scores: "Scores", other: "Scores") -> Iterator[tuple[str, Any]]:
    common = [f"settings.{name}" for name in scores.scores if name in other.scores]
    validation = ["validation.sha256"] if "settings.fdr" in common else []
    for path in (*DECISIVE, *validation, *common):
        value = _at(scores.provenance, path)
        if path == "choices" and value:
            value = {key: entry for key, entry in value.items() if key not in IDENTITY}
        yield from leaves({path: value})
    for of in ("samples", "reference"):
        sizes = [(_at(side.provenance, f"{of}.shape") or ())[1:] for side in (scores, other)]
        if all(sizes):  # files of scores may not say it
            yield f"{of}.size", "x".join(map(str, sizes[0]))


def _short(value: Any) -> str:
    if value is None:
        return "not recorded"
    if isinstance(value, str) and len(value) > 40:
        return KNOWN_REFERENCES.get(value, f"{value[:12]}...")
    return str(value)
