"""`adaln audit`: where anyone's conditioning lives, how it was started, its pitfalls, and what unknown rows do."""

import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, fields
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from adaln.cli.analysing import saved, terminal_blocks
from adaln.cli.options import OpenedFrom, check_suffix, named, parse
from adaln.cli.output import Output
from adaln.codec import encode
from adaln.files import about, write_atomically
from adaln.progress import note
from adaln.registry import check_no_code_file, code_named
from adaln.report import Section
from adaln.specs import DataSpec, WeightSet

if TYPE_CHECKING:
    import torch

    import adaln.analysis.adapters
    import adaln.analysis.audit
    import adaln.conditioning

_DIGITS = DataSpec(channels=1, height=8, width=8, num_classes=10)
"""Of the preset of that name."""


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """What to look at."""

    model: Annotated[OpenedFrom[str], named("MODEL")]
    """A run, a file of weights, a diffusers folder, or module:factory."""
    family: str | None = None
    """Layout of the modulation layers, where names fit two (adaln families lists them)."""
    layout: Path | None = None
    """A .toml file that describes the modulation layers, as --discover writes it."""
    weights: WeightSet | None = None
    """Which weights of a run or a training checkpoint; default: ema if it is there."""
    prefix: str = ""
    """Of several networks in one file the one whose names begin so; default: the one that names say is the model (the
    student beside a teacher), or the only one with modulation."""
    step: int | None = None
    """Checkpoint of a run; default: the newest, if any. 0: the network as its scheme starts it."""
    precision: str = ""
    """Types to store the weights in, and what each would lose: bf16, fp16, fp8, fp8_e5m2, with commas between."""
    allow_unread: bool = False
    """Audit what is known where tensors that may be modulation fit no layout, and name them."""
    discover: bool = False
    """Of module:factory: find what its rows do, and print the layout, which --layout takes."""
    out: Path | None = None
    """With --discover: a .toml file for the layout."""

    def __post_init__(self) -> None:
        if self.family is not None and self.layout is not None:
            raise ValueError("--family and --layout both say the layout; expected one of them")
        if self.out is not None and not self.discover:
            raise ValueError("--out is for the layout that --discover finds; expected both or none")


def audit_verb(words: list[str]) -> Output:
    """MODEL [--family F] [--precision bf16,fp8] [--discover]: anyone's network: its conditioning, start, pitfalls."""
    options = parse(AuditOptions, "audit", words)
    layout = str(options.layout) if options.layout else options.family
    if options.layout:
        check_suffix(options.layout, ".toml", "--layout")

    from adaln.conditioning import family_named
    from adaln.runs import is_run

    if layout is not None:
        family_named(layout)  # an unknown name is said before anything is read
    if options.model.endswith(".py") or not Path(options.model).exists():
        check_no_code_file(options.model)
    if options.discover:
        return _discovered(options)
    report: adaln.analysis.audit.Audit | adaln.analysis.adapters.AdapterAudit
    with about(Path(options.model)), about(Path(layout or options.model)):
        report = _adapter(options) or _audit(options, layout)
    summary, *blocks = report.blocks()
    section = Section("Audit", [f"{options.model}: {summary}", *blocks])
    data, path = {"model": options.model, **asdict(report)}, Path(options.model)
    if is_run(path):  # then `adaln report` takes it up
        return saved(section, path / "analysis" / "audit", data)
    return Output(data, terminal_blocks(section))


def _adapter(options: AuditOptions) -> "adaln.analysis.adapters.AdapterAudit | None":
    """Of a file that holds one; `ValueError` naming an option that says something about a network."""
    from adaln.analysis.adapters import audit_adapter
    from adaln.runs import is_run

    path = Path(options.model)
    report = audit_adapter(path) if path.exists() and not is_run(path) else None
    default = AuditOptions(options.model)
    given = [field.name for field in fields(options) if getattr(options, field.name) != getattr(default, field.name)]
    if report and given:
        flag = f"--{given[0].replace('_', '-')}"
        raise ValueError(f"{flag} is for networks; {options.model!r} is an adapter (LoRA), which is read whole")
    return report


def _audit(options: AuditOptions, layout: str | None) -> "adaln.analysis.audit.Audit":
    from adaln.analysis.audit import audit
    from adaln.analysis.precision import STORED_TYPES
    from adaln.runs import is_run

    model, path = options.model, Path(options.model)
    if options.step is not None and not is_run(path):
        raise ValueError(f"--step is for runs; {model!r} is none")
    types = [name for name in options.precision.split(",") if name and STORED_TYPES[name]]  # or its name is unknown
    if options.precision and not types:
        raise ValueError(f"--precision is {options.precision!r}; expected types out of {', '.join(STORED_TYPES)}")
    said: dict[str, Any] = {"family": layout, "precision": types, "allow_unread": options.allow_unread}
    if path.exists() or ":" not in model:
        return audit(path, step=options.step, weights=options.weights, prefix=options.prefix, **said)
    if options.weights is not None or options.prefix:
        raise ValueError("--weights and --prefix are for runs and files; a factory has one set")
    with redirect_stdout(sys.stderr):  # what the network prints is no part of the answer
        network, inputs = _made_by(model)
        return audit(network, inputs, **said)


def _discovered(options: AuditOptions) -> Output:
    """The layout of a network that is run, as a file."""
    from adaln.conditioning import family_text

    if Path(options.model).exists() or ":" not in options.model:
        raise ValueError(f"{options.model!r} cannot be run; expected module:factory, whose rows are seen at work")
    if options.out:
        check_suffix(options.out, ".toml")
    with redirect_stdout(sys.stderr):
        network, inputs = _made_by(options.model)
        family = _discover(network, inputs)
    text = family_text(family)
    if options.out:
        write_atomically(options.out, text + "\n")
    lines = [text]
    if "gate" in text:
        lines.append(
            "# branches without a gate are not looked for: `ungated_ends` names what ends them, to be closed too"
        )
    if options.out:
        lines.append(f"# written to {options.out}: adaln audit MODEL --layout {options.out}")
    return Output({"model": options.model, "layout": text, "layers": encode(family.layers)}, lines)


def _discover(network: "torch.nn.Module", inputs: Mapping[str, Any] | None) -> "adaln.conditioning.Family":
    from adaln.analysis.discovery import discover
    from adaln.conditioning import UnknownLayout, standard_inputs

    inputs = standard_inputs(network) if inputs is None else inputs
    try:
        return discover(network, inputs)
    except UnknownLayout:
        raise
    except Exception as error:  # whatever the network's own code raises
        raise _raised(f"running {type(network).__name__}", error) from error


def _made_by(spec: str) -> "tuple[torch.nn.Module, Mapping[str, Any] | None]":
    """What `module:factory` makes: a network, or a pair with keyword arguments for its forward pass."""
    from torch import nn

    factory = code_named(spec)
    given, data = _data_for(spec, factory)
    try:
        made = factory(*given)
    except (Exception, SystemExit) as error:
        called = f", called with {data} (other data: a default, spec=adaln.specs.DataSpec(...))," if given else ""
        raise _raised(f"{spec!r}{called}", error) from error
    network, inputs = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(network, nn.Module):
        raise ValueError(f"{spec!r} made a {type(network).__name__}; expected an nn.Module, or one with inputs")
    if not isinstance(inputs, Mapping | None):
        raise ValueError(f"{spec!r} made inputs that are a {type(inputs).__name__}; expected them by name, in a dict")
    if name := next((name for name, parameter in network.named_parameters() if parameter.is_meta), ""):
        raise ValueError(f"{spec!r} made {name!r} on the meta device, without values; expected weights that are there")
    if data and not hasattr(network, "spec"):
        network.spec = data  # type: ignore[assignment]  # by it inputs are drawn
    return network, inputs


def _data_for(target: str, factory: Callable[..., Any]) -> tuple[tuple[DataSpec, ...], DataSpec | None]:
    """What a factory is called with, and the data that its network is then for: its default, else the digits."""
    try:
        parameters = list(signature(factory).parameters.values())
    except (TypeError, ValueError):  # of some built-in callables nobody knows
        return (), None
    if default := next((one.default for one in parameters if isinstance(one.default, DataSpec)), None):
        return (), default
    optional = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    wanted = [one.name for one in parameters if one.default is Parameter.empty and one.kind not in optional]
    if len(wanted) > 1:
        raise ValueError(f"{target!r} wants {', '.join(wanted)}; expected a factory that takes no more than the data")
    if not wanted and not (parameters and parameters[0].name == "spec"):
        return (), None
    note(f"{target!r} is called with the digits' {_DIGITS}; other data: a default, spec=adaln.specs.DataSpec(...)")
    return (_DIGITS,), _DIGITS


def _raised(what: str, error: BaseException) -> ValueError:
    return ValueError(f"{what} raised {type(error).__name__}: {error}")
