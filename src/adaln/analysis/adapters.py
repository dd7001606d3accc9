"""What a LoRA file does to a network's conditioning: which modulation layers it touches, and by how much per role.

An adapter adds (alpha / rank) * B A to a matrix. Its Frobenius norm over the rows of one role follows from B's rows and
the rank x rank matrix A A^T, without the update itself. Roles are those of the known families whose modulation layers
are called so and have as many chunks; where two families differ, or none fits, a layer's update is given as a whole.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import torch
from torch import Tensor

from adaln.conditioning import FAMILIES
from adaln.conditioning.family import Chunk, chunks, name_pattern
from adaln.conditioning.suspicion import is_suspicious
from adaln.files import reading
from adaln.report import Cell, Column, Shown, Table
from adaln.tensor_files import open_adapter

_DOWN = re.compile(r"(.+?)\.(?:lora_A(?:\.\w+)?|lora_down|lora\.down|lora_linear_layer\.down)\.weight")
_BEFORE = re.compile(
    r"(?:(?:base_model|model|diffusion_model|transformer|unet|module)\.|(?:lora_(?:unet|transformer)|lycoris)_"
    r"|transformer_(?=\w+_\d))+"
)
"""What libraries put before the names of the network itself; kohya's have underscores for dots."""
_LAYER = re.compile(
    r"(.+?)(?:\.|_(?=lora\.))((?:lora|lokr|hada|oft|dora|diff|modules_to_save|alpha|weight|bias)(?:[._].*)?)"
)
"""A layer, and what an adapter, of whatever kind, has for it."""


@dataclass(frozen=True, slots=True)
class AdaptedLayer:
    """One matrix that an adapter changes."""

    layer: str
    """The network's own name of it, as far as the file tells; kohya's files have underscores for dots."""
    rank: int
    alpha: float | None
    """None: nothing says it, and B A is added as it is."""
    shape: tuple[int, int]
    norm: float
    """Frobenius norm of what is added."""
    by_role: Mapping[str, float]
    """The same over the rows of each role; empty where no family tells roles."""


@dataclass(frozen=True, slots=True)
class AdapterAudit(Shown):
    """What an adapter touches of gate, scale and shift."""

    num_layers: int
    """Layers that it changes in all, whether they are read or not."""
    families: tuple[str, ...]
    """The known families whose modulation layers these may be."""
    layers: tuple[AdaptedLayer, ...]
    """The modulation layers among them, of which low-rank pairs are read."""
    by_role: Mapping[str, float]
    """Frobenius norm of the update per role, over all those layers."""
    unread: tuple[str, ...]
    """What the file holds besides low-rank pairs: other kinds of adapter, halves of pairs, whole matrices."""
    unread_modulation: tuple[str, ...]
    """The tensors among these that change modulation layers."""

    def blocks(self) -> list[str | Table]:
        """In a sentence what it touches, then role by role and layer by layer."""
        unread = [f"warning: not read: {', '.join(self.unread)}"] if self.unread else []
        if names := self.unread_modulation:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            unread.insert(0, f"warning: modulation is changed by what is not read: {', '.join(names[:3])}{more}")
        what = f"an adapter (LoRA) of {self.num_layers} layers"
        if not self.layers:
            touched = "modulation by no low-rank pair" if self.unread_modulation else "no modulation layer"
            return [f"{what}, which touches {touched}", *unread]
        ranks = sorted({layer.rank for layer in self.layers})
        family = f" as of {' or '.join(self.families)}" if self.families else ", of no known family"
        summary = f"{what}, {len(self.layers)} of them modulation layers{family}, rank {', '.join(map(str, ranks))}"
        roles: list[list[Cell]] = [[role, norm] for role, norm in self.by_role.items()]
        columns = [Column("role"), Column("norm of the update", format=".3g")]
        tables = [Table("Update by role", columns, roles)] if roles else []
        return [summary, *tables, _layer_table(self.layers), *unread]


def audit_adapter(path: Path) -> AdapterAudit | None:
    """What the adapter in a file or folder does to gate, scale and shift; None where it holds no adapter.

    `alpha` stands in the file, or in the adapter_config.json beside it. Raises `ValueError` for a damaged file.
    """
    tensors = open_adapter(path)
    if tensors is None:
        return None
    alpha = _configured_alpha(path)
    pairs = list(_pairs(tensors))
    shapes = {layer: (len(tensors[up]), tensors[down].flatten(1).shape[1]) for layer, down, up in pairs}
    modulating = [pair for pair in pairs if _may_modulate(pair[0], shapes[pair[0]][1])]
    rows = _roles({layer: shapes[layer] for layer, _, _ in modulating})
    layers = tuple(
        _adapted(layer, tensors[down], tensors[up], _alpha(tensors, down, alpha), rows.get(layer, ((), ()))[1])
        for layer, down, up in modulating
    )
    by_role: dict[str, float] = defaultdict(float)
    for adapted in layers:
        for role, norm in adapted.by_role.items():
            by_role[role] += norm**2
    read = {name for _, down, up in pairs for name in (down, up)}
    parts = {name: _layer_and_part(name) for name in tensors}
    left = [name for name in tensors if name not in read and parts[name][1] != "alpha"]
    families = tuple(dict.fromkeys(family for names, _ in rows.values() for family in names))
    return AdapterAudit(
        len({layer for layer, _ in parts.values()}),
        families,
        layers,
        {role: sqrt(total) for role, total in by_role.items()},
        unread=tuple(sorted({parts[name][1] for name in left})),
        unread_modulation=tuple(name for name in left if _may_modulate(parts[name][0])),
    )


def _configured_alpha(path: Path) -> float | None:
    config = (path if path.is_dir() else path.parent) / "adapter_config.json"
    if not config.is_file():
        return None
    with reading(config, "the config of an adapter"):
        row = json.loads(config.read_text(encoding="utf-8"))
        alpha = row.get("lora_alpha", row.get("alpha"))  # of LoRA, of LoHa and LoKr
        return None if alpha is None else float(alpha)


def _layer_and_part(name: str) -> tuple[str, str]:
    """The network's own name of the layer that a tensor changes, and the rest of its name."""
    match = _LAYER.fullmatch(name)
    layer, part = (match[1], match[2]) if match else (name, name.rpartition(".")[2])
    return _BEFORE.sub("", layer, count=1) if _BEFORE.match(layer) else layer, part


def _pairs(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, str, str]]:
    """The network's own name of each changed matrix, and the names of A and B."""
    for down in tensors:
        if match := _DOWN.fullmatch(down):
            ending = down.removeprefix(match[1])
            up = match[1] + ending.replace("lora_A", "lora_B").replace("down", "up")
            if up in tensors and _multiply(tensors[up], tensors[down]):
                yield _layer_and_part(down)[0], down, up


def _multiply(up: Tensor, down: Tensor) -> bool:
    """Whether B A is a matrix, with ones behind their shapes as convolutions have them or without."""
    return min(up.ndim, down.ndim) >= 2 and up.flatten(1).shape[1] == len(down) > 0


def _alpha(tensors: Mapping[str, Tensor], down: str, configured: float | None) -> float | None:
    layer = _DOWN.fullmatch(down)
    stored = tensors.get(f"{layer[1]}.alpha") if layer else None
    return configured if stored is None else float(stored)


def _may_modulate(layer: str, num_columns: int = 2) -> bool:
    return any(is_suspicious(f"{name}.weight", (1, num_columns)) for name in (layer, layer.replace("_", ".")))


def _roles(shapes: Mapping[str, tuple[int, int]]) -> dict[str, tuple[tuple[str, ...], Sequence[Chunk]]]:
    """Of each layer the families that know it, and its chunks if those that know the most layers agree on them."""
    claims = {layer: _claims(layer, *shape) for layer, shape in shapes.items()}
    counts: dict[str, int] = defaultdict(int)
    for claimed in claims.values():
        for family in claimed:
            counts[family] += 1
    best = max(counts.values(), default=0)
    known = {}
    for layer, claimed in claims.items():
        fitting = {family: rows for family, rows in claimed.items() if counts[family] == best}
        roles = {tuple(chunk.role for chunk in rows): rows for rows in fitting.values()}
        known[layer] = tuple(fitting), next(iter(roles.values())) if len(roles) == 1 else ()
    return known


def _claims(layer: str, num_rows: int, num_columns: int) -> dict[str, Sequence[Chunk]]:
    """By family the chunks of the first line that fits; a condition as wide as the chunks says more than another."""
    as_wide: dict[str, Sequence[Chunk]] = {}
    others: dict[str, Sequence[Chunk]] = {}
    for family, row in FAMILIES.items():
        for line in row.layers:
            parts = chunks(line.rows)
            is_uneven = not line.is_matrix or isinstance(line.width_of, tuple) or num_rows % len(parts)
            if is_uneven or not re.fullmatch(name_pattern(line).pattern.replace(r"\.", "[._]"), f"{layer}.weight"):
                continue
            if num_rows == len(parts) * num_columns:
                as_wide.setdefault(family, parts)
            elif line.width_of:
                others.setdefault(family, parts)
    return as_wide or others


def _adapted(layer: str, down: Tensor, up: Tensor, alpha: float | None, rows: Sequence[Chunk]) -> AdaptedLayer:
    a, b = down.flatten(1).double(), up.flatten(1).double()
    rank = len(a)
    scale = 1.0 if alpha is None else alpha / rank
    squares = ((b @ (a @ a.T)) * b).sum(1).clamp_min(0)  # of each row of B A
    by_role: dict[str, float] = defaultdict(float)
    for chunk, part in zip(rows, squares.chunk(len(rows)) if rows else (), strict=True):
        by_role[chunk.role.name.lower()] += float(part.sum())
    norms = {role: scale * sqrt(total) for role, total in by_role.items()}
    return AdaptedLayer(layer, rank, alpha, (len(b), a.shape[1]), scale * sqrt(float(torch.sum(squares))), norms)


def _layer_table(layers: Sequence[AdaptedLayer]) -> Table:
    columns = [
        Column("layer"),
        Column("shape"),
        Column("rank"),
        Column("alpha", format="g"),
        Column("norm of the update", format=".3g"),
        *(Column(role, format=".3g") for role in ("gate", "scale", "shift")),
    ]
    rows: list[list[Cell]] = [
        [
            layer.layer,
            "x".join(map(str, layer.shape)),
            layer.rank,
            "none" if layer.alpha is None else layer.alpha,
            layer.norm,
            *(layer.by_role.get(role, "") for role in ("gate", "scale", "shift")),
        ]
        for layer in layers
    ]
    notes = ["Frobenius norms of (alpha / rank) * B A; without alpha of B A. By role where a known family tells roles."]
    return Table("Modulation layers that it changes", columns, rows, notes)
