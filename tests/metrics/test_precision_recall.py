"""Precision and recall against their definition, and the rounding of the published form."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaln.metrics.precision_recall import exact_blocks, half_norms, precision_recall, published_blocks, radii
from adaln.rng import generator


def points(count: int, dim: int, key: str, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(count, dim, generator=generator("manifold", key, count)) + shift


def by_definition(reference: torch.Tensor, samples: torch.Tensor, k: int) -> tuple[list[bool], list[bool]]:
    """Plain loops over float64 distances."""
    r, s = reference.double(), samples.double()
    own = [torch.cdist(x, x).sort(dim=1).values[:, k] for x in (r, s)]
    cross = torch.cdist(s, r)
    return (cross <= own[0]).any(dim=1).tolist(), (own[1] >= cross.T).any(dim=1).tolist()


@settings(max_examples=30, deadline=None)
@given(st.integers(5, 40), st.integers(5, 40), st.integers(1, 4), st.integers(1, 6))
def test_precision_and_recall_are_their_definition(m, n, k, dim):
    reference, samples = points(m, dim, "r"), points(n, dim, "s", shift=0.7)
    found = precision_recall(reference, samples, k)
    assert (found.sample_inside.tolist(), found.reference_inside.tolist()) == by_definition(reference, samples, k)


def test_blocks_and_tiles_change_nothing(monkeypatch):
    reference, samples = points(97, 8, "r"), points(61, 8, "s", shift=0.5)
    whole = precision_recall(reference, samples)
    monkeypatch.setattr("adaln.metrics.precision_recall.ROWS", 10)
    monkeypatch.setattr("adaln.metrics.precision_recall.TILE", 32)
    tiled = precision_recall(reference, samples)
    torch.testing.assert_close(tiled.sample_inside, whole.sample_inside)
    torch.testing.assert_close(tiled.reference_inside, whole.reference_inside)
    assert 0.05 < whole.precision < 0.95


def test_a_set_covers_itself_and_a_far_one_not_at_all():
    x = points(50, 4, "x")
    same, far = precision_recall(x, x), precision_recall(x, x + 100)
    assert (same.precision, same.recall) == (1.0, 1.0)
    assert (far.precision, far.recall) == (0.0, 0.0)


def test_swapping_the_sides_swaps_precision_and_recall():
    a, b = points(60, 4, "a"), points(40, 4, "b", shift=0.8)
    assert precision_recall(a, b).precision == precision_recall(b, a).recall


def test_fewer_images_than_neighbours_is_an_error():
    with pytest.raises(ValueError, match="k=3 neighbours need more than 3 images a side, got 3 and 9"):
        precision_recall(points(9, 2, "r"), points(3, 2, "s"))


def test_published_distances_are_refused_at_another_width():
    with pytest.raises(ValueError, match="published for 2048 features, got 64"):
        published_blocks(torch.zeros(4, 64), torch.zeros(4, 64))


def wide(count: int, scale: float) -> torch.Tensor:
    return points(count, 2048, "wide").abs() * scale


def test_half_norms_carry_half_precision_and_no_more():
    rows = wide(20, 0.4)
    norms, exact = half_norms(rows), rows.double().square().sum(dim=1)
    np.testing.assert_array_equal(norms, norms.half().float())
    np.testing.assert_allclose(norms, exact, rtol=2e-2)
    assert (norms != exact.half()).any()


def test_a_half_precision_overflow_makes_its_whole_tile_float32():
    ordinary, large = wide(6, 0.4), wide(1, 6.0)  # |large|^2 is above 65,504
    with_overflow = torch.cat([ordinary, large])
    ((_, exact),) = exact_blocks(with_overflow, ordinary)
    ((_, published),) = published_blocks(with_overflow, ordinary)
    torch.testing.assert_close(published, exact, rtol=0, atol=0)
    ((_, without),) = published_blocks(ordinary, ordinary)
    assert (without != exact[:6]).any()


def test_large_norms_whose_distances_do_not_overflow_stay_half():
    rows = wide(5, 3.0)  # |u|^2 about 18,000: the bound by norms is open, the distances are small
    ((_, published),) = published_blocks(rows, rows)
    np.testing.assert_array_equal(published, published.half().float())


def test_radius_counts_the_point_itself_as_its_first_neighbour():
    line = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    assert radii(line, 1).tolist() == [1, 1, 4, 16]
