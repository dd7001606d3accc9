"""An update at once is that of torch's AdamW and of a loop over averages."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from adaln import kernels
from adaln.config import OptimConfig
from adaln.rng import generator
from adaln.training import ema_and_optimizer
from adaln.training.at_once import UpdateAtOnce, norms_of
from adaln.training.ema_and_optimizer import TrainState

needs_compiler = pytest.mark.skipif(not kernels.have_kernels(), reason="no C compiler")


class Weights(nn.Module):
    """Tensors of these sizes, and nothing to compute."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.rows = nn.ParameterList(torch.randn(size, generator=generator("test rows", size)) for size in sizes)


def trained(sizes: list[int], optim: OptimConfig, num_steps: int = 6) -> tuple[list[Tensor], list[str]]:
    """Everything that a state saves after some steps, and which of them were made at once."""
    state, ways = TrainState(Weights(sizes), optim), []
    original: Callable[..., None] = UpdateAtOnce.__call__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UpdateAtOnce, "__call__", lambda *given: ways.append("at once") or original(*given))
        for step in range(num_steps):
            for index, parameter in enumerate(state.named.values()):
                parameter.grad = 0.1 * torch.randn(parameter.shape, generator=generator("test update", step, index))
            state.update(torch.zeros(()))
    return [tensor for file in state.tensors().values() for tensor in file.values()], ways


def both(sizes: list[int], optim: OptimConfig) -> tuple[list[Tensor], list[Tensor]]:
    """At once, and torch's."""
    ours, ways = trained(sizes, optim)
    assert len(ways) == 5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ema_and_optimizer, "are_small", lambda tensors: False)
        theirs, ways = trained(sizes, optim)
    assert ways == []
    return ours, theirs


@needs_compiler
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(("betas", "ema_decay"), [((0.9, 0.999), 0.99), ((0.3, 0.95), 0.2)])
def test_it_is_torchs_bit_for_bit_where_tensors_are_whole_vectors(weight_decay, betas, ema_decay):
    optim = OptimConfig(lr=4e-3, betas=betas, weight_decay=weight_decay, ema_decay=ema_decay)
    for ours, theirs in zip(*both([16, 64, 2304, 20_000], optim), strict=True):
        assert torch.equal(ours, theirs)


@needs_compiler
@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=5), st.sampled_from([None, 0.05, 100.0]))
def test_it_is_torchs_to_rounding_at_any_size_and_clip(sizes, grad_clip):
    for ours, theirs in zip(*both(sizes, OptimConfig(lr=1e-2, grad_clip=grad_clip)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-6, atol=1e-8)


@needs_compiler
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=5))
def test_norms_are_those_of_float64(sizes):
    tensors = [torch.randn(size, generator=generator("test norms", size)) for size in sizes]
    exact = torch.stack([tensor.double().norm() for tensor in tensors])
    torch.testing.assert_close(norms_of(tensors).double(), exact, rtol=1e-6, atol=0)


@needs_compiler
def test_what_is_not_finite_has_no_finite_norm():
    for bad in (float("nan"), float("inf")):
        assert not norms_of([torch.full((33,), bad)]).isfinite().any()


@pytest.mark.parametrize("other", ["bfloat16", "strided"])
def test_tensors_of_other_kinds_are_left_to_torch(other):
    tensor = torch.zeros(8, 8)
    assert kernels.fit([tensor])
    assert not kernels.fit([tensor, tensor.bfloat16() if other == "bfloat16" else tensor.T])
