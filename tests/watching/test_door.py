"""Gate, scale and shift of a network that a loop of the tests' own trains."""

import copy
import importlib
import inspect
import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import adaln
from adaln.analysis import role_updates
from adaln.analysis.groups import Group
from adaln.analysis.live import branch_energies, role_effects
from adaln.analysis.recorder import read_recording
from adaln.analysis.watch_handle import ABOUT, TrainingWarning
from adaln.cli import main
from adaln.conditioning import Role, find_layout, find_sites, initialise
from adaln.models import DiTConfig, build
from adaln.rng import generator
from adaln.specs import DataSpec
from adaln.watching.door import chosen, watch
from helpers.networks import DIGITS

STEPS = (0, 1, 2, 4, 6)


def network(scheme="adaln-step1"):
    net = build(DiTConfig(16, 2, 2, 4), DIGITS, generator("watch"))
    initialise(net, scheme)
    return net


def adamw(net, lr=1e-3, **settings):
    return torch.optim.AdamW(net.parameters(), lr=lr, **settings)


def loss_of(net, number):
    rng = generator("watch", number)
    x, y = torch.randn(4, 1, 8, 8, generator=rng), torch.randint(0, 10, (4,), generator=rng)
    return net(x, torch.rand(4, generator=rng), y).square().mean()


def train(net, optimizer, updates, after=lambda loss: None, each=lambda: None):
    """Plain updates, as anyone writes them."""
    for number in updates:
        loss = loss_of(net, number)
        loss.backward()
        optimizer.step()
        after(loss)
        optimizer.zero_grad()
        each()


def gates(net):
    """All gate rows, as they are."""
    parameters = dict(net.named_parameters())
    rows = [parameters[site.weight][site.rows] for site in find_sites(net) if site.role.name == "GATE"]
    return torch.cat(rows).detach().double().flatten()


def recorded(folder):
    """Of the gates of all blocks, by step."""
    found = read_recording(folder / "analysis" / "roles.jsonl")
    return {record.step: record for record in found if record.group == Group("gate")}


def lines(folder):
    return (folder / "analysis" / "roles.jsonl").read_text()


@pytest.mark.parametrize(
    "odd", [None, "x", {"loss": 1.0}, [], torch.tensor([]), torch.tensor(1j), [None], torch.ones((), device="meta")]
)
def test_what_is_no_loss_is_one_warning_and_shifts_none(tmp_path, odd):
    with watch(network(), to=tmp_path / "w", every=10) as handle:
        with pytest.warns(TrainingWarning, match="expected the loss, a number: it is not kept") as said:
            for _ in range(2):
                handle.step()
                handle.log(odd)
        handle.step(loss=3.0)
    assert [str(one.message).count("\n") for one in said] == [0]
    assert json.loads((tmp_path / "w" / "metrics.jsonl").read_text()) == {"step": 3, "loss": 3.0}


@pytest.mark.parametrize("several", [torch.tensor([1.0, 3.0]), torch.tensor([[1], [3]]), [1.0, 3.0]])
def test_of_several_losses_the_mean_is_kept(tmp_path, several):
    with watch(network(), to=tmp_path / "w", every=10) as handle:
        handle.step(loss=several)
    assert json.loads((tmp_path / "w" / "metrics.jsonl").read_text()) == {"step": 1, "loss": 2.0}


def test_a_loss_is_kept_as_it_was_whatever_the_loop_writes_into_it_next(tmp_path, monkeypatch):
    running, array = torch.zeros(()), np.zeros(1, np.float32)
    monkeypatch.setattr("adaln.analysis.update_losses.SECONDS", 100.0)
    for own in (running, array):
        with watch(network(), to=tmp_path / type(own).__name__, every=100) as handle:
            for _ in range(3):
                own += 1
                handle.step(loss=own)
        rows = (tmp_path / type(own).__name__ / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(row)["loss"] for row in rows] == [1.0, 2.0, 3.0]


def test_numbers_keep_their_digits_whatever_the_default_type(tmp_path):
    torch.set_default_dtype(torch.bfloat16)
    try:
        with warnings.catch_warnings(), watch(network(), to=tmp_path / "w", every=100) as handle:
            warnings.simplefilter("error")
            for loss in (0.1234567, [0.1234567, 0.1234567], 1e39):
                handle.step(loss=loss)
    finally:
        torch.set_default_dtype(torch.float32)
    rows = (tmp_path / "w" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["loss"] for row in rows] == [0.1234567, 0.1234567, 1e39]


def test_where_warnings_are_errors_an_alarm_raises_nothing(tmp_path, capsys):
    net = network()
    optimizer = adamw(net)
    handle = watch(net, optimizer, to=tmp_path / "w", every=1)
    next(p for name, p in net.named_parameters() if "adaLN" in name).data.fill_(torch.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(net, optimizer, range(2))
        handle.close()
    assert "TrainingWarning: step 1: " in capsys.readouterr().err
    assert json.loads((tmp_path / "w" / "alarms.jsonl").read_text())["rule"] == "not finite"


def test_updates_are_measured_by_role_as_they_happen(tmp_path):
    net = network()
    optimizer, values = adamw(net), [gates(net)]
    handle = watch(net, optimizer, to=tmp_path / "w", every=STEPS)
    train(net, optimizer, range(6), after=handle.log, each=lambda: values.append(gates(net)))
    handle.close()
    found = recorded(tmp_path / "w")
    assert tuple(found) == STEPS
    for step in STEPS[2:]:
        update, last = values[step] - values[step - 1], values[step - 1] - values[step - 2]
        assert found[step].update_ratio == pytest.approx(float(update.norm() / values[step - 1].norm()))
        assert found[step].moved == float((update != 0).double().mean())
        assert found[step].cosine == pytest.approx(float(update @ last / update.norm() / last.norm()))
        assert found[step].moments.std == pytest.approx(float(values[step].std(correction=0)))
    assert (found[0].update_ratio, found[1].cosine) == (None, None)
    losses = [json.loads(line)["step"] for line in (tmp_path / "w" / "metrics.jsonl").read_text().splitlines()]
    assert losses == [1, 2, 3, 4, 5, 6]


def steps_in(folder):
    return [json.loads(line)["step"] for line in lines(folder).splitlines()]


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("schedule", [{}, {"every": 100}, {"every": (1,)}])
def test_the_end_is_recorded_once_whatever_the_schedule(tmp_path, by_hand, schedule):
    net, tracker = network(), Kept()
    optimizer = adamw(net)
    with watch(net, None if by_hand else optimizer, to=tmp_path / "w", track=[tracker], **schedule) as handle:
        train(net, optimizer, range(7), after=handle.step if by_hand else handle.log)
    handle.close()
    found = recorded(tmp_path / "w")
    assert steps_in(tmp_path / "w")[-1] == 7 and steps_in(tmp_path / "w") == sorted(set(steps_in(tmp_path / "w")))
    assert found[7].moments.std == pytest.approx(float(gates(net).std(correction=0)))
    assert (found[7].update_ratio, found[7].gradient_norm) == (None, None)  # the update before was not kept
    assert "gate/std" in tracker.lines[7]


def test_an_end_that_is_recorded_or_that_no_update_led_to_is_not_recorded_again(tmp_path):
    net = network()
    with watch(net, optimizer := adamw(net), to=tmp_path / "w", every=2) as handle:
        train(net, optimizer, range(4))
    assert steps_in(tmp_path / "w") == [0, 2, 4] and handle.updates == 4
    watch(net, optimizer, to=tmp_path / "w", every=10).close()  # of 4 updates, which the optimiser tells
    assert steps_in(tmp_path / "w") == [0, 2, 4]


def test_nothing_is_recorded_of_an_end_by_an_exception_or_where_the_handle_is_replaced(tmp_path):
    net = network()
    with pytest.raises(RuntimeError), watch(net, optimizer := adamw(net), to=tmp_path / "w", every=10) as handle:
        train(net, optimizer, range(3))
        raise RuntimeError("out of memory")
    handle.close_at_exit()
    assert steps_in(tmp_path / "w") == [0]
    first = watch(net, to=tmp_path / "x", every=10)
    first.step()
    with pytest.warns(TrainingWarning, match="is watched anew"):
        watch(net, to=tmp_path / "x", every=10, step=1)
    assert steps_in(tmp_path / "x") == [0]


def copied_through_data(net):
    for parameter in net.parameters():
        parameter.data.copy_(parameter * 0.5)


def assigned(net):
    net.load_state_dict({name: tensor * 0.5 for name, tensor in net.state_dict().items()}, assign=True)


def emptied(net):
    net.blocks = nn.ModuleList()


@pytest.mark.parametrize("change", [copied_through_data, assigned, emptied, nn.Module.double])
def test_of_weights_that_are_no_longer_what_the_last_update_left_no_end_is_recorded(tmp_path, change):
    net = network()
    handle = watch(net, optimizer := adamw(net), to=tmp_path / "w", every=10)
    train(net, optimizer, range(3))
    change(net)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        handle.close()
    assert steps_in(tmp_path / "w") == [0]


def test_a_process_that_is_not_the_first_records_no_end_though_its_group_is_gone_by_then(tmp_path, monkeypatch):
    net = network()
    for place in ("adaln.analysis.watch_handle.rank", "adaln.analysis.watched_weights.rank"):
        monkeypatch.setattr(place, lambda: 1)
    handle = watch(net, optimizer := adamw(net), to=tmp_path / "w", every=10)
    train(net, optimizer, range(3))
    monkeypatch.undo()
    handle.close()
    assert not (tmp_path / "w" / "analysis" / "roles.jsonl").exists()


def test_a_full_disk_at_the_end_is_one_warning_and_trackers_are_closed(tmp_path, monkeypatch):
    net, tracker = network(), Kept()
    handle = watch(net, optimizer := adamw(net), to=tmp_path / "w", every=10, track=[tracker])
    train(net, optimizer, range(3))
    full = lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))  # noqa: E731
    monkeypatch.setattr("adaln.analysis.watch_handle.append_record", full)
    with pytest.warns(TrainingWarning, match="not all of the training's end is written: .*No space left") as said:
        handle.close()
    assert len(said) == 1 and not handle.is_open


ENDS = """
import os, sys, torch, adaln
from adaln.models import MODELS, build
from adaln.rng import generator
from adaln.specs import DataSpec
network = build(MODELS["tiny"], DataSpec(1, 8, 8, 10), generator("fork"))
watched = adaln.watch(network, to=sys.argv[1], every=100)
for _ in range(3):
    watched.step()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "steps"),
    [("", [0, 3]), ("raise RuntimeError", [0]), ("sys.exit(1)", [0, 3]), ("os.fork() and os.wait()", [0, 3])],
)
def test_where_a_program_ends_its_end_is_recorded_but_not_where_an_exception_ended_it(tmp_path, end, steps):
    command = [sys.executable, "-c", ENDS + end, str(tmp_path / "w")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert steps_in(tmp_path / "w") == steps, done.stderr


def test_the_gradient_is_the_one_that_the_update_used(tmp_path):
    net = network()
    optimizer = adamw(net)
    watch(net, optimizer, to=tmp_path / "w", every=(1,))
    expected = []
    train(net, optimizer, range(1), after=lambda loss: expected.append(role_gradient(net)))
    assert recorded(tmp_path / "w")[1].gradient_norm == pytest.approx(expected[0])


def role_gradient(net):
    parameters, squares = dict(net.named_parameters()), 0.0
    for site in find_sites(net):
        if site.role.name == "GATE":
            squares += sum(float(parameters[name].grad[site.rows].double().square().sum()) for name in site.tensors())
    return squares**0.5


def test_counted_by_hand_or_by_the_optimiser_the_lines_are_the_same(tmp_path):
    by_hand = network()
    optimizer = adamw(by_hand)
    handle = watch(by_hand, to=tmp_path / "hand", every=STEPS)
    train(by_hand, optimizer, range(6), after=handle.step)
    hooked = network()
    watch(hooked, optimizer := adamw(hooked), to=tmp_path / "hook", every=STEPS)
    train(hooked, optimizer, range(6))
    assert lines(tmp_path / "hand") == lines(tmp_path / "hook")


def test_accumulation_counts_updates_and_nothing_is_added_to_the_network(tmp_path):
    net = network()
    before, optimizer = list(net.state_dict()), adamw(net)
    handle = watch(net, optimizer, to=tmp_path / "w", every=1)
    for number in range(6):
        loss_of(net, number).backward()
        if number % 2:
            optimizer.step()
            optimizer.zero_grad()
    assert handle.updates == 3 and tuple(recorded(tmp_path / "w")) == (0, 1, 2, 3)
    assert list(net.state_dict()) == before
    assert not any(module._forward_hooks or module._backward_hooks for module in net.modules())
    handle.close()
    optimizer.step()
    assert handle.updates == 3


def test_a_loop_goes_on_in_the_same_file(tmp_path):
    whole = network()
    watch(whole, optimizer := adamw(whole), to=tmp_path / "whole", every=STEPS)
    train(whole, optimizer, range(6))

    net = network()
    watch(net, optimizer := adamw(net), to=tmp_path / "w", every=STEPS)
    train(net, optimizer, range(5))  # killed after step 5: a checkpoint of step 2 is the newest
    net, optimizer = network(), None
    train(net, optimizer := adamw(net), range(2))
    handle = watch(net, optimizer, to=tmp_path / "w", every=STEPS)
    assert handle.updates == 2
    train(net, optimizer, range(2, 6))
    assert lines(tmp_path / "w") == lines(tmp_path / "whole")


def test_some_entries_stand_for_large_sites_and_norms_are_of_all(tmp_path, monkeypatch):
    monkeypatch.setattr(role_updates, "KEPT_ENTRIES", 64)
    net = network()
    watch(net, optimizer := adamw(net), to=tmp_path / "w", every=(2,))
    norms = []
    train(net, optimizer, range(2), after=lambda loss: norms.append(role_gradient(net)))
    found = recorded(tmp_path / "w")[2]
    assert found.moments.elements == 4 * 64 < found.entries == gates(net).numel()
    assert found.gradient_norm == pytest.approx(norms[-1])


def test_unscaled_gradients_are_recorded_under_a_grad_scaler(tmp_path):
    norms = {}
    for fused in (False, True):
        for scale in (1.0, 1024.0):
            net = network()
            scaler, optimizer = torch.amp.GradScaler("cpu", init_scale=scale), adamw(net, fused=fused)
            watch(net, optimizer, to=tmp_path / f"{fused}-{scale}", every=(1,))
            scaler.scale(loss_of(net, 0)).backward()
            scaler.step(optimizer)
            scaler.update()
            norms[fused, scale] = recorded(tmp_path / f"{fused}-{scale}")[1].gradient_norm
    assert all(norm == pytest.approx(norms[False, 1.0]) for norm in norms.values())


LIBRARY = """
class Trainer:
    def __init__(self, handle):
        self.handle = handle

    def fit(self):
        for on_step in [self.handle.step]:
            on_step(loss="none")
"""


def test_a_warning_points_at_the_line_of_the_program_whoever_called_us_for_it(tmp_path, monkeypatch):
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "somebodys_trainer.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    trainer = importlib.import_module("somebodys_trainer").Trainer
    net = network()
    optimizer, lines_of = adamw(net), dict(enumerate(Path(__file__).read_text().splitlines(), 1))
    handle = watch(net, optimizer, to=tmp_path / "w", every=1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for parameter in net.parameters():
            parameter.grad = torch.full_like(parameter, torch.nan)
        optimizer.step()  # who stepped
        handle.step()  # who stepped again
        handle.log("x")  # who logged
        watch(net, to=tmp_path / "w", step=1)  # who watched anew
        trainer(watch(network(), to=tmp_path / "x", every=10**6)).fit()  # who trained
        watch(adapted(), to=tmp_path / "y")  # who adapted
        watch(network(), to=tmp_path / "z", track=[Kept(offline_from=0)]).close()  # who closed
    assert {one.filename for one in said} == {__file__}
    where = [lines_of[one.lineno].partition("  # who ")[2] for one in said]
    assert where == ["stepped", "stepped again", "logged", "watched anew", "trained", "adapted", "closed"]


def test_half_precision_that_swallows_updates_is_warned_of_once(tmp_path):
    net = network().bfloat16()
    optimizer = adamw(net, lr=1e-6)
    watch(net, optimizer, to=tmp_path / "w", every=1)
    with pytest.warns(TrainingWarning) as warned:
        for _ in range(3):
            loss = sum((parameter.float() * 1e-2).sum() for parameter in net.parameters())
            loss.backward()
            optimizer.step()
    about = [str(one.message) for one in warned if "gate" in str(one.message)]
    assert len(about) == 1 and "stored as bfloat16" in about[0]
    rows = [json.loads(line) for line in (tmp_path / "w" / "alarms.jsonl").read_text().splitlines()]
    assert {row["rule"] for row in rows} == {"swallowed"}


@pytest.mark.parametrize("is_known", [True, False])
def test_an_update_at_no_learning_rate_swallows_nothing(tmp_path, is_known):
    net = network().bfloat16()
    optimizer = adamw(net, lr=1e-6)
    warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda update: float(update > 2))
    handle = watch(net, optimizer if is_known else None, to=tmp_path / "w", every=(1, 2, 3, 5))
    said = []
    for _ in range(5):
        with warnings.catch_warnings(record=True) as now:
            warnings.simplefilter("always", TrainingWarning)
            sum((parameter.float() * 1e-2).sum() for parameter in net.parameters()).backward()
            optimizer.step()
            if not is_known:
                handle.step()
        warmup.step()
        said.append([str(one.message) for one in now if "gate" in str(one.message)])
    first = next(number for number, texts in enumerate(said, 1) if texts)
    assert first == 5, said[first - 1]


def test_a_group_that_is_held_swallows_nothing(tmp_path):
    net = network().bfloat16()
    watch(net, optimizer := adamw(net, lr=0.0), to=tmp_path / "w", every=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", TrainingWarning)
        for _ in range(3):
            sum((parameter.float() * 1e-2).sum() for parameter in net.parameters()).backward()
            optimizer.step()


def test_what_is_no_longer_finite_is_named(tmp_path):
    net = network()
    handle = watch(net, to=tmp_path / "w", every=1)
    name = next(site.weight for site in find_sites(net) if site.depth == 1)
    with torch.no_grad():
        dict(net.named_parameters())[name][0, 0] = float("nan")
    with pytest.warns(TrainingWarning, match=f"step 1: {name} is not finite"):
        handle.step()


@pytest.mark.parametrize("later", [1, 2])
def test_who_was_not_finite_first_is_named_where_an_update_before_tells(tmp_path, later):
    net = network()
    optimizer = adamw(net)
    watch(net, optimizer, to=tmp_path / "w", every=[0, 1, 2 + later])
    name = find_sites(net)[-1].weight
    train(net, optimizer, range(2))
    with torch.no_grad():
        dict(net.named_parameters())[name][0, 0] = float("nan")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        train(net, optimizer, range(2, 2 + later))
    assert "weights changed between two updates" in str(said[0].message)
    assert f"{name} was not finite before the " in str(said[1].message) and len(said) == 2


@pytest.mark.parametrize("broken", [0, 1])
def test_with_a_loss_that_is_not_finite_stands_whether_the_weights_are(tmp_path, broken):
    net = network()
    name = find_sites(net)[-1].weight
    said = f", nor is {name};" if broken else ", though all of gate, scale and shift is;"
    with pytest.warns(TrainingWarning) as warned, watch(net, to=tmp_path / "w", every=1000) as handle:
        dict(net.named_parameters())[name].data[:broken] = float("nan")
        handle.step(loss=float("nan"))
    assert said in str(warned[0].message)


def test_a_loop_that_goes_on_tells_trackers_nothing_twice_and_remembers_its_losses(tmp_path):
    net, kept = network(), []

    class Kept:
        def on_log(self, step, metrics):
            pass

        def on_event(self, step, title, text):
            kept.append(title)

    for begun in (0, 40, 80):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with watch(net, to=tmp_path / "w", every=10**6, step=begun, track=[Kept()]) as handle:
                for number in range(40):
                    handle.step(loss=float("nan") if number == 0 else 100.0 if begun == 80 else 1.0)
    rows = [json.loads(line) for line in (tmp_path / "w" / "alarms.jsonl").read_text().splitlines()]
    assert [(row["rule"], row["step"]) for row in rows] == [("not finite", 1), ("risen", 99)]
    assert kept == ["not finite: loss", "risen: loss"]


def test_a_loss_after_the_end_is_said(tmp_path):
    with watch(network(), to=tmp_path / "w", every=10) as handle:
        handle.step(loss=1.0)
    with pytest.warns(TrainingWarning, match="is closed: no loss is kept"):
        handle.log(2.0)


class Wrapped(nn.Module):
    """A block as activation checkpointing wraps it."""

    def __init__(self, block):
        super().__init__()
        self._checkpoint_wrapped_module = block

    def forward(self, *inputs):
        return self._checkpoint_wrapped_module(*inputs)


def test_blocks_that_are_wrapped_after_watch_are_watched_on(tmp_path):
    net = network()
    optimizer = adamw(net)
    watch(net, optimizer, to=tmp_path / "w", every=1)
    train(net, optimizer, range(2))
    net.blocks[0] = Wrapped(net.blocks[0])
    net.blocks[1] = torch.compile(net.blocks[1], backend="eager")
    with warnings.catch_warnings(), torch.compiler.set_stance("force_eager"):
        warnings.simplefilter("error", TrainingWarning)
        train(net, optimizer, range(2, 4))
    assert sorted(recorded(tmp_path / "w")) == [0, 1, 2, 3, 4]


def test_a_block_that_is_gone_is_named(tmp_path):
    net = network()
    optimizer = adamw(net)
    watch(net, optimizer, to=tmp_path / "w", every=1)
    net.blocks[1] = nn.Identity()
    optimizer.zero_grad()
    net.blocks[0].adaLN_modulation[1].weight.grad = torch.ones(96, 16)
    with pytest.warns(TrainingWarning, match="'blocks.1.*' is no parameter of the network any more; call watch anew"):
        optimizer.step()


def test_compiled_within_a_wrapper_or_block_by_block_is_a_network_too(tmp_path):
    inside = nn.Sequential(torch.compile(network(), backend="eager"))
    by_block = network()
    for number, block in enumerate(by_block.blocks):
        by_block.blocks[number] = torch.compile(block, backend="eager")
    for number, net in enumerate((inside, by_block)):
        watch(net, to=tmp_path / str(number), every=1).step()
        assert adaln.audit(net).num_blocks == 2


@pytest.mark.parametrize("by", ["role", *(pytest.param(by, marks=pytest.mark.slow) for by in ("block", "branch"))])
def test_a_run_whose_weights_are_no_longer_finite_has_its_distributions(tmp_path, by):
    net = network()
    handle = watch(net, to=tmp_path / "w", every=1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(torch.nan)
    with pytest.warns(TrainingWarning):
        handle.step()
    handle.close()
    main(["distributions", str(tmp_path / "w"), "--by", by])
    page = tmp_path / "w" / "analysis" / ("distributions" if by == "role" else f"distributions-by-{by}") / "index.md"
    finite = "gate without a finite value, scale without a finite value, shift without a finite value."
    assert finite in page.read_text()


@pytest.mark.slow
def test_a_process_that_forks_closes_its_watch_once(tmp_path):
    program = """
import os, sys, torch, adaln
from adaln.models import MODELS, build
from adaln.rng import generator
from adaln.specs import DataSpec
watched = adaln.watch(build(MODELS["tiny"], DataSpec(1, 8, 8, 10), generator("fork")), to=sys.argv[1], every=100)
watched.step(loss=1.0)
if pid := os.fork():
    os.waitpid(pid, 0)
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "w")], check=True, timeout=120)
    assert (tmp_path / "w" / "metrics.jsonl").read_text() == '{"step": 1, "loss": 1.0}\n'


def test_a_loss_that_is_no_longer_finite_is_said(tmp_path):
    handle = watch(network(), to=tmp_path / "w", every=1000)
    with pytest.warns(TrainingWarning, match="step 2: the loss is not finite") as warned:
        for loss in (1.0, float("nan"), float("inf")):
            handle.updates += 1
            handle.log(loss)
    handle.close()
    assert len(warned) == 1
    assert len((tmp_path / "w" / "metrics.jsonl").read_text().splitlines()) == 1


def test_every_loss_between_two_records_is_kept(tmp_path):
    handle = watch(network(), to=tmp_path / "w", every=10**6)
    for loss in range(2_500):
        handle.updates += 1
        handle.log(loss)
    handle.close()
    rows = [json.loads(line) for line in (tmp_path / "w" / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["loss"]) for row in rows] == [(i + 1, i) for i in range(2_500)]


def test_a_relative_folder_stays_where_it_is_though_the_program_goes_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    handle = watch(network(), to="w", every=1)
    monkeypatch.chdir("elsewhere")
    handle.step(loss=1.0)
    handle.close()
    assert (tmp_path / "w" / "metrics.jsonl").is_file() and not any((tmp_path / "elsewhere").iterdir())


def test_losses_at_hand_are_written_before_the_next_record(tmp_path, monkeypatch):
    handle, now = watch(network(), to=tmp_path / "w", every=10**6), [0.0]
    monkeypatch.setattr("adaln.analysis.update_losses.monotonic", lambda: now[0])
    file = tmp_path / "w" / "metrics.jsonl"
    for number in range(1, 121):
        handle.step(loss=float(number))
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == list(range(1, 101))
    now[0] += 2
    handle.step(loss=121.0)
    assert json.loads(file.read_text().splitlines()[-1]) == {"step": 121, "loss": 121.0}
    again = watch(network(), to=tmp_path / "w", every=10**6, step=110)  # what a killed loop goes on from
    again.step(loss=111.0)
    again.close()
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == list(range(1, 112))


class Kept:
    """A tracker that keeps what it gets, until it is offline."""

    def __init__(self, offline_from=99):
        self.lines, self.offline_from = {}, offline_from

    def on_log(self, step, metrics):
        if step >= self.offline_from:
            raise OSError("offline")
        self.lines[step] = metrics


def test_trackers_get_numbers_and_nothing_that_fails_ends_a_training(tmp_path):
    net, kept = network(), Kept()
    handle = watch(net, to=tmp_path / "one", every=1, track=[kept, Kept(offline_from=1)])
    handle.step()
    with pytest.warns(UserWarning, match="tracker Kept follows no more, the training goes on: OSError: offline"):
        handle.close()
    assert list(kept.lines) == [0, 1] and {"gate/std", "scale/moved"} <= set(kept.lines[1])
    handle = watch(network(), to=tmp_path / "w", every=1)
    handle.step()
    (tmp_path / "w" / "analysis" / "roles.jsonl").unlink()
    (tmp_path / "w" / "analysis").rmdir()
    with pytest.warns(TrainingWarning, match="nothing is recorded of step 2"):
        handle.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        handle.step()  # said once


def test_branches_are_looked_into_when_the_loop_asks_for_it_and_nothing_stays(tmp_path):
    net, kept = network("adaln-step1"), Kept()
    handle = watch(net, to=tmp_path / "w", every=100, track=[kept])
    x, t, y = torch.randn(2, 1, 8, 8), torch.rand(2), torch.tensor([0, 1])
    rng = torch.get_rng_state()
    found = handle.branches(x, t, y=y)
    assert [(one.block, one.branch) for one in found[:2]] == [("blocks.0", "attn"), ("blocks.0", "mlp")]
    expected = {(one.block, one.branch): one for one in branch_energies(net, {"x": x, "t": t, "y": y})}
    assert [one.energy for one in found[:4]] == [one.ratio for one in expected.values()]
    scales = [value for site, value in role_effects(net, {"x": x, "t": t, "y": y}, find_layout(net), Role.SCALE)]
    assert [one.largest_scale for one in found] == [float(value.abs().max()) for value in scales]
    assert torch.equal(torch.get_rng_state(), rng) and net.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert handle.branches(x, t, y) == found
    rows = [json.loads(line) for line in (tmp_path / "w" / "analysis" / "branches.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 0] and len(rows[0]["branches"]) == len(found)
    handle.close()
    assert {"attn/energy", "mlp/largest_scale", "final/largest_scale"} <= set(kept.lines[0])


def test_a_branch_that_cannot_be_looked_into_is_a_warning(tmp_path):
    handle = watch(network(), to=tmp_path / "w", every=100)
    with pytest.warns(TrainingWarning, match="no branch is looked into at step 0: missing a required argument: 't'"):
        assert handle.branches(torch.zeros(2, 1, 8, 8)) == []


@pytest.mark.slow
def test_its_folder_makes_a_page_and_distributions(tmp_path, capsys):
    net = network()
    handle = adaln.watch(net, optimizer := adamw(net), to=tmp_path / "w", every=STEPS)
    train(net, optimizer, range(6), after=handle.log)
    handle.branches(torch.randn(2, 1, 8, 8), torch.rand(2), torch.tensor([0, 1]))
    handle.close()
    main(["report", str(tmp_path / "w")])
    page = (tmp_path / "w" / "report" / "index.md").read_text()
    assert "DiT, watched over 6 updates: nothing to warn of." in page and "Update ratio of each role" in page
    assert "Energy of each branch" in page and "Largest |1 + scale| of each branch" in page.replace("\\", "")
    capsys.readouterr()
    main(["distributions", str(tmp_path / "w"), "--json"])
    data = json.loads(capsys.readouterr().out)
    assert (tmp_path / "w" / "analysis" / "distributions" / "index.html").exists()
    assert {row["step"] for row in data["groups"]} == set(STEPS)


class Adapted(nn.Module):
    """A layer that is frozen, and what is trained beside it."""

    def __init__(self, layer):
        super().__init__()
        self.base_layer = layer.requires_grad_(False)
        self.lora_A, self.lora_B = nn.Linear(layer.in_features, 2), nn.Linear(2, layer.out_features)

    def forward(self, x):
        return self.base_layer(x) + self.lora_B(self.lora_A(x))


def adapted():
    net = network().requires_grad_(False)
    for block in net.blocks:
        block.adaLN_modulation[1] = Adapted(block.adaLN_modulation[1])
    return net


def test_an_adapter_beside_what_is_watched_is_said(tmp_path):
    with pytest.warns(TrainingWarning, match="lora_A.weight' is an adapter of 'blocks.0.adaLN_modulation.1.base_layer"):
        watch(adapted(), to=tmp_path / "w")


@pytest.mark.parametrize(
    "every", [3, (0, 3), [0, 3], {0, 3}, range(0, 10**12, 3), np.int64(3), [np.int64(0), np.int64(3)]]
)
def test_steps_are_chosen_by_a_number_or_by_any_list_of_them(every):
    assert [step for step in range(5) if chosen(every)(step)] == [0, 3]


def test_a_folder_that_is_watched_anew_is_left_by_the_handle_that_had_it(tmp_path):
    net = network()
    optimizer = adamw(net)
    first = watch(net, optimizer, to=tmp_path / "w", every=1)
    with pytest.warns(TrainingWarning, match="is watched anew: the handle that had it is closed"):
        second = watch(net, optimizer, to=tmp_path / "w", every=1)
    train(net, optimizer, range(2), after=lambda loss: (first.log(loss), second.log(loss)))
    assert (first.updates, second.updates) == (0, 2)
    assert [json.loads(line)["step"] for line in lines(tmp_path / "w").splitlines()] == [0, 1, 2]
    with pytest.warns(TrainingWarning, match="is closed: nothing is recorded"):
        first.step()
    second.close()
    assert [json.loads(line)["step"] for line in (tmp_path / "w" / "metrics.jsonl").read_text().splitlines()] == [1, 2]


class Twice(nn.Module):
    """A network without modulation."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)


def normed():
    """A network whose modulation is kept as direction and length."""
    net = network()
    torch.nn.utils.parametrizations.weight_norm(net.blocks[0].adaLN_modulation[1])
    return net


def test_a_handle_prints_its_folder_and_how_far_it_is(tmp_path):
    handle = watch(network(), to=tmp_path / "w")
    handle.step()
    assert repr(handle) == f"<Watch of {str(tmp_path / 'w')!r}, 1 updates>"
    handle.close()
    assert repr(handle).endswith("1 updates, closed>")


class Follows:
    def on_log(self, step, metrics):
        pass


@pytest.mark.parametrize(
    ("make", "settings", "named"),
    [
        (Twice, {}, "no known modulation|no layer"),
        (network, {"optimizer": lambda net: adamw(network())}, "holds none of the network's modulation"),
        (network, {"optimizer": lambda net: "adamw"}, "optimizer is a str; expected a torch.optim.Optimizer"),
        (network, {"every": 0}, "every is 0; expected a number of updates"),
        (network, {"every": "10"}, "every is '10'; expected a number of updates"),
        (network, {"every": 1.5}, "every is 1.5"),
        (network, {"every": [1, -1]}, r"every is \[1, -1\]"),
        (network, {"every": []}, r"every is \[\]"),
        (network, {"every": -5}, "every is -5"),
        (network, {"every": True}, "every is True"),
        (network, {"every": b"10"}, "every is b'10'"),
        (network, {"every": {"10"}}, "every is {'10'}"),
        (network, {"every": [True]}, r"every is \[True\]"),
        (network, {"every": torch.arange(3)}, r"every is a tensor of \(3,\), torch.int64; expected a number"),
        (network, {"every": torch.tensor(3)}, r"every is a tensor of \(\), torch.int64"),
        (network, {"every": np.arange(9).reshape(3, 3)}, r"every is array\(\[\[0, 1, 2\], \[3"),
        (network, {"every": np.float64(5)}, "every is np.float64"),
        (network, {"every": iter([1])}, "every is <list_iterator"),
        (network, {"every": range(-5, 10**9)}, "every is range"),
        (network, {"step": torch.tensor([[3], [4]])}, r"step is a tensor of \(2, 1\)"),
        (network, {"step": True}, "step is True"),
        (network, {"to": "/dev/null"}, "'/dev/null' is a file; expected a folder"),
        (network, {"to": "/dev/null/w"}, "'/dev/null' is a file; expected a folder"),
        (network, {"to": "/proc/w/watched"}, "to is '/proc/w/watched', where nothing can be written: No such file"),
        (network, {"to": "w" * 300}, "where nothing can be written: File name too long"),
        (network, {"to": "a\0b"}, "to is 'a.x00b'; expected a folder"),
        (network, {"to": b"w"}, "to is b'w'; expected a folder"),
        (
            lambda: network().requires_grad_(False),
            {"optimizer": lambda net: adamw(nn.Linear(2, 2))},
            "modulation is frozen .* expected no optimizer",
        ),
        (
            adapted,
            {"optimizer": lambda net: adamw(net.blocks[0].adaLN_modulation[1].lora_A)},
            "modulation is frozen .* 'blocks.0.adaLN_modulation.1.lora_A.weight' is an adapter",
        ),
        (network, {"step": -1}, "step is -1"),
        (network, {"step": "3"}, "step is '3'; expected the number of updates"),
        (network, {"step": 1.5}, "step is 1.5"),
        (network, {"to": None}, "to is None; expected a folder"),
        (network, {"to": __file__}, "is a file; expected a folder"),
        (network, {"track": "tensorboard"}, r"track is 'tensorboard'; expected a list of trackers"),
        (network, {"track": [object()]}, "tracker object has no on_log"),
        (network, {"track": [Follows]}, r"tracker Follows is a class; expected one made of it, Follows\(...\)"),
        (network, {"optimizer": lambda net: []}, r"optimizer is \[\]; expected the optimisers, or None"),
        (network, {"family": 3}, "family is 3; expected its name"),
        (normed, {}, "ways on: family=, by name, by the file of a layout"),
        (network, {"optimizer": lambda net: [adamw(net), "x"]}, "optimizer is a str"),
        (dict, {}, "model is a dict; expected a network, an nn.Module"),
        (network, {"track": ["wandbb"]}, r"unknown tracker 'wandbb' \(nearest: 'wandb'\)"),
        (lambda: network().to("meta"), {}, "has no values here \\(on meta"),
        (lambda: nn.Sequential(network(), nn.LazyLinear(4)), {}, "'1.weight' has no shape before the first batch"),
        (network, {"every": range(-(10**30), 10**30)}, "every is range"),
    ],
)
def test_what_cannot_be_watched_is_one_line_before_training(tmp_path, make, settings, named):
    net = make()
    given = {name: value(net) if callable(value) else value for name, value in settings.items()}
    with pytest.raises(ValueError, match=named) as error:
        inspect.unwrap(watch)(net, **{"to": tmp_path / "w", **given})  # as where nothing checks annotations
    assert "\n" not in str(error.value)
    assert not (tmp_path / "w").exists()


def test_a_folder_that_a_full_disk_or_a_kill_left_unclaimed_is_taken(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(ValueError, match="No space left"):
            watch(network(), to=tmp_path / "w")
    (tmp_path / "w" / f".tmp-{ABOUT}-123").write_text("{")
    watch(network(), to=tmp_path / "w", every=1).step()
    assert [one.name for one in (tmp_path / "w").iterdir() if one.name.startswith(".tmp")] == []


def test_a_loss_logged_before_its_step_is_said_once(tmp_path):
    net = network()
    optimizer = adamw(net)
    with watch(net, optimizer, to=tmp_path / "w", every=2) as watched, pytest.warns(TrainingWarning) as said:
        for number in range(6):
            loss_of(net, number).backward()
            watched.log(1.0)
            optimizer.step()
            optimizer.zero_grad()
    assert [str(one.message).partition(",")[0] for one in said] == ["a loss was logged before the first update"]


def test_a_folder_of_another_network_or_of_something_else_is_refused(tmp_path):
    watch(network(), to=tmp_path / "w", every=1).step()
    with pytest.raises(ValueError, match="holds records up to step 1; expected step=N"):
        watch(network(), to=tmp_path / "w")
    other = build(DiTConfig(16, 3, 2, 4), DIGITS, generator("watch"))
    with pytest.raises(ValueError, match="is of another network"):
        watch(other, to=tmp_path / "w", step=0)
    wider = build(DiTConfig(16, 2, 2, 4), DataSpec(2, 8, 8, 10), generator("watch"))  # of the same modulation's shapes
    with pytest.raises(ValueError, match="is of another network"):
        watch(wider, to=tmp_path / "w", step=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="holds something else"):
        watch(network(), to=tmp_path / "mine")


class Gated(nn.Module):
    """A block of a network that nobody's type checker looks into."""

    def __init__(self):
        super().__init__()
        self.attn, self.mlp = nn.Linear(8, 8), nn.Linear(8, 8)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(8, 48))

    def forward(self, x, c):
        rows = self.adaLN_modulation(c).chunk(6, dim=-1)
        for branch, (shift, scale, gate) in (self.attn, rows[:3]), (self.mlp, rows[3:]):
            x = x + gate * branch(nn.functional.layer_norm(x, (8,)) * (1 + scale) + shift)
        return x


class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Gated() for _ in range(2))

    def forward(self, x, c):
        for block in self.blocks:
            x = block(x, c)
        return x


@pytest.mark.slow
def test_a_compiled_network_has_no_graph_break_of_it(tmp_path):
    rng = generator("watch", "compiled")
    x, c = torch.randn(4, 8, generator=rng), torch.randn(4, 8, generator=rng)
    torch.manual_seed(0)
    plain = Blocks()
    compiled = torch.compile(copy.deepcopy(plain), backend="eager", fullgraph=True)
    for name, net in ("plain", plain), ("compiled", compiled):
        watch(net, optimizer := adamw(net), to=tmp_path / name, every=1)
        for _ in range(4):
            net(x, c).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert torch._dynamo.utils.counters["graph_break"] == {}
    assert lines(tmp_path / "plain") == lines(tmp_path / "compiled")


@pytest.mark.slow
def test_a_step_that_compiles_whole_is_refused_with_the_way_on(tmp_path):
    class Plain(torch.optim.Optimizer):
        @torch.no_grad()
        def step(self):
            for parameter in self.param_groups[0]["params"]:
                if parameter.grad is not None:
                    parameter.sub_(1e-3 * parameter.grad)

    def trained(name, is_given):
        torch.manual_seed(0)
        net = Blocks()
        optimizer = Plain(net.parameters(), {})
        handle = watch(net, optimizer if is_given else None, to=tmp_path / name, every=1)

        @torch.compile(backend="eager", fullgraph=True)
        def step():
            optimizer.step()

        for _ in range(2):
            net(torch.ones(4, 8), torch.ones(4, 8)).square().mean().backward()
            step()
            if not is_given:
                handle.step()
        return handle.updates

    with pytest.raises(torch._dynamo.exc.Unsupported, match="give watch no optimizer and call its step"):
        trained("given", True)
    assert trained("said", False) == 2


@pytest.mark.slow
def test_what_the_first_process_refuses_all_do_where_all_take_part(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "else.txt").write_text("mine")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "helpers.watch_together", str(tmp_path / "taken")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("holds something else") == 2  # and they trained on


@pytest.mark.slow
def test_two_processes_record_what_one_does(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for start, folder in ([sys.executable], "one"), (torchrun, "two"):
        program = [*start, "-m", "helpers.watch_together", str(tmp_path / folder)]
        done = subprocess.run(program, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (read_recording(tmp_path / folder / "analysis" / "roles.jsonl") for folder in ("one", "two"))
    assert [(record.step, record.group) for record in one] == [(record.step, record.group) for record in two]
    assert sorted({record.step for record in one}) == [0, 1, 2, 3, 4]  # the last at the end
    for ours, theirs in zip(one, two, strict=True):
        for read in ("gradient_norm", "update_ratio", "moved", "cosine"):
            assert getattr(ours, read) == pytest.approx(getattr(theirs, read), rel=1e-6), (ours.step, ours.group, read)
        assert ours.moments.std == pytest.approx(theirs.moments.std, rel=1e-6)
