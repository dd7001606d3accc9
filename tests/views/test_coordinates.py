"""muP's coordinate check: flat where its start and its learning rates are together, and nowhere else."""

import pytest
import torch

from adaln.cli.coordinates import coord_check_verb, widths_of
from adaln.config import preset
from adaln.views.coordinates import RATES, Coordinates, at_width, check_coordinates

CPU = torch.device("cpu")


def slopes(scheme, **changes):
    config = preset("digits", scheme=scheme, steps=4, batch_size=16, **{"optim.lr": 1e-3, **changes})
    return [one.by_role() for one in check_coordinates(config, [32, 64, 128, 256], CPU).values()]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tiny", "DiT-LLaMA-tiny"])
def test_dit_mup_is_flat_with_its_learning_rates_and_grows_with_one_rate(model):
    one_rate, mup = slopes("dit-mup", model=model)
    for role, slope in mup.items():
        assert abs(slope.activation) < 0.25, role
        assert abs(slope.update) < 0.3, role
    assert all(one_rate[role].update > 0.35 for role in ("branch", "residual", "head"))
    assert one_rate["head"].update == pytest.approx(1, abs=0.15)


@pytest.mark.slow
def test_dits_own_start_is_not_flat_at_any_rates():
    """Xavier's patch embedder shrinks as the network widens, and times of std 0.02 grow."""
    for by_role in slopes("adaln-zero"):
        assert max(abs(slope.activation) for slope in by_role.values()) > 0.35


def test_a_slope_is_the_power_of_the_width():
    found = Coordinates([8, 16, 32], {}, {})
    assert found.slope([3 * 8**0.5, 3 * 16**0.5, 3 * 32**0.5]) == pytest.approx(0.5)
    assert found.slope([1.0, 0.0, 1.0]) == 0
    start = {("gate", "a"): [1.0, 1.0], ("gate", "b"): [1.0, 2.0]}
    both = Coordinates([8, 16], start, {("gate", "a"): [1.0, 0.25], ("gate", "b"): [1.0, 1.0]})
    assert both.by_role()["gate"].activation == pytest.approx(1) and both.by_role()["gate"].update == pytest.approx(-2)


def test_heads_keep_their_width():
    config = preset("digits", scheme="dit-mup")
    assert [at_width(config, width).model.num_heads for width in (32, 64, 256)] == [2, 4, 16]


@pytest.mark.parametrize("text", ["64", "64,64", "128,64", "a,b", "64,", "0,64"])
def test_what_are_no_widths_is_one_line(text):
    with pytest.raises(ValueError, match="expected two or more with commas between, narrowest first: 64,128,256"):
        widths_of(text)


@pytest.mark.slow
def test_the_command_leaves_a_page_with_tables_and_pictures(tmp_path):
    words = ["digits", "--scheme", "dit-mup", "--widths", "16,32", "--model.depth", "1", "--batch-size", "4"]
    output = coord_check_verb([*words, "--out", str(tmp_path)])
    assert {*output.data["slopes"]} == {*RATES}
    assert {"gate", "residual", "head"} <= {*output.data["slopes"][RATES[1]]}
    names = {file.suffix for file in tmp_path.iterdir()}
    assert {".html", ".png", ".csv"} <= names
    with pytest.raises(ValueError, match=r"expected no --optim.mup"):
        coord_check_verb([*words, "--optim.mup", "16"])
