import json
import subprocess
import sys
from dataclasses import asdict
from math import nan

import pytest
import torch
from safetensors.torch import save_file

from adaln.analysis.distributions import describe, sketches
from adaln.analysis.groups import Group
from adaln.conditioning import SCHEMES, find_sites, initialise
from adaln.models import MODELS, build
from adaln.rng import generator
from adaln.tensor_files import TensorFile
from adaln.types import DataSpec

SPEC = DataSpec(channels=4, height=16, width=16, num_classes=10)


def weights(name: str = "tiny", scheme: str = "adaln-gaussian-v2") -> dict[str, torch.Tensor]:
    net = build(MODELS[name], SPEC, generator("describe test"))
    initialise(net, SCHEMES[scheme], generator("describe test", "scheme"))
    return {key: value.detach() for key, value in net.named_parameters()}


def test_each_role_shows_the_std_that_it_was_started_with():
    found = {d.group: d.summary.moments for d in describe(weights())}
    for role, std in (("gate", 8e-4), ("scale", 1.2e-3), ("shift", 8e-4)):
        assert found[Group(role)].std == pytest.approx(std, rel=0.02)
        assert found[Group(role, "blocks.2", 2, "mlp")].std == pytest.approx(std, rel=0.05)
        assert found[Group(f"{role} bias")].zero_share == 1.0
    assert found[Group("final head")].zero_share == found[Group("final scale")].zero_share == 1.0


def test_groups_come_from_the_whole_to_its_parts_in_forward_order():
    groups = [d.group for d in describe(weights("U-DiT-tiny"))]
    spans = [(g.block is not None, g.depth or 0, g.branch is not None) for g in groups]
    assert spans == sorted(spans)
    depths = {g.depth: g.block for g in groups if g.block is not None}
    assert depths == {s.depth: s.block for s in find_sites(weights("U-DiT-tiny")) if s.branch != "final"}


def test_a_thing_without_modulation_is_refused():
    with pytest.raises(ValueError, match="no layer of a known layout among these tensors"):
        describe(torch.nn.Linear(4, 4))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_a_file_gives_the_same_description_as_the_tensors_in_memory(tmp_path, dtype):
    tensors = {name: tensor.to(dtype) for name, tensor in weights().items()}
    tensors["blocks.0.attn.qkv.weight"][3, 5] = nan
    save_file(tensors, tmp_path / "model.safetensors")
    rows = [asdict(d) for d in describe(TensorFile(tmp_path / "model.safetensors"))]
    assert json.dumps(rows, allow_nan=False) == json.dumps([asdict(d) for d in describe(tensors)], allow_nan=False)
    assert {row["group"]["name"]: row["summary"]["moments"]["nans"] for row in rows}["attention"] == 1


def test_the_number_of_threads_changes_nothing():
    tensors, threads = weights(), torch.get_num_threads()
    alone = {group: found.counts.tolist() for group, found in sketches(tensors).items()}
    torch.set_num_threads(4)
    together = {group: found.counts.tolist() for group, found in sketches(tensors).items()}
    assert torch.get_num_threads() == 4
    torch.set_num_threads(threads)
    assert together == alone


MEASURE = """
import resource, sys
from pathlib import Path
from adaln.analysis.distributions import sketches
from adaln.tensor_files import TensorFile

def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

sketches(TensorFile(Path(sys.argv[1])))
before = peak_bytes()
sketches(TensorFile(Path(sys.argv[2])))
print(peak_bytes() - before)
"""


@pytest.mark.slow
def test_a_file_of_any_size_is_read_in_constant_memory(tmp_path):
    small, large = tmp_path / "small.safetensors", tmp_path / "large.safetensors"
    save_file({"blocks.0.attn.qkv.weight": torch.randn(1000, 1000)}, small)
    save_file({f"blocks.{i}.attn.qkv.weight": torch.randn(4000, 4000) for i in range(12)}, large)
    assert large.stat().st_size > 700e6
    command = [sys.executable, "-c", MEASURE, str(small), str(large)]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert grown < 50e6
