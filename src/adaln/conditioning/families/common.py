"""The lines and branches that families of several lineages share."""

from collections.abc import Mapping

from adaln.conditioning.family import GROUPS, Layer

SIX = "attn: shift scale gate; mlp: shift scale gate"
CONTEXT_SIX = "context_attn: shift scale gate; context_mlp: shift scale gate"
FINAL_LAYER = Layer("final_layer.adaLN_modulation.*", "final: shift scale")
NORM_OUT = Layer("norm_out.linear", "final: scale shift")
TABLE_START = "tables N(0, 1/D), the shared matrix as torch starts it"


def tables(
    shared: str, block: str, final: str, rows: str = SIX, final_rows: str = "final: shift scale"
) -> tuple[Layer, ...]:
    """The matrix that all blocks share, the table that a block adds, and that of the last layer, which it adds to the
    embedding of the time itself."""
    return (Layer(shared, rows), Layer(block, rows, "table"), Layer(final, final_rows, "table"))


def groups_with_mlp(fc1: str, fc2: str) -> Mapping[str, str]:
    """Groups of matrices where those of the MLP are named otherwise than in most networks."""
    return {**GROUPS, "MLP fc1": rf".*\.{fc1}\.weight", "MLP fc2": rf".*\.{fc2}\.weight"}
