"""`adaln.initialise` does all of what it says, or names what is in its way and changes nothing."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.nn.utils import parametrizations, prune
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.testing._internal.two_tensor import TwoTensor

import adaln
from adaln.parallel import own, own_box
from helpers.foreign import foreign

LAYER = "transformer_blocks.0.norm1.linear"
PLACED = {  # shape of the mesh, rank, placements; no two meshes are equal, for torch keeps what it knows of them
    "rows": ((5,), 1, [Shard(0)]),
    "a process without rows": ((97,), 96, [Shard(0)]),
    "columns": ((7,), 3, [Shard(1)]),
    "a row of copies": ((2, 3), 4, [Replicate(), Shard(0)]),
    "rows and columns": ((3, 2), 4, [Shard(0), Shard(1)]),
}


def set_parameter(model: nn.Module, name: str, value: nn.Parameter) -> None:
    layer, _, own_name = name.rpartition(".")
    setattr(model.get_submodule(layer), own_name, value)


def shard(model: nn.Module, mesh, placements) -> None:
    """Leave to this process its part of each parameter."""
    for name, full in list(model.named_parameters()):
        fits = [Replicate() if getattr(placed, "dim", 0) >= full.ndim else placed for placed in placements]
        like = {"shape": full.shape, "stride": full.stride()}
        box = [slice(0, size) for size in full.shape]
        for axis, placed in enumerate(fits):
            if isinstance(placed, Shard):
                rows = torch.arange(full.shape[placed.dim]).chunk(mesh.size(axis))
                at = mesh.get_local_rank(axis)
                box[placed.dim] = slice(rows[at][0].item(), rows[at][-1].item() + 1) if at < len(rows) else slice(0, 0)
        part = full.detach()[tuple(box)].clone()
        set_parameter(model, name, nn.Parameter(DTensor.from_local(part, mesh, fits, run_check=False, **like)))


@pytest.mark.slow
@pytest.mark.parametrize("placed", list(PLACED))
@pytest.mark.parametrize(("name", "scheme"), [("DiT", "adaln-gaussian"), ("PixArt-sigma", "adaln-step1-slice")])
def test_a_process_that_holds_a_part_starts_its_part_of_the_whole(name, scheme, placed):
    whole, parts = foreign(name), foreign(name)
    untouched = own(whole.get_parameter("transformer_blocks.0.attn1.to_q.weight")).clone()
    adaln.initialise(whole, scheme, seed=2)
    shape, rank, placements = PLACED[placed]
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=torch.Size(shape).numel())
    try:
        shard(parts, init_device_mesh("cpu", shape), placements)
        adaln.initialise(parts, scheme, seed=2)
        for key, part in parts.named_parameters():
            assert torch.equal(own(part), whole.get_parameter(key)[own_box(part)]), key
    finally:
        dist.destroy_process_group()
    assert torch.equal(untouched, whole.get_parameter("transformer_blocks.0.attn1.to_q.weight"))


class Adapted(nn.Module):
    """A layer as PEFT wraps it."""

    def __init__(self, base: nn.Linear, learnt: bool) -> None:
        super().__init__()
        self.base_layer = base
        self.lora_A = nn.ModuleDict({"default": nn.Linear(base.in_features, 2, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(2, base.out_features, bias=False)})
        nn.init.constant_(self.lora_B["default"].weight, float(learnt))


def adapt(model: nn.Module, layer: str, learnt: bool) -> Adapted:
    adapted = Adapted(model.get_submodule(layer), learnt)
    model.set_submodule(layer, adapted)
    return adapted


def store(dtype: torch.dtype):
    def change(model: nn.Module) -> None:
        layer = model.get_submodule(LAYER)
        layer.weight = nn.Parameter(layer.weight.detach().to(dtype), requires_grad=False)

    return change


def pack(model: nn.Module) -> None:
    """All matrices in two values a byte, as bitsandbytes keeps them."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            layer.weight = nn.Parameter(torch.zeros(layer.weight.numel() // 2, 1, dtype=torch.uint8), False)


def subclass(model: nn.Module) -> None:
    layer = model.get_submodule(LAYER)
    layer.weight = nn.Parameter(TwoTensor(layer.weight.detach(), layer.weight.detach()))


def empty(model: nn.Module) -> None:
    model.get_submodule(LAYER).weight = nn.Parameter(torch.zeros(0))


def tie(model: nn.Module) -> None:
    model.transformer_blocks[1].ff.net[2].weight = model.get_submodule(LAYER).weight


def tie_head(model: nn.Module) -> None:
    model.embedder = nn.Linear(1, 1)
    model.embedder.weight = model.proj_out_2.weight


def magnitude(model: nn.Module) -> None:
    adapt(model, LAYER, learnt=False).lora_magnitude_vector = nn.Parameter(torch.ones(1))


IN_THE_WAY = {
    "weight norm": (lambda m: parametrizations.weight_norm(m.get_submodule(LAYER)), f"{LAYER}.weight' is made of '"),
    "weight norm of old": (lambda m: nn.utils.weight_norm(m.get_submodule(LAYER)), "is made of .*weight_g' and .*_v'"),
    "spectral norm": (lambda m: parametrizations.spectral_norm(m.get_submodule(LAYER)), "weight.original' in each"),
    "spectral norm of old": (lambda m: nn.utils.spectral_norm(m.get_submodule(LAYER)), "is made of .*weight_orig'"),
    "a parametrised head": (lambda m: parametrizations.weight_norm(m.proj_out_2), "'proj_out_2.weight' is made of"),
    "pruning": (lambda m: prune.l1_unstructured(m.get_submodule(LAYER), "weight", 0.5), "is made of .*weight_orig'"),
    "8 bit": (store(torch.int8), f"{LAYER}.weight' is stored as int8"),
    "float8": (store(torch.float8_e4m3fn), f"{LAYER}.weight' is stored as float8_e4m3fn"),
    "4 bit": (pack, "weight' is stored as uint8"),
    "a quantised tensor": (subclass, f"{LAYER}.weight' is a TwoTensor"),
    "an engine's": (empty, f"{LAYER}.weight' is empty here"),
    "one on no device": (lambda m: m.proj_out_1.to("meta"), "'proj_out_1.weight' is on the meta device"),
    "a lazy layer": (lambda m: m.add_module("more", nn.LazyLinear(2)), "'more.weight' has no shape before"),
    "an adapter that has learnt": (lambda m: adapt(m, LAYER, learnt=True), "lora_B.default.weight' changes what .*"),
    "a learnt adapter of the head": (lambda m: adapt(m, "proj_out_2", learnt=True), "'proj_out_2.lora_B.default"),
    "an adapter's magnitude": (magnitude, "lora_magnitude_vector' changes what"),
    "a tie to what stays": (tie, f"'{LAYER}.weight' and .*ff.net.2.weight' are one tensor"),
    "a tie of the head": (tie_head, "'proj_out_2.weight' and 'embedder.weight' are one tensor"),
}


@pytest.mark.parametrize("what", list(IN_THE_WAY))
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:Lazy modules")
def test_what_a_start_would_not_reach_is_named_and_nothing_is_changed(what):
    model, (change, said) = foreign("DiT"), IN_THE_WAY[what]
    change(model)
    tensors = {
        name: tensor for name, tensor in model.named_parameters() if not isinstance(tensor, nn.UninitializedParameter)
    }
    before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    with pytest.raises(ValueError, match=said):
        adaln.initialise(model)
    assert all(
        tensor.is_meta or isinstance(tensor, TwoTensor) or torch.equal(tensor, before[name])
        for name, tensor in tensors.items()
    )


def test_parameters_of_inference_mode_are_refused():
    with torch.inference_mode():
        model = foreign("DiT")
    with pytest.raises(ValueError, match=f"{LAYER}.weight' is made in torch.inference_mode"):
        adaln.initialise(model)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize")
def test_weights_that_are_no_parameters_are_refused():
    packed = torch.ao.quantization.quantize_dynamic(foreign("DiT"), {nn.Linear})
    with pytest.raises(ValueError, match=r"the weights of '\S+' are packed"):
        adaln.initialise(packed)


HARMLESS = {
    "elsewhere parametrised": lambda m: parametrizations.weight_norm(m.transformer_blocks[0].attn1.to_q),
    "elsewhere adapted": lambda m: adapt(m, "transformer_blocks.0.attn1.to_q", learnt=True),
    "elsewhere whole numbers": lambda m: m.register_parameter("index", nn.Parameter(torch.arange(3), False)),
    "an adapter that has not learnt": lambda m: adapt(m, LAYER, learnt=False),
    "a list of the blocks beside": lambda m: m.add_module("again", m.transformer_blocks),
}


@pytest.mark.parametrize("what", list(HARMLESS))
def test_what_does_not_touch_a_start_leaves_it_as_it_is(what):
    plain, model = foreign("DiT"), foreign("DiT")
    adaln.initialise(plain)
    HARMLESS[what](model)
    assert adaln.initialise(model).num_set == 14
    started = {name.replace("base_layer.", ""): tensor for name, tensor in model.named_parameters()}
    same = [name for name in started if "norm1.linear" in name and "lora" not in name]
    assert len(same) == 4
    assert all(torch.equal(started[name], plain.get_parameter(name)) for name in same)


@pytest.mark.slow
def test_two_processes_start_and_hold_what_one_would():
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    program = ["-m", "helpers.start_together", "adaln"]
    done = subprocess.run([*torchrun, *program], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    said, differ, is_held = json.loads(done.stdout.splitlines()[-1])
    assert said.startswith("adaln started 34 of 34 sites of SD3")
    assert differ == [[], [], []]
    assert is_held


def test_a_parameter_whose_values_share_their_memory_is_refused():
    model = foreign("DiT")
    layer = model.get_submodule(LAYER)
    layer.weight = torch.nn.Parameter(torch.zeros(1, layer.in_features).expand_as(layer.weight))
    with pytest.raises(ValueError, match=f"{LAYER}.weight' is expanded"):
        adaln.initialise(model, "adaln-gaussian")


def refused_unchanged(said: str, model: nn.Module, scheme: str) -> None:
    before = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    with pytest.raises(ValueError, match=said) as error:
        adaln.initialise(model, scheme)
    assert "\n" not in str(error.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.named_parameters())


@pytest.mark.parametrize("beside", ["transformer_blocks.1.norm1.linear", "transformer_blocks.0.attn1.to_q"])
def test_a_parameter_that_lies_where_another_one_does_is_refused(beside):
    model = foreign("DiT")
    other = model.get_submodule(beside)
    other.weight.data = model.get_submodule(LAYER).weight.data[: len(other.weight), : other.weight.shape[1]]
    refused_unchanged("lie in one place of memory", model, "adaln-gaussian")


@pytest.mark.parametrize(
    ("dtype", "std", "what"),
    [
        (torch.float16, "1e-9", "zero"),
        (torch.float16, "1e6", "infinite"),
        (torch.bfloat16, "1e300", "infinite"),
        (torch.float32, "1e300", "infinite"),
    ],
)
def test_a_start_that_a_type_cannot_hold_is_refused(dtype, std, what):
    refused_unchanged(f"is {what} in '{LAYER}.weight', which is", foreign("DiT").to(dtype), f"adaln-gaussian:{std}")


def test_a_seed_is_a_whole_number_of_any_integer_type():
    starts = []
    for seed in (3, np.int64(3), torch.tensor(3)):
        model = foreign("DiT")
        adaln.initialise.__wrapped__(model, "adaln-gaussian", seed)  # past the check of types
        starts.append(model.get_submodule(LAYER).weight.detach())
    assert torch.equal(starts[0], starts[1]) and torch.equal(starts[0], starts[2])
    for seed in (1.5, True, None, "3"):
        with pytest.raises(ValueError, match="expected an integer or a torch"):
            adaln.initialise.__wrapped__(model, "adaln-gaussian", seed)


@pytest.mark.parametrize("what", [{}, [nn.Linear(2, 2)], nn.Linear(2, 2).state_dict()])
def test_what_is_no_network_is_called_what_it_is(what):
    with pytest.raises(ValueError, match=f"model is a {type(what).__name__}; expected"):
        adaln.initialise.__wrapped__(what)
