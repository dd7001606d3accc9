"""`adaln order`: which weights move at which iteration."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from adaln.cli.analysing import analysis_folder, saved
from adaln.cli.options import Device, OpenedFrom, is_folder, named, parse, take_group, usual_process
from adaln.cli.output import Output
from adaln.conditioning import SCHEMES, scheme
from adaln.config import PRESETS
from adaln.models import ModelConfig, model_named
from adaln.processes import PROCESSES
from adaln.specs import DataSpec

if TYPE_CHECKING:
    import adaln.views.orders


@dataclass(frozen=True, slots=True)
class OrderOptions:
    """Under which schemes, with which optimiser, on which inputs."""

    model: Annotated[OpenedFrom[str], named("MODEL|PRESET|RUN")]
    """A network (a name, or module:factory), a preset or a run; behind the first two --model.FIELD VALUE changes it."""
    scheme: Annotated[str | None, named("NAME|NAME:STD|FILE")] = None
    """The scheme whose order is measured; default: adaln-zero, or a run's own where its network has no place for it."""
    versus: str | None = None
    """Another one (NAME, NAME:STD or FILE); cells that differ are marked in both."""
    every_scheme: bool = False
    """All schemes that the network has a place for, a line for those of one order: who moves when first."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """adamw at 1e-4 as the paper trains, or plain gradient descent at 1e-2 as it derives."""
    iterations: int = 3
    """How many are looked at; the paper's Table 1 has 3."""
    process: str | None = None
    """Process (adaln presets lists them); default: the preset's, or one that fits the network."""
    size: int = 32
    """For a network by name: height and width of its inputs."""
    channels: int = 4
    """For a network by name: channels of its inputs."""
    num_classes: int = 1000
    """For a network by name: classes; 0: unconditional."""
    batch_size: int = 4
    """For a network by name: inputs per iteration."""
    device: Device = "auto"
    out: Path | None = None
    """Folder of tables, pictures and page; default: RUN/analysis/order, or analysis/order-MODEL here."""


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """What of the network is otherwise."""

    model: ModelConfig


def order_verb(words: list[str]) -> Output:
    """MODEL|PRESET|RUN --scheme S [--versus S2]: which weights move at which iteration, measured (Table 1)."""
    of_network, words = take_group(words, "--model.")
    options = parse(OrderOptions, "order", words)
    if options.iterations < 1 or options.batch_size < 1:
        raise ValueError(f"iterations is {options.iterations}, batch-size {options.batch_size}; expected at least 1")
    schemes = [scheme(word) for word in (options.scheme, options.versus) if word]
    if options.process:
        PROCESSES.check(options.process)
    config = config_of(options.model, of_network)

    from adaln.conditioning import adamw, sgd
    from adaln.views.orders import first_moves, measured_side_by_side

    subject, optimizer = order_subject(options, config), {"adamw": adamw, "sgd": sgd}[options.optimizer]
    if not options.scheme:
        schemes.insert(0, subject.default_scheme())
    if len({s.name for s in schemes}) < len(schemes):
        raise ValueError(f"--scheme and --versus are both {schemes[0].name}; expected two schemes")
    if options.every_scheme:
        schemes = [s for s in SCHEMES.values() if subject.has_place_for(s)]
    orders = {s.name: subject.order(s, optimizer, options.iterations) for s in schemes}
    shown = first_moves if options.every_scheme else measured_side_by_side
    section = shown(subject.name, options.optimizer, orders)
    first, *more = orders.values()
    data = {
        "model": subject.name,
        "optimizer": options.optimizer,
        "orders": {name: dict(zip(o.names, zip(*o.moves, strict=True), strict=True)) for name, o in orders.items()},
        "differing": list(first.differing(more[0])) if options.versus else [],
    }
    return saved(section, options.out or analysis_folder([Path(options.model)], "order"), data)


def config_of(word: str, of_network: list[str]) -> ModelConfig | None:
    """The network of a preset or of that name, but for what is said of it; None of a run, which has its own."""
    if is_folder(word):
        if of_network:
            raise ValueError(f"{word!r} is a run, whose network is what it is; expected no {of_network[0]}")
        return None
    usual = PRESETS[word]().model if word in PRESETS else model_named(word)
    return parse(NetworkOptions, f"order {word}", of_network, NetworkOptions(usual)).model


def order_subject(options: OrderOptions, model: ModelConfig | None) -> "adaln.views.orders.Subject":
    """The fresh network that a run, a preset or a network means."""
    from adaln.parallel import find_device
    from adaln.runs import Run
    from adaln.views.orders import subject_of_model, subject_of_run

    device, word = find_device(options.device), options.model
    if model is None:
        if options.process:
            raise ValueError(f"{word!r} is a run, which has a process of its own; expected no --process")
        return subject_of_run(Run.open(word, device))
    if word in PRESETS:
        config = PRESETS[word]()
        process = PROCESSES[options.process] if options.process else config.process
        start = scheme(options.scheme) if options.scheme else config.scheme
        run = Run(Path(word), replace(config, model=model, scheme=start, process=process), device)
        run.check_fits()
        return subject_of_run(run)
    spec = DataSpec(options.channels, options.size, options.size, options.num_classes)
    process = PROCESSES[options.process] if options.process else usual_process(model)
    return subject_of_model(model, process, spec, options.batch_size, device)
