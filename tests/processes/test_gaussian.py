"""Gaussian processes: what theory says of their tables, predictions and losses."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaln.processes import PROCESSES, GaussianConfig, GaussianDiffusion
from adaln.processes.gaussian import approx_normal_cdf, discretised_log_likelihood, normal_kl
from adaln.processes.schedules import kept_steps
from adaln.rng import generator
from helpers.gaussian_data import drawn_loss

GAUSSIANS = [name for name, config in PROCESSES.items() if isinstance(config, GaussianConfig)]
steps = st.integers(0, 999)
relaxed = settings(deadline=None, max_examples=25)


def latents(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None, None, None]


@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
@relaxed
@given(t=st.integers(1, 999), x=st.floats(-3, 3), x_t=st.floats(-3, 3))
def test_the_posterior_obeys_bayes(schedule, t, x, x_t):
    """q(x_{t-1} | x_t, x) is proportional to q(x_t | x_{t-1}) q(x_{t-1} | x): precisions add, means by precision."""
    process = GaussianDiffusion(GaussianConfig(schedule=schedule))
    beta, prev = process.tables.betas[t].item(), process.tables.alphas_cumprod_prev[t].item()
    precision = (1 - beta) / beta + 1 / (1 - prev)
    mean = (math.sqrt(1 - beta) / beta * x_t + math.sqrt(prev) / (1 - prev) * x) / precision
    ours = process.posterior(latents(x), latents(x_t), torch.tensor([t]))
    assert ours.mean.item() == pytest.approx(mean, rel=1e-5, abs=1e-5)
    assert ours.variance.item() == pytest.approx(1 / precision, rel=1e-5)
    assert ours.log_variance.item() == pytest.approx(-math.log(precision), rel=1e-5)


@relaxed
@given(t=steps, x=st.floats(-3, 3), noise=st.floats(-3, 3))
def test_data_and_noise_convert_into_each_other(t, x, noise):
    process, at = GaussianDiffusion(GaussianConfig()), torch.tensor([t])
    x_t = process.noised(latents(x), at, latents(noise))
    # Tables are rounded to float32, and dividing by sqrt(abar), 0.006 at the last step, magnifies that.
    assert process.x_start_from_noise(x_t, at, latents(noise)).item() == pytest.approx(x, abs=1e-4)
    assert process.noise_from_x_start(x_t, at, latents(x)).item() == pytest.approx(noise, abs=1e-4)


@pytest.mark.parametrize("spec", ["1", "2", "7", "250", "ddim50", "10,0,5"])
def test_a_respaced_chain_meets_the_original_at_every_kept_step(spec):
    full, process = GaussianDiffusion(GaussianConfig()), GaussianDiffusion(GaussianConfig()).respaced(spec)
    torch.testing.assert_close(process.tables.alphas_cumprod, full.tables.alphas_cumprod[process.kept])
    assert process.model_steps(torch.arange(process.num_steps)).tolist() == process.kept


def test_a_respacing_counts_original_steps_and_the_empty_one_changes_nothing():
    process = GaussianDiffusion(GaussianConfig()).respaced("10")
    assert process.respaced("") is process
    assert process.respaced("5").kept == GaussianDiffusion(GaussianConfig()).respaced("5").kept


@relaxed
@given(counts=st.lists(st.integers(0, 12), min_size=1, max_size=5).filter(any))
def test_respacings_keep_as_many_distinct_steps_as_they_say(counts):
    kept = kept_steps(",".join(map(str, counts)), 100)
    assert len(kept) == sum(counts)
    assert kept == sorted(set(kept))
    assert 0 <= kept[0] <= kept[-1] < 100


@pytest.mark.parametrize("name", GAUSSIANS)
def test_a_zero_network_pays_the_mean_square_of_the_noise(name):
    process, x = GaussianDiffusion(PROCESSES[name]), torch.randn(5, 3, 4, 4)
    t, noise = torch.tensor([0, 1, 500, 900, 999]), torch.randn(5, 3, 4, 4)
    output = torch.zeros(5, 3 * process.config.outputs_per_channel, 4, 4)
    terms = process.terms(output, x, t, noise)
    torch.testing.assert_close(terms["mse"], (noise**2).mean((1, 2, 3)))
    torch.testing.assert_close(terms["loss"], terms["mse"] + terms.get("vb", 0.0))


def test_the_bound_of_a_perfect_network_is_zero_but_for_the_last_step():
    """With the posterior's own variance (v = -1) and the right noise nothing separates the two distributions."""
    process = GaussianDiffusion(GaussianConfig(objective="kl"))
    x, noise, t = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4), torch.tensor([1, 100, 999])
    output = torch.cat([noise, -torch.ones_like(noise)], 1)
    assert process.terms(output, x, t, noise)["loss"].abs().max() < 1e-5


@pytest.mark.parametrize("name", GAUSSIANS)
def test_loss_draws_the_steps_then_the_noise_from_its_generator(name):
    x, process = torch.randn(6, 2, 3, 3), GaussianDiffusion(PROCESSES[name])
    rng = generator("test-gaussian")
    t = torch.randint(1000, (6,), generator=rng)
    noise = torch.randn(x.shape, generator=rng)

    def network(x_t, seen, y):
        assert torch.equal(seen, t)
        assert torch.equal(x_t, process.noised(x, t, noise))
        return torch.zeros(6, 2 * process.config.outputs_per_channel, 3, 3)

    first = drawn_loss(process, network, x, "test-gaussian")
    assert first.shape == (6,)
    assert torch.equal(first, drawn_loss(process, network, x, "test-gaussian"))


def test_a_respaced_process_trains_on_original_steps():
    process, seen = GaussianDiffusion(GaussianConfig(variance="fixed-small")).respaced("4"), []

    def network(x_t, t, y):
        seen.extend(t.tolist())
        return torch.zeros_like(x_t)

    drawn_loss(process, network, torch.zeros(64, 1, 1, 1), "test-gaussian")
    assert set(seen) == {0, 333, 666, 999}


def test_a_network_of_the_wrong_width_is_refused():
    process, x = GaussianDiffusion(GaussianConfig()), torch.zeros(2, 4, 2, 2)
    with pytest.raises(ValueError, match="network gives 4 channels, variance 'learned-range' expects 8 for data of 4"):
        drawn_loss(process, lambda x, t, y: x, x, "test-gaussian")


@pytest.mark.parametrize(("num_steps", "schedule"), [(20, "linear"), (0, "linear"), (0, "squaredcos_cap_v2")])
def test_chains_too_short_for_their_schedule_are_refused(num_steps, schedule):
    with pytest.raises(ValueError, match=f"num_steps is {num_steps}, expected"):
        GaussianDiffusion(GaussianConfig(num_steps=num_steps, schedule=schedule))


@relaxed
@given(mean=st.floats(-2, 2), log_variance=st.floats(-3, 3))
def test_divergences_agree_with_torch(mean, log_variance):
    ours = normal_kl(latents(0.3), latents(-0.5), latents(mean), latents(log_variance)).item()
    theirs = torch.distributions.kl_divergence(
        torch.distributions.Normal(0.3, math.exp(-0.25)),
        torch.distributions.Normal(mean, math.exp(log_variance / 2)),
    ).item()
    assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)


def test_probabilities_of_all_grey_levels_sum_to_one():
    levels = torch.linspace(-1, 1, 256, dtype=torch.float64)
    log_probability = discretised_log_likelihood(levels, torch.tensor(0.2), torch.tensor(-2.0))
    assert log_probability.exp().sum().item() == pytest.approx(1, abs=1e-6)


def test_the_approximate_distribution_function_is_within_a_thousandth():
    x = torch.linspace(-6, 6, 1001, dtype=torch.float64)
    assert (approx_normal_cdf(x) - torch.special.ndtr(x)).abs().max() < 1e-3
