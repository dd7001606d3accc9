"""The loss of a small batch in one pass is that of the process, and so is its derivative."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adaln import kernels
from adaln.processes import PROCESSES
from adaln.processes.gaussian import GaussianDiffusion
from adaln.rng import generator
from adaln.training.loss import Inputs, LearnedRangeLoss, is_small

needs_compiler = pytest.mark.skipif(not kernels.have_kernels(), reason="no C compiler")


def batch_of(process: GaussianDiffusion, size: int, side: int, seed: int) -> tuple[Inputs, Tensor]:
    """Data that reach both ends of the grey levels, some of them at the last step, and an output for them."""
    rng = generator("test loss", size, side, seed)
    x = torch.randn(size, 2, side, side, generator=rng).clamp(-1, 1)
    t = torch.randint(process.num_steps, (size,), generator=rng)
    t[: size // 2] = torch.arange(size // 2) % 3
    noise, output = torch.randn(x.shape, generator=rng), torch.randn(size, 4, side, side, generator=rng)
    return Inputs(x, None, t, noise), output


def plain(process: GaussianDiffusion, batch: Inputs, output: Tensor) -> tuple[Tensor, Tensor]:
    """Losses, and the gradient of their weighted sum by the output, as the process has them."""
    output = output.clone().requires_grad_()
    x, _, t, noise = batch
    losses = process.terms(output, x.to(output.dtype), t, noise.to(output.dtype))["loss"]
    (losses * torch.arange(len(x))).sum().backward()
    return losses.detach(), output.grad


def at_once(process: GaussianDiffusion, batch: Inputs, output: Tensor) -> tuple[Tensor, Tensor]:
    output = output.clone().requires_grad_()
    losses = LearnedRangeLoss.apply(output, process, batch, process.noised(batch.x, batch.t, batch.noise))
    (losses * torch.arange(len(output))).sum().backward()
    return losses.detach(), output.grad


@needs_compiler
@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(1, 9),
    side=st.sampled_from([4, 8, 12]),
    seed=st.integers(0, 9),
    prediction=st.sampled_from(["noise", "x_start"]),
    objective=st.sampled_from(["mse", "rescaled-mse"]),
    schedule=st.sampled_from(["linear", "squaredcos_cap_v2"]),
)
def test_losses_and_derivatives_are_those_of_the_process(size, side, seed, prediction, objective, schedule):
    config = replace(PROCESSES["ddpm"], prediction=prediction, objective=objective, schedule=schedule)
    process = GaussianDiffusion(config)
    batch, output = batch_of(process, size, side, seed)
    assert is_small(process, batch)
    exact = plain(process, batch, output.double())
    for ours, theirs, expected in zip(
        at_once(process, batch, output), plain(process, batch, output), exact, strict=True
    ):
        for part, other, true in zip(ours, theirs, expected, strict=True):  # samples differ in size by much
            errors = [
                float((found.double() - true).abs().max() / true.abs().max().clamp(1e-30)) for found in (part, other)
            ]
            assert errors[0] <= max(3 * errors[1], 2e-6)


@needs_compiler
def test_what_is_not_finite_stays_so():
    process = GaussianDiffusion(PROCESSES["ddpm"])
    batch, output = batch_of(process, 6, 4, 0)
    for place in ((0, 0, 1, 1), (3, 3, 1, 1)):
        bad = output.clone()
        bad[place] = float("nan")
        losses, gradient = at_once(process, batch, bad)
        assert not losses[place[0]].isfinite()
        assert losses.isfinite().sum() == 5
        assert not gradient[place].isfinite()


@pytest.mark.parametrize("change", [{"objective": "kl"}, {"variance": "fixed-small"}])
def test_other_losses_are_left_to_the_process(change):
    process = GaussianDiffusion(replace(PROCESSES["ddpm"], **change))
    assert not is_small(process, batch_of(process, 2, 4, 0)[0])


def test_other_numbers_are_left_to_the_process():
    process = GaussianDiffusion(PROCESSES["ddpm"])
    batch, _ = batch_of(process, 2, 4, 0)
    assert not is_small(process, batch._replace(x=batch.x.double()))
    assert not is_small(process, batch._replace(x=batch.x[..., :3].contiguous()))
