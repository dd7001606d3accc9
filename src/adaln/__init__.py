"""Diffusion transformers under every conditioning scheme: train, audit, initialise, explain.

The names that stand here (docs/python.md) are imported when they are first used: `import adaln` alone takes no torch.
"""

from typing import TYPE_CHECKING

from adaln.lazily import lazily
from adaln.version import __version__ as __version__

if TYPE_CHECKING:
    from adaln.analysis import Recorder as Recorder
    from adaln.analysis import describe as describe
    from adaln.analysis import update_order as update_order
    from adaln.analysis.audit import audit as audit
    from adaln.analysis.fit import fit as fit
    from adaln.analysis.watch_handle import TrainingWarning as TrainingWarning
    from adaln.cli.progress_bar import show_progress as show_progress
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
    from adaln.models import own_network as own_network
    from adaln.registry import register as register
    from adaln.runs import open_run as open_run
    from adaln.sampling import sample as sample
    from adaln.studies.registry import study as study
    from adaln.views.scores import scores_of as scores_of
    from adaln.watching.door import watch as watch

__getattr__, _names = lazily(__name__)
__all__ = ["__version__", *_names]


def __dir__() -> list[str]:
    return __all__
