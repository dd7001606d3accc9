"""Flows, stochastic trajectories and likelihoods of interpolants against those of the published code."""

import pytest
import torch

from adaln.processes import interpolant_solvers
from adaln.processes.interpolant_solvers import sde_euler, sde_heun
from adaln.processes.likelihood import log_likelihood
from helpers.diffusion_goldens import (
    INTERPOLANT_TOYS,
    cases,
    close,
    interpolant,
    name,
    near,
    replay,
    tensors,
    tolerance,
)

# ODE

ODE = cases("sit", "ode")
TRAJECTORIES = [case for case in ODE if not case[1]["key"].startswith("likelihood")]
LIKELIHOODS = [case for case in ODE if case[1]["key"].startswith("likelihood")]
TABLEAUX = {
    "euler": interpolant_solvers.EULER,
    "midpoint": interpolant_solvers.MIDPOINT,
    "heun2": interpolant_solvers.HEUN,
    "heun3": interpolant_solvers.HEUN3,
    "rk4": interpolant_solvers.RK4,
}
ADAPTIVE = [case for case in TRAJECTORIES if case[1]["method"] == "dopri5"]
FIXED = [case for case in TRAJECTORIES if case not in ADAPTIVE]


def no_draw():
    raise AssertionError("this solver draws no noise")


@pytest.mark.parametrize(("folder", "case"), FIXED, ids=name)
def test_fixed_steps_replay_the_published_flow(folder, case):
    stored = tensors(folder / case["file"])
    trajectory = stored[f"{case['key']}/trajectory"]
    process = interpolant(case["path"], case["prediction"])
    model = CountingModel(INTERPOLANT_TOYS[case["prediction"]])
    settings = {"steps": case["num_steps"] - 1, "eps": eps(process, case), "reverse": case["reverse"]}
    tableau = TABLEAUX[case["method"]]
    run = interpolant_solvers.runge_kutta(process, model, trajectory[0], no_draw, tableau=tableau, **settings)
    for state, expected in zip(run, trajectory[1:], strict=True):
        close(state, expected, tolerance(case))
    assert model.calls == case["model_calls"]


def eps(process, case):
    """The eps of a case, read from its interval."""
    if "t1" not in case:
        return None
    eps = (case["t1"] if case["reverse"] else 1 - case["t1"]) or None
    assert process.sampling_interval(eps, reverse=case["reverse"]) == pytest.approx((case["t0"], case["t1"]), abs=1e-12)
    return eps


class CountingModel:
    def __init__(self, model):
        self.model, self.calls, self.times = model, 0, []

    def __call__(self, x, t):
        self.calls += 1
        self.times.append(t[0].item())
        return self.model(x, t)


@pytest.mark.parametrize(("folder", "case"), [c for c in ADAPTIVE if "reference_fails" not in c[1]], ids=name)
def test_adaptive_steps_stay_as_near_the_exact_flow_as_the_published_ones(folder, case):
    """Ours stop at t1 instead of stepping beyond it, so they differ; both are held against a run at 1e-10 / 1e-8."""
    stored = tensors(folder / case["file"])
    exact = exact_flow(stored, case)
    states, _ = adaptive_run(case, exact[0].float(), atol=case["atol"], rtol=case["rtol"])
    theirs = case.get("max_abs_diff_vs_tight")
    if theirs is None:  # none is stored for reverse flows
        theirs = max(
            (a - b).abs().max().item() for a, b in zip(stored[f"{case['key']}/trajectory"], exact, strict=True)
        )
    for state, expected in zip(states, exact[1:], strict=True):
        close(state.double(), expected, 3 * theirs)


@pytest.mark.parametrize(("folder", "case"), [c for c in ADAPTIVE if "reference_fails" in c[1]], ids=name)
def test_adaptive_steps_converge_where_the_reference_fails(folder, case):
    exact = exact_flow(tensors(folder / case["file"]), case)
    errors = []
    for rtol in (1e-3, 1e-5, 1e-7):
        states, _ = adaptive_run(case, exact[0], atol=rtol / 1000, rtol=rtol)
        errors.append(max((a - b).abs().max().item() for a, b in zip(states, exact[1:], strict=True)))
    assert errors[0] < 3e-2, errors
    assert errors[1] < errors[0] / 10, errors
    assert errors[2] < errors[1] / 10, errors


@pytest.mark.parametrize(("folder", "case"), ADAPTIVE, ids=name)
def test_adaptive_steps_never_look_beyond_the_interval(folder, case):
    stored = tensors(folder / case["file"])
    _, times = adaptive_run(case, exact_flow(stored, case)[0].float())
    process = interpolant(case["path"], case["prediction"])
    t0, t1 = process.sampling_interval(eps(process, case), reverse=case["reverse"])
    assert min(t0, t1) - 1e-7 <= min(times) <= max(times) <= max(t0, t1) + 1e-7


def adaptive_run(case, x, **tolerances):
    process = interpolant(case["path"], case["prediction"])
    model = CountingModel(INTERPOLANT_TOYS[case["prediction"]])
    settings = {"steps": case["num_steps"] - 1, "eps": eps(process, case), "reverse": case["reverse"], **tolerances}
    states = list(interpolant_solvers.dopri5(process, model, x, no_draw, **settings))
    return states, model.times


def exact_flow(stored, case):
    """The stored tight run; where there is none (reverse flows, failures of the reference) ours at its tolerances."""
    key = f"{case['path']}/{case['prediction']}/dopri5_tight_f64/trajectory"
    if key in stored and not case["reverse"]:
        return stored[key]
    key = f"{case['key']}/trajectory"
    x = (stored[key][0] if key in stored else stored["init"]).double()
    return [x, *adaptive_run(case, x, atol=1e-10, rtol=1e-8)[0]]


@pytest.mark.parametrize(
    ("folder", "case"),
    [c for c in ADAPTIVE if not c[1]["reverse"] and "reference_fails" not in c[1]],
    ids=name,
)
def test_tight_tolerances_reproduce_the_stored_tight_run(folder, case):
    stored = tensors(folder / case["file"])
    expected = stored[f"{case['path']}/{case['prediction']}/dopri5_tight_f64/trajectory"]
    states, _ = adaptive_run(case, expected[0], atol=1e-10, rtol=1e-8)
    close(torch.stack(states), expected[1:], 1e-5)  # the reference shows its network times rounded to float32


@pytest.mark.parametrize(("folder", "case"), LIKELIHOODS, ids=name)
def test_likelihoods_are_the_published_ones(folder, case):
    stored = tensors(folder / case["file"])
    x, model = stored["likelihood/x1"], INTERPOLANT_TOYS[case["prediction"]]
    process = interpolant(case["path"], case["prediction"])
    steps = case["num_steps"] - 1

    def draw():
        return torch.randn_like(x)  # the toy acts on each entry alone: any signs give the exact divergence

    expected, z = stored[f"{case['key']}/logp"], stored[f"{case['key']}/z"]
    if case["method"] in TABLEAUX:
        ours, ours_z = log_likelihood(process, model, x, draw, tableau=TABLEAUX[case["method"]], steps=steps)
        near(ours, expected, rtol=2e-6)
        near(ours_z, z, rtol=2e-6)
        return
    assert case["method"] == "dopri5"
    ours, ours_z = log_likelihood(process, model, x, draw)
    exact, exact_z = log_likelihood(process, model, x.double(), lambda: draw().double(), atol=1e-9, rtol=1e-9)
    close(ours.double(), exact, 2 * (expected - exact).abs().max().item())
    close(ours_z.double(), exact_z, 2 * (z - exact_z).abs().max().item())
    close(expected.double(), exact, 1e-3 * exact.abs().max().item())  # the reference's own relative tolerance


# SDE

SDE = {"Euler": sde_euler, "Heun": sde_heun}


@pytest.mark.parametrize(("folder", "case"), cases("sit", "sde"), ids=name)
def test_stochastic_trajectories_are_replayed(folder, case):
    stored = tensors(folder / case["file"])
    last_step = (case["last_step"] or "none").lower()
    path, prediction = case["key"].split("/")[:2]
    prediction = prediction.split("_")[0]  # "velocity_sample_eps0.02"
    model = CountingModel(INTERPOLANT_TOYS[prediction])
    run = SDE[case["method"]](
        interpolant(path, prediction),
        model,
        stored["init"],
        replay(stored["noise"]),
        steps=case["num_steps"] - (last_step == "none"),
        eps=case["sample_eps"] or None,
        form=case["diffusion_form"].lower(),
        norm=case["diffusion_norm"],
        last_step=last_step,
        last_step_size=case["last_step_size"],
    )
    states = list(run)
    assert all(state.isfinite().all() for state in states), "finite even where the reference is not"
    assert model.calls == (case["model_calls"] + 1) // 2, "the reference asks again for the score of the same state"
    for state, expected in stored_states(states, stored, case):
        close(state, expected, sde_tolerance(case))


def sde_tolerance(case):
    """The stated one; a case that ends non-finite has no figure and is as regular as its neighbours before that."""
    return tolerance(case) if case["finite"] else 1e-5


def stored_states(states, stored, case):
    """Pairs to compare: every stored state that the reference kept finite, or the final one."""
    if case["stored"] == "final":
        return [(states[-1], stored[f"{case['key']}/final"])]
    expected = stored[f"{case['key']}/samples"]
    if not case["finite"]:
        expected = expected[: case["first_nonfinite_entry"]]
    if case["last_step"] is None and case["finite"]:
        assert torch.equal(expected[-1], expected[-2]), "the reference repeats the state where there is no last step"
        expected = expected[:-1]
    return list(zip(states, expected, strict=case["finite"]))
