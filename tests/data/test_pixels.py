import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from adaln.data import to_model_range, to_uint8


def test_every_byte_survives_the_round_trip():
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_model_range(values)), values)


def test_the_range_is_minus_one_to_one():
    assert to_model_range(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]


@given(st.floats(-3, 3, width=32))
def test_samples_are_clamped_and_truncated_as_published(x):
    shifted = np.float32(127.5) * np.float32(x) + np.float32(128.0)
    assert to_uint8(torch.tensor([x])).item() == int(min(max(shifted, 0.0), 255.0))


def test_a_nan_is_black_rather_than_undefined():
    assert to_uint8(torch.tensor([float("nan")])).item() == 0
