"""Does any start beat both adaLN-Zero and adaLN-Gaussian? Chosen over some seeds, confirmed over others.

Each candidate has a reason. Over the first seeds all of them are trained on every network, and the best is chosen by
its mean change against Zero on the network where that is least; it and both references are then trained over three
times as many further seeds, which decide alone: a choice takes few seeds, a confirmation many. What is best of many by
luck is not so again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import expm1, log
from statistics import fmean

from adaln.conditioning import Normal, Scheme, Start
from adaln.conditioning.distributions import Quantiles
from adaln.report import Axis, Cell, Column, Group, Intervals, Measurement, Section, Table
from adaln.statistics import LEVEL, Difference, paired_each, seen_effect, t_interval
from adaln.studies.judged import in_percent
from adaln.studies.rows import ByLabel, badge, plain_difference, responses_by_group, run_names, study_result
from adaln.studies.study import Job, Outcome, Result, Setting, Study

ZERO, GAUSSIAN = REFERENCES = ("adaln-zero", "adaln-gaussian")
CONFIRMING = 3
"""Further seeds for each one of the choice."""
NETWORKS = ("DiT-XL/2", "DiT-LLaMA-XL/2")
LASTING = 5e-2
"""Table 2's widest: at the paper's rate of 1e-4 it takes 500 updates to undo it."""
FEW_OPEN = Quantiles((*[0.0] * 8, 1.0))
"""Zero but for a thirtieth of the values, which lie between 0 and 1."""
_BY_WIDTH = Start(Normal(1.0, -1.0))
CANDIDATES: Mapping[str, tuple[str | Scheme, str]] = {
    "adaln-step1": ("adaln-step1", "a gate that outlasts the warm-up of the branches"),
    "final-zero": ("final-zero", "what DDT and RAE start with"),
    "gpt2-residual": ("gpt2-residual", "branches that add up to one, by depth"),
    "xavier-all": ("xavier-all", "no zero anywhere: width decides"),
    "Gaussian for 500 updates": (f"adaln-gaussian:{LASTING:g}", "the paper's proposal, in units of what Adam undoes"),
    "Gaussian for 100 updates": (f"adaln-gaussian:{LASTING / 5:g}", "the same, less of it"),
    "gate for 500 updates": (Scheme("gate-lasting", gate=Start(Normal(LASTING))), "the same for the gate alone"),
    "1 / width": (Scheme("width", _BY_WIDTH, _BY_WIDTH, _BY_WIDTH), "std from width (muP)"),
    "head 0.02": ("head-normal:0.02", "a head through which gradients pass at once"),
    "few gates open": (Scheme("few-gates", gate=Start(bias=FEW_OPEN)), "gradients for all, noise from few channels"),
}
"""Row -> start and reason. A start fitted from a pilot has a study of its own, where it pays for the pilot."""
MOST = 700.0
"""Of a logarithm; what is beyond is no number any more."""
TITLE = "Does any start beat both adaLN-Zero and adaLN-Gaussian?"


def settings() -> list[Setting]:
    """Both references and every candidate on every network."""
    schemes = {**{name: name for name in REFERENCES}, **{name: start for name, (start, _) in CANDIDATES.items()}}
    return [
        Setting(name, start, model=model, group=model) for model, (name, start) in product(NETWORKS, schemes.items())
    ]


def scores(outcomes: Sequence[Outcome]) -> dict[str, dict[str, list[float]]]:
    """Network -> row -> the score of every seed."""
    return {
        model: {name: list(values) for name, values in of.fid.items()}
        for model, of in responses_by_group(outcomes, ZERO).items()
    }


def changes_of_choice(outcomes: Sequence[Outcome]) -> dict[str, dict[str, list[float]]]:
    """Network -> candidate -> of every seed ln(score / Zero's)."""
    return {
        model: {
            name: [log(ours / zeros) for ours, zeros in zip(values, by_row[ZERO], strict=True)]
            for name, values in by_row.items()
            if name != ZERO
        }
        for model, by_row in scores(outcomes).items()
    }


def chosen(outcomes: Sequence[Outcome]) -> str:
    """The candidate of the least mean change against Zero on the network that it suits least."""
    changes = changes_of_choice(outcomes)
    return min(CANDIDATES, key=lambda name: least_gain(changes, name))


def least_gain(changes: Mapping[str, Mapping[str, Sequence[float]]], name: str) -> float:
    """The mean change over seeds on the network where it is worst, for what is to win must win on all."""
    return max(fmean(changes[model][name]) for model in NETWORKS)


def confirming_jobs(outcomes: Sequence[Outcome]) -> list[Job]:
    """The best candidate and both references again, over seeds that were not chosen on."""
    kept = {*REFERENCES, chosen(outcomes)}
    seeds = 1 + max(one.job.config.seed for one in outcomes)
    again = [one.job for one in outcomes if one.job.label in kept]
    return [with_seed(job, job.config.seed + part * seeds) for part in range(1, 1 + CONFIRMING) for job in again]


def with_seed(job: Job, seed: int) -> Job:
    """The same job over another seed."""
    name = f"{job.config.name.removesuffix(f'-s{job.config.seed}')}-s{seed}"
    return replace(job, config=replace(job.config, name=name, seed=seed))


def reduce(outcomes: Sequence[Outcome]) -> Result:
    """The candidates over the choosing seeds, the best of them over the confirming ones, and whether it beats both."""
    seeds = sorted({one.job.config.seed for one in outcomes})
    first = len(seeds) // (1 + CONFIRMING)
    choosing = [one for one in outcomes if one.job.config.seed in seeds[:first]]
    confirming = [one for one in outcomes if one.job.config.seed in seeds[first:]]
    best, changes = chosen(choosing), changes_of_choice(choosing)
    confirmed, seen, by_model = confirm(confirming, best)
    table = confirming_table(best, confirmed, len(seeds) - first)
    sections = [
        Section("Confirmed on other seeds?", [confirming_figure(best, confirmed), table]),
        Section("The choice", [choice_table(changes)]),
    ]
    numbers = {
        "chosen": best,
        "choosing": changes,
        "scores": {"choosing": scores(choosing), "confirming": scores(confirming)},
        "confirming": {f"{model}, {name}": plain_difference(change) for (model, name), change in confirmed.items()},
    }
    lines = verdict(best, confirmed, seen, first)
    result = study_result(TITLE, lines, table, sections, by_model[NETWORKS[0]], numbers)
    return replace(result, more={"runs": {model: run_names(runs) for model, runs in by_model.items()}})


Confirmed = Mapping[tuple[str, str], Difference]
"""(network, reference) -> the chosen start's change against it over the confirming seeds; one family."""


def confirm(outcomes: Sequence[Outcome], best: str) -> tuple[Confirmed, float, dict[str, ByLabel]]:
    """The chosen start against both references on every network; the relative change that is seen everywhere four times
    in five; and the runs behind."""
    responses = responses_by_group(outcomes, ZERO)
    pairs = {
        (model, name): (responses[model].fid[best], responses[model].fid[name])
        for model, name in product(NETWORKS, REFERENCES)
    }
    changes = paired_each(pairs)
    effect = seen_effect(len(next(iter(pairs.values()))[0]), LEVEL / len(pairs))
    seen = max(effect * change.noise / fmean(pairs[key][1]) for key, change in changes.items())
    return changes, seen, {model: of.by_label for model, of in responses.items()}


def verdict(best: str, confirmed: Confirmed, seen: float, seeds: int) -> list[str]:
    """Whether the chosen start is better than both references everywhere; else what would have been `seen`.

    `seeds`: those of the choice.
    """
    others = CONFIRMING * seeds
    found = "; ".join(
        f"{100 * change.relative.value:+.1f} % against {name} on {model} ({change.verdict})"
        for (model, name), change in confirmed.items()
    )
    if all(change.verdict == "better" for change in confirmed.values()):
        where = f"on {len(NETWORKS)} networks, over {others} seeds"
        return [f"Yes: {best} is better than both {where} besides the {seeds} it was chosen on.", f"It is {found}."]
    return [
        f"None that these seeds confirm: {best}, the best of {len(CANDIDATES)} over {seeds} seeds, is over {others}"
        f" others {found}.",
        f"A change of {100 * seen:.0f} % would have been seen four times in five everywhere.",
    ]


def confirming_table(best: str, confirmed: Confirmed, seeds: int) -> Table:
    """A row per network and reference."""
    columns = [Column("network"), Column("against"), Column("verdict")]
    columns += [Column("change", format="+.2f"), Column("relative", "%", "+.1f"), Column("p", "Bonferroni", ".2g")]
    rows: list[list[Cell]] = [
        [
            *(model, name, badge(change.verdict), Measurement.of(change.absolute)),
            *(Measurement.of(change.relative, 100), change.p_value),
        ]
        for (model, name), change in confirmed.items()
    ]
    notes = [
        f"{best} over {seeds} seeds on which it was not chosen; paired changes, intervals and verdicts for all"
        f" {len(confirmed)} together (Bonferroni; relative ones Fieller's). The names of networks are the paper's."
    ]
    return Table(TITLE, columns, rows, notes)


def confirming_figure(best: str, confirmed: Confirmed) -> Intervals:
    """The relative changes of the chosen start."""
    caption = f"Relative change of {best} over seeds on which it was not chosen. Left of 0 is better."
    values = [in_percent(change.relative) for change in confirmed.values()]
    names = [f"{model} against {name}" for model, name in confirmed]
    return Intervals("The chosen start", caption, Axis("change", "%"), names, [Group(best, values)], better="below")


def choice_table(changes: Mapping[str, Mapping[str, Sequence[float]]]) -> Table:
    """Every candidate and why it is one, in the order of the choice."""
    columns = [Column("start"), Column("reason"), *(Column(model, "change in %", "+.1f") for model in NETWORKS)]
    names = sorted(changes[NETWORKS[0]], key=lambda name: least_gain(changes, name))
    rows: list[list[Cell]] = []
    for name in names:
        intervals = [t_interval(changes[model][name]) for model in NETWORKS]
        cells = [Measurement(*(100 * expm1(min(end, MOST)) for end in (i.value, i.low, i.high))) for i in intervals]
        rows.append([name, CANDIDATES[name][1] if name in CANDIDATES else "a reference", *cells])
    notes = [
        "Against adaLN-Zero, paired over the choosing seeds, in the order of the network that suits a start least; each"
        " interval by itself at 95 %: the best of them looks better than it is, which is why others decide.",
        "Updates are those at the paper's ratio of std and learning rate, which scale tiny alone does not have.",
    ]
    return Table("The candidates over the choosing seeds", columns, rows, notes)


CANDIDATES_STUDY = Study("candidates", TITLE, tuple(settings()), reduce, then=confirming_jobs)
