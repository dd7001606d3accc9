"""A start fitted from a pilot run, at equal cost: what the pilot took, the run that follows goes without.

The pilot is the beginning of the adaLN-Zero run itself: the first 10K of 50K steps in the paper's sizes, which is where
A.11 takes its peaks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from adaln.analysis.fit import Fit, fit
from adaln.config import RunConfig
from adaln.metrics import Scores
from adaln.report import Block, Column, Section
from adaln.statistics import Difference
from adaln.studies.compare import REFERENCE, compare_schemes
from adaln.studies.comparison_tables import result_table
from adaln.studies.judged import by_score
from adaln.studies.rows import Comparison, compare
from adaln.studies.study import Job, Outcome, Result, Setting, Study
from adaln.views.fitting import fit_figure, fit_table

TITLE = "A start fitted from a pilot run, at equal cost"
PROPOSAL = "adaln-gaussian"
PILOT_SHARE = 10_000 / 50_000
"""Of a run's steps."""
V2_STDS = {"gate": 8e-4, "scale": 1.2e-3, "shift": 8e-4}
FITS: Mapping[str, Callable[[Mapping[str, Tensor]], Fit]] = {
    "fitted": fit,
    "fitted-by-block": partial(fit, by_block=True),
    "fitted-blockwise": partial(fit, method="peak", by_block=True, base=V2_STDS),
}
"""One std per role; one per role and block; and A.11's recipe: peaks over blocks, smoothed, at the level of v2."""
FREE = {name: f"{name} (pilot free)" for name in FITS}
"""The same fits when the pilot is not counted."""


@dataclass(frozen=True, slots=True)
class AfterPilot(Outcome):
    """A finished job whose scores stand at total steps: the pilot's and its own."""

    pilot_steps: int

    def scores(self) -> dict[int, Scores]:
        """Scores by total steps."""
        return {self.pilot_steps + step: scores for step, scores in Outcome.scores(self).items()}


def pilot_steps(config: RunConfig) -> int | None:
    """The step nearest to the pilot's share whose checkpoint stays on disk; None where none does before the end."""
    regular = () if config.keep_checkpoints else range(config.checkpoint_every, config.steps, config.checkpoint_every)
    kept = {*regular, *(step for step in config.keep_at if step < config.steps)}
    return min(kept, key=lambda step: (abs(step - PILOT_SHARE * config.steps), step), default=None)


def fitted_jobs(outcomes: Sequence[Outcome]) -> list[Job]:
    """For every seed and fit, from that seed's own pilot: one run that pays for the pilot, and one that does not."""
    zeros = [one for one in outcomes if one.job.label == REFERENCE]
    pilots = [(zero, steps) for zero in zeros if (steps := pilot_steps(zero.job.config))]
    return [
        job
        for zero, steps in pilots
        for name, fit in fits(zero, steps).items()
        for job in jobs_of(zero.job, steps, name, fit)
    ]


def fits(zero: Outcome, steps: int) -> dict[str, Fit]:
    """Every fit of `FITS`, from the weights of this run at the pilot's end."""
    return {name: fit(zero.weights(steps)) for name, fit in FITS.items()}


def jobs_of(zero: Job, pilot: int, name: str, fit: Fit) -> list[Job]:
    """A fitted start in place of adaLN-Zero's, scored at the same total steps, and at the same steps of its own.

    Both are one run, trained once: the one that pays ends earlier.
    """
    paid, config = tuple(step - pilot for step in zero.score_at if step > pilot), zero.config
    started = replace(
        config,
        name=config.name.replace(config.scheme.name, name),
        scheme=fit.scheme(name),
        keep_at=tuple(sorted({*config.keep_at, *paid, *zero.score_at})),
    )
    return [
        replace(zero, label=name, config=replace(started, steps=config.steps - pilot), score_at=paid),
        replace(zero, label=FREE[name], config=started),
    ]


def compare_fitted(outcomes: Sequence[Outcome]) -> Result:
    """The comparison at equal total steps; beside it against the paper's proposal, and had the pilot been free."""
    zeros = [one for one in outcomes if one.job.label == REFERENCE]
    config = zeros[0].job.config
    pilot = pilot_steps(config)
    if not pilot:
        none = f"No start was fitted: runs of {config.steps:,} steps keep no checkpoint before the end to be the pilot."
        return compare_schemes(TITLE, outcomes).led_by([none], [], {"pilot_steps": None})
    counted = [
        AfterPilot(one.job, one.run, pilot) if one.job.label in FITS else one
        for one in outcomes
        if one.job.label not in FREE.values()
    ]
    proposal = compared(counted, (PROPOSAL, *FITS))
    free = compared(outcomes, (REFERENCE, *FREE.values()))
    verdict = [
        f"At equal cost, against {PROPOSAL}: {changes_text(proposal.changes)}.",
        f"Had the pilot been free, against {REFERENCE}: {changes_text(free.changes)}.",
        f"The pilot is the first {pilot:,} of {REFERENCE}'s {config.steps:,} steps; {', '.join(FITS)} train"
        f" {config.steps - pilot:,} more, so that every row has cost {config.steps:,}.",
    ]
    by_seed = {zero.job.config.seed: fits(zero, pilot) for zero in zeros}
    beside: list[Block] = [
        result_table(f"Against {PROPOSAL}, the pilot counted", by_score(proposal)),
        result_table(f"Against {REFERENCE}, had the pilot been free", by_score(free)),
    ]
    sections = [
        Section("Beside the proposal, and without the pilot's cost", beside),
        fits_section(f"{zeros[0].run.path.name} at step {pilot}", by_seed[config.seed]),
    ]
    data = {
        "pilot_steps": pilot,
        "stds": {seed: {name: _stds(fit) for name, fit in of_seed.items()} for seed, of_seed in by_seed.items()},
        "against_proposal": [row.to_json() for row in proposal.rows],
        "pilot_free": [row.to_json() for row in free.rows],
    }
    result = with_steps(compare_schemes(TITLE, counted), pilot, config.steps)
    return result.led_by(verdict, sections, data, position=1)


def compared(outcomes: Sequence[Outcome], labels: Sequence[str]) -> Comparison:
    """The outcomes of these labels as one family of comparisons, against the first label."""
    return compare([one for one in outcomes if one.job.label in labels], labels[0])


def changes_text(changes: Mapping[str, Difference]) -> str:
    """`"fitted worse (+2.31); fitted-by-block not distinguishable (+0.10)"`."""
    return "; ".join(f"{name} {d.verdict} ({d.absolute.value:+.2f})" for name, d in changes.items())


def with_steps(result: Result, pilot: int, steps: int) -> Result:
    """The result with what each row has cost in the second column of its table."""
    table, paid = result.table, f"{pilot:,} + {steps - pilot:,}"
    rows = [[row[0], paid if row[0] in FITS else f"{steps:,}", *row[1:]] for row in table.rows]
    column = Column("total steps", "pilot + run", align="right")
    note = "Scores of rows with a pilot stand at total steps everywhere on this page, their losses at their own."
    columns = [table.columns[0], column, *table.columns[1:]]
    paying = replace(table, columns=columns, rows=rows, notes=[*table.notes, note])
    first, *others = result.sections
    blocks = [paying if block is table else block for block in first.blocks]
    return replace(result, table=paying, sections=[replace(first, blocks=blocks), *others])


def fits_section(source: str, of_seed: Mapping[str, Fit]) -> Section:
    """What was measured on the first seed's pilot, and what the fitted runs started from."""
    curves = [
        replace(fit_figure(source, fit), title=f"{name}: std over blocks")
        for name, fit in of_seed.items()
        if fit.num_blocks > 1
    ]
    return Section("The fits, first seed", [fit_table(source, of_seed["fitted"]), *curves])


def _stds(fit: Fit) -> dict[str, Sequence[float]]:
    return {role: of_role.stds for role, of_role in fit.roles.items()}


FITTED = Study(
    name="fitted",
    title=TITLE,
    settings=tuple(Setting(name, name) for name in (REFERENCE, PROPOSAL, "adaln-gaussian-v2")),
    reduce=compare_fitted,
    then=fitted_jobs,
)
