"""What a study is: settings in the paper's own words, made into jobs by a scale, reduced to an answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from adaln.analysis.recorder import RoleRecord, observe, read_recording
from adaln.codec import LEFT_OUT_AT_DEFAULT, encode, short_hash
from adaln.conditioning import Scheme
from adaln.config import RunConfig, to_dict
from adaln.evaluation.checkpoints import read_scores
from adaln.evaluation.held_out import HeldOutLoss, take_losses
from adaln.evaluation.scoring import Scoring
from adaln.metrics import Scores
from adaln.report import Command, Facts, Page, Section, Table
from adaln.runs import Run, run_folder
from adaln.runs.folders import config_hash
from adaln.sampling import SampleConfig
from adaln.specs import Precision, StoredType, WeightSet
from adaln.studies.choices import Overrides
from adaln.tensor_files import TensorFile


@dataclass(frozen=True, slots=True)
class Setting:
    """What one row of a table trains and how it is scored, in the paper's own sizes; a `Scale` makes a job of it."""

    label: str
    """The row; its seeds share it."""
    scheme: str | Scheme
    """A scheme, or what `adaln.conditioning.scheme` reads."""
    model: str = "DiT-XL/2"
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the model's config that are otherwise than the registered network has them."""
    as_large: bool = False
    """Whether MLPs are as much wider or narrower as makes its parameters those of the network without `options`."""
    data: str = "imagenet-256"
    """A preset: the data set and its size."""
    steps: int = 50_000
    guidance: float = 1.0
    group: str = ""
    """Rows of one group are held against each other; for tables of several comparisons."""
    keeps_depth: bool = False
    """Whether a smaller stand-in has as many blocks as the model: published block-wise starts serve 28."""
    lr_factor: float = 1.0
    """Learning rate over the scale's own."""
    batch_factor: float = 1.0
    """Samples of a step over the scale's own."""
    width_factor: float = 1.0
    """Width over that of the scale's stand-in for `model`."""
    muon: tuple[str, ...] = ()
    """Roles whose matrices Muon moves."""
    precision: Precision | None = None
    """Default: the scale's own."""
    param_dtype: StoredType = "float32"
    """What weights are stored in."""
    is_scored: bool = True
    """Whether samples are drawn at all."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run, the steps at which it is scored, and how its samples are drawn."""

    label: str
    """The row of the study's table that the run belongs to; its seeds share it."""
    config: RunConfig
    score_at: tuple[int, ...]
    sample: SampleConfig
    features: str | None = None
    """As in `Scoring`."""
    reference: str | None = None
    group: str = ""
    further: tuple[str, ...] = field(default=(), metadata=LEFT_OUT_AT_DEFAULT)
    """As in `Scoring`."""
    loss_at: tuple[int, ...] = field(default=(), metadata=LEFT_OUT_AT_DEFAULT)
    """Steps at which held-out losses are taken; none: at its end, if it is scored at all."""

    @property
    def scoring(self) -> Scoring:
        """How its checkpoints are scored."""
        return Scoring(self.sample, self.features, self.reference, self.further)

    @property
    def loss_steps(self) -> tuple[int, ...]:
        """Steps at which held-out losses are taken; none where the run holds nothing out."""
        return (self.loss_at or self.score_at[-1:]) if self.config.data.held_out else ()

    @property
    def run_key(self) -> tuple[str, str]:
        """Jobs of one key share one run, which is trained once."""
        return self.config.name, config_hash(self.config)

    @property
    def run_name(self) -> str:
        """Of the run's folder."""
        return "-".join(self.run_key)

    def run_in(self, root: Path) -> Run:
        """The run as it lies on disk, without making it."""
        return Run(run_folder(self.config, root), self.config)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished job, read from disk; a run that was trained further for another job shows its first steps only."""

    job: Job
    run: Run

    def losses(self) -> dict[int, float]:
        """Mean training loss since the last log step, by step."""
        return {row["step"]: row["loss"] for row in self.run.metrics() if row["step"] <= self.job.config.steps}

    def scores(self) -> dict[int, Scores]:
        """Scores by step, in ascending order."""
        return {step: read_scores(self.run, self.job.scoring, step) for step in self.job.score_at}

    def held_out_losses(self, step: int | None = None) -> dict[WeightSet, HeldOutLoss]:
        """At a step or by default at the job's last, on what the run holds out; none where none are taken."""
        return take_losses(self.run, step or self.job.loss_steps[-1]) if self.job.loss_steps else {}

    def weights(self, step: int | None = None) -> TensorFile:
        """The weights in training, not averaged, at a step or by default at the job's last; read when used."""
        return TensorFile(self.run.folder(step or self.job.config.steps) / "model.safetensors")

    def recording(self) -> list[RoleRecord]:
        """Distributions of gate, scale and shift over the run, its end included."""
        last = self.job.config.steps
        recorded = read_recording(self.run.path / "analysis" / "roles.jsonl")
        return [*(record for record in recorded if record.step < last), *observe(last, self.weights())]


@dataclass(frozen=True, slots=True)
class Result:
    """What a study found: plain data for machines, a page for people. Equal runs give equal bytes."""

    title: str
    verdict: Sequence[str]
    """The answer in words."""
    table: Table
    """The answer, for a terminal."""
    sections: Sequence[Section]
    """What the answer rests on."""
    choices: Facts
    """Every choice behind the numbers."""
    numbers: Mapping[str, Any]
    more: Mapping[str, Any] = field(default_factory=dict)
    """What `data` holds after the verdict."""

    @property
    def data(self) -> dict[str, Any]:
        """For machines."""
        return {"title": self.title, **self.numbers, "verdict": self.verdict, **self.more}

    def page(self, command: str, *about: str) -> Page:
        """For people; `command` is what they type to have the same, `about` what they must know of its sizes."""
        answer, *further = self.verdict
        first, *sections = self.sections
        said = [Section("What these runs can and cannot say", further, folded=True)] if further else []
        made = Section("How this was made", [Command(command), *about, self.choices], folded=True)
        return Page(self.title, answer, [first, *said, *sections, made])

    def led_by(
        self, verdict: Sequence[str], sections: Sequence[Section], more: Mapping[str, Any], position: int = 0
    ) -> "Result":
        """The same result where a question of its own is answered first; its sections come in at `position`."""
        return replace(
            self,
            verdict=[*verdict, *self.verdict],
            sections=[*self.sections[:position], *sections, *self.sections[position:]],
            more={**self.more, **more},
        )


@dataclass(frozen=True, slots=True)
class Scale:
    """How large the paper is repeated: settings to jobs of that size."""

    name: str
    what: str
    make: Callable[[Setting, int, Overrides], Job]
    """(setting, seed, overrides) -> job."""
    seeds: int
    """How many by default."""


@dataclass(frozen=True, slots=True)
class Study:
    """A question, the settings that answer it, and how their outcomes are reduced to an answer."""

    name: str
    title: str
    """The question in a few words."""
    settings: tuple[Setting, ...]
    reduce: Callable[[list[Outcome]], Result]
    then: Callable[[list[Outcome]], list[Job]] | None = None
    """Further jobs that depend on what the settings gave, e.g. a start fitted from a pilot."""
    seeds: int = 2
    """By default at least so many: as many as its question takes."""
    races: str | None = None
    """Of a choice: the row that the others are held against, seed by seed. Those that cannot be best get no further
    seeds, and what they do not take is left for the others; `reduce` is of as many seeds in every row."""

    def default_seeds(self, scale: Scale) -> tuple[int, ...]:
        """Those of the scale, or as many as the question takes."""
        return tuple(range(max(self.seeds, scale.seeds)))


@dataclass(frozen=True, slots=True)
class Plan:
    """A study at a scale, over seeds. A seed fixes data order, times, noise and backbone, so seeds are paired."""

    study: Study
    scale: Scale
    seeds: tuple[int, ...]
    overrides: Overrides = field(default_factory=Overrides)

    def jobs(self) -> list[Job]:
        """The jobs of the settings; equal schemes are equal runs, whichever study asks for them."""
        return [
            self.scale.make(setting, seed, self.overrides) for seed in self.seeds for setting in self.study.settings
        ]

    def further_jobs(self, root: Path) -> list[Job]:
        """The jobs that depend on the first ones, which must be done."""
        return self.study.then(outcomes(self.jobs(), root)) if self.study.then else []

    def folder(self, root: Path) -> Path:
        """Where the results lie: the study's name and a hash over everything that it computes."""
        rows = [{**encode(job), "config": to_dict(job.config)} for job in self.jobs()]
        return root / "studies" / f"{self.study.name}-{self.scale.name}-{short_hash({'jobs': rows})}"

    def command(self) -> str:
        """What a reader types to have the same."""
        words = [f"adaln study {self.study.name} --scale {self.scale.name} --seeds {len(self.seeds)}"]
        words += [f"--{k.replace('_', '-')} {v}" for k, v in asdict(self.overrides).items() if v is not None]
        return " ".join(words)

    def page(self, result: Result) -> Page:
        """Of what it gave."""
        return result.page(self.command(), f"Scale {self.scale.name}: {self.scale.what}.")

    def to_json(self) -> dict[str, Any]:
        """What `study.json` holds: enough to reduce again."""
        names = {"study": self.study.name, "scale": self.scale.name}
        return {**names, "seeds": list(self.seeds), "changes": asdict(self.overrides)}


def by_run(jobs: Sequence[Job]) -> dict[str, list[Job]]:
    """Jobs that share a run, by the name of its folder and the shortest first: no two workers train one."""
    runs: dict[str, list[Job]] = {}
    for job in jobs:
        runs.setdefault(job.run_name, []).append(job)
    return {name: sorted(rows, key=lambda job: job.config.steps) for name, rows in runs.items()}


def outcomes(jobs: Sequence[Job], root: Path) -> list[Outcome]:
    """Finished jobs, to be read."""
    return [Outcome(job, Run.create(job.config, root)) for job in jobs]
