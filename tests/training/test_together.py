"""Several processes train the run that one would: torchrun, gloo, this machine's cores.

They hold the whole network each, or shards of it (FSDP2). Starting them takes longer than what they train, so each of
four launches trains many runs; tests look at what it left.
"""

import json
import signal
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from adaln.analysis.recorder import Recorder, read_recording
from adaln.conditioning import SCHEMES
from adaln.config import Schedule
from adaln.execution import Execution
from adaln.models import MODELS
from adaln.runs import Run, read_records
from adaln.tensor_files import load_tensors
from adaln.training import Stopped, train

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("torchrun")]
FSDP = {"parallel": "fsdp"}
IN_PARTS = {"micro_batches": 2, "checkpoint_blocks": 1}


@pytest.fixture(scope="module")
def configs(small_config):
    """Runs of twenty steps that log each, of images that are mirrored and labels that are dropped."""
    small = small_config()
    few = {"data": replace(small.data, flip=True), "log_every": 1, "steps": 20, "checkpoint_every": 10}
    plain = replace(small, **few, batch_size=12)
    return {
        "plain": plain,
        "tiny": replace(plain, model=MODELS["tiny"]),
        "U-DiT": replace(plain, model=MODELS["U-DiT-tiny"]),
        "mix": replace(plain, scheme=SCHEMES["adaln-mix"]),
        "bfloat16": replace(plain, precision="bfloat16"),
        "clipped": replace(plain, optim=replace(plain.optim, grad_clip=0.05)),
        "scheduled": replace(plain, optim=replace(plain.optim, schedule=Schedule(5, "linear", 8, 15, 0.1))),
        "averaged": replace(plain, optim=replace(plain.optim, ema_widths=(0.05, 0.1))),
        "roles": replace(plain, optim=replace(plain.optim, lr_of=("gate=0.01",), weight_decay_of=("backbone=0.1",))),
        "muon": replace(plain, optim=replace(plain.optim, muon=("backbone", "head"), lr_of=("head=0.001",))),
        "muon of rows": replace(plain, optim=replace(plain.optim, muon=("gate",))),
        "indivisible": replace(plain, batch_size=9),
    }


@pytest.fixture(scope="module")
def alone(configs, tmp_path_factory):
    """The runs by one process."""
    root, runs = tmp_path_factory.mktemp("alone"), {}

    def run_of(name, micro_batches=1):
        execution = Execution(micro_batches=micro_batches)
        if (name, micro_batches) not in runs:
            run = runs[name, micro_batches] = Run.create(configs[name], root / f"{len(runs)}")
            train(run, [Recorder(run.path / "analysis" / "roles.jsonl")], execution)
        return runs[name, micro_batches]

    return run_of


@pytest.fixture(scope="module")
def launched(configs, tmp_path_factory):
    """Runs by name, what processes said of each (by rank), and what they had saved after each launch.

    Two processes, three, two of which one is killed, and two that torchrun starts again twice.
    """
    root = tmp_path_factory.mktemp("together")
    found = SimpleNamespace(runs={}, said=defaultdict(list), codes=[], saved=[])

    def job(name, of, execution=FSDP, **wanted):
        if name not in found.runs:
            found.runs[name] = Run.create(configs[of], root / name)
        return {"path": str(found.runs[name].path), "execution": execution, **wanted}

    def launch(processes, restarts, *jobs):
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        program = ["--max-restarts", str(restarts), "-m", "helpers.train_together", json.dumps(jobs)]
        done = subprocess.run([*torchrun, *program], capture_output=True, text=True, timeout=500, check=False)
        for rank, path, text in sorted(json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")):
            found.said[Path(path).relative_to(root).parts[0]].append((rank, text))
        found.codes.append(done.returncode)
        found.saved.append({name: run.steps_saved() for name, run in found.runs.items()})

    job("moved", "plain")
    with pytest.raises(Stopped, match="stopped at step 3 of 20"):
        train(found.runs["moved"], [lambda step, model: signal.raise_signal(signal.SIGTERM) if step == 2 else None])
    launch(
        2,
        0,
        job("whole tiny", "tiny", {}),
        job("whole U-DiT", "U-DiT", {}),
        job("whole in parts", "plain", IN_PARTS),
        job("whole mix", "mix", {}),
        job("indivisible", "indivisible", {}),
        job("whole poisoned", "plain", {}, poison=[1, 12]),
        job("moved", "plain", {}, terminate=[1, 12]),
        job("sharded tiny", "tiny", record=True),
        job("sharded U-DiT", "U-DiT"),
        job("sharded mix", "mix"),
        job("sharded bfloat16", "bfloat16"),
        job("sharded clipped", "clipped"),
        job("sharded averaged", "averaged"),
        job("sharded scheduled", "scheduled"),
        job("sharded roles", "roles"),
        job("sharded muon", "muon"),
        job("sharded muon of rows", "muon of rows"),
        job("sharded poisoned", "plain", poison=[1, 12]),
        job("sharded moved", "plain", terminate=[1, 3]),
        job("sharded compiled", "tiny", FSDP | IN_PARTS | {"compile": True}),
    )
    launch(
        3,
        0,
        job("whole by three", "plain", {}),
        job("sharded by three", "tiny", FSDP | IN_PARTS),
        job("sharded moved", "plain", terminate=[0, 8]),
    )
    launch(2, 0, job("killed", "plain", {}, kill=[1, 14, 0]))
    launch(
        2,
        2,
        job("whole restarted", "plain", {}, kill=[1, 14, 0]),
        job("sharded restarted", "plain", kill=[1, 14, 1]),
        job("killed", "plain", {}),
        job("sharded moved", "plain", {}, terminate=[1, 13]),
    )
    return found


def losses(run):
    rows = read_records(run.path / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 21))  # one process writes, no line is missing
    return [row["loss"] for row in rows]


def assert_same_files(run, one, step):
    """The tensors of a checkpoint are those of one process: names, shapes and types, and values to rounding.

    The bias of keys changes no attention, nor do queries, keys and temperature where there is one token alone (the
    latent blocks of a U-DiT of 8 x 8 pixels), so that their gradient is rounding, of which Adam makes whole steps: they
    are left out.
    """
    for name in ("model", "ema", "training"):
        ours, theirs = (load_tensors(each.folder(step) / f"{name}.safetensors") for each in (run, one))
        assert ours.keys() == theirs.keys()
        for key, tensor in theirs.items():
            assert (ours[key].shape, ours[key].dtype) == (tensor.shape, tensor.dtype), key
            if "latent." in key and key.endswith("logit_scale"):
                continue
            apart = (ours[key] - tensor).abs()
            if "latent." in key and ".to_qkv." in key and apart.ndim:
                apart = apart.chunk(3)[2]
            if key.endswith("qkv.bias") and apart.ndim:
                query, _, value = apart.chunk(3)
                apart = torch.cat([query, value])
            assert apart.max() < 1e-4, key


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("whole tiny", "tiny"),
        ("whole U-DiT", "U-DiT"),
        ("whole in parts", "plain"),
        ("whole by three", "plain"),
    ],
)
def test_several_processes_have_the_losses_of_one(launched, alone, name, of):
    run, one = launched.runs[name], alone(of)
    assert losses(run) == pytest.approx(losses(one), rel=1e-6, abs=0)
    assert run.steps_saved() == one.steps_saved()
    averaged = [load_tensors(each.folder(20) / "ema.safetensors") for each in (run, one)]
    for key, tensor in averaged[1].items():
        assert (averaged[0][key] - tensor).abs().max() < 1e-4, key


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("sharded tiny", "tiny"),
        ("sharded by three", "tiny"),
        ("sharded compiled", "tiny"),
        ("sharded averaged", "averaged"),
        ("sharded U-DiT", "U-DiT"),
        ("sharded roles", "roles"),
    ],
)
def test_sharded_weights_have_the_losses_and_files_of_one_process(launched, alone, name, of):
    run, one = launched.runs[name], alone(of)
    assert losses(run) == pytest.approx(losses(one), rel=1e-5, abs=0)
    for step in (10, 20):
        assert_same_files(run, one, step)


@pytest.mark.parametrize("kind", ["whole", "sharded"])
def test_all_processes_hold_the_order_that_one_measures(launched, alone, kind):
    run, one = launched.runs[f"{kind} mix"], alone("mix")
    assert (run.path / "order.json").read_bytes() == (one.path / "order.json").read_bytes()
    assert losses(run) == pytest.approx(losses(one), rel=1e-5 if kind == "sharded" else 1e-6, abs=0)
    assert_same_files(run, one, 20)


def test_weights_sent_in_bfloat16_have_the_losses_of_one_process_that_rounds_as_often(launched, alone):
    """Gradients are rounded to bfloat16 once per part of a batch, whoever computes the part."""
    run, one = launched.runs["sharded bfloat16"], alone("bfloat16", micro_batches=2)
    assert losses(run) == pytest.approx(losses(one), rel=1e-6, abs=0)
    assert losses(run) != pytest.approx(losses(alone("plain")), rel=1e-5, abs=0)
    assert_same_files(run, one, 20)


def test_the_gradient_is_clipped_by_the_norm_of_the_whole(launched, alone):
    run, one = launched.runs["sharded clipped"], alone("clipped")
    assert losses(run) == pytest.approx(losses(one), rel=1e-5, abs=0)
    norms = [[row["grad_norm"] for row in read_records(each.path / "metrics.jsonl")] for each in (run, one)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    assert min(norms[1]) > 0.05


def test_the_learning_rate_of_sharded_weights_follows_its_schedule(launched, alone):
    run, one = launched.runs["sharded scheduled"], alone("scheduled")
    assert losses(run) == pytest.approx(losses(one), rel=1e-5, abs=0)
    rates = [[row["lr"] for row in read_records(each.path / "metrics.jsonl")] for each in (run, one)]
    assert rates[0] == rates[1]
    assert len(set(rates[0])) > 10


def test_every_process_alone_records_what_sharded_ones_record(launched, alone):
    runs = launched.runs["sharded tiny"], alone("tiny")
    sharded, whole = (read_recording(run.path / "analysis" / "roles.jsonl") for run in runs)
    assert [(r.step, r.group) for r in sharded] == [(r.step, r.group) for r in whole]
    for ours, theirs in zip(sharded, whole, strict=True):
        assert ours.moments.std == pytest.approx(theirs.moments.std, rel=1e-3, abs=1e-7)
        assert ours.gradient_norm == pytest.approx(theirs.gradient_norm, rel=1e-3, abs=1e-7)


def test_a_run_goes_on_with_another_number_of_processes(launched, alone):
    """One process, then two that are stopped through the second, then one: stopped at any step, not at a checkpoint."""
    run = launched.runs["moved"]
    assert launched.saved[0]["moved"] == [3, 10, 13]
    assert [text.split(",")[0] for _, text in launched.said["moved"]] == ["Stopped: stopped at step 13 of 20"] * 2
    train(Run.open(run.path))
    assert losses(run) == pytest.approx(losses(alone("plain")), rel=1e-6, abs=0)
    assert [session["processes"] for session in run.manifest["sessions"]] == [1, 2, 1]


def test_a_run_goes_on_sharded_over_any_number_of_processes(launched, alone):
    """Two shards, three shards, two with the whole network each, one alone: stopped at any step."""
    run = launched.runs["sharded moved"]
    saved = [each["sharded moved"] for each in launched.saved]
    assert saved == [[4], [4, 9], [4, 9], [4, 9, 10, 14]]
    train(Run.open(run.path))
    assert losses(run) == pytest.approx(losses(alone("plain")), rel=1e-5, abs=0)


@pytest.mark.parametrize("kind", ["whole", "sharded"])
def test_what_is_not_finite_in_one_process_stops_all_of_them(launched, kind):
    name = f"{kind} poisoned"
    said = "NonFinite: step 12: the gradient of 'blocks.0.attn.qkv.weight' is not finite"
    assert launched.said[name] == [(0, said), (1, said)]
    assert launched.runs[name].steps_saved() == [10]


def test_a_killed_process_takes_the_others_along_and_no_checkpoint(launched, alone):
    assert launched.codes[2] != 0
    assert launched.saved[2]["killed"] == [10]
    assert losses(launched.runs["killed"]) == pytest.approx(losses(alone("plain")), rel=1e-6, abs=0)


@pytest.mark.parametrize("kind", ["whole", "sharded"])
def test_torchrun_brings_a_run_back_whose_worker_was_killed(launched, alone, kind):
    run = launched.runs[f"{kind} restarted"]
    assert launched.codes[3] == 0
    assert [session["from_step"] for session in run.manifest["sessions"]][:2] == [0, 10]
    assert losses(run) == pytest.approx(losses(alone("plain")), rel=1e-5, abs=0)


def test_a_batch_that_processes_cannot_share_is_refused(launched):
    said = "ValueError: batch_size is 9; expected a multiple of the 2 processes"
    assert launched.said["indivisible"] == [(0, said), (1, said)]


def test_matrices_that_are_sharded_are_moved_whole_by_muon_and_rows_of_them_not(launched, alone):
    """Muon computes in bfloat16, and sums of shards are rounded otherwise."""
    run, one = launched.runs["sharded muon"], alone("muon")
    assert losses(run) == pytest.approx(losses(one), rel=1e-3, abs=0)
    assert losses(run)[-1] != pytest.approx(losses(alone("plain"))[-1], rel=1e-2, abs=0)
    ours, theirs = (load_tensors(each.folder(20) / "training.safetensors") for each in (run, one))
    assert {name: one.shape for name, one in ours.items()} == {name: one.shape for name, one in theirs.items()}
    assert "which is sharded" in launched.said["sharded muon of rows"][0][1]


def test_every_other_run_ended_well(launched):
    assert launched.codes == [0, 0, launched.codes[2], 0]
    expected = {"sharded muon of rows", "indivisible", "whole poisoned", "sharded poisoned", "moved", "sharded moved"}
    assert set(launched.said) == expected, launched.said
