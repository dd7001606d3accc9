"""What processes tell each other: here threads play them; tests of the rooms start real ones."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from adaln.execution import blocks
from adaln.models import MODELS, build
from adaln.parallel import (
    all_gather,
    barrier,
    fill,
    first_goes_first,
    from_first,
    fully_shard,
    is_sharded,
    own,
    own_part,
    own_rows,
    rank,
    shard_like,
    store_of_this_start,
    whole,
    world,
)
from adaln.rng import generator
from helpers.in_threads import in_processes
from helpers.networks import DIGITS


def test_a_process_alone_is_the_first_of_one_and_waits_for_nobody():
    barrier()
    with first_goes_first():
        assert (rank(), world(), all_gather("mine"), from_first(lambda: 7)) == (0, 1, ["mine"], 7)


def test_all_hear_what_each_has_and_what_the_first_alone_computes(monkeypatch):
    asked = []

    def decide() -> str:
        asked.append(rank())
        return "so be it"

    heard = in_processes(monkeypatch, 3, lambda: (all_gather(rank() * 10), from_first(decide), world()))
    assert heard == [([0, 10, 20], "so be it", 3)] * 3
    assert asked == [0]


def test_the_first_has_left_the_block_before_another_enters_it(monkeypatch):
    order, lock = [], threading.Lock()

    def work() -> None:
        with first_goes_first(), lock:
            order.append(rank())

    in_processes(monkeypatch, 4, work)
    assert order[0] == 0 and sorted(order) == [0, 1, 2, 3]


def test_processes_that_start_again_find_none_of_the_keys_of_those_before():
    """torchrun keeps its store over restarts: here a first start of which only some had come, then two whole ones."""
    store, named = dist.HashStore(), []
    store.set("joins/1", "dead")
    for _ in range(2):
        with ThreadPoolExecutor(3) as pool:
            starts = [pool.submit(store_of_this_start, store, number, 3) for number in (2, 1, 0)]
            stores = [start.result(timeout=60) for start in starts]
        stores[0].set("address", str(len(named)))
        named.append([one.get("address").decode() for one in stores])
        assert not store.check(["address"])
    assert named == [["0"] * 3, ["1"] * 3]


def test_a_new_start_has_no_address_yet():
    store = dist.HashStore()
    store_of_this_start(store, 0, 1).set("address", "old")
    assert not store_of_this_start(store, 0, 1).check(["address"])


@pytest.mark.parametrize(("name", "is_rounded"), [("tiny", True), ("tiny-shared", False), ("U-DiT-tiny", False)])
def test_blocks_of_nothing_but_linear_maps_are_whole_in_bfloat16(name, is_rounded):
    """Tables and kernels, which autocast leaves alone until they have been added, are not."""
    model, seen = build(MODELS[name], DIGITS, generator("weights")), {}
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        fully_shard(model, blocks(model), rounded=True)
        for inside in (*blocks(model), model.final_layer):
            module = next(part for part in inside.modules() if isinstance(part, nn.Linear))
            module.register_forward_hook(lambda module, *_, of=inside: seen.update({of: module.weight.dtype}))
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            model(torch.zeros(1, 1, 8, 8), torch.zeros(1), torch.zeros(1, dtype=torch.long))
    finally:
        dist.destroy_process_group()
    assert seen.pop(model.final_layer) == torch.float32
    assert set(seen.values()) == {torch.bfloat16 if is_rounded else torch.float32}
    assert {own(parameter).dtype for parameter in model.parameters()} == {torch.float32}


@pytest.fixture
def process():
    """Play process `rank` of `world`, which is enough for what asks no other process."""

    def play(rank: int, world: int):
        dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=world)
        return init_device_mesh("cpu", (world,))

    yield play
    dist.destroy_process_group()


def sharded(full: torch.Tensor, mesh) -> DTensor:
    """The piece that FSDP2 would leave to this process."""
    pieces = full.chunk(mesh.size())
    rank = mesh.get_local_rank()
    rows = pieces[rank].clone() if rank < len(pieces) else full[:0].clone()
    return DTensor.from_local(rows, mesh, [Shard(0)], run_check=False, shape=full.shape, stride=full.stride())


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
@pytest.mark.parametrize("count", [1, 3, 4, 5, 9])
def test_a_process_knows_its_rows_and_reads_and_writes_no_others(process, rank, count):
    full = torch.arange(2.0 * count).reshape(count, 2)
    tensor = sharded(full, process(rank, 4))
    assert is_sharded(tensor)
    assert torch.equal(own(tensor), full[own_rows(tensor)])
    for start in range(count):
        for stop in range(start, count + 1):
            held = [row for row in range(start, stop) if own_rows(tensor).start <= row < own_rows(tensor).stop]
            assert torch.equal(own_part(tensor, start, stop), full[held])
    own_part(tensor, 0, count).zero_()
    assert not own(tensor).any()
    fill(tensor, full)
    assert torch.equal(own(tensor), full[own_rows(tensor)])


def test_what_is_sharded_alike_has_the_same_rows_and_memory_of_its_own(process):
    full = torch.arange(10.0).reshape(5, 2)
    tensor, moments = sharded(full, process(1, 2)), full + 100
    alike = shard_like(tensor, moments)
    assert alike.shape == (5, 2) and torch.equal(own(alike), moments[3:])
    own(alike).zero_()
    assert moments.all()


def test_rows_of_a_trained_parameter_are_the_parameter_s_memory(process):
    parameter = torch.nn.Parameter(sharded(torch.ones(4, 2), process(0, 2)))
    own(parameter).mul_(3)
    assert not own(parameter).requires_grad
    assert (own(parameter) == 3).all()


def test_a_plain_tensor_is_its_own_only_shard():
    tensor, scalar = torch.arange(6.0).reshape(3, 2), torch.tensor(2.0)
    assert own(tensor) is whole(tensor) is tensor and not is_sharded(tensor)
    assert own_rows(tensor) == slice(0, 3)
    own_part(tensor, 1, 3).zero_()
    assert tensor.tolist() == [[0, 1], [0, 0], [0, 0]]
    assert own_part(scalar, 0, 1) is scalar
    fill(scalar, torch.tensor(5.0))
    assert scalar == 5
    assert shard_like(tensor, tensor + 1).tolist() == [[1, 2], [1, 1], [1, 1]]
