"""Every named network: published counts, and what all networks have in common."""

import json
import math
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from adaln.models import (
    MODELS,
    DiTConfig,
    LLaMAConfig,
    ModelConfig,
    UDiTConfig,
    build,
    flops,
    null_label,
    num_parameters,
    skeleton,
)
from adaln.models.network import counted
from adaln.registry import UnknownName
from adaln.rng import generator
from adaln.types import DataSpec
from helpers.golden_files import golden_files
from helpers.networks import DIGITS

UNCONDITIONAL = DataSpec(3, 8, 16, 0)
SMALL = [name for name in MODELS if "tiny" in name]
PUBLISHED = [
    entry for file in golden_files("models", "configs.json") for entry in json.loads(file.read_text())["configs"]
]


def our_name(reference_name: str) -> str:
    """
    >>> [our_name(name) for name in ("DiT-S/2", "SiTLLaMA_XL_2", "U-DiT-L", "IPT1K")]
    ['DiT-S/2', 'SiT-LLaMA-XL/2', 'U-DiT-L', 'U-DiT-IPT1K']
    """
    if llama := re.fullmatch(r"(DiT|SiT)LLaMA_(\w+)_(\d)", reference_name):
        return "{}-LLaMA-{}/{}".format(*llama.groups())
    return "U-DiT-IPT1K" if reference_name == "IPT1K" else reference_name


def latents(side: int) -> DataSpec:
    return DataSpec(4, side, side, 1000)


def awake(config: ModelConfig, spec: DataSpec, seed: int = 0) -> nn.Module:
    """A network whose every weight, modulation and head included, acts on the output."""
    model = build(config, spec, generator("awake", seed))
    rng = generator("awake noise", seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=rng), alpha=0.1)
    return model


def batch(spec: DataSpec, size: int = 3) -> tuple[Tensor, Tensor, Tensor | None]:
    rng = generator("batch", size)
    y = torch.randint(spec.num_classes, (size,), generator=rng) if spec.num_classes else None
    return torch.randn(size, spec.channels, spec.height, spec.width, generator=rng), torch.rand(size, generator=rng), y


@pytest.fixture(params=SMALL)
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return MODELS[request.param]


@pytest.fixture(params=[DIGITS, UNCONDITIONAL], ids=["digits", "unconditional"])
def spec(request: pytest.FixtureRequest) -> DataSpec:
    return request.param


@pytest.mark.parametrize("size", ["at_256", "at_512"])
@pytest.mark.parametrize("entry", PUBLISHED, ids=lambda entry: our_name(entry["reference_name"]))
def test_parameters_are_as_many_as_published(entry: dict, size: str):
    model = skeleton(MODELS[our_name(entry["reference_name"])], latents(entry[size]["latent"]))
    assert sum(parameter.numel() for parameter in model.parameters()) == entry[size]["params_trainable"]
    assert sum(tensor.numel() for tensor in model.state_dict().values()) == entry[size]["params_total"]


@pytest.mark.parametrize("size", ["at_256", "at_512"])
@pytest.mark.parametrize("entry", PUBLISHED, ids=lambda entry: our_name(entry["reference_name"]))
def test_flops_are_as_many_as_published(entry: dict, size: str):
    counted = flops(MODELS[our_name(entry["reference_name"])], latents(entry[size]["latent"]))
    assert round(counted / 1e9, 4) == entry[size]["gflops_forward"]


def test_every_published_name_is_known_and_a_near_miss_is_named():
    assert {our_name(entry["reference_name"]) for entry in PUBLISHED} <= set(MODELS)
    with pytest.raises(UnknownName, match=r"nearest: 'DiT-XL/2'"):
        MODELS["DiT-XL2"]


def test_the_squeezed_xl_has_582_million_parameters():
    """675.13M less 28 x 3,317,184, counted with the position table as the journal version does."""
    config = MODELS["DiT-XL/2-SE"]
    total = num_parameters(config, latents(32)) + 256 * 1152
    assert total == 675_129_632 - 28 * 3_317_184
    assert round(total / 1e6, 2) == 582.25


def test_a_fresh_network_outputs_exactly_zero(config: ModelConfig, spec: DataSpec):
    x, t, y = batch(spec)
    output = build(config, spec, generator(0))(x, t, y)
    assert output.shape == (len(x), spec.channels * config.outputs_per_channel, *x.shape[2:])
    assert torch.equal(output, torch.zeros_like(output))


@pytest.mark.slow
def test_train_and_eval_are_one_function_and_leave_the_weights_alone(config: ModelConfig, spec: DataSpec):
    model = awake(config, spec)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    inputs = batch(spec)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            outputs = [model.train(mode)(*inputs) for mode in (True, False, False, True)]
        assert all(torch.equal(outputs[0], other) for other in outputs[1:])
    assert outputs[0].abs().max() > 0.01
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_outputs_survive_a_round_trip_through_the_state_dict(config: ModelConfig, spec: DataSpec):
    model, other = awake(config, spec), build(config, spec, generator(1))
    other.load_state_dict(model.state_dict())
    inputs = batch(spec)
    assert torch.equal(model(*inputs), other(*inputs))


def test_weights_assigned_to_a_skeleton_are_the_whole_network(config: ModelConfig, spec: DataSpec):
    model, empty = awake(config, spec), skeleton(config, spec)
    empty.load_state_dict(model.state_dict(), assign=True)
    inputs = batch(spec)
    assert torch.equal(model(*inputs), empty(*inputs))


def test_a_sample_does_not_depend_on_its_batch(config: ModelConfig, spec: DataSpec):
    model = awake(config, spec)
    x, t, y = batch(spec, 5)
    with torch.no_grad():
        together = model(x, t, y)
        alone = torch.cat([model(x[i : i + 1], t[i : i + 1], None if y is None else y[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5 * float(together.abs().max()))


def test_every_parameter_receives_a_gradient(config: ModelConfig, spec: DataSpec):
    model = awake(config, spec)
    model(*batch(spec)).square().mean().backward()
    idle = [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert idle == []


def test_weights_depend_on_the_generator_alone_and_leave_the_global_one(config: ModelConfig):
    state = torch.random.get_rng_state()
    first = build(config, DIGITS, generator("seed", 0)).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(1)
    again = build(config, DIGITS, generator("seed", 0)).state_dict()
    torch.random.set_rng_state(state)
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    other = build(config, DIGITS, generator("seed", 1)).state_dict()
    assert not torch.equal(first["x_embedder.proj.weight"], other["x_embedder.proj.weight"])


def test_inside_the_meta_device_nothing_is_allocated_or_drawn(config: ModelConfig):
    rng = generator(0)
    with torch.device("meta"):
        model = build(config, DIGITS, rng)
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    assert torch.equal(rng.get_state(), generator(0).get_state())


@pytest.mark.slow
def test_forward_and_backward_passes_compile_without_a_graph_break():
    """In a process of its own: the shape checks of the tests are not for the compiler."""
    command = [sys.executable, "-m", "helpers.compile_networks", *SMALL]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split() == SMALL


def test_bfloat16_stays_near_float32(config: ModelConfig):
    model, (x, t, y) = awake(config, DIGITS), batch(DIGITS)
    with torch.no_grad():
        exact = model(x, t, y)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model(x, t, y)
    assert (rounded - exact).abs().mean() < 0.03 * exact.abs().mean()


def test_the_label_table_has_a_null_row_only_where_labels_are_dropped(config: ModelConfig):
    tables = {name for name in build(config, DIGITS, generator(0)).state_dict() if "embedding_table" in name}
    assert len(tables) == (3 if isinstance(config, UDiTConfig) else 1)
    for probability, rows, null in ((0.1, 11, 10), (0.0, 10, None)):
        weights = skeleton(replace(config, class_dropout_prob=probability), DIGITS).state_dict()
        assert {len(weights[name]) for name in tables} == {rows}
        assert null_label(replace(config, class_dropout_prob=probability), DIGITS) == null
    assert not any("y_embedder" in name for name in skeleton(config, UNCONDITIONAL).state_dict())
    assert null_label(config, UNCONDITIONAL) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(3, 2, 8, 8)}, r"got x of C, H, W = \(2, 8, 8\), expected \(1, 8, 8\)"),
        ({"x": torch.zeros(3, 1, 8, 16)}, r"got x of C, H, W = \(1, 8, 16\), expected \(1, 8, 8\)"),
        ({"y": None}, r"got no labels, expected y in 0..10"),
        ({"y": torch.tensor([0, 11, 1])}, r"got labels in 0..11, expected 0..10"),
        ({"y": torch.tensor([-1, 0, 1])}, r"got labels in -1..1, expected 0..10"),
    ],
)
def test_wrong_inputs_are_one_clear_error(config: ModelConfig, change: dict, message: str):
    x, t, y = batch(DIGITS)
    with pytest.raises(ValueError, match=message):
        build(config, DIGITS, generator(0))(**({"x": x, "t": t, "y": y} | change))


def test_labels_for_an_unconditional_network_are_refused(config: ModelConfig):
    x, t, _ = batch(UNCONDITIONAL)
    with pytest.raises(ValueError, match=r"got labels, expected y=None"):
        build(config, UNCONDITIONAL, generator(0))(x, t, torch.zeros(3, dtype=torch.long))


NO_RATIOS = (math.nan, math.inf, -math.inf, 1e30, 0.0, -1.0, 1e-9)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("tiny", {"hidden_size": 66}, "hidden_size 66"),
        ("tiny", {"num_heads": 3}, "hidden_size 64"),
        ("tiny-SE", {"se_ratio": 3}, "se_ratio 3"),
        ("DiT-LLaMA-tiny", {"hidden_size": 56}, "head width 14"),
        ("U-DiT-tiny", {"hidden_size": 20}, "hidden_size 20"),
        ("tiny", {"num_heads": 0}, "num_heads 0"),
        ("U-DiT-tiny", {"depth": (1, 1, 0, 1, 1)}, "depth 0"),
        ("tiny", {"class_dropout_prob": 1.5}, "class_dropout_prob 1.5"),
        ("tiny", {"class_dropout_prob": 1.0}, "class_dropout_prob 1.0"),
        ("U-DiT-tiny", {"class_dropout_prob": -0.1}, "class_dropout_prob -0.1"),
        *((name, {"mlp_ratio": ratio}, "mlp_ratio") for name in ("tiny", "U-DiT-tiny") for ratio in NO_RATIOS),
        ("tiny", {"hidden_size": 1 << 30}, f"hidden_size {1 << 30}"),
    ],
)
def test_configurations_that_are_no_network_are_one_clear_error(name: str, change: dict, message: str):
    with pytest.raises(ValueError, match=f"got {message}.*, expected"):
        replace(MODELS[name], **change)


def test_sizes_that_do_not_divide_are_one_clear_error(config: ModelConfig):
    with pytest.raises(ValueError, match="got 7 x 8, expected multiples of"):
        build(config, DataSpec(1, 7, 8, 10), generator(0))


def test_learned_variance_doubles_the_output_unless_it_is_dropped(config: ModelConfig):
    for learn_sigma in (True, False):
        changed = replace(config, learn_sigma=learn_sigma)
        drops = getattr(config, "drop_variance", False)
        assert changed.outputs_per_channel == (2 if learn_sigma and not drops else 1)
        assert build(changed, DIGITS, generator(0))(*batch(DIGITS)).shape[1] == changed.outputs_per_channel


def test_the_unused_position_table_of_rotary_networks_is_in_the_state_dict(config: ModelConfig):
    model = awake(config, DIGITS)
    assert ("pos_embed" in model.state_dict()) != isinstance(config, UDiTConfig)
    assert "pos_embed" not in dict(model.named_parameters())
    if isinstance(config, LLaMAConfig):
        before = model(*batch(DIGITS))
        model.pos_embed.fill_(7.0)
        assert torch.equal(model(*batch(DIGITS)), before)


@pytest.mark.parametrize("name", [*SMALL, "DiT-S/8-wide"])
@pytest.mark.parametrize(
    "spec",
    [UNCONDITIONAL, *(pytest.param(s, marks=pytest.mark.slow) for s in (DIGITS, DataSpec(3, 16, 8, 7)))],
    ids=str,
)
def test_arithmetic_counts_what_the_built_network_holds_and_computes(name: str, spec: DataSpec):
    config = DiTConfig(128, 3, 2, 4, mlp_ratio=1.7, class_dropout_prob=0.0) if "wide" in name else MODELS[name]
    assert config.counts(spec) == counted(config, spec)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_arithmetic_counts_every_network_of_the_table(name: str):
    assert MODELS[name].counts(latents(32)) == counted(MODELS[name], latents(32))
