"""Where gate, scale and shift live: rows of tensors, found from names and shapes alone.

`find_sites` reads any `Mapping[str, Tensor]`: weights, gradients, EMA, Adam moments, a safetensors file.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from adaln.conditioning.layouts import FAMILIES, STAGES, Layout, Role

__all__ = [
    "Role",
    "Site",
    "UnknownLayout",
    "find_backbone",
    "find_branch_ends",
    "find_family",
    "find_head",
    "find_sites",
    "wrapper_prefix",
]


@dataclass(frozen=True, slots=True)
class Site:
    """The rows of one modulation layer that play one role for one branch."""

    block: str
    """Name of the block without any wrapper's prefix, e.g. "blocks.7", "decoder_level_1.0", "final_layer"."""
    depth: int
    """Place in the forward pass, from the layout, never from file order (safetensors sorts names)."""
    branch: str
    """What is modulated: "attn", "mlp", "attn1", "context_attn", ..., "final"."""
    role: Role
    weight: str | None
    """Tensor name of the matrix; None for a table (PixArt), which is a bias that no condition multiplies."""
    bias: str | None
    rows: slice

    def tensors(self) -> tuple[str, ...]:
        """The names of the tensors that hold the rows."""
        return tuple(name for name in (self.weight, self.bias) if name)


class UnknownLayout(ValueError):
    """The modulation layers of a mapping do not fit any known family, or fit two."""


HEAD = re.compile(r"(final_layer\.(linear|out_proj)|proj_out(_2)?|norm_out\.linear_2)\.(weight|bias)")
"""The last projection, which every scheme of the paper starts at zero."""
BACKBONE = re.compile(
    rf"({'|'.join(STAGES)}|context_refiner)\.\d+\."
    r"((attn|mlp)\d?\..*|(ff|ff_context|feed_forward)\..*|proj_mlp\.|proj_out\.)weight"
)
"""Attention and MLP matrices (Table 6)."""

BRANCH_END = re.compile(r"\.(attn\d?\.(proj|to_out)|mlp\d?\.(fc2|c_proj|project_out\.1))\.weight$")
_SEQUENTIAL = re.compile(r"(.*adaLN_modulation\d?|(?:.*\.)?t_block)\.(\d+)\.weight")
_SINGLE = re.compile(
    r"(?:.*\.)?(?:(?:norm\w*\.linear(?:_1)?|(?:adaln_single|time_embed)\.linear|proj_out_1)\.weight|scale_shift_table)"
    r"|(?i:.*(?:modulation|(?<!_orig)[._]mod)(?:[._].*)?\.weight)"
)
"""What any family calls a modulation layer, known to us or not: none is passed over in silence."""
_STAGE = re.compile(rf"(?:^|(?<=\.))(?:{'|'.join(STAGES)})(?:\.|$)")

Path = tuple[str, ...]
"""The matrices of one modulation path, first to last; only the last holds sites, the others squeeze (SE-adaLN)."""


def find_sites(tensors: Mapping[str, Tensor], family: str | None = None) -> list[Site]:
    """All sites of a model, in forward order; together they partition the rows of every modulation layer exactly.

    Empty where there is no modulation layer at all. `family` (one of `FAMILIES`) decides where two families fit.
    Raises `UnknownLayout` (a `ValueError`) naming the layer that no layout fits, or the two families that fit.
    """
    return _fit(tensors, family)[1]


def find_family(tensors: Mapping[str, Tensor], family: str | None = None) -> str | None:
    """The family whose layouts fit, as `find_sites` finds it; None where there is no modulation layer."""
    return _fit(tensors, family)[0]


def find_head(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the last projection's tensors."""
    return _named_as(HEAD, tensors)


def find_backbone(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the attention and MLP matrices."""
    return [name for name in _named_as(BACKBONE, tensors) if tensors[name].ndim >= 2]


def find_branch_ends(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the last matrix of every attention and MLP of our own families: at zero, its branch adds nothing."""
    return [name for name in find_backbone(tensors) if BRANCH_END.search(name)]


def wrapper_prefix(names: Iterable[str]) -> str:
    """What wrappers put before every name of the model ("module.", "_orig_mod.", "ema.model."), or "".

    Raises `UnknownLayout` where modulation layers stand under two prefixes: then there are two models.
    """
    modulations = (name for name in names if _SEQUENTIAL.fullmatch(name) or _SINGLE.fullmatch(name))
    starts = ((name, _STAGE.search(name)) for name in modulations)
    shortest, *others = sorted({name[: start.start()] for name, start in starts if start}, key=len) or [""]
    for other in others:
        if not other.startswith(shortest):  # what does stands inside the same model
            raise UnknownLayout(f"modulation layers stand under {shortest!r} and {other!r}; expected one model")
    return shortest


def _named_as(pattern: re.Pattern[str], names: Iterable[str]) -> list[str]:
    prefix = wrapper_prefix(names)
    return [name for name in names if name.startswith(prefix) and pattern.fullmatch(name, len(prefix))]


def _fit(tensors: Mapping[str, Tensor], family: str | None) -> tuple[str | None, list[Site]]:
    paths, prefix = _modulation_paths(tensors), wrapper_prefix(tensors)
    if not paths:
        return None, []
    names = list(FAMILIES) if family is None else [family]
    claims = {name: [_claim(FAMILIES[name], path, tensors, prefix) for path in paths] for name in names}
    fits = {name: _in_forward_order(found) for name, found in claims.items() if None not in found}
    if not fits:
        nearest = max(claims, key=lambda name: len(paths) - claims[name].count(None))
        raise _misfit(paths[claims[nearest].index(None)], names, tensors, prefix)
    chosen = next(iter(fits))
    for other in fits:
        if fits[other] != fits[chosen]:
            raise UnknownLayout(
                f"the modulation layers, e.g. {paths[0][-1]!r}, fit both {chosen!r} and {other!r}: name the family"
            )
    return chosen, fits[chosen]


def _modulation_paths(tensors: Mapping[str, Tensor]) -> list[Path]:
    paths: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for name in tensors:
        found = _SEQUENTIAL.fullmatch(name)
        if found:
            paths[found[1]].append((int(found[2]), name))
        elif _SINGLE.fullmatch(name) and tensors[name].ndim >= 2:
            paths[name].append((0, name))
    return [tuple(name for _, name in sorted(path)) for path in paths.values()]


Claim = tuple[tuple[int, int, int], list[Site]]
"""A modulation layer's place in the forward pass (stage, index in the stage, unit in the block) and its sites."""


def _claim(layouts: Sequence[Layout], path: Path, tensors: Mapping[str, Tensor], prefix: str) -> Claim | None:
    """The sites of a modulation layer under the first of the layouts that fits its name and its rows."""
    for layout in layouts:
        match = re.compile(layout.pattern).fullmatch(path[-1], len(prefix))
        width = match and _width(layout, match, path, tensors, prefix)
        if match and width and tensors[path[-1]].shape[0] == len(layout.chunks) * width:
            groups = match.groupdict()
            rank = STAGES.index(groups["stage"]), int(groups.get("index") or 0), int(groups.get("unit") or 0)
            return rank, _sites_of(layout, match["block"], path[-1], width, tensors)
    return None


def _width(layout: Layout, match: re.Match[str], path: Path, tensors: Mapping[str, Tensor], prefix: str) -> int | None:
    """Rows per chunk; None where the tensor that would tell is not in the mapping."""
    if layout.table:
        return 1
    if layout.width_from is None:
        return tensors[path[0]].shape[-1]  # the path's input is the condition, D wide
    witness = prefix + layout.width_from.format(block=match["block"])
    return tensors[witness].shape[-1] if witness in tensors else None


def _sites_of(layout: Layout, block: str, name: str, width: int, tensors: Mapping[str, Tensor]) -> list[Site]:
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


def _in_forward_order(claims: Sequence[Claim | None]) -> list[Site]:
    found = sorted((claim for claim in claims if claim), key=lambda claim: (claim[0], claim[1][0].branch))
    ranks = sorted({rank for rank, _ in found})
    return [replace(site, depth=ranks.index(rank)) for rank, sites in found for site in sites]


def _misfit(path: Path, families: Sequence[str], tensors: Mapping[str, Tensor], prefix: str) -> UnknownLayout:
    """Why no layout takes this modulation layer: its name, or its number of rows."""
    name, expected = path[-1], []
    for family in families:
        for layout in FAMILIES[family]:
            match = re.compile(layout.pattern).fullmatch(name, len(prefix))
            if match:
                width = _width(layout, match, path, tensors, prefix)
                witness = prefix + (layout.width_from or "").format(block=match["block"])
                expected.append(f"{len(layout.chunks)} x {width or f'the width of {witness!r}'} ({family})")
    if not expected:
        return UnknownLayout(f"no layout takes the modulation layer {name!r}; tried: {', '.join(families)}")
    return UnknownLayout(f"{name!r} has {tensors[name].shape[0]} rows, expected {' or '.join(expected)}")
