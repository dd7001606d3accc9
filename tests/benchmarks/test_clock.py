"""Turns are taken in order and told apart by side."""

import pytest

from adaln.benchmarks import clock
from adaln.benchmarks.clock import Taken, Turns, in_turns, seconds_of
from adaln.progress import showing


def test_contenders_take_turns_and_the_first_turn_is_not_counted(monkeypatch: pytest.MonkeyPatch):
    called: list[str] = []
    seen: list[tuple[str, int, int, str]] = []
    monkeypatch.setattr(clock, "seconds_of", lambda work: work() or Taken(len(called), 10.0 * len(called)))
    with showing(lambda *call: seen.append(call)):
        turns = in_turns({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, 2)
    assert called == ["a", "b"] * 3
    assert turns.taken == {"a": [Taken(3, 30.0), Taken(5, 50.0)], "b": [Taken(4, 40.0), Taken(6, 60.0)]}
    assert seen == [("time a, b", turn, 3, "turns") for turn in range(3)]


def test_medians_and_least_times_are_by_contender_and_clock():
    turns = Turns({"a": [Taken(3, 1), Taken(1, 9), Taken(2, 4)], "b": [Taken(5, 6)]})
    assert turns.median() == {"a": 2, "b": 5}
    assert turns.least() == {"a": 1, "b": 5}
    assert turns.median("processor") == {"a": 4, "b": 6}
    assert turns.least("processor") == {"a": 1, "b": 6}


def test_seconds_are_of_the_work_and_waiting_is_no_processor_time():
    import time

    taken = seconds_of(lambda: time.sleep(0.05))
    assert taken.wall >= 0.05
    assert taken.processor < 0.05
