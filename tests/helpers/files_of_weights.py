"""Small files of weights as other programs save them: checkpoints, shards, a folder of diffusers, an adapter."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from adaln.models import DiTConfig, build
from adaln.models.weights import diffusers_config, to_diffusers
from adaln.rng import generator
from adaln.types import DataSpec


def weights() -> dict[str, torch.Tensor]:
    """A narrow DiT, not at its start."""
    tensors = build(DiTConfig(16, 2, 2, 2), DataSpec(1, 8, 8, 10), generator("files")).state_dict()
    return {
        name: tensor + 0.02 * torch.randn(tensor.shape, generator=generator(name)) for name, tensor in tensors.items()
    }


def checkpoint() -> dict[str, object]:
    """As training scripts save one, numpy and settings beside two sets of weights."""
    return {
        "model": weights(), "ema": weights(), "opt": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{}]},
        "args": {"lr": 1e-4, "name": "x"}, "best": np.float64(1.5), "losses": np.arange(3.0),
    }  # fmt: skip


def sharded(folder: Path, tensors: dict[str, torch.Tensor], stem: str = "model") -> None:
    """Two files and their index."""
    names = sorted(tensors)
    parts = {f"{stem}-0000{k}-of-00002.safetensors": names[k - 1 :: 2] for k in (1, 2)}
    for file, share in parts.items():
        save_file({name: tensors[name] for name in share}, folder / file)
    weight_map = {name: file for file, share in parts.items() for name in share}
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))


def of_diffusers(folder: Path) -> None:
    """A DiT as a folder of diffusers: shards, their index, and the config."""
    model, data = DiTConfig(16, 2, 2, 2), DataSpec(1, 8, 8, 10)
    (folder / "net").mkdir()
    (folder / "net" / "config.json").write_text(json.dumps(diffusers_config(model, data)))
    sharded(folder / "net", to_diffusers(weights(), 2), "diffusion_pytorch_model")


def adapter(folder: Path) -> None:
    """A LoRA of peft, on modulation."""
    name = "base_model.model.blocks.0.adaLN_modulation.1"
    rows = {f"{name}.lora_A.weight": torch.randn(4, 16), f"{name}.lora_B.weight": torch.randn(96, 4)}
    (folder / "lora").mkdir()
    save_file(rows, folder / "lora" / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["adaLN_modulation.1"]}
    (folder / "lora" / "adapter_config.json").write_text(json.dumps(config))
