"""Weights that are stored in bfloat16: what is rounded when, what is not, and what a run knows of it."""

from dataclasses import replace

import pytest
import torch

from adaln.config import OptimConfig, from_dict, to_dict
from adaln.runs import Run
from adaln.runs.folders import config_hash
from adaln.training import TrainState, train, update_after
from helpers.runs import assert_same_bits, stop_after


def are_bfloat16(tensors):
    return all(torch.equal(tensor, tensor.bfloat16().float()) for tensor in tensors)


def weights_of(run, step):
    names = {name for name, parameter in run.new_model().named_parameters() if parameter.requires_grad}
    files = run.checkpoints.load(step)
    return [[files[kind][name] for name in names] for kind in ("model", "ema")]


@pytest.mark.parametrize("changes", [{}, {"optim": OptimConfig(lr_of=("gate=1e-3",), muon=("backbone",))}])
def test_weights_are_of_the_type_after_every_update_and_their_average_is_not(small_config, tmp_path, changes):
    run, seen = Run.create(small_config(param_dtype="bfloat16", **changes), tmp_path), []
    train(run, [lambda step, model: seen.append(are_bfloat16(model.parameters()))])
    assert seen == [True] * run.config.steps
    weights, average = weights_of(run, run.config.steps)
    assert are_bfloat16(weights) and not are_bfloat16(average)
    assert run.manifest["sessions"][-1]["param_dtype"] == "bfloat16"


@pytest.mark.parametrize(("lr", "is_lost"), [(0.001, True), (0.01, False)])
def test_an_update_of_less_than_half_the_distance_to_the_next_number_is_lost(lr, is_lost):
    """Numbers of bfloat16 between 1 and 2 are 1/128 apart, and the first update of AdamW is the learning rate."""
    model = torch.nn.Linear(3, 2)
    for parameter in model.parameters():
        parameter.data.fill_(1.5)
    state = TrainState(model, OptimConfig(lr=lr), param_dtype="bfloat16")
    loss = model(torch.ones(1, 3)).sum()
    loss.backward()
    state.update(loss)
    assert all(bool((parameter == 1.5).all()) == is_lost for parameter in model.parameters())


def test_the_average_of_weights_whose_updates_are_lost_stays_with_them():
    model = torch.nn.Linear(3, 2)
    state = TrainState(model, OptimConfig(lr=1e-6, ema_decay=0.5), param_dtype="bfloat16")
    loss = model(torch.ones(1, 3)).sum()
    loss.backward()
    state.update(loss)
    assert all(torch.equal(*pair) for pair in zip(state.averaged, state.trained, strict=True))


def test_a_run_that_was_stopped_has_the_bits_of_one_that_was_not(small_config, tmp_path):
    whole, parts = (Run.create(small_config(param_dtype="bfloat16"), tmp_path / name) for name in "ab")
    train(whole)
    stop_after(parts, whole.config.steps // 2)
    train(parts)
    assert_same_bits(whole, parts)


def test_it_is_part_of_a_runs_hash_and_config_and_of_no_other_runs(small_config):
    usual, stored = small_config(), small_config(param_dtype="bfloat16")
    assert config_hash(usual) != config_hash(stored) and from_dict(to_dict(stored)) == stored
    assert "param_dtype" not in to_dict(usual)
    with pytest.raises(ValueError, match="param_dtype"):
        from_dict(to_dict(usual) | {"param_dtype": "float16"})


@pytest.mark.slow
@pytest.mark.parametrize("param_dtype", ["float32", "bfloat16"])
def test_the_update_after_a_checkpoint_is_the_one_that_training_makes(small_config, tmp_path, param_dtype):
    config = small_config(param_dtype=param_dtype)
    run = Run.create(replace(config, keep_at=(config.steps - 1,)), tmp_path)
    train(run)
    before, after = update_after(run, config.steps - 1)
    last = run.checkpoints.load(config.steps)["model"]
    assert all(torch.equal(before[name], run.checkpoints.load(config.steps - 1)["model"][name]) for name in before)
    for name, tensor in after.items():
        torch.testing.assert_close(tensor, last[name], rtol=0, atol=1e-5 if param_dtype == "float32" else 1e-2)
