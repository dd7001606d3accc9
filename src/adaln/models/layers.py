"""The parts that the families share: embedders, positions, attention, MLP. Of positions columns come before rows."""

# mypy: disable-error-code="no-any-return,no-untyped-call"
# torch types the call of a module as Any and leaves `unflatten` untyped.

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from adaln.models.config import NUM_TIME_FEATURES
from adaln.products import gelu_of_product, has_gelu_product
from adaln.types import Labels, Latents, Times, Tokens


def timestep_features(t: Times) -> Float[Tensor, "B 256"]:
    """[cos(t f_0), ..., cos(t f_127), sin(t f_0), ..., sin(t f_127)] with f_i = 10000^(-i/128), in float32.

    `t` enters unscaled: steps 0..999 for DDPM, [0, 1] for flow matching; fractions are allowed.
    """
    half = NUM_TIME_FEATURES // 2
    exponents = torch.arange(half, dtype=torch.float32, device=t.device) / half
    angles = t[:, None].float() * torch.exp(-math.log(10_000) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimestepEmbedder(nn.Module):
    """Time features -> Linear -> SiLU -> Linear."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(NUM_TIME_FEATURES, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, features: Float[Tensor, "B 256"]) -> Float[Tensor, "B D"]:
        return self.mlp(features.to(next(self.parameters()).dtype))


class LabelEmbedder(nn.Module):
    """One vector per class; the last row is the null class of classifier-free guidance, where there is one.

    Labels are never dropped here: whoever trains replaces them, so that `train()` and `eval()` are one function.
    """

    def __init__(self, num_labels: int, dim: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(num_labels, dim, _weight=torch.empty(num_labels, dim))

    def forward(self, y: Labels) -> Float[Tensor, "B D"]:
        return self.embedding_table(y)


class PatchEmbedder(nn.Module):
    """Patches -> tokens, row by row: a convolution whose kernel equals its stride, computed as the linear map it is."""

    def __init__(self, channels: int, dim: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(channels, dim, patch_size, stride=patch_size)

    def forward(self, x: Latents) -> Tokens:
        return F.linear(patchify(x, self.patch_size), self.proj.weight.flatten(1), self.proj.bias)


def patchify(x: Latents, patch_size: int) -> Float[Tensor, "B N P"]:
    """Image -> patches, row by row, of values ordered (channel, row in patch, column in patch)."""
    patches = x.unflatten(3, (-1, patch_size)).unflatten(2, (-1, patch_size))
    return patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpatchify(
    tokens: Float[Tensor, "B N F"], grid: tuple[int, int], patch_size: int, keep: int
) -> Float[Tensor, "B keep H W"]:
    """Token features ordered (row in patch, column in patch, channel) -> image of the first `keep` channels."""
    patches = tokens.unflatten(1, grid).unflatten(-1, (patch_size, patch_size, -1))[..., :keep]
    return patches.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def sincos_table(height: int, width: int, dim: int) -> Float[Tensor, "1 N D"]:
    """Frozen positions, added once: [sin(c w), cos(c w), sin(r w), cos(r w)] for the token at row r, column c.

    w_j = 10000^(-j / (dim/4)), j = 0..dim/4-1. Positions are the integers 0..height-1, 0..width-1, neither normalised
    nor interpolated. Computed in float64, stored in float32. `dim` is a multiple of 4.
    """
    quarter = dim // 4
    frequencies = 10_000.0 ** (-torch.arange(quarter, dtype=torch.float64, device="cpu") / quarter)
    rows, columns = _grid(height, width, frequencies)
    return torch.cat([columns.sin(), columns.cos(), rows.sin(), rows.cos()], dim=-1).float()[None]


def grid_of_table(table: Tensor) -> tuple[int, int]:
    """Rows and columns of the grid whose sin-cos table this is, however rounded: years of averaging, or float8's 1/16.

    Tables of two grids are apart by more than 1/2 somewhere.
    """
    if not table.isfinite().all():
        raise ValueError("pos_embed holds values that are not finite: damaged weights")
    num_tokens, dim = table.shape[-2:]
    for rows in range(1, num_tokens + 1):
        if num_tokens % rows == 0 and dim % 4 == 0:
            grid = rows, num_tokens // rows
            if torch.allclose(table.float().reshape(1, num_tokens, dim), sincos_table(*grid, dim), rtol=0, atol=0.07):
                return grid
    raise ValueError(f"pos_embed of shape {tuple(table.shape)} is the sin-cos table of no grid; expected --size")


class Rotation(NamedTuple):
    """Cosine and sine of the angle by which each adjacent pair of channels turns, per token: (N, head_dim / 2) each."""

    cos: Tensor
    sin: Tensor


def rotation(height: int, width: int, head_dim: int, device: torch.device) -> Rotation:
    """Rotary angles of a grid: pair 2i turns by column * f_i, pair 2i + 1 by row * f_i, f_i = 10000^(-4i / head_dim).

    In float32, `head_dim` a multiple of 4. Cheap enough to be made in each forward pass: no table to store or load.
    """
    quarter = head_dim // 4
    frequencies = 10_000.0 ** (-torch.arange(quarter, dtype=torch.float32, device=device) / quarter)
    rows, columns = _grid(height, width, frequencies)
    angles = torch.stack([columns, rows], dim=-1).flatten(-2)
    return Rotation(angles.cos(), angles.sin())


def unturned(by: Rotation, count: int) -> Rotation:
    """The same behind so many tokens that do not turn."""
    return Rotation(F.pad(by.cos, (0, 0, count, 0), value=1.0), F.pad(by.sin, (0, 0, count, 0)))


def rotate(x: Float[Tensor, "*rest N d"], by: Rotation) -> Float[Tensor, "*rest N d"]:
    """(a, b) -> (a cos - b sin, a sin + b cos) for each adjacent pair of channels, in float32 at least."""
    precise = torch.promote_types(x.dtype, torch.float32)
    a, b = x.to(precise).unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([a * by.cos - b * by.sin, a * by.sin + b * by.cos], dim=-1).flatten(-2).to(x.dtype)


def _grid(height: int, width: int, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """Row * frequency and column * frequency of every token, row by row: two (N, F) tensors."""
    rows = torch.arange(height, dtype=frequencies.dtype, device=frequencies.device)[:, None].expand(height, width)
    columns = torch.arange(width, dtype=frequencies.dtype, device=frequencies.device).expand(height, width)
    return rows.flatten()[:, None] * frequencies, columns.flatten()[:, None] * frequencies


class Attention(nn.Module):
    """Multi-head self-attention with a bias on q, k, v; positions rotate q and k where a `rotation` is given."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tokens, rotation: Rotation | None) -> Tokens:
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        if rotation is not None:
            q, k = rotate(qkv[:2], rotation).unbind(0)
        return self.proj(attended(q, k, v).transpose(1, 2).flatten(2))


def attended(
    q: Float[Tensor, "B heads N d"], k: Float[Tensor, "B heads N d"], v: Float[Tensor, "B heads N d"]
) -> Float[Tensor, "B heads N d"]:
    """softmax(q k^T / sqrt(d)) v.

    In bfloat16 on the CPU as plain products, which the processor has instructions for and torch's fused kernel does not
    use: a third of its time. That rounds q k^T to bfloat16; next to the rounding of the other products this does not
    show in the network's output or gradient. Only while q k^T is no larger than the hidden layer of an MLP: N <= 4 d.
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.shape[-2] <= 4 * q.shape[-1]:
        return ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v)


class Mlp(nn.Module):
    """Linear -> GELU (tanh form) -> Linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tokens) -> Tokens:
        return self.fc2(gelu(self.fc1(x)))


class InferenceMlp(Mlp):
    """`Mlp` of a network that is not trained any more: GELU comes out of the first product where the CPU can."""

    def forward(self, x: Tokens) -> Tokens:
        return self.fc2(gelu_of_product(x, self.fc1)) if has_gelu_product(x, self.fc1) else super().forward(x)


def fuse_for_inference(model: nn.Module) -> None:
    """Let every MLP of a network that is not trained any more be an `InferenceMlp`, in place."""
    for module in model.modules():
        if type(module) is Mlp:
            module.__class__ = InferenceMlp


def gelu(x: Float[Tensor, "*rest"]) -> Float[Tensor, "*rest"]:
    """GELU in its tanh form, x (1 + tanh u) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3).

    torch.compile writes it as x sigmoid(2 u), the same function, whose one exponential takes a third of tanh's time on
    the CPU, forward and backward.
    """
    if not torch.compiler.is_compiling():
        return F.gelu(x, approximate="tanh")
    precise = x.to(torch.promote_types(x.dtype, torch.float32))
    u = math.sqrt(2 / math.pi) * (precise + 0.044715 * precise**3)
    return (precise * torch.sigmoid(2 * u)).to(x.dtype)
