import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaln.data import open_source
from adaln.data.numbers import numbered, whole_number
from helpers.pictures import pixels, png, write_zip

NO_NUMBER = [1.7, "3", "1_0", " 3", True, False, None, [1], [1.0, 0.0], {}, float("nan"), float("inf"), -1, -1.0]


@pytest.mark.parametrize("value", NO_NUMBER)
def test_what_is_no_whole_number_by_type_is_refused_with_the_pictures_name(tmp_path, value):
    files = {"a.png": png(pixels(0)), "b.png": png(pixels(1))}
    content = json.dumps({"labels": [["a.png", value], ["b.png", 0]]}).encode()
    with pytest.raises(ValueError, match=r"dataset\.json: class .* of 'a\.png'; expected a whole number") as error:
        open_source(write_zip(tmp_path / "set.zip", files | {"dataset.json": content}))
    assert "\n" not in str(error.value)


@given(st.integers(0, 10**9), st.booleans())
def test_whole_numbers_are_classes_as_integers_and_as_floats(number, as_float):
    assert whole_number(float(number) if as_float else number, "x") == number


@pytest.mark.parametrize("number", [10**5, 10**9, 2**63, 10**300])
def test_a_number_that_is_no_class_of_so_small_a_set_is_refused_at_once(number):
    with pytest.raises(ValueError, match="of 'row 1' is no class number of a set of 2 pictures"):
        numbered([0, number], "row {}".format)
    assert len(numbered([0, 99_999], "row {}".format)[1]) == 100_000
