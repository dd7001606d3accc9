"""Diffusion transformers under every conditioning scheme: train, audit, initialise, explain."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing the package alone stays cheap
    import torch

    import adaln.conditioning

__all__ = ["__version__", "initialise"]
__version__ = "0.1.0"


def initialise(
    model: "torch.nn.Module",
    scheme: "str | adaln.conditioning.Scheme" = "adaln-gaussian",
    seed: int = 0,
    *,
    family: str | None = None,
) -> "list[adaln.conditioning.Site]":
    """Start the conditioning of any diffusion transformer, yours or a library's, as a scheme says, in place.

    `scheme` is a name, `name:std[,std,...]`, a .json or .toml file, or a `Scheme`; modulation layers and the last
    projection change, all else stays (unless the scheme names it). Returns the sites that were found, in forward order.
    With the seed of a run, the start is that run's. `family` decides between two layouts of the same names.
    Raises `ValueError` in one line for an unknown scheme or network, or a block-wise scheme of another depth.

    >>> import torch
    >>> from torch import nn
    >>> blocks = {f"{i}": nn.ModuleDict({"adaLN_modulation": nn.Sequential(nn.SiLU(), nn.Linear(8, 48))}) for i in "01"}
    >>> net = nn.ModuleDict({"blocks": nn.ModuleDict(blocks)})
    >>> [site.role.name for site in initialise(net, "adaln-zero")][:3]
    ['SHIFT', 'SCALE', 'GATE']
    >>> bool(net["blocks"]["1"]["adaLN_modulation"][1].weight.any())
    False
    """
    from adaln import conditioning
    from adaln.rng import generator

    chosen = conditioning.scheme(scheme) if isinstance(scheme, str) else scheme
    return conditioning.initialise(model, chosen, generator("scheme", seed), family)
