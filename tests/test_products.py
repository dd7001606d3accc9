"""The linear map by oneDNN is the linear map, and so are its derivatives."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import adaln.models.fused
import adaln.products
from adaln.execution import Execution, prepare_blocks
from adaln.models import MODELS, build
from adaln.products import WideLinear, WideProduct, is_intel, widen_products
from adaln.rng import generator
from adaln.types import DataSpec

needs_wide = pytest.mark.skipif(not adaln.products.HAS_WIDE_PRODUCT, reason="a CPU without AVX-512, or no oneDNN")


@pytest.fixture(autouse=True)
def wide_wherever_possible(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(adaln.products, "IS_WIDER", adaln.products.HAS_WIDE_PRODUCT)
    monkeypatch.setattr(adaln.products, "SMALLEST", 1)


@pytest.mark.parametrize(("vendor", "expected"), [("GenuineIntel", True), ("AuthenticAMD", False)])
def test_the_maker_of_the_processor_is_read_where_linux_tells_it(tmp_path, monkeypatch, vendor: str, expected: bool):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nmodel name\t: any\n" * 99)
    monkeypatch.setattr(adaln.products, "Path", lambda name: tmp_path / Path(name).name)
    assert is_intel() is expected


@pytest.mark.parametrize(("name", "expected"), [("Intel64 Family 6, GenuineIntel", True), ("arm", False), ("", False)])
def test_elsewhere_python_is_asked_for_the_maker(tmp_path, monkeypatch, name: str, expected: bool):
    monkeypatch.setattr(adaln.products, "Path", lambda name: tmp_path / "none")
    monkeypatch.setattr("platform.processor", lambda: name)
    assert is_intel() is expected


def both(bias: bool) -> tuple[WideLinear, nn.Linear]:
    """Ours in float32 and torch's in float64, with the same weights."""
    ours, theirs = WideLinear(40, 24, bias=bias), nn.Linear(40, 24, bias=bias)
    for parameter in ours.parameters():
        nn.init.normal_(parameter, generator=generator("test linear", bias))
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs.double()


def gradients(layer: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Output, first derivatives, and derivatives of the squared first derivative of x."""
    x = x.clone().requires_grad_()
    output = layer(x).square()
    wanted = [x, *layer.parameters()]
    first = torch.autograd.grad(output.sum(), wanted, create_graph=True)
    second = torch.autograd.grad(first[0].square().sum(), [x, layer.weight])
    return [output, *first, *second]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(40,), (7, 40), (3, 5, 40), (2, 3, 4, 40)])
def test_outputs_and_two_orders_of_derivatives_are_those_of_torch(bias: bool, shape: tuple[int, ...]):
    ours, theirs = both(bias)
    x = torch.randn(shape, generator=generator("test linear x", *shape))
    for found, expected in zip(gradients(ours, x), gradients(theirs, x.double()), strict=True):
        assert found.shape == expected.shape
        torch.testing.assert_close(
            found.double(), expected, rtol=2e-5, atol=2e-5 * expected.detach().abs().max().item()
        )


@needs_wide
def test_float32_on_the_cpu_goes_by_onednn_and_nothing_else_does(monkeypatch: pytest.MonkeyPatch):
    used: list[torch.dtype] = []
    apply: Callable[..., torch.Tensor] = WideProduct.apply
    monkeypatch.setattr(WideProduct, "apply", lambda *given: used.append(given[0].dtype) or apply(*given))
    layer, x = WideLinear(40, 24), torch.randn(7, 40, generator=generator("test linear which"))
    layer(x)
    assert used == [torch.float32]
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    monkeypatch.setattr(adaln.products, "SMALLEST", 7 * 40 * 24 + 1)
    layer(x)
    monkeypatch.setattr(adaln.products, "SMALLEST", 7 * 40 * 24)
    layer(x)
    assert used == [torch.float32] * 2
    layer.double()(x.double())
    layer.to("meta")(x.to("meta"))
    assert used == [torch.float32] * 2


@needs_wide
def test_what_is_compiled_is_the_same_product(monkeypatch: pytest.MonkeyPatch):
    layer, x = WideLinear(40, 24), torch.randn(7, 40, generator=generator("test linear compiled"))
    plain = layer(x)
    used: list[torch.Tensor] = []
    operator = adaln.products.compiled_wide_product
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(adaln.products, "compiled_wide_product", lambda *given: used.append(x) or operator(*given))
    assert torch.equal(layer(x), plain)
    assert len(used) == 1
    torch.library.opcheck(operator, (x, layer.weight.detach(), layer.bias.detach()))


def test_weights_of_zero_give_gradients_of_exactly_zero():
    layer, x = WideLinear(40, 24), torch.randn(5, 7, 40, generator=generator("test linear zero")).requires_grad_()
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    output = layer(x)
    assert not output.any()
    output.square().sum().backward()
    assert not layer.weight.grad.any()
    assert not layer.bias.grad.any()
    assert not x.grad.any()


def prepared(name: str) -> nn.Module:
    """A network as training and sampling prepare it, all of whose weights are drawn."""
    model = build(MODELS[name], DataSpec(1, 8, 8, 10), generator("test products", name))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1, generator=generator("test products", *parameter.shape))
    prepare_blocks(model, Execution())
    return model


@needs_wide
@pytest.mark.parametrize("name", ["tiny", "tiny-SE", "tiny-shared", "DiT-LLaMA-tiny", "U-DiT-tiny"])
def test_a_prepared_network_multiplies_by_onednn_wherever_it_has_a_linear_map(monkeypatch, name: str):
    monkeypatch.setattr(adaln.models.fused, "have_kernels", lambda: False)
    apply, count = WideProduct.apply, []
    monkeypatch.setattr(WideProduct, "apply", lambda *given: count.append(1) or apply(*given))
    model = prepared(name)
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    names, x = list(model.state_dict()), torch.randn(2, 1, 8, 8, generator=generator("test products x"))
    output = model(x, torch.tensor([3, 400]), torch.tensor([1, 2]))
    assert len(count) == len(linear)
    output.square().mean().backward()
    wide = [output.detach(), *(parameter.grad for parameter in model.parameters())]
    monkeypatch.setattr(adaln.products, "IS_WIDER", False)
    plain = prepared(name)
    assert list(plain.state_dict()) == names
    output = plain(x, torch.tensor([3, 400]), torch.tensor([1, 2]))
    output.square().mean().backward()
    expected = [output.detach(), *(parameter.grad for parameter in plain.parameters())]
    largest = max(tensor.abs().max().item() for tensor in expected[1:])
    for found, tensor in zip(wide, expected, strict=True):
        torch.testing.assert_close(found, tensor, rtol=1e-4, atol=1e-6 * largest + 1e-4 * tensor.abs().max().item())


def test_nothing_is_widened_where_torch_is_as_fast(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(adaln.products, "IS_WIDER", False)
    assert not any(isinstance(module, WideLinear) for module in prepared("tiny").modules())


def test_linear_maps_of_another_kind_are_left_alone():
    class Other(nn.Linear):
        pass

    layers = nn.Sequential(Other(2, 2), nn.Linear(2, 2))
    widen_products(layers)
    assert type(layers[0]) is Other
