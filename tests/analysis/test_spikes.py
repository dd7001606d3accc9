"""SpikeScore as OLMo-core defines it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaln.analysis.spikes import WINDOW, spike_score, spikes


def by_definition(values):
    """Value by value: more than six std above the mean of the 128 before it."""
    found = []
    for at, value in enumerate(values):
        before = values[max(0, at - 128) : at]
        mean = math.fsum(before) / max(1, len(before))
        std = math.sqrt(math.fsum((one - mean) ** 2 for one in before) / max(1, len(before)))
        found.append(len(before) == 128 and std >= 1e-10 and value > mean + 6 * std)
    return found


@given(st.lists(st.sampled_from([1.0, 1.25, 2.0, 16.0]), min_size=0, max_size=400))
def test_a_spike_is_far_above_the_128_values_before_it(values):
    assert spikes(values).tolist() == by_definition(values)


def test_the_score_is_the_share_of_steps_at_which_the_loss_or_the_gradient_spikes():
    losses, gradients = [1.0, 1.5] * 100, [2.0, 3.0] * 100
    losses[150], gradients[150], gradients[190] = 90.0, 90.0, 90.0
    assert spike_score(losses) == 1 / 200
    assert spike_score(losses, gradients) == 2 / 200
    assert spike_score(losses[: WINDOW - 1]) is None
    assert spike_score([1.0] * 150 + [5.0]) == 0  # of values without spread none is far


def test_long_series_are_taken_in_chunks(monkeypatch):
    values = [1.0, 1.5, 1.25] * 200
    values[300] = values[301] = 40.0
    whole = spikes(values)
    monkeypatch.setattr("adaln.analysis.spikes.CHUNK", 7)
    assert spikes(values).tolist() == whole.tolist() == by_definition(values)
    assert spike_score(values) == pytest.approx(whole.mean())
