"""Runs as the rows of a study: the same seeds in every row, what each gave, and what it differs by from another."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from adaln.config import model_name
from adaln.metrics import Scores
from adaln.report import Cell, Facts, Mark, Marked, Measurement, Section, Table
from adaln.statistics import Difference, Interval, paired_differences, seeds_needed, t_interval
from adaln.studies.study import Outcome, Result
from adaln.views.scores import shown_name

LOSS_TAIL = 0.1
"""The reported loss is the mean over the last tenth of the steps."""
ADVISED_CHANGE = 0.02
"""Seeds are advised for seeing a change of this size, relative to the reference."""
OF_SAMPLES = ("weights sampled", "solver", "guidance scale", "samples per score", "labels")
"""Choices that say nothing of runs from which no samples are drawn."""
ByLabel = Mapping[str, Sequence[Outcome]]
"""The runs of every row, seeds in ascending order."""


def group(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """Outcomes by label, seeds in ascending order."""
    by_label: dict[str, list[Outcome]] = {outcome.job.label: [] for outcome in outcomes}
    for outcome in sorted(outcomes, key=lambda outcome: outcome.job.config.seed):
        by_label[outcome.job.label].append(outcome)
    return by_label


def paired(outcomes: Sequence[Outcome], reference: str | None = None) -> dict[str, list[Outcome]]:
    """As `group`; `ValueError` naming the rows whose seeds are not those of the reference (default: the first)."""
    by_label = group(outcomes)
    reference = reference or next(iter(by_label))
    seeds = {label: [outcome.job.config.seed for outcome in runs] for label, runs in by_label.items()}
    wrong = [
        f"{label!r} has {of_label}"
        for label, of_label in seeds.items()
        if of_label != seeds[reference] or len(set(of_label)) < len(of_label)
    ]
    if wrong:
        raise ValueError(f"pairs need the seeds of {reference!r}, {seeds[reference]}, once each: {'; '.join(wrong)}")
    return by_label


def run_names(by_label: ByLabel) -> dict[str, list[str]]:
    """Which folders the numbers come from."""
    return {label: [outcome.run.path.name for outcome in outcomes] for label, outcomes in by_label.items()}


def study_result(
    title: str,
    verdict: Sequence[str],
    table: Table,
    sections: Sequence[Section],
    by_label: ByLabel,
    numbers: Mapping[str, Any],
) -> Result:
    """The result of these runs; choices are told from the first of them."""
    first = next(iter(by_label.values()))[0]
    return Result(title, verdict, table, sections, choices(first), numbers, {"runs": run_names(by_label)})


def choices(outcome: Outcome) -> Facts:
    """Every choice that influences the numbers, told from one of the runs."""
    config, sample, manifest = outcome.job.config, outcome.job.sample, outcome.run.manifest
    session, data = manifest["sessions"][-1], manifest["data"]
    facts = {
        "network": network_text(outcome),
        "data": f"{data_name(outcome)}, {data['num_images']} images, {data['fingerprint'][:12]}",
        "steps x batch": f"{config.steps} x {config.batch_size}",
        "learning rate": config.optim.lr,
        "EMA decay": config.optim.ema_decay,
        "label dropout": config.model.class_dropout_prob,
        "weights sampled": "EMA",
        "solver": f"{sample.sampler.solver}, {sample.sampler.steps} steps",
        "guidance scale": sample.guidance.scale,
        "samples per score": sample.num_images,
        "labels": str(sample.labels),
        "torch": session["torch"],
        "device": session["device"],
        "threads per run": session["num_threads"],
        "commit": session["commit"],
    }
    left_out = () if outcome.job.score_at else OF_SAMPLES
    return Facts("Choices", {name: value for name, value in facts.items() if name not in left_out})


def network_text(outcome: Outcome) -> str:
    """The network by its sizes, and the name under which it was published."""
    model = outcome.job.config.model
    name = model_name(model)
    sizes = model.describe()
    return sizes if name.startswith("custom") or "tiny" in name else f"{name}, {sizes}"


def data_name(outcome: Outcome) -> str:
    """What the run learnt from."""
    return str(outcome.run.manifest["data"]["name"])


def final(scores: Mapping[int, Scores]) -> Scores:
    """Scores of the last checkpoint."""
    return scores[max(scores)]


def final_loss(outcome: Outcome, steps: int | None = None) -> float:
    """Mean training loss over the last tenth of the first `steps`, by default of all."""
    steps = steps or outcome.job.config.steps
    return fmean(loss for step, loss in outcome.losses().items() if (1 - LOSS_TAIL) * steps < step <= steps)


@dataclass(frozen=True, slots=True)
class Responses:
    """The scores of every row, over the same seeds in the same order."""

    by_label: ByLabel
    by_step: Mapping[str, Sequence[Mapping[int, Scores]]]
    """Row -> for each seed scores by step."""
    fid: Mapping[str, Sequence[float]]
    """Row -> the last FID of each seed."""

    @property
    def scores(self) -> Scores:
        """Of one run: what all were measured in."""
        return final(next(iter(self.by_step.values()))[0])

    @property
    def score(self) -> str:
        """The score's short name."""
        return shown_name("fid", self.scores)

    @property
    def num_seeds(self) -> int:
        return len(next(iter(self.fid.values())))


def read_responses(outcomes: Sequence[Outcome], reference: str | None = None) -> Responses:
    """Of scored runs; see `paired`."""
    by_label = paired(outcomes, reference)
    by_step = {label: [run.scores() for run in runs] for label, runs in by_label.items()}
    fid = {label: [final(seed)["fid"].value for seed in seeds] for label, seeds in by_step.items()}
    return Responses(by_label, by_step, fid)


def responses_by_group(outcomes: Sequence[Outcome], reference: str) -> dict[str, Responses]:
    """As `read_responses` of the runs of every group, each against its own `reference`."""
    groups = dict.fromkeys(outcome.job.group for outcome in outcomes)
    return {name: read_responses([one for one in outcomes if one.job.group == name], reference) for name in groups}


@dataclass(frozen=True, slots=True)
class Row:
    """One label of a comparison: what was trained, what each seed gave, and the difference from the reference."""

    label: str
    parameters: int
    """Those that are trained."""
    losses: Sequence[float]
    """For each seed the loss at the end."""
    scores: Mapping[str, Sequence[float]]
    """Metric -> the last score of each seed; FID first."""
    difference: Difference | None
    """In FID; None for the reference itself."""
    seeds_for_2_percent: int | None = None
    """So many would show a change of 2 % of the reference at this noise."""
    seeds_for_this: int | None = None

    @property
    def fid(self) -> Interval:
        """Mean over seeds."""
        return t_interval(self.scores["fid"])

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        change, (fid, *others) = self.difference, self.scores
        return {
            "scheme": self.label,
            "parameters": self.parameters,
            "loss": over_seeds(self.losses),
            fid: {**over_seeds(self.scores[fid]), "per_seed": self.scores[fid]},
            **{metric: over_seeds(self.scores[metric]) for metric in others},
            "difference": None
            if change is None
            else {
                **asdict(change),
                "distinguishable": change.distinguishable,
                "seeds_for_2_percent": self.seeds_for_2_percent,
                "seeds_for_this": self.seeds_for_this,
            },
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rows over the same seeds, each held against the one called `reference`; their verdicts hold together."""

    responses: Responses
    reference: str
    rows: Sequence[Row]

    @property
    def changes(self) -> dict[str, Difference]:
        """By the labels of all rows but the reference."""
        return {row.label: row.difference for row in self.rows if row.difference}


def compare(outcomes: Sequence[Outcome], reference: str) -> Comparison:
    """Every row held against `reference`, by FID: the rows are one family of comparisons; see `read_responses`."""
    responses = read_responses(outcomes, reference)
    fid, base = responses.fid, fmean(responses.fid[reference])
    changes = paired_differences(fid, reference)
    others = [metric for metric in final(responses.by_step[reference][0]).scores if metric != "fid"]
    rows = []
    for label, outcomes in responses.by_label.items():
        scores = {m: [final(seed)[m].value for seed in responses.by_step[label]] for m in ("fid", *others)}
        parameters = outcomes[0].run.manifest["parameters"]["trained"]
        change, seeds = changes.get(label), []
        if change:
            sizes = ADVISED_CHANGE * base, change.absolute.value
            seeds = [seeds_needed(size, change.noise, len(changes)) for size in sizes]
        rows.append(Row(label, parameters, [final_loss(outcome) for outcome in outcomes], scores, change, *seeds))
    return Comparison(responses, reference, rows)


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """Mean and interval of one number of every seed, for machines."""
    interval = t_interval(values)
    return {"mean": interval.value, "low": interval.low, "high": interval.high, "seeds": len(values)}


def plain(interval: Interval) -> dict[str, float]:
    """An interval for machines; JSON has an end that is not finite as "inf", as everywhere."""
    return asdict(interval)


def plain_difference(change: Difference) -> dict[str, Any]:
    """A paired difference for machines."""
    verdict = {"p_value": change.p_value, "distinguishable": change.distinguishable}
    return {"absolute": plain(change.absolute), "relative": plain(change.relative), **verdict}


def change_text(label: str, change: Difference, reference: str, score: str, digits: int = 2) -> str:
    """`"adaln-gaussian is better than adaln-zero: FID -2.16 points (-10.8 % relative)"`."""
    return (
        f"{label} is {change.verdict} than {reference}: {score} {change.absolute.value:+.{digits}f} points"
        f" ({100 * change.relative.value:+.1f} % relative)"
    )


def badge(verdict: str) -> Cell:
    """A verdict in the colour of what it says."""
    marks: dict[str, Mark] = {"better": "better", "worse": "worse"}
    return Marked(verdict, marks[verdict]) if verdict in marks else verdict


def change_cells(change: Difference | None) -> list[Cell]:
    """A change and its verdict; empty cells of the reference itself."""
    return [Measurement.of(change.absolute), badge(change.verdict)] if change else [None, None]


def absolute_and_relative(change: Difference) -> list[Measurement]:
    """A change as two cells, the relative one in percent."""
    return [Measurement.of(change.absolute), Measurement.of(change.relative, 100)]


def room(intervals: Iterable[Interval]) -> float:
    """The largest effect, of either sign, that one of the intervals leaves room for."""
    return max(abs(end) for interval in intervals for end in (interval.low, interval.high))
