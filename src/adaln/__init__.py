"""Diffusion transformers under every conditioning scheme: train, audit, initialise, explain."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adaln.conditioning.by_name import initialise

__all__ = ["__version__", "initialise"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`adaln.initialise`, imported when it is asked for: `import adaln` alone does not import torch."""
    if name != "initialise":
        raise AttributeError(f"module 'adaln' has no attribute {name!r}")
    from adaln.conditioning.by_name import initialise

    return initialise
