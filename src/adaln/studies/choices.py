"""What a user may choose of studies: their names and scales, and how they and a search are made. No torch is needed.

A study is imported when it is first asked for.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from adaln.codec import LEFT_OUT_AT_DEFAULT
from adaln.conditioning import Scheme
from adaln.metrics.names import METRICS
from adaln.registry import Later, Registry, nearest
from adaln.sampling.config import SampleConfig

if TYPE_CHECKING:
    from adaln.studies.study import Scale, Study

_NAMES = """
quickstart
table1 table2 table3 table4 table5 table6 table7 table8 table9 table10
figure1 figure3 figure4 figure5 figure6 figure7 figure8 figure9 figure11 figure12 figure13 figure14 figure15 figure16
figure17 figure18 figure19 figure21 figure22
equal-std factorial std-sweep permuted width-transfer catch-up lr-std other-backbones
ratio candidates fitted released released-starts three-starts head optimiser precision mechanisms mechanisms-as-large
"""
STUDIES: "Registry[Study]" = Registry(
    "study", dict.fromkeys(_NAMES.split(), Later("adaln.studies.registry:TABLE")), accepts="adaln.studies.study:Study"
)
"""Quickstart, the paper's tables and figures, what its reviewers asked, starts of our own and of releases, and ways to
condition a block."""
OF_WEIGHTS = {
    "figure20": "figure20 is of ControlNet's zero convolutions, which no study trains; give it networks: adaln study"
    " figure20 --weights CANNY DEPTH POSE SEG, files or folders of yours, or from the hub"
    " hf:lllyasviel/sd-controlnet-canny, ...-depth, ...-openpose and ...-seg"
}
"""Figures of weights that are given, and where to get these."""


def check_weights(name: str, weights: Sequence[str], **others: object) -> None:
    """`ValueError` unless a figure of given weights has these and nothing else, and what trains its own has none."""
    if name not in OF_WEIGHTS:
        if weights:
            raise ValueError(f"{name} trains its own weights; expected --weights with {', '.join(OF_WEIGHTS)} only")
    elif not weights:
        raise ValueError(OF_WEIGHTS[name])
    elif of_runs := [option.replace("_", "-") for option, value in others.items() if value is not None]:
        raise ValueError(f"{name} trains nothing; expected no --{', no --'.join(of_runs)}")


SCALES: "Registry[Scale]" = Registry(
    "scale", dict.fromkeys(("tiny", "ratio", "images-32", "small", "paper"), Later("adaln.studies.scales:TABLE"))
)


@dataclass(frozen=True, slots=True)
class Overrides:
    """What may be asked to be otherwise than a scale has it; the scale `paper` takes places only, no sizes."""

    data: str | None = None
    """The images or latents to learn from, in place of the scale's own."""
    reference: str | None = None
    """What samples are scored against, as in `adaln evaluate`."""
    steps: int | None = None
    """Steps of every run."""
    num_images: int | None = None
    """Samples behind every score."""
    held_out: float | None = None
    """Share of the pictures that no run learns from: the held-out loss has a table and a verdict of its own."""

    def __post_init__(self) -> None:
        for name, count in (("steps", self.steps), ("num_images", self.num_images)):
            if count is not None and count < 1:
                raise ValueError(f"{name} is {count}; expected an integer >= 1")


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a job asks Slurm for, in Slurm's words; a job does one run."""

    executor: Literal["slurm", "local"] = "slurm"
    """local: all jobs at once on this machine, to try the way."""
    partition: str | None = None
    """Where jobs queue; default: the cluster's own, as for all that follows."""
    account: str | None = None
    """Whom the time is charged to."""
    qos: str | None = None
    """Quality of service."""
    constraint: str | None = None
    """Features that a node must have."""
    time_minutes: int = 24 * 60
    """A run that needs longer saves, is queued again, and goes on."""
    gpus_per_node: int = 1
    """1, or 0 for runs on the CPU."""
    cpus_per_task: int = 8
    """Cores of a job."""
    mem_gb: float | None = None
    """Memory of a job, in GB."""
    array_parallelism: int = 64
    """Jobs that run at the same time, at most."""

    def __post_init__(self) -> None:
        if self.gpus_per_node not in (0, 1):
            raise ValueError(f"cluster.gpus_per_node is {self.gpus_per_node}; expected 0 or 1: a job does one run")
        for name in ("time_minutes", "cpus_per_task", "array_parallelism"):
            if getattr(self, name) < 1:
                raise ValueError(f"cluster.{name} is {getattr(self, name)}; expected an integer >= 1")

    @property
    def device(self) -> str:
        """Where a job computes."""
        return "cuda" if self.gpus_per_node else "cpu"


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for, and how a trial is judged."""

    over: tuple[Literal["gate", "scale", "shift"], ...] = ()
    """gate, scale, shift: a role whose std is looked for (again for another); the others start as the scheme says."""
    low: float = 1e-4
    """Least std; between the bounds the logarithm is what is spread evenly."""
    high: float = 1e-2
    """Greatest std."""
    seeds: int = 1
    """Runs per trial, over the same seeds in every trial; a trial is judged by their mean."""
    objective: Literal["score", "loss"] = "score"
    """score: FID (or FID-like) of the last checkpoint; loss: mean training loss over the last tenth of the steps."""
    prune_at: tuple[int, ...] = ()
    """Steps at which a trial worse than the median of the finished ones, there, is given up."""
    at_once: int = 4
    """Trials proposed together, apart from each other; part of what is searched, whatever --jobs."""
    features: str | None = None
    """inception, dataset-classifier, module:function or a network's folder; default: dataset-classifier if the data has
    labels."""
    reference: str | None = None
    """What to score against, as in `adaln evaluate`; default: the run's own data."""
    sample: SampleConfig = field(default_factory=SampleConfig)

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise ValueError(f"low is {self.low} and high {self.high}; expected 0 < low < high")
        for name in ("seeds", "at_once"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected an integer >= 1")


LOSSES = ("loss", "held-out-loss")
"""What starts may be judged by that takes no samples."""
FITTED = "fitted"
"""The start that is measured on the reference's first run."""
USUAL_STARTS = ("adaln-zero", "adaln-gaussian", "adaln-step1", "adaln-mix")
UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}
"""Of time, in seconds."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may be spent in all, whenever it is spent."""

    amount: float
    unit: Literal["seconds", "runs", "operations"]

    @classmethod
    def of(cls, text: str) -> "Budget":
        """`2h`, `90min`, `3d`; `40runs`; `1e15flop`. Raises `ValueError` in one line for anything else.

        >>> Budget.of("1.5h"), Budget.of("90m") == Budget.of("90min"), Budget.of("40 runs")
        (Budget(amount=5400.0, unit='seconds'), True, Budget(amount=40.0, unit='runs'))
        """
        number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyz ")
        word = text.strip().removeprefix(number).strip()
        try:
            amount = float(number)
        except ValueError:
            amount = math.nan
        if not 0 < amount < math.inf or word not in (*UNITS, "run", "runs", "flop"):
            raise ValueError(
                f"budget is {text!r}; expected a time, runs or operations: 90min, 2h, 3d, 40runs, 1e15flop"
            )
        if word in UNITS:
            return cls(amount * UNITS[word], "seconds")
        return cls(amount, "operations" if word == "flop" else "runs")

    def __str__(self) -> str:
        """
        >>> str(Budget.of("90min")), str(Budget.of("27min")), str(Budget.of("40runs"))
        ('1.5 hours', '27 minutes', '40 runs')
        """
        if self.unit == "seconds" and self.amount >= 3 * UNITS["d"]:
            return f"{self.amount / UNITS['d']:,.0f} days"
        if self.unit == "seconds" and self.amount >= UNITS["h"]:
            return f"{self.amount / UNITS['h']:.3g} hours"
        if self.unit == "seconds" and self.amount >= 2 * UNITS["min"]:
            return f"{self.amount / UNITS['min']:.3g} minutes"
        return f"{self.amount:.3g} {self.unit}"


@dataclass(frozen=True, slots=True)
class Rules:
    """How starts are held against each other."""

    reference: str = ""
    """The start that changes are told against; default: the first."""
    fit: bool = True
    """Whether a start fitted from the reference's first run takes part as well."""
    over: tuple[Literal["gate", "scale", "shift"], ...] = ()
    """gate, scale, shift: a grid over the std of a role (again for another); the rest starts as the reference does."""
    stds: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    """The grid's standard deviations."""
    margin: float = 0.02
    """Relative difference below which two starts are equal."""
    by: str = "fid"
    """A score of `adaln evaluate`, of averaged weights; loss: the mean training loss over the last tenth of the steps,
    the same images and noise for every start; held-out-loss: that of averaged weights on what --data.held-out keeps."""
    at: tuple[int, ...] = field(default=(), metadata=LEFT_OUT_AT_DEFAULT)
    """Steps at which it is judged, by the geometric mean over them; default: the last."""
    features: str | None = None
    """inception, dataset-classifier, module:function or a network's folder; default: dataset-classifier if the data has
    labels."""
    score_against: str | None = None
    """What samples are scored against, as `adaln evaluate --reference`; default: the run's own data."""
    sample: SampleConfig = field(default_factory=SampleConfig)

    def __post_init__(self) -> None:
        if not 0 < self.margin < 1:
            raise ValueError(f"margin is {self.margin}; expected a share between 0 and 1, e.g. 0.02")
        if wrong := [std for std in self.stds if not 0 < std < math.inf]:
            raise ValueError(f"stds has {wrong[0]}; expected standard deviations > 0")
        if self.by not in LOSSES:
            names = (*METRICS, *LOSSES)
            if self.by not in METRICS:
                raise ValueError(f"by is {self.by!r}{nearest(self.by, names)}; expected one of: {', '.join(names)}")
            if self.by == "fdr":
                raise ValueError("by is 'fdr', which needs a validation set; expected fid, which ranks starts alike")
            if self.by == "kid":
                raise ValueError(
                    "by is 'kid', which may be below 0; starts are compared by ratios: expected mind or fid"
                )

    @property
    def takes_samples(self) -> bool:
        """Whether samples are drawn and scored."""
        return self.by not in LOSSES

    @property
    def more_is_better(self) -> bool:
        """Whether what is judged is to be made large."""
        return self.takes_samples and METRICS[self.by].better == "higher"


@dataclass(frozen=True, slots=True)
class Choice:
    """The starts to choose from, and by which rules."""

    schemes: tuple[Scheme, ...]
    """Each is trained on the same seeds."""
    rules: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        names, reference = [scheme.name for scheme in self.schemes], self.rules.reference
        if not names:
            raise ValueError("no schemes; expected the starts to choose from")
        if self.rules.fit and FITTED in names:
            raise ValueError(f"a scheme is named {FITTED!r}, as the fitted start is; give it another name, or --no-fit")
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"scheme {twice!r} is given twice; expected each once")
        if reference and reference not in names:
            known = f"{nearest(reference, names)}; they are: {', '.join(names)}"
            raise ValueError(f"reference {reference!r} is not among the schemes{known}")

    @property
    def base(self) -> Scheme:
        """The reference's scheme."""
        wanted = self.rules.reference
        return next(scheme for scheme in self.schemes if scheme.name == wanted or not wanted)
