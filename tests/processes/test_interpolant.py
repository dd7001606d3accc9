"""Interpolants: paths and their derivatives, conversions, losses, and what they refuse."""

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaln.processes import PROCESSES, Interpolant, InterpolantConfig
from adaln.processes.interpolant import PATHS
from adaln.rng import generator
from helpers.gaussian_data import drawn_loss, exact_denoiser

relaxed = settings(deadline=None, max_examples=25)
open_interval = st.floats(1e-6, 1 - 1e-6)
values = st.floats(-10, 10)
INTERPOLANTS = [name for name, config in PROCESSES.items() if isinstance(config, InterpolantConfig)]


def latents(value):
    return torch.full((1, 1, 1, 1), value, dtype=torch.float64)


@pytest.mark.parametrize("path", PATHS)
@relaxed
@given(t=open_interval)
def test_derivatives_are_those_of_the_path(path, t):
    time = torch.tensor(t, dtype=torch.float64, requires_grad=True)
    at = PATHS[path](time)
    for value, derivative in ((at.alpha_t, at.d_alpha_t), (at.sigma_t, at.d_sigma_t)):
        (expected,) = torch.autograd.grad(value, time, retain_graph=True)
        torch.testing.assert_close(derivative, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("path", PATHS)
@relaxed
@given(t=open_interval)
def test_the_score_weight_is_what_its_formula_says(path, t):
    at = PATHS[path](torch.tensor(t, dtype=torch.float64))
    expected = at.d_alpha_t / at.alpha_t * at.sigma_t**2 - at.sigma_t * at.d_sigma_t
    torch.testing.assert_close(at.score_weight_t, expected, rtol=1e-8, atol=0)


@pytest.mark.parametrize("path", PATHS)
def test_paths_run_from_noise_to_data(path):
    ends = PATHS[path](torch.tensor([0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(ends.sigma_t, torch.tensor([1.0, 0.0]).double(), rtol=0, atol=3e-5)
    torch.testing.assert_close(ends.alpha_t, torch.tensor([0.0, 1.0]).double(), rtol=0, atol=7e-3)
    assert ends.sigma_t[1] == 0, "exactly: a negative one would have no root"


@pytest.mark.parametrize("path", PATHS)
@relaxed
@given(t=open_interval, data=values, noise=values)
def test_conversions_recover_what_the_state_is_made_of(path, t, data, noise):
    """From any of the four to any other and back; up to what the divisions by alpha and sigma cost."""
    process = Interpolant(InterpolantConfig(path=path))
    times = torch.tensor([t], dtype=torch.float64)
    at = process.coefficients(times)
    x, e = latents(data), latents(noise)
    truth = {"velocity": process.velocity(x, times, e), "noise": e, "score": -e / at.sigma_t, "data": x}
    x_t = process.noised(x, times, e)
    tolerance = 1e-14 * (1 + abs(data) + abs(noise)) / (at.alpha_t * at.sigma_t).item() ** 2
    for source, target in permutations(truth, 2):
        ours = process.convert(truth[source], x_t, times, source, target)
        assert abs((ours - truth[target]).item()) <= tolerance, (source, target)
        back = process.convert(ours, x_t, times, target, source)
        assert abs((back - truth[source]).item()) <= tolerance, (source, target)


@pytest.mark.parametrize("t", [0.0, 1.0, -0.1, float("nan")])
def test_conversions_refuse_the_ends_of_time(t):
    process = Interpolant(InterpolantConfig())
    times = torch.tensor([0.5, t], dtype=torch.float64)
    x = torch.zeros(2, 1, 1, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match="expected 0 < t < 1 to convert noise"):
        process.convert(x, x, times, "noise", "velocity")


@pytest.mark.parametrize("name", INTERPOLANTS)
def test_sampling_keeps_the_drift_finite_over_its_whole_interval(name):
    process = Interpolant(PROCESSES[name])
    for form in (None, "sigma", "sbdm"):
        t = torch.tensor(process.sampling_interval(None, form=form, last_step_size=0.04))
        x = torch.ones(2, 1, 2, 2)
        output = exact_denoiser(process)(x, t)
        assert process.read(output, x, t, "velocity").isfinite().all(), form
        if form is not None:
            assert process.path(t).score_weight_t.isfinite().all() or form != "sbdm"


@pytest.mark.parametrize("name", INTERPOLANTS)
def test_a_perfect_network_has_no_loss(name):
    process, x = Interpolant(PROCESSES[name]), torch.randn(4, 2, 3, 3, dtype=torch.float64)
    noise, t = torch.randn_like(x), torch.tensor([0.2, 0.4, 0.6, 0.8], dtype=torch.float64)
    x_t = process.noised(x, t, noise)
    output = process.convert(x, x_t, t, "data", process.config.prediction)
    assert process.terms(output, x, t, noise)["loss"].max() < 1e-20


def test_weights_turn_one_loss_into_another():
    """Noise or score weighted by "velocity" is the velocity's own loss; "likelihood" is V / 2 away from Song's."""
    x = torch.randn(3, 2, 3, 3, dtype=torch.float64)
    noise, t = torch.randn_like(x), torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    for path in PATHS:
        velocity = Interpolant(InterpolantConfig(path=path))
        x_t, output = velocity.noised(x, t, noise), torch.randn_like(x)
        expected = velocity.terms(output, x, t, noise)["loss"]
        for prediction in ("noise", "score"):
            process = Interpolant(InterpolantConfig(path=path, prediction=prediction, weighting="velocity"))
            other = process.convert(output, x_t, t, "velocity", prediction)
            torch.testing.assert_close(process.terms(other, x, t, noise)["loss"], expected)


@pytest.mark.parametrize("name", INTERPOLANTS)
def test_training_times_fill_the_interval_and_nothing_else(name):
    process, seen = Interpolant(PROCESSES[name]), []

    def network(x, t, y):
        seen.append(t)
        return torch.zeros_like(x)

    loss = drawn_loss(process, network, torch.zeros(4000, 1, 1, 1), "test-interpolant")
    (t,) = seen
    t0, t1 = process.interval(process.default_eps(sampling=False))
    assert loss.shape == (4000,)
    assert loss.isfinite().all()
    assert t0 <= t.min() < 0.003
    assert 0.997 < t.max() <= t1
    assert t.mean().item() == pytest.approx(0.5, abs=0.02)


def test_loss_draws_the_noise_then_the_times_from_its_generator():
    x = torch.zeros(2, 1, 2, 2)
    rng = generator("test-interpolant")
    noise, t = torch.randn(x.shape, generator=rng), torch.rand(2, generator=rng)
    process = Interpolant(InterpolantConfig())

    def network(x_t, times, y):
        torch.testing.assert_close(times, t)
        torch.testing.assert_close(x_t, process.noised(x, t, noise))
        return torch.zeros_like(x_t)

    first = drawn_loss(process, network, x, "test-interpolant")
    assert torch.equal(first, drawn_loss(process, network, x, "test-interpolant"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weighting": "likelihood"}, "weighting 'likelihood' has no effect on velocity prediction"),
        ({"eps": 0.5}, "eps is 0.5, expected 0 <= eps < 0.5"),
        ({"eps": -0.1}, "eps is -0.1, expected 0 <= eps < 0.5"),
    ],
)
def test_a_wrong_setting_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        InterpolantConfig(**settings)


def test_a_network_of_the_wrong_width_is_refused():
    process, x = Interpolant(InterpolantConfig()), torch.zeros(2, 4, 2, 2)
    with pytest.raises(ValueError, match="network gives 8 channels, expected the data's 4"):
        drawn_loss(process, lambda x, t, y: torch.cat([x, x], 1), x, "test-interpolant")
