"""Rows of sharded tensors: a process of a group that is only played, which is enough for what asks nobody."""

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from adaln.dtensor import fill, is_sharded, own, own_part, own_rows, shard_like, whole


@pytest.fixture
def process():
    """Play process `rank` of `world`."""

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
