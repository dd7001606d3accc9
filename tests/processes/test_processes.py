"""What every entry of the table of processes promises."""

import pytest
import torch

from adaln.processes import PROCESSES, GaussianDiffusion
from adaln.rng import generator
from adaln.types import Process
from helpers.gaussian_data import MEAN, STD, exact_denoiser

every_process = pytest.mark.parametrize("name", PROCESSES)


@every_process
def test_entries_build_processes_that_keep_their_config(name):
    process = PROCESSES[name].build()
    assert isinstance(process, Process)
    assert process.config == PROCESSES[name]


def test_only_a_learned_variance_needs_a_second_output_per_channel():
    assert {name for name in PROCESSES if PROCESSES[name].outputs_per_channel == 2} == {"ddpm", "ddpm-cosine"}
    assert {config.outputs_per_channel for config in PROCESSES.values()} == {1, 2}


@every_process
def test_the_exact_network_has_the_least_loss(name):
    """Data N(0.7, 0.5^2): moving the expected noise, velocity or score either way costs."""
    process = PROCESSES[name].build()
    rng = generator("test-processes")
    x = MEAN + STD * torch.randn(2000, 1, 2, 2, generator=rng)
    exact = exact_denoiser(process)

    def loss(shift):
        def network(x_t, t, y):
            output = exact(x_t, t)
            output[:, :1] *= 1 + shift
            return output

        return process.loss(network, x, None, *process.draw(x.shape, generator("test-processes", 1))).mean().item()

    assert loss(0.0) < min(loss(-0.3), loss(0.3))


@every_process
def test_the_loss_reaches_every_output_channel(name):
    process, channels = PROCESSES[name].build(), 2
    output_bias = torch.zeros(channels * process.config.outputs_per_channel, requires_grad=True)

    def network(x_t, t, y):
        return output_bias[:, None, None].expand(len(x_t), -1, *x_t.shape[2:])

    x = torch.randn(8, channels, 3, 3)
    process.loss(network, x, None, *process.draw(x.shape, generator("test-processes"))).sum().backward()
    assert (output_bias.grad != 0).all()


@every_process
def test_the_loss_of_a_sample_does_not_depend_on_its_batch(name):
    process = PROCESSES[name].build()
    x, noise = torch.randn(4, 1, 3, 3), torch.randn(4, 1, 3, 3)
    t = torch.tensor([1, 200, 500, 900])
    t = t if isinstance(process, GaussianDiffusion) else t / 1000
    output = exact_denoiser(process)(process.noised(x, t, noise), t)
    together = process.terms(output, x, t, noise)["loss"]
    alone = process.terms(output[2:3], x[2:3], t[2:3], noise[2:3])["loss"]
    torch.testing.assert_close(together[2:3], alone, rtol=1e-6, atol=0)
