"""`adaln search`, and the flags that say where runs are done."""

import re
from pathlib import Path

import pytest

from adaln.cli.studying import Launching, going_on_with, launched
from adaln.studies.run.run_study import Unfinished
from adaln.studies.run.workers import Workers
from helpers.command_line import SMALL, data, fails, run

SEARCHED = [*SMALL, "--steps", "2", "--log-every", "1", "--jobs", "1", "--objective", "loss"]


@pytest.mark.slow
def test_a_search_ends_with_a_scheme_that_train_takes(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["search", "digits", "--over", "gate", "--over", "shift", "--trials", "2", "--seeds", "2", *SEARCHED]
    found = data(capsys, *words)
    best = found["trials"][found["best"]]["stds"]
    assert set(best) == {"gate", "shift"} and Path(found["report"]).is_file()
    name = data(capsys, "train", "digits", "--scheme", found["scheme_file"], *SMALL)["scheme"]
    assert name == f"adaln-zero+gate={best['gate']:g}+shift={best['shift']:g}"
    text = run(capsys, *words)
    assert f"Best start: gate {best['gate']:g}, shift {best['shift']:g}" in text
    assert "use it: adaln train digits --scheme " in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["digit"], "unknown preset 'digit' (nearest: 'digits')"),
        (["digits"], "over is empty; expected gate, scale, shift"),
        (["digits", "--over", "gait"], "gait"),
        (["digits", "--over", "gate", "--low", "1", "--high", "0.1"], "expected 0 < low < high"),
        (["digits", "--over", "gate", "--trials", "0"], "trials is 0"),
        (["digits", "--over", "gate", "--prune-at", "5000"], "expected a step before the last, 2000"),
        (["digits", "--over", "gate", "--jobs", "0"], "jobs is 0"),
        (["digits", "--over", "gate", "--reference", "nowhere"], "nowhere"),
        (["digits", "--over", "gate", "--cluster.gpus-per-node", "4"], "expected 0 or 1"),
    ],
)
def test_bad_input_is_one_line_exit_code_2_and_nothing_written(capsys, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    assert said in fails(capsys, "search", *words)
    assert list(tmp_path.iterdir()) == []


def test_the_launcher_that_was_asked_for_is_the_one_that_is_started(tmp_path):
    with launched(Launching(jobs=3, device="cpu")) as launcher:
        assert isinstance(launcher, Workers)
    local = Launching(launcher="submitit", root=tmp_path)
    with pytest.raises(ValueError, match="no Slurm here"), launched(local):
        pass


def test_runs_that_failed_are_named_with_the_command_that_goes_on():
    said = re.escape("1 of 2 runs failed; go on with: adaln study a --jobs 2")
    with pytest.raises(Unfinished, match=said), going_on_with("adaln study a --jobs 2"):
        raise Unfinished("1 of 2 runs failed")
