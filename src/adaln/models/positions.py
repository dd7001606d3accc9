"""Where a token is: DiT's added sin-cos table, the rotary angles of DiT-LLaMA and U-DiT. Columns come before rows."""

# mypy: disable-error-code="no-any-return,no-untyped-call"
# torch types the call of a module as Any and leaves `unflatten` untyped.

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


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
    """Rows and columns of the grid whose sin-cos table this is (up to the rounding of years of averaging)."""
    num_tokens, dim = table.shape[-2:]
    for rows in range(1, num_tokens + 1):
        if num_tokens % rows == 0 and dim % 4 == 0:
            grid = rows, num_tokens // rows
            if torch.allclose(table.float().reshape(1, num_tokens, dim), sincos_table(*grid, dim), rtol=0, atol=1e-2):
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
