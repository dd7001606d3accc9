"""What a squared distance between Gaussians must be, whatever their rank."""

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaln.metrics.frechet import FeatureMoments, Gaussian, frechet_distance, frechet_influence, pivoted_cholesky
from adaln.rng import generator

DIMS = st.integers(1, 12)
COUNTS = st.integers(2, 30)


def draw(count: int, dim: int, key: object, shift: float = 0.0) -> torch.Tensor:
    rng = generator("frechet", repr(key))
    mixing = torch.randn(dim, dim, generator=rng, dtype=torch.float64)
    return torch.randn(count, dim, generator=rng, dtype=torch.float64) @ mixing + shift


def gaussian(count: int, dim: int, key: object, shift: float = 0.0) -> Gaussian:
    return FeatureMoments.of(draw(count, dim, key, shift)).gaussian()


def scale(*gaussians: Gaussian) -> float:
    return sum(float(g.covariance.trace() + g.mean.square().sum()) for g in gaussians)


@settings(max_examples=50, deadline=None)
@given(DIMS, COUNTS)
def test_distance_to_itself_is_zero(dim, count):
    a = gaussian(count, dim, "a")
    assert abs(frechet_distance(a, a).value) <= 1e-7 * scale(a)


@settings(max_examples=50, deadline=None)
@given(DIMS, COUNTS, COUNTS)
def test_distance_is_symmetric_and_never_negative(dim, m, n):
    a, b = gaussian(m, dim, "a"), gaussian(n, dim, "b", shift=1.0)
    there, back = frechet_distance(a, b), frechet_distance(b, a)
    assert there.value == pytest.approx(back.value, abs=1e-7 * scale(a, b))
    assert there.value >= -1e-7 * scale(a, b)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), COUNTS, COUNTS)
def test_distance_does_not_change_under_a_rotation_of_both(dim, m, n):
    x, y = draw(m, dim, "x"), draw(n, dim, "y", shift=0.5)
    rotation, _ = torch.linalg.qr(draw(dim, dim, "q"))
    plain, rotated = (
        frechet_distance(FeatureMoments.of(x @ r).gaussian(), FeatureMoments.of(y @ r).gaussian()).value
        for r in (torch.eye(dim, dtype=torch.float64), rotation)
    )
    assert rotated == pytest.approx(plain, rel=1e-6, abs=1e-6)


def test_commuting_covariances_have_the_distance_of_their_standard_deviations():
    stds_a, stds_b = (torch.tensor(s, dtype=torch.float64) for s in ([1.0, 2.0, 0.0], [3.0, 0.5, 2.0]))
    zero = torch.zeros(3, dtype=torch.float64)
    found = frechet_distance(Gaussian(zero, stds_a.square().diag()), Gaussian(zero + 2, stds_b.square().diag()))
    assert found.value == pytest.approx(12 + float((stds_a - stds_b).square().sum()), rel=1e-14)
    assert found.mean_term == 12
    assert found.ranks == (2, 3)


def test_full_rank_distance_is_that_of_the_matrix_square_root():
    a, b = gaussian(200, 20, "a"), gaussian(300, 20, "b")
    root = scipy.linalg.sqrtm((a.covariance @ b.covariance).numpy()).real
    direct = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * np.trace(root)
    assert frechet_distance(a, b).value == pytest.approx(float(direct), rel=1e-11)


@pytest.mark.parametrize(("count", "rank"), [(2, 1), (10, 9), (64, 63), (65, 64), (100, 64)])
def test_the_factor_has_the_rank_of_the_data_and_rebuilds_the_covariance(count, rank):
    covariance = gaussian(count, 64, count).covariance
    factor = pivoted_cholesky(covariance)
    assert factor.shape == (64, rank)
    torch.testing.assert_close(factor @ factor.T, covariance, rtol=0, atol=1e-11 * float(covariance.trace()))


def test_covariance_of_identical_images_is_zero_and_the_distance_still_exact():
    a, b = FeatureMoments.of(torch.full((10, 4), 3.0)).gaussian(), gaussian(50, 4, "b")
    expected = float((a.mean - b.mean).square().sum() + b.covariance.trace())
    found = frechet_distance(a, b)
    assert found.value == pytest.approx(expected, rel=1e-14)
    assert found.ranks == (0, 4)


def test_what_cutting_at_the_numerical_rank_adds_is_within_the_stated_slack():
    tiny = torch.cat([torch.ones(8), torch.full((8,), 1e-17)]).double().diag()
    zero = torch.zeros(16, dtype=torch.float64)
    found = frechet_distance(Gaussian(zero, tiny), Gaussian(zero, torch.eye(16, dtype=torch.float64)))
    exact = 8 * (1 - 1e-17**0.5) ** 2
    assert found.ranks == (8, 16)
    assert 0 < found.value - exact <= found.slack


def test_a_failed_factorisation_is_an_error_not_a_number():
    not_a_covariance = torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64)
    zero = torch.zeros(2, dtype=torch.float64)
    with pytest.raises(ValueError, match="trace identities off by"):
        frechet_distance(Gaussian(zero, not_a_covariance), gaussian(9, 2, "b"))


def test_nan_and_unequal_dimensions_are_refused_in_one_line():
    good = gaussian(9, 3, "a")
    with pytest.raises(ValueError, match="the mean has NaN"):
        frechet_distance(good, Gaussian(good.mean * float("nan"), good.covariance))
    with pytest.raises(ValueError, match="between 3 and 2 features"):
        frechet_distance(good, gaussian(9, 2, "b"))


def test_influence_is_the_derivative_by_the_weight_of_a_row():
    rows, reference = draw(40, 5, "rows", shift=1.0), gaussian(60, 5, "ref")
    influence, step = frechet_influence(rows, FeatureMoments.of(rows).gaussian(), reference), 1e-5
    assert float(influence.sum()) == pytest.approx(0, abs=1e-9)

    def distance(weights: torch.Tensor) -> float:
        mean = weights @ rows
        covariance = (rows - mean).T @ ((rows - mean) * weights[:, None])
        return frechet_distance(Gaussian(mean, covariance * (40 / 39)), reference).value

    base = torch.full((40,), 1 / 40, dtype=torch.float64)
    for i in range(3):
        towards = torch.zeros(40, dtype=torch.float64)
        towards[i] = 1
        slope = (distance(base + step * (towards - base)) - distance(base - step * (towards - base))) / (2 * step)
        assert float(influence[i]) == pytest.approx(slope, rel=0.06)


def test_covariances_of_disjoint_features_are_no_failure():
    one, other = (torch.tensor(d, dtype=torch.float64).diag() for d in ([4.0, 0.0, 0.0], [0.0, 1.0, 9.0]))
    rotation, _ = torch.linalg.qr(draw(3, 3, "q"))
    zero = torch.zeros(3, dtype=torch.float64)
    found = frechet_distance(*(Gaussian(zero, rotation @ c @ rotation.T) for c in (one, other)))
    assert found.value == pytest.approx(14, abs=1e-6)
