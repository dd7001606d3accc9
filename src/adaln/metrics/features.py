"""From images to features: what an extractor is, and how one is named."""

import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from adaln.files import expanded
from adaln.registry import Registry, check_no_code_file, code_named

if TYPE_CHECKING:
    from adaln.metrics.classifier import LabelledImages

Images = UInt8[Tensor, "B C H W"]
EXTRACTORS: Registry[str] = Registry(
    "feature extractor",
    {
        "inception": "ADM's 2015 Inception network: the features of published FID, sFID, IS, precision and recall",
        "dataset-classifier": "a small classifier trained once on the data set itself; needs labels",
    },
)
"""What can be asked for by name, with one line of help each; besides these, `module:function` and folders."""


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What a network sees in a batch of images."""

    pool: Float32[Tensor, "B F"]
    """What FID, KID, precision and recall are computed on."""
    spatial: Float32[Tensor, "B S"] | None = None
    """What sFID is computed on: a piece of an inner feature map."""
    probs: Float32[Tensor, "B K"] | None = None
    """Class probabilities, for the Inception Score."""

    @property
    def parts(self) -> dict[str, Float32[Tensor, "B _"]]:
        """Those that there are, by name."""
        parts = {"pool": self.pool, "spatial": self.spatial, "probs": self.probs}
        return {name: rows for name, rows in parts.items() if rows is not None}


@dataclass(frozen=True, slots=True, eq=False)
class Extractor:
    """A fixed map from uint8 images to features. Scores of two extractors are never comparable."""

    name: str
    label: str
    """Printed beside every number, e.g. "dataset-classifier features, not comparable with Inception FID"."""
    fingerprint: str
    """SHA-256 of the weights (or of the code, for a function of the user's)."""
    network: Callable[[Images], Features]
    details: Mapping[str, float | int | str] = field(default_factory=dict)
    """What else a reader should know, e.g. the accuracy of a classifier on held-out images."""

    def __call__(self, images: Images) -> Features:
        """The features of a batch."""
        with torch.inference_mode():
            return self.network(images)

    def describe(self) -> dict[str, object]:
        """What a score records of its extractor."""
        return {"name": self.name, "label": self.label, "fingerprint": self.fingerprint, "details": dict(self.details)}


def load_extractor(
    name: str,
    *,
    cache: Path,
    data: "LabelledImages | None" = None,
    recorded: Mapping[str, Any] | None = None,
    weights: Path | None = None,
    device: torch.device | str = "cpu",
) -> Extractor:
    """The extractor called `name`: one of `EXTRACTORS`, `module:function`, or the folder of a network.

    A dataset-classifier learns from `data`; without, it is the one that statistics made before describe (`recorded`).
    `weights` is a local Inception file. Weights that are fetched or trained are kept in `cache`.
    """
    from adaln.metrics.classifier import classifier_extractor, recorded_classifier
    from adaln.metrics.inception import inception_extractor

    if ":" in name:
        return function_extractor(name)
    if name not in EXTRACTORS and not expanded(name).is_dir():
        check_no_code_file(name)
    if name not in EXTRACTORS and (Path(name).name != name or expanded(name).is_dir()):
        from adaln.metrics.network_folders import folder_extractor

        return folder_extractor(expanded(name), device=device)
    EXTRACTORS[name]  # an unknown name is an error with the nearest known one
    if name == "inception":
        return inception_extractor(weights, cache, device=device)
    if data is not None:
        return classifier_extractor(data, cache)
    if recorded is not None and recorded["name"] == name:
        return recorded_classifier(recorded, cache)
    raise ValueError(
        "dataset-classifier features need the labelled images they are learnt from; got none (features inception need"
        " no labels)"
    )


def function_extractor(target: str) -> Extractor:
    """A function of the user's, named `module:function`: uint8 (B, C, H, W) -> `Features`, or a (B, F) tensor.

    The working directory is searched first, as with `python -m`. The fingerprint is that of the module's source, or
    the function's attribute `fingerprint` where it has one (weights live outside the source).
    """
    try:
        function = code_named(target)
    except ValueError as error:
        raise ValueError(f"features {error}") from error
    fingerprint = getattr(function, "fingerprint", None) or _source_sha256(target, function)
    label = f"{target} features, not comparable with Inception FID"
    return Extractor(target, label, fingerprint, _wrapped(target, function))


def _source_sha256(target: str, function: Callable[[Images], object]) -> str:
    try:
        source = inspect.getsource(sys.modules[function.__module__])
    except (OSError, TypeError, KeyError) as error:
        raise ValueError(f"features {target!r}: no source to hash; give it an attribute `fingerprint`") from error
    return hashlib.sha256(source.encode()).hexdigest()


def _wrapped(target: str, function: Callable[[Images], object]) -> Callable[[Images], Features]:
    def network(images: Images) -> Features:
        try:
            result = function(images.clone())  # what it writes into is not what is hashed
        except Exception as error:  # whatever the user's own code raises
            raise ValueError(f"features {target!r}: {type(error).__name__}: {' '.join(str(error).split())}") from error
        parts = result.parts if isinstance(result, Features) else {"pool": result}
        return Features(**{name: _as_rows(part, target, len(images)) for name, part in parts.items()})

    return network


def _as_rows(part: object, target: str, count: int) -> Float32[Tensor, "B F"]:
    """What a function gave, a row of real numbers for each image; ValueError where it is none."""
    if isinstance(part, Tensor) and part.ndim == 2 and len(part) == count and part.shape[1] and not part.is_complex():
        return part.to("cpu", torch.float32)
    got = f"{part.dtype} {tuple(part.shape)}" if isinstance(part, Tensor) else type(part).__name__
    raise ValueError(f"features {target!r} gave {got}; expected Features or real numbers ({count}, F)")
