import math
from itertools import product
from statistics import fmean, stdev

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from adaln.statistics import (
    LEVEL,
    factorial_effects,
    noise_factors,
    paired_differences,
    power,
    ratio_interval,
    seeds_needed,
    seen_effect,
    t_interval,
    t_test,
)

T_4 = 2.7764451052
"""t(0.975, 4), from a printed table."""


def paired_difference(values, reference, num_comparisons=1):
    """The first of a family; the others do not differ at all."""
    rows = {f"other {i}": reference for i in range(num_comparisons - 1)}
    return paired_differences({"it": values, **rows, "reference": reference}, "reference")["it"]


def test_the_t_interval_is_students():
    # textbook: mean 3, s = sqrt(2.5)
    interval = t_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    half = T_4 * math.sqrt(2.5 / 5)
    assert (interval.value, interval.low, interval.high) == pytest.approx((3, 3 - half, 3 + half))


def test_the_t_test_rejects_at_5_percent_just_where_the_interval_ends():
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    end = t_interval(values).low
    assert t_test([value - end for value in values]) == pytest.approx(0.05)
    assert t_test([2.0, 2.0]) == 0 and t_test([0.0, 0.0]) == 1


def test_one_value_says_nothing_about_spread():
    assert t_interval([4.0]).low == -math.inf
    assert t_test([4.0]) == 1
    found = paired_difference([4.0], [5.0])
    assert not found.distinguishable and math.isnan(found.noise) and found.relative.high == math.inf


def test_pairs_cancel_what_the_seeds_share():
    reference = [10.0, 50.0, 90.0]
    found = paired_difference([v - 2 + e for v, e in zip(reference, (0.01, 0.0, -0.01), strict=True)], reference)
    assert found.absolute.value == pytest.approx(-2)
    assert found.relative.value == pytest.approx(-2 / 50)
    assert found.noise == pytest.approx(0.01)
    assert found.distinguishable


def test_noise_is_not_a_difference():
    assert not paired_difference([10.0, 52.0, 88.0], [11.0, 50.0, 90.0]).distinguishable


def test_more_comparisons_ask_for_more():
    values, reference = [8.0, 9.0, 8.6], [10.0, 10.0, 10.0]
    one, many = (paired_difference(values, reference, count) for count in (1, 10))
    assert one.distinguishable and not many.distinguishable
    assert many.absolute.high > one.absolute.high


def test_unequal_seeds_are_refused_by_name():
    with pytest.raises(ValueError, match="'mix' has 2 seeds, its reference 3"):
        paired_differences({"zero": [1.0, 2.0, 3.0], "mix": [1.0, 2.0]}, "zero")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 40), min_size=3, max_size=3), min_size=2, max_size=6))
def test_a_verdict_says_what_its_interval_says(rows):
    for found in paired_differences({str(i): [value / 7 for value in row] for i, row in enumerate(rows)}, "0").values():
        if abs(found.p_value - LEVEL) > 1e-9:
            assert found.distinguishable == (not found.absolute.low <= 0 <= found.absolute.high)


@pytest.mark.slow
def test_a_family_calls_something_different_by_chance_in_one_family_of_twenty():
    rng = np.random.default_rng(0)
    reference = rng.normal(50, 2, (2_000, 5))
    rows = rng.normal(50, 2, (3, 2_000, 5))
    wrong = [
        any(d.distinguishable for d in paired_differences(dict(zip("abcr", [*found, base], strict=True)), "r").values())
        for found, base in zip(rows.swapaxes(0, 1).tolist(), reference.tolist(), strict=True)
    ]
    assert 0.02 < np.mean(wrong) < 0.06  # 5 % at most; the rows share a reference, so somewhat less


SCORES = st.lists(st.tuples(st.integers(50, 1_000), st.integers(200, 600)), min_size=2, max_size=6)


@settings(max_examples=50, deadline=None)
@given(SCORES)
def test_absolute_and_relative_changes_never_disagree(tenths):
    pairs = [(a / 10, b / 10) for a, b in tenths]
    values, reference = [a for a, _ in pairs], [b for _, b in pairs]
    found = paired_difference(values, reference)
    assume(math.isfinite(found.relative.low) and abs(t_test([a - b for a, b in pairs]) - 0.05) > 1e-6)
    assert found.relative.low - 1e-9 <= found.relative.value <= found.relative.high + 1e-9
    excludes = [not interval.low <= 0 <= interval.high for interval in (found.absolute, found.relative)]
    assert excludes == [found.distinguishable] * 2


def test_the_ends_of_fieller_s_interval_are_the_ratios_that_a_t_test_just_rejects():
    a, b = [8.0, 9.5, 9.0, 11.0, 10.0], [20.0, 22.0, 19.0, 24.0, 21.0]
    found = ratio_interval(a, b)
    for end in (found.low, found.high):
        assert t_test([x - end * y for x, y in zip(a, b, strict=True)]) == pytest.approx(0.05)
    assert found.value == pytest.approx(fmean(a) / fmean(b))


def test_a_ratio_to_what_may_be_zero_is_not_bounded():
    found = ratio_interval([1.0, 1.1, 0.9], [0.1, -0.2, 0.3])
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert math.isnan(ratio_interval([1.0, 2.0], [1.0, -1.0]).value)


def coverage(num_seeds, interval, truth, draws=2_000):
    """Share of draws whose 95 % interval holds the truth."""
    rng = np.random.default_rng(num_seeds)
    found = [interval(rng.normal(size=(2, num_seeds))) for _ in range(draws)]
    return np.mean([low <= truth <= high for low, high in found])


def fieller(noise):
    # a pair shares most of its noise: reference 40 +- 4, change -8 +- 1
    reference = 40 + 4 * noise[0]
    found = ratio_interval((-8 + noise[1]).tolist(), reference.tolist())
    return found.low, found.high


def student(noise):
    found = t_interval(noise[0].tolist())
    return found.low, found.high


def bootstrap(noise):
    """The percentile bootstrap over seeds, all resamples."""
    values = noise[0]
    means = np.mean(list(product(values, repeat=len(values))), axis=1)
    return tuple(np.quantile(means, [0.025, 0.975]))


@pytest.mark.parametrize("num_seeds", [2, 3, 5])
def test_t_and_fieller_intervals_cover_what_they_say_and_a_bootstrap_over_few_seeds_does_not(num_seeds):
    assert coverage(num_seeds, student, 0.0) == pytest.approx(0.95, abs=0.015)
    assert coverage(num_seeds, fieller, -8 / 40) == pytest.approx(0.95, abs=0.015)
    assert coverage(num_seeds, bootstrap, 0.0, draws=300) < 0.9


def test_a_printed_table_of_sample_sizes_is_met():
    # Cohen (1988), paired: d = 0.5 needs 34 at 80 %, d = 0.8 needs 15, d = 0.2 needs 199 (G*Power 3)
    assert [seeds_needed(d, 1.0) for d in (0.5, 0.8, 0.2)] == [34, 15, 199]


def test_so_many_seeds_see_the_difference_four_times_in_five_and_one_less_does_not():
    change, noise, comparisons = -3.0, 2.5, 4
    seeds = seeds_needed(change, noise, comparisons)
    assert power(abs(change) / noise, seeds - 1, 0.05 / comparisons) < 0.8
    draws = np.random.default_rng(1).normal(change, noise, (4_000, seeds)).tolist()
    seen = np.mean([t_test(row) <= 0.05 / comparisons for row in draws])
    assert seen == pytest.approx(power(abs(change) / noise, seeds, 0.05 / comparisons), abs=0.02)
    assert seen > 0.78


@pytest.mark.parametrize("seeds", [2, 5, 16])
def test_the_least_difference_that_so_many_seeds_see_is_the_one_that_takes_them(seeds):
    effect = seen_effect(seeds, 0.05 / 4)
    assert power(effect - 0.01, seeds, 0.05 / 4) < 0.8 <= power(effect, seeds, 0.05 / 4)
    assert seeds_needed(effect, 1.0, 4) == seeds
    assert seen_effect(1) == math.inf


def test_what_no_number_of_seeds_shows_is_not_given_one():
    assert seeds_needed(0.0, 1.0) is None
    assert seeds_needed(1.0, math.nan) is None
    assert seeds_needed(1e-6, 1.0) is None
    assert seeds_needed(1.0, 0.0) == 2
    assert seeds_needed(1e6, 1.0) == 2


@pytest.mark.parametrize("num_seeds", [2, 3, 10])
def test_the_true_noise_lies_within_its_factors_95_times_in_100(num_seeds):
    low, high = noise_factors(num_seeds)
    found = [stdev(row) for row in np.random.default_rng(2).normal(size=(2_000, num_seeds)).tolist()]
    assert np.mean([low * s <= 1 <= high * s for s in found]) == pytest.approx(0.95, abs=0.015)


def test_effects_of_a_2_by_2_are_those_by_hand():
    responses = {
        (False, False): [20.0, 21.0],
        (True, False): [16.0, 16.0],
        (False, True): [19.0, 20.0],
        (True, True): [10.0, 12.0],
    }
    gate, start, both = factorial_effects(responses, ["gate", "zero start"])
    # seed 0: gate ((16 - 20) + (10 - 19)) / 2, start ((19 - 20) + (10 - 16)) / 2, both ((10 - 19) - (16 - 20)) / 2
    assert gate.size.value == pytest.approx(fmean([-6.5, -6.5]))
    assert start.size.value == pytest.approx(fmean([-3.5, -2.5]))
    assert both.size.value == pytest.approx(fmean([-2.5, -1.5]))
    assert [effect.name for effect in (gate, start, both)] == ["gate", "zero start", "gate x zero start"]
    assert gate.distinguishable and not start.distinguishable


def test_effects_of_a_2_by_2_by_2_are_those_of_least_squares():
    rng = np.random.default_rng(3)
    settings = list(product((False, True), repeat=3))
    responses = {setting: rng.normal(20, 3, 4).tolist() for setting in settings}
    found = factorial_effects(responses, ["gate", "zero start", "order"])
    signs = np.where(np.array(settings), 1.0, -1.0)
    names = [effect.factors for effect in found]
    columns = [np.prod(signs[:, [("gate", "zero start", "order").index(f) for f in name]], axis=1) for name in names]
    design = np.column_stack([np.ones(8), *columns])
    for seed in range(4):
        fitted = np.linalg.lstsq(design, [responses[s][seed] for s in settings], rcond=None)[0]
        alone = factorial_effects({s: [responses[s][seed]] for s in settings}, ["gate", "zero start", "order"])
        np.testing.assert_allclose([effect.size.value for effect in alone], 2 * fitted[1:], rtol=1e-9, atol=1e-12)
    means = np.linalg.lstsq(design, [fmean(responses[s]) for s in settings], rcond=None)[0]
    np.testing.assert_allclose([effect.size.value for effect in found], 2 * means[1:], rtol=1e-9, atol=1e-12)
    assert len(found) == 7 and names[:3] == [("gate",), ("zero start",), ("order",)]


def test_what_seeds_share_moves_no_effect():
    settings = list(product((False, True), repeat=3))
    base = {setting: [float(sum(setting)), sum(setting) + 0.1, sum(setting) - 0.05] for setting in settings}
    shifted = {setting: [value + 30 * seed for seed, value in enumerate(row)] for setting, row in base.items()}
    plain, moved = (factorial_effects(row, ["a", "b", "c"]) for row in (base, shifted))
    for one, other in zip(plain, moved, strict=True):
        assert (one.size.value, one.size.low) == pytest.approx((other.size.value, other.size.low), abs=1e-9)


def test_a_factorial_with_a_hole_names_it():
    responses = {(False, False): [1.0], (True, True): [2.0], (True, False): [2.0]}
    with pytest.raises(ValueError, match="4 settings; missing: gate off, order on"):
        factorial_effects(responses, ["gate", "order"])
    with pytest.raises(ValueError, match=r"\[1, 2\] seeds"):
        factorial_effects({**responses, (False, True): [1.0, 2.0]}, ["gate", "order"])
