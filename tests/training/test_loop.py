import os
import signal
from dataclasses import replace

import pytest
import torch

from adaln.conditioning import SCHEMES, Role, Start, find_sites
from adaln.config import OptimConfig
from adaln.data import Batches
from adaln.models import MODELS
from adaln.processes import PROCESSES
from adaln.rng import generator
from adaln.runs import Run, read_records
from adaln.tensor_files import load_tensors
from adaln.training import Stopped, TrainState, batch_loss, drop_labels, inputs, loop, train
from adaln.types import NonFinite
from helpers.runs import assert_same_bits, stop_after

ZEROED = [name for name, row in SCHEMES.items() if row.head == Start() and not row.needs]
"""Schemes of any network whose first output is zero."""


@pytest.mark.parametrize("scheme", ["adaln-zero", "adaln-mix", "adaln"])
@pytest.mark.parametrize("stop_at", [1, 7, *(pytest.param(k, marks=pytest.mark.slow) for k in (2, 3))])
def test_ten_steps_are_k_steps_a_stop_and_the_rest_bit_for_bit(small_config, tmp_path, scheme, stop_at):
    config = small_config(scheme=SCHEMES[scheme])
    whole, parts = (Run.create(config, tmp_path / name) for name in ("whole", "parts"))
    train(whole)
    stop_after(parts, stop_at)
    train(Run.open(parts.path))
    assert_same_bits(whole, parts)
    assert (whole.path / "metrics.jsonl").read_bytes() == (parts.path / "metrics.jsonl").read_bytes()


def test_very_many_processes_ask_each_other_less_often_whether_to_stop(small_config, tmp_path, monkeypatch):
    run, asked = Run.create(small_config(), tmp_path), []

    def stop(step, model):
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop, "world", lambda: 128)
    monkeypatch.setattr(loop, "any_of", lambda flag: asked.append(flag) or flag)
    with pytest.raises(Stopped, match="stopped at step 6 of 10"):
        train(run, [stop])
    assert asked == [False, True]
    assert 6 in run.steps_saved()


def test_a_kill_without_warning_loses_only_the_steps_since_the_last_checkpoint(small_config, tmp_path):
    whole, killed = (Run.create(small_config(), tmp_path / name) for name in ("whole", "killed"))
    train(whole)

    class Killed(BaseException):
        pass

    def kill(step, model):
        if step == 7:
            raise Killed

    with pytest.raises(Killed):
        train(killed, [kill])
    assert killed.steps_saved() == [5]
    assert read_records(killed.path / "metrics.jsonl")[-1]["step"] == 6
    train(Run.open(killed.path))
    assert_same_bits(whole, killed)
    assert (whole.path / "metrics.jsonl").read_bytes() == (killed.path / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("name", [name for name in ZEROED if "blockwise" not in name])
def test_the_first_loss_is_the_mean_squared_noise_for_every_scheme_with_a_zeroed_head(small_config, tmp_path, name):
    config = small_config(
        scheme=SCHEMES[name],
        process=PROCESSES["ddpm-fixed-large"],
        model=replace(small_config().model, learn_sigma=False),
    )
    run = Run.create(config, tmp_path)
    batches, model = run.batches(), run.new_model()
    x, _ = batches.at(0)
    rng = generator("train", config.seed, 0)
    torch.rand(len(x), generator=rng)  # label dropout comes first
    torch.randint(run.process.num_steps, (len(x),), generator=rng)
    noise = torch.randn(x.shape, generator=rng)
    loss = batch_loss(run, model, batches, 0)
    torch.testing.assert_close(loss, noise.square().mean(dim=(1, 2, 3)), rtol=0, atol=0)


def test_under_adaln_the_gates_are_one_after_training(small_config, tmp_path):
    run = Run.create(small_config(scheme=SCHEMES["adaln"]), tmp_path)
    train(run)
    for file in ("model.safetensors", "ema.safetensors"):
        tensors = load_tensors(run.folder(10) / file)
        for site in find_sites(tensors):
            if site.role is Role.GATE:
                assert not tensors[site.weight][site.rows].any()
                assert bool((tensors[site.bias][site.rows] == 1).all())
    counted = run.manifest["parameters"]
    assert counted["network"] - counted["trained"] == 2 * 2 * (16 * 16 + 16)


def test_batches_of_a_step_do_not_depend_on_the_steps_before(small_config, tmp_path):
    run = Run.create(small_config(), tmp_path)
    model = run.new_model()
    late = batch_loss(run, model, run.batches(), 123)
    for step in range(3):
        batch_loss(run, model, run.batches(), step)
    assert torch.equal(late, batch_loss(run, model, run.batches(), 123))
    assert not torch.equal(late, batch_loss(run, model, run.batches(), 124))


def test_global_generators_are_not_used(small_config, tmp_path):
    before = torch.get_rng_state()
    train(Run.create(small_config(), tmp_path))
    assert torch.equal(before, torch.get_rng_state())


def test_labels_are_dropped_at_the_given_rate():
    y, u = torch.zeros(20_000, dtype=torch.long), torch.rand(20_000, generator=generator("test"))
    dropped = drop_labels(y, 10, 0.1, u)
    assert set(dropped.tolist()) == {0, 10}
    assert (dropped == 10).float().mean().item() == pytest.approx(0.1, abs=5 * (0.09 / 20_000) ** 0.5)
    assert drop_labels(y, None, 0.1, u) is y


@pytest.mark.parametrize("process", ["ddpm", "linear-velocity"])
def test_the_shares_of_several_processes_are_the_rows_of_one_batch(small_config, tmp_path, process):
    flipped = replace(small_config().data, flip=True)
    model = replace(small_config().model, class_dropout_prob=0.5, learn_sigma=process == "ddpm")
    run = Run.create(small_config(process=PROCESSES[process], data=flipped, model=model), tmp_path)
    whole = inputs(run, run.batches(), 3)
    assert (whole.y == run.null_label).any()
    shares = [inputs(run, Batches(run.dataset, 2, run.config.seed, rank, world=4), 3) for rank in range(4)]
    for rows, parts in zip(whole, zip(*shares, strict=True), strict=True):
        assert torch.equal(rows, torch.cat(parts))
    assert len(torch.unique(whole.noise, dim=0)) == 8


@pytest.mark.slow
def test_training_lowers_the_loss(small_config, tmp_path):
    run = Run.create(small_config(steps=60, optim=OptimConfig(lr=3e-3)), tmp_path)
    train(run)
    losses = [row["loss"] for row in read_records(run.path / "metrics.jsonl")]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_a_loss_that_is_not_finite_stops_with_the_first_bad_output_and_keeps_the_last_checkpoint(
    small_config, tmp_path
):
    run = Run.create(small_config(), tmp_path)

    def poison(step, model):
        if step == 6:  # finite weights whose next forward overflows
            with torch.no_grad():
                model.blocks[1].mlp.fc1.weight.fill_(3e38)
                model.final_layer.linear.weight.fill_(1.0)

    with pytest.raises(NonFinite, match=r"step 7: the output of 'blocks\.1\.mlp\.fc1' is not finite"):
        train(run, [poison])
    assert run.steps_saved() == [5]


def test_a_gradient_that_is_not_finite_stops_before_it_touches_the_weights(small_config, tmp_path):
    run = Run.create(small_config(), tmp_path)
    seen = {}

    def poison(step, model):
        seen["model"] = model
        if step == 6:
            model.blocks[0].attn.qkv.weight.grad[0, 0] = float("nan")

    with pytest.raises(NonFinite, match=r"step 6: the gradient of 'blocks\.0\.attn\.qkv\.weight' is not finite"):
        train(run, [poison])
    assert all(bool(torch.isfinite(p).all()) for p in seen["model"].parameters())


def test_held_rows_refuse_weight_decay(small_config, tmp_path):
    run = Run.create(small_config(scheme=SCHEMES["adaln"], optim=OptimConfig(weight_decay=0.1)), tmp_path)
    with pytest.raises(ValueError, match="weight decay"):
        train(run)


def test_gradient_clipping_bounds_the_update(small_config, tmp_path):
    run = Run.create(small_config(optim=OptimConfig(grad_clip=1e-3)), tmp_path)
    state = TrainState(run.new_model(), run.config.optim)
    loss = batch_loss(run, state.model, run.batches(), 0).mean()
    loss.backward()
    clipped = {}
    state.optimizer.register_step_pre_hook(
        lambda *_: clipped.update(
            norm=torch.cat([p.grad.flatten() for p in state.trained if p.grad is not None]).norm()
        )
    )
    state.update(loss)
    assert clipped["norm"].item() == pytest.approx(1e-3, rel=1e-2)
    assert state.grad_norm().item() > 1e-2


def test_the_average_follows_its_formula(small_config, tmp_path):
    run = Run.create(small_config(optim=OptimConfig(lr=1e-2, ema_decay=0.9)), tmp_path)
    state = TrainState(run.new_model(), run.config.optim)
    expected = {name: p.detach().double() for name, p in state.named.items()}
    for step in range(3):
        loss = batch_loss(run, state.model, run.batches(), step).mean()
        loss.backward()
        state.update(loss)
        expected = {name: 0.9 * value + 0.1 * state.named[name].detach().double() for name, value in expected.items()}
    averaged = dict(state.ema.named_parameters())
    for name, value in expected.items():
        torch.testing.assert_close(averaged[name].double(), value, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["SiT-tiny", "U-DiT-tiny"])
def test_other_families_train(small_config, tmp_path, model):
    process = "linear-velocity" if model.startswith("SiT") else "ddpm"
    run = Run.create(small_config(model=MODELS[model], process=PROCESSES[process], steps=2), tmp_path)
    train(run)
    assert run.steps_saved() == [2]


def test_what_is_logged_is_told_once_it_is_written(small_config, tmp_path):
    run, told, written = Run.create(small_config(), tmp_path), [], []

    def log(step, metrics):
        told.append({"step": step, **metrics})
        written.append(read_records(run.path / "metrics.jsonl")[-1])

    train(run, on_log=[log, lambda step, metrics: None])
    assert told == written == read_records(run.path / "metrics.jsonl")
    assert [row["step"] for row in told] == [2, 4, 6, 8, 10]


@pytest.mark.slow
def test_what_on_log_raises_ends_the_training_which_goes_on_from_its_last_checkpoint(small_config, tmp_path):
    whole, broken = (Run.create(small_config(), tmp_path / name) for name in ("whole", "broken"))
    train(whole)

    def log(step, metrics):
        if step == 8:
            raise ConnectionError("the server is gone")

    with pytest.raises(ConnectionError, match="the server is gone"):
        train(broken, on_log=[log])
    assert broken.steps_saved() == [5]
    steps = []
    train(broken, on_log=[lambda step, metrics: steps.append(step)])
    assert steps == [6, 8, 10]
    assert_same_bits(whole, broken)
    assert (whole.path / "metrics.jsonl").read_bytes() == (broken.path / "metrics.jsonl").read_bytes()
