"""Looking after every seed: what is said is true together, and it takes fewer seeds than a fixed number of them."""

import math
from statistics import fmean

import numpy as np
import pytest
from scipy.special import stdtrit

from adaln.sequential import FIRST_LOOK, detectable, race, reach
from adaln.statistics import LEVEL, power


def scores(effects, noise, seeds, rng, shared=0.1):
    """Positive scores whose logarithms have these means, what seeds share, and noise with this std in a difference."""
    own = rng.standard_normal((len(effects), seeds)) * np.broadcast_to(noise, len(effects))[:, None] / math.sqrt(2)
    logs = np.log1p(np.array(effects))[:, None] + shared * rng.standard_normal(seeds) + own
    return {f"start {i}": np.exp(row).tolist() for i, row in enumerate(logs)}


def test_a_clear_difference_is_known_at_the_first_look():
    values = {"zero": [20.0, 24.0, 18.0], "mix": [10.0, 12.05, 8.96]}
    standing = race(values, next(iter(values)), 8, 0.02)
    assert standing.is_known and standing.leader == "mix" and standing.seeds == 3
    assert standing.left == {"zero": ("worse", 3)}
    change = standing.change("mix")
    assert change.low < -0.5 < change.high < 0
    assert change.value == pytest.approx(-0.5, abs=0.01)


def test_equal_starts_are_equal_within_the_margin():
    rng = np.random.default_rng(0)
    standing = race(scores([0, 0], 0.002, 8, rng), "start 0", 8, 0.02)
    assert standing.is_known and len(standing.equals) == 1 and not standing.left


def test_a_start_that_has_left_needs_no_more_seeds_and_one_that_diverges_leaves():
    rng = np.random.default_rng(1)
    values = {name: list(row) for name, row in scores([0, 0, 1, 0], 0.02, 8, rng).items()}
    values["start 2"] = values["start 2"][:3]
    values["start 3"][4] = math.inf
    standing = race(values, "start 0", 8, 0.001)
    assert standing.left["start 2"] == ("worse", 3)
    assert standing.left["start 3"] == ("diverged", 5)
    assert standing.racing == ["start 0", "start 1"] and standing.seeds == 8


def test_where_more_is_better_it_is_the_race_of_the_inverse_scores_told_in_the_scores_own_terms():
    values = scores([0, 0.1, -0.1], 0.02, 8, np.random.default_rng(4))
    inverse = {name: [1 / value for value in row] for name, row in values.items()}
    less, more = race(values, "start 0", 8, 0.02), race(inverse, "start 0", 8, 0.02, more_is_better=True)
    assert (more.leader, more.left, more.seeds) == (less.leader, less.left, less.seeds)
    for name in values:
        assert more.word(name, 0.02) == less.word(name, 0.02)
        assert 1 + more.change(name).value == pytest.approx(1 / (1 + less.change(name).value))
        assert 1 + more.change(name).low == pytest.approx(1 / (1 + less.change(name).high))
    assert more.word("start 2", 0.02) == "better" and more.change("start 2").low > 0


def test_more_seeds_go_on_where_the_race_stood():
    rng = np.random.default_rng(2)
    values = scores([0, 0, -0.06], 0.05, 12, rng)
    early = race({name: row[:6] for name, row in values.items()}, "start 0", 12, 0.02)
    late = race(values, "start 0", 12, 0.02)
    assert early.left.items() <= late.left.items()
    narrower = (late.low >= early.low) & (late.high <= early.high)
    assert (narrower | (early.low == -np.inf)).all()


def test_the_reach_is_more_than_students_who_looks_once_and_less_than_if_looks_were_independent():
    for planned in (6, 12):
        once, shared = (stdtrit(planned - 1, 1 - level / 2) for level in (LEVEL, LEVEL / (planned - FIRST_LOOK + 1)))
        assert once < reach(planned, planned, LEVEL) < shared


def test_what_is_detectable_shrinks_with_seeds_and_grows_with_starts():
    assert detectable(12, 2) < detectable(6, 2) < detectable(6, 5)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"a": [1.0, 2.0], "b": [1.0, 2.0]}, "2 seeds; expected at least 3"),
        ({"a": [1.0, -2.0, 3.0], "b": [1.0, 2.0, 3.0]}, "not positive"),
        ({"a": [math.inf] * 3, "b": [math.inf] * 3}, "every start diverged"),
    ],
)
def test_what_cannot_be_raced_is_one_line(values, named):
    with pytest.raises(ValueError, match=named):
        race(values, next(iter(values)), 8, 0.02)


def wrong(standing, effects):
    """Whether an interval of a change misses the truth, and whether a best start was given up."""
    logs, at = np.log1p(np.array(effects)), standing.names.index(standing.reference)
    true = logs - logs[at]
    missed = bool(((standing.low[:, at] > true + 1e-12) | (standing.high[:, at] < true - 1e-12)).any())
    return missed, standing.names[int(np.argmin(effects))] in standing.left


def upper(count, trials):
    """99 % bound of a share (Wilson)."""
    share, z = count / trials, 2.326
    middle = (share + z * z / 2 / trials) / (1 + z * z / trials)
    return middle + z * math.sqrt(share * (1 - share) / trials + z * z / 4 / trials**2) / (1 + z * z / trials)


@pytest.mark.slow
@pytest.mark.parametrize("effects", [0.0, 0.1], ids=["all equal", "one better"])
@pytest.mark.parametrize(
    ("starts", "planned", "seeds", "noise"),
    [
        (2, 3, 3, 0.03),
        (2, 12, 12, 0.03),
        (2, 4, 16, 0.08),
        (3, 6, 6, 0.08),
        (5, 8, 8, 0.03),
        (8, 12, 12, 0.05),
        (4, 10, 10, (0.01, 0.02, 0.05, 0.1)),
    ],
)
def test_nothing_false_is_said_more_often_than_5_percent(starts, planned, seeds, noise, effects):
    rng, trials = np.random.default_rng(3), 2_000
    means = [0.0] * (starts - 1) + [-effects]
    races = [race(scores(means, noise, seeds, rng), "start 0", planned, 1e-6) for _ in range(trials)]
    missed, given_up = zip(*(wrong(one, means) for one in races), strict=True)
    assert upper(sum(missed), trials) < 0.06
    assert upper(sum(given_up), trials) < 0.06


@pytest.mark.slow
def test_at_a_true_change_of_10_percent_it_takes_a_third_fewer_runs_than_a_fixed_number_of_seeds():
    rng, trials, noise, starts = np.random.default_rng(5), 1_000, 0.05, 5
    means = [0.0] * (starts - 1) + [-0.1]
    races = [race(scores(means, noise, 12, rng), "start 0", 12, 0.02) for _ in range(trials)]
    found = fmean(one.leader == "start 4" and one.change("start 4").high < 0 for one in races)
    assert found > 0.99
    effect = -math.log1p(-0.1) / noise
    fixed = next(seeds for seeds in range(3, 60) if power(effect, seeds, LEVEL / (starts - 1)) >= found)
    runs = fmean(sum(one.left.get(name, ("", one.seeds))[1] for name in one.names) for one in races)
    assert runs <= 2 / 3 * starts * fixed
