"""`adaln coord-check`: whether activations and updates keep their size as a network widens."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

from adaln.cli.analysing import saved, terminal_blocks
from adaln.cli.options import Device, Flat, Positional, named, parse, take_preset
from adaln.cli.output import Output
from adaln.config import RunConfig

STEPS = 4
"""AdamW has moved every weight by then, under every scheme."""


@dataclass(frozen=True, slots=True)
class CoordinateOptions:
    """Of which network, at which widths, under which scheme and rates; --steps is how many are made."""

    preset: Annotated[Positional[str], named("PRESET")]
    """A preset (adaln presets lists them): network, data, process and rates."""
    config: Flat[RunConfig]
    widths: str = "64,128,256"
    """With commas between; at the first the learning rates are meant. Heads keep their width."""
    device: Device = "auto"
    out: Path | None = None
    """Folder of tables, pictures and page; default: analysis/coord-check-PRESET-SCHEME here."""


def coord_check_verb(words: list[str]) -> Output:
    """PRESET --scheme S --widths 64,128,256: sizes of activations and updates over the width, with and without muP."""
    preset, config, words = take_preset(words)
    options = parse(CoordinateOptions, "coord-check", words, CoordinateOptions(preset, replace(config, steps=STEPS)))
    widths = widths_of(options.widths)
    if options.config.optim.mup:
        raise ValueError("coord-check computes with and without muP, meant at its first width; expected no --optim.mup")

    from adaln.parallel import find_device
    from adaln.views.coordinates import check_coordinates, coordinate_section

    by_rates = check_coordinates(options.config, widths, find_device(options.device))
    section = coordinate_section(options.config, by_rates)
    folder = options.out or Path("analysis") / f"coord-check-{preset}-{options.config.scheme.name.replace(':', '-')}"
    data = {
        "scheme": options.config.scheme.name,
        "widths": widths,
        "slopes": {
            rates: {role: asdict(slopes) for role, slopes in one.by_role().items()} for rates, one in by_rates.items()
        },
    }
    return saved(section, folder, data, terminal_blocks(section)[:1])


def widths_of(text: str) -> list[int]:
    """Two or more different ones, narrowest first."""
    words = [word.strip() for word in text.split(",")]
    widths = [int(word) for word in words if word.isdecimal()]
    if len(widths) != len(words) or len(widths) < 2 or widths != sorted({*widths}) or not widths[0]:
        raise ValueError(f"widths is {text!r}; expected two or more with commas between, narrowest first: 64,128,256")
    return widths
