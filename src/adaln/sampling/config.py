"""What to sample, and how it is computed, as data: nothing here needs torch."""

from dataclasses import dataclass, field
from typing import Literal

from adaln.codec import LEFT_OUT_AT_DEFAULT
from adaln.processes import Guidance, SamplerConfig
from adaln.specs import Precision, WeightSet, check_width


@dataclass(frozen=True, slots=True)
class SampleConfig:
    """What to sample from a run."""

    num_images: int = 1000
    """How many images."""
    seed: int = 0
    """Image i is a function of (seed, i) and its label."""
    labels: Literal["balanced", "random"] | int = "balanced"
    """Classes in turn, drawn uniformly by (seed, i), or one class index for all."""
    batch_size: int = 128
    """Images drawn together; changes the speed, not the images (up to rounding)."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """Solver and its settings."""
    guidance: Guidance = field(default_factory=Guidance)
    """Classifier-free guidance."""
    autoencoder: str | None = None
    """Folder or hub id of what decodes latents; default: where the data was encoded with it."""
    dtype: Precision = "float32"
    """Of the network's matrix products: tf32 needs CUDA, bfloat16 is autocast; weights, guidance and the solver's state
    stay float32."""
    weights: WeightSet = field(default="ema", metadata=LEFT_OUT_AT_DEFAULT)
    """ema: the averaged weights; model: the raw ones. A weak run's are averaged."""
    ema: float | None = field(default=None, metadata=LEFT_OUT_AT_DEFAULT)
    """Width of a power-function average, e.g. 0.05, put together from those that a run begun with --optim.ema-widths
    keeps; in place of the averaged weights."""

    def __post_init__(self) -> None:
        if self.ema is not None and self.weights == "model":
            raise ValueError(f"ema is {self.ema:g} and weights 'model', the raw ones; expected one of both")
        if self.ema is not None:
            check_width("ema", self.ema)
        for name, least in {"num_images": 1, "batch_size": 1, "seed": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; expected an integer >= {least}")


@dataclass(frozen=True, slots=True)
class SampleExecution:
    """How images are computed: time depends on it, the images only by rounding, their record not at all."""

    compile: bool = False
    """Compile each block (torch.compile)."""
    cuda_graph: bool = False
    """Replay the network as one CUDA graph per batch shape: pays where launching kernels takes longer than they do."""


EAGER = SampleExecution()
"""One kernel after the other."""
