"""A small batch for any network that is known by its class: noise, times over the whole schedule, noise for text."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from adaln.rng import generator

BATCH = 4
_TOKENS_PER_SIDE = 4
_TEXT_TOKENS = 4
Inputs = Mapping[str, Any]
"""Keyword arguments of a network's forward pass."""


class Draw:
    """Standard normal draws for one batch, by its seed alone."""

    def __init__(self, seed: int) -> None:
        self.rng = generator("standard inputs", seed)

    def normal(self, *shape: int) -> Tensor:
        """A batch of this shape."""
        return torch.randn(BATCH, *shape, generator=self.rng)

    def image(self, config: Any) -> Tensor:
        """Latents of 4 x 4 tokens."""
        side = _TOKENS_PER_SIDE * config.patch_size
        return self.normal(config.in_channels, side, side)

    def text(self, width: int) -> Tensor:
        """Encoded text of 4 tokens."""
        return self.normal(_TEXT_TOKENS, width)

    def times(self, last: float) -> Tensor:
        """From early to late, 0 and `last` left out."""
        return last * (torch.arange(BATCH) + 1) / (BATCH + 1)

    def labels(self, num_classes: int) -> Tensor:
        """Classes."""
        return torch.randint(num_classes, (BATCH,), generator=self.rng)


def standard_inputs(model: nn.Module, seed: int = 0) -> dict[str, Any]:
    """Keyword arguments for one forward pass of `model`, on its device.

    Raises `ValueError` for a class that is not known: then bring inputs of your own.
    """
    name, draw = type(model).__name__, Draw(seed)
    if name in ("DiT", "UDiT") and hasattr(model, "spec"):
        inputs = _own(model, draw)
    elif name in _DIFFUSERS:
        inputs = _DIFFUSERS[name](model.config, draw)
    else:
        raise ValueError(f"no standard inputs for {name}; known: DiT, UDiT of this package, {', '.join(_DIFFUSERS)}")
    first = next(model.parameters())
    return {key: _moved(value, first) for key, value in inputs.items()}


def _moved(value: Any, like: Tensor) -> Any:
    if isinstance(value, dict):
        return {key: _moved(item, like) for key, item in value.items()}
    if not isinstance(value, Tensor):
        return value
    return value.to(like.device, like.dtype if value.is_floating_point() else value.dtype)


def _own(model: Any, draw: Draw) -> dict[str, Any]:
    spec = model.spec
    labels = draw.labels(spec.num_classes) if model.num_labels else None
    return {"x": draw.normal(spec.channels, spec.height, spec.width), "t": draw.times(1000.0), "y": labels}


def _dit(config: Any, draw: Draw) -> dict[str, Any]:
    labels = draw.labels(config.num_embeds_ada_norm)
    return {"hidden_states": draw.image(config), "timestep": draw.times(1000.0).long(), "class_labels": labels}


def _sd3(config: Any, draw: Draw) -> dict[str, Any]:
    return {
        "hidden_states": draw.image(config),
        "encoder_hidden_states": draw.text(config.joint_attention_dim),
        "pooled_projections": draw.normal(config.pooled_projection_dim),
        "timestep": draw.times(1000.0),
    }


def _flux(config: Any, draw: Draw) -> dict[str, Any]:
    rows = torch.arange(_TOKENS_PER_SIDE).repeat_interleave(_TOKENS_PER_SIDE)
    columns = torch.arange(_TOKENS_PER_SIDE).repeat(_TOKENS_PER_SIDE)
    return {
        "hidden_states": draw.normal(_TOKENS_PER_SIDE**2, config.in_channels),
        "encoder_hidden_states": draw.text(config.joint_attention_dim),
        "pooled_projections": draw.normal(config.pooled_projection_dim),
        "timestep": draw.times(1.0),
        "img_ids": torch.stack([torch.zeros_like(rows), rows, columns], dim=-1),
        "txt_ids": torch.zeros(_TEXT_TOKENS, 3),
        "guidance": torch.full((BATCH,), 3.5) if config.guidance_embeds else None,
    }


def _pixart(config: Any, draw: Draw) -> dict[str, Any]:
    size = torch.full((BATCH, 2), 1024.0)
    additional = config.use_additional_conditions
    if additional is None:
        additional = config.sample_size == 128  # as the network itself decides
    sizes = {"resolution": size, "aspect_ratio": size[:, :1] / 1024}
    return {
        "hidden_states": draw.image(config),
        "encoder_hidden_states": draw.text(config.caption_channels or config.cross_attention_dim),
        "timestep": draw.times(1000.0),
        "added_cond_kwargs": sizes if additional else {"resolution": None, "aspect_ratio": None},
    }


def _hunyuan(config: Any, draw: Draw) -> dict[str, Any]:
    return {
        "hidden_states": draw.image(config),
        "timestep": draw.times(1000.0),
        "encoder_hidden_states": draw.normal(config.text_len, config.cross_attention_dim),
        "text_embedding_mask": torch.ones(BATCH, config.text_len),
        "encoder_hidden_states_t5": draw.normal(config.text_len_t5, config.cross_attention_dim_t5),
        "text_embedding_mask_t5": torch.ones(BATCH, config.text_len_t5),
        "image_meta_size": torch.tensor([[1024, 1024, 1024, 1024, 0, 0]] * BATCH),
        "style": torch.zeros(BATCH, dtype=torch.long),
    }


def _auraflow(config: Any, draw: Draw) -> dict[str, Any]:
    text = draw.text(config.joint_attention_dim)
    return {"hidden_states": draw.image(config), "encoder_hidden_states": text, "timestep": draw.times(1.0)}


def _cogvideox(config: Any, draw: Draw) -> dict[str, Any]:
    frames = (config.sample_frames - 1) // config.temporal_compression_ratio + 1
    return {
        "hidden_states": draw.normal(frames, config.in_channels, config.sample_height, config.sample_width),
        "encoder_hidden_states": draw.normal(config.max_text_seq_length, config.text_embed_dim),
        "timestep": draw.times(1000.0),
    }


def _lumina2(config: Any, draw: Draw) -> dict[str, Any]:
    return {
        "hidden_states": draw.image(config),
        "timestep": draw.times(1.0),
        "encoder_hidden_states": draw.text(config.cap_feat_dim),
        "encoder_attention_mask": torch.ones(BATCH, _TEXT_TOKENS, dtype=torch.bool),
    }


def _sana(config: Any, draw: Draw) -> dict[str, Any]:
    return {
        "hidden_states": draw.image(config),
        "encoder_hidden_states": draw.text(config.caption_channels),
        "timestep": draw.times(1000.0),
        "guidance": draw.times(1.0) if config.guidance_embeds else None,
    }


_DIFFUSERS: Mapping[str, Callable[[Any, Draw], dict[str, Any]]] = {
    "DiTTransformer2DModel": _dit,
    "SD3Transformer2DModel": _sd3,
    "FluxTransformer2DModel": _flux,
    "PixArtTransformer2DModel": _pixart,
    "HunyuanDiT2DModel": _hunyuan,
    "AuraFlowTransformer2DModel": _auraflow,
    "CogVideoXTransformer3DModel": _cogvideox,
    "Lumina2Transformer2DModel": _lumina2,
    "SanaTransformer2DModel": _sana,
}
