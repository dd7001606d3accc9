"""Each update's losses in one row, whatever order a loop steps and logs in."""

import pytest
import torch

from adaln.analysis.update_losses import UpdateLosses

LOOPS = {
    "logged after each step": "SL",
    "logged before each step": "LLLLS",
    "logged around the step that comes before the last micro-batch is logged": "LLLSL",
    "two logged after each step": "SLL",
}


def rows(loop, begun, updates, take_each):
    """What is taken of a loop that logs the number of the update that a loss belongs to."""
    losses, taken, counted = UpdateLosses(begun), [], begun
    for number in range(begun + 1, updates + 1):
        for act in loop:
            counted += act == "S"
            if act == "L":
                losses.add(counted, None, torch.tensor([float(number)]))
            if take_each:
                taken += losses.take(counted)
    return taken + losses.take(counted, ends=True)


@pytest.mark.parametrize("take_each", [True, False])
@pytest.mark.parametrize("begun", [0, 2])
@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_losses_are_of_the_update_that_they_belong_to(loop, begun, take_each):
    assert rows(loop, begun, 6, take_each) == [(number, float(number)) for number in range(begun + 1, 7)]


def test_the_mean_of_micro_batches_is_one_row():
    losses = UpdateLosses(0)
    for counted, value in ((0, 1.0), (0, 2.0), (0, 6.0), (1, 3.0), (1, 4.0), (1, 4.0), (1, 4.0), (2, 8.0)):
        losses.add(counted, None, torch.tensor([value]))
    assert losses.take(2) == [(1, 3.0), (2, 5.0)]


def test_a_step_that_scaling_skips_shifts_no_loss():
    losses = UpdateLosses(0)
    for counted in (0, 0, 1, 2, 3, 3, 4):  # two skipped first, one after update 3
        losses.add(counted, None, torch.tensor([float(counted)]))
    assert losses.take(4, ends=True) == [(1, 1 / 3), (2, 2.0), (3, 3.0), (4, 3.5)]


def test_steps_that_are_skipped_on_the_device_are_no_updates():
    losses = UpdateLosses(0)
    for counted, skipped in ((1, 0.0), (2, 1.0), (3, 1.0), (4, 1.0)):
        losses.add(counted, torch.tensor(skipped), torch.tensor([float(counted)]))
    assert [step for step, _ in losses.take(3, ends=True)] == [1, 2, 3]


def test_losses_on_an_accelerator_wait_for_fifty_however_long(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("adaln.analysis.update_losses.monotonic", lambda: now[0])
    on_device, losses = torch.empty(1, device="meta"), UpdateLosses(0)
    for number in range(50):
        now[0] += 10
        assert not losses.are_due
        losses.add(number, None, on_device)
    assert losses.are_due


def test_where_no_update_came_there_is_no_row():
    losses = UpdateLosses(0)
    losses.add(0, None, torch.tensor([1.0]))
    assert losses.take(0, ends=True) == []


@pytest.mark.parametrize(
    ("loop", "skips", "is_unsure"), [("SL", 0, False), ("SL", 1, True), ("LS", 0, True), ("LLS", 0, False)]
)
def test_a_loss_before_the_first_update_may_be_of_a_step_that_was_skipped(loop, skips, is_unsure):
    losses, counted = UpdateLosses(0), 0
    for number in range(4):
        for act in loop:
            if act == "L":
                losses.add(counted, None, torch.ones(1))
            else:
                counted += number >= skips
    losses.take(counted)
    assert losses.is_unsure is is_unsure
