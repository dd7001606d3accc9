"""Interpolants against the numbers of the published code: paths, conversions, intervals, losses."""

import pytest
import torch

from adaln.processes.interpolant_solvers import FORMS
from adaln.processes.likelihood import standard_normal_log_density
from helpers.diffusion_goldens import INTERPOLANT_TOYS, cases, interpolant, name, near, sections, tensors

PATHS = [
    (folder / body["file"], path, body)
    for folder, body in sections("sit", "paths")
    for path in sorted({key.split("/")[1] for key in tensors(folder / body["file"]) if key.startswith("coef/")})
]
each_path = pytest.mark.parametrize(("file", "path", "body"), PATHS, ids=lambda v: v if isinstance(v, str) else "")
PREDICTIONS = ("velocity", "noise", "score")


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
    near(t0 + (t1 - t0) * stored[f"{prefix}/u"], t)
    x_t = process.noised(x, t, noise)
    output = INTERPOLANT_TOYS[case["prediction"]](x_t, t).requires_grad_()
    near(output.detach(), stored[f"{prefix}/pred"])
    loss = process.terms(output, x, t, noise)["loss"]
    near(loss, stored[f"{prefix}/loss"])
    (gradient,) = torch.autograd.grad(loss.mean(), output)
    near(gradient, stored[f"{prefix}/grad_mean_loss_wrt_model_output"])
