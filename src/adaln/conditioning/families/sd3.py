"""SD3 and its kin: image and context attend together, each modulated by layers of its own in every block."""

from typing import Any

from adaln.conditioning.families.common import CONTEXT_SIX, JOINT, NORM_OUT, SIX
from adaln.conditioning.family import Branch, Family, Layer
from adaln.conditioning.inputs import InputDraw


def _cogvideox(config: Any, draw: InputDraw) -> dict[str, Any]:
    frames = (config.sample_frames - 1) // config.temporal_compression_ratio + 1
    return {
        "hidden_states": draw.normal(frames, config.in_channels, config.sample_height, config.sample_width),
        "encoder_hidden_states": draw.normal(config.max_text_seq_length, config.text_embed_dim),
        "timestep": draw.times(1000.0),
    }


ROWS = {
    "SD3": Family(
        layers=(
            Layer("transformer_blocks.N.norm1.linear", SIX),
            Layer("transformer_blocks.N.norm1.linear", f"{SIX}; attn2: shift scale gate"),
            Layer("transformer_blocks.N.norm1_context.linear", CONTEXT_SIX),
            Layer("transformer_blocks.N.norm1_context.linear", "context_attn: scale shift"),
            NORM_OUT,
        ),
        branches={**JOINT, "attn2": Branch("attn2")},
        head="proj_out",
        inputs={
            "SD3Transformer2DModel": lambda config, draw: {
                "hidden_states": draw.image(config),
                "encoder_hidden_states": draw.text(config.joint_attention_dim),
                "pooled_projections": draw.normal(config.pooled_projection_dim),
                "timestep": draw.times(1000.0),
            }
        },
    ),
    "AuraFlow": Family(
        layers=(
            Layer("joint_transformer_blocks.N.norm1.linear", SIX),
            Layer("joint_transformer_blocks.N.norm1_context.linear", CONTEXT_SIX),
            Layer("single_transformer_blocks.N.norm1.linear", SIX),
            NORM_OUT,
        ),
        branches=JOINT,
        head="proj_out",
        inputs={
            "AuraFlowTransformer2DModel": lambda config, draw: {
                "hidden_states": draw.image(config),
                "encoder_hidden_states": draw.text(config.joint_attention_dim),
                "timestep": draw.times(1.0),
            }
        },
    ),
    "CogVideoX": Family(
        layers=(
            *(
                Layer(
                    f"transformer_blocks.N.{norm}.linear",
                    f"{branch}: shift scale gate; context_{branch}: shift scale gate",
                    width_of=".attn1.to_q",
                )
                for norm, branch in (("norm1", "attn"), ("norm2", "mlp"))
            ),
            Layer("norm_out.linear", "final: shift scale", width_of="proj_out"),
        ),
        branches={
            "attn": Branch("attn1"),
            "context_attn": Branch("attn1", stream="context"),
            "mlp": Branch("ff", both_streams=True),
            "context_mlp": Branch("ff", stream="context", both_streams=True),
        },
        head="proj_out",
        inputs={"CogVideoXTransformer3DModel": _cogvideox},
    ),
}
