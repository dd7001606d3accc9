"""What every network of ours is: a module that says what data it takes and how it starts.

How every tensor of a fresh network starts is a table of name patterns, of which the first match wins. Whatever the
draws, a fresh network outputs exactly 0, and its blocks are the identity where a gate of zero closes them (not under a
sigmoid, not without a gate, and not beside PixArt's tables).
"""

import math
from abc import ABC
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from adaln.models.config import Counts, ModelConfig
from adaln.types import DataSpec

Fill = Callable[[Tensor, torch.Generator], object]
Starts = tuple[tuple[str, Fill], ...]


def zeros(tensor: Tensor, rng: torch.Generator) -> None:
    tensor.zero_()


def normal(std: float) -> Fill:
    """Normal(0, std)."""
    return lambda tensor, rng: tensor.normal_(std=std, generator=rng)


def table_normal(tensor: Tensor, rng: torch.Generator) -> None:
    """Normal(0, 1 / sqrt(D)) over a (6, D) table. Source: PixArt-alpha."""
    tensor.normal_(std=tensor.shape[-1] ** -0.5, generator=rng)


def xavier(tensor: Tensor, rng: torch.Generator) -> None:
    """Uniform within sqrt(6 / (fan_in + fan_out)); the fans of a convolution count its taps, in both directions."""
    nn.init.xavier_uniform_(tensor, generator=rng)


def xavier_flat(tensor: Tensor, rng: torch.Generator) -> None:
    """`xavier` of a convolution read as the linear map (D, C * k * k): its fan_out is D, without the taps."""
    nn.init.xavier_uniform_(tensor.flatten(1), generator=rng)


STARTS: Starts = (
    ("*.bias", zeros),
    ("final_layer.*", zeros),
    ("*.adaLN_modulation*.weight", zeros),
    ("t_block*.weight", zeros),
    ("*.logit_scale", lambda tensor, rng: tensor.fill_(math.log(10))),
    ("*_scale", zeros),
    ("*_tokens", normal(0.02)),
    ("t_embedder*.weight", normal(0.02)),
    ("y_embedder*.weight", normal(0.02)),
    ("x_embedder.proj.weight", xavier_flat),
    ("*", xavier),
)
_INNER: Starts = (("final_layer.*", zeros), ("*.adaLN_modulation*.1.weight", xavier), *STARTS)
"""Of two linear maps only the last is zero: with both at zero neither would ever receive a gradient."""
STARTS_OF: Mapping[str, Starts] = {
    "se": _INNER,
    "low-rank": _INNER,
    "shared": (("t_block*.weight", normal(0.02)), ("*.scale_shift_table*", table_normal), *STARTS),
}
"""By where the blocks' modulation comes from; `STARTS` of all other."""


class Network(nn.Module, ABC):
    """(noisy latents, times, labels) -> prediction."""

    spec: DataSpec
    num_labels: int
    """Rows of the label table; 0: the network is unconditional."""
    starts: Starts = STARTS
    """How its parameters start, before any scheme."""

    @torch.no_grad()
    def reset(self, rng: torch.Generator) -> None:
        """Draw all parameters anew, in their order, from `rng` alone; make what is fixed."""
        for name, parameter in self.named_parameters():
            fill = next(fill for pattern, fill in self.starts if fnmatchcase(name, pattern))
            fill(parameter, rng)
        self.load_state_dict(self.fixed(), strict=False)

    def fixed(self) -> dict[str, Tensor]:
        """What the state dict holds beside the weights: tensors that follow from the sizes and are never learned."""
        return {}


def check_inputs(x: Tensor, t: Tensor, y: Tensor | None, spec: DataSpec, num_labels: int) -> None:
    """Raise one ValueError for inputs that the network was not built for.

    Label values are read on the CPU only: elsewhere the look would make the host wait for the device.
    """
    expected = (spec.channels, spec.height, spec.width)
    if x.shape[1:] != expected:
        raise ValueError(f"got x of C, H, W = {tuple(x.shape[1:])}, expected {expected}: the network was built for it")
    for name, vector in (("t", t), ("y", y)):
        if vector is not None and vector.shape != x.shape[:1]:
            raise ValueError(f"got {name} of shape {tuple(vector.shape)}, expected ({len(x)},): one per sample")
    if y is None and num_labels:
        raise ValueError(f"got no labels, expected y in 0..{num_labels - 1}: the network is class-conditional")
    if y is not None and not num_labels:
        raise ValueError("got labels, expected y=None: the network is unconditional (num_classes=0)")
    if y is not None and y.device.type == "cpu" and not torch.compiler.is_compiling():
        low, high = (int(bound) for bound in y.aminmax())
        if low < 0 or high >= num_labels:
            raise ValueError(f"got labels in {low}..{high}, expected 0..{num_labels - 1}")


def counted(config: ModelConfig, spec: DataSpec) -> Counts:
    """Parameters and operations of one more sample in a large batch, on the network itself, without its numbers."""
    with torch.device("meta"):
        model = config.network(spec)
    large, small = (batch_flops(model, spec, batch_size) for batch_size in (8192, 4096))
    return Counts(sum(parameter.numel() for parameter in model.parameters()), (large - small) // 4096)


@torch.no_grad()
def batch_flops(model: nn.Module, spec: DataSpec, batch_size: int) -> int:
    """Floating-point operations of a forward pass of a network on the meta device."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        x, t = torch.empty(batch_size, spec.channels, spec.height, spec.width), torch.empty(batch_size)
        model(x, t, torch.empty(batch_size, dtype=torch.long) if spec.num_classes else None)
    return int(counter.get_total_flops())
