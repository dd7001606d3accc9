import math

import pytest

from adaln.studies.statistics import paired_difference, t_interval


def test_the_t_interval_is_students():
    # textbook: mean 3, s = sqrt(2.5), t(0.975, 4) = 2.776445
    interval = t_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.7764451052 * math.sqrt(2.5 / 5)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((3, 3 - half, 3 + half))


def test_one_value_says_nothing_about_spread():
    assert t_interval([4.0]).low == -math.inf


def test_pairs_cancel_what_the_seeds_share():
    reference = [10.0, 50.0, 90.0]
    found = paired_difference([v - 2 + e for v, e in zip(reference, (0.01, 0.0, -0.01), strict=True)], reference)
    assert found.absolute.mean == pytest.approx(-2)
    assert found.relative == pytest.approx(-2 / 50)
    assert found.distinguishable


def test_noise_is_not_a_difference():
    assert not paired_difference([10.0, 52.0, 88.0], [11.0, 50.0, 90.0]).distinguishable


def test_more_comparisons_ask_for_more():
    values, reference = [8.0, 9.0, 8.6], [10.0, 10.0, 10.0]
    one, many = (paired_difference(values, reference, count) for count in (1, 10))
    assert one.distinguishable and not many.distinguishable
    assert many.absolute.high > one.absolute.high


def test_unequal_seeds_are_refused():
    with pytest.raises(ValueError, match="same seeds: got 2 and 3"):
        paired_difference([1.0, 2.0], [1.0, 2.0, 3.0])
