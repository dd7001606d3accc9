import json
from dataclasses import asdict
from math import e, inf, log, nan, pi

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from adaln.analysis.distributions import (
    differential_entropy,
    gaussian_fit,
    histogram_entropy,
    std_histogram,
    summarise,
    symlog_histogram,
)
from adaln.analysis.sketch import Sketch, moments, sketch
from adaln.rng import generator


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator("distributions test", seed))


AWKWARD = {
    "empty": torch.zeros(0),
    "one": torch.tensor([0.7]),
    "all zero": torch.zeros(5000),
    "negative zero": torch.full((9,), -0.0),
    "constant": torch.full((5000,), -0.3),
    "tiny": 1e-12 * normal(5000),
    "denormal": torch.full((4,), 1e-42),
    "huge": 1e37 * normal(5000),
    "largest": torch.tensor([torch.finfo(torch.float32).max, -torch.finfo(torch.float32).max, 0.0]),
    "NaN and infinity": torch.cat([normal(500), torch.tensor([nan, nan, inf, -inf])]),
    "only NaN": torch.full((7,), nan),
    "one outlier": torch.cat([1e-6 * normal(5000), torch.tensor([1e6])]),
    "far from zero": 1 + 1e-3 * normal(5000),
    "mostly zero": torch.cat([torch.zeros(4000), normal(1000)]),
}


@pytest.mark.parametrize("values", AWKWARD.values(), ids=AWKWARD.keys())
def test_histograms_hold_every_element_of_any_tensor_and_everything_is_strict_json(values):
    summary = summarise(sketch(values))
    for histogram in (summary.histogram, summary.symlog):
        assert histogram.elements == values.numel()
        assert histogram.nans == int(values.isnan().sum())
        assert histogram.infs == int(values.isinf().sum())
        assert list(histogram.edges) == sorted(set(histogram.edges))
        assert len(histogram.counts) == len(histogram.edges) - 1 >= 1
    assert summary.moments.elements == values.numel()
    json.dumps(asdict(summary), allow_nan=False)


@settings(deadline=None)
@given(st.lists(st.floats(width=32), max_size=30))
def test_histograms_hold_every_element_of_arbitrary_floats(values):
    summary = summarise(sketch(torch.tensor(values, dtype=torch.float32)))
    assert summary.histogram.elements == summary.symlog.elements == len(values)
    json.dumps(asdict(summary), allow_nan=False)


@pytest.mark.parametrize("make", [std_histogram, symlog_histogram])
@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e30])
def test_counts_are_exact_for_the_edges_that_are_stated(make, scale):
    values = scale * normal(20_000)
    histogram = make(sketch(values))
    expected, _ = np.histogram(values.double().numpy(), np.array(histogram.edges))
    assert list(histogram.counts) == expected.tolist()


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1.0])
def test_a_gaussian_stays_readable_at_any_scale(scale):
    summary = summarise(sketch(scale * normal(20_000)))
    assert max(summary.histogram.counts) < 0.06 * 20_000
    assert sum(count > 0 for count in summary.histogram.counts) > 60
    assert sum(count > 0 for count in summary.symlog.counts) > 40


def test_tails_and_core_are_both_seen_on_the_symlog_bins():
    values = torch.cat([1e-6 * normal(5000), 1e-1 * normal(50)])
    histogram = symlog_histogram(sketch(values))
    assert histogram.below == histogram.above == 0
    assert max(histogram.counts) < 0.3 * 5000
    assert sum(count > 0 for count in histogram.counts) > 40


def test_exact_zeros_are_counted_and_their_share_is_of_all_elements():
    found = moments(sketch(torch.tensor([0.0, -0.0, 1e-40, nan])))
    assert (found.elements, found.zeros, found.nans, found.zero_share) == (4, 2, 1, 0.5)


@pytest.mark.parametrize("std", [1e-12, 1e-3, 1.0, 1e20])
@pytest.mark.parametrize("num", [300, 4096, 1_000_000])
def test_the_entropy_of_a_gaussian_is_right_within_its_stated_error(std, num):
    found = differential_entropy(sketch(std * normal(num)))
    error = found.nats - 0.5 * log(2 * pi * e * std**2)
    assert -4 * found.standard_error <= error <= 4 * found.standard_error + found.bias
    assert found.standard_error == pytest.approx((0.5 / num) ** 0.5, rel=0.25)
    assert found.bias < 0.05 * (300 / num) ** (2 / 3) + 5e-4


def test_the_entropy_of_uniform_and_laplace_samples_is_right_within_the_stated_error():
    rng = generator("distributions test", 1)
    uniform = torch.rand(200_000, generator=rng)
    laplace = torch.empty(200_000).exponential_(generator=rng) * (torch.rand(200_000, generator=rng) > 0.5).mul(2).sub(
        1
    )
    for values, exact in ((uniform, 0.0), (laplace, 1 + log(2))):
        found = differential_entropy(sketch(values))
        assert abs(found.nats - exact) < 4 * found.standard_error + 2e-2


def test_the_stated_error_is_the_scatter_over_seeds():
    found = [differential_entropy(sketch(normal(2000, seed=seed))) for seed in range(60)]
    scatter = np.std([one.nats for one in found])
    assert 0.7 < scatter / found[0].standard_error < 1.4


def test_the_stated_error_owns_up_where_the_lattice_is_coarser_than_the_values():
    found = differential_entropy(sketch(1 + 1e-3 * normal(5000)))
    error = found.nats - 0.5 * log(2 * pi * e * 1e-3**2)
    assert 0.1 < error < found.bias + 4 * found.standard_error


def test_entropies_say_which_estimator_and_bins_they_used():
    summary = summarise(sketch(normal(1000)))
    assert "Miller-Madow" in summary.entropy.estimator
    assert summary.entropy.bins == "0.349 std wide within 44.7 std of the mean, bfloat16 cells beyond"
    assert summary.histogram_entropy.bins == "0.001 wide, one centred on 0"


def test_a_constant_has_no_differential_entropy_and_a_histogram_entropy_of_zero():
    for values in (torch.zeros(10), torch.full((10,), 0.01)):
        summary = summarise(sketch(values))
        assert summary.entropy.nats is None
        assert summary.histogram_entropy.nats == 0.0
        assert summary.gaussian is None


@pytest.mark.parametrize("std", [5e-3, 0.02, 0.1, 1.0])
def test_histogram_entropy_grows_with_the_spread_as_its_fixed_bins_say(std):
    found = histogram_entropy(sketch(std * normal(500_000)))
    assert found.nats == pytest.approx(0.5 * log(2 * pi * e * std**2) - log(1e-3), abs=0.01)


def test_ks_distance_agrees_with_scipy_within_its_resolution():
    values = normal(20_000) ** 3
    found = gaussian_fit(sketch(values))
    exact = stats.kstest(values.double().numpy(), stats.norm(found.mean, found.std).cdf).statistic
    assert exact - found.ks_resolution <= found.ks_distance <= exact + 1e-9
    assert found.ks_distance > 0.1


def test_a_gaussian_shows_no_more_divergence_than_chance_and_a_laplace_shows_its_own():
    rng = generator("distributions test", 2)
    found = gaussian_fit(sketch(normal(300_000)))
    assert found.kl_nats < 1.5 * found.kl_noise_nats
    assert found.ks_distance < 1.36 / 300_000**0.5
    laplace = torch.empty(300_000).exponential_(generator=rng) * (torch.rand(300_000, generator=rng) > 0.5).mul(2).sub(
        1
    )
    exact = 0.5 * log(2 * pi * e * 2) - (1 + log(2))  # entropy of the Gaussian of equal variance, minus its own
    assert gaussian_fit(sketch(laplace)).kl_nats == pytest.approx(exact, abs=0.01)


def test_divergence_is_finite_for_values_no_gaussian_would_ever_give():
    values = torch.cat([1e-6 * normal(100_000), torch.tensor([1e6])])
    assert gaussian_fit(sketch(values)).kl_nats < 20


def test_the_empty_sketch_is_described_without_inventing_numbers():
    summary = summarise(Sketch())
    assert summary.moments.mean is None
    assert summary.entropy.nats is None
    assert summary.gaussian is None
