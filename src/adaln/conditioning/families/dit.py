"""DiT as its code names it and what keeps its names (SiT, LightningDiT, ...), U-DiT, HunyuanDiT, diffusers' DiT."""

from dataclasses import replace

import torch

from adaln.conditioning.families.common import CROSS_ATTENDING, FINAL_LAYER, NORM_OUT, SIX
from adaln.conditioning.family import Branch, Family, Layer

_BLOCK = "blocks.N.adaLN_modulation.*"
_DIT = Family(
    layers=(Layer(_BLOCK, SIX), FINAL_LAYER),
    branches={"attn": Branch("attn"), "mlp": Branch("mlp")},
    head="final_layer.linear",
    branch_ends="attn.proj mlp.fc2 mlp.c_proj",
)
"""SiT, DiT-LLaMA and LightningDiT too."""

ROWS = {
    "DiT": _DIT,
    "LightningDiT-no-shift": replace(_DIT, layers=(Layer(_BLOCK, "attn: scale gate; mlp: scale gate"), FINAL_LAYER)),
    "adaLN-no-gate": replace(_DIT, layers=(Layer(_BLOCK, "attn: shift scale; mlp: shift scale"), FINAL_LAYER)),
    "DiT-shared": replace(
        _DIT, layers=(Layer("t_block.*", SIX), Layer("blocks.N.scale_shift_table", SIX, "table"), FINAL_LAYER)
    ),
    "U-DiT": Family(
        layers=(
            Layer(
                "(encoder_level_1|encoder_level_2|latent|decoder_level_2|decoder_level_1).N.adaLN_modulation#.*",
                "attn#: shift scale gate; mlp#: shift scale gate",
            ),
            FINAL_LAYER,
        ),
        branches={name: Branch(name) for name in ("attn1", "mlp1", "attn2", "mlp2")},
        head="final_layer.out_proj",
        branch_ends="attn1.to_out mlp1.project_out.1 attn2.to_out mlp2.project_out.1",
    ),
    "diffusers-DiT": Family(
        layers=(Layer("transformer_blocks.N.norm1.linear", SIX), Layer("proj_out_1", "final: shift scale")),
        branches=CROSS_ATTENDING,
        head="proj_out_2",
        inputs={
            "DiTTransformer2DModel": lambda config, draw: {
                "hidden_states": draw.image(config),
                "timestep": draw.times(1000.0).long(),
                "class_labels": draw.labels(config.num_embeds_ada_norm),
            }
        },
    ),
    "HunyuanDiT": Family(
        layers=(Layer("blocks.N.norm1.linear", "attn: shift"), NORM_OUT),
        branches={"attn": Branch("attn1")},
        head="proj_out",
        inputs={
            "HunyuanDiT2DModel": lambda config, draw: {
                "hidden_states": draw.image(config),
                "timestep": draw.times(1000.0),
                "encoder_hidden_states": draw.normal(config.text_len, config.cross_attention_dim),
                "text_embedding_mask": torch.ones(draw.batch_size, config.text_len),
                "encoder_hidden_states_t5": draw.normal(config.text_len_t5, config.cross_attention_dim_t5),
                "text_embedding_mask_t5": torch.ones(draw.batch_size, config.text_len_t5),
                "image_meta_size": torch.tensor([[1024, 1024, 1024, 1024, 0, 0]] * draw.batch_size),
                "style": torch.zeros(draw.batch_size, dtype=torch.long),
            }
        },
    ),
}
