"""A step in compiled loops gives the losses and the gradients of one by autograd."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from adaln import kernels
from adaln.data import Batches
from adaln.execution import Execution, prepare_blocks
from adaln.models import MODELS
from adaln.models.dit import DiT
from adaln.processes import PROCESSES
from adaln.rng import generator
from adaln.runs import Run
from adaln.training import loop, train
from adaln.training.loss import Inputs, inputs, loss_of
from adaln.training.small_step import SmallStep, small_step

pytestmark = pytest.mark.skipif(not kernels.have_kernels(), reason="no C compiler")


def prepared(run: Run) -> DiT:
    """A network with weights that are nowhere zero."""
    model = run.new_model()
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=generator("test small step", name))
    prepare_blocks(model, Execution())
    return model


def batch_of(run: Run) -> Inputs:
    """Of its data, some of it at the steps where the loss is another."""
    batch = inputs(run, run.batches(), 3)
    return batch._replace(t=torch.where(torch.arange(len(batch.t)) < 3, torch.arange(len(batch.t)), batch.t))


def by_autograd(run: Run, model: DiT, batch: Inputs) -> dict[str, Tensor]:
    model = copy.deepcopy(model)
    losses = loss_of(run, model, batch)
    losses.mean().backward()
    return {"losses": losses.detach(), **{name: p.grad for name, p in model.named_parameters()}}


def step_of(run: Run, model: DiT) -> SmallStep:
    step = small_step(run, model)
    assert step is not None
    return step


@pytest.mark.parametrize("objective", ["mse", "rescaled-mse"])
@pytest.mark.parametrize("prediction", ["noise", "x_start"])
@pytest.mark.parametrize(("batch_size", "patch_size", "dropout"), [(1, 2, 0.1), (13, 4, 0.0), (9, 2, 0.5)])
def test_losses_and_gradients_are_those_of_autograd(
    small_config, tmp_path, objective, prediction, batch_size, patch_size, dropout
):
    process = replace(PROCESSES["ddpm"], objective=objective, prediction=prediction)
    config = small_config(process=process, batch_size=batch_size)
    config = replace(config, model=replace(config.model, patch_size=patch_size, class_dropout_prob=dropout))
    run = Run.create(config, tmp_path)
    model, batch = prepared(run), batch_of(run)
    step, expected = step_of(run, model), by_autograd(run, model, batch)
    for _ in range(2):
        losses = step(batch)
        assert losses is not None
        for name, ours in (("losses", losses), *((name, p.grad) for name, p in model.named_parameters())):
            error = (ours - expected[name]).abs().max() / expected[name].abs().max()
            assert error <= 1e-5, name


def test_labels_of_fewer_bits_and_strided_ones_are_the_same_labels(small_config, tmp_path):
    run = Run.create(small_config(), tmp_path)
    model, batch = prepared(run), batch_of(run)
    step = step_of(run, model)
    assert batch.y is not None
    for y in (batch.y.int(), torch.stack([batch.y, batch.y], 1)[:, 0]):
        losses, expected = step(batch._replace(y=y)), step(batch)
        assert losses is not None
        assert expected is not None
        assert torch.equal(losses, expected)


def test_training_goes_this_way_and_ends_as_by_autograd(small_config, tmp_path, monkeypatch):
    run, other = (Run.create(small_config(), tmp_path / name) for name in ("ours", "plain"))
    given = []
    call = SmallStep.__call__
    monkeypatch.setattr(SmallStep, "__call__", lambda *of: given.append(call(*of)) or given[-1])
    train(run)
    assert len(given) == 10
    assert not any(losses is None for losses in given)
    monkeypatch.setattr(loop, "small_step", lambda *of: None)
    train(other)
    ours, theirs = (one.checkpoints.load(10)["model"] for one in (run, other))
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["flow", "rotary", "shared", "fixed variance", "bfloat16", "frozen", "micro"])
def test_all_else_is_left_to_autograd(small_config, tmp_path, kind):
    one_output = replace(small_config().model, learn_sigma=False)
    changes = {
        "flow": {"process": PROCESSES["linear-velocity"], "model": one_output},
        "fixed variance": {"process": PROCESSES["ddpm-fixed-small"], "model": one_output},
        "rotary": {"model": MODELS["DiT-LLaMA-tiny"]},
        "shared": {"model": MODELS["tiny-shared"]},
        "bfloat16": {"precision": "bfloat16"},
    }.get(kind, {})
    run = Run.create(small_config(**changes), tmp_path)
    model = prepared(run)
    if kind == "frozen":
        model.blocks[0].attn.qkv.weight.requires_grad_(False)
    if kind == "micro":
        model.forward = DiT.forward.__get__(model)
    assert small_step(run, model) is None


def test_loops_are_made_before_the_first_step_and_where_they_cannot_be_there_is_no_small_step(
    small_config, tmp_path, monkeypatch
):
    run = Run.create(small_config(), tmp_path)
    model = prepared(run)
    monkeypatch.setattr("adaln.training.small_step.have_kernels", lambda: False)
    assert small_step(run, model) is None


@pytest.mark.parametrize("where", ["module", "tensor", "accumulated"])
def test_whoever_waits_inside_is_called(small_config, tmp_path, where):
    run, seen = Run.create(small_config(), tmp_path), []

    def wait(step: int, model: torch.nn.Module) -> None:
        assert isinstance(model, DiT)
        if step == 4 and where == "module":
            model.blocks[1].mlp.fc1.register_forward_hook(lambda *_: seen.append(step))
        elif step == 4 and where == "tensor":
            model.blocks[1].mlp.fc1.weight.register_hook(lambda gradient: seen.append(step))
        elif step == 4:
            model.blocks[1].mlp.fc1.weight.register_post_accumulate_grad_hook(lambda parameter: seen.append(step))

    train(run, [wait])
    assert len(seen) == 5


@pytest.mark.parametrize("label", [-1, 11])
def test_a_label_that_the_table_lacks_is_refused_before_it_is_looked_up(small_config, tmp_path, monkeypatch, label):
    at = Batches.at
    monkeypatch.setattr(Batches, "at", lambda self, step: (at(self, step)[0], torch.full((8,), label)))
    run = Run.create(small_config(), tmp_path)
    with pytest.raises(ValueError, match="got labels in"):
        train(run)
