"""`adaln runs`: what there is, at a glance, and what of it can go."""

import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from adaln.cli.options import Positional, named, parse
from adaln.cli.output import Output
from adaln.config import RunConfig, from_dict, model_name
from adaln.files import is_held, oldest_first, reading, remove_folder, temporaries
from adaln.report import Cell, Column, Table

SHARED = re.compile(r"-s\d+$")
"""Names of runs that studies, choices and searches make and share."""
KINDS = ("studies", "choices", "searches")
"""Folders beside the runs, of those that refer to them."""
RUN_NAME = re.compile(r"[\w.-]+-[0-9a-f]{10}")


@dataclass(frozen=True, slots=True)
class RunsOptions:
    """All runs of a folder with scheme, network, step, loss, score, size and age, the newest first."""

    root: Annotated[Positional[Path], named("[FOLDER]")] = Path("runs")
    """Folder that holds the runs: by default `runs`, where they are made."""
    clean: bool = False
    """Say what can go, and how much that frees: what killed writers left, runs without a step, and of finished runs
    the checkpoints before the last that no option asked to keep. Runs of studies, choices and searches, runs in
    training and runs that another refers to are left alone."""
    delete: bool = False
    """With --clean: delete it."""

    def __post_init__(self) -> None:
        if self.delete and not self.clean:
            raise ValueError("--delete is for what --clean names; expected both, or --clean alone to see what goes")


@dataclass(frozen=True, slots=True)
class Listed:
    """A run as its files say it is; nothing of it is opened."""

    run: str
    scheme: str
    model: str
    data: str
    step: int
    steps: int
    state: str
    """finished, stopped, in training, or begun: without a checkpoint."""
    loss: float | None
    score: str
    bytes: int
    seconds_old: float


def runs_verb(words: list[str]) -> Output:
    """[FOLDER] [--clean [--delete]]: the runs of a folder at a glance, and what of them can go."""
    options = parse(RunsOptions, "runs", words)
    if not options.root.is_dir():
        raise ValueError(f"{str(options.root)!r} is no folder; expected one that holds runs")
    configs = dict(configs_in(options.root))
    if options.clean:
        return cleaned(options.root, configs, options.delete)
    rows = sorted((listed(folder, config) for folder, config in configs.items()), key=lambda row: row.seconds_old)
    return Output([asdict(row) for row in rows], [table_of(options.root, rows)])


def configs_in(root: Path) -> Iterator[tuple[Path, RunConfig]]:
    """The runs of a folder with their configs; what is none, or damaged, is passed over."""
    for file in root.glob("*/config.json"):
        with suppress(OSError, ValueError):
            yield file.parent, from_dict(json.loads(file.read_text(encoding="utf-8")))


def listed(folder: Path, config: RunConfig) -> Listed:
    """What the files of a run say."""
    saved, (loss, score) = steps_of(folder), (last_loss(folder), last_score(folder))
    step = saved[-1] if saved else 0
    state = "in training" if is_held(folder / ".lock") else "begun" if not saved else "stopped"
    sizes, times = zip(*((entry.st_size, entry.st_mtime) for entry in files_of(folder)), strict=True)
    return Listed(
        folder.name,
        config.scheme.name,
        model_name(config.model),
        config.data.path,
        step,
        config.steps,
        "finished" if state == "stopped" and step >= config.steps else state,
        loss,
        score,
        sum(sizes),
        max(time.time() - max(times), 0.0),
    )


def steps_of(folder: Path) -> list[int]:
    """Steps of the checkpoints, ascending."""
    root = folder / "checkpoints"
    return sorted(int(path.name) for path in root.iterdir() if path.name.isdigit()) if root.is_dir() else []


def files_of(folder: Path) -> Iterator[os.stat_result]:
    """What the system says of a file, or of every file beneath a folder."""
    if not folder.is_dir():
        yield folder.stat()
        return
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from files_of(Path(entry.path))
            else:
                yield entry.stat(follow_symlinks=False)


def last_loss(folder: Path) -> float | None:
    """Of the last line of metrics.jsonl that is whole."""
    path = folder / "metrics.jsonl"
    with suppress(OSError, ValueError), reading(path, "records"), path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 1000))
        return float(json.loads(file.read().rpartition(b"\n")[0].rpartition(b"\n")[2])["loss"])
    return None


def last_score(folder: Path) -> str:
    """The first of the scores that were taken last, in training or of samples; "like": no published one's equal."""
    for file in oldest_first(folder.glob("s*/*.scores.json"))[-1:]:
        with suppress(OSError, ValueError), reading(file, "scores"):
            row: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["scores"]
            name, score = next(iter(row.items()))
            return f"{name}{'-like' * bool(score['label'])} {float(score['value']):.4g}"
    return ""


def table_of(root: Path, rows: list[Listed]) -> Table:
    """For people."""
    columns = [Column("run"), Column("scheme"), Column("model", spare=1), Column("step", format=",d")]
    columns += [Column("of", format=",d", spare=5), Column("state", spare=2), Column("loss", format=".4f")]
    columns += [Column("score"), Column("size", "MB", ",.1f", spare=4), Column("age", align="right", spare=3)]
    cells: list[list[Cell]] = [
        [
            *(row.run, row.scheme, row.model, row.step, row.steps, row.state, row.loss, row.score or None),
            *(row.bytes / 1e6, age(row.seconds_old)),
        ]
        for row in rows
    ]
    total = sum(row.bytes for row in rows) / 1e9
    notes = ["adaln compare RUN RUN... says what differs and which scores compare; adaln runs --clean what can go."]
    return Table(f"{len(rows):,} run{'s' * (len(rows) != 1)} in {root}, {total:.3g} GB", columns, cells, notes)


def age(seconds: float) -> str:
    """The largest unit alone.

    >>> age(42), age(4000), age(2e5)
    ('42 s', '1 h', '2 days')
    """
    units = ((1.5 * 86_400, 86_400, "days"), (3600, 3600, "h"), (60, 60, "min"))
    return next((f"{seconds / unit:.0f} {name}" for least, unit, name in units if seconds >= least), f"{seconds:.0f} s")


def cleaned(root: Path, configs: dict[Path, RunConfig], delete: bool) -> Output:
    """What can go and how much that frees; it goes where that is asked for."""
    parts = [*removable(root, configs)]
    sizes = {path: sum(stat.st_size for stat in files_of(path)) for path, _ in parts}
    if delete:
        for path in sizes:
            remove(path)
    rows: list[list[Cell]] = [[str(path), why, sizes[path] / 1e6] for path, why in parts]
    freed = f"{sum(sizes.values()) / 1e6:,.1f} MB"
    line = f"it would free {freed}; adaln runs {root} --clean --delete does so"
    named_parts = [{"path": str(path), "why": why, "bytes": sizes[path]} for path, why in parts]
    unfinished = {str(folder): sum(stat.st_size for stat in files_of(folder)) for folder in unfinished_samples(configs)}
    data = {"deleted": delete, "bytes": sum(sizes.values()), "parts": named_parts, "unfinished_samples": unfinished}
    stay = [
        f"{folder} stays, {size / 1e6:,.1f} MB of images of a sampling that was stopped: its command goes on with them"
        for folder, size in unfinished.items()
    ]
    if not rows:
        return Output(data, [f"nothing in {root} can go", *stay])
    table = Table("What can go", [Column("path"), Column("why"), Column("size", "MB", ",.1f")], rows)
    return Output(data, [table, f"deleted; {freed} are free" if delete else line, *stay])


def unfinished_samples(folders: Iterable[Path]) -> Iterator[Path]:
    """Folders of images that were drawn for samples which are not whole (`adaln.sampling.parts`)."""
    for folder in folders:
        yield from (parts for parts in sorted(folder.rglob("*.npz.parts")) if any(parts.glob("*.npy")))


def removable(root: Path, configs: dict[Path, RunConfig]) -> Iterator[tuple[Path, str]]:
    """Paths that can go, and why."""
    referred = names_referred_to(root)
    yield from ((path, "left by a killed writer") for path in abandoned(temporaries(root)))
    for folder, config in configs.items():
        if is_held(folder / ".lock"):
            continue
        yield from (
            (path, "left by a killed writer")
            for path in abandoned([*temporaries(folder), *temporaries(folder / "checkpoints")])
        )
        if SHARED.search(config.name) or folder.name in referred:
            continue
        saved = steps_of(folder)
        if not saved:
            yield folder, "a run without a step"
        elif saved[-1] >= config.steps and config.keep_checkpoints and not config.optim.ema_widths:
            for step in saved[:-1]:
                if step not in config.keep_at:
                    yield folder / "checkpoints" / f"{step:09d}", "before the last checkpoint of a finished run"


def remove(path: Path) -> None:
    """A file, or a folder, of which at no moment a part is to be seen under its name."""
    if path.is_dir():
        remove_folder(path)
    else:
        path.unlink(missing_ok=True)


def names_referred_to(root: Path) -> set[str]:
    """Names of runs in what studies, choices, searches and samples of other runs say of themselves."""
    files = [file for kind in KINDS for file in root.glob(f"{kind}/*/*.json")]
    names = set[str]()
    for file in [*files, *root.glob("*/samples/*.json"), *root.glob("*/analysis/*/*.json")]:
        with suppress(OSError):
            own = file.relative_to(root).parts[0]
            names |= {*RUN_NAME.findall(file.read_text(encoding="utf-8", errors="replace"))} - {own}
    return names


def abandoned(paths: Iterable[Path]) -> Iterator[Path]:
    """Those whose writer, the number of whose process ends the name, is gone."""
    for path in paths:
        number = path.name.rpartition("-")[2]
        if not number.isdigit() or not Path(f"/proc/{number}").exists():
            yield path
