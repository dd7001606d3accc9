"""U-DiT's parts against their formulas, and that nothing at inference touches a stored weight."""

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from adaln.models import MODELS, build
from adaln.models.layers import rotate, rotation
from adaln.models.udit import DepthwiseSum, DownsampledAttention, PointwisePair, merging_pays
from adaln.rng import generator
from helpers.networks import DIGITS

CPU = torch.device("cpu")
SIZES = st.integers(1, 64)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator("udit"))


@given(SIZES, SIZES, SIZES, SIZES)
def test_kernels_are_merged_exactly_where_that_is_fewer_multiplications(positions, inputs, middle, outputs):
    first, second = torch.empty(middle, inputs, device="meta"), torch.empty(outputs, middle, device="meta")
    x = torch.empty(positions, inputs, device="meta")
    with FlopCounterMode(display=False) as apart:
        (x @ first.T) @ second.T
    with FlopCounterMode(display=False) as merged:
        x @ (second @ first).T
    assert merging_pays(positions, first, second) == (merged.get_total_flops() < apart.get_total_flops())


@pytest.mark.parametrize("side", [1, 32])
def test_a_pointwise_pair_is_two_convolutions_with_and_without_gradients(side: int):
    pair, x = PointwisePair(12, 6, 24), randn(2, side, side, 12)
    expected = pair[1](pair[0](x.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
    torch.testing.assert_close(pair(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(pair(x), expected)


def test_the_depthwise_sum_is_the_identity_and_three_convolutions():
    layer, x = DepthwiseSum(6), randn(2, 7, 5, 6)
    channels_first = x.permute(0, 3, 1, 2)
    expected = channels_first + sum(conv(channels_first) for conv in layer)
    torch.testing.assert_close(layer(x), expected.permute(0, 2, 3, 1))


def test_gradients_of_all_three_depthwise_kernels_are_those_of_three_convolutions():
    layer, x = DepthwiseSum(6).double(), randn(2, 7, 5, 6).double()
    weight = randn(2, 7, 5, 6).double()
    actual = torch.autograd.grad((layer(x) * weight).sum(), list(layer.parameters()))
    channels_first = x.permute(0, 3, 1, 2)
    summed = (channels_first + sum(conv(channels_first) for conv in layer)).permute(0, 2, 3, 1)
    expected = torch.autograd.grad((summed * weight).sum(), list(layer.parameters()))
    for gradient, reference in zip(actual, expected, strict=True):
        torch.testing.assert_close(gradient, reference)


def test_a_position_attends_to_its_own_sub_grid_and_to_all_of_it():
    attention, x = DownsampledAttention(16, 2), randn(1, 4, 6, 16)
    torch.nn.init.zeros_(attention.downsampler.layer.weight)
    torch.nn.init.zeros_(attention.logit_scale)
    changed = x.clone()
    changed[0, 1, 2] += 1.0  # row odd, column even
    positions = rotation(2, 3, 8, CPU)
    moved = (attention(changed, positions) != attention(x, positions)).any(-1)[0]
    assert moved.nonzero().tolist() == [[row, column] for row in (1, 3) for column in (0, 2, 4)]


def test_attention_is_the_softmax_of_scaled_cosines_in_each_sub_grid():
    attention, x = DownsampledAttention(8, 2), randn(1, 4, 6, 8)
    with torch.no_grad():
        attention.logit_scale.copy_(torch.tensor([1.0, 9.0]).view(2, 1, 1))  # the second is clamped to ln 100
    positions, mixed = rotation(2, 3, 4, CPU), torch.empty_like(x)
    z = x + attention.downsampler.layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    for a, b in product((0, 1), (0, 1)):
        q, k, v = attention.to_qkv(z[0, a::2, b::2].flatten(0, 1)).chunk(3, dim=-1)
        for head, scale in ((slice(0, 4), math.e), (slice(4, 8), 100.0)):
            turned_q, turned_k = rotate(q[:, head], positions), rotate(k[:, head], positions)
            cosines = F.cosine_similarity(turned_q[:, None], turned_k[None], dim=-1)
            mixed[0, a::2, b::2, head] = ((scale * cosines).softmax(-1) @ v[:, head]).unflatten(0, (2, 3))
    expected = attention.to_out(mixed.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(attention(x, positions), expected, rtol=0, atol=2e-4)  # 100 against exp(4.6052)


def test_saving_after_eval_saves_what_was_loaded():
    model = build(MODELS["U-DiT-tiny"], DIGITS, generator(0))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for _ in range(2):
        with torch.no_grad():
            model.eval()(torch.zeros(64, 1, 8, 8), torch.zeros(64), torch.zeros(64, dtype=torch.long))
        model.train()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
