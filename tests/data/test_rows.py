import numpy as np
import pytest

from adaln.data.rows import Rows
from adaln.data.spans import Stretch, map_side_by_side

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


def stretches(tmp_path, begins=(4096, 8192, 0), lengths=(4, 1, 6)):
    for number, (begin, part) in enumerate(zip(begins, np.split(WHOLE, np.cumsum(lengths)[:-1]), strict=True)):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(b"x" * begin + part.tobytes() + b"yyy")
        yield Stretch(path, begin, len(part))


@pytest.mark.parametrize("index", [3, np.array([9, 0, 4, 4, -11, 10, 3, 5]), slice(None)])
def test_files_side_by_side_are_read_as_one_array(tmp_path, index):
    whole, slot_rows = map_side_by_side(list(stretches(tmp_path)), (3, 2), np.float16)
    parts = [whole[slot_rows * k :][:length] for k, length in enumerate((4, 1, 6))]
    np.testing.assert_array_equal(Rows(parts, whole, slot_rows)[index], WHOLE[index])


def test_files_side_by_side_cannot_be_written_to(tmp_path):
    whole, _ = map_side_by_side(list(stretches(tmp_path)), (3, 2), np.float16)
    with pytest.raises(ValueError, match="read-only"):
        whole[0] = 0


def test_files_that_do_not_begin_at_a_page_are_not_mapped_side_by_side(tmp_path):
    assert map_side_by_side(list(stretches(tmp_path, (4096, 100, 0))), (3, 2), np.float16) is None


def test_a_file_that_cannot_be_mapped_is_named(tmp_path):
    _, *others = stretches(tmp_path)
    gone = Stretch(tmp_path / "gone.bin", 0, 4)
    with pytest.raises(OSError, match=r"gone\.bin"):
        map_side_by_side([gone, *others], (3, 2), np.float16)
