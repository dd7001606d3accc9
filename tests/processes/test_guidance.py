"""Guidance: what it computes, when it does nothing, and what it refuses."""

import pytest
import torch

from adaln.processes import Guidance, guided

NULL = 7


class Network:
    """Distinct numbers for every label and channel; counts its evaluations."""

    def __init__(self, offset=0.0, channels=8):
        self.offset, self.channels, self.batches = offset, channels, []

    def __call__(self, x, t, y):
        self.batches.append(len(x))
        base = x.repeat(1, self.channels // x.shape[1], 1, 1) * torch.arange(1, self.channels + 1)[:, None, None]
        label = 0 if y is None else torch.sin(y.float())[:, None, None, None]
        return base + label + self.offset + 0.001 * t[:, None, None, None]


@pytest.fixture
def state():
    x = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    return x, torch.tensor([10, 400, 999]), torch.tensor([1, 2, 5])


def outputs(x, t, y):
    return Network()(x, t, y), Network()(x, t, torch.full_like(y, NULL))


def test_scale_one_is_the_network_itself_bit_for_bit_at_no_cost(state):
    x, t, y = state
    network = Network()
    guidance = Guidance(1.0, channels="all", interval=(0.0, 999.0))
    assert torch.equal(guided(network, y, NULL, guidance)(x, t), Network()(x, t, y))
    assert network.batches == [3]


def test_both_predictions_come_from_one_forward(state):
    x, t, y = state
    network = Network()
    guided(network, y, NULL, Guidance(2.0))(x, t)
    assert network.batches == [6]


@pytest.mark.parametrize(("channels", "count"), [("3", 3), ("all", 4)])
def test_only_the_named_data_channels_are_guided(state, channels, count):
    x, t, y = state
    conditional, unconditional = outputs(x, t, y)
    ours = guided(Network(), y, NULL, Guidance(4.0, channels))(x, t)
    torch.testing.assert_close(ours[:, :count], unconditional[:, :count] + 4 * (conditional - unconditional)[:, :count])
    assert torch.equal(ours[:, count:], conditional[:, count:]), "the rest, learned variances included, stays"


def test_data_of_fewer_than_three_channels_is_guided_whole_but_never_its_variance(state):
    x, t, y = state
    x = x[:, :1]
    conditional, unconditional = (Network(channels=2)(x, t, label) for label in (y, torch.full_like(y, NULL)))
    ours = guided(Network(channels=2), y, NULL, Guidance(4.0))(x, t)
    torch.testing.assert_close(ours[:, :1], (unconditional + 4 * (conditional - unconditional))[:, :1])
    assert torch.equal(ours[:, 1:], conditional[:, 1:])


def test_outside_its_interval_a_sample_is_not_guided(state):
    x, t, y = state
    conditional, _ = outputs(x, t, y)
    ours = guided(Network(), y, NULL, Guidance(4.0, interval=(400.0, 998.0)))(x, t)
    always = guided(Network(), y, NULL, Guidance(4.0))(x, t)
    assert torch.equal(ours[[0, 2]], conditional[[0, 2]])
    assert torch.equal(ours[1], always[1])
    assert not torch.equal(always[1], conditional[1])


def test_autoguidance_moves_away_from_the_weaker_model(state):
    x, t, y = state
    strong, weak = Network(), Network(offset=0.5)
    ours = guided(strong, y, NULL, Guidance(3.0, "all"), weak=weak)(x, t)
    torch.testing.assert_close(ours[:, :4], (Network()(x, t, y) + 2 * -0.5)[:, :4])
    assert torch.equal(ours[:, 4:], Network()(x, t, y)[:, 4:])
    assert strong.batches == weak.batches == [3]


def test_autoguidance_needs_no_labels(state):
    x, t, _ = state
    ours = guided(Network(), None, None, Guidance(2.0), weak=Network(offset=1.0))(x, t)
    assert ours.shape == (3, 8, 2, 2)


@pytest.mark.parametrize(("y", "null"), [(None, None), (None, NULL), (torch.tensor([1]), None)])
def test_an_unconditional_model_cannot_be_guided_by_labels(y, null):
    with pytest.raises(ValueError, match=r"scale is 1\.5, expected 1: the model is unconditional"):
        guided(Network(), y, null, Guidance(1.5))
    guided(Network(), y, null, Guidance(1.0))


def test_an_empty_interval_is_refused():
    with pytest.raises(ValueError, match=r"interval is \(0.9, 0.1\), expected lo <= hi"):
        Guidance(2.0, interval=(0.9, 0.1))
