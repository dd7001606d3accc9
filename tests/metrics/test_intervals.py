"""Inception Score, KID and the intervals, against their definitions and by simulation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaln.metrics.frechet import FeatureMoments, Gaussian, frechet_distance, frechet_interval, weighted_distances
from adaln.metrics.intervals import Z95, around, resampling_weights, wilson
from adaln.metrics.kid_and_is import inception_score, inception_score_interval, kernel_distance, squared_mmd
from adaln.rng import generator


def draw(count: int, dim: int, *key: object, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(count, dim, generator=generator("scores", repr(key))) + shift


def score_by_definition(probs: torch.Tensor) -> float:
    mean = probs.double().mean(dim=0)
    return float((probs.double() * (probs.double() / mean).log()).sum(dim=1).mean().exp())


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(2, 8))
def test_inception_score_is_its_definition_and_between_one_and_the_number_of_classes(count, classes):
    probs = draw(count, classes, "p").softmax(dim=1)
    found = inception_score(probs)
    assert found == pytest.approx(score_by_definition(probs), rel=1e-6)
    assert 1 - 1e-6 <= found <= classes


def test_certain_and_balanced_predictions_score_the_number_of_classes_without_nan():
    assert inception_score(torch.eye(10).repeat(3, 1)) == pytest.approx(10, rel=1e-12)


def test_splits_are_in_order_and_a_short_one_counts_as_much_as_the_others():
    probs = draw(25, 4, "p").softmax(dim=1)
    parts = [score_by_definition(part) for part in (probs[:10], probs[10:20], probs[20:])]
    assert inception_score(probs, 10) == pytest.approx(sum(parts) / 3, rel=1e-6)


def test_squared_mmd_is_its_definition():
    x, y = draw(6, 3, "x").double(), draw(5, 3, "y", shift=0.5).double()

    def k(u: torch.Tensor, v: torch.Tensor) -> float:
        return (float(u @ v) / 3 + 1) ** 3

    within = [
        sum(k(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j) / (len(z) * (len(z) - 1))
        for z in (x, y)
    ]
    across = sum(k(a, b) for a in x for b in y) / 30
    assert float(squared_mmd(x, y)) == pytest.approx(sum(within) - 2 * across, rel=1e-12)


def test_kid_of_equal_distributions_is_zero_within_its_error_and_of_others_is_not():
    rng = generator("kid")
    same, interval = kernel_distance(draw(800, 8, "a"), draw(600, 8, "b"), rng)
    assert abs(same) < 4 * (interval.high - same) / Z95
    assert interval.method == "spread of subsets of 300, scaled to N"
    other, interval = kernel_distance(draw(800, 8, "a"), draw(600, 8, "b", shift=0.5), rng)
    assert other > 8 * (interval.high - other) / Z95


def test_kid_needs_four_images():
    with pytest.raises(ValueError, match="at least 4 images a side, got 3 and 9"):
        kernel_distance(draw(9, 2, "a"), draw(3, 2, "b"), generator("kid"))


def test_resampling_weights_are_counts_of_a_multinomial():
    weights = resampling_weights(50, 400, generator("w"))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(400, dtype=torch.float64))
    counts = weights * 50
    torch.testing.assert_close(counts, counts.round())
    assert float(counts.var()) == pytest.approx(1 - 1 / 50, rel=0.05)


@pytest.mark.parametrize("num_dead", [0, 2])
def test_distances_under_weights_are_those_of_the_repeated_rows(monkeypatch, num_dead: int):
    monkeypatch.setattr("adaln.metrics.frechet.BOOTSTRAP_ROWS", 3)
    rows, counts = draw(8, 5, "rows"), torch.tensor([[2, 0, 1, 1, 1, 0, 3, 0], [1, 1, 1, 1, 0, 0, 2, 2], [8] + 7 * [0]])
    rows[:, :num_dead] = 0
    reference = FeatureMoments.of(draw(9, 5, "reference")).gaussian()
    found = weighted_distances(rows, FeatureMoments.of(rows).gaussian(), counts.double() / 8, reference)
    repeated = [FeatureMoments.of(rows.repeat_interleave(row, dim=0)).gaussian() for row in counts]
    expected = torch.tensor([frechet_distance(each, reference).value for each in repeated], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)


REFERENCE = Gaussian(torch.zeros(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64))
SHIFT = 0.6


def spread_over_draws(count: int) -> float:
    """Standard deviation of the distance over 300 fresh draws: what an interval should know from one draw."""
    values = [
        frechet_distance(FeatureMoments.of(draw(count, 4, i, shift=SHIFT)).gaussian(), REFERENCE).value
        for i in range(300)
    ]
    return float(torch.tensor(values).std())


@pytest.mark.slow
@pytest.mark.parametrize("bootstrap_dim", [128, 0])
def test_both_frechet_intervals_are_as_wide_as_the_spread_over_fresh_draws(monkeypatch, bootstrap_dim):
    monkeypatch.setattr("adaln.metrics.frechet.BOOTSTRAP_DIM", bootstrap_dim)
    widths = []
    for i in range(10):
        rows = draw(200, 4, i, shift=SHIFT)
        found = frechet_interval(1.0, rows, FeatureMoments.of(rows).gaussian(), REFERENCE, 100, generator("b", i))
        widths.append((found.high - 1.0) / 1.959964)
    assert found.method.startswith("bootstrap of 100" if bootstrap_dim else "infinitesimal jackknife")
    assert sum(widths) / 10 == pytest.approx(spread_over_draws(200), rel=0.15)


def test_inception_score_interval_is_as_wide_as_the_spread_over_fresh_draws():
    def probs(i: int) -> torch.Tensor:
        return (2 * draw(300, 5, "is", i)).softmax(dim=1)

    spread = float(torch.tensor([inception_score(probs(i), 100) for i in range(300)]).std())
    found = [inception_score_interval(2.0, probs(i), 100, 100, generator("b", i)) for i in range(10)]
    assert sum(one.high - 2.0 for one in found) / 19.59964 == pytest.approx(spread, rel=0.15)


@pytest.mark.parametrize("fraction", [0.5, 0.9, 0.99])
def test_wilson_covers_a_fraction_about_95_times_in_100(fraction):
    rng, hits = generator("wilson", repr(fraction)), 0
    for _ in range(400):
        found = wilson(torch.rand(150, generator=rng) < fraction)
        hits += found.low <= fraction <= found.high
    assert 0.92 < hits / 400 < 0.985


def test_intervals_hold_their_value_and_stay_in_their_range():
    assert wilson(torch.ones(20, dtype=torch.bool)).high == 1.0
    assert wilson(torch.zeros(20, dtype=torch.bool)).low == 0.0
    assert around(0.5, 10.0, "x").low == 0.0
