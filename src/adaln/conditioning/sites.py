"""A site: rows of tensors that play one role for one branch of one block."""

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
    """Tensor name of the matrix; None for a table (PixArt), which is a bias that no condition multiplies."""
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
