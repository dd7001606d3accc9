"""Networks with a scale and a shift and no gates: of discrete codes, of spectrograms."""

from typing import Any

import torch

from adaln.conditioning.family import Family, Layer
from adaln.conditioning.inputs import InputDraw

_ENDS = r"attn\d.to_out.0 ff.net.2"


def _scale_shift(names: str, branches: str, **words: Any) -> list[Layer]:
    """A layer for each branch: the names are a pattern in which `?` stands for the norm's number."""
    return [
        Layer(names.replace("?", str(number)), f"{branch}: scale shift", **words)
        for number, branch in enumerate(branches.split(), start=1)
    ]


def _t5_film(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {
        "encodings_and_masks": [(draw.text(config.d_model), torch.ones(draw.batch_size, draw.text_tokens))],
        "decoder_input_tokens": draw.normal(draw.tokens_per_side**2, config.input_dims),
        "decoder_noise_time": draw.times(1.0),
    }


def _uvit(config: Any, draw: InputDraw) -> dict[str, Any]:
    num_sizes = config.micro_cond_embed_dim // config.micro_cond_encode_dim
    return {
        "input_ids": draw.labels(config.codebook_size, draw.tokens_per_side, draw.tokens_per_side),
        "encoder_hidden_states": draw.text(config.encoder_hidden_size),
        "pooled_text_emb": draw.normal(config.cond_embed_dim),
        "micro_conds": torch.full((draw.batch_size, num_sizes), 512.0),
    }


ROWS = {
    "VQ-Diffusion": Family(
        layers=(
            *_scale_shift("transformer_blocks.N.norm?.linear", "attn cross"),
            *_scale_shift("(transformers.0|transformers.1).transformer_blocks.N.norm?.linear", "attn cross"),
        ),
        head="out proj_out (transformers.0|transformers.1).proj_out",
        classes="Transformer2DModel DualTransformer2DModel",
        backbone=r"attn\d ff",
        branch_ends=_ENDS,
        ungated_ends=_ENDS,
        frequencies="none, a learned embedding of each time",
        surprise="Each norm has an embedding of time of its own; one time for the whole batch.",
    ),
    "Spectrogram Diffusion": Family(
        layers=(
            Layer(
                "decoders.N.layer.0.FiLMLayer.scale_bias",
                "attn: scale shift",
                width_of=".layer.0.attention.to_q",
            ),
            Layer("decoders.N.layer.2.film.scale_bias", "mlp: scale shift", width_of=".layer.2.DenseReluDense.wi_0"),
        ),
        head="spec_out",
        inputs={"T5FilmDecoder": _t5_film},
        backbone=r"layer.\d.attention layer.\d.DenseReluDense",
        branch_ends=r"layer.\d.attention.to_out.0 layer.\d.DenseReluDense.wo",
        ungated_ends=r"layer.\d.attention.to_out.0 layer.\d.DenseReluDense.wo",
        frequencies="sin, cos, 2000^(-i/(half - 1))",
        surprise="FiLM in a T5 decoder: no gate, and no SiLU before the layer, whose condition is 4 D wide.",
    ),
    "aMUSEd": Family(
        layers=(
            Layer(
                "down_block.res_blocks.N.cond_embeds_mapper", "stream: scale shift", width_of=".channelwise_linear_1"
            ),
            *_scale_shift("transformer_layers.N.norm?.linear", "attn cross mlp"),
            Layer("up_block.res_blocks.N.cond_embeds_mapper", "stream: scale shift", width_of=".channelwise_linear_1"),
        ),
        head="mlm_layer.conv2",
        inputs={"UVit2DModel": _uvit},
        backbone=r"attn\d ff channelwise_linear_\d",
        branch_ends=f"{_ENDS} channelwise_linear_2",
        ungated_ends=f"{_ENDS} channelwise_linear_2",
        frequencies="cos, sin, of sizes: time is no input",
        surprise="A masked model: the condition is pooled text and sizes; the mappers of the residual blocks scale and"
        " shift the stream itself.",
    ),
}
