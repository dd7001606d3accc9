"""MIND, CMMD, density and coverage: against plain float64 forms, by their invariances, and by simulation."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaln.metrics import cmmd, sliced
from adaln.metrics.cmmd import gaussian_mmd
from adaln.metrics.intervals import Z95
from adaln.metrics.precision_recall import density_coverage, precision_recall
from adaln.metrics.sliced import sliced_distance
from adaln.rng import generator


def draw(count: int, dim: int, *key: object, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(count, dim, generator=generator("rows", repr(key))) + shift


def mind(reference: torch.Tensor, samples: torch.Tensor) -> float:
    return sliced_distance(reference, samples, generator("mind"))[0]


def mind_by_definition(x: np.ndarray, y: np.ndarray, lines: np.ndarray) -> float:
    apart = [np.mean((np.sort(x @ line) - np.sort(y @ line)) ** 2) for line in lines]
    return 3 * x.shape[1] * float(np.mean(apart))


def cmmd_by_definition(x: np.ndarray, y: np.ndarray) -> float:
    def mean_kernel(u: np.ndarray, v: np.ndarray) -> float:
        return float(np.mean([[np.exp(-np.sum((a - b) ** 2) / 200) for b in v] for a in u]))

    return 1000 * (mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y))


def density_coverage_by_definition(reference: np.ndarray, samples: np.ndarray, k: int) -> tuple[float, float]:
    def apart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return np.linalg.norm(u[:, None] - v[None], axis=2)

    inside = apart(reference, samples) <= np.sort(apart(reference, reference), axis=1)[:, k, None]
    return float(inside.sum() / (k * len(samples))), float(inside.any(axis=1).mean())


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 60), st.integers(1, 9))
def test_mind_is_its_definition(count, dim):
    x, y = draw(count, dim, "x"), draw(count, dim, "y", shift=0.5)
    rng = generator("mind")
    torch.randperm(count, generator=rng), torch.randperm(count, generator=rng)
    lines = torch.cat([*sliced._directions(dim, rng)]).double().numpy()
    assert mind(x, y) == pytest.approx(mind_by_definition(x.double().numpy(), y.double().numpy(), lines), rel=1e-5)


def test_mind_of_a_shift_is_three_times_its_square():
    x, shift = draw(50, 64, "x"), draw(1, 64, "shift")
    assert mind(x, x + shift) == pytest.approx(3 * float(shift.square().sum()), rel=4 * (2 / 1000) ** 0.5)


def test_mind_takes_as_many_rows_of_the_larger_side_as_the_smaller_has():
    many, few = draw(400, 3, "x"), draw(100, 3, "y")
    fair = np.mean([mind(draw(100, 3, i), few) for i in range(20)])
    assert mind(many, few) == pytest.approx(fair, rel=0.5)
    assert mind(few, many) == pytest.approx(fair, rel=0.5)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(1, 9))
def test_cmmd_is_its_definition(num_samples, num_reference, dim):
    x, y = 3 * draw(num_reference, dim, "x"), 3 * draw(num_samples, dim, "y", shift=0.5)
    assert gaussian_mmd(x, y)[0] == pytest.approx(
        cmmd_by_definition(x.double().numpy(), y.double().numpy()), rel=1e-4, abs=1e-4
    )


def test_cmmd_in_blocks_is_cmmd_at_once(monkeypatch):
    x, y = draw(50, 4, "x"), draw(41, 4, "y")
    whole = gaussian_mmd(x, y)
    monkeypatch.setattr(cmmd, "ROWS", 16)
    assert gaussian_mmd(x, y)[0] == pytest.approx(whole[0], rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(7, 40), st.integers(1, 40), st.integers(1, 9), st.integers(1, 6))
def test_density_and_coverage_are_their_definitions(num_reference, num_samples, dim, k):
    x, y = draw(num_reference, dim, "x"), draw(num_samples, dim, "y", shift=0.3)
    found = density_coverage(x, y, k)
    density, coverage = density_coverage_by_definition(x.double().numpy(), y.double().numpy(), k)
    assert float(found.balls.double().mean()) / k == pytest.approx(density)
    assert float(found.covered.double().mean()) == pytest.approx(coverage)


@settings(max_examples=20, deadline=None)
@given(st.integers(8, 40), st.integers(8, 40), st.sampled_from([0.0, 1e2, -1e4, 3e5]))
def test_where_the_features_lie_moves_neither_density_and_coverage_nor_precision_and_recall(rows, others, shift):
    x, y = draw(rows, 5, "x", shift=shift), draw(others, 5, "y", shift=shift + 0.3)
    near, far = (density_coverage((x - shift), (y - shift)), density_coverage(x, y))
    assert torch.equal(near.balls, far.balls) and torch.equal(near.covered, far.covered)
    near, far = (precision_recall((x - shift), (y - shift)), precision_recall(x, y))
    assert (near.precision, near.recall) == (far.precision, far.recall)


def test_the_kernel_of_an_image_and_itself_is_1_however_large_the_features():
    x, y = 1e6 * draw(50, 8, "x"), 1e6 * draw(40, 8, "y")
    assert gaussian_mmd(x, y)[0] == pytest.approx(1000 * (1 / 50 + 1 / 40))


def test_an_outlier_among_the_samples_moves_density_and_coverage_by_no_more_than_its_share():
    x, y = draw(200, 4, "x"), draw(200, 4, "y")
    before, after = density_coverage(x, y), density_coverage(x, torch.cat([y[:-1], torch.full((1, 4), 1e4)]))
    assert abs(float(before.balls.sum() - after.balls.sum())) <= float(before.balls[-1])
    assert int(before.covered.sum()) - int(after.covered.sum()) <= int(before.balls[-1])


@pytest.mark.parametrize("distance", [mind, lambda x, y: gaussian_mmd(x, y)[0]])
def test_a_set_is_at_zero_from_itself_in_any_order_and_both_sides_may_change_places(distance):
    x, y = draw(60, 5, "x"), draw(60, 5, "y", shift=0.5)
    apart = distance(x, y)
    assert distance(y, x) == pytest.approx(apart, rel=1e-2)
    assert abs(distance(x, x.flip(0))) < 1e-5 * apart
    assert distance(x + 100, y + 100) == pytest.approx(apart, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "measure", [lambda x, y: sliced_distance(x, y, generator("mind")), gaussian_mmd], ids=["mind", "cmmd"]
)
def test_intervals_are_as_wide_as_the_spread_over_fresh_draws(measure, monkeypatch):
    monkeypatch.setattr(sliced, "DIRECTIONS", 128)
    reference = draw(300, 4, "reference")
    found = [measure(reference, draw(300, 4, i, shift=0.6)) for i in range(200)]
    widths = [(interval.high - value) / Z95 for value, interval in found]
    assert np.mean(widths) == pytest.approx(np.std([value for value, _ in found]), rel=0.2)


def test_fewer_reference_images_than_neighbours_are_refused():
    with pytest.raises(ValueError, match="k=5 neighbours need more than 5 reference images, got 5"):
        density_coverage(draw(5, 2, "x"), draw(9, 2, "y"))
