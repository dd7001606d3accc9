"""Everything that wants a GPU, prepared for whoever has one for ten minutes, in order of worth.

A part is a command in a process of its own with its own time limit, and a file as soon as it ends: killed at any
moment, what was measured is kept, and the same command goes on with what is missing.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import adaln
from adaln.benchmarks.gpu_page import Record, page, table
from adaln.benchmarks.machine import machine, torch_device
from adaln.benchmarks.options import GpuOptions
from adaln.codec import short_hash
from adaln.execution import processor
from adaln.files import write_atomically
from adaln.progress import progress
from adaln.report import Table, write_report

SOURCE = Path(adaln.__file__).parents[1]
TESTS = SOURCE.parent / "tests"
GRACE_SECONDS = 10.0
"""What a part that is over its time has to save what it did."""


@dataclass(frozen=True, slots=True)
class Part:
    """A command, what it shows, and how long it may take."""

    name: str
    title: str
    words: tuple[str, ...]
    """What follows `python -m`."""
    seconds: float
    device: str
    """What it computes on, by its own name."""


def parts(options: GpuOptions, device: torch.device) -> list[Part]:
    """In order of worth."""
    on_gpu, tiny = device.type == "cuda", options.tiny
    marked = (file for file in TESTS.rglob("test_*.py") if "mark.gpu" in file.read_text(encoding="utf-8"))
    files = " ".join(sorted(str(file.relative_to(TESTS.parent)) for file in marked))
    tests = f"{files} -m gpu" if on_gpu else "tests/test_devices.py"
    model, how, repeats = ("tiny", "none", 2) if tiny else (options.model, "both", 10)
    small, middle, large = (1, 2, 3) if tiny else (64, 128, 256)
    scale, steps, images, seconds = ("tiny", 4, 50, 300) if tiny else ("small", 100, 500, 90)
    few = f"--repeats {repeats} --device {device.type}"
    both = f"--model {model} --precision bfloat16 --compile {how} {few} --batch-size"
    pytest = "pytest -q -o addopts=--import-mode=importlib -p no:cacheprovider"
    study = f"adaln study catch-up --scale {scale} --data digits --seeds 2 --steps {steps} --num-images {images}"
    root = f"--device {device.type} --root {shlex.quote(str(options.folder / 'runs'))}"
    train, sample = f"adaln bench train {both}", f"adaln bench sample {both}"
    rows = (
        ("tests", "The tests that need a GPU", f"{pytest} {tests}", 120),
        ("machine", "Products and copies", f"adaln bench machine {few}", 60),
        ("train", f"Training, batch {small}", f"{train} {small}", 240),
        ("train-checkpointed", f"Training, batch {large}, recomputed", f"{train} {large} --checkpoint", 200),
        ("sample", f"Guided sampling, batch {middle}", f"{sample} {middle}", 150),
        ("sample-graphed", "The same as a CUDA graph", f"{sample} {middle} {'--cuda-graph' * on_gpu}", 150),
        ("train-large", f"Training, batch {large}", f"{train} {large}", 200),
        ("study", "A study of two schemes", f"{study} {root}", seconds),
    )
    there = [row for row in rows if row[0] != "tests" or TESTS.is_dir()]  # an installed package has none beside it
    where = torch.cuda.get_device_name(device) if on_gpu else processor()
    return [Part(name, title, tuple(shlex.split(words)), limit, where) for name, title, words, limit in there]


def everything(options: GpuOptions) -> dict[str, Any]:
    """All parts that are missing, as far as the time goes; the page is written after each."""
    device = torch_device(options.device)
    wanted = chosen(parts(options, device), options.only)
    end, records = time.monotonic() + 60 * options.minutes, dict[str, Record]()
    result: dict[str, Any] = {"machine": machine(device), "options": {**asdict(options), "folder": str(options.folder)}}
    result["parts"] = records
    for number, part in enumerate(wanted):
        progress("bench gpu", number, len(wanted), "parts")
        records[part.name] = before = finished(part, options.folder)
        if not before:
            records[part.name] = done(part, options.folder, min(part.seconds, end - time.monotonic()))
        write_report(page(result), options.folder)
    return result


def result_table(result: dict[str, Any]) -> Table:
    """What was wanted, and what was measured."""
    return table(result)


def chosen(there: Sequence[Part], names: Sequence[str]) -> list[Part]:
    """The parts of these names; all of them without any."""
    for name in names:
        if name not in {part.name for part in there}:
            raise ValueError(f"unknown part {name!r}; known: {', '.join(part.name for part in there)}")
    return [part for part in there if part.name in names or not names]


def finished(part: Part, folder: Path) -> Record:
    """What a part gave, on this device by this very command; nothing, where it is still to be done."""
    try:
        record: Record = json.loads(part_file(part, folder).read_text(encoding="utf-8"))
        return record if record["outcome"] == "done" else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def done(part: Part, folder: Path, limit: float) -> Record:
    """Do a part, within its limit, and keep what it gave."""
    record: Record = {"title": part.title, "command": command(part), "outcome": "no time was left", "seconds": 0.0}
    if limit > 0:
        record |= outcome(part, folder, limit)
        write_atomically(part_file(part, folder), json.dumps(record, indent=1) + "\n")
    return record


def outcome(part: Part, folder: Path, limit: float) -> Record:
    """How a part ended, what it printed, and its numbers where it ended well."""
    path = os.pathsep.join([str(SOURCE), *filter(None, [os.environ.get("PYTHONPATH")])])
    words = [*part.words, *["--json"] * (part.words[0] == "adaln")]
    start, log = time.monotonic(), part_file(part, folder).with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": path}
    folder_of_tests = TESTS.parent if part.words[0] == "pytest" else None
    with (
        log.open("w", encoding="utf-8") as errors,
        subprocess.Popen(
            [sys.executable, "-m", *words],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
            cwd=folder_of_tests,
        ) as child,
    ):
        try:
            printed, is_over = ended(child, limit)
        except BaseException:
            child.kill()
            raise
    row: Record = {"seconds": time.monotonic() - start}
    if is_over:
        return row | {"outcome": f"stopped after its {limit:.0f} s"}
    lines = (printed if part.words[0] == "pytest" else log.read_text(encoding="utf-8")).strip().splitlines()
    if child.returncode:
        return row | {"outcome": f"failed: {lines[-1] if lines else f'exit code {child.returncode}'}"}
    try:
        return row | {"outcome": "done", "result": lines[-1] if part.words[0] == "pytest" else json.loads(printed)}
    except (IndexError, ValueError):
        return row | {"outcome": "failed: it printed no result"}


def ended(child: "subprocess.Popen[str]", limit: float) -> tuple[str, bool]:
    """What a process printed until its end, and whether it had to be asked for it."""
    try:
        return child.communicate(timeout=limit)[0], False
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGINT)
    try:
        return child.communicate(timeout=GRACE_SECONDS)[0], True
    except subprocess.TimeoutExpired:
        child.kill()
        return child.communicate()[0], True


def part_file(part: Part, folder: Path) -> Path:
    """Where a part is kept, by its command and its device; what it said on the way lies beside it."""
    return folder / "parts" / f"{part.name}-{short_hash({'command': command(part), 'device': part.device})}.json"


def command(part: Part) -> str:
    """What a user would type."""
    return f"python -m {shlex.join(part.words)}"
