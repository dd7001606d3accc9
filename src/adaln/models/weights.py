"""Weights of other people: read from a file without running code, fitted to a network, refused in one line.

Released networks of all our families use our parameter names; diffusers' DiT is translated.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from adaln.models import MODELS, ModelConfig, Network, skeleton
from adaln.models.diffusers_names import diffusers_config, from_diffusers, is_diffusers
from adaln.registry import nearest
from adaln.tensors import WeightSet, misfit, open_weights
from adaln.types import DataSpec


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """Tensors by DiT's own names, and how they came."""

    tensors: dict[str, Tensor]
    file: Path
    taken: WeightSet | None
    """Which of a training checkpoint's sets; None: the file holds one set only."""
    layout: Literal["official", "diffusers"]
    settings: dict[str, Any]
    """What the config.json beside diffusers' weights says; else empty."""


def read_weights(path: Path, wanted: WeightSet | None = None) -> Weights:
    """The weights that `open_weights` finds, by DiT's own names whether DiT's code or diffusers wrote them."""
    opened = open_weights(path, wanted)
    tensors = _unwrapped(dict(opened.tensors))
    if not is_diffusers(tensors):
        return Weights(tensors, opened.file, opened.taken, "official", {})
    beside = opened.file.with_name("config.json")
    settings = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    return Weights(from_diffusers(tensors), opened.file, opened.taken, "diffusers", settings)


def _unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefixes that DistributedDataParallel and torch.compile put before every name."""
    for prefix in ("module.", "_orig_mod."):
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def spec_of(weights: Weights, config: ModelConfig, size: tuple[int, ...] = ()) -> DataSpec:
    """The data that the weights are for: channels and classes from their shapes, height and width from `pos_embed`.

    `size` (side, or height and width) is for weights that do not tell: U-DiT's, and diffusers' without their config.
    Raises ValueError where neither tells, or where `size` is not one or two numbers.
    """
    tensors = weights.tensors
    patches = _required("x_embedder.proj.weight", tensors, weights.file)
    tables = [
        tensors[name] for name in sorted(tensors) if re.fullmatch(r"y_embedder\w*\.embedding_table\.weight", name)
    ]
    num_classes = len(tables[0]) - (config.class_dropout_prob > 0) if tables else 0
    if len(size) > 2:
        raise ValueError(f"size is {' '.join(map(str, size))}; expected one side, or height and width")
    if not size and "sample_size" in weights.settings:
        size = (int(weights.settings["sample_size"]),)
    if size:
        height, width = size[0], size[-1]
    else:
        from_table = config.data_size(tensors)
        if from_table is None:
            raise ValueError(
                f"{str(weights.file)!r} does not tell the size of its data; expected --size (published: 32, 64)"
            )
        height, width = from_table
    return DataSpec(patches.shape[1], height, width, num_classes)


def _required(name: str, tensors: Mapping[str, Tensor], file: Path) -> Tensor:
    if name not in tensors or tensors[name].ndim < 2:
        raise ValueError(f"{str(file)!r} holds no network of ours: it has no {name!r}{nearest(name, tensors)}")
    return tensors[name]


def load_weights(weights: Weights, config: ModelConfig, spec: DataSpec) -> Network:
    """The network of `config` holding these weights, in float32.

    Raises ValueError in one line: which registered network they do fit, or every name and shape that is wrong.
    """
    tensors, model = dict(weights.tensors), skeleton(config, spec)
    fixed = model.fixed()
    if weights.layout == "diffusers" and fixed:
        check_settings(weights.settings, config, spec)
        tensors = fixed | tensors
    wrong = misfit(model.state_dict(), tensors)
    if wrong:
        fitting = " or ".join(fitting_models(weights, tensors, spec))
        what = f"holds the weights of {fitting}, not of the model asked for" if fitting else f"does not fit: {wrong}"
        raise ValueError(f"{str(weights.file)!r} {what}")
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    return model


def check_settings(settings: Mapping[str, Any], config: ModelConfig, spec: DataSpec) -> None:
    """ValueError where diffusers' config.json describes another network than `config`, also where no shape would tell.

    `norm_eps` may differ: diffusers' released DiT says 1e-5 for the MLP's norm, the network it was made from has 1e-6.
    """
    for name, expected in diffusers_config(config, spec).items():
        if name not in ("norm_eps", "_class_name") and settings.get(name, expected) != expected:
            raise ValueError(f"config.json says {name} {settings[name]!r}; expected {expected!r} as of the model")


def fitting_models(weights: Weights, tensors: Mapping[str, Tensor], spec: DataSpec) -> list[str]:
    """The registered networks with exactly these names and shapes, for `spec` where the weights do not tell theirs."""
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    width = len(tensors["x_embedder.proj.weight"])
    fitting = []
    for name, config in MODELS.items():
        if config.hidden_size != width:  # building them all takes seconds
            continue
        try:
            data = spec_of(weights, config) if "pos_embed" in weights.tensors else spec
            expected = skeleton(config, data).state_dict()
        except ValueError:  # a size that this network does not take
            continue
        if shapes == {name: tensor.shape for name, tensor in expected.items()}:
            fitting.append(name)
    return fitting
