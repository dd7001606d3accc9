"""`adaln distributions`, `adaln fit`, `adaln order`, `adaln explain`: what happens inside."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from adaln.cli.options import Device, OpenedFrom, check_suffix, named, parse
from adaln.cli.output import Output
from adaln.codec import encode
from adaln.conditioning import save_scheme
from adaln.files import about
from adaln.report import Section, Table
from adaln.specs import By, WeightSet

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class DistributionsOptions:
    """What is looked at, and where tables and pictures go."""

    paths: Annotated[OpenedFrom[tuple[Path, ...]], named("RUN-OR-FILE...")]
    """Runs or files of weights."""
    steps: tuple[int, ...] = ()
    """Steps of runs; default: up to 6 checkpoints and 4 online recordings from before the first of them."""
    by: By = "role"
    """role: over all blocks, and every other module; block; branch: attention and MLP of each block."""
    weights: WeightSet | None = None
    """model or ema; default: a run's weights in training, the averaged ones in the file of a training checkpoint."""
    prefix: str = ""
    """Of several networks in one file the one whose names begin so; default: the only one with modulation."""
    family: str | None = None
    """Layout of the modulation layers of a file, where names fit two: a family (adaln families lists them) or a .toml
    file that describes them."""
    out: Path | None = None
    """Folder of tables, pictures and page; default: RUN/analysis/NAME, or analysis/NAME-SOURCES here."""


def distributions_verb(words: list[str]) -> Output:
    """RUN-OR-FILE... [--by block]: moments, Gaussian fits, entropies, differences, the paper's histograms."""
    options = parse(DistributionsOptions, "distributions", words)
    if not options.paths:
        raise ValueError("expected runs or files of weights; see adaln distributions --help")

    from adaln.views.distributions import APART, MOVED, as_data, distributions_section, overview_table
    from adaln.views.snapshots import open_snapshots

    snapshots = []
    for path in options.paths:
        with about(path):
            snapshots += open_snapshots(path, options.steps, options.weights, options.prefix, options.family)
    if not snapshots:
        raise ValueError(
            f"{', '.join(map(repr, map(str, options.paths)))} holds no record yet; expected a training that began"
        )
    notes = [f"{s.source}: {note}" for s in snapshots for note in s.notes]
    name = "distributions" + f"-by-{options.by}" * (options.by != "role")
    section = distributions_section(snapshots, options.by)
    data = {"groups": as_data(snapshots, options.by), "notes": notes}
    moved = [block for block in section.blocks if isinstance(block, Table) and block.title in (MOVED, APART)]
    shown = [overview_table(snapshots, options.by), *moved]
    return saved(section, options.out or analysis_folder(options.paths, name), data, [*shown, *notes])


@dataclass(frozen=True, slots=True)
class Base:
    """Std of some roles given anew; their shape over blocks is kept."""

    gate: float | None = None
    scale: float | None = None
    shift: float | None = None


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How a start is measured from a pilot run."""

    source: Annotated[OpenedFrom[Path], named("RUN-OR-FILE")]
    """A run or a file of weights."""
    method: Literal["moments", "robust", "peak"] = "moments"
    """moments: standard deviation; robust: interquartile range / 1.349; peak: height of the histogram's peak (A.11)."""
    by_block: bool = False
    """A std for each block instead of one for all; with peak smoothed over blocks by a polynomial as in A.11."""
    step: int | None = None
    """Checkpoint to measure; default: the newest."""
    weights: WeightSet | None = None
    """model or ema; default as in `adaln distributions`."""
    prefix: str = ""
    """As in `adaln distributions`."""
    family: str | None = None
    """As in `adaln distributions`."""
    base: Base = field(default_factory=Base)
    name: str | None = None
    """Name of the scheme; default: fit-SOURCE-METHOD."""
    out: Path | None = None
    """The scheme file (.json), its page in a folder of its name beside it, and nothing in the run; default:
    analysis/fit/scheme.json in the run, or analysis/fit-SOURCE/scheme.json."""


def fit_verb(words: list[str]) -> Output:
    """RUN-OR-FILE [--method peak] [--by-block] [--out FILE]: the next run's start, measured: train --scheme FILE."""
    options = parse(FitOptions, "fit", words)
    folder = options.out.with_suffix("") if options.out else analysis_folder([options.source], "fit")
    out = options.out or folder / "scheme.json"
    check_suffix(out, ".json")

    from adaln.analysis.fit import fit
    from adaln.analysis.groups import class_of
    from adaln.views.fitting import fit_section, pilot

    base = {role: std for role, std in asdict(options.base).items() if std is not None}
    with about(options.source):
        source = pilot(options.source, options.step, options.weights, options.prefix)
        fitted = fit(
            source.tensors or {},
            options.method,
            by_block=options.by_block,
            base=base,
            family=options.family,
            class_name=class_of(options.source),
        )
    start = fitted.scheme(options.name or f"fit-{source.source}-{options.method}{'-by-block' * options.by_block}")
    out.parent.mkdir(parents=True, exist_ok=True)
    save_scheme(start, out)
    data = {"scheme_file": str(out), "step": source.step, **asdict(fitted), "scheme": encode(start)}
    data["notes"] = list(source.notes)
    section, note = fit_section(source.label, fitted, out), f"the scheme lies at {out}: --scheme {out}"
    return saved(section, folder, data, [*terminal_blocks(section), *source.notes], note)


@dataclass(frozen=True, slots=True)
class ExplainOptions:
    """At which steps, and on how much data."""

    runs: Annotated[OpenedFrom[tuple[Path, ...]], named("RUN [RUN2]")]
    """A run, or two."""
    step: int | None = None
    """Checkpoint of the first run; default: the newest. Averaged weights."""
    other_step: int | None = None
    """Checkpoint of the second run; default: the newest."""
    num_batches: int = 8
    """Batches of the first run's data on which losses are taken."""
    device: Device = "auto"
    out: Path | None = None
    """Folder of tables, pictures and page; default: RUN/analysis/explain."""


def explain_verb(words: list[str]) -> Output:
    """RUN [RUN2]: gates and residual stream by depth and time, the same values elsewhere, the way to another run."""
    options = parse(ExplainOptions, "explain", words)
    if len(options.runs) not in (1, 2):
        raise ValueError(f"expected a run, or two, got {len(options.runs)}; see adaln explain --help")
    if options.other_step is not None and len(options.runs) == 1:
        raise ValueError(f"--other-step is {options.other_step}, of a second run; expected RUN RUN2")

    from adaln.parallel import find_device
    from adaln.runs import Run
    from adaln.views.explain import Probe, explain_section

    device = find_device(options.device)
    steps = (options.step, options.other_step)
    probes = [
        Probe.of(Run.open(path, device), step, options.num_batches)
        for path, step in zip(options.runs, steps, strict=False)
    ]
    section = explain_section(*probes)
    return saved(section, options.out or options.runs[0] / "analysis" / "explain", {"steps": [p.step for p in probes]})


def analysis_folder(paths: Sequence[Path], name: str) -> Path:
    """Inside the run, or what was watched, where there is one and nothing else; else in this folder, by the sources."""
    from adaln.analysis.watch_handle import is_watched
    from adaln.runs import is_run

    if len(paths) == 1 and (is_run(paths[0]) or is_watched(paths[0])):
        return paths[0] / "analysis" / name
    sources = "-".join(str(path).replace("/", "-") if not path.exists() else path.stem for path in paths)
    return Path("analysis") / f"{name}-{sources}"[:100]


def saved(
    section: Section, folder: Path, data: dict[str, Any], shown: Sequence[str | Table] = (), note: str = ""
) -> Output:
    """The section on disk; `shown`, by default its tables and prose, a note and where the page lies for a terminal."""
    from adaln.views.run_page import save_section

    page = save_section(section, folder).resolve()
    place = f"the page is {page}; its tables and pictures lie beside it as files"
    lines = [line for line in (note, place) if line]
    return Output({"report": str(page), **data}, [*(shown or terminal_blocks(section)), *lines])


def terminal_blocks(section: Section) -> list[str | Table]:
    """What of a section a terminal can show."""
    return [block for block in section.blocks if isinstance(block, Table | str)]
