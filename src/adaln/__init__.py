"""Diffusion transformers under every conditioning scheme: train, audit, initialise, explain.

Each name that stands here is imported when it is first used: `import adaln` alone does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adaln.conditioning import SCHEMES as SCHEMES
    from adaln.conditioning import Constant as Constant
    from adaln.conditioning import Normal as Normal
    from adaln.conditioning import Scheme as Scheme
    from adaln.conditioning import Start as Start
    from adaln.conditioning import Xavier as Xavier
    from adaln.conditioning import initialise as initialise
    from adaln.conditioning import scheme as scheme
    from adaln.registry import register as register

__version__ = "0.1.0"

_MODULE_OF = {
    name: module
    for module, names in {
        "adaln.conditioning": "SCHEMES Constant Normal Scheme Start Xavier initialise scheme",
        "adaln.registry": "register",
    }.items()
    for name in names.split()
}
__all__ = ["__version__", *_MODULE_OF]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'adaln' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return __all__
