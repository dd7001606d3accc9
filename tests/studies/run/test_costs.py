"""What a study is said to cost: the arithmetic by hand, the estimate against a run that was really trained."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from adaln.data import load
from adaln.models import MODELS, DiTConfig, flops, num_parameters
from adaln.runs import Run
from adaln.studies import SCALES, STUDIES, Overrides, Plan, Setting, Study
from adaln.studies.run import costs
from adaln.studies.run.costs import (
    Speed,
    cut,
    image_shape,
    kept_steps,
    measured_speed,
    run_seconds,
    spec_of,
    study_cost,
)
from adaln.training import train
from adaln.types import DataSpec
from helpers.networks import DIGITS

SPEED = Speed(per_trained_flop=2e-12, per_sampled_flop=1e-12, per_parameter=1e-9)


def plan_of(*settings, scale="tiny", seeds=(0, 1)):
    return Plan(Study("x", "x", settings, lambda command, outcomes: None), SCALES[scale], seeds)


def test_a_study_costs_its_steps_updates_and_samples():
    plan = plan_of(Setting("a", "adaln-zero"), Setting("the same", "adaln-zero"), Setting("b", "adaln-gaussian"))
    one_pass, parameters = flops(MODELS["tiny"], DIGITS), num_parameters(MODELS["tiny"], DIGITS)
    training = 1_000 * (32 * one_pass * 2e-12 + parameters * 1e-9)
    drawing = 3 * 1_000 * 20 * one_pass * 1e-12  # three scores of 1,000 samples in 20 steps
    cost = study_cost(plan, lambda config, spec: SPEED, workers=2)
    assert (cost.runs, cost.steps) == (4, 4_000)
    assert cost.seconds == pytest.approx(2 * (training + drawing))
    # checkpoints at 20, 250, 500, 750 and 1,000; samples of 64 bytes
    assert cost.bytes == 4 * (5 * parameters * 16 + 3 * 1_000 * 64)


def test_one_run_is_not_shared_among_workers():
    plan = plan_of(Setting("a", "adaln-zero"), seeds=(0,))
    one, eight = (study_cost(plan, lambda config, spec: SPEED, workers=n).seconds for n in (1, 8))
    assert one == eight


def test_guidance_asks_the_network_twice_and_what_is_not_scored_is_not_drawn():
    (plain,), (guided,), (unscored,) = (
        plan_of(Setting("a", "adaln-zero", **more), seeds=(0,)).jobs()
        for more in ({}, {"guidance": 1.5}, {"is_scored": False})
    )
    once, twice, never = (run_seconds([job], SPEED) for job in (plain, guided, unscored))
    assert twice - never == pytest.approx(2 * (once - never))
    assert run_seconds([plain, guided], SPEED) == pytest.approx(once + twice - never), "trained once, scored both ways"


def test_steps_that_are_kept_are_those_that_the_run_keeps():
    config = SCALES["small"].make(Setting("a", "adaln-zero"), 0, Overrides()).config
    assert kept_steps(config) == {160, 1_000, 1_250, 2_500, 4_000, 5_000}
    assert kept_steps(replace(config, keep_at=(), keep_checkpoints=1)) == {5_000}


def test_the_papers_specs_are_known_without_its_data():
    job = SCALES["paper"].make(Setting("a", "adaln-zero"), 0, Overrides())
    assert spec_of(job.config.data) == DataSpec(4, 32, 32, 1000)
    assert image_shape(job.config.data) == (3, 256, 256)
    assert spec_of(SCALES["small"].make(Setting("a", "adaln-zero"), 0, Overrides()).config.data).channels == 3
    for setting in STUDIES["table10"].settings:
        config = SCALES["tiny"].make(setting, 0, Overrides()).config
        assert spec_of(config.data) == load(config.data).spec


def test_what_is_large_is_cut_and_what_is_small_is_timed_as_it_is():
    assert cut(MODELS["tiny"], DIGITS, 32) == (MODELS["tiny"], DIGITS, 32)
    model, spec, batch = cut(MODELS["DiT-XL/2"], DataSpec(4, 32, 32, 1000), 256)
    assert isinstance(model, DiTConfig) and (model.depth, model.hidden_size, batch) == (1, 1152, 1)
    assert (spec.channels, spec.num_classes, spec.height) == (4, 1000, 16)


@pytest.mark.slow
def test_the_estimate_of_a_run_is_what_its_training_takes(tmp_path, monkeypatch):
    """By a clock that goes on with floating-point operations, whatever else the machine does."""
    monkeypatch.setattr(costs, "_timed", costs._timed.__wrapped__)  # what this clock says is not to be kept
    (job,) = Plan(STUDIES["figure22"], SCALES["tiny"], (0,), Overrides(steps=12)).jobs()
    with FlopCounterMode(display=False) as clock:
        monkeypatch.setattr(costs, "_now", lambda device: clock.get_total_flops())
        estimate = run_seconds([job], measured_speed(job.config, spec_of(job.config.data), torch.device("cpu")))
        before = clock.get_total_flops()
        train(Run.create(job.config, tmp_path))
    assert estimate == pytest.approx(clock.get_total_flops() - before, rel=0.02)
