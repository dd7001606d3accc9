"""Solvers: their order, what they converge to, and what every one of them promises."""

import math
import sys
from collections import deque
from itertools import pairwise

import pytest
import torch

from adaln.processes import PROCESSES, SOLVERS, Gaussian, SamplerConfig, build, count_updates, ode_solvers, solve
from adaln.processes.dpm_solver import dpm_solver_gaussian, dpm_solver_interpolant
from adaln.processes.gaussian_solvers import ddim, ddim_inversion, ddpm
from adaln.rng import generator
from processes.gaussian_data import MEAN, STD, exact_denoiser, flowed

QUICK = ("ddpm", "linear-velocity", "vp-score")
PAIRS = [
    pytest.param(process, solver, marks=[] if process in QUICK else pytest.mark.slow)
    for process, config in PROCESSES.items()
    for solver, entry in SOLVERS.items()
    if type(build(config)) in entry.by_process
]
every_pair = pytest.mark.parametrize(("name", "solver"), PAIRS)


def draws(*shape, dtype=torch.float32, key=0):
    rng = generator("test-solvers", key)
    return lambda: torch.randn(shape, generator=rng, dtype=dtype)


def last(states):
    return deque(states, maxlen=1).pop()


def slopes(error_at, counts):
    """Measured orders: log2 of the fall of the error from each count of steps to its double."""
    errors = [error_at(n) for n in counts]
    return [math.log2(a / b) for a, b in pairwise(errors)]


# Order of convergence, in float64 on data whose flow is known


def interpolant_error(name, run, steps):
    process, draw = build(PROCESSES[name]), draws(2, 1, 3, 3, dtype=torch.float64)
    eps = None if name.endswith("velocity") else 0.05
    x = draw()
    levels = process.path(torch.tensor(process.sampling_interval(eps), dtype=torch.float64))
    exact = flowed(x, *zip(levels.alpha_t.tolist(), levels.sigma_t.tolist(), strict=True))
    return (last(run(process, exact_denoiser(process), x, draw, steps=steps, eps=eps)) - exact).abs().max().item()


@pytest.mark.parametrize("name", ["gvp-velocity", "vp-velocity", "gvp-score"])
@pytest.mark.parametrize(
    ("solver", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("heun3", 3), ("rk4", 4)], ids=str
)
def test_runge_kutta_methods_converge_at_their_order(name, solver, order):
    run = getattr(ode_solvers, solver)
    measured = slopes(lambda steps: interpolant_error(name, run, steps), (32, 64))
    assert measured[-1] == pytest.approx(order, abs=0.1), measured


@pytest.mark.parametrize("name", ["vp-velocity", "vp-noise", "linear-noise", "gvp-score"])
def test_the_multistep_solver_is_of_second_order_on_interpolants(name):
    measured = slopes(lambda steps: interpolant_error(name, dpm_solver_interpolant, steps), (128, 256))
    assert measured[-1] == pytest.approx(2, abs=0.1), measured


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
        process = build(PROCESSES[name]).respaced(str(steps))
        abars = process.tables.alphas_cumprod.tolist()
        start, end = [(math.sqrt(abar), math.sqrt(1 - abar)) for abar in (abars[-1], abars[0])]
        *_, state, _ = solver(process, exact_denoiser(process), x, draw)
        return (state - flowed(x, start, end)).abs().max().item()

    measured = slopes(error, (64, 128))
    assert measured[-1] == pytest.approx(order, abs=0.1), measured


def test_dopri5_follows_its_tolerance():
    process, draw = build(PROCESSES["gvp-velocity"]), draws(2, 1, 3, 3, dtype=torch.float64)
    x = draw()

    def error(tolerance):
        state = last(ode_solvers.dopri5(process, exact_denoiser(process), x, draw, atol=tolerance, rtol=tolerance))
        return (state - flowed(x, (0.0, 1.0), (1.0, 0.0))).abs().max().item()

    assert error(1e-3) < 3e-2
    assert error(1e-6) < 3e-5


# What every solver promises, on every process that it serves


def sample(name, solver, x, draw, steps=60, denoiser=None, **settings):
    process = build(PROCESSES[name])
    sampler = SamplerConfig(solver=solver, steps=steps, **settings)
    return last(solve(process, denoiser or exact_denoiser(process), x, draw, sampler))


@every_pair
def test_exact_networks_give_the_data_distribution(name, solver):
    """4,096 entries of N(0.7, 0.5^2): four standard errors are 0.03 (mean) and 0.02 (spread); few steps add to that."""
    draw = draws(4, 1, 32, 32)
    x = sample(name, solver, draw(), draw, steps=250 if solver == "ddpm" else 60)
    assert x.mean().item() == pytest.approx(MEAN, abs=0.04)
    assert x.std().item() == pytest.approx(STD, abs=0.05)


@every_pair
def test_a_sample_does_not_depend_on_its_batch(name, solver):
    """Bit for bit in a network that treats samples alike; dopri5 alone shares its steps, so within its tolerance."""
    shape = (1, 2, 4, 4)

    def run(keys):
        each = [draws(*shape, key=key) for key in keys]
        return sample(name, solver, *joined(each), steps=6)

    together, alone = run([1, 2, 3]), run([2])
    if solver == "dopri5":
        torch.testing.assert_close(together[1:2], alone, rtol=5e-3, atol=5e-3)
    else:
        assert torch.equal(together[1:2], alone)


def joined(each):
    """First state and `draw` of a batch whose samples own their streams."""

    def draw():
        return torch.cat([one() for one in each])

    return draw(), draw


@every_pair
def test_the_number_of_states_is_known_beforehand(name, solver):
    process, draw = build(PROCESSES[name]), draws(1, 1, 2, 2)
    sampler = SamplerConfig(solver=solver, steps=5)
    states = list(solve(process, exact_denoiser(process), draw(), draw, sampler))
    assert [state.shape for state in states] == [(1, 1, 2, 2)] * 5
    assert count_updates(process, sampler) == (None if solver == "dopri5" else 5)
    assert count_updates(process, SamplerConfig(solver=solver)) == SOLVERS[solver].steps


@every_pair
def test_stochastic_solvers_draw_and_the_others_do_not(name, solver):
    count = 0

    def draw():
        nonlocal count
        count += 1
        return torch.zeros(1, 1, 2, 2)

    sample(name, solver, torch.zeros(1, 1, 2, 2), draw, steps=5)
    assert (count > 0) == SOLVERS[solver].stochastic


@every_pair
def test_networks_of_lower_precision_leave_the_state_in_its_own(name, solver):
    process, draw = build(PROCESSES[name]), draws(1, 1, 4, 4)
    exact = exact_denoiser(process)
    x, fixed = draw(), draw()
    clip = (
        {"clip": True} if isinstance(process, Gaussian) else {}
    )  # the first cosine step magnifies errors 20,000 times
    half = sample(name, solver, x, lambda: fixed, 20, lambda x, t: exact(x, t).bfloat16(), **clip)
    full = sample(name, solver, x, lambda: fixed, 20, **clip)
    assert half.dtype == torch.float32
    assert (half - full).abs().max() < 0.1, "bfloat16 keeps 8 bits of each prediction: 0.4 % a step"


@every_pair
def test_no_gradients_are_recorded(name, solver):
    weight = torch.ones((), requires_grad=True)
    exact, draw = exact_denoiser(build(PROCESSES[name])), draws(1, 1, 2, 2)
    x = sample(name, solver, draw(), draw, 4, lambda x, t: weight * exact(x, t))
    assert not x.requires_grad


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("name", "solver"), [pair.values for pair in PAIRS])
def test_no_step_waits_for_the_device(name, solver):
    if solver == "dopri5":
        pytest.skip("chooses its steps by the error it sees")
    process = build(PROCESSES[name])
    if isinstance(process, Gaussian):  # the network that is exact looks a table up on the host
        channels = process.config.outputs_per_channel
        network = lambda x, t: 0.5 * torch.cat([x] * channels, 1)  # noqa: E731
    else:
        network = exact_denoiser(process)
    x = torch.randn(2, 1, 4, 4, device="cuda")
    run = lambda: last(solve(process, network, x, lambda: torch.randn_like(x), SamplerConfig(solver, 5)))  # noqa: E731
    run()  # copies the tables
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
    finally:
        torch.cuda.set_sync_debug_mode("default")


# Single solvers


@pytest.mark.parametrize("steps", ["3", "10", "ddim25"])
def test_ancestral_sampling_is_exact_where_mean_and_variance_are(steps):
    """The reverse step of Gaussian data is Gaussian, of variance posterior + coef1^2 Var[data | x_t], in any chain."""
    process = build(PROCESSES["ddpm"]).respaced(steps)
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
    process, draw = build(PROCESSES["ddpm-fixed-small"]).respaced("20"), draws(2, 1, 4, 4, dtype=torch.float64)
    x, noise = draw(), draw()
    denoiser = exact_denoiser(process)
    implicit = list(ddim(process, denoiser, x, lambda: noise, eta=1.0))
    ancestral = list(ddpm(process, denoiser, x, lambda: noise))
    torch.testing.assert_close(implicit, ancestral, rtol=1e-4, atol=1e-5)


def test_inversion_finds_the_noise_of_a_sample():
    process = build(PROCESSES["ddpm"]).respaced("250")
    draw = draws(2, 1, 4, 4, dtype=torch.float64)
    x, denoiser = draw(), exact_denoiser(process)
    data = last(ddim(process, denoiser, x, draw))
    *_, back, _ = ddim_inversion(process, denoiser, data)  # the very last step goes on to abar = 0
    torch.testing.assert_close(back, x, rtol=0, atol=0.06)


def test_flows_run_backwards():
    process = build(PROCESSES["linear-velocity"])
    draw = draws(2, 1, 4, 4, dtype=torch.float64)
    x, denoiser = draw(), exact_denoiser(process)
    data = last(ode_solvers.rk4(process, denoiser, x, draw, steps=40))
    torch.testing.assert_close(
        last(ode_solvers.rk4(process, denoiser, data, draw, steps=40, reverse=True)), x, rtol=0, atol=1e-6
    )


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


# Choosing one


def test_defaults_fit_the_process():
    draw = draws(1, 1, 2, 2)
    for name, count in {"ddpm": 250, "linear-velocity": 125}.items():
        process = build(PROCESSES[name])
        assert len(list(solve(process, exact_denoiser(process), draw(), draw))) == count


def test_default_steps_never_exceed_the_chain():
    assert count_updates(Gaussian(PROCESSES["ddpm"].__class__(num_steps=100)), SamplerConfig()) == 100


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("linear-velocity", {"solver": "ddim"}, r"solver 'ddim' does not serve Interpolant.*dpm\+\+, euler"),
        ("ddpm", {"solver": "heun"}, r"solver 'heun' does not serve Gaussian.*ddpm, ddim, dpm\+\+"),
        ("ddpm", {"solver": "dddim"}, r"unknown solver 'dddim' \(nearest: 'ddim'\)"),
        ("ddpm", {"eta": 0.5}, r"eta is 0.5, expected 0.0: solver 'ddpm' takes only clip"),
        ("linear-velocity", {"clip": True}, r"clip is True, expected False"),
        ("linear-velocity", {"solver": "euler", "form": "sbdm"}, r"form is 'sbdm'"),
        ("linear-velocity", {"steps": "ddim50"}, r"steps is 'ddim50', expected a whole number"),
        ("linear-velocity", {"steps": 0}, r"steps is 0, expected at least 1"),
        ("ddpm", {"steps": 0}, r"keeps no step"),
        ("ddpm", {"steps": 1001}, r"1001 of the 1000 steps in section 0 \(nearest: 1000\)"),
        ("ddpm", {"steps": "ddim300"}, r"'ddim300' fits no whole stride of 1000 steps \(nearest: 'ddim334'\)"),
        ("ddpm", {"steps": "many"}, r"respacing 'many' is not a step count"),
        ("linear-velocity", {"solver": "sde-euler", "steps": 1}, r"steps is 1, expected at least 2"),
        ("linear-velocity", {"solver": "sde-euler", "last_step_size": 0.0}, r"last_step_size is 0.0"),
        ("linear-velocity", {"solver": "sde-euler", "form": "sbdm", "eps": 0.0}, r"eps is 0.0.*nearest: 0.02"),
        ("linear-noise", {"eps": 0.0}, r"eps is 0.0, expected 0 < eps < 0.5.*nearest: 0.001"),
    ],
)
def test_a_wrong_choice_is_one_clear_line_before_anything_runs(name, settings, message):
    process = build(PROCESSES[name])
    with pytest.raises(ValueError, match=message) as error:
        solve(process, exact_denoiser(process), torch.zeros(1, 1, 2, 2), draws(1, 1, 2, 2), SamplerConfig(**settings))
    assert "\n" not in str(error.value)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchdiffeq", None)
    draw = draws(1, 1, 2, 2)
    with pytest.raises(ImportError, match=r"pip install adaln\[ode\]"):
        sample("linear-velocity", "dopri5", draw(), draw)
