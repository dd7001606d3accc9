"""`adaln audit`: where the conditioning of anyone's network lives, how it was started, what fools people."""

import importlib
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from torch import nn

from adaln.analysis.audit import Audit, AuditRow, audit, audit_live
from adaln.analysis.starts import NearestStart
from adaln.cli.analysing import saved, terminal_blocks
from adaln.cli.options import Positional, named, parse
from adaln.cli.output import Output
from adaln.conditioning import FAMILIES
from adaln.report import Column, Marked, Section, Table
from adaln.runs import Run, is_run, load_into
from adaln.tensors import load_tensors, open_weights

EXPECTED = "a run, a .safetensors or .pt file, a diffusers folder, or module:factory"


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """What to look at."""

    model: Annotated[Positional[str], named("MODEL")]
    """A run, a .safetensors or .pt file, a diffusers folder, or module:factory."""
    family: str | None = None
    """Layout of the modulation layers, where names fit two."""
    weights: Literal["ema", "model"] | None = None
    """Which weights of a run or a training checkpoint; default: ema if it is there."""
    step: int | None = None
    """Checkpoint of a run; default: the newest, if any. 0: the network as its scheme starts it."""


def audit_verb(words: list[str]) -> Output:
    """MODEL [--family F]: a run, a file, a diffusers folder or module:factory: its conditioning, start and pitfalls."""
    options = parse(AuditOptions, "audit", words)
    if options.family is not None:
        FAMILIES[options.family]  # an unknown name is said before anything is read
    report = _audit(options)
    start = _start_in_words(report.start)
    summary = f"{options.model}: {report.family} layout, {report.num_blocks} blocks, modulation {start}"
    findings = [f"{finding.level}: {finding.text}" for finding in report.findings]
    section = Section("Audit", [summary, _rows(report), *_energies(report), *findings])
    data, path = {"model": options.model, **asdict(report)}, Path(options.model)
    if is_run(path):  # then `adaln report` takes it up
        return saved(section, path / "analysis" / "audit", data)
    return Output(data, terminal_blocks(section))


def _audit(options: AuditOptions) -> Audit:
    model, path = options.model, Path(options.model)
    if is_run(path):
        return audit_live(_of_run(path, options), family=options.family)
    if options.step is not None:
        raise ValueError(f"--step is for runs; {model!r} is none")
    if path.exists() or ":" not in model:
        return audit(open_weights(path, options.weights).tensors, options.family)
    if options.weights is not None:
        raise ValueError("--weights is for runs and files; a factory has one set")
    network, inputs = _made_by(model)
    return audit_live(network, inputs, options.family)


def _of_run(path: Path, options: AuditOptions) -> nn.Module:
    run = Run.open(path)
    if options.step == 0 or (options.step is None and not run.steps_saved()):
        return run.new_model()
    network, step = run.averaged_model(options.step)
    if options.weights == "model":
        file = run.folder(step) / "model.safetensors"
        load_into(network, load_tensors(file), str(file))
    return network


def _made_by(spec: str) -> tuple[nn.Module, Mapping[str, Any] | None]:
    """What `module:factory` makes: a network, or a pair with keyword arguments for its forward pass."""
    module, _, factory = spec.partition(":")
    sys.path.insert(0, here := str(Path.cwd()))
    try:
        make = getattr(importlib.import_module(module), factory)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{spec!r} is not there: {error}; expected {EXPECTED}") from None
    finally:
        sys.path.remove(here)
    made = make()
    network, inputs = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(network, nn.Module):
        raise ValueError(f"{spec!r} made a {type(network).__name__}; expected an nn.Module, or one with inputs")
    return network, inputs


def _start_in_words(nearest: NearestStart) -> str:
    if nearest.is_start:
        return f"as {nearest.name} starts it"
    return f"trained: at no known start (nearest: {nearest.name}, by {nearest.distance:.2f} in the log of its std)"


def _rows(report: Audit) -> Table:
    columns = [
        Column("role"),
        Column("block"),
        Column("shape"),
        Column("mean", format=".1e"),
        Column("std", format=".3g"),
        Column("zeros", "%", ".3g"),
        Column("kurtosis", format=".2f"),
        Column("start"),
    ]
    notes = [
        "zeros: exact ones; kurtosis: 0 for a Gaussian; start: the known start that has this spread and share of zeros,"
        " biases included; trained: none has.",
    ]
    return Table("Role by block", columns, [_row(row) for row in report.rows], notes)


def _row(row: AuditRow) -> list[Any]:
    values = row.moments
    strays = values.nans + values.infs
    shape = "x".join(map(str, row.shape))
    return [
        row.role,
        row.block or "all",
        Marked(f"{shape}, {strays} not finite", "warning") if strays else shape,
        values.mean,
        values.std,
        100 * values.zero_share,
        values.excess_kurtosis,
        row.nearest.name if row.nearest.is_start else "trained",
    ]


def _energies(report: Audit) -> list[Table]:
    if not report.energies:
        return []
    columns = [
        Column("block"),
        Column("branch"),
        Column("through the gate", "|gate F| / |x|", ".3g"),
        Column("gate at 1", "|F| / |x|", ".3g"),
    ]
    rows = [[energy.block, energy.branch, energy.ratio, energy.open_ratio] for energy in report.energies]
    note = "One batch of noise at times over the whole schedule; x is what enters the block."
    return [Table("What each branch adds to the residual stream", columns, rows, [note])]
