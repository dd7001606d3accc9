"""Solvers one by one: their order of convergence, and what each is known to do."""

import math
from itertools import pairwise

import pytest
import torch

from adaln.processes import PROCESSES, SamplerConfig, interpolant_solvers, solve
from adaln.processes.dpm_solver import dpm_solver_gaussian, dpm_solver_interpolant
from adaln.processes.gaussian_solvers import ddim, ddim_inversion, ddpm
from helpers.gaussian_data import MEAN, STD, draws, exact_denoiser, flowed, last


def sample(name, solver, x, draw, **settings):
    process = PROCESSES[name].build()
    return last(solve(process, exact_denoiser(process), x, draw, SamplerConfig(solver, **settings)))


def slopes(error_at, counts):
    """Measured orders: log2 of the fall of the error from each count of steps to its double."""
    errors = [error_at(n) for n in counts]
    return [math.log2(a / b) for a, b in pairwise(errors)]


# Order of convergence, in float64 on data whose flow is known


def interpolant_error(name, run, steps):
    process, draw = PROCESSES[name].build(), draws(2, 1, 3, 3, dtype=torch.float64)
    eps = None if name.endswith("velocity") else 0.05
    x = draw()
    levels = process.path(torch.tensor(process.sampling_interval(eps), dtype=torch.float64))
    exact = flowed(x, *zip(levels.alpha_t.tolist(), levels.sigma_t.tolist(), strict=True))
    return (last(run(process, exact_denoiser(process), x, draw, steps=steps, eps=eps)) - exact).abs().max().item()


@pytest.mark.parametrize("name", ["vp-velocity", "gvp-score"])
@pytest.mark.parametrize(
    ("solver", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("heun3", 3), ("rk4", 4)], ids=str
)
def test_runge_kutta_methods_converge_at_their_order(name, solver, order):
    run = getattr(interpolant_solvers, solver)
    measured = slopes(lambda steps: interpolant_error(name, run, steps), (32, 64))
    assert measured[-1] == pytest.approx(order, abs=0.1), measured


@pytest.mark.parametrize("name", ["vp-velocity", "vp-noise", "linear-noise", "gvp-score"])
def test_the_multistep_solver_is_of_second_order_on_interpolants(name):
    measured = slopes(lambda steps: interpolant_error(name, dpm_solver_interpolant, steps), (128, 256))
    assert measured[-1] == pytest.approx(2, abs=0.1), measured


@pytest.mark.slow
@pytest.mark.parametrize("name", ["linear-velocity", "gvp-velocity"])
def test_the_multistep_solver_nears_second_order_between_infinite_log_snrs(name):
    measured = slopes(lambda steps: interpolant_error(name, dpm_solver_interpolant, steps), (64, 128, 256, 512))
    assert measured == sorted(measured)
    assert 1.7 < measured[-1] < 2.1, measured


@pytest.mark.parametrize(("solver", "order"), [(ddim, 1), (dpm_solver_gaussian, 2)], ids=["ddim", "dpm++"])
@pytest.mark.parametrize("name", ["ddpm", "ddpm-cosine"])
def test_gaussian_solvers_converge_at_their_order(name, solver, order):
    """Measured at the last kept step but one, t = 0: what follows it is a step to a noise of zero."""
    draw = draws(2, 1, 3, 3, dtype=torch.float64)
    x = draw()

    def error(steps):
        process = PROCESSES[name].build().respaced(str(steps))
        abars = process.tables.alphas_cumprod.tolist()
        start, end = [(math.sqrt(abar), math.sqrt(1 - abar)) for abar in (abars[-1], abars[0])]
        *_, state, _ = solver(process, exact_denoiser(process), x, draw)
        return (state - flowed(x, start, end)).abs().max().item()

    measured = slopes(error, (64, 128))
    assert measured[-1] == pytest.approx(order, abs=0.1), measured


def test_dopri5_follows_its_tolerance():
    process, draw = PROCESSES["gvp-velocity"].build(), draws(2, 1, 3, 3, dtype=torch.float64)
    x = draw()

    def error(tolerance):
        state = last(
            interpolant_solvers.dopri5(process, exact_denoiser(process), x, draw, atol=tolerance, rtol=tolerance)
        )
        return (state - flowed(x, (0.0, 1.0), (1.0, 0.0))).abs().max().item()

    assert error(1e-3) < 3e-2
    assert error(1e-6) < 3e-5


# Single solvers


@pytest.mark.parametrize("steps", ["3", "10", "ddim25"])
def test_ancestral_sampling_is_exact_where_mean_and_variance_are(steps):
    """The reverse step of Gaussian data is Gaussian, of variance posterior + coef1^2 Var[data | x_t], in any chain."""
    process = PROCESSES["ddpm"].build().respaced(steps)
    tables, exact = process.tables, exact_denoiser(process)
    spread = STD**2 * (1 - tables.alphas_cumprod) / (tables.alphas_cumprod * STD**2 + 1 - tables.alphas_cumprod)
    variance = tables.posterior_variance + tables.posterior_mean_coef1**2 * spread
    small, large = tables.posterior_log_variance_clipped, tables.betas.log()
    fraction = (variance.log() - small) / (large - small)
    fraction[0] = 0  # no noise is added there

    def network(x, t):
        v = 2 * fraction[torch.searchsorted(torch.tensor(process.kept), t)] - 1
        return torch.cat([exact(x, t)[:, :1], v[:, None, None, None].to(x).expand_as(x)], 1)

    draw = draws(16, 1, 64, 64)
    x = last(ddpm(process, network, draw(), draw))
    data_variance_lost = spread[0].item()  # the last step returns the mean
    assert x.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert x.var().item() == pytest.approx(STD**2 - data_variance_lost, abs=0.006)


def test_ddim_with_full_noise_has_the_spread_of_ddpm():
    """At eta 1 DDIM's noise is that of the posterior, which is ddpm's with fixed small variance."""
    process, draw = PROCESSES["ddpm-fixed-small"].build().respaced("20"), draws(2, 1, 4, 4, dtype=torch.float64)
    x, noise = draw(), draw()
    denoiser = exact_denoiser(process)
    implicit = list(ddim(process, denoiser, x, lambda: noise, eta=1.0))
    ancestral = list(ddpm(process, denoiser, x, lambda: noise))
    torch.testing.assert_close(implicit, ancestral, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_inversion_finds_the_noise_of_a_sample():
    process = PROCESSES["ddpm"].build().respaced("250")
    draw = draws(2, 1, 4, 4, dtype=torch.float64)
    x, denoiser = draw(), exact_denoiser(process)
    data = last(ddim(process, denoiser, x, draw))
    *_, back, _ = ddim_inversion(process, denoiser, data)  # the very last step goes on to abar = 0
    torch.testing.assert_close(back, x, rtol=0, atol=0.06)


def test_flows_run_backwards():
    process = PROCESSES["linear-velocity"].build()
    draw = draws(2, 1, 4, 4, dtype=torch.float64)
    x, denoiser = draw(), exact_denoiser(process)
    data = last(interpolant_solvers.rk4(process, denoiser, x, draw, steps=40))
    torch.testing.assert_close(
        last(interpolant_solvers.rk4(process, denoiser, data, draw, steps=40, reverse=True)), x, rtol=0, atol=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize("form", ["constant", "sbdm", "linear", "decreasing", "increasing-decreasing"])
@pytest.mark.parametrize("solver", ["sde-euler", "sde-heun"])
@pytest.mark.parametrize(
    "name",
    ["linear-velocity", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gvp-velocity", "vp-velocity"))],
)
def test_every_diffusion_form_keeps_the_distribution(name, solver, form):
    """Little of the constant one: the last step drops its noise but not its pull, which would narrow the data."""
    draw = draws(4, 1, 32, 32)
    x = sample(name, solver, draw(), draw, steps=120, form=form, norm=0.1 if form == "constant" else 0.5)
    assert x.mean().item() == pytest.approx(MEAN, abs=0.04)
    assert x.std().item() == pytest.approx(STD, abs=0.05)


@pytest.mark.parametrize("last_step", ["none", "mean", "tweedie", "euler"])
@pytest.mark.parametrize("solver", ["sde-euler", "sde-heun"])
def test_every_last_step_ends_on_the_data(solver, last_step):
    draw = draws(4, 1, 32, 32)
    x = sample("linear-velocity", solver, draw(), draw, steps=120, last_step=last_step)
    assert x.mean().item() == pytest.approx(MEAN, abs=0.04)
    assert x.std().item() == pytest.approx(STD, abs=0.05)
