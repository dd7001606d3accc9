"""Workers, their places, and pieces that end badly."""

import json
import os
import sys

import pytest
import torch

from adaln.progress import progress, showing, words_of
from adaln.studies.run import workers as room
from adaln.studies.run.workers import Worker, Workers, usable_cores, workers_for
from helpers.in_process import InProcess
from helpers.work import Note, Say, Wait, die, refuse, stumble

CPU = torch.device("cpu")


def notes(folder):
    return {file.stem: json.loads(file.read_text()) for file in folder.glob("*.json")}


@pytest.mark.parametrize(
    ("num_cores", "count", "expected"),
    [
        (4, None, [{0}, {1}, {2}, {3}]),
        (4, 2, [{0, 1}, {2, 3}]),
        (5, 2, [{0, 1}, {2, 3, 4}]),
        (2, 1, [{0, 1}]),
    ],
)
def test_workers_share_the_cores_out_without_overlap(monkeypatch, num_cores, count, expected):
    monkeypatch.setattr(room, "usable_cores", lambda: list(range(num_cores)))
    assert [worker.cores for worker in workers_for(CPU, count)] == expected


def test_a_program_from_standard_input_is_refused(monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "<stdin>", raising=False)
    with pytest.raises(ValueError, match="cannot import a program from standard input; expected one in a file"):
        Workers(workers_for(CPU, 1))


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_no_workers_are_refused(device: str):
    with pytest.raises(ValueError, match=r"^jobs is 0; expected an integer >= 1$"):
        workers_for(torch.device(device), 0)


def test_more_workers_than_cores_take_them_in_turn(monkeypatch):
    monkeypatch.setattr(room, "usable_cores", lambda: [2, 5])
    taken = [core for worker in workers_for(CPU, 4) for core in worker.cores]
    assert sorted(taken) == [2, 2, 5, 5]


@pytest.mark.parametrize(
    ("visible", "device", "count", "expected"),
    [
        (None, "cuda", None, ["0", "1", "2"]),
        (None, "cuda", 2, ["0", "1"]),
        (None, "cuda", 5, ["0", "1", "2", "0", "1"]),
        ("7,GPU-a,3", "cuda", None, ["7", "GPU-a", "3"]),
        ("7,GPU-a,3", "cuda:1", 2, ["GPU-a", "GPU-a"]),
    ],
)
def test_each_worker_sees_one_gpu_of_those_that_are_visible(monkeypatch, visible, device, count, expected):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    found = workers_for(torch.device(device), count)
    assert [worker.gpu for worker in found] == expected
    assert {worker.device for worker in found} == {"cuda"}


@pytest.mark.slow
def test_workers_start_on_their_cores_with_their_gpu_and_one_thread(tmp_path):
    cores = usable_cores()
    mine = [Worker("cpu", frozenset([cores[0]]), gpu="5"), Worker("cpu", frozenset([cores[-1]]), gpu="6")]
    environment, told = dict(os.environ), []
    with Workers(mine) as workers:
        pieces = {
            "a": Note(tmp_path, "a", after=tmp_path / "b.json"),
            "b": Note(tmp_path, "b"),
            "c": Note(tmp_path, "c"),
        }
        assert workers.run(pieces, told.append) == {}
        assert told[-1] == 3 * 7
        assert workers.run({"d": Note(tmp_path, "d")}, told.append) == {}
        assert told[-1] == 7
    seen = notes(tmp_path)
    assert {(*note["cores"], *note["gpus"]) for note in seen.values()} == {
        (cores[0], "CUDA_VISIBLE_DEVICES=5"),
        (cores[-1], "CUDA_VISIBLE_DEVICES=6"),
    }
    assert len({note["process"] for note in seen.values()}) == 2
    assert {note["threads"] for note in seen.values()} == {1}
    assert usable_cores() == cores and dict(os.environ) == environment


@pytest.mark.slow
def test_a_piece_that_fails_or_takes_its_process_with_it_loses_no_other(tmp_path):
    pieces = {"bad": refuse, "dead": die, "odd": stumble, "good": Note(tmp_path, "good")}
    told = []
    with Workers([Worker("cpu")]) as workers:
        failures = workers.run(pieces, told.append)
    assert {name: failure.message for name, failure in failures.items()} == {
        "bad": "expected something else",
        "dead": "its process was ended by SIGKILL (out of memory?)",
        "odd": "KeyError: 'missing'",
    }
    assert [failure.kind for failure in failures.values()] == ["ValueError", "Killed", "KeyError"]
    assert list(notes(tmp_path)) == ["good"]
    assert told[-1] == 1 + 7


@pytest.mark.slow
def test_a_piece_at_work_is_stopped_when_the_block_is_left(tmp_path):
    def interrupt(done):
        if (tmp_path / "began").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Workers([Worker("cpu")]) as workers:
        workers.run({"long": Wait(tmp_path)}, interrupt)
    assert (tmp_path / "stopped").exists()


def test_in_this_process_tasks_are_done_one_after_the_other_on_one_thread_and_a_failure_loses_no_other(tmp_path):
    counts, threads = [], torch.get_num_threads()
    tasks = {"bad": refuse, "good": Note(tmp_path, "good")}
    failures = InProcess().run(tasks, counts.append)
    assert {name: failure.message for name, failure in failures.items()} == {"bad": "expected something else"}
    note = notes(tmp_path)["good"]
    assert (note["process"], note["threads"]) == (os.getpid(), 1)
    assert counts == [1, 4, 8] and torch.get_num_threads() == threads


def test_what_a_task_in_this_process_does_is_shown_by_whoever_shows_the_whole():
    """A task shows its own steps as work done; that of the whole must not become its own again."""

    def task(device, advance):
        with showing(lambda stage, done, total, unit: advance(1.0)):
            progress("one task", 1, 1, "steps")

    shown = []
    with showing(lambda *call: shown.append(call)):
        assert InProcess().run({"a": task, "b": task}, lambda done: progress("all", int(done), 2, "tasks")) == {}
    assert shown == [("all", 1, 2, "tasks"), ("all", 2, 2, "tasks")]


@pytest.mark.slow
def test_what_a_worker_says_of_itself_is_said_here_until_its_work_counts(tmp_path):
    os.mkfifo(tmp_path / "heard")
    said = []

    def watch(done):
        said.append(words_of("references", 0.0))
        if said[-1] and "heard" not in said:
            (tmp_path / "heard").write_text("go on")
            said.append("heard")

    with Workers([Worker("cpu")]) as workers:
        assert workers.run({"a": Say(tmp_path / "heard")}, watch) == {}
    assert "training the classifier: 3 of 400 steps" in said and words_of("references", 0.0) == ""
