"""Compiled networks and CUDA graphs draw what the network draws."""

import json
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from adaln.models import MODELS, build
from adaln.processes import Guidance, SamplerConfig
from adaln.rng import generator
from adaln.runs import Run
from adaln.sampling import SampleConfig, SampleExecution, sample
from adaln.sampling.config import EAGER
from adaln.sampling.networks import Graphed, computing
from helpers.networks import DIGITS

CONFIG = SampleConfig(7, batch_size=4, sampler=SamplerConfig(steps=3), guidance=Guidance(2.0))


def moved_model(name):
    """A network none of whose weights is zero."""
    model = build(MODELS[name], DIGITS, generator("weights")).requires_grad_(False)
    for parameter in model.parameters():
        parameter += 0.1 * torch.randn(parameter.shape, generator=generator("moved", name))
    return model


def asked(count, seed):
    """Noisy images, times and labels."""
    rng = generator("asked", seed)
    x, t = torch.randn(count, 1, 8, 8, generator=rng), torch.rand(count, generator=rng)
    return x, t, torch.randint(11, (count,), generator=rng)


def test_how_images_are_computed_is_no_part_of_their_record(trained, monkeypatch):
    monkeypatch.setattr("adaln.sampling.networks.usable", lambda execution, device: replace(execution, compile=False))
    plain, asked = sample(trained, CONFIG), sample(trained, CONFIG, execution=SampleExecution(compile=True))
    assert plain.provenance == asked.provenance
    assert np.array_equal(plain.images, asked.images)


def test_a_graph_is_refused_where_there_is_no_cuda(trained):
    with pytest.raises(ValueError, match="cuda_graph is True on device 'cpu'; expected a cuda device"):
        sample(trained, CONFIG, execution=SampleExecution(cuda_graph=True))


def test_a_precision_is_refused_where_the_device_lacks_it(trained):
    with pytest.raises(ValueError, match="precision 'tf32' is not to be had on device 'cpu'"):
        sample(trained, replace(CONFIG, dtype="tf32"))


@pytest.mark.parametrize("name", [name for name in MODELS if "tiny" in name])
def test_weights_rounded_once_give_what_autocast_gives(name):
    model, inputs = moved_model(name), asked(3, 1)
    with torch.autocast("cpu", torch.bfloat16):
        expected = model(*inputs).float()
    assert torch.equal(computing(model, "bfloat16", EAGER)(*inputs), expected)
    assert {p.dtype for p in model.parameters()} == {torch.float32, torch.bfloat16}


class Recording(TorchDispatchMode):
    """What a CUDA graph does, on the CPU: the calls of a forward, made again where their tensors lay."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function is not torch.ops.aten._local_scalar_dense.default, "a value is read on the host"
        found = function(*args, **(kwargs or {}))
        self.calls.append((function, args, kwargs or {}, found))
        return found

    def replay(self):
        for function, args, kwargs, found in self.calls:
            for old, new in zip(tree_leaves(found), tree_leaves(function(*args, **kwargs)), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@pytest.fixture
def recorded_on_the_cpu(monkeypatch):
    """CUDA's graphs as `Recording`s; labels are not looked at, as on CUDA."""
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recording)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, stream: graph)
    for name in ("Stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, lambda device: SimpleNamespace(wait_stream=lambda other: None))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr("adaln.models.fused.have_kernels", lambda: False)  # a recording sees torch's operators only
    for room in ("dit", "udit"):
        monkeypatch.setattr(f"adaln.models.{room}.check_inputs", lambda *inputs: None)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", [name for name in MODELS if "tiny" in name])
def test_a_recorded_network_answers_for_its_inputs_and_keeps_its_answers(name, dtype, recorded_on_the_cpu):
    model, graphed = moved_model(name), computing(moved_model(name), dtype, SampleExecution(cuda_graph=True))
    plain = computing(model, dtype, EAGER)
    batches = [asked(3, 1), asked(3, 2), asked(2, 3), asked(3, 4)]
    with torch.no_grad():
        answers = [graphed(*inputs) for inputs in batches]
        assert len(graphed.replays) == 2
        for inputs, answer in zip(batches, answers, strict=True):
            torch.testing.assert_close(answer, plain(*inputs), rtol=0, atol=0)


@pytest.mark.slow
def test_compiled_blocks_draw_the_same_images(trained, tmp_path: Path):
    """In a process of its own: what checks shapes in the tests cannot be compiled."""
    words = ["--num-images", "7", "--batch-size", "4", "--sampler.steps", "3", "--guidance.scale", "2", "--compile"]
    adaln = Path(sys.executable).with_name("adaln")
    command = [adaln, "sample", trained.path, *words, "--device", "cpu", "--out", tmp_path / "x.npz"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    assert "going on uncompiled" not in told
    plain = sample(trained, CONFIG)
    assert json.loads((tmp_path / "x.json").read_text()).items() >= json.loads(json.dumps(plain.provenance)).items()
    with np.load(tmp_path / "x.npz") as archive:
        assert np.abs(plain.images.astype(int) - archive["arr_0"]).max() <= 1


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("compile", [False, True])
def test_a_graph_draws_the_same_images_in_whole_batches_and_in_the_last(trained, dtype, compile):
    run, config = Run.open(trained.path, "cuda"), replace(CONFIG, dtype=dtype)
    plain = sample(run, config, execution=SampleExecution(compile)).images.astype(int)
    replayed = sample(run, config, execution=SampleExecution(compile, cuda_graph=True)).images
    assert np.abs(plain - replayed).max() <= 1


@pytest.mark.gpu
def test_a_graph_is_recorded_once_per_shape_and_reads_its_inputs_anew():
    calls = []

    def model(x, t, y):
        calls.append(len(x))
        return x * t[:, None, None, None] + y[:, None, None, None]

    graphed = Graphed(model)
    for count in (3, 2, 3, 3, 2):
        x, t = torch.randn(count, 1, 2, 2, device="cuda"), torch.rand(count, device="cuda")
        y = torch.randint(9, (count,), device="cuda")
        first = graphed(x, t, y)
        assert torch.equal(first, model(x, t, y))
        calls.pop()
        graphed(x + 1, t, y)
        assert torch.equal(first, model(x, t, y))  # a later replay leaves earlier answers alone
        calls.pop()
    assert calls == [3] * 4 + [2] * 4  # three to warm up and one to record
