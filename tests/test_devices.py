"""Each process has a GPU of its own, or none of them starts."""

import pytest
import torch

from adaln.parallel import find_device


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_a_process_takes_the_gpu_of_its_number(name, two_gpus, monkeypatch):
    assert find_device(name) == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert find_device(name) == torch.device("cuda", 1)
    assert find_device("cuda:0") == torch.device("cuda", 0)


def test_a_process_without_a_gpu_is_refused_but_not_on_the_cpu(two_gpus, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert find_device("cpu") == torch.device("cpu")
    with pytest.raises(
        ValueError, match="process 2 of this machine finds no GPU of its own; expected at most 2 processes"
    ):
        find_device("auto")
