"""Of the families that read a network's names the one that takes it, or in one line why none does."""

import re
from collections.abc import Iterator, Sequence

from adaln.conditioning.family import any_of, chunks, name_pattern
from adaln.conditioning.reading import Reading, Shapes, chunk_widths, has_rows, num_rows


class UnknownLayout(ValueError):
    """The modulation layers of a mapping do not fit any known family, or fit two: why, and what may be done."""

    def __str__(self) -> str:
        return "; ".join(self.args)


def choose(
    readings: Sequence[Reading],
    suspects: Sequence[str],
    class_name: str,
    shapes: Shapes,
    allow_unread: bool,
) -> Reading | None:
    """The reading that accounts for all suspects, by the network's class where two do; None for no modulation."""
    fits = [reading for reading in readings if not reading.why_not and reading.claimed.issuperset(suspects)]
    if hinted := [reading for reading in fits if class_name in reading.family.class_names]:
        return hinted[0]
    if fits:
        roles = [_roles(reading) for reading in fits]
        if other := next((fit for fit, role in zip(fits, roles, strict=True) if role != roles[0]), None):
            example = fits[0].claims[0].name
            raise UnknownLayout(
                f"the modulation layers, e.g. {example!r}, fit both {fits[0].family_name!r} and"
                f" {other.family_name!r}: name the family (a network in memory or its folder's config.json does)"
            )
        heads = (
            fit
            for fit in fits
            if any(
                re.fullmatch(rf"{re.escape(fit.prefix)}({any_of(fit.family.head)})\.weight", name) for name in shapes
            )
        )
        return next(heads, fits[0])
    taken = [reading for reading in readings if reading.claims]
    if not suspects and not taken:
        return None
    nearest = max(taken, key=lambda reading: len(reading.claimed.intersection(suspects)), default=None)
    if allow_unread and nearest and any(not claim.layer.rows.startswith("final") for claim in nearest.claims):
        return nearest
    raise _misfit(nearest, readings, suspects, shapes)


def _roles(reading: Reading) -> frozenset[tuple[object, ...]]:
    """What every row does, whatever its branch is called."""
    return frozenset(
        (claim.name, start, chunk.role, chunk.function)
        for claim in reading.claims
        for start, chunk in zip(_starts(claim.widths), chunks(claim.layer.rows), strict=True)
    )


def _starts(widths: Sequence[int]) -> list[int]:
    return [sum(widths[:place]) for place in range(len(widths))]


_WAYS_ON = "ways on: adaln audit --discover on a live network, --layout FILE, --family, --allow-unread"


def _misfit(
    nearest: Reading | None,
    readings: Sequence[Reading],
    suspects: Sequence[str],
    shapes: Shapes,
) -> UnknownLayout:
    """Why no family takes the network: a layer's name, its number of rows, or what is missing."""
    unclaimed = [name for name in suspects if nearest is None or name not in nearest.claimed]
    if nearest and (other := next((name for name in unclaimed if not name.startswith(nearest.prefix)), None)):
        stood_before = _before_a_line(other, readings)
        if stood_before is not None:
            return UnknownLayout(
                f"modulation layers stand under {nearest.prefix!r} and {stood_before!r}; expected one model: choose by"
                " --prefix or --weights"
            )
    for name in unclaimed:
        expected = [text for reading in readings for text in _expected(reading, name, shapes)]
        bias = shapes.get(name.removesuffix("weight") + "bias", shapes[name][:1])
        if expected and bias[:1] != shapes[name][:1]:
            return UnknownLayout(f"{name!r} has {shapes[name][0]} rows, and its bias {_text(bias)}; expected as many")
        if expected:
            rows, others = num_rows(shapes[name]), " or ".join(dict.fromkeys(expected))
            return UnknownLayout(f"{name!r} has {rows} rows, expected {others}", _WAYS_ON)
    if nearest is None:
        more = f" nor {len(suspects) - 1} more" if len(suspects) > 1 else ""
        return UnknownLayout(
            f"no layout takes the modulation layer {suspects[0]!r} of shape {_text(shapes[suspects[0]])}{more}",
            _WAYS_ON,
        )
    if not unclaimed:
        return UnknownLayout(f"as {nearest.family_name!r} reads the network, {nearest.why_not}", _WAYS_ON)
    name = unclaimed[0]
    return UnknownLayout(
        f"{name!r} of shape {_text(shapes[name])} may be modulation, and the nearest family, {nearest.family_name!r},"
        f" does not take it (it takes {len(suspects) - len(unclaimed)} of {len(suspects)} such tensors)",
        _WAYS_ON,
    )


def _before_a_line(name: str, readings: Sequence[Reading]) -> str | None:
    """What stands before a name that some line of a family takes; None where none does."""
    for reading in readings:
        for claim in reading.claims:
            own = re.sub(r"\d+", "0", claim.name.removeprefix(reading.prefix))
            if re.sub(r"\d+", "0", name).endswith(f".{own}"):
                return ".".join(name.split(".")[: -own.count(".") - 1]) + "."
    return None


def _expected(reading: Reading, name: str, shapes: Shapes) -> Iterator[str]:
    """The numbers of rows that a family's lines of this name take."""
    for layer in reading.family.layers:
        match = name_pattern(layer).fullmatch(name, len(reading.prefix)) if name.startswith(reading.prefix) else None
        if match and has_rows(layer, shapes[name]):
            widths = chunk_widths(layer, match["block"], [name], reading.prefix, shapes)
            each = " + ".join(map(str, widths)) if len(set(widths)) > 1 else f"{len(widths)} x {widths[0]}"
            yield f"{each} ({reading.family_name})"


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "()"
