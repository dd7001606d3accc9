"""A network's names and shapes as a family reads them: which tensors its lines take, and what speaks against it."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from adaln.conditioning.family import Family, Layer, alternatives, any_of, chunks, name_pattern, parts
from adaln.conditioning.sites import Site
from adaln.types import rows_axis

Shapes = Mapping[str, tuple[int, ...]]
"""By the names of tensors, without wrappers."""


class Claim(NamedTuple):
    """A modulation layer that a line of a family takes."""

    name: str
    """The tensor's own name, the rest of which is `match` of the line's pattern."""
    line: int
    layer: Layer
    match: re.Match[str]
    widths: tuple[int, ...]
    """Rows of each chunk."""


@dataclass(frozen=True)
class Reading:
    """A mapping of tensors as one family reads it."""

    family_name: str
    family: Family
    prefix: str
    claims: tuple[Claim, ...]
    claimed: frozenset[str]
    """All tensors that the family accounts for, by their names without wrappers."""
    why_not: str
    """What speaks against it though its names fit; "" if nothing."""


_BLOCK = re.compile(r"((?:[A-Za-z_]\w*\.)*?[A-Za-z_]\w*)\.(\d+)\.")
Hits = dict[str, list[tuple[str, int]]]
"""By the names that lines stand for, with 0 for every number, the families and the places of the lines in them."""


@cache
def _index(families: tuple[tuple[str, tuple[Layer, ...]], ...]) -> Hits:
    index: Hits = defaultdict(list)
    for family, layers in families:
        for line, layer in enumerate(layers):
            ending = ".weight" if layer.is_matrix else ""
            for name in alternatives(re.sub(r"\bN\b|[*#]", "0", layer.name)):
                index[re.sub(r"\d+", "0", name) + ending].append((family, line))
    return index


def readings(shapes: Shapes, families: Mapping[str, Family], class_name: str) -> list[Reading]:
    """The mapping as each family reads it some of whose names, or whose class, are there."""
    index = _index(tuple((name, family.layers) for name, family in families.items()))
    endings: dict[str, list[tuple[int, list[tuple[str, int]]]]] = {}  # most names differ in their numbers alone
    lines: dict[str, dict[tuple[str, str], list[int]]] = defaultdict(lambda: defaultdict(list))
    for name in shapes:
        zeroed = re.sub(r"\d+", "0", name)
        if zeroed not in endings:
            words = zeroed.split(".")
            suffixes = (".".join(words[start:]) for start in range(len(words)))
            endings[zeroed] = [(start, index[end]) for start, end in enumerate(suffixes) if end in index]
        for start, hits in endings[zeroed]:
            prefix = "".join(f"{word}." for word in name.split(".")[:start])
            for family, line in hits:
                if name_pattern(families[family].layers[line]).fullmatch(name, len(prefix)):
                    lines[family][prefix, name].append(line)
    known = [name for name in families if name in lines or _is_known(families[name], shapes, class_name)]
    read = (_reading(name, families[name], lines[name], shapes) for name in known)
    return [reading for reading in read if _bears_signs(reading, shapes)]


def _bears_signs(reading: Reading, shapes: Shapes) -> bool:
    """Whether the name is there without which the network is none of the family's, if there is such a name."""
    signs = reading.family.signs
    return not signs or any(re.search(signs, name.removeprefix(reading.prefix)) for name in shapes)


def _is_known(family: Family, shapes: Shapes, class_name: str) -> bool:
    """Whether a family without rows is that of the network, by what generates them, its class or its signs."""
    if family.layers:
        return False
    signed = family.signs != "" and any(re.search(family.signs, name) for name in shapes)
    return class_name in family.class_names or signed or _before_generator(family, shapes) is not None


def _before_generator(family: Family, shapes: Shapes) -> str | None:
    """What stands before the network that generates all modulation; None where there is none."""
    pattern = re.compile(rf"((?:\w+\.)*?){re.escape(family.generated_by)}\.")
    first = (match[1] for name in shapes if family.generated_by and (match := pattern.match(name)))
    return next(first, None)


def _reading(
    family_name: str,
    family: Family,
    lines: Mapping[tuple[str, str], list[int]],
    shapes: Shapes,
) -> Reading:
    prefixes = {prefix for prefix, _ in lines} or {_before_generator(family, shapes) or ""}
    prefix = min(prefixes, key=lambda prefix: (len(prefix), prefix))
    paths: dict[tuple[str, int], list[str]] = defaultdict(list)
    for (stood_before, name), those in lines.items():
        if stood_before == prefix:
            in_sequence = family.layers[those[0]].name.endswith(".*")
            paths[name.rsplit(".", 2)[0] if in_sequence else name, those[0]].append(name)
    claims: list[Claim] = []
    claimed: set[str] = set()
    for path in paths.values():
        path.sort(key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
        claim = _claim(family, lines[prefix, path[-1]], path, prefix, shapes)
        if claim:
            claims.append(claim)
            claimed.update(end for name in path for end in (name, name.removesuffix("weight") + "bias"))
    others = any_of(f"{family.no_rows} {family.static_gates} {family.head} {family.generated_by}")
    accounted = re.compile(rf"{re.escape(prefix)}(?:{others})(\..*)?")
    claimed.update(name for name in shapes if accounted.fullmatch(name))
    why_not = _why_not(family, claims, _blocks_of(prefix, shapes))
    return Reading(family_name, family, prefix, tuple(claims), frozenset(claimed), why_not)


def _claim(family: Family, lines: Sequence[int], path: Sequence[str], prefix: str, shapes: Shapes) -> Claim | None:
    """The first of these lines that has the right number of rows for the last matrix of a path."""
    for line in lines:
        layer, name = family.layers[line], path[-1]
        match = name_pattern(layer).fullmatch(name, len(prefix))
        assert match
        if not all(has_rows(layer, shapes[tensor]) for tensor in path):
            continue
        widths = chunk_widths(layer, match["block"], path, prefix, shapes)
        bias = shapes.get(name.removesuffix("weight") + "bias", shapes[name][:1])
        if widths and sum(widths) == num_rows(shapes[name]) and bias[:1] == shapes[name][:1]:
            return Claim(name, line, layer, match, widths)
    return None


def num_rows(shape: tuple[int, ...]) -> int:
    """Rows of a tensor as `adaln.types.as_rows` sees it."""
    return shape[rows_axis(shape)] if shape else 1


def has_rows(layer: Layer, shape: tuple[int, ...]) -> bool:
    """Whether a tensor has as many dimensions as the line's rows need: a matrix two, a table one."""
    return len(shape) >= (2 if layer.is_matrix else 1)


def chunk_widths(layer: Layer, block: str, path: Sequence[str], prefix: str, shapes: Shapes) -> tuple[int, ...]:
    """Rows of each chunk; () where they are no even shares."""
    counts = [len(part) for part in parts(layer.rows)]
    shape = shapes[path[-1]]
    if not layer.is_matrix and len(shape) > 1:
        return (1,) * sum(counts)
    words = (layer.width_of,) * len(counts) if isinstance(layer.width_of, str) else layer.width_of
    widths = []
    for count, word in zip(counts, words, strict=True):
        width = _witnessed(word, block, prefix, shapes)
        if word == "" and layer.is_matrix:
            width = shapes[path[0]][1]  # the path's input is the condition, D wide
        widths += [width or shape[0] // sum(counts)] * count
    return tuple(widths)


def _witnessed(words: str, block: str, prefix: str, shapes: Shapes) -> int:
    """The width of what the first of these modules takes that is there; 0 where none is."""
    for word in words.split():
        name = f"{prefix}{block if word.startswith('.') else ''}{word}"
        for tensor in (f"{name}.weight", name):
            if tensor in shapes:
                return shapes[tensor][min(1, len(shapes[tensor]) - 1)]
    return 0


def _blocks_of(prefix: str, shapes: Shapes) -> Mapping[str, set[int]]:
    """The numbers of the blocks that there are, by stage, with modulation or without."""
    blocks: dict[str, set[int]] = defaultdict(set)
    for name in shapes:
        match = _BLOCK.match(name, len(prefix)) if name.startswith(prefix) else None
        if match:
            blocks[match[1]].add(int(match[2]))
    return blocks


def _why_not(family: Family, claims: Sequence[Claim], blocks: Mapping[str, set[int]]) -> str:
    """What speaks against a family that takes these layers; "" if nothing does."""
    branches = {chunk.branch for claim in claims for chunk in chunks(claim.layer.rows)}
    if family.layers and not family.signs and branches <= {"final"}:
        return "only the last layer is there, no layer of a block"
    numbers: dict[tuple[str, str], set[int]] = defaultdict(set)
    for claim in claims:
        if claim.match.groupdict().get("index"):
            inside = claim.name[claim.match.end("block") :].removesuffix(".weight")
            numbers[claim.match["stage"], inside.rpartition(".")[0] or inside].add(int(claim.match["index"]))
    for (stage, inside), present in numbers.items():
        there = blocks.get(stage, set()) | set(range(max(present)))
        if missing := sorted(there - present):
            return f"{stage}.{missing[0]}{inside} is missing (of blocks up to {max(there)})"
    tables = [claim for claim in claims if claim.layer.path == "table"]
    of_matrices = [chunk for claim in claims if claim.layer.is_matrix for chunk in chunks(claim.layer.rows)]
    shared = {(branch, chunk.role) for chunk in of_matrices for branch in chunk.branch.split("+")}
    for claim in tables:
        if any(chunk[:2] not in shared for chunk in chunks(claim.layer.rows) if chunk.branch != "final"):
            return f"{claim.name!r} is a table, and the matrix that all blocks share is missing"
    of_tables = [layer for layer in family.layers if layer.path == "table" and ".N" in layer.name]
    if of_tables and not any(".N" in claim.layer.name for claim in claims):
        return f"{of_tables[0].name} is missing in every block"
    return ""


def sites_in_forward_order(reading: Reading, names: Mapping[str, str]) -> tuple[Site, ...]:
    """The sites of a reading, with the names that their tensors have in the mapping."""
    stages = reading.family.stages
    numbered = [stage for layer in reading.family.layers if ".N" in layer.name for stage in layer.stages]
    first = min((stages.index(stage) for stage in numbered), default=0)

    def place(claim: Claim) -> tuple[int, int, int, int]:
        groups = claim.match.groupdict()
        index, unit, stage = int(groups.get("index") or 0), int(groups.get("unit") or 0), stages.index(groups["stage"])
        takes_turns = reading.family.interleaved and groups["stage"] in numbered
        return (first if takes_turns else stage, index, stage, unit)

    ordered = sorted(reading.claims, key=lambda claim: (*place(claim), claim.line))
    ranks = sorted({place(claim) for claim in ordered})
    return tuple(
        site for claim in ordered for site in _sites_of(claim, reading.prefix, ranks.index(place(claim)), names)
    )


def _sites_of(claim: Claim, prefix: str, depth: int, names: Mapping[str, str]) -> Iterator[Site]:
    own, is_matrix = claim.name.removeprefix(prefix), claim.layer.is_matrix
    name, bias = names[own], names.get(own.removesuffix("weight") + "bias")
    unit, start = claim.match.groupdict().get("unit") or "", 0
    for chunk, width in zip(chunks(claim.layer.rows), claim.widths, strict=True):
        yield Site(
            block=claim.match["block"],
            depth=depth,
            branch=chunk.branch.replace("#", unit),
            role=chunk.role,
            weight=name if is_matrix else None,
            bias=bias if is_matrix else name,
            rows=slice(start, start + width),
            function=chunk.function,
        )
        start += width
