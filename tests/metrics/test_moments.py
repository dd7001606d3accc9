"""Streamed statistics are those of the whole, however the rows were split and in whatever order they came."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaln.metrics.frechet import FeatureMoments
from adaln.rng import generator

DIM = 6


def rows(count: int, offset: float = 0.0, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, DIM, generator=generator("rows", count, seed), dtype=torch.float64) + offset


def moments_of(batches) -> FeatureMoments:
    moments = FeatureMoments.empty(DIM)
    for batch in batches:
        moments.update(batch)
    return moments


def assert_same(a: FeatureMoments, b: FeatureMoments) -> None:
    assert a.count == b.count
    torch.testing.assert_close(a.mean, b.mean, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        a.scatter.tril(), b.scatter.tril(), rtol=1e-10, atol=1e-10 * float(b.scatter.abs().max())
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.sampled_from([0.0, 1.0, 1e4]))
def test_any_split_into_batches_gives_the_statistics_of_the_whole(sizes, offset):
    whole = rows(sum(sizes), offset)
    assert_same(moments_of(whole.split(sizes)), FeatureMoments.of(whole))


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(5)), st.lists(st.integers(0, 7), min_size=5, max_size=5))
def test_batches_in_any_order_give_the_statistics_of_the_whole(order, sizes):
    parts = list(rows(sum(sizes), offset=100.0).split(sizes))
    assert_same(moments_of(parts[i] for i in order), FeatureMoments.of(torch.cat(parts)))


def test_covariance_of_data_far_from_zero_keeps_its_digits():
    x = rows(1000)
    near, far = (moments_of((x + offset).split(64)).gaussian().covariance for offset in (0.0, 1e6))
    torch.testing.assert_close(far, near, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(near, np.cov(x.numpy(), rowvar=False), rtol=1e-12, atol=1e-15)


def test_float32_rows_are_accumulated_in_float64():
    x = rows(5000, offset=10.0).float()
    found = moments_of(x.split(7)).gaussian()
    np.testing.assert_allclose(found.covariance, np.cov(x.double().numpy(), rowvar=False), rtol=1e-10, atol=1e-12)


def test_one_image_has_no_covariance():
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        FeatureMoments.of(rows(1)).gaussian()
