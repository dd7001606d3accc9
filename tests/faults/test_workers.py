"""Processes of torchrun and workers of studies killed, one or all, and two commands that want the same run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from adaln.runs import read_records
from helpers.smallest_commands import (
    SAMPLE,
    STUDY,
    TRAIN,
    check_whole,
    contents,
    finished,
    kept,
    newest,
    temporaries,
    times,
)

pytestmark = pytest.mark.slow
STEPS = 60
WORDS = [str(word) for word in [*TRAIN[:-1], "--steps", STEPS, "--checkpoint-every", 10, "--out"]]


def start(words: list[object], log: Path) -> subprocess.Popen:
    """`adaln WORDS` by two processes of torchrun."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    with log.open("w") as said:
        return subprocess.Popen([*torchrun, "-m", "adaln", *map(str, words)], stdout=said, stderr=said)


def children(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def kill_job(job: subprocess.Popen) -> None:
    """All at once."""
    workers = children(job.pid)
    assert len(workers) == 2
    for process in (job.pid, *workers):
        os.kill(process, signal.SIGKILL)
    job.wait()


def kill_one(job: subprocess.Popen) -> None:
    """The second of two processes: torchrun ends the first."""
    os.kill(children(job.pid)[1], signal.SIGKILL)
    assert job.wait() == 1


def wait_for(what: Callable[[], bool], job: subprocess.Popen | Future) -> None:
    """Wait until something is so, which must be before the job has ended."""
    while not what():
        assert not (job.done() if isinstance(job, Future) else job.poll() is not None)
        time.sleep(0.01)


def losses(run: Path) -> list[float]:
    rows = read_records(run / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    return [row["loss"] for row in rows]


@pytest.fixture(scope="module")
def alone(adaln, tmp_path_factory):
    """Losses of the run by one process."""
    run = tmp_path_factory.mktemp("alone") / "run"
    adaln(*WORDS, run).done()
    return losses(run)


def test_training_goes_on_from_its_last_checkpoint(alone, tmp_path):
    """The whole job is killed; a single process of it in `tests/training/test_together.py`."""
    run, log = tmp_path / "run", tmp_path / "log"
    job = start([*WORDS, run], log)
    wait_for(lambda: newest(run) >= 20, job)
    kill_job(job)
    check_whole(run)
    assert 20 <= newest(run) < STEPS
    assert start([*WORDS, run], log).wait() == 0, log.read_text()[-3000:]
    assert losses(run) == pytest.approx(alone, rel=1e-6, abs=0)
    assert not temporaries(run)


@pytest.mark.parametrize("verb", ["encode", "sample"])
def test_what_processes_share_goes_on_and_none_of_it_is_made_twice(adaln, clean, tmp_path, verb):
    """One of two processes is killed, then the whole job; a process alone finishes it, with the bytes of one."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    slower = [*SAMPLE, "--num-images", 80, "--sampler.steps", 40]
    words, pieces = {
        "encode": (lambda out: ["encode", "digits", out, "--autoencoder", "none", "--shard-rows", 4], "shard-*"),
        "sample": (lambda out: ["sample", clean, *slower, "--out", out / "x.npz"], "x.npz.parts/0*.npy"),
    }[verb]
    adaln(*words(whole)).done()
    made: dict[Path, int] = {}
    for kill in (kill_one, kill_job):
        job = start(words(killed), tmp_path / "log")
        wait_for(lambda: len(times(killed.glob(pieces))) > len(made) + 2, job)  # noqa: B023
        kill(job)
        check_whole(killed)
        made = kept(made, times(killed.glob(pieces)))
    adaln(*words(killed)).done()
    assert contents(killed) == contents(whole)


def test_a_study_whose_worker_is_killed_names_its_run_and_keeps_the_others(adaln, clean_study, root):
    with ThreadPoolExecutor(1) as pool:
        study = pool.submit(adaln, *STUDY, root, "--jobs", 2)
        wait_for(lambda: any(finished(root)), study)
        (command,) = children(adaln.server.pid)
        (worker, *_) = [one for one in children(command) if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]
        os.kill(worker, signal.SIGKILL)
        said = study.result().refused()
    assert said.startswith("1 of 4 runs failed, the others are kept: digits-adaln-")
    assert "its process was ended by SIGKILL (out of memory?)" in said
    made = finished(root)
    adaln(*STUDY, root).done()
    kept(made, finished(root))
    assert contents(root) == contents(clean_study)


def test_workers_of_a_killed_study_save_and_make_way_for_the_same_command(adaln, clean_study, root):
    """Only the command is killed, and started again at once."""
    with ThreadPoolExecutor(1) as pool:
        for pieces in (1, 8):
            study = pool.submit(adaln, *STUDY, root, "--jobs", 2)
            wait_for(lambda: len(finished(root)) >= pieces, study)  # noqa: B023
            (command,) = children(adaln.server.pid)
            os.kill(command, signal.SIGKILL)
            assert study.result().is_killed
    adaln(*STUDY, root).done()
    assert contents(clean_study).items() <= contents(root).items()  # besides, checkpoints of where workers stopped


def test_a_second_command_on_a_run_is_told_so_and_the_first_goes_on(adaln, tmp_path):
    run = tmp_path / "run"
    words = [*WORDS, str(run), "--steps", "100000", "--checkpoint-every", "1000"]
    first = subprocess.Popen([sys.executable, "-m", "adaln", *words], stderr=subprocess.PIPE, text=True)
    while first.poll() is None and not (run / "metrics.jsonl").exists():
        time.sleep(0.05)
    assert adaln(*words).refused() == f"run {str(run)!r} is being trained by another process"
    assert first.poll() is None
    first.terminate()
    _, said = first.communicate()
    assert first.returncode == 130
    step = newest(run)
    assert said.splitlines()[-1].startswith(f"adaln: stopped at step {step} of 100000, saved in {run}; go on with")
