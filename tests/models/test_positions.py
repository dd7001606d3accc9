"""Position rules against plain arithmetic, token by token, on grids that are not square."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from adaln.models.positions import rotate, rotation, sincos_table
from adaln.rng import generator

CPU = torch.device("cpu")


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
