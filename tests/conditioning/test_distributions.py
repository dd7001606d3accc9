from math import log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adaln.codec import decode, encode
from adaln.conditioning import Constant, Distribution, Normal
from adaln.conditioning.distributions import (
    DISTRIBUTIONS,
    Laplace,
    Quantiles,
    Sign,
    TruncatedNormal,
    Uniform,
    Xavier,
    quantile_levels,
    std_of,
)
from adaln.rng import generator

WITH_STD = (Normal, TruncatedNormal, Uniform, Laplace, Sign)
EXAMPLES = (
    *(Constant(0.5), Normal(1e-3), Normal(1.0, -0.5), Xavier("slice"), Quantiles((-1.0, 0.0, 0.5))),
    *(cls(2e-3) for cls in WITH_STD),
)


def draw(distribution, rows=400, columns=500, whole=(400, 500), seed=0):
    tensor = torch.empty(rows, columns)
    distribution.fill_(tensor, generator("test", seed), whole)
    return tensor


@pytest.mark.parametrize("cls", WITH_STD)
def test_the_parameter_is_the_standard_deviation_whatever_the_family(cls):
    tensor = draw(cls(1e-3))
    # the std of 200,000 draws is known to about 0.4 % (5 sigma of the heaviest-tailed family, kurtosis 6)
    assert tensor.std().item() == pytest.approx(1e-3, rel=0.013)
    assert abs(tensor.mean().item()) < 5 * 1e-3 / 200_000**0.5


def test_families_differ_in_shape():
    kurtosis = {cls: ((t := draw(cls(1.0))) ** 4).mean().item() / t.var().item() ** 2 for cls in WITH_STD}
    assert kurtosis[Sign] == pytest.approx(1, abs=0.01)
    assert kurtosis[Uniform] == pytest.approx(1.8, abs=0.05)
    assert kurtosis[Normal] == pytest.approx(3, abs=0.1)
    assert kurtosis[Laplace] == pytest.approx(6, abs=0.4)
    assert draw(TruncatedNormal(1.0)).abs().max() <= 2 / 0.8796


def test_xavier_over_the_fused_matrix_is_narrower_than_over_the_slice():
    width = 96
    fused, sliced = (
        draw(Xavier(over), width, width, (6 * width, width)).abs().max().item() for over in ("matrix", "slice")
    )
    assert fused == pytest.approx((6 / (7 * width)) ** 0.5, rel=1e-3)
    assert sliced == pytest.approx((6 / (2 * width)) ** 0.5, rel=1e-3)
    assert sliced / fused == pytest.approx(1.87, abs=0.01)


def test_quantiles_are_drawn_back_with_the_std_they_say():
    skewed = Quantiles((-1.0, -0.9, -0.5, 0.0, 3.0))
    tensor = draw(skewed)
    levels = torch.quantile(tensor[:100].flatten(), torch.tensor(quantile_levels(5)))
    assert levels.tolist() == pytest.approx(skewed.values, abs=0.02)
    assert tensor.std().item() == pytest.approx(std_of(skewed, 400, (400, 500)), rel=0.01)
    assert Quantiles((-1.0, 1.0)).std == pytest.approx(3**-0.5)  # uniform


def test_quantiles_of_a_long_tail_keep_its_weight():
    exponential = [-log(1 - level) for level in quantile_levels(257)[:-1]]
    drawn = draw(Quantiles((*exponential, 12.0)))
    assert ((drawn - 1) ** 4).mean() / drawn.var() ** 2 == pytest.approx(9, rel=0.1)


def test_fan_power_scales_with_the_width():
    assert draw(Normal(1.0, -0.5), whole=(6, 400)).std().item() == pytest.approx(1 / 20, rel=0.01)


@given(st.sampled_from(EXAMPLES), st.integers(0, 3))
def test_a_draw_depends_on_the_seed_alone(distribution, seed):
    assert torch.equal(draw(distribution, 3, 4, (18, 4), seed), draw(distribution, 3, 4, (18, 4), seed))


def test_no_global_generator_is_used():
    before = torch.get_rng_state()
    for distribution in EXAMPLES:
        draw(distribution, 3, 4, (18, 4))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("distribution", EXAMPLES)
def test_dictionaries_round_trip(distribution):
    row = encode(distribution)
    assert row["kind"] in DISTRIBUTIONS
    assert decode(Distribution, row) == distribution


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"kind": "norml", "std": 1e-3}, "nearest: 'normal'"),
        ({"kind": "normal", "sdt": 1e-3}, "unknown field 'sdt'.*known: std, fan_power"),
        ({"kind": "normal"}, "lacks std"),
        ({"kind": "normal", "std": -1.0}, "expected a number >= 0"),
        ({"kind": "normal", "std": float("nan")}, "not finite"),
        ({"kind": "normal", "std": "wide"}, "std is 'wide'; expected a number"),
        ({"kind": "xavier", "over": "rows"}, "over is 'rows'; expected 'matrix' or 'slice'"),
        ({"std": 1e-3}, "expected a table with a kind: constant, normal"),
        ({"kind": "quantiles", "values": [0.0, "x"]}, "values is 'x'; expected a number"),
        ({"kind": "quantiles", "values": [1.0, 0.0]}, "do not fall"),
    ],
)
def test_a_wrong_row_is_named_in_one_line(row, said):
    with pytest.raises(ValueError, match=said) as error:
        decode(Distribution, row)
    assert "\n" not in str(error.value)
