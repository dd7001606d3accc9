"""What every solver promises on every process that it serves, and how one is chosen."""

import sys

import pytest
import torch

from adaln.processes import PROCESSES, SOLVERS, GaussianDiffusion, SamplerConfig, count_updates, solve
from adaln.processes.solvers import solver_name
from helpers.gaussian_data import MEAN, STD, draws, exact_denoiser, last

QUICK = ("ddpm", "linear-velocity", "vp-score")
"""Processes that every solver is tried on; the others: the default solver, and every solver in a nightly run."""


def marks(process, solver):
    if process in QUICK:
        return ()
    is_default = solver == solver_name(PROCESSES[process].build(), SamplerConfig())
    return (pytest.mark.slow if is_default else pytest.mark.nightly,)


PAIRS = [
    pytest.param(process, solver, marks=marks(process, solver))
    for process, config in PROCESSES.items()
    for solver, entry in SOLVERS.items()
    if type(config.build()) in entry.by_process
]
every_pair = pytest.mark.parametrize(("name", "solver"), PAIRS)


def sample(name, solver, x, draw, steps=60, denoiser=None, **settings):
    process = PROCESSES[name].build()
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
    process, draw = PROCESSES[name].build(), draws(1, 1, 2, 2)
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

    sample(name, solver, torch.zeros(1, 1, 2, 2), draw, steps=5, **({"eta": 1.0} if solver == "ddim" else {}))
    assert (count > 0) == SOLVERS[solver].stochastic


@every_pair
def test_networks_of_lower_precision_leave_the_state_in_its_own(name, solver):
    """Within 0.1 of data of spread 0.5, where nothing magnifies the first predictions: noise read as data is divided by
    alpha, 0.001 at the default start of an interpolant and 0.00005 at the first cosine step."""
    process, draw = PROCESSES[name].build(), draws(1, 1, 4, 4)
    exact = exact_denoiser(process)
    tame = {"clip": True} if isinstance(process, GaussianDiffusion) else {"eps": 0.05}
    x, fixed = draw(), draw()
    half = sample(name, solver, x, lambda: fixed, 20, lambda x, t: exact(x, t).bfloat16(), **tame)
    full = sample(name, solver, x, lambda: fixed, 20, **tame)
    assert half.dtype == torch.float32
    assert 0 < (half - full).abs().max() < 0.1


@every_pair
def test_no_gradients_are_recorded(name, solver):
    weight = torch.ones((), requires_grad=True)
    exact, draw = exact_denoiser(PROCESSES[name].build()), draws(1, 1, 2, 2)
    x = sample(name, solver, draw(), draw, 4, lambda x, t: weight * exact(x, t))
    assert not x.requires_grad


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("name", "solver"), [pair.values for pair in PAIRS])
def test_no_step_waits_for_the_device(name, solver):
    if solver == "dopri5":
        pytest.skip("chooses its steps by the error it sees")
    process = PROCESSES[name].build()
    if isinstance(process, GaussianDiffusion):  # the network that is exact looks a table up on the host
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


# Choosing one


def test_defaults_fit_the_process():
    draw = draws(1, 1, 2, 2)
    for name, count in {"ddpm": 250, "linear-velocity": 125}.items():
        process = PROCESSES[name].build()
        assert len(list(solve(process, exact_denoiser(process), draw(), draw))) == count


def test_default_steps_never_exceed_the_chain():
    assert count_updates(GaussianDiffusion(PROCESSES["ddpm"].__class__(num_steps=100)), SamplerConfig()) == 100


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("linear-velocity", {"solver": "ddim"}, r"solver 'ddim' does not serve Interpolant.*dpm\+\+, euler"),
        ("ddpm", {"solver": "heun"}, r"solver 'heun' does not serve GaussianDiffusion.*ddpm, ddim, dpm\+\+"),
        ("ddpm", {"solver": "dddim"}, r"unknown solver 'dddim' \(nearest: 'ddim'\)"),
        ("ddpm", {"eta": 0.5}, r"eta is 0.5, expected 0.0: solver 'ddpm' takes only clip"),
        ("linear-velocity", {"clip": True}, r"clip is True, expected False"),
        ("linear-velocity", {"solver": "euler", "form": "sbdm"}, r"form is 'sbdm'"),
        ("linear-velocity", {"steps": "ddim50"}, r"steps is 'ddim50', expected a whole number"),
        ("linear-velocity", {"steps": 0}, r"steps is 0, expected at least 1"),
        ("ddpm", {"steps": 0}, r"steps is 0, expected at least 1"),
        ("ddpm", {"steps": "0"}, r"keeps no step"),
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
    process = PROCESSES[name].build()
    with pytest.raises(ValueError, match=message) as error:
        solve(process, exact_denoiser(process), torch.zeros(1, 1, 2, 2), draws(1, 1, 2, 2), SamplerConfig(**settings))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "settings",
    [
        *({"eta": 1.5}, {"eta": -0.1}, {"norm": 0.0}, {"norm": float("inf")}, {"atol": 0.0}, {"rtol": float("nan")}),
        *({"eps": -1e-3}, {"eps": float("nan")}, {"last_step_size": -1.0}, {"last_step_size": 1.0}, {"steps": -1}),
    ],
)
def test_a_setting_out_of_range_is_refused(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=f"{name} is .*, expected"):
        SamplerConfig(**settings)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchdiffeq", None)
    draw = draws(1, 1, 2, 2)
    with pytest.raises(ValueError, match=r"pip install 'adaln\[ode\]'"):
        sample("linear-velocity", "dopri5", draw(), draw)
