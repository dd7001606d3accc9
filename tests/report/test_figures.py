import base64
import json
from dataclasses import replace

import numpy as np
import pytest

from adaln.codec import json_text
from adaln.report import Axis, Group, Histograms, Intervals, Lines, Matrix, Ridge, Series
from helpers.report_samples import FIGURES


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_without_a_caption_is_refused(name):
    with pytest.raises(ValueError, match="no caption"):
        replace(FIGURES[name], caption=" ")


@pytest.mark.parametrize("name", FIGURES)
def test_json_of_a_figure_is_strict_and_whole(name):
    data = json.loads(json_text(FIGURES[name]), parse_constant=pytest.fail)
    assert data["kind"] == type(FIGURES[name]).__name__
    assert data["caption"] == FIGURES[name].caption


def test_images_come_back_from_json_bit_for_bit():
    data = json.loads(json_text(FIGURES["images"]))["images"]
    pixels = np.frombuffer(base64.b64decode(data["base64"]), data["dtype"]).reshape(data["shape"])
    np.testing.assert_array_equal(pixels, FIGURES["images"].images)


def test_a_value_that_a_log_axis_cannot_show_is_refused():
    with pytest.raises(ValueError, match=r"'a' has 0 on the log axis 'step'; expected > 0, or scale 'symlog'"):
        Lines("T", "c", Axis("step", scale="log"), Axis("y"), [Series("a", [0, 1], [1, 2])])
    with pytest.raises(ValueError, match=r"'g' has -1 on the log axis"):
        Intervals("T", "c", Axis("v", scale="log"), ["a"], [Group("g", [-1])])
    with pytest.raises(ValueError, match="expected 'symlog'"):
        Histograms("T", "c", Axis("x", scale="log"), [])


def test_parts_that_do_not_fit_each_other_are_refused():
    with pytest.raises(ValueError, match="3 values of y; expected 2"):
        Series("a", [1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="one end of its band"):
        Series("a", [1], [1], low=[0])
    with pytest.raises(ValueError, match="expected one for each of the 2 categories"):
        Intervals("T", "c", Axis("v"), ["a", "b"], [Group("g", [1])])
    with pytest.raises(ValueError, match="2 edges; expected 3"):
        Ridge("r", [0, 1], [1, 2])
    with pytest.raises(ValueError, match="may not fall"):
        Ridge("r", [1, 0], [1])
    with pytest.raises(ValueError, match="counts must be finite and >= 0"):
        Ridge("r", [0, 1], [float("nan")])
    with pytest.raises(ValueError, match="expected 1 rows of 2"):
        Matrix("T", "c", ["r"], ["a", "b"], [[1]])
    with pytest.raises(ValueError, match="3 row labels; expected 2"):
        replace(FIGURES["images"], row_labels=["a", "b", "c"])
    with pytest.raises(ValueError, match="images of 4 channels"):
        replace(FIGURES["images"], images=np.zeros((2, 2, 4, 4, 4), np.uint8))
