"""Interpolants against the numbers of the published code: paths, losses, ODE and SDE trajectories, likelihoods."""

import pytest
import torch
from torch import Tensor

from adaln.processes import Interpolant, InterpolantConfig, ode_solvers
from adaln.processes.likelihood import log_likelihood, standard_normal_log_density
from adaln.processes.sde_solvers import FORMS, sde_euler, sde_heun
from processes.diffusion_goldens import INTERPOLANT_TOYS, cases, name, replay, sections, tensors, tolerance

PATHS = [
    (folder / body["file"], path, body)
    for folder, body in sections("sit", "paths")
    for path in sorted({key.split("/")[1] for key in tensors(folder / body["file"]) if key.startswith("coef/")})
]
each_path = pytest.mark.parametrize(("file", "path", "body"), PATHS, ids=lambda v: v if isinstance(v, str) else "")
PREDICTIONS = ("velocity", "noise", "score")


def interpolant(path: str, prediction: str = "velocity", **settings) -> Interpolant:
    return Interpolant(InterpolantConfig(path=path.lower(), prediction=prediction, **settings))


def close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def near(actual: Tensor, expected: Tensor, rtol: float = 2e-5) -> None:
    """Equal to the rounding of a few float32 operations, relative to the largest entry."""
    scale = expected[expected.isfinite()].abs().max().item()
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=rtol * scale, equal_nan=True)


# Paths

COEFFICIENTS = {
    "alpha": "alpha_t",
    "sigma": "sigma_t",
    "d_alpha": "d_alpha_t",
    "d_sigma": "d_sigma_t",
    "drift_var": "score_weight_t",
}


@pytest.mark.parametrize("precision", ["f32", "f64"])
@each_path
def test_coefficients_are_the_published_ones(file, path, body, precision):
    stored = tensors(file)
    t = stored[f"t_grid_{precision}"]
    ours = interpolant(path).path(t)
    for key, field in COEFFICIENTS.items():
        expected = stored[f"coef/{path}/{precision}/{key}"]
        torch.testing.assert_close(getattr(ours, field), expected, rtol=1e-6, atol=1e-6)
        if precision == "f64":
            torch.testing.assert_close(getattr(ours, field), expected, rtol=1e-11, atol=1e-13)


@each_path
def test_states_and_velocities_are_the_published_ones(file, path, body):
    stored = tensors(file)
    x, noise, t = stored["x1"], stored["x0"], stored["t"]
    process = interpolant(path)
    near(process.noised(x, t, noise), stored[f"plan/{path}/x_t"])
    near(process.velocity(x, t, noise), stored[f"plan/{path}/u_t"])
    at = process.coefficients(t)
    near((at.d_alpha_t / at.alpha_t) * stored["x_at_t"], -stored[f"drift/{path}/mean_returned"])
    near(at.score_weight_t.flatten(), stored[f"drift/{path}/var"].flatten())


@pytest.mark.parametrize("prediction", PREDICTIONS)
@each_path
def test_drifts_and_scores_are_the_published_ones(file, path, body, prediction):
    stored = tensors(file)
    x_t, t = stored["x_at_t"], stored["t"]
    process = interpolant(path, prediction)
    outputs = {"": INTERPOLANT_TOYS[prediction](x_t, t), "_stored_output": stored["stored_model_output"]}
    for suffix, output in outputs.items():
        near(process.read(output, x_t, t, "velocity"), stored[f"ode_drift{suffix}/{path}/{prediction}"])
        near(process.read(output, x_t, t, "score"), stored[f"score{suffix}/{path}/{prediction}"])


CONVERSIONS = [("velocity", "noise"), ("velocity", "score"), ("score", "velocity")]


@pytest.mark.parametrize(("source", "target"), CONVERSIONS)
@each_path
def test_conversions_are_the_published_ones(file, path, body, source, target):
    stored = tensors(file)
    ours = interpolant(path).convert(stored["stored_model_output"], stored["x_at_t"], stored["t"], source, target)
    near(ours, stored[f"convert/{path}/{target}_from_{source}"])


@each_path
def test_diffusion_forms_are_the_published_ones(file, path, body):
    stored = tensors(file)
    process, compared = interpolant(path), 0
    for form in body["forms"]:
        for norm in body["norms"]:
            key = f"{path}/{form}/norm{norm}"
            diffusion = FORMS[form.lower()]
            near(diffusion(process, stored["t"], norm), stored[f"diffusion/{key}"])
            grid, expected = diffusion(process, stored["t_grid_f32"], norm), stored[f"diffusion_grid/{key}"]
            torch.testing.assert_close(grid, expected, rtol=1e-5, atol=1e-6)
            assert (grid >= 0).all(), "a negative diffusion has no square root"  # the reference's GVP ends at -7e-8
            compared += 1
    assert compared == len(body["forms"]) * len(body["norms"])


@each_path
def test_prior_density_is_the_published_one(file, path, body):
    stored = tensors(file)
    near(standard_normal_log_density(stored["x0"]), stored["prior_logp"])


# Intervals of time


@pytest.mark.parametrize(("folder", "rows"), sections("sit", "create_transport_eps"), ids=lambda _: "")
def test_default_eps_are_the_published_ones(folder, rows):
    """A given value is ours to take; the reference drops it for velocity, or where one of the two is missing."""
    for row in rows:
        process = interpolant(row["path"], row["prediction"])
        for phase in ("train", "sample"):
            given, theirs = row[f"{phase}_eps_arg"], row[f"{phase}_eps"]
            if row["train_eps_arg"] is None and row["sample_eps_arg"] is None:
                assert process.default_eps(sampling=phase == "sample") == theirs
            elif given is not None and theirs not in (given, None):
                dropped = process.default_eps(sampling=phase == "sample")
                assert theirs == dropped, "the reference gave neither the value asked for nor its default"


@pytest.mark.parametrize(("folder", "body"), sections("sit", "check_interval"), ids=lambda _: "")
def test_intervals_are_the_published_ones(folder, body):
    for row in body["rows"]:
        process = interpolant(row["path"], row["prediction"])
        t0, t1 = process.interval(
            body["sample_eps"] if row["eval"] else body["train_eps"],
            form=row["diffusion_form"].lower() if row["sde"] else None,
            last_step_size=row["last_step_size"],
            reverse=row["reverse"],
        )
        assert (t0, t1) == (row["t0"], row["t1"]), row


# Losses


@pytest.mark.parametrize(("folder", "case"), cases("sit", "training"), ids=name)
def test_losses_and_their_gradients_are_the_published_ones(folder, case):
    weighting = case["loss_weight"] or "none"
    prefix = f"{case['path']}/{case['prediction']}/{weighting}"
    stored = tensors(folder / case["file"])
    if case["prediction"] == "velocity" and weighting != "none":
        with pytest.raises(ValueError, match="no effect on velocity"):  # the reference drops the weight in silence
            interpolant(case["path"], weighting=weighting)
        weighting = "none"
    process = interpolant(case["path"], case["prediction"], weighting=weighting)
    x, noise, t = stored["x1"], stored[f"{prefix}/x0"], stored[f"{prefix}/t"]
    t0, t1 = process.interval(process.default_eps(sampling=False))
    assert (t0, t1) == (case["t0"], case["t1"])
    near(t0 + (t1 - t0) * stored[f"{prefix}/u"], t, rtol=1e-6)
    x_t = process.noised(x, t, noise)
    output = INTERPOLANT_TOYS[case["prediction"]](x_t, t).requires_grad_()
    near(output.detach(), stored[f"{prefix}/pred"])
    loss = process.terms(output, x, t, noise)["loss"]
    near(loss, stored[f"{prefix}/loss"])
    (gradient,) = torch.autograd.grad(loss.mean(), output)
    near(gradient, stored[f"{prefix}/grad_mean_loss_wrt_model_output"])


# ODE

ODE = cases("sit", "ode")
TRAJECTORIES = [case for case in ODE if not case[1]["key"].startswith("likelihood")]
LIKELIHOODS = [case for case in ODE if case[1]["key"].startswith("likelihood")]
TABLEAUX = {
    "euler": ode_solvers.EULER,
    "midpoint": ode_solvers.MIDPOINT,
    "heun2": ode_solvers.HEUN,
    "heun3": ode_solvers.HEUN3,
    "rk4": ode_solvers.RK4,
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
    run = ode_solvers.runge_kutta(process, model, trajectory[0], no_draw, tableau=tableau, **settings)
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
    states = list(ode_solvers.dopri5(process, model, x, no_draw, **settings))
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
