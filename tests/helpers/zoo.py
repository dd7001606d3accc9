"""A small network of every class of diffusers that is, or might be, modulated; a variant stands after a space."""

import diffusers
import torch
from torch import nn

from helpers import zoo_others
from helpers.zoo_joint import JOINT
from helpers.zoo_tables import TABLES

ZOO = JOINT | TABLES | zoo_others.CONFIGS
SLOW = {"Kandinsky6SRTransformer3DModel", "Lumina2Transformer2DModel wide"}
"""Seconds to run."""


def zoo_network(name: str) -> nn.Module:
    """One of them in evaluation mode, as it starts there."""
    if name in zoo_others.CONFIGS:
        return zoo_others.network(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: nn.Module = getattr(diffusers, name.split()[0])(**ZOO[name])
    return network.eval()
