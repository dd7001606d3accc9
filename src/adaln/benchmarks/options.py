"""What can be measured, and how: the options of `adaln bench`. Nothing here needs torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adaln.models import MODELS
from adaln.specs import Precision
from adaln.studies import SCALES, STUDIES

Compiled = Literal["none", "ours", "both"]
"""Which of ours and the peer torch.compile works for."""
STEPS = 250
"""Of a whole sample, as in published scores; `repeats` of them are timed."""


@dataclass(frozen=True, slots=True)
class MachineOptions:
    """What to measure."""

    repeats: int = 20
    """Turns; medians and least times are reported."""
    threads: int | None = None
    """Threads on the CPU; default: as many as torch takes."""
    device: str = "auto"
    """cpu, cuda, or auto."""


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What to train, and how."""

    model: str = "DiT-S/2"
    """A DiT of `adaln models`, on latents of 32 x 32 x 4."""
    batch_size: int = 8
    """Latents per step."""
    precision: tuple[Precision, ...] = ("float32", "bfloat16")
    """Of the products; parameters, optimiser and average are float32 in all."""
    compile: Compiled = "none"
    """torch.compile: ours by block, the peer's as a whole."""
    checkpoint: bool = False
    """Recompute every block's activations in the backward pass, on both sides."""
    repeats: int = 10
    """Turns; medians and least times are reported."""
    threads: int | None = None
    """Threads on the CPU; default: as many as torch takes."""
    device: str = "auto"
    """cpu, cuda, or auto."""

    def __post_init__(self) -> None:
        MODELS.check(self.model)


@dataclass(frozen=True, slots=True)
class MemoryOptions:
    """Whose blocks to count."""

    model: str = "DiT-S/2"
    """A DiT of `adaln models`; only its width and patch size count."""

    def __post_init__(self) -> None:
        MODELS.check(self.model)


@dataclass(frozen=True, slots=True)
class SampleOptions:
    """What to sample from, and how."""

    model: str = "DiT-S/2"
    """A DiT of `adaln models`, on latents of 32 x 32 x 4."""
    batch_size: int = 8
    """Images drawn together; guidance doubles what the network sees."""
    precision: tuple[Precision, ...] = ("float32", "bfloat16")
    """bfloat16: ours under autocast, the peer's with weights of bfloat16, as its users have them."""
    compile: Compiled = "none"
    """torch.compile: ours by block, the peer's as a whole."""
    cuda_graph: bool = False
    """Replay our network as one CUDA graph."""
    repeats: int = 10
    """Solver steps that are timed, of 250; medians and least times are reported."""
    threads: int | None = None
    """Threads on the CPU; default: as many as torch takes."""
    device: str = "auto"
    """cpu, cuda, or auto."""

    def __post_init__(self) -> None:
        MODELS.check(self.model)
        if not 1 <= self.repeats < STEPS:
            raise ValueError(f"repeats is {self.repeats}; expected 1 to {STEPS - 1} of the {STEPS} steps")


@dataclass(frozen=True, slots=True)
class GpuOptions:
    """How much time there is, and where results go."""

    folder: Path = Path("bench-gpu")
    """A file for each part, and a page; parts that lie there finished are not done again."""
    minutes: float = 10.0
    """For all parts together; each has its own limit as well."""
    model: str = "DiT-XL/2"
    """A DiT of `adaln models`, on latents of 32 x 32 x 4."""
    only: tuple[str, ...] = ()
    """These parts alone, by name."""
    tiny: bool = False
    """Sizes of a CPU, uncompiled: to see that every part works."""
    device: str = "auto"
    """cpu, cuda, or auto."""

    def __post_init__(self) -> None:
        MODELS.check(self.model)
        if not self.minutes > 0:
            raise ValueError(f"minutes is {self.minutes}; expected a number > 0")


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """How large the sets of features are."""

    dim: int = 2048
    """Features per image."""
    points: int = 10_000
    """Images per set, for all but the Frechet distances."""
    stored: int = 50_000
    """Images whose features are at hand, for the Frechet distance from them."""
    images: int = 64
    """Images of 64 pixels through Inception, beside torch-fidelity's, where that is installed."""
    repeats: int = 3
    """Turns; medians are reported."""
    threads: int | None = 1
    """Threads on the CPU."""


@dataclass(frozen=True, slots=True)
class DataOptions:
    """How much is read."""

    images: int = 20_480
    """Images of the set."""
    repeats: int = 79
    """Turns; medians and least times are reported."""
    steps: int = 300
    """Training steps whose waits for a batch are timed."""
    threads: int | None = None
    """Threads on the CPU; default: as many as torch takes."""


@dataclass(frozen=True, slots=True)
class AnalysisOptions:
    """What is analysed."""

    model: str = "DiT-XL/2"
    """Network of the file."""
    trained: str = "DiT-S/2"
    """Network of the training step."""
    batch_size: int = 8
    """Latents per training step (the paper: 256)."""
    threads: tuple[int, ...] = (1, 2)
    """Threads with which the file is analysed."""
    repeats: int = 3
    """Turns; medians are reported."""
    device: str = "auto"
    """Where the training step runs: cpu, cuda, or auto."""

    def __post_init__(self) -> None:
        MODELS.check(self.model)
        MODELS.check(self.trained)


@dataclass(frozen=True, slots=True)
class StudyBenchOptions:
    """Which study, and how large."""

    study: str = "quickstart"
    """One of `adaln study list`; the runs of its first seed are measured."""
    scale: str = "tiny"
    """One of `adaln study list`."""
    steps: int | None = None
    """Steps of every run; default: the scale's own."""
    num_images: int | None = None
    """Samples behind every score; default: the scale's own."""
    held_out: float | None = None
    """Share of the pictures that no run learns from, on which losses are taken."""
    folder: Path = Path("bench-study")
    """Where the runs and what was measured of them lie; killed, the same command goes on there."""

    def __post_init__(self) -> None:
        STUDIES.check(self.study)
        SCALES.check(self.scale)
