"""Where gate, scale and shift live: rows of tensors, found from names and shapes alone.

`find_sites` reads any `Mapping[str, Tensor]`: weights, gradients, EMA, Adam moments, a safetensors file.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from torch import Tensor, nn

from adaln.conditioning.families import FAMILIES
from adaln.conditioning.family import Family, Layer, Role, chunks, name_pattern


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
    function: str = ""
    """What its value goes through first, one of `VALUE_FUNCTIONS`."""

    def tensors(self) -> tuple[str, ...]:
        """The names of the tensors that hold the rows."""
        return tuple(name for name in (self.weight, self.bias) if name)


class UnknownLayout(ValueError):
    """The modulation layers of a mapping do not fit any known family, or fit two."""


_IN_SEQUENCE = r".*adaLN_modulation\d?|(?:.*\.)?t_block"
_ALONE = (
    r"(?:.*\.)?(?:(?:norm\w*\.linear(?:_1)?|(?:adaln_single|time_embed)\.linear|proj_out_1)\.weight|scale_shift_table)"
    r"|(?i:.*(?:modulation|(?<!_orig)[._]mod)(?:[._].*)?\.weight)"
)
"""What anyone calls a modulation layer, known to us or not: none is passed over in silence."""

ModulationPath = tuple[str, ...]
"""The matrices of one modulation path, first to last; only the last holds sites, the others squeeze (SE-adaLN)."""


def find_sites(model: nn.Module | Mapping[str, Tensor], family: str | None = None) -> list[Site]:
    """All sites of a model, in forward order; together they partition the rows of every modulation layer exactly.

    Empty where there is no modulation layer at all. `family` (one of `FAMILIES`) decides where two families fit.
    Raises `UnknownLayout` (a `ValueError`) naming the layer that no layout fits, or the two families that fit.

    >>> import torch, adaln
    >>> six = torch.zeros(6 * 8, 8)  # shift, scale, gate of the attention, then of the MLP, each 8 rows
    >>> sites = adaln.find_sites({f"blocks.{i}.adaLN_modulation.1.weight": six for i in range(2)})
    >>> len(sites), sites[2].block, sites[2].branch, sites[2].role.name, sites[2].rows
    (12, 'blocks.0', 'attn', 'GATE', slice(16, 24, None))
    """
    if not isinstance(model, nn.Module | Mapping):
        raise ValueError(f"model is a {type(model).__name__}; expected a network or tensors by name")
    return _fit(dict(model.named_parameters()) if isinstance(model, nn.Module) else model, family)[1]


def find_family(tensors: Mapping[str, Tensor], family: str | None = None) -> str | None:
    """The family whose layouts fit, as `find_sites` finds it; None where there is no modulation layer."""
    return _fit(tensors, family)[0]


def family_of(tensors: Mapping[str, Tensor], family: str | None = None) -> Family:
    """The row of the family that `find_family` finds; a bare `Family` where there is no modulation layer."""
    name = find_family(tensors, family)
    return FAMILIES[name] if name else Family()


def find_head(tensors: Mapping[str, Tensor], family: str | None = None) -> list[str]:
    """Names of the last projection's tensors."""
    return _named(rf"({_any_of(family_of(tensors, family).head)})\.(weight|bias)", tensors)


def find_backbone(tensors: Mapping[str, Tensor], family: str | None = None) -> list[str]:
    """Names of the attention and MLP matrices."""
    names = _named(rf"\w+\.\d+\.({_any_of(family_of(tensors, family).backbone)})\.(.*\.)?weight", tensors)
    return [name for name in names if tensors[name].ndim >= 2]


def find_branch_ends(tensors: Mapping[str, Tensor], family: str | None = None) -> list[str]:
    """Names of the last matrix of every attention and MLP, where the family says them: at zero, it adds nothing."""
    return _named(rf"\w+\.\d+\.({_any_of(family_of(tensors, family).branch_ends)})\.weight", tensors)


def _any_of(words: str) -> str:
    """Pattern of any of these names; of none where there are none."""
    return words.replace(".", r"\.").replace(" ", "|") or "(?!)"


def _named(pattern: str, names: Iterable[str]) -> list[str]:
    prefix, compiled = wrapper_prefix(names), re.compile(pattern)
    return [name for name in names if name.startswith(prefix) and compiled.fullmatch(name, len(prefix))]


def wrapper_prefix(names: Iterable[str]) -> str:
    """What wrappers put before every name of the model ("module.", "_orig_mod.", "ema.model."), or "".

    Raises `UnknownLayout` where modulation layers stand under two prefixes: then there are two models.
    """
    stages = "|".join(dict.fromkeys(stage for family in FAMILIES.values() for stage in family.stages))
    stage = re.compile(rf"(?:^|(?<=\.))(?:{stages})(?:\.|$)")
    in_sequence, alone = _layer_names(_all_layers())
    modulations = (name for name in names if in_sequence.fullmatch(name) or alone.fullmatch(name))
    starts = ((name, stage.search(name)) for name in modulations)
    prefixes = {name[: start.start()] for name, start in starts if start}
    shortest, *others = sorted(prefixes, key=lambda prefix: (len(prefix), prefix)) or [""]
    for other in others:
        if not other.startswith(shortest):  # what does stands inside the same model
            raise UnknownLayout(f"modulation layers stand under {shortest!r} and {other!r}; expected one model")
    return shortest


def _fit(tensors: Mapping[str, Tensor], family: str | None) -> tuple[str | None, list[Site]]:
    paths, prefix = _modulation_paths(tensors), wrapper_prefix(tensors)
    if not paths:
        return None, []
    families = dict(FAMILIES) if family is None else {family: FAMILIES[family]}
    claims = {name: [_claim(row, path, tensors, prefix) for path in paths] for name, row in families.items()}
    fits = {name: _in_forward_order(claimed) for name, claimed in claims.items() if None not in claimed}
    if not fits:
        nearest = max(claims, key=lambda name: len(paths) - claims[name].count(None))
        raise _misfit(paths[claims[nearest].index(None)], families, tensors, prefix)
    chosen = next(iter(fits))
    for other in fits:
        if fits[other] != fits[chosen]:
            raise UnknownLayout(
                f"the modulation layers, e.g. {paths[0][-1]!r}, fit both {chosen!r} and {other!r}: name the family"
            )
    return chosen, fits[chosen]


def _modulation_paths(tensors: Mapping[str, Tensor]) -> list[ModulationPath]:
    paths: dict[str, list[tuple[int, str]]] = defaultdict(list)
    in_sequence, alone = _layer_names(_all_layers())
    for name in tensors:
        match = in_sequence.fullmatch(name)
        if match:
            paths[match[1]].append((int(match[2]), name))
        elif alone.fullmatch(name) and tensors[name].ndim >= 2:
            paths[name].append((0, name))
    return [tuple(name for _, name in sorted(path)) for path in paths.values()]


def _all_layers() -> frozenset[Layer]:
    return frozenset(layer for family in FAMILIES.values() for layer in family.layers)


@cache
def _layer_names(layers: frozenset[Layer]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What may be a modulation layer, under any prefix: (name of an nn.Sequential, place in it), and on its own."""
    rows = sorted({re.sub(r"\?P<\w+>", "?:", name_pattern(layer).pattern) for layer in layers})
    place = r"\.\d+\.weight"
    in_sequence = "|".join(row.removesuffix(place) for row in rows if row.endswith(place)) or "(?!)"
    alone = "|".join(row for row in rows if not row.endswith(place)) or "(?!)"
    return (
        re.compile(rf"({_IN_SEQUENCE}|(?:.*\.)?(?:{in_sequence}))\.(\d+)\.weight"),
        re.compile(rf"{_ALONE}|(?:.*\.)?(?:{alone})"),
    )


Claim = tuple[tuple[int, int, int], int, list[Site]]
"""Of a modulation layer: place in the forward pass (stage, index in it, unit in the block), line, and sites."""


def _claim(family: Family, path: ModulationPath, tensors: Mapping[str, Tensor], prefix: str) -> Claim | None:
    """The sites of a modulation layer by the first line of the family that fits its name and its rows."""
    for line, layer in enumerate(family.layers):
        match = name_pattern(layer).fullmatch(path[-1], len(prefix))
        width = match and _width(layer, match["block"], path, tensors, prefix)
        if match and width and tensors[path[-1]].shape[0] == len(chunks(layer.rows)) * width:
            groups = match.groupdict()
            place = family.stages.index(groups["stage"]), int(groups.get("index") or 0), int(groups.get("unit") or 0)
            return place, line, _sites_of(layer, match, path[-1], width, tensors)
    return None


def _width(layer: Layer, block: str, path: ModulationPath, tensors: Mapping[str, Tensor], prefix: str) -> int | None:
    """Rows per chunk; None where the tensor that would tell is not in the mapping."""
    if layer.path == "table":
        return 1
    witness = _witness(layer, block, prefix)
    if witness is None:
        return tensors[path[0]].shape[-1]  # the path's input is the condition, D wide
    return tensors[witness].shape[-1] if witness in tensors else None


def _witness(layer: Layer, block: str, prefix: str) -> str | None:
    """The tensor whose last dimension is D, where a layer's line names one."""
    if not isinstance(layer.width_of, str) or not layer.width_of:
        return None
    inside = block if layer.width_of.startswith(".") else ""
    return f"{prefix}{inside}{layer.width_of}.weight"


def _sites_of(layer: Layer, match: re.Match[str], name: str, width: int, tensors: Mapping[str, Tensor]) -> list[Site]:
    bias, unit = name.removesuffix("weight") + "bias", match.groupdict().get("unit") or ""
    is_table = layer.path == "table"
    return [
        Site(
            block=match["block"],
            depth=-1,
            branch=chunk.branch.replace("#", unit),
            role=chunk.role,
            weight=None if is_table else name,
            bias=name if is_table else (bias if bias in tensors else None),
            rows=slice(i * width, (i + 1) * width),
            function=chunk.function,
        )
        for i, chunk in enumerate(chunks(layer.rows))
    ]


def _in_forward_order(claims: Sequence[Claim | None]) -> list[Site]:
    ordered = sorted((claim for claim in claims if claim), key=lambda claim: claim[:2])
    ranks = sorted({rank for rank, _, _ in ordered})
    return [replace(site, depth=ranks.index(rank)) for rank, _, sites in ordered for site in sites]


def _misfit(
    path: ModulationPath, families: Mapping[str, Family], tensors: Mapping[str, Tensor], prefix: str
) -> UnknownLayout:
    """Why no family takes this modulation layer: its name, or its number of rows."""
    name, expected = path[-1], []
    for family, row in families.items():
        for layer in row.layers:
            match = name_pattern(layer).fullmatch(name, len(prefix))
            if match:
                width = _width(layer, match["block"], path, tensors, prefix)
                each = width or f"the width of {_witness(layer, match['block'], prefix)!r}"
                expected.append(f"{len(chunks(layer.rows))} x {each} ({family})")
    if not expected:
        return UnknownLayout(f"no layout takes the modulation layer {name!r}; tried: {', '.join(families)}")
    return UnknownLayout(f"{name!r} has {tensors[name].shape[0]} rows, expected {' or '.join(expected)}")
