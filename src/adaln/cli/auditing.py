"""`adaln audit`: where the conditioning of anyone's network lives, how it was started, what fools people."""

import importlib
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from torch import nn

from adaln.analysis.audit import Audit, audit
from adaln.cli.analysing import saved, terminal_blocks
from adaln.cli.options import Positional, named, parse
from adaln.cli.output import Output
from adaln.conditioning import FAMILIES
from adaln.report import Section
from adaln.runs import is_run

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
    summary, *blocks = report.blocks()
    section = Section("Audit", [f"{options.model}: {summary}", *blocks])
    data, path = {"model": options.model, **asdict(report)}, Path(options.model)
    if is_run(path):  # then `adaln report` takes it up
        return saved(section, path / "analysis" / "audit", data)
    return Output(data, terminal_blocks(section))


def _audit(options: AuditOptions) -> Audit:
    model, path = options.model, Path(options.model)
    if options.step is not None and not is_run(path):
        raise ValueError(f"--step is for runs; {model!r} is none")
    if path.exists() or ":" not in model:
        return audit(path, family=options.family, step=options.step, weights=options.weights)
    if options.weights is not None:
        raise ValueError("--weights is for runs and files; a factory has one set")
    network, inputs = _made_by(model)
    return audit(network, inputs, options.family)


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
