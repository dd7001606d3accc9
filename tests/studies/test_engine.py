"""A study of two narrow schemes, through the whole way from images to a page."""

import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from adaln.config import digits
from adaln.models import DiTConfig
from adaln.processes import SamplerConfig
from adaln.studies import STUDIES, Study, run_study
from adaln.studies.plan import Job

SMALL = DiTConfig(16, 2, 2, 2)


def small_jobs(seeds):
    """Two schemes, two checkpoints, few images: the same way through as the real study."""
    return [
        Job(
            job.label,
            replace(job.config, model=SMALL, steps=8, batch_size=8, log_every=2, checkpoint_every=4),
            (4, 8),
            replace(job.sample, num_images=40, batch_size=20, sampler=SamplerConfig(solver="ddim", steps=2, clip=True)),
        )
        for job in STUDIES["quickstart"].jobs(seeds)
        if job.label in ("adaln-zero", "adaln-mix")
    ]


STUDY = Study("small", "Two schemes, a few steps", small_jobs, STUDIES["quickstart"].reduce)


def ignore(done, total, what):
    pass


def files(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_study_gives_a_table_and_a_page(tmp_path):
    told = []
    folder, _ = run_study(STUDY, tmp_path / "a", range(2), 2, lambda *state: told.append(state))
    assert told[-1][0] == told[-1][1] > 0
    data = json.loads((folder / "result.json").read_text())
    assert [row["scheme"] for row in data["rows"]] == ["adaln-mix", "adaln-zero"]
    assert data["rows"][0]["difference"]["distinguishable"] in (True, False)
    assert data["rows"][1]["difference"] is None
    assert data["verdict"]
    page = (folder / "index.html").read_text()
    for heading in ("Result", "Over training", "Samples", "Who moves when"):
        assert heading in page


@pytest.mark.slow
def test_a_study_gives_the_same_bytes_again_whatever_the_number_of_processes(tmp_path):
    folder, _ = run_study(STUDY, tmp_path / "a", range(2), 2, ignore)
    before = files(folder)
    again, _ = run_study(STUDY, tmp_path / "a", range(2), 1, ignore)
    assert files(again) == before
    other, _ = run_study(STUDY, tmp_path / "b", range(2), 1, ignore)
    assert (other / "result.json").read_bytes() == before["result.json"]


def test_a_failed_job_is_named_and_the_others_are_kept(tmp_path):
    def jobs(seeds):
        good, *_ = small_jobs(seeds)
        bad = replace(good, score_at=(5,))  # no checkpoint there
        return [good, replace(bad, config=replace(bad.config, seed=7, name="bad"))]

    with pytest.raises(
        ValueError, match=r"1 of 2 jobs failed, the others are kept: bad: .*no complete checkpoint at step 5"
    ):
        run_study(replace(STUDY, jobs=jobs), tmp_path, range(2), 2, ignore)
    assert len(list(tmp_path.glob("digits-adaln-mix*/scores/*.scores.json"))) == 2


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from studies.test_engine import STUDY, ignore, run_study
if __name__ == "__main__":
    run_study(STUDY, Path(sys.argv[1]), range(2), 2, ignore)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_study_killed_again_and_again_ends_with_the_bytes_of_an_undisturbed_one(tmp_path, number):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=os.path.dirname(os.path.dirname(__file__))))  # noqa: PTH120
    command = [sys.executable, str(script), str(tmp_path / "killed")]
    rng = random.Random(int(number))
    kills = 0
    for patience in range(40):  # longer each time: the first is surely killed, the last surely ends
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        try:
            process.communicate(timeout=rng.uniform(2, 4 + patience))
            if process.returncode == 0:
                break
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            process.communicate()
            kills += 1
    assert process.returncode == 0 and kills
    undisturbed, _ = run_study(STUDY, tmp_path / "whole", range(2), 2, ignore)
    (killed,) = (tmp_path / "killed" / "studies").iterdir()
    assert (killed / "result.json").read_bytes() == (undisturbed / "result.json").read_bytes()


def test_quickstart_asks_the_question_of_the_readme():
    study = STUDIES["quickstart"]
    jobs = study.jobs(range(study.seeds))
    assert {job.label for job in jobs} == {"adaln", "adaln-step1", "adaln-mix", "adaln-zero", "adaln-gaussian"}
    assert study.seeds >= 2 and len(jobs) == 5 * study.seeds
    assert all(
        job.config
        == replace(
            digits(),
            **{
                n: getattr(job.config, n)
                for n in ("name", "scheme", "seed", "steps", "checkpoint_every", "keep_checkpoints")
            },
        )
        for job in jobs
    )
