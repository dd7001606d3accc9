"""All processes of torchrun killed at once, and two commands that want the same run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adaln.runs import read_records
from faults.small import TRAIN, check_whole, newest, temporaries

pytestmark = pytest.mark.slow
STEPS = 60
WORDS = [str(word) for word in [*TRAIN[:-1], "--steps", STEPS, "--checkpoint-every", 10, "--out"]]


def start(run: Path) -> subprocess.Popen:
    """`adaln train` by two processes of torchrun."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    with run.with_suffix(".log").open("w") as said:
        return subprocess.Popen([*words, "-m", "adaln", *WORDS, str(run)], stderr=said)


def workers(job: subprocess.Popen) -> list[int]:
    return [int(word) for word in Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()]


def wait_for_step(run: Path, step: int, job: subprocess.Popen) -> None:
    while job.poll() is None and newest(run) < step:
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


def test_a_job_killed_as_a_whole_goes_on_from_its_last_checkpoint(alone, tmp_path):
    run = tmp_path / "run"
    job = start(run)
    wait_for_step(run, 20, job)
    for process in (job.pid, *workers(job)):
        os.kill(process, signal.SIGKILL)
    job.wait()
    check_whole(run)
    assert newest(run) >= 20
    job = start(run)
    assert job.wait() == 0, run.with_suffix(".log").read_text()[-3000:]
    assert losses(run) == pytest.approx(alone, rel=1e-6, abs=0)
    assert not temporaries(run)


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
