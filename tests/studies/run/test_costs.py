"""What a study is said to cost, and how progress counts it: the arithmetic by hand, the work of a run by a counter."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from adaln.cli.dry_runs import dry_run
from adaln.data import load
from adaln.evaluation.checkpoints import unmade
from adaln.models import MODELS, flops, num_parameters
from adaln.processes import Guidance, SamplerConfig
from adaln.runs import Run
from adaln.sampling import SampleConfig
from adaln.studies import SCALES, STUDIES, Job, Overrides, Plan, Setting, Study
from adaln.studies.run.costs import (
    image_shape,
    kept_steps,
    spec_of,
    step_work,
    study_cost,
    work,
)
from adaln.training import train
from adaln.types import DataSpec
from helpers.networks import DIGITS

SAMPLE = SampleConfig(num_images=30, sampler=SamplerConfig(solver="ddim", steps=7))


@pytest.fixture
def job(small_config):
    return Job("row", small_config(steps=10), (5, 10), SAMPLE)


def plan_of(*settings, scale="tiny", seeds=(0, 1)):
    return Plan(Study("x", "x", settings, lambda outcomes: None), SCALES[scale], seeds)


def test_a_run_costs_three_passes_per_image_trained_on_and_one_per_update_of_a_sample(job):
    one = flops(job.config.model, DIGITS)
    assert work([job], DIGITS) == one * (3 * 10 * 8 + 2 * 30 * 7)


def test_guidance_asks_the_network_twice(job):
    guided = replace(job, sample=replace(SAMPLE, guidance=Guidance(1.5, "all")))
    plain, scores = work([replace(job, score_at=())], DIGITS), work([job], DIGITS)
    assert work([guided], DIGITS) - plain == 2 * (scores - plain)
    assert work([job, guided], DIGITS) == plain + 3 * (scores - plain), "trained once, scored both ways"


def test_a_wider_network_weighs_more(job):
    wide = replace(job, config=replace(job.config, model=replace(job.config.model, hidden_size=64)))
    assert work([wide], DIGITS) > 8 * work([job], DIGITS)


def test_jobs_of_one_run_share_its_steps_and_the_scores_that_both_ask_for(job):
    short = replace(job, config=replace(job.config, steps=5), score_at=(5,))
    assert work([short, job], DIGITS) == work([job], DIGITS)
    longer = replace(job, config=replace(job.config, steps=20), score_at=(5, 20))
    scored = (work([job], DIGITS) - work([replace(job, score_at=())], DIGITS)) / 2
    assert work([job, longer], DIGITS) == pytest.approx(work([longer], DIGITS) + scored)


def test_a_study_costs_its_steps_updates_and_samples():
    plan = plan_of(Setting("a", "adaln-zero"), Setting("the same", "adaln-zero"), Setting("b", "adaln-gaussian"))
    one_pass, parameters = flops(MODELS["tiny"], DIGITS), num_parameters(MODELS["tiny"], DIGITS)
    training, drawing = 3 * 1_000 * 32, 3 * 1_000 * 20  # three scores of 1,000 samples in 20 steps
    cost = study_cost(plan, lambda config: 1e9, workers=2)
    assert (cost.runs, cost.steps) == (4, 4_000)
    assert cost.seconds == pytest.approx(2 * (training + drawing) * one_pass / 1e9)
    # checkpoints at 20, 250, 500, 750 and 1,000; samples of 64 bytes
    assert cost.bytes == 4 * (5 * parameters * 16 + 3 * 1_000 * 64)


def test_one_run_is_not_shared_among_workers():
    plan = plan_of(Setting("a", "adaln-zero"), seeds=(0,))
    one, eight = (study_cost(plan, lambda config: 1e9, workers=n).seconds for n in (1, 8))
    assert one == eight


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


@pytest.mark.slow
def test_the_work_of_a_run_is_what_its_training_takes_by_a_counter_of_operations(tmp_path):
    (job,) = Plan(STUDIES["figure22"], SCALES["tiny"], (0,), Overrides(steps=12)).jobs()
    with FlopCounterMode(display=False) as counter:
        train(Run.create(job.config, tmp_path))
    assert 12 * step_work(job, spec_of(job.config.data)) == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_a_dry_run_says_what_part_of_the_time_samples_take(job, tmp_path):
    def costs(*jobs):
        return dry_run(jobs, tmp_path, torch.device("cpu"), 1, unmade(job.config))

    whole, unscored = costs(job), costs(replace(job, score_at=()))
    drawn, trained = 2 * 30 * 7, 3 * 10 * 8
    assert whole.data["drawing_seconds"] == pytest.approx(whole.data["seconds"] * drawn / (drawn + trained))
    assert unscored.data["drawing_seconds"] == 0
    assert "of which samples" in whole.shown[2] and "of which samples" not in unscored.shown[2]
