import numpy as np
import pytest

from adaln.data.rows import Rows

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
    assert (ROWS.shape, ROWS.dtype, ROWS.ndim, len(ROWS)) == (WHOLE.shape, WHOLE.dtype, 3, 11)
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
    with pytest.raises(ValueError, match="rows differ"):
        Rows([WHOLE, WHOLE[:, :1]])
