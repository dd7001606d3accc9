"""The families under the names of the official code: DiT and its kin, U-DiT, PixArt's modulation in a DiT."""

from dataclasses import replace

from adaln.conditioning.family import Branch, Family, Layer

SIX = "attn: shift scale gate; mlp: shift scale gate"
_BLOCK = "blocks.N.adaLN_modulation.*"
_FINAL_LAYER = Layer("final_layer.adaLN_modulation.*", "final: shift scale")

_DIT = Family(  # SiT, DiT-LLaMA and LightningDiT too
    layers=(Layer(_BLOCK, SIX), _FINAL_LAYER),
    branches={"attn": Branch("attn"), "mlp": Branch("mlp")},
    head="final_layer.linear",
    branch_ends="attn.proj mlp.fc2 mlp.c_proj",
)

OFFICIAL = {
    "DiT": _DIT,
    "LightningDiT-no-shift": replace(_DIT, layers=(Layer(_BLOCK, "attn: scale gate; mlp: scale gate"), _FINAL_LAYER)),
    "adaLN-no-gate": replace(_DIT, layers=(Layer(_BLOCK, "attn: shift scale; mlp: shift scale"), _FINAL_LAYER)),
    "DiT-shared": replace(
        _DIT, layers=(Layer("t_block.*", SIX), Layer("blocks.N.scale_shift_table", SIX, "table"), _FINAL_LAYER)
    ),
    "U-DiT": Family(
        layers=(
            Layer(
                "(encoder_level_1|encoder_level_2|latent|decoder_level_2|decoder_level_1).N.adaLN_modulation#.*",
                "attn#: shift scale gate; mlp#: shift scale gate",
            ),
            _FINAL_LAYER,
        ),
        branches={name: Branch(name) for name in ("attn1", "mlp1", "attn2", "mlp2")},
        head="final_layer.out_proj",
        branch_ends="attn1.to_out mlp1.project_out.1 attn2.to_out mlp2.project_out.1",
    ),
}
