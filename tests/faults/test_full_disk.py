"""The disk fills up at any moment: one line, nothing half written, and on with the same command once there is space."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.smallest_commands import ENCODE, SAMPLE, STUDY, TRAIN, check_whole, contents, temporaries

pytestmark = pytest.mark.slow
DISK_KB = 16 * 1024


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """An empty folder as a disk of its own, which only root can have."""
    words = ["mount", "-t", "tmpfs", "-o", f"size={DISK_KB}k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path):
    (tmp_path / "disk").mkdir()
    with small_disk(tmp_path / "disk") as folder:
        yield folder


@pytest.fixture
def study_disk(root):
    with small_disk(root) as folder:
        yield folder


def leave_free(disk: Path, kb: int) -> None:
    """Fill the disk up but for so much."""
    ballast = disk / "ballast"
    ballast.unlink(missing_ok=True)
    state = os.statvfs(disk)
    ballast.write_bytes(bytes(state.f_bavail * state.f_bsize - kb * 1024))


def filled_until_done(adaln, words: list[object], disk: Path, *free_kb: int) -> None:
    """The command on a disk that is filled up to so much again and again, and at last has space."""
    for kb in free_kb:
        leave_free(disk, kb)
        assert "No space left on device" in adaln(*words).refused()
        check_whole(disk)
        assert not temporaries(disk)
    (disk / "ballast").unlink()
    adaln(*words).done()


def test_training(adaln, clean, disk):
    filled_until_done(adaln, [*TRAIN, disk / "run"], disk, 0, 4, 16, 100, 200, 24, 120, 300)
    assert contents(disk / "run") == contents(clean)


def test_encoding(adaln, disk, tmp_path):
    adaln("encode", "digits", tmp_path / "whole", *ENCODE).done()
    filled_until_done(adaln, ["encode", "digits", disk / "out", *ENCODE], disk, 0, 4, 40, 200, 300)
    assert contents(disk / "out") == contents(tmp_path / "whole")


def test_sampling(adaln, clean, disk, tmp_path):
    words = ["sample", clean, *SAMPLE, "--out"]
    adaln(*words, tmp_path / "whole" / "x.npz").done()
    parts = (0, 8, 16, 20)  # eleven of twelve, each in a page of 4 KB
    filled_until_done(adaln, [*words, disk / "out" / "x.npz"], disk, *parts, 4, 4)
    assert contents(disk / "out") == contents(tmp_path / "whole")


def test_a_study(adaln, clean_study, study_disk):
    """At first nothing fits; then runs do, one after the other; at last all but the page."""
    filled_until_done(adaln, [*STUDY, study_disk], study_disk, 0, 4, 16, 100, 200, 300, 400, 600, 600, 600, 4, 100)
    assert contents(study_disk) == contents(clean_study)


@pytest.mark.parametrize("kb", [1, 8, 60, 100])
def test_a_limit_on_file_sizes_is_a_full_disk_too(adaln, clean, tmp_path, kb):
    said = adaln(*TRAIN, tmp_path / "run", file_bytes=kb * 1024).refused()
    assert str(tmp_path / "run") in said and "too large" in said.lower()
    check_whole(tmp_path / "run")
    assert not temporaries(tmp_path / "run")
    adaln(*TRAIN, tmp_path / "run").done()
    assert contents(tmp_path / "run") == contents(clean)
