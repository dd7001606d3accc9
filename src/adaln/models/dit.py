"""DiT, SiT, DiT-LLaMA and SiT-LLaMA: one network.

SiT is DiT that does not return the variance half of its prediction. The LLaMA kind has rotary positions on q and k and
a SwiGLU MLP, while its norms stay LayerNorm; its released weights store `final_layer` before `blocks`, which only
matters to optimiser states matched by index.

Source: Peebles and Xie, "Scalable Diffusion Models with Transformers" (arXiv 2212.09748); Ma et al., "SiT: Exploring
Flow and Diffusion-based Generative Models with Scalable Interpolant Transformers" (arXiv 2401.08740); Chu et al.,
"VisionLLaMA: A Unified LLaMA Backbone for Vision Tasks" (arXiv 2403.00522).
"""

# mypy: disable-error-code="no-any-return,no-untyped-call"
# torch types the call of a module as Any and leaves `unflatten` untyped.

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from adaln.models.layers import (
    Attention,
    LabelEmbedder,
    Mlp,
    PatchEmbedder,
    Rotation,
    TimestepEmbedder,
    conditioned_unit,
    grid_of_table,
    modulated,
    modulation,
    rotation,
    sincos_table,
    squeezed_modulation,
    timestep_features,
    unpatchify,
)
from adaln.models.network import (
    SHARED_STARTS,
    SQUEEZED_STARTS,
    STARTS,
    ModelConfig,
    Network,
    batch_flops,
    check_inputs,
    check_sizes,
    num_labels,
)
from adaln.types import DataSpec, Labels, Latents, Times, Tokens

ModulationKind = Literal["linear", "se", "shared"]


@dataclass(frozen=True)
class TransformerConfig(ModelConfig):
    """What DiT and DiT-LLaMA have in common."""

    hidden_size: int
    """Width D of the tokens; a multiple of 4 and of num_heads."""
    depth: int
    """Number of blocks."""
    num_heads: int
    """Attention heads per block."""
    patch_size: int
    """Side of the square patch that becomes one token."""
    learn_sigma: bool = True
    """Predict a variance beside each channel: twice the data's channels."""
    drop_variance: bool = False
    """SiT: the variance half is in the weights but not in the output."""
    class_dropout_prob: float = 0.1
    """How often training replaces a label by the null class; 0: there is no null class, hence no guidance."""
    modulation: ModulationKind = "linear"
    """Of the blocks: a linear map each, the same through an SE bottleneck, or PixArt's shared map with tables."""
    se_ratio: int = 2
    """Width over bottleneck width, where modulation is "se"."""

    is_isotropic: ClassVar[bool] = True
    rotary: ClassVar[bool]
    published_as: ClassVar[tuple[str, str]]
    """Names of the network, without and with `drop_variance`."""

    def __post_init__(self) -> None:
        """Raise ValueError for counts below 1 and for widths that do not divide."""
        counts = ("hidden_size", "depth", "num_heads", "patch_size", "se_ratio")
        check_sizes(self.class_dropout_prob, **{name: getattr(self, name) for name in counts})
        if self.hidden_size % 4 or self.hidden_size % self.num_heads:
            raise ValueError(
                f"got hidden_size {self.hidden_size}, expected a multiple of 4 and of {self.num_heads} heads"
            )
        if self.rotary and (self.hidden_size // self.num_heads) % 4:
            raise ValueError(f"got head width {self.hidden_size // self.num_heads}, expected a multiple of 4 (rotary)")
        if self.modulation == "se" and self.hidden_size % self.se_ratio:
            raise ValueError(f"got se_ratio {self.se_ratio}, expected a divisor of hidden_size {self.hidden_size}")

    @property
    def outputs_per_channel(self) -> int:
        return 2 if self.learn_sigma and not self.drop_variance else 1

    @abstractmethod
    def feed_forward(self) -> nn.Module:
        """A block's MLP."""

    def network(self, spec: DataSpec) -> "DiT":
        return DiT(self, spec)

    def flops(self, spec: DataSpec) -> int:
        one, two = (batch_flops(self.resized(depth=depth), spec, 1) for depth in (1, 2))
        return one + (self.depth - 1) * (two - one)  # all blocks are alike

    def describe(self) -> str:
        family = self.published_as[self.drop_variance]
        return f"a {family} of width {self.hidden_size}, {self.depth} blocks and patch {self.patch_size}"

    def data_size(self, tensors: Mapping[str, Tensor]) -> tuple[int, int] | None:
        if "pos_embed" not in tensors:
            return None
        rows, columns = grid_of_table(tensors["pos_embed"])
        return rows * self.patch_size, columns * self.patch_size


@dataclass(frozen=True)
class DiTConfig(TransformerConfig):
    """DiT, or SiT where `drop_variance` is set."""

    mlp_ratio: float = 4.0
    """Width of the MLP over width of the tokens."""

    rotary: ClassVar[bool] = False
    published_as: ClassVar[tuple[str, str]] = "DiT", "SiT"

    def feed_forward(self) -> nn.Module:
        return Mlp(self.hidden_size, int(self.hidden_size * self.mlp_ratio))


@dataclass(frozen=True)
class LLaMAConfig(TransformerConfig):
    """DiT-LLaMA, or SiT-LLaMA where `drop_variance` is set."""

    rotary: ClassVar[bool] = True
    published_as: ClassVar[tuple[str, str]] = "DiT-LLaMA", "DiT-LLaMA"

    def feed_forward(self) -> nn.Module:
        return SwiGLU(self.hidden_size, swiglu_width(self.hidden_size))


class SwiGLU(nn.Module):
    """down(SiLU(c_fc1 x) * c_fc2 x), without biases."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.c_fc1 = nn.Linear(dim, hidden, bias=False)
        self.c_fc2 = nn.Linear(dim, hidden, bias=False)
        self.c_proj = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tokens) -> Tokens:
        return self.c_proj(F.silu(self.c_fc1(x)) * self.c_fc2(x))


def swiglu_width(dim: int) -> int:
    """Two thirds of 4 D, rounded up to a multiple of 256.

    >>> [swiglu_width(dim) for dim in (384, 768, 1024, 1152)]
    [1024, 2048, 2816, 3072]
    """
    return -(8 * dim // 3 // -256) * 256


class DiTBlock(nn.Module):
    """Attention and MLP, each with its shift, scale and gate."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        dim = config.hidden_size
        self.attn = Attention(dim, config.num_heads)
        self.mlp = config.feed_forward()
        if config.modulation == "shared":
            self.scale_shift_table = nn.Parameter(torch.empty(6, dim))
        elif config.modulation == "se":
            self.adaLN_modulation = squeezed_modulation(dim, 6, config.se_ratio)
        else:
            self.adaLN_modulation = modulation(dim, 6)
        self.shared = config.modulation == "shared"

    def forward(self, x: Tokens, c: Float[Tensor, "B 1 C"], positions: Rotation | None) -> Tokens:
        return conditioned_unit(x, self.six(c), partial(self.attn, rotation=positions), self.mlp)

    def six(self, c: Float[Tensor, "B 1 C"]) -> tuple[Tensor, ...]:
        """Shift, scale, gate of the attention, then of the MLP; `c` is (B, 1, D), or the shared (B, 1, 6D)."""
        if self.shared:
            return (c.unflatten(-1, (6, -1)) + self.scale_shift_table).unbind(-2)
        return self.adaLN_modulation(c).chunk(6, dim=-1)


class FinalLayer(nn.Module):
    """Modulated norm, then the linear head."""

    def __init__(self, dim: int, num_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, num_features)
        self.adaLN_modulation = modulation(dim, 2)

    def forward(self, x: Tokens, c: Float[Tensor, "B 1 D"]) -> Float[Tensor, "B N F"]:
        shift, scale = self.adaLN_modulation(c).chunk(2, dim=-1)
        return self.linear(modulated(x, shift, scale))


class DiT(Network):
    """(noisy latents, times, labels) -> prediction: DiT, SiT, DiT-LLaMA or SiT-LLaMA, as the config says.

    `pos_embed` is a buffer: part of the state dict, never trained, never averaged. Rotary families store it unused,
    as their released weights do.
    """

    pos_embed: Tensor

    def __init__(self, config: TransformerConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.starts = {"linear": STARTS, "se": SQUEEZED_STARTS, "shared": SHARED_STARTS}[config.modulation]
        dim, patch = config.hidden_size, config.patch_size
        if spec.height % patch or spec.width % patch:
            raise ValueError(f"got {spec.height} x {spec.width}, expected multiples of the patch size {patch}")
        self.grid = spec.height // patch, spec.width // patch
        self.num_labels = num_labels(spec, config.class_dropout_prob)
        self.x_embedder = PatchEmbedder(spec.channels, dim, patch)
        self.t_embedder = TimestepEmbedder(dim)
        if self.num_labels:
            self.y_embedder = LabelEmbedder(self.num_labels, dim)
        self.register_buffer("pos_embed", torch.empty(1, self.grid[0] * self.grid[1], dim))
        if config.modulation == "shared":
            self.t_block = modulation(dim, 6)
        self.blocks = nn.ModuleList(DiTBlock(config) for _ in range(config.depth))
        self.final_layer = FinalLayer(dim, patch**2 * spec.channels * (2 if config.learn_sigma else 1))

    def forward(self, x: Latents, t: Times, y: Labels | None) -> Float[Tensor, "B Cout H W"]:
        check_inputs(x, t, y, self.spec, self.num_labels)
        tokens, positions = self.place(self.x_embedder(x))
        c = self.condition(t, y)
        block_c = self.t_block(c) if self.config.modulation == "shared" else c
        for block in self.blocks:
            tokens = block(tokens, block_c, positions)
        channels = self.spec.channels * self.config.outputs_per_channel
        return unpatchify(self.final_layer(tokens, c), self.grid, self.config.patch_size, channels)

    def condition(self, t: Times, y: Labels | None) -> Float[Tensor, "B 1 D"]:
        """c = time embedding + label embedding."""
        c = self.t_embedder(timestep_features(t))
        return (c if y is None else c + self.y_embedder(y)).unsqueeze(1)

    def place(self, tokens: Tokens) -> tuple[Tokens, Rotation | None]:
        """Tokens that know their place, by an added table or by the rotation that their attention is to use."""
        if not self.config.rotary:
            return tokens + self.pos_embed, None
        return tokens, rotation(*self.grid, self.config.hidden_size // self.config.num_heads, tokens.device)

    def fixed(self) -> dict[str, Tensor]:
        return {"pos_embed": sincos_table(*self.grid, self.config.hidden_size)}
