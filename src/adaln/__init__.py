"""Diffusion transformers under every conditioning scheme: train, audit, initialise, explain.

The names that stand here (docs/python.md) are imported when they are first used: `import adaln` alone takes no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from adaln.version import __version__ as __version__

if TYPE_CHECKING:
    from adaln.analysis import Recorder as Recorder
    from adaln.analysis import describe as describe
    from adaln.analysis import update_order as update_order
    from adaln.analysis.audit import audit as audit
    from adaln.analysis.fit import fit as fit
    from adaln.conditioning import SCHEMES as SCHEMES
    from adaln.conditioning import Scheme as Scheme
    from adaln.conditioning import Start as Start
    from adaln.conditioning import find_sites as find_sites
    from adaln.conditioning import initialise as initialise
    from adaln.conditioning import scheme as scheme
    from adaln.conditioning.distributions import Constant as Constant
    from adaln.conditioning.distributions import Laplace as Laplace
    from adaln.conditioning.distributions import Normal as Normal
    from adaln.conditioning.distributions import Quantiles as Quantiles
    from adaln.conditioning.distributions import Sign as Sign
    from adaln.conditioning.distributions import TruncatedNormal as TruncatedNormal
    from adaln.conditioning.distributions import Uniform as Uniform
    from adaln.conditioning.distributions import Xavier as Xavier
    from adaln.config import RunConfig as RunConfig
    from adaln.config import preset as preset
    from adaln.evaluation.checkpoints import train as train
    from adaln.evaluation.samples import evaluate as evaluate
    from adaln.registry import register as register
    from adaln.runs import open_run as open_run
    from adaln.sampling import sample as sample
    from adaln.studies.registry import study as study
    from adaln.views.scores import scores_of as scores_of

_NAMES_IN = {
    "adaln.analysis": "Recorder describe update_order",
    "adaln.analysis.audit": "audit",
    "adaln.analysis.fit": "fit",
    "adaln.conditioning": "SCHEMES Scheme Start find_sites initialise scheme",
    "adaln.conditioning.distributions": "Constant Laplace Normal Quantiles Sign TruncatedNormal Uniform Xavier",
    "adaln.config": "RunConfig preset",
    "adaln.evaluation.samples": "evaluate",
    "adaln.evaluation.checkpoints": "train",
    "adaln.registry": "register",
    "adaln.runs": "open_run",
    "adaln.sampling": "sample",
    "adaln.studies.registry": "study",
    "adaln.views.scores": "scores_of",
}
_MODULE_OF = {name: module for module, names in _NAMES_IN.items() for name in names.split()}
__all__ = ["__version__", *sorted(_MODULE_OF)]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        from adaln.registry import nearest

        raise AttributeError(f"module 'adaln' has no attribute {name!r}{nearest(name, _MODULE_OF)}")
    value = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return __all__
