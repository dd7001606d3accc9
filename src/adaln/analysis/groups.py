"""Which values are looked at together: a role over all blocks, in one block, in one branch; and every other module."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from adaln.conditioning import Site, find_sites


@dataclass(frozen=True, slots=True)
class Group:
    """Values that form one distribution. None where the group spans all of them."""

    name: str
    """A role ("gate", "final scale", ...), "gate bias", "gate table" (PixArt's tables), or one of `MODULES`."""
    block: str | None = None
    depth: int | None = None
    """Place of the block in the forward pass."""
    branch: str | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one tensor, and every group that they count in."""

    tensor: str
    rows: slice
    groups: tuple[Group, ...]


MODULES: Mapping[str, re.Pattern[str]] = {
    "final head": re.compile(r"final_layer\.(linear|out_proj)\.weight|proj_out_2\.weight"),
    "attention": re.compile(r".*\.attn\d?\.(qkv|proj|(to_|add_)(qkv|q|k|v|out|add_out)(_proj)?(\.0)?)\.weight"),
    "MLP fc1": re.compile(r".*\.(mlp\d?\.(fc1|c_fc[12]|w12|project_in\.\d)|ff(_context)?\.net\.0\.proj)\.weight"),
    "MLP fc2": re.compile(r".*\.(mlp\d?\.(fc2|c_proj|w3|project_out\.\d)|ff(_context)?\.net\.2)\.weight"),
    "patch embedder": re.compile(r"(x_embedder|pos_embed)\.proj\.weight"),
    "label embedder": re.compile(r"(.*\.)?(y_embedder(_\d)?|class_embedder)\.embedding_table\.weight"),
    "timestep embedder": re.compile(r"(.*\.)?(t_embedder(_\d)?\.mlp\.[02]|timestep_embedder\.linear_[12])\.weight"),
    "ControlNet zero convolution": re.compile(
        r"controlnet_(down_blocks\.\d+|mid_block|cond_embedding\.conv_out)\.weight"
        r"|(.*\.)?(zero_convs\.\d+\.0|middle_block_out\.0|input_hint_block\.14)\.weight"
    ),
}
"""Name patterns of the modules whose distributions the paper shows besides the roles (Figures 15 to 20)."""


def groups_of(site: Site, *, by_branch: bool) -> tuple[Group, ...]:
    """The groups of a site: all blocks, its block, its branch there; the final layer stands alone (Figures 8, 14)."""
    role = site.role.name.lower() + ("" if site.weight else " table")
    if site.branch == "final":
        return (Group(f"final {role}"),)
    groups = Group(role), Group(role, site.block, site.depth), Group(role, site.block, site.depth, site.branch)
    return groups if by_branch else groups[:2]


def pieces(tensors: Mapping[str, Tensor]) -> Iterator[Piece]:
    """Every piece of a model that belongs to a group, roles first; reads names and shapes only."""
    yield from role_pieces(tensors)
    for module, pattern in MODULES.items():
        for name in sorted(tensors):  # never the order of the mapping: files sort names, models do not
            if pattern.fullmatch(name):
                yield Piece(name, slice(0, tensors[name].shape[0]), (Group(module),))


def role_pieces(tensors: Mapping[str, Tensor]) -> Iterator[Piece]:
    """The pieces that are gate, scale or shift, in forward order: matrices, their biases, and tables."""
    for site in find_sites(tensors):
        yield Piece(site.tensors()[0], site.rows, groups_of(site, by_branch=True))
        if site.weight and site.bias:
            groups = groups_of(site, by_branch=False)
            yield Piece(site.bias, site.rows, tuple(replace(group, name=f"{group.name} bias") for group in groups))
