"""Feature extractors by the names that a user gives."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from adaln.metrics.classifier import LabelledImages, classifier_extractor, recorded_classifier
from adaln.metrics.features import Extractor, function_extractor
from adaln.metrics.inception import inception_extractor
from adaln.registry import Registry

EXTRACTORS: Registry[str] = Registry(
    "feature extractor",
    {
        "inception": "ADM's 2015 Inception network: the features of published FID, sFID, IS, precision and recall",
        "dataset-classifier": "a small classifier trained once on the data set itself; needs labels",
    },
)
"""What can be asked for by name, with one line of help each; besides these, `module:function`."""


def load_extractor(
    name: str,
    *,
    cache: Path,
    data: LabelledImages | None = None,
    recorded: Mapping[str, Any] | None = None,
    weights: Path | None = None,
    device: torch.device | str = "cpu",
) -> Extractor:
    """The extractor called `name`: one of `EXTRACTORS`, or `module:function`.

    A dataset-classifier learns from `data`; without, it is the one that statistics made before describe (`recorded`).
    `weights` is a local Inception file. Weights that are fetched or trained are kept in `cache`.
    """
    if ":" in name:
        return function_extractor(name)
    EXTRACTORS[name]  # an unknown name is an error with the nearest known one
    if name == "inception":
        return inception_extractor(weights, cache, device=device)
    if data is not None:
        return classifier_extractor(data, cache)
    if recorded is not None and recorded["name"] == name:
        return recorded_classifier(recorded["details"], cache)
    raise ValueError(
        "dataset-classifier features need the labelled images they are learnt from; got none (features inception need"
        " no labels)"
    )
