"""Figures as studies: which runs they share, and what their numbers say beside the paper's words."""

import math
from dataclasses import replace

import pytest
import torch

from adaln.conditioning import SCHEMES, initialise
from adaln.models import DiTConfig, build
from adaln.rng import generator
from adaln.runs import Run
from adaln.statistics import Interval, paired_differences
from adaln.studies import SCALES, STUDIES, Outcome, Overrides, Plan
from adaln.studies.questions.distribution_figures import (
    FIGURES,
    STAMPS,
    UNIFORM,
    Shape,
    bimodality,
    entropy_change,
    entropy_claim,
    gaussian_claim,
    humps_claim,
    measure_shapes,
    number_table,
    over_blocks,
    snapshots_by_seed,
    verdict,
)
from adaln.studies.questions.score_figures import alike_word, early_verdict, rank_line
from adaln.studies.questions.start_figures import START_FIGURES, gap_verdict, gate_gaps, rank_verdict, spearman
from adaln.tensor_files import save_tensors
from adaln.views.figures import PAPER_FIGURES
from helpers.networks import DIGITS

EARLY, LATE = "10,000 steps", "50,000 steps"


def shape(scheme="adaln-zero", stamp=EARLY, step=250, block=None, **numbers):
    plain = {"std": (0.1, 0.1), "skewness": (0.0, 0.0), "kurtosis": (0.0, 0.0), "distance": (0.1, 0.1)}
    return Shape(scheme, "gate", block, stamp, step, **{**plain, "entropy": (-2.0, -2.0), **numbers})


def test_every_figure_of_the_paper_but_20_is_a_study():
    wanted = {f"figure{i}" for i in (1, *range(3, 10), *range(11, 20), 21, 22)}
    assert wanted <= set(STUDIES) and "figure20" not in STUDIES, "it trains nothing"
    assert set(FIGURES) | set(START_FIGURES) | {"figure20"} == set(PAPER_FIGURES)


@pytest.mark.slow
@pytest.mark.parametrize("scale", SCALES)
def test_all_distributions_are_of_the_same_two_runs_a_seed(scale):
    keys = {
        name: {job.run_key for job in Plan(STUDIES[name], SCALES[scale], (0,)).jobs()} for name in (*FIGURES, "figure1")
    }
    assert all(len(keys[name]) == 2 for name in FIGURES)
    assert len(set.union(*(keys[name] for name in FIGURES))) == 2
    assert keys["figure4"] < keys["figure1"], "and the scores are of these runs too"


@pytest.mark.parametrize("scale", SCALES)
def test_every_timestamp_is_a_checkpoint_that_is_kept(scale):
    for job in Plan(STUDIES["figure4"], SCALES[scale], (0,)).jobs():
        assert job.config.steps in job.config.keep_at and job.score_at == ()
    steps = [job.config.steps for job in Plan(STUDIES["figure4"], SCALES[scale], (0,)).jobs()][: len(STAMPS)]
    assert steps == sorted(set(steps)), "later timestamps are later steps"
    assert scale != "paper" or tuple(steps) == STAMPS == (160, 10_000, 50_000, 200_000, 400_000)


def test_figure_3_is_the_beginning_of_figure_1_and_scored_at_its_end():
    for scale in SCALES.values():
        whole, early = (Plan(STUDIES[name], scale, (0,)).jobs() for name in ("figure1", "figure3"))
        assert {job.run_key for job in early} == {job.run_key for job in whole}
        assert all(job.score_at == (job.config.steps,) for job in early)
        assert (
            early[0].config.steps % early[0].config.log_every == 0 < early[0].config.steps // early[0].config.log_every
        )


def test_figure_22_is_fitted_to_28_blocks_at_every_scale():
    for scale in SCALES.values():
        (job,) = Plan(STUDIES["figure22"], scale, (0,)).jobs()
        assert job.config.model.depth == 28


def outcome(tmp_path, label, scheme, seed=0, step=1000, stamp=LATE):
    """A finished job whose weights are a fresh network's."""
    job = SCALES["tiny"].make(replace(FIGURES["figure4"].settings[0], label=label, scheme=scheme), seed, Overrides())
    job = replace(job, group=stamp, config=replace(job.config, steps=step, model=DiTConfig(32, 3, 2, 2)))
    net = build(job.config.model, DIGITS, generator("figures", seed))
    initialise(net, SCHEMES[scheme], generator("figures", "scheme", scheme, seed))
    run = Run(tmp_path / f"{label}-{seed}", job.config)
    run.folder(step).mkdir(parents=True)
    save_tensors(run.folder(step) / "model.safetensors", dict(net.named_parameters()))
    return Outcome(job, run)


@pytest.mark.slow
def test_the_numbers_are_those_of_the_weights(tmp_path):
    found = [outcome(tmp_path, "adaln-gaussian", "adaln-gaussian", seed) for seed in (0, 1)]
    (one,) = measure_shapes(found, snapshots_by_seed(found), PAPER_FIGURES["figure4"])
    assert one.std == pytest.approx((1e-3, 1e-3), rel=0.05)
    assert one.entropy == pytest.approx([0.5 * math.log(2 * math.pi * math.e * 1e-6)] * 2, abs=0.05)
    assert one.kurtosis == pytest.approx((0, 0), abs=0.2)
    blocks = measure_shapes(found, snapshots_by_seed(found), PAPER_FIGURES["figure6"])
    assert [each.block for each in blocks] == ["blocks.0", "blocks.1", "blocks.2"]


@pytest.mark.slow
def test_weights_that_are_all_alike_have_no_entropy_and_are_shown_so(tmp_path):
    found = [outcome(tmp_path, "adaln-zero", "adaln-zero", seed) for seed in (0, 1)]
    (one,) = measure_shapes(found, snapshots_by_seed(found), PAPER_FIGURES["figure4"])
    assert one.std == (0, 0) and one.entropy == (None, None)
    (row,) = number_table("t", [one]).rows
    assert row[4:] == [None, None, None]
    assert verdict("figure4", [one])


def test_timestamps_that_fall_on_one_step_are_one_row():
    assert len(number_table("t", [shape(), shape(stamp=LATE)]).rows) == 1


def test_figure_5_agrees_with_the_paper_where_mix_falls_and_zero_rises():
    zero = [shape(), shape(stamp=LATE, step=1000, entropy=(-1.45, -1.45))]
    mix = [shape("adaln-mix", entropy=(-1.0, -1.1)), shape("adaln-mix", LATE, 1000, entropy=(-1.8, -1.8))]
    claim = entropy_claim([*zero, *mix])
    assert "of adaln-mix falls (-0.75, 95 %" in claim and "of adaln-zero rises (+0.55, 95 %" in claim
    assert "), as in the paper: " in claim
    swapped = [replace(one, scheme={"adaln-zero": "adaln-mix", "adaln-mix": "adaln-zero"}[one.scheme]) for one in mix]
    other = [replace(one, scheme="adaln-mix") for one in zero]
    assert "), not as in the paper: " in entropy_claim([*swapped, *other])


def test_a_change_within_its_interval_is_not_called_one():
    zero = [shape(), shape(stamp=LATE, step=1000, entropy=(-1.0, -2.9))]
    mix = [shape("adaln-mix"), shape("adaln-mix", LATE, 1000, entropy=(-3.0, -3.1))]
    assert "of adaln-zero does not clearly change" in entropy_claim([*zero, *mix])
    assert entropy_change("adaln-zero", [shape(), shape(stamp=LATE)]) is None, "one step is no change"
    assert "no two timestamps" in entropy_claim([shape()])


def test_two_humps_have_more_of_sarles_coefficient_than_a_uniform():
    x = torch.randn(200_000, generator=generator("humps"), dtype=torch.float64)
    for values, two in ((x, False), (x + 4 * x.sign(), True), (torch.linspace(0, 1, 1001, dtype=torch.float64), None)):
        z = (values - values.mean()) / values.std(correction=0)
        found = bimodality(float((z**3).mean()), float((z**4).mean() - 3))
        assert found == pytest.approx(UNIFORM, abs=1e-3) if two is None else (found > UNIFORM) is two
    assert humps_claim([shape(kurtosis=(-1.5, -1.5))]).startswith(
        "Two humps under adaln-zero (0.67, 95 % [0.67, 0.67])"
    )
    assert humps_claim([shape()]).startswith("One hump under adaln-zero (0.33,")
    assert humps_claim([shape(kurtosis=(-1.5, -0.9))]).startswith("One hump or two under adaln-zero (0.57,")
    assert humps_claim([shape(kurtosis=(None, -0.9))]).startswith("All alike under adaln-zero")


def test_nearer_to_a_gaussian_is_said_of_a_distance_that_surely_fell():
    late = shape(stamp=LATE, step=1000, distance=(0.02, 0.021))
    for before, way in (
        ((0.1, 0.101), "come nearer to"),
        ((0.01, 0.011), "go away from"),
        ((0.03, 0.012), "come no nearer to"),
    ):
        assert f"these weights {way} a Gaussian" in gaussian_claim([replace(shape(), distance=before), late])
    assert gaussian_claim([shape(), replace(late, distance=(None, None))]).startswith("Nothing can be said")


def test_blocks_are_told_by_the_widest_and_the_narrowest():
    found = [shape(block=f"blocks.{i}", std=(std, 1.1 * std)) for i, std in enumerate((0.1, 0.3, 0.2))]
    assert over_blocks(found).startswith("blocks.1 is 3.00, 95 % [3.00, 3.00] times as wide as blocks.0")
    assert "not moved" in over_blocks([shape(block="blocks.0", std=(0.0, 0.0))])


@pytest.mark.slow
def test_gates_apart_are_measured_place_by_place(tmp_path):
    zero = [outcome(tmp_path, "zero", "adaln-zero", seed) for seed in (0, 1)]
    gaussian = [outcome(tmp_path, "gaussian", "adaln-gaussian", seed) for seed in (0, 1)]
    assert gate_gaps(zero, gaussian) == pytest.approx([1e-3 * math.sqrt(2 / math.pi)] * 2, rel=0.05)  # E|N(0, s^2)|
    assert gate_gaps(zero, zero) == [0, 0]


def test_figure_21_says_how_many_times_as_far():
    text = gap_verdict({("std 5e-4", "std 0"): (0.02, 0.021), ("std 5e-4", "std 1e-3"): (0.03, 0.0315)})
    assert "gates are 1.50, 95 % [1.50, 1.50] times as far" in text
    assert text.endswith("(0.0307 and 0.0205); in the paper 1.02 times (0.0124 and 0.0121).")


def test_ranks_agree_whatever_the_distances():
    assert spearman([1, 2, 3, 4], [1, 10, 100, 1000]) == pytest.approx(1)
    assert spearman([1, 2, 3, 4], [2, 1, 4, 3]) == pytest.approx(0.6)  # 1 - 6 * 4 / (4 * 15)


def test_figure_22_says_which_roles_follow_the_papers_fits():
    ranks = {"α": Interval(-0.06, -0.12, 0.0), "γ": Interval(-0.3, -0.4, -0.2), "β": Interval(0.68, 0.63, 0.73)}
    text = rank_verdict(ranks)
    assert "are followed by β (+0.68 [+0.63, +0.73]); are run against by γ (-0.30 [-0.40, -0.20]); are not told" in text
    assert "to fit α (-0.06 [-0.12, +0.00]): rank correlation" in text


def test_the_order_of_five_schemes_is_compared_with_the_papers():
    schemes = ("adaln", "adaln-step1", "adaln-mix", "adaln-zero", "adaln-gaussian")
    assert rank_line(dict(zip(schemes, (5, 4, 3, 2, 1), strict=True))).endswith("the same order.")
    assert rank_line(dict(zip(schemes, (5, 4, 3, 1, 2), strict=True))).endswith("another order.")


def test_beginnings_are_unlike_where_the_paired_test_says_so():
    losses = {"adaln-zero": [1.0, 1.1, 1.2], "adaln": [1.2, 1.301, 1.4], "adaln-mix": [1.0, 1.1, 1.19]}
    values = {"loss": losses, "score": dict.fromkeys(losses, losses["adaln-mix"])}
    found = {what: paired_differences(of_what, "adaln-zero") for what, of_what in values.items()}
    assert alike_word([found["loss"]["adaln"], found["score"]["adaln"]]) == "unlike by loss"
    assert alike_word([found["loss"]["adaln-mix"], found["score"]["adaln-mix"]]) == "not told apart"
    assert alike_word([None, None]) is None
    lines = early_verdict(found, {"adaln": "behind throughout", "adaln-mix": "no difference seen"}, "FID", 20)
    assert lines[0].startswith("Over the first 20 iterations unlike adaln-zero are adaln; in the paper")
    assert "unlike adaln-zero's: adaln;" in lines[1] and "adaln: behind throughout" in lines[-1]
    assert "no scheme is told apart" in lines[2]
