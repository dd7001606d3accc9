"""A step that needs no value on the host waits for no device: it can be made on the meta device, which has none.

Nor does a step make numbers in float64 on its device: MPS has none.
"""

import sys
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from adaln import execution
from adaln.conditioning import SCHEMES, holding
from adaln.data import Prefetched
from adaln.execution import Execution, prepare_blocks
from adaln.models import MODELS
from adaln.processes import (
    PROCESSES,
    SOLVERS,
    GaussianConfig,
    GaussianDiffusion,
    Guidance,
    Interpolant,
    InterpolantConfig,
    SamplerConfig,
    guided,
    solve,
)
from adaln.runs import Run
from adaln.sampling import SampleConfig, load_sampler
from adaln.sampling.sampler import seeded_draw
from adaln.training import TrainState, inputs, loss
from adaln.training.loop import accumulate
from adaln.training.resume import run_order

META = torch.device("meta")


class MetaGenerator(torch.Generator):
    """Draws on the meta device, which has no generators of its own."""

    device = META


@pytest.fixture
def on_meta(monkeypatch):
    """Random numbers, precision and a fused optimiser for a device that has none of them."""
    monkeypatch.setattr(loss, "generator", lambda *key, device: MetaGenerator())
    monkeypatch.setattr(execution, "autocast", lambda precision, device: nullcontext())
    optimizers = sys.modules[torch.optim.Optimizer.__module__]
    monkeypatch.setattr(optimizers, "_get_fused_kernels_supported_devices", lambda: ["meta"])


def test_values_on_the_meta_device_cannot_be_read():
    """What the other tests rest on."""
    x = torch.ones(3, device=META)
    for read in (x.cpu, x.tolist, x.sum().item, lambda: bool(x.any()), x.nonzero, lambda: torch.ones(3).copy_(x)):
        with pytest.raises((NotImplementedError, RuntimeError), match=r"(?i)meta"):
            read()


class Single(TorchDispatchMode):
    """Refuses float64 on the meta device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves(found) if isinstance(leaf, torch.Tensor)]
        assert not any(tensor.is_meta and tensor.dtype == torch.float64 for tensor in tensors), func
        return found


def test_float64_on_the_meta_device_is_refused():
    """What the other tests rest on, too."""
    with Single():
        torch.ones(3, dtype=torch.float64)
        torch.ones(3, device=META)
        with pytest.raises(AssertionError):
            torch.ones(3, dtype=torch.float64, device=META)


def assert_a_step_waits_for_nothing(run, execution):
    order, batches = run_order(run), run.batches()
    run.device = META
    state = TrainState(run.new_model(), run.config.optim)
    prepare_blocks(state.model, execution)
    for _ in range(2):
        with Single():
            loss = accumulate(run, state.model, inputs(run, batches, state.step), execution.micro_batches)
            holding(order)(state.step, state.model)
            state.update(loss)
    assert order and state.step == 2
    assert all(parameter.is_meta for parameter in state.model.parameters())


def test_a_training_step_waits_for_nothing(small_config, tmp_path, on_meta):
    config = small_config(scheme=SCHEMES["adaln"])
    run = Run.create(replace(config, optim=replace(config.optim, grad_clip=1.0)), tmp_path)
    assert_a_step_waits_for_nothing(run, Execution(checkpoint_blocks=1, micro_batches=2))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if "tiny" in name])
def test_a_training_step_of_every_family_waits_for_nothing(name, small_config, tmp_path, on_meta):
    process = PROCESSES["linear-velocity" if "SiT" in name else "ddpm"]
    config = small_config(model=MODELS[name], process=process, scheme=SCHEMES["adaln"])
    assert_a_step_waits_for_nothing(Run.create(config, tmp_path), Execution())


@pytest.mark.parametrize("solver", [name for name in SOLVERS if name != "dopri5"])
def test_a_sampling_step_waits_for_nothing(solver):
    """dopri5 alone reads its error before each step."""
    for process in (GaussianDiffusion(GaussianConfig()), Interpolant(InterpolantConfig())):
        if type(process) not in SOLVERS[solver].by_process:
            continue
        channels = process.config.outputs_per_channel
        draw = seeded_draw(0, range(3), (1, 8, 8), META)

        def network(x, t, y, channels=channels):
            return x.repeat(1, channels, 1, 1) * t[:, None, None, None] + y[:, None, None, None]

        denoiser = guided(network, torch.zeros(3, dtype=torch.long, device=META), 10, Guidance(2.0, interval=(0, 0.5)))
        with Single():
            states = list(solve(process, denoiser, draw(), draw, SamplerConfig(solver=solver, steps=3)))
        assert len(states) == 3 and all(state.is_meta for state in states)


@pytest.fixture
def waiting_is_an_error():
    """torch raises where the host waits for the GPU."""
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_a_training_step_on_a_gpu_waits_for_nothing(small_config, tmp_path, request):
    run = Run.create(small_config(scheme=SCHEMES["adaln"], precision="bfloat16"), tmp_path, device="cuda")
    order, state = run_order(run), TrainState(run.new_model(), run.config.optim)
    with Prefetched(run.batches(), pin=True) as batches:
        for step in range(3):
            if step == 1:  # the first one copies tables
                request.getfixturevalue("waiting_is_an_error")
            loss = accumulate(run, state.model, inputs(run, batches, step), 2)
            holding(order)(step, state.model)
            state.update(loss)


@pytest.mark.gpu
def test_a_sampling_step_on_a_gpu_waits_for_nothing(trained, request):
    sampler = load_sampler(Run.open(trained.path, "cuda"), SampleConfig(4, guidance=Guidance(2.0)))
    labels, draw = (
        torch.zeros(4, dtype=torch.long, device="cuda"),
        seeded_draw(0, range(4), (1, 8, 8), sampler.run.device),
    )
    denoiser = guided(sampler.model, labels, 10, Guidance(2.0))
    states = solve(sampler.run.process, denoiser, draw(), draw, SamplerConfig(steps=4))
    next(states)  # the first one copies tables
    request.getfixturevalue("waiting_is_an_error")
    assert len(list(states)) == 3
