from dataclasses import fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaln.analysis.closed_form import BLOCK_STARTS, BlockStart, Weights, forward, gradients, order_table
from adaln.rng import generator

TABLE_1 = {
    "W_f": 1,
    "W_pat": 2, "W_gf": 2, "W_bf": 2, "W_a2": 2, "W_a1": 2,
    "W_ffm": 3, "W_att": 3, "W_g2": 3, "W_b2": 3, "W_g1": 3, "W_b1": 3,
}  # fmt: skip


def problem(start: BlockStart, seed: int, width: int = 6, patch: int = 3, num_tokens: int = 5):
    rng = generator("closed form test", seed)
    x, eps = torch.randn(2, num_tokens, patch, generator=rng, dtype=torch.float64)
    c = torch.randn(num_tokens, width, generator=rng, dtype=torch.float64)
    return start.weights(width, patch, rng), x, c, eps


@pytest.mark.parametrize("gate", [None, 0.7], ids=["no gate", "gate"])
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31), width=st.integers(1, 9), patch=st.integers(1, 5), num_tokens=st.integers(1, 8))
def test_every_derived_gradient_equals_automatic_differentiation(gate, seed, width, patch, num_tokens):
    start = BlockStart(gate=gate, scale=0.6, shift=0.5, final=0.4)
    W, x, c, eps = problem(start, seed, width, patch, num_tokens)
    leaves = W.named()
    for matrix in leaves.values():
        matrix.requires_grad_()
    signals = forward(W, x, c, eps)
    derived = gradients(signals)
    expected = dict(zip(leaves, torch.autograd.grad(signals.loss, list(leaves.values())), strict=True))
    assert derived.keys() == expected.keys()
    for name, gradient in derived.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-12, atol=1e-12 * float(expected[name].abs().max()))


def test_gradients_of_adaln_zero_are_exactly_zero_but_for_the_head():
    derived = gradients(forward(*problem(BLOCK_STARTS["adaln-zero"], seed=0)))
    assert [name for name, gradient in derived.items() if gradient.any()] == ["f"]


def test_the_first_loss_of_a_zero_head_is_the_mean_square_of_the_noise():
    signals = forward(*problem(BLOCK_STARTS["adaln-gaussian"], seed=0))
    assert not signals.eps_hat.any()
    assert signals.loss == signals.eps.square().mean()


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_adaln_zero_is_table_1(seed):
    order = order_table(BLOCK_STARTS["adaln-zero"], seed=seed)
    assert order.names == tuple(f"W_{field.name}" for field in fields(Weights))
    assert order.first == TABLE_1


@pytest.mark.parametrize("scheme", ["adaln", "adaln-step1", "adaln-gaussian"])
def test_without_a_zero_gate_everything_moves_from_the_second_iteration(scheme):
    order = order_table(BLOCK_STARTS[scheme])
    assert order.first == {name: 1 if name == "W_f" else 2 for name in order.names}
    assert len(order.names) == (10 if scheme == "adaln" else 12)
    assert all(order.moves[1])
    assert all(order.moves[2])


def test_a_head_that_does_not_start_at_zero_moves_all_that_its_gates_let_through():
    order = order_table(BlockStart(final=0.1))
    assert {name for name, first in order.first.items() if first == 1} == {n for n, f in TABLE_1.items() if f <= 2}


def test_an_unknown_start_names_the_nearest():
    with pytest.raises(ValueError, match="nearest: 'adaln-zero'"):
        BLOCK_STARTS["adalnzero"]
