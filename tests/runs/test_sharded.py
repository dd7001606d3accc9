"""Files that processes write together are those that one of them would write."""

import errno
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

from adaln.parallel import rank, world
from adaln.runs import checkpoints
from adaln.runs.checkpoints import Shard, save_sharded
from helpers.in_threads import in_processes

METADATA = {"format": "pt"}


def tensors() -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return {
        "weight": torch.randn(7, 3, generator=rng),
        "head": torch.randn(2, 5, 2, generator=rng),
        "bias": torch.randn(5, generator=rng),
        "half": torch.randn(3, 3, generator=rng).bfloat16(),
        "step": torch.tensor(12),
        "loss": torch.tensor(0.5),
        "ä": torch.arange(4),
    }


def shards(whole: dict[str, torch.Tensor]) -> dict[str, Shard]:
    """Weights cut as FSDP2 cuts them, fewer rows than processes included; all else in the first process."""
    found = {}
    for name, tensor in whole.items():
        rows, start = tensor, 0
        if name in ("weight", "head", "bias"):
            each = -(-len(tensor) // world())
            start = min(rank() * each, len(tensor))
            rows = tensor[start : start + each]
        elif tensor.ndim and rank():
            rows = tensor[:0]
        found[name] = Shard(rows, start, tensor.shape)
    return found


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_the_bytes_are_those_of_the_format_s_own_writer(monkeypatch, tmp_path: Path, processes: int):
    whole = tensors()

    def write() -> list[str]:
        save_sharded(tmp_path / "saved", {"model": shards(whole), "ema": shards(whole)}, METADATA)
        return sorted(file.name for file in (tmp_path / "saved").iterdir())

    found = in_processes(monkeypatch, processes, write)
    assert found == [["ema.safetensors", "model.safetensors"]] * processes
    for file in (tmp_path / "saved").iterdir():
        assert file.read_bytes() == save(whole, METADATA)
        loaded = load_file(file)
        assert loaded.keys() == whole.keys()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in whole.items())


def test_what_fails_in_one_process_leaves_nothing(monkeypatch, tmp_path: Path):
    real = checkpoints.write_shards

    def write(*words) -> None:
        if rank() == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*words)

    monkeypatch.setattr(checkpoints, "write_shards", write)
    with pytest.raises(Exception, match=r"No space left|Barrier|^$"):
        in_processes(monkeypatch, 2, lambda: save_sharded(tmp_path / "saved", {"model": shards(tensors())}, METADATA))
    assert list(tmp_path.iterdir()) == []
