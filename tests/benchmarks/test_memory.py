"""What is kept for the backward pass is counted once, weights apart."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from adaln.benchmarks.options import MemoryOptions
from adaln.benchmarks.training import kept_bytes, kept_for_backward, of_one_block
from adaln.models import MODELS


def test_shared_memory_counts_once_and_weights_not_at_all():
    network = nn.Linear(1024, 4)

    def model(x, t, y):
        rows = x.flatten(1)[:, :1024].requires_grad_() * 2  # in memory of its own
        return network(rows), network(rows[:1])

    kept = kept_bytes(network, model, 2)
    rounded = (2 + 1) * 1024 * 2 + 4 * 1024 * 2  # rows, the first of them, weights
    assert kept == rounded


def test_a_block_of_ours_keeps_what_the_documents_say():
    kept = of_one_block("ours", MODELS["tiny"], is_compiled=False)
    assert kept["per_token_and_channel"] == pytest.approx(49, abs=1)
    assert kept["per_weight"] == pytest.approx(2, abs=0.1)


def test_only_what_the_peer_has_too_is_counted():
    with pytest.raises(ValueError, match="model is 'U-DiT-tiny'; expected a DiT"):
        kept_for_backward(MemoryOptions("U-DiT-tiny"))


@pytest.mark.slow
def test_compiled_blocks_keep_less_than_eight_tenths_of_the_peers(tmp_path: Path):
    """In a process of its own: what checks shapes in the tests cannot be compiled."""
    adaln, file = Path(sys.executable).with_name("adaln"), tmp_path / "memory.json"
    subprocess.run([adaln, "bench", "memory", "--model", "tiny", "--out", file], check=True, capture_output=True)
    assert json.loads(file.read_text())["compiled"]["ours of diffusers"] < 0.8
