"""Shared parts against their formulas."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from adaln.models import DiTConfig, build, layers
from adaln.models.dit import SwiGLU
from adaln.models.dit_config import LLaMAConfig
from adaln.models.layers import (
    Attention,
    InferenceMlp,
    Mlp,
    PatchEmbedder,
    attended,
    fuse_for_inference,
    gelu,
    rotate,
    rotation,
    sincos_table,
    timestep_features,
    unpatchify,
)
from adaln.models.network import check_inputs
from adaln.rng import generator
from adaln.types import DataSpec
from helpers.networks import DIGITS

CPU = torch.device("cpu")


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=generator("layers", seed))


@pytest.mark.parametrize("t", [0, 0.25, 1, 500.5, 999])
def test_time_features_are_all_cosines_then_all_sines(t: float):
    features = timestep_features(torch.tensor([t]))[0]
    angles = [t * 10_000 ** (-i / 128) for i in range(128)]
    expected = torch.tensor([math.cos(angle) for angle in angles] + [math.sin(angle) for angle in angles])
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-4)  # float32 frequencies times 999


def test_integer_and_real_times_are_the_same_times():
    assert torch.equal(timestep_features(torch.tensor([0, 7, 999])), timestep_features(torch.tensor([0.0, 7.0, 999.0])))


def test_patches_become_tokens_as_by_a_strided_convolution():
    embedder, x = PatchEmbedder(3, 16, 4), randn(2, 3, 8, 12)
    expected = F.conv2d(x, embedder.proj.weight, embedder.proj.bias, stride=4).flatten(2).transpose(1, 2)
    torch.testing.assert_close(embedder(x), expected)


def test_tokens_become_pixels_by_row_column_and_channel():
    grid, patch, channels = (2, 3), 2, 5
    image = randn(1, channels, 4, 6)
    tokens = torch.empty(1, 6, patch * patch * channels)
    for token in range(6):
        for feature in range(patch * patch * channels):
            pixel, channel = divmod(feature, channels)
            row, column = token // 3 * patch + pixel // patch, token % 3 * patch + pixel % patch
            tokens[0, token, feature] = image[0, channel, row, column]
    assert torch.equal(unpatchify(tokens, grid, patch, channels), image)
    assert torch.equal(unpatchify(tokens, grid, patch, 2), image[:, :2])


def test_attention_is_softmax_of_scaled_products_head_by_head():
    attention, x = Attention(8, num_heads=2), randn(1, 5, 8)
    q, k, v = attention.qkv(x)[0].chunk(3, dim=-1)
    heads = [(q[:, h] @ k[:, h].T / math.sqrt(4)).softmax(-1) @ v[:, h] for h in (slice(0, 4), slice(4, 8))]
    torch.testing.assert_close(attention(x, None)[0], attention.proj(torch.cat(heads, dim=-1)))


@pytest.mark.parametrize(("num_tokens", "bound"), [(64, 0.02), (257, 0.01)])
def test_attention_in_bfloat16_is_attention_up_to_its_rounding(num_tokens: int, bound: float):
    qkv = randn(3, 2, 4, num_tokens, 64).bfloat16().double().requires_grad_()
    rounded = qkv.detach().bfloat16().requires_grad_()
    exact, found = attended(*qkv), attended(*rounded)
    assert found.dtype == torch.bfloat16
    towards = randn(*exact.shape, seed=1).bfloat16()
    exact.backward(towards.double())
    found.backward(towards)
    for ours, expected in ((found, exact), (rounded.grad, qkv.grad)):
        assert 0 < (ours.double() - expected).norm() < bound * expected.norm()


def test_plain_products_cost_a_network_no_precision_beside_the_fused_kernel(monkeypatch: pytest.MonkeyPatch):
    model = build(DiTConfig(128, 3, 2, 2), DataSpec(4, 32, 32, 0), generator("layers", "attended"))
    for parameter in model.parameters():
        parameter.data += 0.05 * randn(*parameter.shape)
    x, t, towards = randn(2, 4, 32, 32), torch.tensor([30.0, 700.0]), randn(2, 8, 32, 32, seed=1)

    def numbers(rounded: bool) -> torch.Tensor:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=rounded):
            output = model(x, t, None).float()
        output.backward(towards)
        return torch.cat([output.detach().flatten(), *(p.grad.flatten() for p in model.parameters())])

    exact, plain = numbers(rounded=False), numbers(rounded=True)
    monkeypatch.setattr(layers, "attended", F.scaled_dot_product_attention)
    fused = numbers(rounded=True)
    assert not torch.equal(plain, fused)
    assert (plain - exact).norm() < 1.05 * (fused - exact).norm()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_gelu_is_one_function_compiled_or_not(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64).to(dtype).requires_grad_()
    plain = gelu(x)
    (slope,) = torch.autograd.grad(plain.sum(), x)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    compiled = gelu(x)
    tolerance = {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {}
    torch.testing.assert_close(compiled, plain, **tolerance)
    torch.testing.assert_close(torch.autograd.grad(compiled.sum(), x)[0], slope, **tolerance)


def test_an_mlp_that_only_infers_gives_the_same_and_can_be_differentiated_all_the_same():
    mlp, x = Mlp(12, 40), randn(3, 5, 12)
    expected, names = mlp(x), list(mlp.state_dict())
    fuse_for_inference(mlp)
    with torch.no_grad():
        torch.testing.assert_close(mlp(4 * x), Mlp.forward(mlp, 4 * x))
    assert torch.equal(mlp(x), expected) and mlp(x).requires_grad
    assert type(mlp) is InferenceMlp and list(mlp.state_dict()) == names


def test_swiglu_gates_by_its_first_map_and_has_no_biases():
    mlp, x = SwiGLU(8, LLaMAConfig(8, 1, 1, 1).mlp_width), randn(1, 5, 8)
    gate, value, down = mlp.c_fc1.weight, mlp.c_fc2.weight, mlp.c_proj.weight
    assert sum(p.numel() for p in mlp.parameters()) == 3 * 8 * 256
    torch.testing.assert_close(mlp(x), (F.silu(x @ gate.T) * (x @ value.T)) @ down.T)


@pytest.mark.parametrize(("t", "y", "message"), [(1, 3, r"t of shape \(1,\)"), (3, 2, r"y of shape \(2,\)")])
def test_times_and_labels_are_one_per_sample(t: int, y: int, message: str):
    x, spec = torch.zeros(3, 1, 8, 8), DIGITS
    with pytest.raises(ValueError, match=rf"got {message}, expected \(3,\): one per sample"):
        check_inputs(x, torch.zeros(t), torch.zeros(y, dtype=torch.long), spec, num_labels=11)


# Positions, token by token, on grids that are not square


def test_the_added_table_is_sines_and_cosines_of_the_column_then_of_the_row():
    height, width, dim = 3, 5, 12
    table = sincos_table(height, width, dim)
    assert table.shape == (1, height * width, dim)
    waves = [10_000 ** (-j / 3) for j in range(3)]
    for row in range(height):
        for column in range(width):
            quarters = ((math.sin, column), (math.cos, column), (math.sin, row), (math.cos, row))
            expected = torch.tensor([f(position * w) for f, position in quarters for w in waves])
            torch.testing.assert_close(table[0, row * width + column], expected, rtol=0, atol=1e-7)


def test_channel_pairs_turn_by_column_and_row_in_turn():
    height, width, head_dim = 2, 3, 8
    angles = rotation(height, width, head_dim, CPU)
    assert angles.cos.shape == angles.sin.shape == (height * width, head_dim // 2)
    for row in range(height):
        for column in range(width):
            expected = [position * 10_000 ** (-4 * i / head_dim) for i in range(2) for position in (column, row)]
            token = row * width + column
            torch.testing.assert_close(angles.sin[token], torch.tensor(expected).sin(), rtol=0, atol=1e-6)
            torch.testing.assert_close(angles.cos[token], torch.tensor(expected).cos(), rtol=0, atol=1e-6)


def test_rotation_turns_adjacent_pairs():
    x = torch.tensor([[1.0, 0.0, 0.0, 2.0]] * 2)  # two tokens in one row
    turned = rotate(x, rotation(1, 2, 4, CPU))
    assert torch.equal(turned[0], x[0])
    expected = torch.tensor([math.cos(1), math.sin(1), 0.0, 2.0])  # the row is 0: its pair stays
    torch.testing.assert_close(turned[1], expected)


@given(st.integers(0, 3), st.integers(0, 3))
def test_rotated_products_depend_on_the_distance_alone(down: int, right: int):
    q, k = torch.randn(2, 8, generator=generator("q, k"), dtype=torch.float64).unbind()
    angles = rotation(8, 8, 8, CPU)
    turned_q, turned_k = (rotate(vector.expand(64, 8), angles).view(8, 8, 8) for vector in (q, k))
    near = turned_q[0, 0] @ turned_k[down, right]
    far = turned_q[4, 2] @ turned_k[4 + down, 2 + right]
    torch.testing.assert_close(near, far, rtol=0, atol=1e-5)


def test_rotation_computes_in_float32_and_returns_the_input_type():
    x = torch.randn(6, 8, generator=generator("x"))
    angles = rotation(2, 3, 8, CPU)
    turned = rotate(x.bfloat16(), angles)
    assert turned.dtype == torch.bfloat16
    assert torch.equal(turned, rotate(x.bfloat16().float(), angles).bfloat16())
