"""What every tensor of a new network is drawn from, family by family."""

import math

import pytest
import torch

from adaln.models import MODELS, DiTConfig, ModelConfig, UDiTConfig, build
from adaln.rng import generator
from adaln.types import DataSpec

SPEC = DataSpec(3, 8, 8, 400)
D = 64
DIT = DiTConfig(hidden_size=D, depth=2, num_heads=4, patch_size=2)
UDIT = UDiTConfig(hidden_size=32, num_heads=4, depth=(1, 1, 1, 1, 1))
UNIFORM_BOUNDS = {
    "tiny": {
        "x_embedder.proj.weight": math.sqrt(6 / (D + 3 * 2 * 2)),
        "blocks.1.attn.qkv.weight": math.sqrt(6 / (D + 3 * D)),
        "blocks.1.attn.proj.weight": math.sqrt(6 / (D + D)),
        "blocks.1.mlp.fc1.weight": math.sqrt(6 / (D + 4 * D)),
        "blocks.1.mlp.fc2.weight": math.sqrt(6 / (D + 4 * D)),
    },
    "tiny-SE": {"blocks.1.adaLN_modulation.1.weight": math.sqrt(6 / (D + D / 2))},
    "DiT-LLaMA-tiny": {
        "blocks.1.mlp.c_fc1.weight": math.sqrt(6 / (D + 256)),
        "blocks.1.mlp.c_proj.weight": math.sqrt(6 / (D + 256)),
    },
    "U-DiT-tiny": {
        "x_embedder.proj.weight": math.sqrt(6 / (16 + 3 * 9)),
        "down1_2.body.0.weight": math.sqrt(6 / (9 * 16 + 9 * 8)),
        "up3_2.body.0.weight": math.sqrt(6 / (9 * 64 + 9 * 128)),
        "reduce_chan_level2.weight": math.sqrt(6 / (64 + 32)),
        "output.weight": math.sqrt(6 / (9 * 32 + 9 * 32)),
        "latent.0.attn2.to_qkv.weight": math.sqrt(6 / (64 + 192)),
        "latent.0.attn2.to_out.weight": math.sqrt(6 / (64 + 64)),
        "latent.0.attn1.downsampler.layer.weight": math.sqrt(6 / (25 * (1 + 64))),
        "latent.0.mlp1.dwconv.0.weight": math.sqrt(6 / (25 * (1 + 128))),
        "latent.0.mlp1.dwconv.1.weight": math.sqrt(6 / (9 * (1 + 128))),
        "latent.0.mlp1.dwconv.2.weight": math.sqrt(6 / (1 + 128)),
        "latent.0.mlp2.project_in.1.weight": math.sqrt(6 / (64 + 128)),
    },
}
NORMAL_STDS = {
    "tiny": dict.fromkeys(("t_embedder.mlp.0.weight", "t_embedder.mlp.2.weight"), 0.02)
    | {"y_embedder.embedding_table.weight": 0.02},
    "tiny-shared": {"t_block.1.weight": 0.02, "blocks.1.scale_shift_table": D**-0.5},
    "U-DiT-tiny": {"t_embedder_3.mlp.2.weight": 0.02, "y_embedder_1.embedding_table.weight": 0.02},
}
ZEROS = {
    "tiny": (
        "blocks.1.adaLN_modulation.1.weight",
        "final_layer.adaLN_modulation.1.weight",
        "final_layer.linear.weight",
    ),
    "tiny-SE": ("blocks.1.adaLN_modulation.3.weight",),
    "tiny-shared": ("final_layer.adaLN_modulation.1.weight", "final_layer.linear.weight"),
    "U-DiT-tiny": (
        "latent.0.adaLN_modulation1.1.weight",
        "latent.0.adaLN_modulation2.1.weight",
        "final_layer.adaLN_modulation.1.weight",
        "final_layer.out_proj.weight",
    ),
}


def rows(table: dict[str, dict[str, float]]) -> list[tuple[str, str, float]]:
    return [(model, name, value) for model, tensors in table.items() for name, value in tensors.items()]


def weights(name: str) -> dict[str, torch.Tensor]:
    return build(MODELS[name], SPEC, generator("fresh")).state_dict()


@pytest.mark.parametrize(("model", "name", "bound"), rows(UNIFORM_BOUNDS))
def test_linear_maps_and_convolutions_are_xavier_uniform(model: str, name: str, bound: float):
    tensor = weights(model)[name]
    deviations = 5 / math.sqrt(tensor.numel())  # of a uniform's second moment, relative: sqrt(4/5) per element
    assert tensor.abs().max() <= bound
    assert tensor.square().mean() == pytest.approx(bound**2 / 3, rel=deviations)
    assert (tensor.abs() > bound / 2).float().mean() == pytest.approx(0.5, abs=deviations / 2)


@pytest.mark.parametrize(("model", "name", "std"), rows(NORMAL_STDS))
def test_embedders_and_tables_are_normal(model: str, name: str, std: float):
    tensor = weights(model)[name]
    assert tensor.std().item() == pytest.approx(std, rel=5 / math.sqrt(2 * tensor.numel()))
    assert (tensor.abs() < std).float().mean() == pytest.approx(0.6827, abs=2.5 / math.sqrt(tensor.numel()))


@pytest.mark.parametrize(("model", "name"), [(model, name) for model, names in ZEROS.items() for name in names])
def test_modulations_and_heads_are_zero(model: str, name: str):
    assert not weights(model)[name].any()


@pytest.mark.parametrize("model", [name for name in MODELS if "tiny" in name])
def test_every_bias_is_zero_and_nothing_else_but_modulations_and_heads(model: str):
    zero = {name for name, tensor in weights(model).items() if not tensor.any()}
    expected = {name for name in weights(model) if name.endswith("bias") or name.startswith("final_layer")}
    squeezed = {name for name in weights(model) if name.endswith("adaLN_modulation.1.weight") and "-SE" in model}
    modulations = {name for name in weights(model) if "adaLN_modulation" in name}
    assert zero == expected | modulations - {name for name in squeezed if name.startswith("blocks")}


def test_logit_scales_start_at_ln_10():
    scale = weights("U-DiT-tiny")["encoder_level_1.0.attn1.logit_scale"]
    assert scale.shape == (4, 1, 1)
    torch.testing.assert_close(scale, torch.full((4, 1, 1), math.log(10)), rtol=0, atol=0)


@pytest.mark.parametrize("config", [DIT, UDIT], ids=["DiT", "U-DiT"])
def test_fresh_blocks_are_the_identity(config: ModelConfig):
    """Whatever enters the first block reaches the last one's end unchanged, bit for bit."""
    model = build(config, SPEC, generator("fresh"))
    seen = []
    first, last = (model.blocks[0], model.blocks[-1]) if config is DIT else (model.latent[0], model.latent[-1])
    first.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    last.register_forward_hook(lambda module, inputs, output: seen.append(output))
    model(torch.randn(2, 3, 8, 8, generator=generator("x")), torch.tensor([0, 999]), torch.tensor([1, 400]))
    assert seen[0].abs().max() > 0
    assert torch.equal(seen[0], seen[1])


def test_a_time_that_a_whole_batch_is_sampled_at_is_embedded_once():
    model = build(MODELS["tiny"], SPEC, generator("condition"))
    rows: list[int] = []
    model.t_embedder.register_forward_hook(lambda module, given, output: rows.append(len(given[0])))
    one, several, y = torch.full((6,), 500), torch.arange(6), torch.arange(6)
    trained = model.condition(one, y)
    with torch.no_grad():
        sampled, others = model.condition(one, y), model.condition(several, y)
    assert rows == [6, 1, 6]
    torch.testing.assert_close(sampled, trained)
    torch.testing.assert_close(others[5], model.condition(torch.tensor([5]), torch.tensor([5]))[0])
