"""The public peer: diffusers' DiT, with the weights of ours."""

# mypy: disable-error-code="no-untyped-call"

from typing import Any

from torch import Tensor, nn

from adaln.models import ModelConfig
from adaln.models.diffusers_names import diffusers_config, to_diffusers
from adaln.types import DataSpec, Model


def peer_of(model: nn.Module, config: ModelConfig, spec: DataSpec) -> nn.Module:
    """diffusers' DiT with the weights of ours, so that both compute one function; `ValueError` if it has none like it.

    Its time frequencies are set to DiT's own (10000^(-i/128)), and no block of it drops labels by itself.
    """
    from diffusers import DiTTransformer2DModel

    words = {key: value for key, value in diffusers_config(config, spec).items() if not key.startswith("_")}
    made: Any = DiTTransformer2DModel(**words)
    peer: nn.Module = made
    depth = words["num_layers"]
    missing, unexpected = peer.load_state_dict(to_diffusers(model.state_dict(), depth), strict=False)
    if unexpected or any(not name.endswith("pos_embed.pos_embed") for name in missing):
        raise ValueError(f"diffusers' DiT does not take our names: {[*missing, *unexpected][:3]}")
    for block in peer.get_submodule("transformer_blocks").children():
        block.get_submodule("norm1.emb.time_proj").downscale_freq_shift = 0  # type: ignore[assignment]
        block.get_submodule("norm1.emb.class_embedder").dropout_prob = 0  # type: ignore[assignment]
    return peer.to(next(model.parameters()).device)


def called_like_ours(peer: nn.Module) -> Model:
    """(noisy latents, times, labels) -> prediction, by diffusers' network."""

    def model(x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        output: Tensor = peer(x, timestep=t, class_labels=y).sample
        return output

    return model
