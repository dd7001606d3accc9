"""The effect of a start over std / learning rate, on scores that follow a known rule."""

from dataclasses import replace
from itertools import product
from math import exp, log

import pytest

from adaln.codec import json_text
from adaln.conditioning import scheme
from adaln.studies import SCALES, Overrides, Plan
from adaln.studies.questions import ratio
from adaln.studies.questions.ratio_effects import AS_IT_IS, between, chance_of_lowest
from helpers.made_up import made_up

SEEDS = (0, 1, 2, 3, 4)
WOBBLE = (0.01, -0.02, 0.0, 0.02, -0.01)


def outcomes(run, effect):
    """Scores 20 exp(effect(updates, std, gone)) at the end, 10, and twice as much half-way; twice the rate ends at 5.

    `gone` is how far, in steps at the ladder's rate.
    """
    made = []
    for setting, seed in product(ratio.settings(), SEEDS):
        lr = 1e-4 * setting.lr_factor
        start = scheme(setting.scheme)
        std = start.gate.weight.std if "gaussian" in start.name else 0.0
        noise = seed / 10 + WOBBLE[seed] * (1 + 10 * std)
        changes = {"scheme": start, "optim": replace(run.config.optim, lr=lr)}
        steps = (5,) if setting.lr_factor > 1 else (5, 10)
        curve = {step: 200 / step * exp(noise + effect(std / lr, std, step * lr / 1e-4)) for step in steps}
        made.append(made_up(run, setting.label, seed, curve, setting.group, **changes))
    return made


@pytest.mark.parametrize("decides", ["in updates", "in std"])
def test_the_rule_by_which_scores_were_made_foretells_them(trained, decides):
    def effect(updates, std, gone):
        over = updates if decides == "in updates" else std / 1e-4
        return -0.005 * gone * log(1 + over)

    result = ratio.reduce(outcomes(trained, effect))
    missed, gain = result.numbers["rule"]["errors"], result.numbers["rule"]["gain"]["value"]
    assert min(missed, key=missed.get) == decides and missed[decides] < 0.02 < max(missed.values())
    assert (gain > 0) == (decides == "in updates")
    assert ("std / lr" if decides == "in updates" else "the std itself") + " foretells them better" in json_text(result)


def test_what_differs_is_said_with_when_and_where(trained):
    result = ratio.reduce(outcomes(trained, lambda updates, std, gone: -0.3 * (updates > 99) * (gone >= 10)))
    answer, all_of_them, early, *elsewhere = result.verdict
    assert answer.startswith("Yes: a start of 100 updates is better than Zero (-2")
    assert answer.endswith("after 10 steps, over 5 seeds, by FID-like; 3 of 7 starts differ.")
    assert "100 updates better" in all_of_them and "1,000 updates better" in all_of_them
    assert early == "Early, after 5 steps: none differs from Zero."
    assert len([line for line in elsewhere if ": 300 updates better" in line]) == len(ratio.CIRCUMSTANCES) - 2
    assert [row[0] for row in result.table.rows] == [f"std {std:g}" for std in ratio.LADDER]
    assert result.table.rows[0][2] == "the reference"


def test_where_nothing_differs_the_first_line_says_so(trained):
    answer, *_ = ratio.reduce(outcomes(trained, lambda updates, std, gone: 0.0)).verdict
    assert answer.startswith("Not that these seeds tell: after 10 steps")


@pytest.mark.parametrize("scale", ["ratio", "paper"])
def test_starts_elsewhere_last_as_long_as_those_of_the_ladder(scale):
    jobs = Plan(ratio.RATIO, SCALES[scale], (0, 1), Overrides()).jobs()
    lasts = {
        name: {
            round(job.config.scheme.gate.weight.std / job.config.optim.lr, 6)
            for job in jobs
            if job.group == name and job.label != "std 0"
        }
        for name in ratio.CIRCUMSTANCES
    }
    assert lasts.pop(AS_IT_IS) == {1, 3, 10, 30, 100, 300, 1000}
    assert all(updates == {10, 300} for updates in lasts.values())


def test_the_curve_is_straight_between_its_points_and_level_beyond():
    assert between([1, 10, 100], [0.0, 1.0, 5.0], 10**1.5) == pytest.approx(3.0)
    assert between([1, 10], [0.5, 1.0], 0.1) == 0.5


def test_a_lowest_row_is_the_likelier_the_more_rows_there_are():
    assert chance_of_lowest(-2.0, 1) == pytest.approx(0.02275, abs=1e-5)
    assert chance_of_lowest(-1.0, 2) < chance_of_lowest(-1.0, 6) < chance_of_lowest(-1.0, 600)


@pytest.mark.parametrize("scale", ["ratio", "tiny", "images-32"])
def test_other_rates_end_where_the_ladder_is_scored_as_far_on(scale):
    jobs = Plan(ratio.RATIO, SCALES[scale], (0, 1), Overrides()).jobs()
    base = next(job for job in jobs if job.group == AS_IT_IS)
    for job in jobs:
        if job.group in ratio.OTHER_RATES:
            factor = job.config.optim.lr / base.config.optim.lr
            assert job.config.steps * factor in base.score_at
