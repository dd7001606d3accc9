"""`adaln runs`: what there is, and what can go without anybody missing it."""

import json
import os
from dataclasses import replace

import pytest

from adaln.codec import canonical_json
from adaln.config import PRESETS, to_dict
from adaln.files import locked
from helpers.command_line import data, fails, run

BASE = replace(PRESETS["digits"](), steps=1000)


def make(root, name, saved=(500, 1000), config=BASE, size=1000):
    folder = root / f"{name}-0123456789"
    (folder / "scores").mkdir(parents=True)
    (folder / "config.json").write_text(canonical_json(to_dict(replace(config, name=name))))
    (folder / ".lock").touch()
    (folder / "metrics.jsonl").write_text('{"step": 500, "loss": 0.5}\n{"step": 1000, "loss": 0.25}\n{"torn')
    score = {"scores": {"fid": {"value": 12.345, "label": "no Inception"}}}
    (folder / "scores" / "000001000-a.scores.json").write_text(json.dumps(score))
    for step in saved:
        (folder / "checkpoints" / f"{step:09d}").mkdir(parents=True)
        (folder / "checkpoints" / f"{step:09d}" / "model.safetensors").write_bytes(bytes(size))
    return folder


def gone(capsys, root):
    return {
        part["path"].removeprefix(f"{root}/"): part["why"] for part in data(capsys, "runs", root, "--clean")["parts"]
    }


def test_runs_are_listed_with_what_their_files_say_the_newest_first(capsys, tmp_path):
    make(tmp_path, "whole")
    make(tmp_path, "half", [500])
    make(tmp_path, "empty", [])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text("{")
    rows = {row["run"].partition("-")[0]: row for row in data(capsys, "runs", tmp_path)}
    assert {name: row["state"] for name, row in rows.items()} == {
        "whole": "finished",
        "half": "stopped",
        "empty": "begun",
    }
    whole = rows["whole"]
    assert (whole["scheme"], whole["model"], whole["step"], whole["loss"]) == ("adaln-zero", "tiny", 1000, 0.25)
    assert whole["score"] == "fid-like 12.35" and whole["bytes"] > 2000 and rows["empty"]["step"] == 0
    assert "3 runs in" in run(capsys, "runs", tmp_path)
    assert "is no folder" in fails(capsys, "runs", tmp_path / "nowhere")


def test_scores_of_samples_are_listed_where_they_are_newer(capsys, tmp_path):
    folder = make(tmp_path, "sampled")
    (folder / "samples").mkdir()
    newer = folder / "samples" / "000000500-b.scores.json"
    newer.write_text(json.dumps({"scores": {"fid": {"value": 1.5, "label": "no Inception"}}}))
    os.utime(newer, (2e9, 2e9))
    assert data(capsys, "runs", tmp_path)[0]["score"] == "fid-like 1.5"
    os.utime(newer, (1.0, 1.0))
    assert data(capsys, "runs", tmp_path)[0]["score"] == "fid-like 12.35"
    assert "1 run in" in run(capsys, "runs", tmp_path)


def test_only_what_nobody_asked_for_or_refers_to_can_go(capsys, tmp_path):
    make(tmp_path, "plain")
    make(tmp_path, "begun", [])
    make(tmp_path, "stopped", [200, 500])
    make(tmp_path, "digits-adaln-zero-s3", [])
    make(tmp_path, "chosen", config=replace(BASE, keep_at=(500,)))
    make(tmp_path, "all", config=replace(BASE, keep_checkpoints=0))
    make(tmp_path, "averages", config=replace(BASE, optim=replace(BASE.optim, ema_widths=(0.05,))))
    make(tmp_path, "weak", [])
    held, user = make(tmp_path, "held", []), make(tmp_path, "user", [1000])
    (user / "samples").mkdir()
    (user / "samples" / "a.json").write_text('{"weak": "runs/weak-0123456789"}')
    (tmp_path / ".tmp-000001000-999999999").write_bytes(b"x")
    with locked(held / ".lock"):
        assert gone(capsys, tmp_path) == {
            ".tmp-000001000-999999999": "left by a killed writer",
            "plain-0123456789/checkpoints/000000500": "before the last checkpoint of a finished run",
            "begun-0123456789": "a run without a step",
        }


def test_nothing_goes_before_it_is_asked_for_in_so_many_words(capsys, tmp_path):
    plain, begun = make(tmp_path, "plain"), make(tmp_path, "begun", [])
    said = run(capsys, "runs", tmp_path, "--clean")
    assert "it would free" in said and (plain / "checkpoints" / "000000500").exists() and begun.exists()
    assert "--delete is for what --clean names" in fails(capsys, "runs", tmp_path, "--delete")
    assert "are free" in run(capsys, "runs", tmp_path, "--clean", "--delete")
    assert not (plain / "checkpoints" / "000000500").exists() and not begun.exists()
    assert (plain / "checkpoints" / "000001000").exists()
    assert "nothing in" in run(capsys, "runs", tmp_path, "--clean")


def test_images_of_a_sampling_that_was_stopped_stay_which_is_said_with_the_reason(capsys, tmp_path):
    plain = make(tmp_path, "plain", [1000])
    parts = plain / "samples" / "000001000-abc.npz.parts"
    parts.mkdir(parents=True)
    (parts / ".rank-0.lock").touch()
    assert "stays" not in run(capsys, "runs", tmp_path, "--clean")
    (parts / "00000000-00000064-abc.npy").write_bytes(bytes(200_000))
    for words in ((), ("--delete",)):
        said = " ".join(run(capsys, "runs", tmp_path, "--clean", *words).split())  # in lines of the terminal's width
        assert f"{parts} stays, 0.2 MB of images of a sampling that was stopped: its command goes on with them" in said
    assert data(capsys, "runs", tmp_path, "--clean")["unfinished_samples"] == {str(parts): 200_000}


@pytest.mark.slow
def test_hundreds_of_runs_are_listed_without_opening_one(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("adaln.runs.Run.open", lambda *_: pytest.fail("a run was opened"))
    for number in range(300):
        make(tmp_path, f"run{number}", config=replace(BASE, seed=number))
    assert len(data(capsys, "runs", tmp_path)) == 300
