"""Files of every kind with other bytes: each is read as what it still is, or named in the one line of exit code 2."""

import random
import re
import resource
import shutil
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.files_of_all_kinds import KINDS, command
from helpers.mutations import mutated

SLICES, SLICE = 100, 100
"""Ten thousand files in all, those of a slice of one kind."""
DEFAULT = 6
"""Of each kind that is made and read without training."""
SECONDS, MORE_BYTES = 120, 3 << 30
"""What reading a small file may take, and how much more address space."""


@contextmanager
def bounded() -> Iterator[None]:
    """In this block time and memory end."""

    def too_late(*_: object) -> None:
        raise TimeoutError(f"not read within {SECONDS} s")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, too_late)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MORE_BYTES, hard))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def fault(folder: Path, file: Path, words: str) -> str:
    """What is wrong with how a command takes a changed file; "" where it is read, or named in one line."""
    with warnings.catch_warnings(), bounded():
        warnings.simplefilter("ignore")  # of Pillow and torch
        code, lines = command(folder, words)
    said = [line for line in lines if line.startswith("adaln: ")]
    if code == 0 and not said:
        return ""
    indexes = (index.name for index in (folder / file).parent.glob("*.index.json"))  # which stand for all their shards
    names = "|".join(re.escape(name) for name in {file.name, *indexes, *map(str, file.parents)} - {"."})
    is_named = len(said) == 1 and re.search(rf"^adaln: error: .*(?<![\w.])({names})(?![\w.])", said[0])
    return "" if code == 2 and is_named and said[0].isprintable() else f"exit code {code}: {said or lines[-1:]}"


def check(name: str, numbers: range, folder: Path, commands: tuple[str, ...]) -> None:
    """Change files of a kind, one at a time, each by a seed of its own, and let one of the commands read it."""
    whole, work, faults = folder / "whole", folder / "work", []
    whole.mkdir()
    KINDS[name].make(whole)
    files = KINDS[name].changeable(whole)
    assert files
    for number in numbers:
        rng = random.Random(f"{name} {number}")
        file, words = rng.choice(files), rng.choice(commands)
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(whole, work)
        (work / file).write_bytes(mutated((work / file).read_bytes(), rng))
        if wrong := fault(work, file, words):
            faults.append(f"{name} {number}: {file}, adaln {words}: {wrong}")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "name", [name for name in KINDS if name not in ("run", "decoded pictures", "scheme", "classifier", "autoencoder")]
)
def test_changed_files_are_read_or_named(tmp_path, name):
    check(name, range(DEFAULT), tmp_path, KINDS[name].commands[:1])


@pytest.mark.nightly
@pytest.mark.parametrize("part", range(SLICES))
def test_ten_thousand_changed_files_are_read_or_named(tmp_path, part):
    name = [*KINDS][part % len(KINDS)]
    check(name, range(SLICE * part, SLICE * (part + 1)), tmp_path, KINDS[name].commands)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.slow
def test_every_command_reads_the_files_as_they_were(tmp_path, name):
    whole, work = tmp_path / "whole", tmp_path / "work"
    whole.mkdir()
    KINDS[name].make(whole)
    assert [file for file in KINDS[name].changeable(whole) if (whole / file).read_bytes()]
    for words in KINDS[name].commands:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(whole, work)
        code, lines = command(work, words)
        assert code == 0, lines
