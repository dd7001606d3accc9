"""`adaln families`, `schemes`, `models`, `presets`: what can be computed is printed, not written down."""

from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from adaln.cli.options import Flat, Positional, check_suffix, named, parse
from adaln.cli.output import Output
from adaln.codec import encode
from adaln.conditioning import PARAMETRIC, SCHEMES, Scheme, Start, in_words
from adaln.config import PRESETS, model_name, to_dict
from adaln.files import write_atomically
from adaln.models import MODELS, ModelConfig, flops, model_named, num_parameters
from adaln.processes import PROCESSES
from adaln.report import Cell, Column, Table, markdown
from adaln.specs import DataSpec

_STD = "STD"
_NUMBERS = {"default": "FACTOR", "layerscale": "VALUE"}
"""What schemes with numbers of one's own take, where it is no standard deviation."""


@dataclass(frozen=True, slots=True)
class SchemesOptions:
    """The conditioning schemes, and what they leave to train."""

    model: str | None = None
    """Count what each scheme leaves to train of this network, at 256 pixels (32 x 32 x 4 latents), 1000 classes."""
    out: Path | None = None
    """A .md file for the table."""


def schemes_verb(words: list[str]) -> Output:
    """[--model NAME] [--out PAGE.md]: the conditioning schemes, how gate, scale, shift and head start."""
    options = parse(SchemesOptions, "schemes", words)
    data = [encode(row) for row in SCHEMES.values()]
    columns = [*map(Column, ("scheme", "gate", "scale", "shift", "head", "note"))]
    rows: list[list[Cell]] = []
    for name, row in SCHEMES.items():
        gate = Start(bias=row.static_gates) if row.static_gates else row.gate
        rows.append([name, *map(in_words, (gate, row.scale, row.shift, row.head)), row.note])
    if options.model:
        trained = _trained(model_named(options.model))
        data = [{**row, "trained_parameters": count} for row, count in zip(data, trained, strict=True)]
        columns.insert(5, Column("trained", f"M, {options.model}", ".1f"))
        for cells, count in zip(rows, trained, strict=True):
            cells.insert(5, count and count / 1e6)
    notes = [
        "Normal and the like with their standard deviation; ... where it differs from block to block; torch: uniform to"
        " 1/sqrt(inputs), as torch starts linear maps.",
        "Where the head is 0 the first output is exactly 0, and the first loss of a predicted noise mean(noise²);"
        " elsewhere D h² (1 + v) + b² comes on top: h and b the std of the head's weights and biases, v the variance"
        " that the last layer's scale and shift give, D the width.",
        f"With numbers of your own: {', '.join(f'{name}:{_NUMBERS.get(name, _STD)}' for name in PARAMETRIC)}.",
        "--model DiT-XL/2 counts what each leaves to train.",
    ]
    table = Table("Conditioning schemes", columns, rows, notes)
    if options.out:
        check_suffix(options.out, ".md")
        origin = "Written by `adaln schemes --out docs/schemes.md`."
        write_atomically(options.out, f"# Schemes\n\n{origin}\n\n{markdown(table)}")
    return Output(data, [table])


def _trained(config: ModelConfig) -> list[int | None]:
    """Parameters that each scheme leaves to training; none of one that the network has no place for."""
    from adaln.conditioning import all_starts, find_layout, num_held
    from adaln.models import skeleton

    tensors = dict(skeleton(config, DataSpec(4, 32, 32, 1000)).named_parameters())
    total, layout = sum(tensor.numel() for tensor in tensors.values()), find_layout(tensors)

    def trained(row: Scheme) -> int | None:
        with suppress(ValueError):
            all_starts(layout, row)
            return total - num_held(tensors, row)
        return None

    return [trained(row) for row in SCHEMES.values()]


@dataclass(frozen=True, slots=True)
class FamiliesOptions:
    """The families of networks that audits and schemes know."""

    name: Annotated[Positional[str | None], named("NAME")] = None
    """One of them, in full; default: a line for each."""
    out: Path | None = None
    """A .md file for all of them in full."""


def families_verb(words: list[str]) -> Output:
    """[NAME] [--out PAGE.md]: how every known network conditions, or one in full."""
    options = parse(FamiliesOptions, "families", words)

    from adaln.conditioning import FAMILIES
    from adaln.views.families import detail, family_facts, overview, page

    if options.out:
        check_suffix(options.out, ".md")
        write_atomically(options.out, page(FAMILIES))
    if options.name:
        family = FAMILIES[options.name]
        return Output(family_facts(options.name, family), detail(options.name, family))
    return Output([family_facts(name, family) for name, family in FAMILIES.items()], [overview(FAMILIES)])


@dataclass(frozen=True, slots=True)
class ModelsOptions:
    """The networks by name; behind one name the fields of that network are flags (--model.gate tanh)."""

    size: int = 32
    """Height and width of the latents or images."""
    channels: int = 4
    """Their channels."""
    num_classes: int = 1000
    """Classes; 0: unconditional."""


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """A network by name, and what of it may be otherwise."""

    model: ModelConfig
    data: Flat[ModelsOptions] = ModelsOptions()


def models_verb(words: list[str]) -> Output:
    """[NAME [--model.FIELD VALUE]]: parameters and multiply-adds of the networks, or of one with options."""
    is_one = bool(words) and not words[0].startswith("-")
    if is_one:
        name, *words = words
        usual = model_named(name)
        chosen = parse(ModelOptions, f"models {name}", words, ModelOptions(usual))
        options, configs = chosen.data, {name: usual}
        names = [one.name for one in fields(usual) if getattr(chosen.model, one.name) != getattr(usual, one.name)]
        said = ", ".join(f"{one} {getattr(chosen.model, one)}" for one in names)
        configs |= {f"with {said}": chosen.model} if names else {}
    else:
        options, configs = parse(ModelsOptions, "models", words), dict(MODELS.items())
    spec = DataSpec(options.channels, options.size, options.size, options.num_classes)
    rows: list[dict[str, Any]] = []
    for name, config in configs.items():
        try:
            rows.append({"model": name, "parameters": num_parameters(config, spec), "gmacs": flops(config, spec) / 2e9})
        except ValueError:  # a size that this network does not take
            if is_one:
                raise
            rows.append({"model": name, "parameters": None, "gmacs": None})
    table = Table(
        f"Networks for {options.channels} x {options.size} x {options.size}, {options.num_classes} classes",
        [Column("model"), Column("trainable parameters", format=",d"), Column("forward", "G multiply-adds", ".4g")],
        [list(row.values()) for row in rows],
        notes=["Papers of these families print multiply-adds under the name Gflops. –: the size does not fit."],
    )
    return Output(rows, [table])


@dataclass(frozen=True, slots=True)
class PresetsOptions:
    """The presets of `adaln train`."""


def presets_verb(words: list[str]) -> Output:
    """The presets of `adaln train`, and the processes that --process takes."""
    parse(PresetsOptions, "presets", words)
    configs = {name: make() for name, make in PRESETS.items()}
    table = Table(
        "Presets",
        [*map(Column, ("preset", "model", "data")), Column("steps", format=",d"), Column("batch"), Column("what")],
        [
            [
                name,
                model_name(run.model),
                run.data.path,
                run.steps,
                run.batch_size,
                (PRESETS[name].__doc__ or "").splitlines()[0],
            ]
            for name, run in configs.items()
        ],
        notes=[f"Processes: {', '.join(PROCESSES)}."],
    )
    return Output({name: to_dict(config) for name, config in configs.items()}, [table])
