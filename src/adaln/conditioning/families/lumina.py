"""Lumina and its kin: scale and gate alone, the gate through a tanh, norms before and after every branch."""

import torch

from adaln.conditioning.family import Branch, Family, Layer

ROWS = {
    "Lumina2": Family(
        layers=(
            Layer(
                "(noise_refiner|layers).N.norm1.linear",
                "attn: scale gate(tanh); mlp: scale gate(tanh)",
                width_of=".attn.to_q",
            ),
            Layer("norm_out.linear_1", "final: scale", width_of="norm_out.linear_2"),
        ),
        branches={"attn": Branch("attn", "norm2"), "mlp": Branch("feed_forward", "ffn_norm2")},
        head="norm_out.linear_2",
        inputs={
            "Lumina2Transformer2DModel": lambda config, draw: {
                "hidden_states": draw.image(config),
                "timestep": draw.times(1.0),
                "encoder_hidden_states": draw.text(config.cap_feat_dim),
                "encoder_attention_mask": torch.ones(draw.batch_size, draw.text_tokens, dtype=torch.bool),
            }
        },
    ),
}
