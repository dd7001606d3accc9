"""What processes tell each other: here threads play them; tests of the rooms start real ones."""

import threading

from adaln.parallel import barrier, first_goes_first, from_first, gathered, rank, world
from in_threads import in_processes


def test_a_process_alone_is_the_first_of_one_and_waits_for_nobody():
    barrier()
    with first_goes_first():
        assert (rank(), world(), gathered("mine"), from_first(lambda: 7)) == (0, 1, ["mine"], 7)


def test_all_hear_what_each_has_and_what_the_first_alone_computes(monkeypatch):
    asked = []

    def decide() -> str:
        asked.append(rank())
        return "so be it"

    heard = in_processes(monkeypatch, 3, lambda: (gathered(rank() * 10), from_first(decide), world()))
    assert heard == [([0, 10, 20], "so be it", 3)] * 3
    assert asked == [0]


def test_the_first_has_left_the_block_before_another_enters_it(monkeypatch):
    order, lock = [], threading.Lock()

    def work() -> None:
        with first_goes_first(), lock:
            order.append(rank())

    in_processes(monkeypatch, 4, work)
    assert order[0] == 0 and sorted(order) == [0, 1, 2, 3]
