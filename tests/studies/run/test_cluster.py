"""Jobs through submitit: on this machine, and through a Slurm that is played by a few scripts."""

import gc
import json
import os
import signal
import stat
import sys
import textwrap
import time

import pytest

from adaln.studies import run_study
from adaln.studies.choices import Cluster
from adaln.studies.run.cluster import POLL_SECONDS, Jobs, _JobTask
from adaln.training import Stopped
from helpers.smallest import PLAN, recorded, run
from helpers.work import Note, die, refuse

LOCAL = Cluster(executor="local", gpus_per_node=0)
# Submitit's local executor never waits for the processes that watch over its jobs; they are let go of within each test.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")


@pytest.fixture
def let_go_of_watchers():
    yield
    gc.collect()


@pytest.mark.slow
@pytest.mark.usefixtures("let_go_of_watchers")
def test_jobs_do_every_piece_and_name_those_that_failed(tmp_path):
    watched = []
    pieces = {"good": Note(tmp_path, "good"), "bad": refuse, "dead": die}
    failures = Jobs(tmp_path / "cluster", LOCAL).run(pieces, watched.append)
    assert failures["bad"].message == "expected something else" and failures["bad"].kind == "ValueError"
    assert failures["dead"].kind == "Killed" and "its log: " in failures["dead"].message
    assert set(failures) == {"bad", "dead"}
    note = json.loads((tmp_path / "good.json").read_text())
    assert note["device"] == "cpu" and note["threads"] == 1
    assert watched and set(watched) == {None}


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"gpus_per_node": 2}, "expected 0 or 1"), ({"time_minutes": 0}, "cluster.time_minutes is 0")],
)
def test_what_a_job_cannot_ask_for_is_one_line(changes, said):
    with pytest.raises(ValueError, match=said):
        Cluster(**changes)


def test_without_slurm_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"no Slurm here .*--cluster.executor local"):
        Jobs(tmp_path / "cluster", Cluster())


SBATCH = """
#!{python}
# Reads the array size, starts each task as Slurm would, and names the job; a task's state is what its process says.
import os, pathlib, re, subprocess, sys
state = pathlib.Path(os.environ["FAKE_SLURM"])
script = pathlib.Path(sys.argv[-1])
(state / "script").write_text(script.read_text())
number = 100 + len(list(state.glob("job-*")))
(state / f"job-{{number}}").touch()
last = int(re.search(r"--array=0-(\\d+)", script.read_text()).group(1))
for task in range(last + 1):
    variables = {{
        "SLURM_JOB_ID": f"{{number}}{{task}}", "SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": task,
        "SLURM_NTASKS": 1, "SLURM_JOB_NUM_NODES": 1, "SLURM_NODEID": 0, "SLURM_PROCID": 0, "SLURM_LOCALID": 0,
        "SLURM_JOB_NODELIST": "here",
    }}
    environment = os.environ | {{name: str(value) for name, value in variables.items()}}
    process = subprocess.Popen(
        ["bash", script], env=environment, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    (state / f"task-{{number}}_{{task}}").write_text(str(process.pid))
print(f"Submitted batch job {{number}}")
"""
SRUN = """
#!{python}
# The command without srun's own options.
import os, sys
words = sys.argv[1:]
while words[0].startswith("-"):
    words = words[2:] if words[0] in ("--output", "--error") else words[1:]
os.execvp(words[0], words)
"""
SACCT = """
#!{python}
import os, pathlib
print("JobID|State|NodeList")
for file in pathlib.Path(os.environ["FAKE_SLURM"]).glob("task-*"):
    alive = pathlib.Path(f"/proc/{{file.read_text()}}").exists()
    print(f"{{file.name[5:]}}|{{'RUNNING' if alive else 'COMPLETED'}}|here")
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder that keeps what the played Slurm was given."""
    state, bin = tmp_path / "slurm", tmp_path / "bin"
    state.mkdir()
    bin.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", SACCT)):
        (bin / name).write_text(textwrap.dedent(text).lstrip().format(python=sys.executable))
        (bin / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{bin}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(state))
    monkeypatch.setitem(POLL_SECONDS, "slurm", 0.2)
    return state


@pytest.mark.slow
def test_slurm_is_asked_for_what_the_flags_say_and_its_jobs_do_the_pieces(tmp_path, slurm):
    cluster = Cluster(partition="fast", account="us", time_minutes=90, gpus_per_node=0, array_parallelism=3)
    pieces = {"good": Note(tmp_path, "good"), "bad": refuse}
    failures = Jobs(tmp_path / "cluster", cluster).run(pieces, lambda done: None)
    assert [*failures] == ["bad"] and failures["bad"].message == "expected something else"
    assert (tmp_path / "good.json").exists()
    script = (slurm / "script").read_text()
    for line in ("--partition=fast", "--account=us", "--time=90", "--array=0-1%2", "--cpus-per-task=8"):
        assert f"#SBATCH {line}\n" in script
    assert "--signal=USR2@" in script


@pytest.mark.slow
def test_jobs_that_slurm_still_has_are_watched_again_not_queued_twice(tmp_path, slurm):
    def interrupt(done):
        raise KeyboardInterrupt

    pieces = {name: Note(tmp_path, name, after=tmp_path / "go") for name in ("one", "two")}
    cluster = Cluster(gpus_per_node=0)
    with pytest.raises(Stopped, match=r"2 jobs are left to Slurm \(scancel 100 ends them\)"):
        Jobs(tmp_path / "cluster", cluster).run(pieces, interrupt)
    again = Jobs(tmp_path / "cluster", cluster)
    assert again.run({name: Note(tmp_path, name) for name in ("other", "another")}, lambda done: None) == {}
    assert again.run(pieces, lambda done: (tmp_path / "go").touch()) == {}
    assert (tmp_path / "one.json").exists() and (tmp_path / "two.json").exists()
    assert sorted(file.name for file in slurm.glob("job-*")) == ["job-100", "job-101"]


def test_what_slurm_says_when_it_takes_no_job_is_one_line(tmp_path, slurm):
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition: fsat' >&2; exit 1\n")
    with pytest.raises(ValueError, match="Slurm did not take the jobs: sbatch: error: invalid partition: fsat"):
        Jobs(tmp_path / "cluster", Cluster(partition="fsat")).run({"bad": refuse}, lambda done: None)


@pytest.mark.parametrize(("number", "requeued"), [(signal.SIGUSR2, [signal.SIGUSR2]), (signal.SIGTERM, [])])
def test_a_job_asked_to_make_room_stops_first_and_is_then_queued_again(tmp_path, number, requeued):
    def asked(device, tell):
        try:
            signal.raise_signal(number)
            time.sleep(60)
        except KeyboardInterrupt:
            events.append("saved")
            raise

    events = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: events.append(number))
    try:
        with pytest.raises(KeyboardInterrupt):
            _JobTask(asked, "cpu", tmp_path / "outcome.json")()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert events == ["saved", *requeued]
    assert not (tmp_path / "outcome.json").exists()
    again = _JobTask(refuse, "cpu", tmp_path / "outcome.json").checkpoint()
    again.result()
    assert json.loads((tmp_path / "outcome.json").read_text())["kind"] == "ValueError"


@pytest.mark.slow
@pytest.mark.usefixtures("let_go_of_watchers")
def test_a_study_as_jobs_gives_the_bytes_of_one_on_workers(tmp_path):
    on_workers, _ = run(PLAN, tmp_path / "a", 2)
    with recorded() as calls:
        as_jobs, _ = run_study(PLAN, tmp_path / "b", Jobs(tmp_path / "b" / "cluster", LOCAL))
    assert (as_jobs / "result.json").read_bytes() == (on_workers / "result.json").read_bytes()
    assert calls[-1][1] == calls[-1][2] > 0
