"""What a training says of itself while it goes on, and what it keeps of its times."""

import os
import re
import signal
from dataclasses import replace

import pytest

from adaln.progress import describing, noting, progress, showing, words_of
from adaln.runs import Run, read_records
from adaln.training import Stopped, speed, train


def test_beside_the_progress_stand_loss_gradient_images_share_of_products_and_memory(small_config, tmp_path):
    said = []
    with showing(lambda stage, done, total, unit: said.append(words_of(stage, 2.0))):
        train(Run.create(small_config(), tmp_path))
    before, *after = said
    assert before == ""
    form = r"loss \d\.\d{4}, gradient [\d.e-]+, [\d,.]+ images/s(, [\d.e-]+ % of pure matmul speed)?, \d+\.\d GB"
    assert after and all(re.fullmatch(form, words) for words in after), after


def test_words_are_of_the_training_alone_and_end_with_it(small_config, tmp_path):
    run, said = Run.create(small_config(), tmp_path), []
    train(run, [lambda step, model: said.append(words_of("sample", 1.0))])
    assert {*said, words_of(f"train {run.path.name}", 1.0)} == {""}
    with describing(lambda stage, rate: f"{stage} {rate}"):
        progress("a", 1, 2, "b")
        assert words_of("a", 3) == "a 3"


def test_a_line_of_speed_beside_each_of_metrics_and_a_resumed_run_has_each_once(small_config, tmp_path):
    run = Run.create(small_config(), tmp_path)

    def stop(step, model):
        if step == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        train(run, [stop])
    train(Run.open(run.path))
    rows = read_records(run.path / "speed.jsonl")
    assert [row["step"] for row in rows] == [row["step"] for row in run.metrics()]
    assert all(row["images_per_second"] > 0 and row["peak_bytes"] > 10**6 for row in rows)


def test_it_says_which_run_begins_what_it_differs_in_which_goes_on_and_that_it_stops(small_config, tmp_path):
    said = []

    def stop(step, model):
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    config = small_config()
    with noting(said.append):
        run = Run.create(config, tmp_path)
        with pytest.raises(Stopped):
            train(run, [stop])
        train(Run.open(run.path))
        train(Run.create(replace(config, seed=config.seed + 1), tmp_path))
    lines = "\n".join(said)
    assert f"new run {run.path}: " in lines and "M parameters" in lines
    assert "stopping after this step, and saving" in lines
    assert re.search(rf"going on with {run.path} at step \d of {config.steps}", lines)
    assert f"it differs from {run.path} in seed: {config.seed} -> {config.seed + 1}" in lines


def test_days_to_go_are_said_once_after_a_few_steps(small_config, tmp_path, monkeypatch):
    said, clock = [], iter(range(0, 10**9, 90_000))
    monkeypatch.setattr(speed.time, "monotonic", lambda: next(clock))
    with noting(said.append):
        train(Run.create(small_config(), tmp_path))
    (line,) = [line for line in said if "days to go" in line]
    assert "--model tiny" in line
