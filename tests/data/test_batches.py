import dataclasses
import math
import threading
import time
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from adaln.data import Batches, DataConfig, Prefetched, load
from adaln.data.batches import shuffled
from adaln.data.dataset import to_model_range


@pytest.fixture(scope="module")
def digits():
    return load(DataConfig())


def test_a_batch_is_a_function_of_seed_and_step(digits):
    x, y = Batches(digits, 16, seed=1).at(1000)
    again, labels = Batches(digits, 16, seed=1).at(1000)
    assert torch.equal(x, again)
    assert torch.equal(y, labels)
    assert not torch.equal(x, Batches(digits, 16, seed=2).at(1000)[0])
    assert x.shape == (16, 1, 8, 8)
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64


def test_images_come_with_their_own_labels(digits):
    batches = Batches(digits, 32, seed=0)
    x, y = batches.at(5)
    indices = batches.indices(5)
    assert torch.equal(x, to_model_range(torch.from_numpy(digits.images[indices])))
    assert y.tolist() == digits.labels[indices].tolist()


@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_together_take_every_image_once_per_epoch(digits, world):
    small = dataclasses.replace(digits, images=digits.images[:240], labels=digits.labels[:240])
    ranks = [Batches(small, 10, 0, rank, world) for rank in range(world)]
    seen = np.concatenate([rank.indices(step) for step in range(240 // (10 * world)) for rank in ranks])
    assert np.array_equal(np.sort(seen), np.arange(240))


def test_the_order_does_not_depend_on_how_many_ranks_share_a_batch(digits):
    one = Batches(digits, 12, 0)
    four = [Batches(digits, 3, 0, rank, 4) for rank in range(4)]
    assert np.array_equal(one.indices(7), np.concatenate([rank.indices(7) for rank in four]))


def test_which_images_are_mirrored_does_not_depend_on_how_many_ranks_share_a_batch(digits):
    flipped = dataclasses.replace(digits, flip=True)
    four = [Batches(flipped, 3, 0, rank, 4).at(7)[0] for rank in range(4)]
    assert torch.equal(Batches(flipped, 12, 0).at(7)[0], torch.cat(four))


def test_a_batch_may_be_larger_than_the_set(digits):
    small = dataclasses.replace(digits, images=digits.images[:3], labels=digits.labels[:3])
    counts = np.bincount(Batches(small, 9, 0).indices(4))
    assert counts.tolist() == [3, 3, 3]


def test_half_of_the_images_are_mirrored_and_the_rest_untouched(digits):
    mirrored = Batches(dataclasses.replace(digits, flip=True), 1000, 0).at(0)[0]
    plain = Batches(digits, 1000, 0).at(0)[0]
    is_plain = (mirrored == plain).flatten(1).all(1)
    is_mirrored = (mirrored == plain.flip(-1)).flatten(1).all(1)
    assert (is_plain | is_mirrored).all()
    assert 400 < (~is_plain).sum() < 600
    again = Batches(dataclasses.replace(digits, flip=True), 1000, 0).at(1)[0]
    assert not torch.equal(again == plain, mirrored == plain)


def test_an_unconditional_set_gives_no_labels():
    assert Batches(load(DataConfig(conditional=False)), 4, 0).at(0)[1] is None


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"batch_size": 1, "rank": 2, "world": 2}])
def test_impossible_sizes_are_refused(digits, wrong):
    with pytest.raises(ValueError, match="expected"):
        Batches(digits, **{"seed": 0, **wrong})


def test_prefetched_batches_are_the_same_in_any_order_of_asking(digits):
    batches = Batches(digits, 8, 0)
    prefetched = Prefetched(batches, ahead=2)
    for step in (0, 1, 2, 50, 51, 3, 3):
        x, y = prefetched.at(step)
        assert torch.equal(x, batches.at(step)[0])
        assert torch.equal(y, batches.at(step)[1])


def test_the_next_batches_are_made_before_they_are_asked_for(digits):
    made = []

    class Counted(Batches):
        def at(self, step):
            made.append(step)
            return Batches.at(self, step)

    prefetched = Prefetched(Counted(digits, 8, 0), ahead=3)
    prefetched.at(10)
    deadline = time.perf_counter() + 5
    while len(made) < 4 and time.perf_counter() < deadline:
        time.sleep(0.001)
    assert made == [10, 11, 12, 13]


def test_an_error_while_prefetching_reaches_who_asks(digits):
    class Broken(Batches):
        def at(self, step):
            raise ValueError("cut short")

    with pytest.raises(ValueError, match="cut short"):
        Prefetched(Broken(digits, 8, 0)).at(0)


def test_the_thread_of_prefetched_batches_ends_with_its_block(digits):
    def threads():
        return {thread for thread in threading.enumerate() if thread.name.startswith("prefetch")}

    before = threads()
    with Prefetched(Batches(digits, 8, 0)) as prefetched:
        prefetched.at(0)
        assert threads() - before
    assert not threads() - before


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
