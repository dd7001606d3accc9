from dataclasses import replace
from math import cos, pi

import pytest
import torch

from adaln.config import OptimConfig, Schedule
from adaln.execution import Execution, prepare_blocks
from adaln.runs import Run, read_records
from adaln.training import batch_loss, loop, lr_factor, train
from helpers.runs import assert_same_bits, stop_after

WARMUP = Schedule(warmup_steps=6)
TRAPEZOID = Schedule(warmup_steps=2, decay="linear", decay_start=4, decay_end=8, end_factor=0.1)


def factors(schedule: Schedule, *steps: int) -> list[float]:
    return [lr_factor(schedule, step) for step in steps]


def test_without_a_schedule_the_rate_is_exactly_what_it_says():
    assert factors(Schedule(), 0, 1, 10**9) == [1, 1, 1]


def test_a_warm_up_reaches_the_full_rate_in_its_last_step_and_never_makes_a_step_of_nothing():
    assert factors(Schedule(warmup_steps=4), 0, 1, 2, 3, 4, 5) == [0.25, 0.5, 0.75, 1, 1, 1]


def test_a_linear_decay_after_a_warm_up_is_a_trapezoid_that_ends_flat():
    assert factors(TRAPEZOID, 0, 1, 2, 4) == [0.5, 1, 1, 1]
    assert factors(TRAPEZOID, 5, 6, 7) == pytest.approx([0.775, 0.55, 0.325])
    assert factors(TRAPEZOID, 8, 9, 10**6) == [0.1, 0.1, 0.1]


def test_a_cosine_falls_from_its_start_to_its_end():
    schedule = Schedule(decay="cosine", decay_start=10, decay_end=20, end_factor=0.2)
    assert factors(schedule, 0, 10) == [1, 1]
    assert factors(schedule, 15, 13) == pytest.approx([0.6, 0.2 + 0.8 * (1 + cos(0.3 * pi)) / 2])
    assert factors(schedule, 20, 21) == [0.2, 0.2]
    assert lr_factor(replace(schedule, end_factor=0.0), 20) == 0


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"warmup_steps": -1}, "warmup_steps is -1; expected an integer >= 0"),
        ({"decay_end": 5}, "decay is 'none'; expected 'linear' or 'cosine' with decay_start, decay_end or end_factor"),
        ({"end_factor": 0.5}, "decay is 'none'; expected 'linear' or 'cosine'"),
        ({"decay": "cosine"}, "decay_end is 0; expected a step after decay_start, 0"),
        ({"decay": "linear", "decay_start": 7, "decay_end": 7}, "decay_end is 7; expected a step after decay_start, 7"),
        (
            {"decay": "linear", "warmup_steps": 9, "decay_end": 20},
            "decay_start is 0; expected at least warmup_steps",
        ),
        ({"decay": "linear", "decay_end": 9, "end_factor": 1.0}, "end_factor is 1.0; expected 0 <= factor < 1"),
    ],
)
def test_a_schedule_that_is_none_is_refused_in_one_line(fields, said):
    with pytest.raises(ValueError, match=f"optim.schedule.{said}") as error:
        Schedule(**fields)
    assert "\n" not in str(error.value)


def test_a_warm_up_is_that_of_a_loop_by_hand(small_config, tmp_path, monkeypatch):
    """Torch's own AdamW with a rate that is set before every step."""
    monkeypatch.setattr(loop, "small_step", lambda run, network: None)
    run = Run.create(small_config(optim=OptimConfig(lr=1e-2, weight_decay=0.1, schedule=TRAPEZOID)), tmp_path)
    model, batches = run.new_model(), run.batches()
    prepare_blocks(model, Execution())
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1, fused=True)
    for step in range(10):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * [0.5, 1, 1, 1, 1, 0.775, 0.55, 0.325, 0.1, 0.1][step]
        optimizer.zero_grad()
        (batch_loss(run, model, batches, step).sum() / 8).backward()
        optimizer.step()
    train(run)
    trained = run.checkpoints.load(10)["model"]
    for name, tensor in model.state_dict().items():
        assert torch.equal(trained[name], tensor), name


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [3, 6, 7])
@pytest.mark.parametrize("schedule", [WARMUP, TRAPEZOID], ids=["warm-up", "trapezoid"])
def test_a_stop_anywhere_in_a_schedule_changes_no_bit(small_config, tmp_path, schedule, stop_at):
    config = small_config(optim=OptimConfig(lr=1e-2, schedule=schedule))
    whole, parts = (Run.create(config, tmp_path / name) for name in ("whole", "parts"))
    train(whole)
    stop_after(parts, stop_at)
    train(Run.open(parts.path))
    assert_same_bits(whole, parts)


def test_a_longer_run_begins_with_the_shorter_one(small_config, tmp_path):
    config = small_config(optim=OptimConfig(lr=1e-2, schedule=TRAPEZOID))
    shorter, longer = (Run.create(replace(config, steps=n), tmp_path / str(n)) for n in (5, 10))
    assert shorter.path.name == longer.path.name
    train(shorter)
    train(longer)
    assert_same_bits(shorter, longer, step=5)


@pytest.mark.slow
def test_a_line_of_the_metrics_has_the_rate_of_its_step_only_where_it_changes(small_config, tmp_path):
    optim = OptimConfig(lr=1e-2, schedule=TRAPEZOID)
    runs = [Run.create(small_config(optim=each), tmp_path) for each in (OptimConfig(lr=1e-2), optim)]
    for run in runs:
        train(run)
    constant, scheduled = (read_records(run.path / "metrics.jsonl") for run in runs)
    assert {tuple(row) for row in constant} == {("step", "loss", "grad_norm")}
    assert {row["step"]: row["lr"] for row in scheduled} == pytest.approx(
        {2: 1e-2, 4: 1e-2, 6: 7.75e-3, 8: 3.25e-3, 10: 1e-3}
    )
