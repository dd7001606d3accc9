"""Gaussian processes against the numbers of the published code: losses, gradients, whole trajectories."""

from dataclasses import replace

import pytest
import torch

from adaln.processes import GaussianDiffusion, Guidance, guided
from adaln.processes.gaussian_solvers import ddim, ddim_inversion, ddpm
from adaln.processes.likelihood import bits_per_dim
from helpers.diffusion_goldens import (
    TOYS,
    cases,
    close,
    formula,
    gaussian,
    name,
    near,
    replay,
    sections,
    tensors,
    tolerance,
    toy,
)

SAMPLING = cases("dit", "sampling")
INVERSIONS = [case for case in SAMPLING if case[1]["kind"] == "ddim_reverse_sample"]
SAMPLING = [case for case in SAMPLING if case not in INVERSIONS]
assert {case["kind"] for _, case in SAMPLING} <= {"p_sample_loop", "ddim_sample_loop"}


# Losses


@pytest.mark.parametrize(("folder", "case"), cases("dit", "training"), ids=name)
def test_losses_and_their_gradients_are_the_published_ones(folder, case):
    stored, prefix = tensors(folder / case["file"]), case["name"]
    process, x, noise = gaussian(case["create"]), stored["x_start"], stored["noise"]
    t = stored[f"{prefix}/t"]
    channels = x.shape[1] * process.config.outputs_per_channel
    output = stored["model_output_8ch"][:, :channels].clone().requires_grad_()
    near(process.noised(x, t, noise), stored[f"{prefix}/x_t"])
    assert torch.equal(process.model_steps(t), stored[f"{prefix}/t_seen_by_model"])
    terms = process.terms(output, x, t, noise)
    assert sorted(terms) == sorted(case["terms"])
    for term, value in terms.items():
        near(value, stored[f"{prefix}/{term}"])
    for term in [term for term in ("loss", "vb") if term in terms]:
        (gradient,) = torch.autograd.grad(terms[term].mean(), output, retain_graph=True)
        expected = stored.get(f"{prefix}/grad_mean_{term}_wrt_model_output")
        if expected is not None:
            scale = expected.abs().max().item()
            close(gradient, expected, 1e-5 * scale)
        if term == "vb":
            assert (gradient[:, : x.shape[1]] == 0).all(), "the bound must not teach the mean"


PREDICTIONS = cases("dit", "training", "p_mean_variance")


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize(("folder", "case"), PREDICTIONS, ids=name)
def test_reverse_steps_are_the_published_ones(folder, case, clip):
    stored, prefix = tensors(folder / case["file"]), f"pmv/{case['name']}"
    process = gaussian(case["create"])
    x, x_t, t = stored["x_start"], stored[f"{prefix}/x_t"], stored[f"{prefix}/t"]
    output = stored["model_output_8ch"][:, : x.shape[1] * process.config.outputs_per_channel]
    ours = process.predict(output, x_t, t, clip=clip)
    for field, value in {**ours._asdict(), "pred_xstart": ours.x_start}.items():
        if field != "x_start":
            near(value.expand_as(x), stored[f"{prefix}/clip{int(clip)}/{field}"])


@pytest.mark.parametrize(("folder", "case"), PREDICTIONS, ids=name)
def test_forward_and_posterior_moments_are_the_published_ones(folder, case):
    stored, prefix = tensors(folder / case["file"]), f"pmv/{case['name']}"
    process = gaussian(case["create"])
    x, x_t, t = stored["x_start"], stored[f"{prefix}/x_t"], stored[f"{prefix}/t"]
    for kind, ours in {"q": process.marginal(x, t), "q_posterior": process.posterior(x, x_t, t)}.items():
        near(ours.mean, stored[f"{prefix}/{kind}_mean"])
        near(ours.variance.flatten(), stored[f"{prefix}/{kind}_variance_per_sample"])
        near(ours.log_variance.flatten(), stored[f"{prefix}/{kind}_log_variance_per_sample"])
    near(process.noise_from_x_start(x_t, t, x), stored[f"{prefix}/eps_from_xstart"])


@pytest.mark.parametrize(("folder", "case"), cases("dit", "training", "calc_bpd_loop"), ids=name)
def test_the_full_bound_is_the_published_one(folder, case):
    stored, prefix = tensors(folder / case["file"]), f"bpd/{case['name']}"
    draws = replay(stored[f"{prefix}/noise_draws"])
    process = gaussian(case["create"])
    model = TOYS["toy" if process.config.outputs_per_channel == 2 else "toy_fixed"]
    ours = bits_per_dim(process, model, stored["x_start"], draws, clip=case["clip_denoised"])
    near(ours.total, stored[f"{prefix}/total_bpd"])
    near(ours.prior, stored[f"{prefix}/prior_bpd"])
    near(ours.vb, stored[f"{prefix}/vb"])
    near(ours.x_start_mse, stored[f"{prefix}/xstart_mse"])
    near(ours.noise_mse, stored[f"{prefix}/mse"])


# Samplers


@pytest.mark.parametrize(("folder", "case"), SAMPLING, ids=name)
def test_sampling_replays_the_published_trajectory(folder, case):
    stored = tensors(folder / case["file"])
    process, model = process_and_model(case)
    states, x_starts = stored[f"{case['name']}/samples"], stored[f"{case['name']}/pred_xstart"]
    x = stored["init"].to(getattr(torch, case["dtype"]))
    run, settings = (ddpm, {}) if case["kind"] == "p_sample_loop" else (ddim, {"eta": case["eta"]})
    settings |= {"clip": case["clip_denoised"], "gradient": classifier_gradient(case)}
    draws = replay(stored[f"{case['name']}/noise_draws"])
    i = -1
    for i, state in enumerate(run(process, model, x, draws, **settings)):
        t = torch.full((len(x),), process.num_steps - 1 - i)
        predicted = process.predict(model(x, process.model_steps(t)), x, t, clip=case["clip_denoised"]).x_start
        if case["kind"] == "p_sample_loop" or "cond_fn" not in case:  # guided DDIM shifts the reported data too
            close(predicted, x_starts[i], tolerance(case))
        close(state, states[i], tolerance(case))
        x = states[i]
    assert i == case["steps"] - 1


def process_and_model(case):
    """The case's process and toy; a function applied to the predicted data is a network that predicts data."""
    process, model = gaussian(case["create"]), TOYS[case["model"]]
    if "denoised_fn" not in case:
        return process, model

    def changed(x, steps):
        output = model(x, steps)
        t = torch.searchsorted(torch.tensor(process.kept), steps)
        x_start = formula(case["denoised_fn"], process.predict(output, x, t).x_start, t)
        return torch.cat([x_start, output[:, x.shape[1] :]], 1)

    return GaussianDiffusion(replace(process.config, prediction="x_start"), process.kept), changed


def classifier_gradient(case):
    """The case's classifier, which is given the original step."""
    return (lambda x, t: formula(case["cond_fn"], x, t)) if "cond_fn" in case else None


@pytest.mark.parametrize(("folder", "body"), sections("dit", "sampling"), ids=lambda _: "")
def test_a_classifier_is_asked_about_original_steps(folder, body):
    seen = []
    x = tensors(folder / body["file"])["init"]

    def gradient(x, t):
        seen.append(t[0].item())
        return torch.zeros_like(x)

    list(ddpm(gaussian({"timestep_respacing": "10"}), toy, x, lambda: x, gradient=gradient))
    assert seen == body["cond_fn_timesteps_seen"]["p"]


@pytest.mark.parametrize(("folder", "case"), INVERSIONS, ids=name)
def test_inversion_replays_the_published_trajectory(folder, case):
    stored = tensors(folder / case["file"])
    states = stored[f"{case['name']}/samples"]
    scale = states.abs().amax((1, 2, 3, 4))
    run = ddim_inversion(gaussian(case["create"]), TOYS[case["model"]], stored[f"{case['name']}/start"])
    for i, (state, expected) in enumerate(zip(run, states, strict=True)):
        close(state, expected, 1e-5 * scale[: i + 1].max().item())  # noise at t = 0 is a difference of large numbers


# Classifier-free guidance

GUIDED = cases("dit", "cfg")
NULL = 1000


def labelled_toy(x, t, y):
    """The toy plus 0.05 ((y mod 7) - 3)(c + 1) in output channel c."""
    output = toy(x, t)
    c = torch.arange(output.shape[1])[:, None, None]
    return output + 0.05 * ((y % 7) - 3)[:, None, None, None] * (c + 1)


@pytest.mark.parametrize(("folder", "case"), GUIDED, ids=name)
def test_guided_outputs_are_those_of_the_published_sampler(folder, case):
    stored = tensors(folder / case["file"])
    z, y = stored["cfg/z_doubled"], stored["cfg/y_doubled"]
    half, t = len(z) // 2, stored[f"{case['name']}/single_t"]
    assert (y[half:] == NULL).all()
    guidance = Guidance(scale=case["cfg_scale"])
    conditional = guided(labelled_toy, y[:half], NULL, guidance)(z[:half], t[:half])
    # The published sampler also keeps an unconditional half: guided in 3 channels, its own in the others.
    unconditional = torch.cat([conditional[:, :3], labelled_toy(z[:half], t[:half], y[half:])[:, 3:]], 1)
    near(torch.cat([conditional, unconditional]), stored[f"{case['name']}/single_out"])


@pytest.mark.parametrize(("folder", "case"), GUIDED, ids=name)
def test_guided_sampling_replays_the_published_trajectory(folder, case):
    stored = tensors(folder / case["file"])
    z, y, draws = stored["cfg/z_doubled"], stored["cfg/y_doubled"], stored[f"{case['name']}/noise_draws"]
    half = len(z) // 2
    denoiser = guided(labelled_toy, y[:half], NULL, Guidance(scale=case["cfg_scale"]))
    # Ours is the kept half alone: the other never enters it, except by sharing the draws.
    run = ddpm(gaussian(case["create"]), denoiser, z[:half], replay(draws[:, :half]), clip=case["clip_denoised"])
    states = stored[f"{case['name']}/samples"][:, :half]
    x = z
    for x, expected in zip(run, states, strict=True):
        torch.testing.assert_close(x, expected, rtol=0, atol=1e-5 * states.abs().max().item())
    torch.testing.assert_close(
        x, stored[f"{case['name']}/final_kept_half"], rtol=0, atol=1e-5 * states.abs().max().item()
    )
