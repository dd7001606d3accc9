"""What runs cost, as progress counts it."""

from dataclasses import replace

import pytest

from adaln.models import flops
from adaln.processes import Guidance, SamplerConfig
from adaln.sampling import SampleConfig
from adaln.studies.run.work import work
from adaln.studies.study import Job
from helpers.networks import DIGITS

SAMPLE = SampleConfig(num_images=30, sampler=SamplerConfig(solver="ddim", steps=7))


@pytest.fixture
def job(small_config):
    return Job("row", small_config(steps=10), (5, 10), SAMPLE)


def test_a_run_costs_three_passes_per_image_trained_on_and_one_per_update_of_a_sample(job, tmp_path):
    one = flops(job.config.model, DIGITS)
    assert work([job], tmp_path) == one * (3 * 10 * 8 + 2 * 30 * 7)


def test_guidance_asks_the_network_twice(job, tmp_path):
    guided = replace(job, sample=replace(SAMPLE, guidance=Guidance(1.5, "all")))
    plain, scores = work([replace(job, score_at=())], tmp_path), work([job], tmp_path)
    assert work([guided], tmp_path) - plain == 2 * (scores - plain)


def test_a_wider_network_weighs_more(job, tmp_path):
    wide = replace(job, config=replace(job.config, model=replace(job.config.model, hidden_size=64)))
    assert work([wide], tmp_path) > 8 * work([job], tmp_path)


def test_jobs_of_one_run_share_its_steps_and_the_scores_that_both_ask_for(job, tmp_path):
    short = replace(job, config=replace(job.config, steps=5), score_at=(5,))
    assert work([short, job], tmp_path) == work([job], tmp_path)
    longer = replace(job, config=replace(job.config, steps=20), score_at=(5, 20))
    scored = (work([job], tmp_path) - work([replace(job, score_at=())], tmp_path)) / 2
    assert work([job, longer], tmp_path) == pytest.approx(work([longer], tmp_path) + scored)
