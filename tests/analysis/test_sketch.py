from dataclasses import fields
from math import nan

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from adaln.analysis.sketch import (
    CHUNK_ELEMENTS,
    Sketch,
    lattice_values,
    merged,
    nearest_cells,
    resized,
    sketch,
    sketches,
)
from adaln.rng import generator

FLOATS = st.lists(st.floats(width=32), max_size=40).map(lambda xs: torch.tensor(xs, dtype=torch.float32))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator("sketch test", seed))


def assert_same(a: Sketch, b: Sketch, rtol: float) -> None:
    spread = max(abs(a.low), abs(a.high)) if a.count else 0.0
    for field in fields(Sketch):
        mine, theirs = getattr(a, field.name), getattr(b, field.name)
        power = {"mean": 1, "m2": 2, "m3": 3, "m4": 4}.get(field.name)
        if power:
            np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=rtol * a.count * spread**power)
        else:
            np.testing.assert_array_equal(mine, theirs)


@settings(deadline=None, max_examples=60)
@given(FLOATS, FLOATS, FLOATS)
def test_sketches_add_up_in_any_grouping_to_the_sketch_of_everything(a, b, c):
    whole = sketch(torch.cat([a, b, c]))
    assert_same(sketch(a) + (sketch(b) + sketch(c)), whole, rtol=1e-12)
    assert_same((sketch(c) + sketch(a)) + sketch(b), whole, rtol=1e-12)


@settings(deadline=None)
@given(FLOATS)
def test_every_element_is_counted_exactly_once(values):
    of = sketch(values)
    assert of.count + of.nans + of.infs == values.numel()
    assert of.counts.sum() == of.count
    assert of.nans == int(values.isnan().sum())
    assert of.infs == int(values.isinf().sum())
    assert of.zeros == int((values == 0).sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@settings(deadline=None)
@given(
    st.integers(0, 30).flatmap(lambda n: st.lists(st.lists(st.floats(width=32), min_size=n, max_size=n), max_size=5))
)
def test_rows_are_sketched_as_each_is(dtype, rows):
    stored = torch.tensor(rows, dtype=torch.float32).reshape(len(rows), -1 if rows and rows[0] else 0).to(dtype)
    for one, row in zip(sketches(stored), stored, strict=True):
        assert_same(one, sketch(row), rtol=1e-12)


def test_rows_of_any_spread_are_sketched_as_each_is():
    spread = torch.tensor([1e-30, 1e-3, 0.0, 1.0, 1e30])[:, None]
    rows = spread * normal(5, 60_000) + torch.tensor([0.0, 0.0, 3.0, 5.0, 0.0])[:, None]
    rows[1, :100] = 0.0
    for one, row in zip(sketches(rows), rows, strict=True):
        assert_same(one, sketch(row), rtol=1e-12)
    assert [one.std == 0 for one in sketches(rows)] == [False, False, True, False, False]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@settings(deadline=None)
@given(FLOATS)
def test_a_type_of_16_bits_is_sketched_as_its_values_are_in_float32(dtype, values):
    stored = values.to(dtype)
    assert_same(sketch(stored), sketch(stored.float()), rtol=1e-12)


@settings(deadline=None)
@given(FLOATS)
def test_each_value_lies_in_its_cell(values):
    for value in values[values.isfinite()]:
        (cell,) = sketch(value.reshape(1)).cells
        low, high = lattice_values(np.array([cell, cell + 1]))
        assert low <= float(value) <= high
        assert (float(value) < high) if cell >= 0 else (low < float(value))


@given(st.integers(-0x7F80, 0x7F80))
def test_lattice_points_are_their_own_nearest(cell):
    expected = min(abs(cell), 0x7F80) * (1 if cell > 0 else -1)
    assert nearest_cells(lattice_values(np.array([cell])))[0] == expected


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [
        *((dtype, scale) for dtype in (torch.float64, torch.float32, torch.bfloat16) for scale in (1e-30, 1e-3, 1e30)),
        (torch.float16, 1.0),
    ],
)
def test_moments_are_exact_at_every_scale_and_dtype(dtype, scale):
    values = (scale * (normal(3 * CHUNK_ELEMENTS // 2) ** 3 + 0.3)).to(dtype)
    of, exact = sketch(values), values.float().double().numpy()
    assert of.mean == pytest.approx(exact.mean(), rel=1e-12)
    assert of.std == pytest.approx(exact.std(), rel=1e-12)
    assert of.m3 / of.count / of.std**3 == pytest.approx(stats.skew(exact), rel=1e-9)
    assert of.m4 / of.count / of.std**4 == pytest.approx(stats.kurtosis(exact, fisher=False), rel=1e-9)
    assert (of.low, of.high) == (exact.min(), exact.max())


def test_moments_survive_a_mean_far_above_the_spread():
    values = 1e4 + normal(100_000)
    assert sketch(values).std == pytest.approx(float(values.double().std(correction=0)), rel=1e-10)


@pytest.mark.parametrize("constant", [0.0, 1.0, -0.3, 1e-12, 3e38])
def test_a_constant_has_a_spread_of_exactly_zero_even_when_merged(constant):
    of = sketch(torch.full((CHUNK_ELEMENTS + 5,), constant)) + sketch(torch.full((3,), constant))
    assert (of.m2, of.m3, of.m4) == (0.0, 0.0, 0.0)
    assert of.low == of.high == of.mean == torch.tensor(constant).item()


def test_float64_is_read_as_float32():
    of = sketch(torch.tensor([1e300, -1e300, 1e-320, nan], dtype=torch.float64))
    assert (of.count, of.nans, of.infs, of.zeros) == (1, 1, 2, 1)


def test_quantiles_are_right_to_a_cell():
    values = normal(200_000)
    levels = np.array([0.0, 0.001, 0.25, 0.5, 0.75, 0.999, 1.0])
    exact = np.quantile(values.numpy(), levels)
    np.testing.assert_allclose(sketch(values).quantiles(levels), exact, rtol=1 / 128, atol=1e-4)


def test_a_view_of_rows_gives_what_its_copy_gives():
    whole = normal(60, 7)
    assert_same(sketch(whole[10:20]), sketch(whole[10:20].clone()), rtol=0)
    assert_same(sketch(whole.T), sketch(whole.T.contiguous()), rtol=0)


@settings(max_examples=50)
@given(st.lists(FLOATS, max_size=4))
def test_many_merged_at_once_are_their_sum(several: list[torch.Tensor]) -> None:
    sketches = [sketch(values) for values in several]
    assert_same(merged(sketches), sum(sketches, Sketch()), rtol=1e-9)


def test_a_resized_sketch_is_distributed_alike() -> None:
    values = normal(4096)
    values[:40], values[40:48] = 0.0, nan
    of = sketch(values)
    for share in (0.25, 3):
        smaller = resized(of, round(4096 * share))
        assert (smaller.count, smaller.nans, smaller.zeros) == (round(4088 * share), 8 * share, 40 * share)
        assert int(smaller.counts.sum()) == smaller.count and (smaller.low, smaller.high) == (of.low, of.high)
        assert (smaller.mean, smaller.std) == pytest.approx((of.mean, of.std), rel=1e-9)
        np.testing.assert_allclose(
            smaller.quantiles(np.array([0.1, 0.5, 0.9])), of.quantiles(np.array([0.1, 0.5, 0.9])), atol=0.02
        )
