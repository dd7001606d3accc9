"""A study of two narrow schemes, through the whole way from images to a page."""

import json
import random
import signal
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from adaln.studies import STUDIES, Overrides, Setting, run_study
from adaln.studies.run.run_study import Unfinished, complete
from adaln.studies.study import by_run
from helpers.in_process import InProcess
from helpers.smallest import PLAN, STUDY, make_small, recorded, run

pytestmark = pytest.mark.xdist_group("run_study")  # one `on_two` for all


def unscorable(label):
    """`make_small`, but one row asks for scores where there is no checkpoint."""

    def make(setting, seed, changes):
        job = make_small(setting, seed, changes)
        return replace(job, score_at=(5,)) if setting.label == label else job

    return make


def files(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture(scope="module")
def on_two(tmp_path_factory):
    """The study done by two workers: its root and its folder, and the progress that was shown."""
    root = tmp_path_factory.mktemp("on-two")
    with recorded() as calls:
        folder, _ = run(PLAN, root, 2)
    return SimpleNamespace(root=root, folder=folder, calls=calls)


@pytest.mark.slow
def test_a_study_gives_a_table_and_a_page(on_two):
    folder, calls = on_two.folder, on_two.calls
    _, done, total, unit = calls[-1]
    assert (done, unit) == (total, "steps") and total > 4 * 8  # four runs of eight steps, and what is drawn of them
    assert len({done for _, done, *_ in calls}) > 4  # the workers say what they do meanwhile
    data = json.loads((folder / "result.json").read_text())
    assert [row["scheme"] for row in data["rows"]] == ["adaln-mix", "adaln-zero"]
    assert data["rows"][0]["difference"]["distinguishable"] in (True, False)
    assert data["rows"][1]["difference"] is None
    assert data["verdict"]
    page = (folder / "index.html").read_text()
    for heading in ("Result", "Over training", "Samples", "Who moves when"):
        assert heading in page


@pytest.mark.slow
def test_a_study_gives_the_same_bytes_again_whatever_the_number_of_processes(tmp_path, on_two):
    before = files(on_two.folder)
    again, _ = run(PLAN, on_two.root, 1)
    assert files(again) == before
    by_one, _ = run(PLAN, tmp_path / "one", 1)
    here, _ = run_study(PLAN, tmp_path / "here", InProcess())
    assert [(other / "result.json").read_bytes() for other in (by_one, here)] == [before["result.json"]] * 2


@pytest.mark.slow
def test_a_failed_run_is_named_and_what_the_others_and_itself_have_done_is_kept(tmp_path):
    plan = replace(PLAN, seeds=(0,))
    failing = replace(plan, scale=replace(PLAN.scale, make=unscorable("adaln-zero")))
    said = r"1 of 2 runs failed, the others are kept: digits-adaln-zero-s0-\w{10}: .*no complete checkpoint at step 5"
    with pytest.raises(Unfinished, match=said):
        complete(failing.jobs(), tmp_path, InProcess())
    assert len(list(tmp_path.glob("digits-adaln-mix*/scores/*.scores.json"))) == 2
    with recorded() as calls:
        complete(plan.jobs(), tmp_path, InProcess())
    _, before, total, _ = calls[0]
    assert 0.5 * total < before < total  # all is trained, one of two is scored: no progress of this session
    assert calls[-1] == ("runs", total, total, "steps")
    assert {stage for stage, done, *_ in calls if done == before} == {"references", "runs begin"}  # no rate yet
    with recorded() as calls:
        complete(plan.jobs(), tmp_path, InProcess())
    assert {call[1:3] for call in calls} == {(total, total)}


@pytest.mark.slow
def test_a_reference_that_cannot_be_had_is_said_before_anything_is_trained(tmp_path):
    plan = replace(PLAN, overrides=Overrides(reference="nowhere"))
    with pytest.raises(ValueError, match="no data at 'nowhere'"):
        complete(plan.jobs(), tmp_path, InProcess())
    assert not list(tmp_path.glob("*/metrics.jsonl"))


def test_a_launcher_whose_jobs_did_too_little_is_found_out(tmp_path):
    class Idle:
        def run(self, pieces, watch):
            return {}

    with pytest.raises(Unfinished, match=r"2 of 2 runs failed.*digits-adaln-zero-s0-\w+: not all of it is on disk"):
        complete(replace(PLAN, seeds=(0,)).jobs(), tmp_path, Idle())


@pytest.mark.slow
def test_rows_of_one_run_train_it_once_to_the_longest_of_them(tmp_path):
    def make(setting, seed, changes):
        job = make_small(setting, seed, changes)
        short = setting.label == "adaln-zero, 4 steps"
        return replace(job, config=replace(job.config, steps=4), score_at=(4,)) if short else job

    settings = (*STUDY.settings, Setting("adaln-zero, 4 steps", "adaln-zero"))
    plan = replace(PLAN, study=replace(STUDY, settings=settings), scale=replace(PLAN.scale, make=make), seeds=(0,))
    assert [len(jobs) for jobs in by_run(plan.jobs()).values()] == [1, 2]
    with recorded() as calls:
        _, result = run_study(replace(plan, seeds=(0, 1)), tmp_path, InProcess())
    assert calls[-1][1] == calls[-1][2]
    assert len(list(tmp_path.glob("digits-adaln-zero-s0-*/metrics.jsonl"))) == 1
    rows = {row["scheme"]: row for row in result.data["rows"]}
    assert rows["adaln-zero, 4 steps"]["loss"] != rows["adaln-zero"]["loss"]


SCRIPT = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in a shell's background are started deaf to it
from adaln.progress import showing
from helpers.smallest import PLAN, complete_on_cores
if __name__ == "__main__":
    with showing(lambda stage, done, total, unit: print(done, flush=True)):
        complete_on_cores(PLAN, Path(sys.argv[1]), 2)
"""


def killed_after(changes, number, command):
    """Start the command, send it the signal once it has told of more than so many changes; whether it ended before."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        seen = set()
        for line in process.stdout:
            seen.add(line)
            if len(seen) > changes:
                process.send_signal(number)
                process.stdout.read()  # ends when its workers are gone, too
                break
    return process.returncode == 0


@pytest.mark.parametrize(
    ("number", "longer"),
    [
        pytest.param(number, longer, marks=pytest.mark.slow if (number, longer) == (9, 8) else pytest.mark.nightly)
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
        for longer in (8, 1)
    ],
)
def test_a_study_killed_again_and_again_ends_with_the_bytes_of_an_undisturbed_one(tmp_path, on_two, number, longer):
    """Each time it is let live for so many changes more: surely it ends once."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(tmp_path / "killed")]
    rng = random.Random(int(number))
    ends = (killed_after(rng.randrange(1, 4) + longer * attempt, number, command) for attempt in range(40))
    kills = next(count for count, ended in enumerate(ends) if ended)
    assert kills
    with recorded() as calls:
        killed, _ = run(PLAN, tmp_path / "killed", 2)
    assert calls[0][1] == calls[0][2]  # nothing was left to do
    assert (killed / "result.json").read_bytes() == files(on_two.folder)["result.json"]


def test_quickstart_asks_the_question_of_the_readme():
    assert [setting.scheme for setting in STUDIES["quickstart"].settings] == [
        *("adaln", "adaln-step1", "adaln-mix", "adaln-zero", "adaln-gaussian")
    ]
