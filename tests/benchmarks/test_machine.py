"""Turns are taken in order and told apart by side; the machine's limits, by hand."""

import time
from pathlib import Path

import pytest
import torch

from adaln.benchmarks import machine
from adaln.benchmarks.machine import (
    MachineOptions,
    Product,
    Taken,
    Turns,
    in_turns,
    limits,
    product_rates,
    products,
    resident_bytes,
    seconds_of,
)
from adaln.execution import num_threads
from adaln.progress import showing


def test_a_rate_is_that_of_the_size_that_does_best_of_its_kind():
    made = [Product("a 1", "a", 10**9, print), Product("a 2", "a", 4 * 10**9, print), Product("b", "b", 10**9, print)]
    assert product_rates(made, {"a 1": 1, "a 2": 2, "b": 0.5}) == {"a": 2, "b": 2}


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_products_are_of_the_size_and_kind_they_are_named_for(precision, dtype, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "PRODUCT_SIZES", ((8, 16, 24),))
    for product in products(torch.device("cpu"), precision):
        found = product.work()
        assert isinstance(found, torch.Tensor)
        assert (found.shape, found.dtype, product.flops) == ((8, 24), dtype, 2 * 8 * 16 * 24)
        assert product.name == f"{product.kind} 8x16x24"


def test_limits_are_rates_of_what_was_moved(monkeypatch: pytest.MonkeyPatch):
    for name in ("COPY_BYTES", "FILE_BYTES", "READ_BYTES"):
        monkeypatch.setattr(machine, name, 1 << 12)
    monkeypatch.setattr(machine, "PRODUCT_SIZES", ((8, 16, 24),))
    one_second = Taken(1.0, 1.0)
    monkeypatch.setattr(machine, "in_turns", lambda works, *rest: Turns({name: [one_second] for name in works}))
    found = limits(MachineOptions(repeats=1, device="cpu"))
    assert found["copy_gigabytes_per_second"] == 2 * 4096 / 1e9
    assert found["cached_file_gigabytes_per_second"] == 4096 / 1e9
    assert set(found["matmul_gigaflops"].values()) == {2 * 8 * 16 * 24 / 1e9}


def test_variables_that_change_speed_are_kept_with_a_result(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.setenv("ONE_SECRET", "none of ours")
    found = machine.machine(torch.device("cpu"))["variables"]
    assert found["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert "ONE_SECRET" not in found


def test_the_number_of_threads_is_put_back():
    before = torch.get_num_threads()
    with pytest.raises(KeyError), num_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux")
def test_the_peak_of_memory_is_at_least_what_is_held_now():
    assert resident_bytes("VmHWM") >= resident_bytes() > 10**7


def test_contenders_take_turns_and_the_first_turn_is_not_counted(monkeypatch: pytest.MonkeyPatch):
    called: list[str] = []
    seen: list[tuple[str, int, int, str]] = []
    monkeypatch.setattr(machine, "seconds_of", lambda work: work() or Taken(len(called), 10.0 * len(called)))
    with showing(lambda *call: seen.append(call)):
        turns = in_turns({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, 2)
    assert called == ["a", "b"] * 3
    assert turns.taken == {"a": [Taken(3, 30.0), Taken(5, 50.0)], "b": [Taken(4, 40.0), Taken(6, 60.0)]}
    assert seen == [("time a, b", turn, 3, "turns") for turn in range(3)]


def test_what_comes_before_each_contender_takes_none_of_its_time():
    called: list[str] = []
    turns = in_turns({"a": lambda: called.append("a")}, 1, lambda: (called.append("before"), time.sleep(0.05)))
    assert called == ["before", "a"] * 2
    assert turns.median()["a"] < 0.05


def test_medians_and_least_times_are_by_contender_and_clock():
    turns = Turns({"a": [Taken(3, 1), Taken(1, 9), Taken(2, 4)], "b": [Taken(5, 6)]})
    assert turns.median() == {"a": 2, "b": 5}
    assert turns.least() == {"a": 1, "b": 5}
    assert turns.median("processor") == {"a": 4, "b": 6}
    assert turns.least("processor") == {"a": 1, "b": 6}


def test_seconds_are_of_the_work_and_waiting_is_no_processor_time():
    taken = seconds_of(lambda: time.sleep(0.05))
    assert taken.wall >= 0.05
    assert taken.processor < 0.05
