import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adaln.data.dataset import Rows, to_model_range, to_uint8

WHOLE = np.random.default_rng(0).standard_normal((11, 3, 2)).astype(np.float16)
ROWS = Rows([WHOLE[:4], WHOLE[4:5], WHOLE[5:]])


@pytest.mark.parametrize(
    "index",
    [
        0,
        10,
        -1,
        np.int64(4),
        slice(None),
        slice(2, 9, 3),
        slice(None, None, -1),
        slice(5, 5),
        np.array([9, 0, 4, 4, -11]),
    ],
)
def test_rows_are_read_as_numpy_reads_them(index):
    np.testing.assert_array_equal(ROWS[index], WHOLE[index])
    assert ROWS[index].shape == WHOLE[index].shape


def test_rows_look_like_an_array():
    assert (ROWS.shape, ROWS.dtype, len(ROWS)) == (WHOLE.shape, WHOLE.dtype, 11)
    np.testing.assert_array_equal(np.asarray(ROWS), WHOLE)
    assert np.asarray(ROWS, dtype=np.float32).dtype == np.float32


def test_what_is_read_may_be_written_to():
    row = ROWS[3]
    row[:] = 0
    np.testing.assert_array_equal(ROWS[3], WHOLE[3])


@pytest.mark.parametrize("index", [11, -12])
def test_a_row_that_is_not_there_is_an_index_error(index):
    with pytest.raises(IndexError, match=f"row {index} of 11"):
        ROWS[index]


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"part 1: holds rows of float16 of the shape \(1, 2\); expected .* as part 0"):
        Rows([WHOLE, WHOLE[:, :1]])


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
