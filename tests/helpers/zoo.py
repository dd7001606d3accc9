"""A small network of every class of diffusers that is, or might be, modulated; a variant stands after a space."""

from types import SimpleNamespace

import diffusers
import torch
from diffusers.models.controlnets import controlnet_cosmos
from diffusers.models.transformers.dual_transformer_2d import DualTransformer2DModel
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from torch import nn

from helpers.zoo_joint import JOINT
from helpers.zoo_others import OTHERS
from helpers.zoo_tables import TABLES

ZOO = JOINT | TABLES | OTHERS
UNMODULATED = (
    "Transformer2DModel layer_norm", "DreamLiteTransformer2DModel", "DualTransformer2DModel", "Cosmos3OmniTransformer",
    "PriorTransformer", "TransformerTemporalModel", "TransformerSpatioTemporalModel", "StableAudioDiTModel",
    "MiniMaxMusic3Transformer1DModel", "MiniMaxMusic3RVQDepthDecoder",
)  # fmt: skip
SLOW = {"Kandinsky6SRTransformer3DModel", "Lumina2Transformer2DModel wide"}
"""Seconds to run."""
_UNEXPORTED = {cls.__name__: cls for cls in (DualTransformer2DModel, TransformerSpatioTemporalModel)}


def zoo_network(name: str) -> nn.Module:
    """A fresh network as diffusers starts it, able to run, the same on every call."""
    cls, config = name.split()[0], ZOO[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = (_UNEXPORTED.get(cls) or getattr(diffusers, cls))(**config).eval()
        if cls == "ZImageControlNetModel":  # it runs with embedders and refiners of the network that it controls
            released = {**ZOO["ZImageTransformer2DModel"], "in_channels": 16, "cap_feat_dim": 2560}
            model = type(model).from_transformer(model, diffusers.ZImageTransformer2DModel(**released).eval())
        if cls == "CosmosControlNetModel":  # torchvision, which only resizes a mask
            resize = SimpleNamespace(resize=lambda mask, size, **_: mask[..., : size[0], : size[1]])
            mode = SimpleNamespace(NEAREST=0)
            controlnet_cosmos.transforms = SimpleNamespace(functional=resize, InterpolationMode=mode)
        for parameter in (p for key, p in model.named_parameters() if ".experts." in key):
            nn.init.normal_(parameter, std=0.1)  # diffusers leaves some as memory was
    return model
