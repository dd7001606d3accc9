"""Where gate, scale and shift live: rows of tensors, found from names and shapes alone.

`find_sites` reads any `Mapping[str, Tensor]`: weights, gradients, EMA, Adam moments, a safetensors file.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from torch import Tensor


class Role(StrEnum):
    """What a row of a modulation layer does; the values are the paper's Greek names."""

    GATE = "alpha"
    SCALE = "gamma"
    SHIFT = "beta"


@dataclass(frozen=True, slots=True)
class Site:
    """The rows of one modulation layer that play one role for one branch."""

    block: str
    """Name of the block, e.g. "blocks.7", "decoder_level_1.0", "final_layer"."""
    depth: int
    """Place in the forward pass, from the layout, never from file order (safetensors sorts names)."""
    branch: str
    """What is modulated: "attn", "mlp", "attn1", ..., "final"."""
    role: Role
    weight: str | None
    """Tensor name of the matrix; None for a table (PixArt), which is a bias that no condition multiplies."""
    bias: str | None
    rows: slice

    def tensors(self) -> tuple[str, ...]:
        """The names of the tensors that hold the rows."""
        return tuple(name for name in (self.weight, self.bias) if name)


Chunk = tuple[str, Role]
_SHIFT_SCALE_GATE = (Role.SHIFT, Role.SCALE, Role.GATE)


def _six(attn: str = "attn", mlp: str = "mlp") -> tuple[Chunk, ...]:
    """DiT's six chunks: shift, scale, gate for attention, then for the MLP."""
    return tuple((branch, role) for branch in (attn, mlp) for role in _SHIFT_SCALE_GATE)


STAGES = (
    "t_block",
    "encoder_level_1",
    "encoder_level_2",
    "latent",
    "decoder_level_2",
    "decoder_level_1",
    "blocks",
    "final_layer",
)
"""The stages of all families in forward order; no model has stages of two families."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How one family names its modulation layers and orders the rows inside them."""

    family: str
    pattern: str
    """Full-match regex of a tensor name; group `block` names the block, `stage`, `index` and `unit` place it."""
    chunks: tuple[Chunk, ...]
    """(branch, role) of each run of rows, first row first."""
    table: bool = False
    """True: the tensor is a (chunks, D) table added to a shared modulation, not a matrix."""


LAYOUTS: tuple[Layout, ...] = (
    Layout("DiT", r"(?P<block>(?P<stage>blocks)\.(?P<index>\d+))\.adaLN_modulation\.\d+\.weight", _six()),
    Layout("shared modulation", r"(?P<block>(?P<stage>t_block))\.\d+\.weight", _six()),
    Layout(
        "shared modulation",
        r"(?P<block>(?P<stage>blocks)\.(?P<index>\d+))\.scale_shift_table",
        _six(),
        table=True,
    ),
    *(
        Layout(
            "U-DiT",
            r"(?P<block>(?P<stage>(en|de)coder_level_\d|latent)\.(?P<index>\d+))"
            rf"\.adaLN_modulation(?P<unit>{unit})\.\d+\.weight",
            _six(f"attn{unit}", f"mlp{unit}"),
        )
        for unit in (1, 2)
    ),
    Layout(
        "final layer",
        r"(?P<block>(?P<stage>final_layer))\.adaLN_modulation\.\d+\.weight",
        (("final", Role.SHIFT), ("final", Role.SCALE)),
    ),
)

HEAD = re.compile(r"final_layer\.(linear|out_proj)\.(weight|bias)")
"""The last projection, which every scheme of the paper starts at zero."""
BACKBONE = re.compile(r"(blocks|(en|de)coder_level_\d|latent)\.\d+\.(attn|mlp)\d?\..*\.?weight")
"""Attention and MLP matrices (Table 6)."""


class UnknownLayout(ValueError):
    """The modulation layers of a mapping do not fit any known family, or fit two."""


def find_sites(tensors: Mapping[str, Tensor]) -> list[Site]:
    """All sites of a model, in forward order; together they partition the rows of every modulation layer exactly.

    Raises `UnknownLayout` (a `ValueError`) naming the tensor where no layout fits.
    """
    ranked: dict[tuple[int, ...], list[list[Site]]] = defaultdict(list)
    for path in _modulation_paths(tensors):
        layout, match = _layout_of(path[-1])
        ranked[_rank(match)].append(_sites_of(layout, match["block"], path, tensors))
    return [
        replace(site, depth=depth)
        for depth, rank in enumerate(sorted(ranked))
        for sites in ranked[rank]
        for site in sites
    ]


def find_head(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the last projection's tensors."""
    return [name for name in tensors if HEAD.fullmatch(name)]


def find_backbone(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the attention and MLP matrices."""
    return [name for name in tensors if BACKBONE.fullmatch(name) and tensors[name].ndim >= 2]


def _modulation_paths(tensors: Mapping[str, Tensor]) -> list[list[str]]:
    """The matrices of each modulation path, first to last; only the last holds sites, the others squeeze (SE-adaLN)."""
    paths: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for name in tensors:
        found = re.fullmatch(r"(.*adaLN_modulation\d?|t_block)\.(\d+)\.weight", name)
        if found:
            paths[found[1]].append((int(found[2]), name))
        elif name.endswith("scale_shift_table"):
            paths[name].append((0, name))
    return [[name for _, name in sorted(path)] for path in paths.values()]


def _layout_of(name: str) -> tuple[Layout, re.Match[str]]:
    for layout in LAYOUTS:
        match = re.fullmatch(layout.pattern, name)
        if match:
            return layout, match
    families = ", ".join(dict.fromkeys(layout.family for layout in LAYOUTS))
    raise UnknownLayout(f"no known layout for the modulation layer {name!r}; known: {families}")


def _rank(match: re.Match[str]) -> tuple[int, int, int]:
    """Sort key of a block: (stage, index in the stage, unit in the block)."""
    groups = match.groupdict()
    return STAGES.index(groups["stage"]), int(groups.get("index") or 0), int(groups.get("unit") or 0)


def _sites_of(layout: Layout, block: str, path: list[str], tensors: Mapping[str, Tensor]) -> list[Site]:
    name, rows = path[-1], tensors[path[-1]].shape[0]
    width = 1 if layout.table else tensors[path[0]].shape[1]  # the path's input is the condition, D wide
    if rows != len(layout.chunks) * width:
        expected = f"{len(layout.chunks)} x {width} of the {layout.family} layout"
        raise UnknownLayout(f"{name!r} has {rows} rows, expected {expected}")
    bias = name.removesuffix("weight") + "bias"
    return [
        Site(
            block=block,
            depth=-1,
            branch=branch,
            role=role,
            weight=None if layout.table else name,
            bias=name if layout.table else (bias if bias in tensors else None),
            rows=slice(i * width, (i + 1) * width),
        )
        for i, (branch, role) in enumerate(layout.chunks)
    ]
