"""PixArt and its kin: one modulation that all blocks share, and a table of its own in each."""

from typing import Any

import torch

from adaln.conditioning.families.common import CROSS_ATTENDING, SIX
from adaln.conditioning.family import Branch, Family, Layer
from adaln.conditioning.inputs import InputDraw

TABLES = (
    Layer("transformer_blocks.N.scale_shift_table", SIX, "table"),
    Layer("scale_shift_table", "final: shift scale", "table"),
)


def _pixart(config: Any, draw: InputDraw) -> dict[str, Any]:
    size = torch.full((draw.batch_size, 2), 1024.0)
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


ROWS = {
    "PixArt": Family(
        layers=(Layer("adaln_single.linear", SIX), *TABLES),
        branches=CROSS_ATTENDING,
        head="proj_out",
        inputs={"PixArtTransformer2DModel": _pixart},
    ),
    "Sana": Family(
        layers=(Layer("time_embed.linear", SIX), *TABLES),
        branches={"attn": Branch("attn1"), "mlp": Branch("ff", channels_first=True)},
        head="proj_out",
        inputs={
            "SanaTransformer2DModel": lambda config, draw: {
                "hidden_states": draw.image(config),
                "encoder_hidden_states": draw.text(config.caption_channels),
                "timestep": draw.times(1000.0),
                "guidance": draw.times(1.0) if config.guidance_embeds else None,
            }
        },
    ),
}
