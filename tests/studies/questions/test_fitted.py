"""Fitted starts at equal cost, through the whole way on small networks, and what every scale would train."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from adaln.analysis.fit import fit
from adaln.conditioning import Normal, Start
from adaln.evaluation.checkpoints import read_scores
from adaln.models import DiTConfig
from adaln.processes import SamplerConfig
from adaln.report import Intervals, Lines, Table
from adaln.runs import Run
from adaln.statistics import Difference, Interval
from adaln.studies import SCALES, Outcome, Overrides, Plan, Result, Scale, run_study
from adaln.studies.questions.fitted import FITS, FITTED, FREE, changes_text, fits, fitted_jobs, jobs_of, pilot_steps
from adaln.studies.study import outcomes
from adaln.tensor_files import load_tensors
from adaln.training import train
from helpers.in_process import InProcess


def make_small(setting, seed, changes):
    """The pilot ends at step 4 of 12; scores after its end only."""
    job = SCALES["tiny"].make(setting, seed, changes)
    few = SamplerConfig(solver="ddim", steps=2, clip=True)
    kept = {"checkpoint_every": 4, "keep_checkpoints": 0, "keep_at": ()}
    config = replace(job.config, model=DiTConfig(16, 4, 2, 2), steps=12, batch_size=8, log_every=2, **kept)
    return replace(job, config=config, score_at=(8, 12), sample=replace(job.sample, num_images=40, sampler=few))


PLAN = Plan(FITTED, Scale("smallest", "a few steps", make_small, 2), (0,))


def run(plan, root):
    return run_study(plan, root, InProcess())


@dataclass(frozen=True)
class Done:
    """The study on small networks of one seed: what it wrote and found, and its outcomes by label."""

    folder: Path
    result: Result
    outcomes: dict[str, Outcome]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    root = tmp_path_factory.mktemp("fitted")
    found = run(PLAN, root)
    return Done(*found, {one.job.label: one for one in outcomes([*PLAN.jobs(), *PLAN.further_jobs(root)], root)})


def zero_job(scale, seed=0):
    at = PLAN.scale if scale == "smallest" else SCALES[scale]
    return next(job for job in Plan(FITTED, at, (seed,)).jobs() if job.label == "adaln-zero")


@pytest.mark.parametrize(("scale", "steps"), [("tiny", 250), ("small", 1_000), ("paper", 10_000)])
def test_the_pilot_ends_where_the_papers_does_in_the_scales_own_steps(scale, steps):
    config = zero_job(scale).config
    assert pilot_steps(config) == steps
    assert steps in config.keep_at or (config.keep_checkpoints == 0 and steps % config.checkpoint_every == 0)


def test_a_checkpoint_that_will_be_dropped_is_no_pilot():
    config = replace(zero_job("tiny").config, keep_checkpoints=2, keep_at=())
    assert pilot_steps(config) is None
    assert pilot_steps(replace(config, keep_at=(160, 900, 2_000))) == 160


@pytest.mark.parametrize("scale", SCALES)
def test_every_row_costs_the_same_and_both_accounts_are_one_run(scale):
    zero = zero_job(scale)
    pilot = pilot_steps(zero.config)
    fitted = fit({"blocks.0.adaLN_modulation.1.weight": torch.arange(24.0).reshape(12, 2).sin()})
    paid, free = jobs_of(zero, pilot, "fitted", fitted)
    assert paid.run_key == free.run_key != zero.run_key
    assert pilot + paid.config.steps == free.config.steps == zero.config.steps
    assert paid.score_at[-1] == paid.config.steps
    assert {pilot + step for step in paid.score_at} == {step for step in zero.score_at if step > pilot}
    assert {*paid.score_at, *free.score_at} <= set(paid.config.keep_at)
    assert (paid.sample, paid.reference, paid.config.seed) == (zero.sample, zero.reference, zero.config.seed)


@pytest.mark.slow
def test_each_seed_starts_from_its_own_pilot(tmp_path):
    zeros = [zero_job("smallest", seed) for seed in (0, 1)]
    for zero in zeros:
        train(Run.create(zero.config, tmp_path))
    found = [job for job in fitted_jobs(outcomes(zeros, tmp_path)) if job.label == "fitted"]
    stds = [
        fit(load_tensors(one.run.folder(4) / "model.safetensors")).roles["gate"].stds[0]
        for one in outcomes(zeros, tmp_path)
    ]
    assert [(job.config.seed, job.config.scheme.gate) for job in found] == [
        (seed, Start(Normal(std))) for seed, std in enumerate(stds)
    ]
    assert stds[0] != stds[1]


@pytest.mark.slow
def test_the_three_fits_are_one_std_one_per_block_and_the_papers_recipe(done):
    found = fits(done.outcomes["adaln-zero"], 4)
    assert list(found) == list(FITS) == list(FREE)
    assert [len(fit.roles["scale"].stds) for fit in found.values()] == [1, 4, 4]
    assert [fit.method for fit in found.values()] == ["moments", "moments", "peak"]
    peaks = [1 / std for std in found["fitted-blockwise"].roles["scale"].stds]
    assert 1 / (sum(peaks) / 4) == pytest.approx(1.2e-3)
    assert done.result.data["stds"][0]["fitted"]["gate"] == found["fitted"].roles["gate"].stds


@pytest.mark.slow
def test_a_fitted_row_is_scored_before_its_full_length_and_its_free_twin_at_it(done):
    rows, free = (
        {row["scheme"]: row["fid"]["per_seed"] for row in done.result.data[name]} for name in ("rows", "pilot_free")
    )
    for name in FITS:
        one = done.outcomes[name]
        at_8, at_12 = ([read_scores(one.run, one.job.scoring, step)["fid"].value] for step in (8, 12))
        assert rows[name] == at_8 != at_12 == free[FREE[name]]
    assert rows["adaln-zero"] == free["adaln-zero"] == [done.outcomes["adaln-zero"].scores()[12]["fid"].value]
    assert set(rows) == {"adaln-zero", "adaln-gaussian", "adaln-gaussian-v2", *FITS}


@pytest.mark.slow
def test_the_page_says_the_cost_and_draws_scores_against_total_steps(done):
    steps = dict(zip(done.result.table.column(0), done.result.table.column(1), strict=True))
    assert steps["adaln-zero"] == "12" and {steps[name] for name in FITS} == {"4 + 8"}
    blocks = [block for section in done.result.page("").sections for block in section.blocks]
    curves = next(b for b in blocks if isinstance(b, Lines) and b.title == "FID-like against steps")
    assert {tuple(series.x) for series in curves.series} == {(8, 12)}
    assert [b.title for b in blocks if isinstance(b, Lines) and "std over blocks" in b.title] == [
        "fitted-by-block: std over blocks",
        "fitted-blockwise: std over blocks",
    ]
    assert any(isinstance(b, Table) and "had the pilot been free" in b.title for b in blocks)
    result = next(section for section in done.result.page("").sections if section.heading == "Result").blocks
    assert [type(block) for block in result if isinstance(block, Table | Intervals)] == [Intervals, Table]
    assert "total steps" in [column.name for column in result[-1].columns]
    assert "The pilot is the first 4 of adaln-zero" in (done.folder / "index.html").read_text()


@pytest.mark.slow
def test_the_proposal_is_a_reference_of_its_own(done):
    rows, beside = done.result.data["rows"], done.result.data["against_proposal"]
    assert beside[0]["scheme"] == rows[1]["scheme"] == "adaln-gaussian" and beside[0]["difference"] is None
    for row, against in zip(rows[3:], beside[1:], strict=True):
        for one, reference in ((row, rows[0]), (against, rows[1])):
            gap = row["fid"]["mean"] - reference["fid"]["mean"]
            assert one["difference"]["absolute"]["value"] == pytest.approx(gap)


@pytest.mark.nightly
def test_done_again_elsewhere_it_has_the_same_bytes(tmp_path):
    plan = replace(PLAN, seeds=(0, 1))
    one, other = ((run(plan, tmp_path / place)[0] / "result.json").read_bytes() for place in ("a", "b"))
    assert one == other


def test_a_verdict_in_a_line_has_words_and_signs():
    def change(value, p_value):
        return Difference(Interval(value, value - 1, value + 1), Interval(0.0, -1.0, 1.0), 1.0, p_value)

    changes = {"a": change(2.5, 0.01), "b": change(-1, 0.5), "c": change(-3, 0.01)}
    assert changes_text(changes) == "a worse (+2.50); b not distinguishable (-1.00); c better (-3.00)"


@pytest.mark.slow
def test_runs_too_short_for_a_pilot_are_compared_without_fits_and_it_is_said(tmp_path):
    plan = Plan(FITTED, SCALES["tiny"], (0,), Overrides(steps=2, num_images=40))
    _, result = run(plan, tmp_path)
    assert result.data["verdict"][0].startswith("No start was fitted: runs of 2 steps")
    assert len(result.data["rows"]) == 3
