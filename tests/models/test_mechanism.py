"""Mechanisms of our own networks: what they hold, what they compute, and what does not go together."""

from dataclasses import replace
from typing import get_args

import pytest
import torch

from adaln.analysis.live import role_effects
from adaln.codec import decode, encode
from adaln.conditioning import find_layout, standard_inputs
from adaln.models import MODELS, ModelConfig, UDiTConfig, build, dit, skeleton
from adaln.models.conditioned import add_branch
from adaln.models.layers import rotate, rotation, unturned
from adaln.models.mechanism import ModulationKind
from adaln.models.network import counted
from adaln.rng import generator
from adaln.types import DataSpec
from helpers.mechanisms import EVERY_MECHANISM, MECHANISMS, Config
from helpers.networks import DIGITS

KINDS = {*get_args(ModulationKind)}


def awake(config: Config) -> torch.nn.Module:
    """With weights that all act."""
    model, rng = build(config, DIGITS, generator("mechanism")), generator("noise")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=rng), alpha=0.1)
    return model


@pytest.fixture(params=MECHANISMS)
def config(request: pytest.FixtureRequest) -> Config:
    return MECHANISMS[request.param]


@pytest.mark.slow
def test_arithmetic_counts_what_the_network_holds_and_computes(config):
    assert config.counts(DIGITS) == counted(config, DIGITS)


@pytest.mark.nightly
def test_arithmetic_counts_every_mechanism():
    wrong = [name for name, config in EVERY_MECHANISM.items() if config.counts(DIGITS) != counted(config, DIGITS)]
    assert wrong == []


def test_a_fresh_network_outputs_exactly_zero_and_every_weight_acts(config):
    inputs = standard_inputs(skeleton(config, DIGITS).to_empty(device="cpu"))
    assert not build(config, DIGITS, generator(0))(**inputs).any()
    model = awake(config)
    model(**inputs).square().mean().backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.any()] == []


def test_the_loops_for_small_networks_leave_it_to_torch(config):
    if isinstance(config, UDiTConfig):
        pytest.skip("which has no such loops")
    model = awake(config)
    inputs = standard_inputs(model)
    assert torch.equal(model.fused(**inputs), model(**inputs))


def test_a_config_is_read_again_and_says_nothing_of_what_is_as_in_dit(config):
    assert decode(ModelConfig, encode(config)) == config
    chosen = set(encode(MODELS["tiny"])) - {"kind"}
    assert chosen & {"gate", "scale", "shift", "norm", "post_modulation", "rank"} == set()
    assert {"modulation", "se_ratio"} <= chosen


@pytest.mark.parametrize("tokens_from", [0, 1])
@pytest.mark.parametrize("kind", ["DiT", "DiT-LLaMA"])
def test_tokens_of_the_condition_say_class_and_time_and_its_absence_is_learned(kind, tokens_from):
    name = f"{kind}, modulation in-context, gate static, class_tokens 2, time_tokens 1"
    model = awake(replace(EVERY_MECHANISM[name], tokens_from=tokens_from))
    x, t, y = standard_inputs(model).values()
    null = torch.full_like(y, DIGITS.num_classes)
    outputs = [model(x, t, y), model(x, t, (y + 1) % 10), model(x, t, null), model(x, t + 100, y)]
    assert all((outputs[0] != other).flatten(1).any(dim=1).all() for other in outputs[1:])
    model(x, t, null).square().mean().backward()
    assert model.y_embedder.embedding_table.weight.grad.any(dim=1).tolist() == [False] * 10 + [True]


def test_tokens_do_not_turn_and_those_of_the_image_turn_as_without_them():
    positions = rotation(2, 3, 8, torch.device("cpu"))
    more = unturned(positions, 2)
    x = torch.randn(8, 8, generator=generator("turns"))
    assert torch.equal(rotate(x, more), torch.cat([x[:2], rotate(x[2:], positions)]))


def test_without_a_time_all_times_are_one():
    model = awake(EVERY_MECHANISM["DiT, time none"])
    x, t, y = standard_inputs(model).values()
    assert torch.equal(model(x, t, y), model(x, t / 2, y))
    with pytest.raises(ValueError, match=r"got time none for .*num_classes=0.*, expected data with classes"):
        skeleton(model.config, DataSpec(1, 8, 8, 0))


def test_static_gates_are_the_same_for_every_condition():
    gates, plain = (
        role_effects(model, standard_inputs(model), find_layout(model))
        for model in map(awake, (EVERY_MECHANISM["DiT, gate static"], replace(MODELS["tiny"], depth=2)))
    )
    assert [value.shape for _, value in gates] == [(1, 16)] * 4
    assert all((value != value[:1]).any() for _, value in plain)


@pytest.mark.parametrize(
    "options",
    [
        {"gate": "tanh"},
        {"gate": "sigmoid", "modulation": "shared"},
        {"gate": "static"},
        {"modulation": "low-rank", "rank": 3},
        {"modulation": "low-rank", "rank": 3, "gate": "sigmoid"},
        {"modulation": "shared"},
    ],
    ids=str,
)
def test_gates_are_what_the_network_multiplies_by(options, monkeypatch):
    model, multiplied = awake(replace(MODELS["tiny"], depth=2, **options)), []
    monkeypatch.setattr(dit, "add_branch", lambda x, *of: [multiplied.append(of[1].gate), add_branch(x, *of)][1])
    gates = role_effects(model, standard_inputs(model), find_layout(model))
    assert len(gates) == len(multiplied) == 4
    for (_, value), expected in zip(gates, multiplied, strict=True):
        torch.testing.assert_close(value, expected.flatten(0, -2) if expected.ndim > 1 else expected[None])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"post_modulation": True, "gate": "tanh"}, "got gate tanh, scale one_plus, shift True, expected identity"),
        ({"post_modulation": True, "shift": False}, "got gate identity, scale one_plus, shift False, expected"),
        ({"modulation": "low-rank", "rank": 0}, "got rank 0, expected at least 1"),
        ({"modulation": "in-context"}, "got gate identity, scale one_plus, .*, expected static, .* in-context"),
        ({"modulation": "in-context", "gate": "static"}, "got class_tokens 0, time_tokens 0, expected at least 1"),
        ({"time": "none", "time_tokens": 2}, "got time_tokens 2, expected 0 where time is none"),
        ({"class_tokens": 1, "tokens_from": 4}, "got tokens_from 4, expected 0..3"),
        ({"class_tokens": -1}, "got class_tokens -1, expected 0.."),
        ({"modulation": "se", "se_ratio": 3}, "got se_ratio 3, expected a divisor of hidden_size 64"),
    ],
)
def test_choices_that_do_not_go_together_are_one_clear_error(change, message):
    with pytest.raises(ValueError, match=message):
        replace(MODELS["tiny"], **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(
            ({"modulation": kind}, f"got modulation {kind}, expected linear or se")
            for kind in sorted(KINDS - {"linear", "se"})
        ),
        ({"class_tokens": 1}, "got class_tokens 1, expected 0: the blocks of a U-DiT take images"),
        ({"time_tokens": 1}, "got time_tokens 1, expected 0"),
        ({"post_modulation": True, "gate": "static"}, "got gate static, .* expected identity"),
        ({"modulation": "se", "se_ratio": 3}, "got se_ratio 3, expected a divisor of hidden_size 16"),
    ],
)
def test_a_u_dit_refuses_what_it_has_no_place_for(change, message):
    with pytest.raises(ValueError, match=message):
        replace(MODELS["U-DiT-tiny"], **change)


def test_a_u_dit_without_options_is_written_as_ever():
    assert set(encode(MODELS["U-DiT-S"])) == {
        "kind", "hidden_size", "num_heads", "depth", "mlp_ratio", "learn_sigma", "class_dropout_prob",
    }  # fmt: skip
