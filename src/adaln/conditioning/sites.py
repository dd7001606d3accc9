"""A site: rows of tensors that play one role for one branch of one block."""

from collections.abc import Iterable
from dataclasses import dataclass

from adaln.conditioning.family import Role


@dataclass(frozen=True, slots=True)
class Site:
    """The rows of one modulation layer that play one role for one branch."""

    block: str
    """Name of the block without any wrapper's prefix, e.g. "blocks.7", "decoder_level_1.0", "final_layer"."""
    depth: int
    """Place in the forward pass, from the layout, never from file order (safetensors sorts names)."""
    branch: str
    """What is modulated: "attn", "mlp", "attn1", "context_attn", ..., "final"; joined by "+" where several are."""
    role: Role
    weight: str | None
    """Tensor name of the matrix; None for a table (PixArt) or a static gate: a bias that no condition multiplies."""
    bias: str | None
    rows: slice
    """Of the tensor as `adaln.types.as_rows` sees it."""
    function: str = ""
    """What its value goes through first, one of `VALUE_FUNCTIONS`."""

    @property
    def is_of_one_block(self) -> bool:
        """Whether its block is one of several; else all blocks share it, or it is the last layer's."""
        return self.block.rpartition(".")[2].isdigit()

    def tensors(self) -> tuple[str, ...]:
        """The names of the tensors that hold the rows."""
        return tuple(name for name in (self.weight, self.bias) if name)


def static_tensors(sites: Iterable[Site]) -> list[str]:
    """The tensors of blocks whose rows no condition moves: no matrix gives their role beside them."""
    sites = tuple(sites)
    moved = {(branch, site.role) for site in sites if site.weight for branch in site.branch.split("+")}
    tables = (site for site in sites if site.weight is None and site.branch != "final")
    return list(dict.fromkeys(site.bias or "" for site in tables if (site.branch, site.role) not in moved))
