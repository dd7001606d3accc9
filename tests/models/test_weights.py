"""Other people's weights: read without running code, fitted bit for bit, refused in one line."""

import json
import os
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DiTTransformer2DModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from adaln.models import MODELS, DiTConfig, LLaMAConfig, ModelConfig, UDiTConfig, build
from adaln.models.layers import sincos_table
from adaln.models.weights import (
    Weights,
    diffusers_config,
    from_diffusers,
    load_weights,
    read_weights,
    spec_of,
    to_diffusers,
)
from adaln.rng import generator
from adaln.types import DataSpec
from helpers.golden_files import COMMITTED
from helpers.networks import DIGITS

REFERENCES: dict[str, ModelConfig] = {
    "dit": DiTConfig(48, 3, 4, 2),
    "sit": DiTConfig(48, 3, 4, 2, drop_variance=True),
    "ditllama": LLaMAConfig(48, 3, 4, 2),
    "udit": UDiTConfig(12, 3, (1, 1, 2, 1, 1)),
}
"""Networks whose weights, under the names of the published code, lie in the golden files."""
TINY = MODELS["tiny"]


def published(family: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights and everything else in a golden file."""
    with safe_open(COMMITTED / "models" / f"{family}_tiny.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    weights = {name.removeprefix("param."): t for name, t in tensors.items() if name.startswith("param.")}
    return weights, tensors


def fresh(config: ModelConfig = TINY, spec: DataSpec = DIGITS, seed: int = 0) -> dict[str, Tensor]:
    """Weights of a network in which everything acts."""
    tensors = build(config, spec, generator("weights", seed)).state_dict()
    rng = generator("awake", seed)
    for name, tensor in tensors.items():
        if name != "pos_embed":
            tensor.add_(torch.randn(tensor.shape, generator=rng), alpha=0.1)
    return tensors


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def loaded(file: Path, config: ModelConfig, size: tuple[int, ...] = ()) -> dict[str, Tensor]:
    weights = read_weights(file)
    return load_weights(weights, config, spec_of(weights, config, size)).state_dict()


@pytest.mark.parametrize("family", REFERENCES)
def test_weights_of_the_published_code_load_bit_for_bit(tmp_path: Path, family: str):
    """Of all three kinds of file, with channels, classes and size read off the tensors (U-DiT's do not tell a size)."""
    tensors, golden = published(family)
    config, size = REFERENCES[family], (16,) if family == "udit" else ()
    save_file(tensors, tmp_path / "released.safetensors")
    torch.save(tensors, tmp_path / "released.pt")
    other = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    checkpoint = {"model": other, "ema": tensors, "opt": {"state": {}}, "args": Namespace(model="DiT-XL/2")}
    torch.save(checkpoint, tmp_path / "training.pt")
    for name in ("released.safetensors", "released.pt", "training.pt"):
        weights = read_weights(tmp_path / name)
        spec = spec_of(weights, config, size)
        assert spec == DataSpec(4, *golden["in.x"].shape[2:], 10)
        model = load_weights(weights, config, spec)
        assert same(model.state_dict(), tensors)
    with torch.no_grad():
        output = model(golden["in.x"], golden["in.t"], golden["in.y"])
    torch.testing.assert_close(output, golden["out.eval"], rtol=0, atol=3e-5)


def test_the_averaged_set_is_preferred_and_the_other_can_be_asked_for(tmp_path: Path):
    ema, model = fresh(seed=1), fresh(seed=2)
    torch.save({"model": model, "ema": ema}, tmp_path / "both.pt")
    torch.save({"model": model}, tmp_path / "one.pt")
    torch.save(model, tmp_path / "plain.pt")
    assert same(read_weights(tmp_path / "both.pt").tensors, ema)
    asked = read_weights(tmp_path / "both.pt", "model")
    assert same(asked.tensors, model)
    assert asked.taken == "model"
    assert read_weights(tmp_path / "one.pt").taken == "model"
    assert read_weights(tmp_path / "plain.pt").taken is None
    with pytest.raises(ValueError, match=r"has no set of weights 'ema'; it has model"):
        read_weights(tmp_path / "one.pt", "ema")
    with pytest.raises(ValueError, match=r"has no set of weights 'ema'; it has one set only"):
        read_weights(tmp_path / "plain.pt", "ema")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrapped_networks_are_taken_off(tmp_path: Path, prefix: str):
    tensors = fresh()
    torch.save({prefix + name: tensor for name, tensor in tensors.items()}, tmp_path / "wrapped.pt")
    assert same(loaded(tmp_path / "wrapped.pt", TINY), tensors)


def test_a_fixed_table_that_was_not_saved_is_computed_once_the_size_is_known(tmp_path: Path):
    tensors = fresh()
    torch.save({name: tensor for name, tensor in tensors.items() if name != "pos_embed"}, tmp_path / "net.pt")
    assert same(loaded(tmp_path / "net.pt", TINY, (8,)), tensors)
    with pytest.raises(ValueError, match="expected --size"):
        loaded(tmp_path / "net.pt", TINY)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_weights_in_float8_tell_their_size_too(tmp_path: Path, dtype: torch.dtype):
    stored = {name: tensor.to(dtype) for name, tensor in fresh(spec=DataSpec(1, 8, 16, 10)).items()}
    save_file(stored, tmp_path / "net.safetensors")
    weights = read_weights(tmp_path / "net.safetensors")
    assert spec_of(weights, TINY) == DataSpec(1, 8, 16, 10)


def test_half_precision_weights_become_float32_without_change(tmp_path: Path):
    halves = {name: tensor.bfloat16() for name, tensor in fresh().items()}
    save_file(halves, tmp_path / "half.safetensors")
    found = loaded(tmp_path / "half.safetensors", TINY)
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    assert all(torch.equal(found[name], tensor.float()) for name, tensor in halves.items())


class Intruder:
    """What a hostile pickle holds: a call that is made while it is read."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_code_in_a_file_is_refused_and_never_run(tmp_path: Path):
    torch.save({"ema": Intruder(f"touch {tmp_path / 'ran'}")}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match=r"would call .*; code is never run") as told:
        read_weights(tmp_path / "evil.pt")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "ran").exists()


def test_damaged_missing_and_foreign_files_are_one_line(tmp_path: Path):
    torch.save(fresh(), tmp_path / "good.pt")
    save_file(fresh(), tmp_path / "good.safetensors")
    for suffix in ("pt", "safetensors"):
        whole = (tmp_path / f"good.{suffix}").read_bytes()
        (tmp_path / f"cut.{suffix}").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.pt").write_text("hello")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"x": torch.ones(2)}, tmp_path / "other.pt")
    (tmp_path / "empty").mkdir()
    for name, message in {
        "cut.pt": "a zip archive that was cut short",
        "text.pt": "is a text that begins 'hello'",
        "cut.safetensors": "is not a complete safetensors file",
        "list.pt": "holds a list; expected tensors by name",
        "other.pt": "has no 'x_embedder.proj.weight'",
        "goad.pt": r"do not exist \(nearest: '.*good.pt'\)",
        "empty": "is no run and no diffusers model",
    }.items():
        with pytest.raises(ValueError, match=message) as told:
            loaded(tmp_path / name, TINY)
        assert "\n" not in str(told.value)


def test_all_that_does_not_fit_is_in_one_line_with_the_nearest_name():
    tensors = fresh()
    tensors["blocks.0.attn.qkv_proj.weight"] = tensors.pop("blocks.0.attn.qkv.weight")
    tensors["final_layer.linear.bias"] = torch.zeros(3)
    for i in range(1, 4):
        del tensors[f"blocks.{i}.mlp.fc1.weight"]
    with pytest.raises(ValueError, match="does not fit") as told:
        load_weights(Weights(tensors, Path("mine.pt"), None, "official", {}), TINY, DIGITS)
    assert str(told.value) == (
        "'mine.pt' does not fit: missing blocks.0.attn.qkv.weight, blocks.1-3.mlp.fc1.weight; unexpected"
        " blocks.0.attn.qkv_proj.weight (nearest: 'blocks.0.attn.qkv.weight'); of another shape"
        " final_layer.linear.bias (3) for (8)"
    )


def test_weights_of_another_registered_network_are_named():
    tensors = fresh(MODELS["DiT-LLaMA-tiny"])
    weights = Weights(tensors, Path("a.pt"), None, "official", {})
    with pytest.raises(ValueError, match=r"holds the weights of DiT-LLaMA-tiny or SiT-LLaMA-tiny, not of the model"):
        load_weights(weights, TINY, DIGITS)


@pytest.mark.parametrize("spec", [DataSpec(3, 8, 24, 0), DataSpec(1, 16, 8, 2), DataSpec(4, 32, 32, 1000)], ids=str)
@pytest.mark.parametrize("name", ["tiny", "SiT-LLaMA-tiny"])
def test_the_data_is_read_off_the_weights(name: str, spec: DataSpec):
    tensors = build(MODELS[name], spec, generator(0)).state_dict()
    tensors["pos_embed"] += 1e-4  # what rounding has done to an averaged table
    assert spec_of(Weights(tensors, Path("a.pt"), None, "official", {}), MODELS[name]) == spec


def test_a_size_that_nothing_tells_is_asked_for():
    tensors, config = fresh(MODELS["U-DiT-tiny"], DataSpec(4, 8, 16, 5)), MODELS["U-DiT-tiny"]
    weights = Weights(tensors, Path("a.pt"), None, "official", {})
    with pytest.raises(ValueError, match="does not tell the size of its data; expected --size"):
        spec_of(weights, config)
    assert spec_of(weights, config, (8, 16)) == DataSpec(4, 8, 16, 5)
    assert spec_of(weights, config, (32,)) == DataSpec(4, 32, 32, 5)
    with pytest.raises(ValueError, match="size is 1 2 3; expected one side, or height and width"):
        spec_of(weights, config, (1, 2, 3))


def test_a_position_table_of_no_grid_is_refused():
    tensors = fresh() | {"pos_embed": torch.randn(1, 16, 64, generator=generator(0))}
    with pytest.raises(ValueError, match=r"pos_embed of shape \(1, 16, 64\) is the sin-cos table of no grid"):
        spec_of(Weights(tensors, Path("a.pt"), None, "official", {}), TINY)


def test_a_position_table_that_is_not_finite_is_called_damaged():
    tensors = fresh() | {"pos_embed": torch.full((1, 16, 64), torch.nan)}
    with pytest.raises(ValueError, match="pos_embed holds values that are not finite"):
        spec_of(Weights(tensors, Path("a.pt"), None, "official", {}), TINY)


# diffusers


def diffusers_model(config: DiTConfig, spec: DataSpec) -> DiTTransformer2DModel:
    settings = {name: value for name, value in diffusers_config(config, spec).items() if name != "_class_name"}
    return DiTTransformer2DModel(**settings).eval()


def with_dit_frequencies(model: DiTTransformer2DModel) -> DiTTransformer2DModel:
    for block in model.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0
    return model


def test_diffusers_own_network_computes_what_ours_does_from_the_same_weights():
    """Equal to rounding (2e-6) once its time frequencies are DiT's; as they are, outputs are 3.7 % away."""
    tensors, golden = published("dit")
    theirs = diffusers_model(REFERENCES["dit"], DataSpec(4, 8, 8, 10))
    theirs.load_state_dict(to_diffusers(tensors, 3), strict=True)
    x, t, y, reference = (golden[name] for name in ("in.x", "in.t", "in.y", "out.eval"))
    with torch.no_grad():
        as_it_is = theirs(x, t, y).sample
        mended = with_dit_frequencies(theirs)(x, t, y).sample
    torch.testing.assert_close(mended, reference, rtol=0, atol=1e-5)
    torch.testing.assert_close(as_it_is[t == 0], reference[t == 0], rtol=0, atol=1e-5)  # all frequencies agree at 0
    distance = float((as_it_is - reference).norm() / reference.norm())
    assert distance == pytest.approx(0.037, abs=0.001)


def test_weights_that_diffusers_made_compute_the_same_with_us(tmp_path: Path):
    torch.manual_seed(0)
    config, spec = DiTConfig(32, 2, 4, 2), DataSpec(3, 8, 8, 5)
    theirs = with_dit_frequencies(diffusers_model(config, spec))
    shared = theirs.transformer_blocks[0].norm1.emb.state_dict()
    for block in theirs.transformer_blocks:
        block.norm1.emb.load_state_dict(shared)
    theirs.save_pretrained(tmp_path)
    weights = read_weights(tmp_path)
    assert spec_of(weights, config) == spec
    ours = load_weights(weights, config, spec)
    x, t, y = torch.randn(3, 3, 8, 8), torch.tensor([0, 250, 999]), torch.tensor([0, 4, 5])
    with torch.no_grad():
        torch.testing.assert_close(ours(x, t, y), theirs(x, t, y).sample, rtol=0, atol=1e-5)
    assert same(to_diffusers(ours.state_dict(), 2), dict(theirs.state_dict()))


def test_there_and_back_is_bit_identical():
    tensors = fresh()
    table = tensors.pop("pos_embed")
    back = from_diffusers(to_diffusers(tensors, 4))
    assert same(back, tensors)
    model = load_weights(Weights(back, Path("a"), None, "diffusers", {}), TINY, DIGITS)
    assert torch.equal(model.state_dict()["pos_embed"], table)


def test_blocks_with_embedders_of_their_own_are_refused():
    theirs = to_diffusers(fresh(), 4)
    theirs["transformer_blocks.2.norm1.emb.class_embedder.embedding_table.weight"] += 1
    with pytest.raises(ValueError, match=r"'transformer_blocks.2.*' differs from other blocks' copies"):
        from_diffusers(theirs)


def test_names_lost_on_the_way_to_diffusers_are_told():
    theirs = to_diffusers(fresh(), 4)
    del theirs["transformer_blocks.1.attn1.to_k.weight"]
    weights = Weights(from_diffusers(theirs), Path("a"), None, "diffusers", {})
    with pytest.raises(ValueError, match=r"missing blocks.1.attn.qkv.weight; unexpected blocks.1.attn1.to_q.weight"):
        load_weights(weights, TINY, DIGITS)


def test_a_config_of_diffusers_that_no_shape_contradicts_is_checked(tmp_path: Path):
    """Another number of heads has the same shapes and other outputs; norm_eps 1e-5 is what diffusers released."""
    save_file(to_diffusers(fresh(), 4), tmp_path / "diffusion_pytorch_model.safetensors")
    settings = diffusers_config(TINY, DIGITS)
    (tmp_path / "config.json").write_text(
        json.dumps(settings | {"norm_eps": 1e-5, "_class_name": "Transformer2DModel"})
    )
    assert same(loaded(tmp_path, TINY), fresh())
    (tmp_path / "config.json").write_text(json.dumps(settings | {"num_attention_heads": 8}))
    with pytest.raises(ValueError, match="num_attention_heads 8; expected 4 as of the model"):
        loaded(tmp_path, TINY)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match="does not tell the size of its data; expected --size"):
        loaded(tmp_path, TINY)
    assert same(loaded(tmp_path, TINY, (8,)), fresh())


@pytest.mark.parametrize("name", ["SiT-tiny", "DiT-LLaMA-tiny", "U-DiT-tiny", "tiny-SE"])
def test_networks_that_diffusers_does_not_have_are_refused(name: str):
    with pytest.raises(
        ValueError, match=r"^the network is a [^()]+ with plain modulation.*expected --layout official$"
    ):
        diffusers_config(MODELS[name], DIGITS)


def test_what_keeps_a_network_from_diffusers_is_named():
    for config, what in ((replace(TINY, gate="tanh"), "gate tanh"), (replace(TINY, mlp_ratio=2), "mlp_ratio 2")):
        with pytest.raises(ValueError, match=f"^the network is a DiT of width 64, [^()]*, {what}; diffusers' layout"):
            diffusers_config(config, DIGITS)


@pytest.mark.parametrize("spec", [DataSpec(1, 8, 16, 10), DataSpec(1, 8, 8, 0)], ids=["oblong", "unconditional"])
def test_data_that_diffusers_dit_does_not_take_is_refused(spec: DataSpec):
    with pytest.raises(ValueError, match="expected square data with classes"):
        diffusers_config(TINY, spec)


def test_the_position_table_that_diffusers_makes_is_ours():
    table = diffusers_model(TINY, DIGITS).pos_embed.pos_embed
    torch.testing.assert_close(table, sincos_table(4, 4, 64), rtol=0, atol=1e-6)
