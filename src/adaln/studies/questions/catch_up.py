"""Does adaLN-Zero catch up with adaLN-Gaussian, given the paper's longest training?"""

import math
from collections.abc import Mapping, Sequence

from adaln.report import Axis, Lines, Section, Series
from adaln.statistics import LEVEL, Interval, t_interval
from adaln.studies.compare import comparison_result
from adaln.studies.rows import Responses, compare, plain
from adaln.studies.study import Outcome, Result, Setting, Study

ZERO, GAUSSIAN = "adaln-zero", "adaln-gaussian"
STEPS = 800_000
TITLE = "Does adaLN-Zero catch up?"
Leads = Mapping[int, Interval]
"""Scored step -> mean over seeds of ln(score of Zero / score of Gaussian), intervals for all steps together."""


def reduce(outcomes: Sequence[Outcome]) -> Result:
    """The comparison, led by Gaussian's lead over training."""
    comparison = compare(outcomes, ZERO)
    responses = comparison.responses
    logs = log_leads(responses)
    steps = sorted(logs)
    leads = {step: t_interval(logs[step], 1 - LEVEL / len(logs)) for step in steps}
    change = t_interval([b - a for a, b in zip(logs[steps[0]], logs[steps[-1]], strict=True)])
    data = {"lead": {str(step): plain(lead) for step, lead in leads.items()}, "change": plain(change)}
    section = Section("Gaussian's lead", [lead_figure(leads, responses.num_seeds, responses.score)])
    return comparison_result(TITLE, comparison).led_by(verdict(leads, change), [section], data)


def log_leads(responses: Responses) -> dict[int, list[float]]:
    """For every scored step and seed ln(score of Zero / score of Gaussian): above 0, Gaussian is ahead."""
    pairs = list(zip(responses.by_step[ZERO], responses.by_step[GAUSSIAN], strict=True))
    return {step: [math.log(z[step]["fid"].value / g[step]["fid"].value) for z, g in pairs] for step in pairs[0][0]}


def verdict(leads: Leads, change: Interval) -> list[str]:
    """Whether Gaussian was ahead, still is at the end, and whether its lead changed from first to last score."""
    steps = sorted(leads)
    end = leads[steps[-1]]
    was_ahead = [step for step in steps if leads[step].low > 0]
    last = f"at step {steps[-1]:,} its lead is {_percent(end)}"
    if end.low > 0:
        line = f"No: {GAUSSIAN} is still ahead; {last}."
    elif end.high < 0:
        line = f"{ZERO} is ahead at the end: of {GAUSSIAN}, {last}."
    elif was_ahead:
        line = f"As far as these seeds tell: {GAUSSIAN} was ahead at step {was_ahead[-1]:,}, but {last}."
    else:
        line = f"There is no lead to catch up with: {GAUSSIAN} is never told ahead of {ZERO}; {last}."
    if len(steps) == 1:
        return [line, "Only one step is scored, so nothing is said of the course."]
    word = "shrinks" if change.high < 0 else "grows" if change.low > 0 else "is not told to change"
    return [line, f"From step {steps[0]:,} to the end the lead {word}: by {_percent(change)}."]


def _percent(lead: Interval) -> str:
    value, low, high = (100 * math.expm1(min(end, 700.0)) for end in (lead.value, lead.low, lead.high))
    return f"{value:+.1f} % [{low:+.1f}, {high:+.1f}]"


def lead_figure(leads: Leads, num_seeds: int, score: str) -> Lines:
    """The lead against steps."""
    steps = sorted(leads)
    caption = (
        f"ln({score} of {ZERO} / {score} of {GAUSSIAN}), mean of n = {num_seeds} seeds, paired; the band holds for all"
        f" {len(steps)} steps together (Bonferroni, 95 %). Above 0 {GAUSSIAN} is ahead; 0.1 is about 10 %."
    )
    lead = Series.of("lead", steps, [leads[step] for step in steps])
    axes = Axis("step", "optimiser updates", "log"), Axis("lead", "ln")
    return Lines(f"{GAUSSIAN}'s lead over {ZERO}", caption, *axes, [lead, Series("none", steps, [0.0] * len(steps))])


CATCH_UP = Study("catch-up", TITLE, tuple(Setting(name, name, steps=STEPS) for name in (ZERO, GAUSSIAN)), reduce)
