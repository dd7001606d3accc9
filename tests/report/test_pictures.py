import base64
import io
import re
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from adaln.report import (
    Axis,
    Group,
    Histograms,
    ImageGrid,
    Intervals,
    Lines,
    Matrix,
    Measurement,
    Panel,
    Ridge,
    Series,
    picture,
    write_figure,
)
from adaln.report.axes import ShortTicks, scale_axis, tick_text
from adaln.report.draw import draw
from adaln.report.palette import BETTER, LIGHT, NARROW, WORSE
from adaln.report.ridgelines import RIDGE_HEIGHT
from helpers.report_samples import FIGURES, bell

NAN = float("nan")
STEP = Axis("step", "steps")
EDGES = {
    "no series": Lines("T", "c", STEP, Axis("y"), []),
    "an empty series": Lines("T", "c", STEP, Axis("y"), [Series("a", [], [])]),
    "one point": Lines("T", "c", replace(STEP, scale="symlog"), Axis("y", scale="log"), [Series("a", [0], [3])]),
    "nothing but gaps": Lines("T", "c", STEP, Axis("y", scale="log"), [Series("a", [1, 2], [None, NAN])]),
    "one y for all": Lines("T", "c", STEP, Axis("y", scale="symlog"), [Series("a", [1, 2], [0, 0])]),
    "infinities": Lines("T", "c", STEP, Axis("y"), [Series("a", [1, 2, 3], [1, float("inf"), 2])]),
    "forty names": Lines("T", "c", STEP, Axis("y"), [Series(f"scheme {i}", [1, 2], [i, i + 1]) for i in range(40)]),
    "no categories": Intervals("T", "c", Axis("v"), [], [Group("g", [])]),
    "no groups": Intervals("T", "c", Axis("v"), ["a"], []),
    "gaps only": Intervals("T", "c", Axis("v"), ["a"], [Group("g", [None])], bars=True),
    "bars": Intervals("T", "c", Axis("v"), ["a", "b"], [Group("g", [2, -1])], bars=True),
    "no panels": Histograms("T", "c", Axis("x", scale="symlog"), []),
    "an empty panel": Histograms("T", "c", Axis("x"), [Panel("p", [])]),
    "empty histograms": Histograms("T", "c", Axis("x", scale="symlog"), [Panel("p", [Ridge("r", [0, 1], [0])])]),
    "all values equal": Histograms("T", "c", Axis("x"), [Panel("p", [Ridge("r", [3, 3], [9])])]),
    "all values zero": Histograms("T", "c", Axis("x", scale="symlog"), [Panel("p", [Ridge("r", [0, 0], [9])] * 3)]),
    "tiny and huge": Histograms("T", "c", Axis("x", scale="symlog"), [Panel("p", [bell(1e-12), bell(1e9)])] * 4),
    "no images": ImageGrid("T", "c", np.zeros((0, 3, 8, 8, 1), np.uint8)),
    "large colour images": ImageGrid("T", "c", np.zeros((1, 2, 200, 100, 3), np.uint8)),
    "an empty matrix": Matrix("T", "c", [], [], []),
    "a matrix of gaps": Matrix("T", "c", ["r"], ["a", "b"], [[None, NAN]]),
    "signs that formulas use": Lines("$x_1$ & <b>", "c", Axis("$", "%"), Axis("\\alpha_"), [Series("_a$b$", [1], [1])]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EDGES)
def test_an_edge_case_is_drawn_without_a_warning(name):
    assert picture(EDGES[name], "png").startswith(b"\x89PNG")
    ElementTree.fromstring(picture(EDGES[name], "svg"))


@pytest.mark.parametrize(
    ("name", "format"), [*((name, "svg") for name in FIGURES), ("lines", "pdf"), ("images", "png")]
)
def test_the_same_data_give_the_same_bytes_whatever_matplotlib_is_set_to(name, format):
    first = picture(FIGURES[name], format)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": None}):
        assert picture(FIGURES[name], format) == first
        assert matplotlib.rcParams["font.size"] == 30


def test_pictures_lie_beside_their_data_under_the_same_stem(tmp_path):
    paths = write_figure(FIGURES["matrix"], tmp_path / "new" / "std-0.001")
    assert [path.name for path in paths] == [f"std-0.001.{suffix}" for suffix in ("png", "pdf", "svg", "json")]
    assert sorted(paths) == sorted((tmp_path / "new").iterdir())


def test_dark_pictures_are_dark_and_light_ones_light():
    corners = [
        Image.open(io.BytesIO(picture(FIGURES["lines"], dark=dark))).getpixel((0, 0))[0] for dark in (True, False)
    ]
    assert corners[0] < 40
    assert corners[1] == 255


def test_importing_the_room_loads_neither_matplotlib_nor_rich_nor_torch():
    code = "import sys, adaln.report; print([m for m in ('matplotlib', 'rich', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_drawing_never_loads_pyplot():
    code = (
        "import sys; from adaln.report import Matrix, picture; picture(Matrix('T', 'c', ['r'], ['a'], [[1]]));"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_pixels_are_enlarged_but_never_smoothed():
    pixels = np.array([[0, 255], [90, 7]], np.uint8).reshape(1, 1, 2, 2, 1)
    svg = picture(ImageGrid("T", "c", pixels), "svg").decode()
    data = base64.b64decode(re.search(r"base64,([^\"]+)", svg)[1])
    mosaic = np.array(Image.open(io.BytesIO(data)).convert("RGBA"))
    opaque = mosaic[mosaic[..., 3] == 255]
    assert set(map(tuple, opaque.tolist())) == {(v, v, v, 255) for v in (0, 255, 90, 7)}
    assert len(opaque) >= 64 * 64


def tops_of(histograms):
    """Per ridge of the first panel: heights of its bins above its floor, first ridge first."""
    ax = draw(histograms, LIGHT, titled=False).axes[0]
    drawn = [patch.get_data() for patch in ax.patches]
    return [np.asarray(data.values) - data.baseline for data in drawn][::-1]


@pytest.mark.parametrize(("better", "colours"), [("below", (BETTER, WORSE)), ("above", (WORSE, BETTER))])
def test_an_interval_on_one_side_of_zero_has_the_colour_of_its_verdict(better, colours):
    values = [Measurement(-2, -3, -1), Measurement(2, 1, 3), Measurement(0, -1, 1)]
    figure = Intervals("T", "c", Axis("change"), ["a", "b", "c"], [Group("g", values, [[-2], [2], [0]])], better=better)
    [ax] = draw(figure, LIGHT, titled=False).axes
    found = [to_hex(colour) for colour in ax.collections[0].get_colors()]
    assert found == [LIGHT.series[colours[0]], LIGHT.series[colours[1]], LIGHT.muted]


def test_small_multiples_share_their_axes_and_cut_the_widest_bands():
    steps = [1, 2, 3, 4]
    series = [Series(name, steps, [-1, -1, 0, 1], [-900, -2, -1, 0], [900, 0, 1, 2]) for name in "abcde"]
    figure = Lines("T", "c", Axis("step"), Axis("difference"), series, apart=True)
    axes = [ax for ax in draw(figure, LIGHT, titled=False).axes if ax.get_visible()]
    assert [ax.get_title(loc="left") for ax in axes] == list("abcde")
    assert (
        len({ax.get_ylim() for ax in axes}) == 1 and -20 < axes[0].get_ylim()[0] < -1 < 1 < axes[0].get_ylim()[1] < 20
    )


def test_curves_of_one_panel_are_drawn_together():
    names = ("a one", "a two", "b one")
    figure = Lines("T", "c", Axis("x"), Axis("y"), [Series(n, [1, 2], [1, 2], panel=n[0]) for n in names], apart=True)
    axes = [ax for ax in draw(figure, LIGHT, titled=False).axes if ax.get_visible()]
    assert [ax.get_title(loc="left") for ax in axes] == ["a", "b"]
    assert [[text.get_text() for text in ax.get_legend().get_texts()] for ax in axes[:1]] == [["one", "two"]]
    assert axes[1].get_legend() is None


def test_ticks_have_as_many_digits_as_tell_them_apart():
    assert ShortTicks().format_ticks([1.3112, 1.3114, 1.3116]) == ["1.3112", "1.3114", "1.3116"]
    assert ShortTicks().format_ticks([0.1, 0.2]) == ["0.1", "0.2"]


def test_what_is_drawn_for_a_narrow_screen_is_narrow():
    for name in ("lines", "intervals", "histograms"):
        assert draw(FIGURES[name], LIGHT, titled=False, width=NARROW).get_figwidth() == NARROW, name


def test_values_that_no_order_connects_are_points_alone():
    x, y = list(range(1, 40)), [1.0] * 39
    figure = Lines("T", "c", Axis("x"), Axis("y"), [Series("curve", x, y), Series("cloud", x, y, joined=False)])
    curve, cloud = draw(figure, LIGHT, titled=False).axes[0].lines
    assert curve.get_linestyle() != "None" and cloud.get_linestyle() == "None"
    assert cloud.get_markevery() == 1


def test_a_bell_stays_a_bell_on_a_symlog_axis():
    panel = Panel("p", [bell(1e-3), bell(1e-2), bell(1e-1)])
    for tops in tops_of(Histograms("T", "c", Axis("x", scale="symlog"), [panel])):
        peak = int(tops.argmax())
        assert tops.max() == pytest.approx(RIDGE_HEIGHT)
        assert (np.diff(tops[: peak + 1]) >= -1e-3).all()
        assert (np.diff(tops[peak:]) <= 1e-3).all()


def test_a_wider_bell_is_drawn_wider():
    panel = Panel("p", [bell(1e-3), bell(3e-3)])
    canvas = draw(Histograms("T", "c", Axis("x"), [panel]), LIGHT, titled=False)
    halves = []
    for patch in canvas.axes[0].patches[::-1]:
        values, edges, floor = patch.get_data()
        halves.append(np.ptp(edges[:-1][np.asarray(values) - floor > RIDGE_HEIGHT / 2]))
    assert halves[1] > 2 * halves[0]


def test_a_spike_is_as_high_as_its_share():
    ridge = Ridge("r", [-1, 0, 0, 1], [30, 40, 30])
    ax = draw(Histograms("T", "c", Axis("x"), [Panel("p", [ridge])]), LIGHT, titled=False).axes[0]
    (segment,) = next(c for c in ax.collections if len(c.get_segments())).get_segments()
    np.testing.assert_allclose(segment, [[0, 0], [0, 0.4 * RIDGE_HEIGHT]])


def test_matrix_strength_follows_size_and_hue_follows_sign():
    ax = draw(Matrix("T", "c", ["r"], list("abcd"), [[-4, 0, 2, None]]), LIGHT, titled=False).axes[0]
    alphas = [patch.get_alpha() for patch in ax.patches]
    assert alphas[0] > alphas[2] > alphas[1] > alphas[3] == 0
    assert len({patch.get_facecolor()[:3] for patch in ax.patches[:2]}) == 2


def test_ticks_of_a_symlog_axis_stand_apart_and_hold_zero():
    ax = draw(EDGES["no series"], LIGHT, titled=False).axes[0]
    scale_axis(ax, "x", Axis("x", scale="symlog", linear_below=1e-9), np.array([-1, 1e-9, 1e3]), sharing=3)
    ticks = ax.get_xticks()
    places = ax.xaxis.get_transform().transform(ticks)
    assert 0 in ticks
    assert np.diff(places).min() >= 0.18 * np.ptp(ax.xaxis.get_transform().transform([-1, 1e3])) - 1e-9
    assert [tick_text(t) for t in (ticks[0], ticks[-1])] == ["−1", "1K"]
