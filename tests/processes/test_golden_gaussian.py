"""Gaussian processes against the numbers of the published code: schedules, losses, gradients, whole trajectories."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from adaln.processes import Gaussian
from adaln.processes.gaussian_solvers import ddim, ddpm
from processes.diffusion_goldens import TOYS, cases, gaussian, name, replay, tensors, tolerance


def close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


SAMPLING = [case for case in cases("index_dit.json", "sampling") if case[1]["kind"] != "ddim_reverse_sample"]


@pytest.mark.parametrize(("folder", "case"), SAMPLING, ids=name)
def test_sampling_replays_the_published_trajectory(folder, case):
    stored = tensors(folder / case["file"])
    process, model = process_and_model(case)
    states, x_starts = stored[f"{case['name']}/samples"], stored[f"{case['name']}/pred_xstart"]
    x = stored["init"].to(getattr(torch, case["dtype"]))
    run, settings = (ddpm, {}) if case["kind"] == "p_sample_loop" else (ddim, {"eta": case["eta"]})
    settings |= {"clip": case["clip_denoised"], "gradient": classifier_gradient(case)}
    draws = replay(stored[f"{case['name']}/noise_draws"])
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
    assert case["denoised_fn"] == "0.5 * x (applied before the clip)"

    def halved(x, steps):
        output = model(x, steps)
        t = torch.searchsorted(torch.tensor(process.kept), steps)
        return torch.cat([0.5 * process.predict(output, x, t).x_start, output[:, x.shape[1] :]], 1)

    return Gaussian(replace(process.config, prediction="x_start"), process.kept), halved


def classifier_gradient(case):
    """The case's classifier, which is given the original step."""
    if "cond_fn" not in case:
        return None
    assert case["cond_fn"] == "0.2*(0.5-x)*t/1000 with the mapped t; model_kwargs={}"
    return lambda x, t: 0.2 * (0.5 - x) * t[:, None, None, None] / 1000
