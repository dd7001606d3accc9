"""Outputs, guided outputs and every gradient of the reference networks, from all golden files there are."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from adaln.models import DiTConfig, LLaMAConfig, ModelConfig, UDiTConfig, build, null_label
from adaln.rng import generator
from adaln.types import DataSpec
from helpers.golden_files import golden_files

FILES = golden_files("models", "*.safetensors")
FAMILIES = {
    "DiT": (DiTConfig, {}),
    "SiT": (DiTConfig, {"drop_variance": True}),
    "DiTLLaMA": (LLaMAConfig, {}),
    "SiTLLaMA": (LLaMAConfig, {"drop_variance": True}),
    "U-DiT": (UDiTConfig, {}),
}
FIELD_TYPES = {"mlp_ratio": float, "class_dropout_prob": float, "depth": lambda v: tuple(v) if type(v) is list else v}
"""JSON writes 2 for 2.0 and knows no tuples."""
PUBLISHED_UDIT = {
    "down_factor": 2,
    "ffn_type": "rep",
    "rep": 1,
    "attn_type": "v2",
    "posemb_type": "rope2d",
    "downsampler": "dwconv5",
    "down_shortcut": 1,
}


def from_reference(family: str, arguments: dict[str, Any]) -> tuple[ModelConfig, DataSpec]:
    """The reference's constructor arguments in our words; what we have no word for raises."""
    config_type, extra = FAMILIES[family]
    arguments = {name: FIELD_TYPES.get(name, lambda v: v)(value) for name, value in arguments.items()}
    side = arguments.pop("input_size", 32)
    spec = DataSpec(arguments.pop("in_channels", 4), side, side, arguments.pop("num_classes", 1000))
    if config_type is LLaMAConfig:
        arguments.pop("mlp_ratio", None)  # the reference ignores it
    if config_type is UDiTConfig:
        for name, value in PUBLISHED_UDIT.items():
            if (given := arguments.pop(name, value)) != value:
                raise ValueError(f"{name}={given!r} is not the published U-DiT")
    return config_type(**arguments, **extra), spec


class Golden:
    """One file: the network of its configuration with its weights, its tensors and tolerances."""

    def __init__(self, file: Path) -> None:
        with safe_open(file, "pt") as opened:
            self.meta = opened.metadata()
            self.tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        self.config, self.spec = from_reference(self.meta["family"], json.loads(self.meta["config"]))
        self.model = build(self.config, self.spec, generator("unused"))
        self.weights = self.having("param.")
        self.model.load_state_dict(self.weights, strict=True)

    def having(self, prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}

    def inputs(self, prefix: str = "in.") -> tuple[Tensor, Tensor, Tensor | None]:
        return self.tensors[f"{prefix}x"], self.tensors[f"{prefix}t"], self.tensors.get(f"{prefix}y")

    def assert_equal(self, name: str, actual: Tensor, tolerance: str = "atol") -> None:
        torch.testing.assert_close(actual, self.tensors[name], rtol=0, atol=float(self.meta[tolerance]), msg=name)


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.param)


@pytest.mark.skipif("ADALN_GOLDENS" in os.environ, reason="the folders that are named may lack this room")
def test_the_committed_files_are_found():
    assert {file.stem for file in FILES} == {"dit_tiny", "sit_tiny", "ditllama_tiny", "udit_tiny"}


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_outputs_equal_the_reference(golden: Golden, mode: str):
    golden.model.train(mode == "train")
    with torch.no_grad():
        golden.assert_equal("out.eval", golden.model(*golden.inputs()))
    if "out.unfused" in golden.tensors:
        golden.assert_equal("out.unfused", golden.model(*golden.inputs()))


def test_every_gradient_equals_the_reference(golden: Golden):
    output = golden.model(*golden.inputs())
    (output * golden.tensors["in.probe"]).sum().backward()
    expected = golden.having("grad.")
    actual = {name: parameter.grad for name, parameter in golden.model.named_parameters()}
    assert actual.keys() == expected.keys()
    for name, gradient in actual.items():
        golden.assert_equal(f"grad.{name}", gradient, "atol_grad")


def test_guided_outputs_equal_the_reference(golden: Golden):
    """g = uncond + scale (cond - uncond) on channels 0, 1, 2; all others pass, each half its own."""
    if "out.cfg" not in golden.tensors:
        pytest.skip("no guidance in an unconditional file")
    x, t, y = golden.inputs("in.cfg_")
    half = len(x) // 2
    with torch.no_grad():
        output = golden.model(torch.cat([x[:half], x[:half]]), t, y)
    cond, uncond = output[:half, :3], output[half:, :3]
    guided = uncond + float(golden.meta["cfg_scale"]) * (cond - uncond)
    golden.assert_equal("out.cfg", torch.cat([torch.cat([guided, guided]), output[:, 3:]], dim=1))


def test_a_fresh_position_table_is_the_stored_one(golden: Golden):
    fresh = build(golden.config, golden.spec, generator("fresh")).state_dict()
    assert fresh.keys() == golden.weights.keys()
    if "pos_embed" in fresh:
        torch.testing.assert_close(fresh["pos_embed"], golden.weights["pos_embed"], rtol=0, atol=1e-6)


def test_the_null_label_is_the_reference_one(golden: Golden):
    has_null_row = golden.config.class_dropout_prob > 0
    assert null_label(golden.config, golden.spec) == (int(golden.meta["null_label"]) if has_null_row else None)


def test_an_unknown_setting_of_the_reference_is_refused():
    arguments = {"hidden_size": 12, "num_heads": 3, "depth": [1, 1, 1, 1, 1]}
    with pytest.raises(ValueError, match="down_factor=4 is not the published U-DiT"):
        from_reference("U-DiT", arguments | {"down_factor": 4})
    with pytest.raises(TypeError, match="qk_norm"):
        from_reference("DiT", {"hidden_size": 8, "num_heads": 2, "depth": 1, "patch_size": 2, "qk_norm": True})
