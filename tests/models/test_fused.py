"""A network computed at once is the network, and so are its derivatives."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook

from adaln import kernels
from adaln.execution import Execution, num_threads, prepare_blocks
from adaln.models import MODELS, build
from adaln.models import fused as fused_module
from adaln.models.dit import DiT
from adaln.progress import noting
from adaln.rng import generator
from adaln.types import DataSpec

needs_compiler = pytest.mark.skipif(not kernels.have_kernels(), reason="no C compiler")


SPEC = DataSpec(1, 8, 8, 3)


@pytest.fixture
def nothing_compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty cache, before and after which nothing is known of kernels."""
    monkeypatch.setenv("ADALN_CACHE", str(tmp_path))
    cached = kernels.have_kernels, kernels.library, kernels.function
    for one in cached:
        one.cache_clear()
    yield tmp_path
    for one in cached:
        one.cache_clear()


def network(
    hidden_size: int = 64, num_heads: int = 4, spec: DataSpec = SPEC, name: str = "tiny", depth: int = 2
) -> DiT:
    """A small DiT with weights that are nowhere zero."""
    config = replace(MODELS[name], hidden_size=hidden_size, num_heads=num_heads, depth=depth)
    model = build(config, spec, generator("test fused"))
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=generator("test fused", name))
    return model


def results(model: DiT, batch: int = 3, draw: int = 0) -> dict[str, torch.Tensor]:
    """The output and the gradient of every weight."""
    spec, rng = model.spec, generator("test fused inputs", draw)
    x = torch.randn(batch, spec.channels, spec.height, spec.width, generator=rng).to(next(model.parameters()).dtype)
    t, y = torch.rand(batch, generator=rng), torch.arange(batch) % 3 if model.num_labels else None
    output = model(x, 1000 * t, y)
    output.square().sum().backward()
    return {"output": output.detach(), **{name: p.grad for name, p in model.named_parameters()}}


def ways(model: DiT, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes each pass that is computed at once from here on."""
    calls: list[str] = []
    call = fused_module.call

    def noted(name: str, *given: Any) -> int:
        if name in ("network", "network_backward"):
            calls.append(name)
        return call(name, *given)

    monkeypatch.setattr(fused_module, "call", noted)
    prepare_blocks(model, Execution())
    return calls


@needs_compiler
@pytest.mark.parametrize(
    ("hidden_size", "num_heads", "spec", "depth", "batch"),
    [
        (64, 4, SPEC, 2, 3),
        (64, 4, SPEC, 3, 33),
        (48, 4, DataSpec(2, 8, 8, 3), 2, 17),
        (32, 4, DataSpec(3, 16, 16, 0), 1, 5),
        (64, 1, DataSpec(1, 2, 2, 3), 2, 3),
        (96, 2, DataSpec(1, 6, 4, 3), 2, 22),
    ],
)
def test_output_and_all_gradients_are_those_of_the_plain_forward(
    hidden_size: int, num_heads: int, spec: DataSpec, depth: int, batch: int, monkeypatch: pytest.MonkeyPatch
):
    plain = network(hidden_size, num_heads, spec, depth=depth)
    at_once, precise = copy.deepcopy(plain), copy.deepcopy(plain).double()
    calls = ways(at_once, monkeypatch)
    errors: dict[str, list[list[float]]] = {}
    for draw in range(7):  # one alone may be a lucky one of the plain forward
        *found, exact = (results(copy.deepcopy(model), batch, draw) for model in (at_once, plain, precise))
        for name, expected in exact.items():
            away = [float((one[name].double() - expected).abs().max() / expected.abs().max()) for one in found]
            errors.setdefault(name, []).append(away)
    assert calls == ["network", "network_backward"] * 7
    for name, draws in errors.items():
        ours, theirs = map(median, zip(*draws, strict=True))
        assert ours <= max(3 * theirs, 2e-6), (name, ours, theirs)


@needs_compiler
def test_gradients_add_up(monkeypatch: pytest.MonkeyPatch):
    model = network()
    ways(model, monkeypatch)
    once = {name: value.clone() for name, value in results(model).items()}
    twice = results(model)
    assert all(torch.equal(twice[name], 2 * once[name]) for name in once if name != "output")


@needs_compiler
def test_derivatives_by_the_image_are_torchs(monkeypatch: pytest.MonkeyPatch):
    model = network()
    calls = ways(model, monkeypatch)
    x = torch.ones(2, 1, 8, 8, requires_grad=True)
    model(x, torch.tensor([1.0, 900.0]), torch.tensor([0, 2])).sum().backward()
    assert x.grad is not None
    assert calls == []


@needs_compiler
def test_it_is_the_same_without_gradients(monkeypatch: pytest.MonkeyPatch):
    model = network()
    calls = ways(model, monkeypatch)
    x, t, y = torch.ones(2, 1, 8, 8), torch.tensor([1.0, 900.0]), torch.tensor([0, 2])
    with torch.no_grad():
        alone = model(x, t, y)
    assert torch.equal(alone, model(x, t, y))
    assert calls == ["network"] * 2


@needs_compiler
def test_without_gradients_no_sample_feels_the_others():
    model = network()
    prepare_blocks(model, Execution())
    x, t, y = torch.randn(9, 1, 8, 8, generator=generator("alone")), torch.full((9,), 500.0), torch.arange(9) % 3
    with torch.no_grad():
        together, alone = model(x, t, y), torch.cat([model(x[i : i + 3], t[:3], y[i : i + 3]) for i in (0, 3, 6)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


@needs_compiler
def test_what_is_not_finite_stays_so():
    model = network()
    prepare_blocks(model, Execution())
    for bad in (float("nan"), float("inf")):
        with torch.no_grad():
            model.blocks[0].attn.qkv.bias[7] = bad
        assert not results(model)["output"].isfinite().any()


@needs_compiler
@pytest.mark.parametrize(
    "other", ["tokens", "channels", "hidden", "rotary", "shared", "bfloat16", "float64", "autocast"]
)
def test_all_else_is_computed_as_the_class_says(other: str, monkeypatch: pytest.MonkeyPatch):
    sizes = {"tokens": {"spec": DataSpec(1, 18, 18, 3)}, "channels": {"hidden_size": 40, "num_heads": 2}}.get(other, {})
    model = network(**sizes, name={"rotary": "DiT-LLaMA-tiny", "shared": "tiny-shared"}.get(other, "tiny"))
    model = model.to({"bfloat16": torch.bfloat16, "float64": torch.float64}.get(other, torch.float32))
    if other == "hidden":
        model = DiT(replace(model.config, mlp_ratio=0.3), model.spec)
    calls = ways(model, monkeypatch)
    with torch.autocast("cpu", torch.bfloat16, enabled=other == "autocast"):
        results(model)
    assert calls == []


@needs_compiler
@pytest.mark.parametrize("name", ["attn", "attn.qkv", "mlp.fc2", "adaLN_modulation.1", None])
def test_a_hook_on_a_part_is_called(name: str | None, monkeypatch: pytest.MonkeyPatch):
    model, seen = network(), []
    calls = ways(model, monkeypatch)
    if name:
        handle = model.blocks[1].get_submodule(name).register_forward_hook(lambda *_: seen.append(name))
    else:
        handle = register_module_forward_hook(lambda module, *_: seen.append(module) if module.training else None)
    with handle:
        results(model)
    assert seen
    assert calls == []


@needs_compiler
def test_many_tokens_are_left_to_several_threads(monkeypatch: pytest.MonkeyPatch):
    model = network()
    calls = ways(model, monkeypatch)
    for threads, expected in ((2, 0), (1, 1)):
        with num_threads(threads):
            results(model, batch=80)
        assert calls.count("network") == expected


@pytest.mark.parametrize("execution", [Execution(compile=True), Execution(checkpoint_blocks=1)], ids=str)
def test_what_is_compiled_or_checkpointed_by_block_is_not_computed_at_once(execution: Execution):
    model = network()
    prepare_blocks(model, execution)
    assert getattr(model.forward, "__func__", None) is DiT.forward


def test_without_a_compiler_blocks_go_the_plain_way_and_standard_error_says_why(monkeypatch, nothing_compiled, capfd):
    monkeypatch.setenv("CC", "no-such-compiler")
    plain, prepared = network(), network()
    calls = ways(prepared, monkeypatch)
    assert torch.equal(results(prepared)["output"], results(plain)["output"])
    assert calls == []
    assert capfd.readouterr().err.count("cannot be made here: [Errno 2]") == 1


@pytest.mark.slow
@needs_compiler
def test_the_loops_are_compiled_once_for_a_processor_which_is_said(nothing_compiled: Path):
    said = list[str]()
    with noting(said.append):
        kernels.library()
    (made,) = (nothing_compiled / "kernels").glob("*.so")
    before = made.stat().st_mtime_ns
    kernels.library.cache_clear()
    with noting(said.append):
        kernels.library()
    assert said == ["compiling the loops of small networks for this processor, once"]
    assert [made] == list((nothing_compiled / "kernels").glob("*.so"))
    assert made.stat().st_mtime_ns == before


@pytest.mark.slow
@needs_compiler
def test_damaged_loops_are_compiled_again_and_never_loaded(nothing_compiled: Path, monkeypatch):
    kernels.library()
    kept = nothing_compiled / "kernels"
    another = nothing_compiled / "another" / "kernels"  # what is loaded by one name stays loaded
    another.mkdir(parents=True)
    for file in kept.iterdir():
        (another / file.name).write_bytes(file.read_bytes()[:1_000])
    monkeypatch.setenv("ADALN_CACHE", str(another.parent))
    kernels.library.cache_clear()
    kernels.library()
    (made,), (whole,) = another.glob("*.so"), kept.glob("*.so")
    assert made.stat().st_size == whole.stat().st_size
