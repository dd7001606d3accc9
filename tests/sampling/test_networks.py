"""Compiled networks and CUDA graphs draw what the network draws."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adaln.processes import Guidance, SamplerConfig
from adaln.runs import Run
from adaln.sampling import SampleConfig, SampleExecution, sample
from adaln.sampling.networks import Graphed

CONFIG = SampleConfig(7, batch_size=4, sampler=SamplerConfig(steps=3), guidance=Guidance(2.0))


def test_how_images_are_computed_is_no_part_of_their_record(trained, monkeypatch):
    monkeypatch.setattr("adaln.sampling.networks.possible", lambda execution, device: replace(execution, compile=False))
    plain, asked = sample(trained, CONFIG), sample(trained, CONFIG, execution=SampleExecution(compile=True))
    assert plain.provenance == asked.provenance
    assert np.array_equal(plain.images, asked.images)


def test_a_graph_is_refused_where_there_is_no_cuda(trained):
    with pytest.raises(ValueError, match="cuda_graph is True on device 'cpu'; expected a cuda device"):
        sample(trained, CONFIG, execution=SampleExecution(cuda_graph=True))


def test_a_precision_is_refused_where_the_device_lacks_it(trained):
    with pytest.raises(ValueError, match="precision 'tf32' is not to be had on device 'cpu'"):
        sample(trained, replace(CONFIG, dtype="tf32"))


@pytest.mark.slow
def test_compiled_blocks_draw_the_same_images(trained, tmp_path: Path):
    """In a process of its own: what checks shapes in the tests cannot be compiled."""
    words = ["--num-images", "7", "--batch-size", "4", "--sampler.steps", "3", "--guidance.scale", "2", "--compile"]
    adaln = Path(sys.executable).with_name("adaln")
    command = [adaln, "sample", trained.path, *words, "--device", "cpu", "--out", tmp_path / "x.npz"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    assert "going on uncompiled" not in told
    plain = sample(trained, CONFIG)
    assert json.loads((tmp_path / "x.json").read_text()) == json.loads(json.dumps(plain.provenance))
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
