import copy
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from adaln import execution
from adaln.conditioning import SCHEMES
from adaln.execution import (
    Execution,
    blocks,
    compiler_fault,
    kept_rate,
    matrix_products,
    prepare_blocks,
    product_rate,
    recompute,
)
from adaln.models import MODELS, build
from adaln.progress import noting
from adaln.rng import generator
from adaln.runs import Run, read_records
from adaln.runs.folders import config_hash
from adaln.tensor_files import load_tensors
from adaln.training import batch_loss, inputs, loop, resume, train
from adaln.training.loop import accumulate
from adaln.training.resume import run_order
from helpers.networks import DIGITS

TINY = [name for name in MODELS if "tiny" in name]


@pytest.mark.parametrize("name", TINY)
def test_the_blocks_of_every_family_are_found(name):
    model = build(MODELS[name], DIGITS, generator("weights"))
    names = {id(module): name for name, module in model.named_modules()}
    found = [names[id(block)] for block in blocks(model)]
    if name == "U-DiT-tiny":
        assert found == [f"{stage}.0" for stage in ("encoder_level_1", "encoder_level_2", "latent")] + [
            f"decoder_level_{level}.0" for level in (2, 1)
        ]
    else:
        assert found == [f"blocks.{i}" for i in range(len(model.blocks))]


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize(("every", "computed_twice"), [(0, 0), (1, 1), (2, 2)])
def test_checkpointed_blocks_are_computed_twice_with_the_same_gradients(name, every, computed_twice):
    x, t, y = torch.randn(3, 1, 8, 8, generator=generator("x")), torch.tensor([1, 50, 900]), torch.tensor([0, 9, 10])
    plain, checkpointed = (build(MODELS[name], DIGITS, generator("weights")) for _ in range(2))
    names = list(checkpointed.state_dict())
    prepare_blocks(checkpointed, Execution(checkpoint_blocks=every))
    assert list(checkpointed.state_dict()) == names
    calls: list[int] = []
    for index, block in enumerate(blocks(checkpointed)):
        inner = next(module for module in block.modules() if isinstance(module, torch.nn.Linear))
        inner.register_forward_hook(lambda *_, index=index: calls.append(index))
    for model in (plain, checkpointed):
        model(x, t.float() / 1000 if "SiT" in name else t, y).square().mean().backward()
    for one, other in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    count = len(blocks(checkpointed))
    assert [calls.count(i) for i in range(count)] == [2 if every and i % every == 0 else 1 for i in range(count)]


@pytest.mark.parametrize("num_parts", [2, 4, 8])
def test_parts_of_a_batch_add_up_to_the_gradient_of_the_whole(small_config, tmp_path, num_parts):
    run = Run.create(small_config(), tmp_path)
    batch = inputs(run, run.batches(), 0)
    whole, parts = run.new_model(), run.new_model()
    for model in (whole, parts):
        with torch.no_grad():
            model.final_layer.linear.weight.normal_(std=0.1, generator=generator("head"))
    expected, loss = accumulate(run, whole, batch, 1), accumulate(run, parts, batch, num_parts)
    assert expected.item() == pytest.approx(batch_loss(run, whole, run.batches(), 0).mean().item(), rel=1e-6)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-7)


def test_parts_that_do_not_divide_a_batch_are_refused_with_the_nearest_that_do(small_config, tmp_path):
    run = Run.create(small_config(), tmp_path)
    with pytest.raises(ValueError, match=r"micro_batches is 5; expected a divisor of the 8 images .* \(nearest: 4\)"):
        train(run, execution=Execution(micro_batches=5))
    assert not (run.path / "manifest.json").exists()


@pytest.mark.parametrize("wrong", [{"micro_batches": 0}, {"checkpoint_blocks": -1}])
def test_impossible_executions_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        Execution(**wrong)


@pytest.mark.slow
def test_how_a_run_is_computed_is_in_the_manifest_and_its_numbers_stay(small_config, tmp_path):
    plain, other = (Run.create(small_config(), tmp_path / name) for name in ("plain", "other"))
    train(plain)
    train(other, execution=Execution(checkpoint_blocks=1, micro_batches=2))
    session = other.manifest["sessions"][0]
    assert session["execution"] == {
        "compile": False,
        "checkpoint_blocks": 1,
        "parallel": "ddp",
        "micro_batches": 2,
        "deterministic": False,
    }
    assert session["precision"] == "float32"
    losses = [[row["loss"] for row in read_records(run.path / "metrics.jsonl")] for run in (plain, other)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.slow
def test_the_order_is_measured_in_the_parts_and_with_the_checkpoints_of_training(small_config, tmp_path, monkeypatch):
    run = Run.create(small_config(scheme=SCHEMES["adaln-mix"]), tmp_path)
    sizes = set()
    loss_of = resume.loss_of

    def watched(run, model, batch):
        sizes.add(len(batch.x))
        return loss_of(run, model, batch)

    whole = run_order(run)
    (run.path / "order.json").unlink()
    monkeypatch.setattr(resume, "loss_of", watched)
    assert run_order(run, Execution(micro_batches=4, checkpoint_blocks=1)) == whole
    assert set(whole.values()) == {1, 2}
    assert sizes == {2}


def test_a_copy_of_a_checkpointed_network_computes_with_its_own_weights():
    model = build(MODELS["tiny"], DIGITS, generator("weights"))
    prepare_blocks(model, Execution(checkpoint_blocks=1))
    copied = copy.deepcopy(model)
    copied(torch.zeros(1, 1, 8, 8), torch.tensor([5]), torch.tensor([0])).square().sum().backward()
    assert all(p.grad is not None for p in copied.blocks.parameters())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.slow
def test_bfloat16_is_for_the_forward_alone(small_config, tmp_path):
    config = small_config(precision="bfloat16")
    assert config_hash(config) != config_hash(small_config())
    run, plain = Run.create(config, tmp_path), Run.create(small_config(), tmp_path)
    seen = set()

    def look(step, model):
        if not seen:
            model.blocks[0].mlp.fc1.register_forward_hook(lambda _, args, out: seen.add(out.dtype))

    train(run, [look])
    assert seen == {torch.bfloat16}
    for file in ("model", "ema", "training"):
        tensors = load_tensors(run.folder(10) / f"{file}.safetensors")
        assert {tensor.dtype for tensor in tensors.values()} <= {torch.float32, torch.int64}
    assert run.manifest["sessions"][0]["precision"] == "bfloat16"
    train(plain)
    losses = [[row["loss"] for row in read_records(one.path / "metrics.jsonl")] for one in (run, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)
    assert losses[0] != losses[1]


def test_a_precision_that_the_device_lacks_is_refused_before_anything_is_written(small_config, tmp_path):
    with pytest.raises(ValueError, match=r"precision 'tf32' is not .* on device 'cpu'; there are: float32, bfloat16"):
        Run.create(small_config(precision="tf32"), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("precision", "inside"), [("tf32", "high"), ("float32", "highest"), ("bfloat16", "highest")])
def test_the_precision_of_matrix_products_is_put_back(precision, inside):
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    with pytest.raises(KeyError), matrix_products(precision):
        assert torch.get_float32_matmul_precision() == inside
        assert torch.backends.cudnn.allow_tf32 == (precision == "tf32")
        raise KeyError
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before


def test_hooks_see_the_precision_of_matrix_products_that_there_was(small_config, tmp_path, monkeypatch):
    """So that what is scored while training is computed as what is scored afterwards."""
    inside, loss_of = [], loop.loss_of

    def watched(run, model, batch):
        inside.append(torch.backends.cudnn.allow_tf32)
        return loss_of(run, model, batch)

    monkeypatch.setattr(loop, "loss_of", watched)
    monkeypatch.setattr(loop, "small_step", lambda run, network: None)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    outside = []
    run = Run.create(small_config(steps=2), tmp_path)
    train(run, [lambda step, model: outside.append(torch.backends.cudnn.allow_tf32)])
    assert (inside, outside) == ([False, False], [True, True])


@pytest.mark.parametrize("wanted", [False, True])
def test_deterministic_kernels_are_taken_where_they_are_asked_for_and_only_while_training(
    small_config, tmp_path, monkeypatch, wanted
):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    inside, run = [], Run.create(small_config(steps=2), tmp_path)
    looks = [lambda *step: inside.append(torch.are_deterministic_algorithms_enabled())]
    train(run, looks, Execution(deterministic=wanted))
    assert inside == [wanted] * 2
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None) == (":4096:8" if wanted else None)


@pytest.mark.gpu
def test_a_resumed_run_on_a_gpu_is_the_same_bit_for_bit(small_config, tmp_path):
    whole, parts = (Run.create(small_config(precision="bfloat16"), tmp_path / name, device="cuda") for name in "ab")
    train(whole, execution=Execution(deterministic=True))
    for steps in (5, 10):
        shorter = Run.create(replace(parts.config, steps=steps), out=parts.path, device="cuda")
        train(shorter, execution=Execution(deterministic=True))
    for file in ("model", "ema", "training"):
        one, other = (load_tensors(run.folder(10) / f"{file}.safetensors") for run in (whole, parts))
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("device", "expected"), [("cpu", "inductor"), ("meta", recompute)])
def test_blocks_spare_memory_everywhere_but_on_a_cpu(device, expected, monkeypatch):
    found = []
    monkeypatch.setattr(torch, "compile", lambda forward, backend, **options: found.append(backend) or forward)
    model = build(MODELS["tiny"], DIGITS, generator("weights")).to(device)
    said = list[str]()
    with noting(said.append):
        prepare_blocks(model, Execution(compile=True))
    assert said == ["blocks are compiled in the first pass, which takes longer for it"]
    assert found == [expected] * len(blocks(model))


def test_without_a_compiler_one_line_says_so_and_training_goes_on(small_config, tmp_path, monkeypatch, capsys):
    def broken(*args, **kwargs):
        raise RuntimeError("no C++ compiler\nlong story")

    monkeypatch.setattr(torch, "compile", broken)
    compiler_fault.cache_clear()
    run = Run.create(small_config(steps=2), tmp_path)
    train(run, execution=Execution(compile=True))
    compiler_fault.cache_clear()
    assert capsys.readouterr().err == (
        "adaln: going on uncompiled, since torch.compile does not work here: no C++ compiler\n"
    )
    assert run.manifest["sessions"][0]["execution"]["compile"] is False


def compiled(*words, program="compile_blocks"):
    """The lines of a program in a process of its own, without the tests' type checks."""
    command = [sys.executable, "-m", f"helpers.{program}", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "checkpoint_blocks"), [("float32", "0"), ("bfloat16", "2")])
@pytest.mark.parametrize("backend", ["inductor", "recompute"])
def test_equal_blocks_share_one_compilation_without_graph_breaks(backend, precision, checkpoint_blocks):
    assert compiled(backend, precision, checkpoint_blocks, "tiny") == ["tiny 4 1 0 True 5"]


@pytest.mark.slow
def test_blocks_of_every_family_compile_once_for_each_shape():
    """No two of a U-DiT's five stages have one width, resolution and memory layout in common: with samples in both
    precisions and two sizes of batches there are three times as many kinds as torch would compile by itself."""
    graphs = {name: ("5 5", 25) if name == "U-DiT-tiny" else ("4 1", 5) for name in TINY}
    assert compiled("aot_eager", "float32", "0", *TINY) == [
        f"{name} {trained} 0 True {found}" for name, (trained, found) in graphs.items()
    ]


@pytest.mark.slow
def test_blocks_stay_whole_inside_ddp():
    """Where DDP's buckets end, torch would cut them in pieces."""
    assert compiled(program="compile_in_ddp") == ["1"]


@pytest.mark.slow
def test_a_compiled_run_has_the_losses_of_a_plain_one(small_config, tmp_path):
    code = """
import sys
from adaln.execution import Execution
from adaln.runs import Run
from adaln.training import train
train(Run.open(sys.argv[1]), execution=Execution(compile=True, checkpoint_blocks=2, micro_batches=2))
"""
    plain, other = (Run.create(small_config(), tmp_path / name) for name in ("plain", "compiled"))
    train(plain)
    subprocess.run([sys.executable, "-c", code, str(other.path)], check=True, timeout=580)
    assert other.manifest["sessions"][0]["execution"]["compile"] is True
    losses = [[row["loss"] for row in read_records(run.path / "metrics.jsonl")] for run in (plain, other)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_a_rate_is_that_of_one_thread_and_leaves_the_others_alone():
    threads = torch.get_num_threads()
    assert 1e7 < product_rate(64, "float32", torch.device("cpu")) < 1e13
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("damaged", ["", "[1]", '{"a": "x"}', "\xff"])
def test_a_rate_is_timed_once_on_a_machine_and_again_where_the_cache_is_damaged(damaged, tmp_path, monkeypatch):
    timed = []
    monkeypatch.setenv("ADALN_CACHE", str(tmp_path))
    monkeypatch.setattr(execution, "product_rate", lambda width, precision, device: timed.append(width) or 1e9 * width)
    rates = [kept_rate(width, "float32", torch.device("cpu")) for width in (64, 32, 64, 32)]
    assert rates == [64e9, 32e9, 64e9, 32e9] and timed == [64, 32]
    kept_rate(64, "bfloat16", torch.device("cpu"))
    assert timed == [64, 32, 64], "another kind of number is another rate"
    (file,) = tmp_path.iterdir()
    file.write_text(damaged, encoding="latin-1")
    assert kept_rate(64, "float32", torch.device("cpu")) == 64e9 and timed[3:] == [64]
