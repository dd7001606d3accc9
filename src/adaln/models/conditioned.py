"""How a condition acts on tokens: the maps that give shift, scale and gate, and the branches that they modulate.

Conditioning arrives with the rank of the tokens, (B, 1, D), and broadcasts.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from adaln.models.mechanism import Chunk, Function, Mechanism

PLAIN = Mechanism()
LAST = PLAIN.chunks[:2]
"""Of the last layer, in every network: shift and scale."""
FUNCTIONS: Mapping[Function, Callable[[Tensor], Tensor]] = {
    "identity": lambda value: value,
    "one_plus": lambda value: 1 + value,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


def modulation(dim: int, num_chunks: int) -> nn.Sequential:
    """c -> `num_chunks` vectors of width `dim`, as one row-stacked linear map of SiLU(c)."""
    return nn.Sequential(nn.SiLU(), nn.Linear(dim, num_chunks * dim))


def squeezed_modulation(dim: int, num_chunks: int, ratio: int) -> nn.Sequential:
    """SE-adaLN: the linear map of `modulation` through a bottleneck of width dim / ratio.

    Source: the journal version (arXiv 2608.09438) for layout and ratio; it does not name the activation in between:
    ReLU, as in squeeze-and-excitation, is our reading.
    """
    inner = dim // ratio
    return nn.Sequential(nn.SiLU(), nn.Linear(dim, inner), nn.ReLU(), nn.Linear(inner, num_chunks * dim))


def low_rank_modulation(dim: int, num_chunks: int, rank: int) -> nn.Sequential:
    """The linear map of `modulation` as a product of two, without biases: adaLN-LoRA."""
    return nn.Sequential(nn.SiLU(), nn.Linear(dim, rank, bias=False), nn.Linear(rank, num_chunks * dim, bias=False))


def own_modulation(how: Mechanism, dim: int) -> nn.Module | nn.Parameter | None:
    """What a block has of its own: a map, PixArt's table, or nothing."""
    num_chunks = 2 * len(how.chunks)
    match how.modulation:
        case "linear":
            return modulation(dim, num_chunks)
        case "se":
            return squeezed_modulation(dim, num_chunks, how.se_ratio)
        case "low-rank":
            return low_rank_modulation(dim, num_chunks, how.rank)
        case "shared":
            return nn.Parameter(torch.empty(num_chunks, dim))
    return None


def normed(x: Float[Tensor, "B *space D"], norm: str = "layer") -> Float[Tensor, "B *space D"]:
    """LayerNorm or RMSNorm without weights, eps 1e-6."""
    return (F.layer_norm if norm == "layer" else F.rms_norm)(x, x.shape[-1:], eps=1e-6)


class Vectors(NamedTuple):
    """What is added, multiplies and gates in a branch (for a scale s of DiT 1 + s); None: nothing does."""

    shift: Tensor | None = None
    scale: Tensor | None = None
    gate: Tensor | None = None


def vectors_of(values: Sequence[Tensor], chunks: Sequence[Chunk], static_gate: Tensor | None = None) -> Vectors:
    """What the numbers of a branch's chunks are once they went through their functions."""
    through = {chunk.role: FUNCTIONS[chunk.function](value) for chunk, value in zip(chunks, values, strict=True)}
    return Vectors(**{"gate": static_gate, **through})


def modulated(x: Float[Tensor, "B *space D"], vectors: Vectors) -> Float[Tensor, "B *space D"]:
    """x * scale + shift, of what there is."""
    shift, scale, _ = vectors
    if scale is None:
        return x if shift is None else x + shift
    return x * scale if shift is None else torch.addcmul(shift, x, scale)


def add_branch(
    x: Float[Tensor, "B *space D"], branch: Callable[[Tensor], Tensor], vectors: Vectors, how: Mechanism = PLAIN
) -> Float[Tensor, "B *space D"]:
    """x + gate * F(norm(x) * scale + shift), the paper's section 1; modulated after, x + F(norm(x)) * scale + shift."""
    entering = normed(x, how.norm)
    if how.post_modulation:
        return x + modulated(branch(entering), vectors)
    leaving = branch(modulated(entering, vectors))
    return x + leaving if vectors.gate is None else torch.addcmul(x, vectors.gate, leaving)
