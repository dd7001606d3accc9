import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from adaln.data.permutation import shuffled


def epoch(num_items, seed, number=0):
    return shuffled(np.arange(number * num_items, (number + 1) * num_items), num_items, seed)


def p_value(counts):
    expected = counts.sum() / counts.size
    return chi2.sf(((counts - expected) ** 2 / expected).sum(), counts.size - 1)


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**31), st.integers(0, 1000))
def test_every_epoch_is_a_bijection(num_items, seed, number):
    assert np.array_equal(np.sort(epoch(num_items, seed, number)), np.arange(num_items))


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [epoch(1000, seed, number) for seed in range(3) for number in range(3)]
    for i, one in enumerate(orders):
        for other in orders[:i]:
            assert (one == other).sum() < 12  # matches of two random orders are Poisson with mean 1


@pytest.mark.parametrize("num_items", [2, 3, 4, 5, 6, 7])
def test_all_orders_of_a_few_items_are_equally_likely(num_items):
    num_epochs = 20 * math.factorial(max(num_items, 6))
    rows = shuffled(np.arange(num_items * num_epochs), num_items, 0).reshape(-1, num_items)
    index = {order: i for i, order in enumerate(permutations(range(num_items)))}
    counts = np.bincount([index[tuple(row)] for row in rows.tolist()], minlength=len(index))
    assert p_value(counts) > 1e-4


def test_every_item_comes_equally_often_at_every_place():
    num_items, num_epochs = 37, 20_000
    rows = shuffled(np.arange(num_items * num_epochs), num_items, 1).reshape(-1, num_items)
    counts = np.stack([np.bincount(rows[:, place], minlength=num_items) for place in range(num_items)])
    assert p_value(counts) > 1e-4


def test_the_successor_of_an_item_is_as_good_as_random():
    num_items, num_epochs = 37, 20_000
    rows = shuffled(np.arange(num_items * num_epochs), num_items, 2).reshape(-1, num_items)
    steps = (rows[:, 1:] - rows[:, :-1]) % num_items
    assert p_value(np.bincount(steps.ravel(), minlength=num_items)[1:]) > 1e-4


def test_two_places_hold_all_pairs_equally_often():
    num_items, num_epochs = 70, 20_000
    rows = shuffled(np.arange(num_items * num_epochs), num_items, 4).reshape(-1, num_items)
    for one, other in ((0, 1), (3, 25), (0, 69)):
        counts = np.bincount(rows[:, one] * num_items + rows[:, other], minlength=num_items**2).reshape(num_items, -1)
        assert (counts.diagonal() == 0).all()
        assert p_value(counts[~np.eye(num_items, dtype=bool)]) > 1e-4


def test_the_order_of_a_large_set_has_no_trend():
    order = epoch(100_003, 3).astype(float)
    assert abs(np.corrcoef(order, np.arange(order.size))[0, 1]) < 5 / np.sqrt(order.size)
    assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 5 / np.sqrt(order.size)


def test_a_billion_items_need_no_memory():
    first = shuffled(np.arange(10**12, 10**12 + 1000), 10**9, 0)
    assert len(np.unique(first)) == 1000
    assert first.max() < 10**9
