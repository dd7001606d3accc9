"""The start of anyone's network by a scheme's name: what `adaln.initialise` is."""

from torch import nn

from adaln.conditioning import schemes
from adaln.conditioning.scheme_files import scheme as scheme_of
from adaln.conditioning.schemes import Scheme
from adaln.conditioning.sites import Site
from adaln.rng import generator


def initialise(
    model: nn.Module, scheme: str | Scheme = "adaln-gaussian", seed: int = 0, *, family: str | None = None
) -> list[Site]:
    """Start the conditioning of any diffusion transformer, yours or a library's, as a scheme says, in place.

    `scheme` is a name, `name:std[,std,...]`, a .json or .toml file, or a `Scheme`; modulation layers and the last
    projection change, all else stays (unless the scheme names it). Returns the sites that were found, in forward order.
    With the seed of a run, the start is that run's. `family` decides between two layouts of the same names.
    Raises `ValueError` in one line for an unknown scheme or network, or one with no place for what the scheme says.

    >>> from torch import nn
    >>> import adaln
    >>> blocks = [nn.ModuleDict({"adaLN_modulation": nn.Sequential(nn.SiLU(), nn.Linear(8, 48))}) for _ in range(2)]
    >>> net = nn.ModuleDict({"blocks": nn.ModuleList(blocks)})
    >>> [site.role.name for site in adaln.initialise(net, "adaln-zero")][:3]
    ['SHIFT', 'SCALE', 'GATE']
    >>> bool(blocks[1]["adaLN_modulation"][1].weight.any())
    False
    """
    chosen = scheme_of(scheme) if isinstance(scheme, str) else scheme
    return schemes.initialise(model, chosen, generator("scheme", seed), family)
