"""Seeds to images: image i is a function of (seed, i) and its label, whoever draws it and in whatever company."""

from typing import TYPE_CHECKING

from adaln.lazily import lazily

if TYPE_CHECKING:
    from adaln.sampling.config import SampleConfig as SampleConfig
    from adaln.sampling.config import SampleExecution as SampleExecution
    from adaln.sampling.networks import Weak as Weak
    from adaln.sampling.parts import save_samples as save_samples
    from adaln.sampling.sampler import Sampler as Sampler
    from adaln.sampling.sampler import Samples as Samples
    from adaln.sampling.sampler import choose_labels as choose_labels
    from adaln.sampling.sampler import load_sampler as load_sampler
    from adaln.sampling.sampler import sample as sample
    from adaln.sampling.sampler import start_in_average as start_in_average

__getattr__, __all__ = lazily(__name__)
