"""Does the start matter, when, and for how long? Its effect over std / learning rate, and under other circumstances.

Adam moves a weight by about the learning rate per update, so a start of std s is gone after some s / lr updates. If
that decides, a start has the same effect at another rate where s / lr is the same; if the std itself does, where s is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from math import expm1, isfinite
from statistics import fmean
from typing import Any

from adaln.report import Axis, Cell, Column, Group, Intervals, Lines, Measurement, Section, Series, Table
from adaln.statistics import Difference, t_interval
from adaln.studies.comparison_tables import loss_sections
from adaln.studies.judged import by_losses, in_percent
from adaln.studies.published_numbers import gaussian_scheme, published_tables
from adaln.studies.questions.ratio_effects import AS_IT_IS, ZERO, Effects, Luck, Rules, effects_of, foretold, luck
from adaln.studies.rows import badge, plain_difference, responses_by_group, run_names, study_result
from adaln.studies.study import Outcome, Result, Setting, Study

LADDER = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
"""Three decades of std / lr at the paper's rate of 1e-4: 1 to 1,000 updates; its own start lasts 10."""
FEW = (0.0, 1e-3, 3e-2)
"""The paper's own start, and one that lasts 300 updates."""
CIRCUMSTANCES: Mapping[str, Mapping[str, Any]] = {
    AS_IT_IS: {},
    "longer": {"steps": 400_000},
    "lr × 1/2": {"lr_factor": 0.5, "steps": 400_000},
    "lr × 2": {"lr_factor": 2.0, "steps": 25_000},
    "batch × 1/4": {"batch_factor": 0.25},
    "width × 2": {"width_factor": 2.0, "steps": 25_000},
    "width × 4": {"width_factor": 4.0, "steps": 10_000},
    "Muon for the backbone": {"muon": ("backbone",)},
    "velocity (SiT)": {"model": "SiT-XL/2"},
    "no classes": {"data": "celeba-hq"},
}
"""What is otherwise: other rates go as far as the ladder (learning rate x steps), wider networks learn sooner."""
OTHER_RATES = tuple(name for name, change in CIRCUMSTANCES.items() if "lr_factor" in change)
TITLE = "Does the start matter, when, and for how long?"


def settings() -> Iterator[Setting]:
    """The whole ladder as it is, a few rungs under every other circumstance, each at the same std / lr."""
    for name, change in CIRCUMSTANCES.items():
        for rung in FEW if change else LADDER:
            std = rung * change.get("lr_factor", 1.0)
            yield Setting(f"std {std:g}", gaussian_scheme(std), group=name, **change)


def reduce(outcomes: Sequence[Outcome]) -> Result:
    """Effects as it is and under other circumstances, which of two rules foretells those at other rates, and luck."""
    by_name = responses_by_group(outcomes, ZERO)
    effects = effects_of(by_name)
    base, elsewhere = effects[AS_IT_IS], {name: of for name, of in effects.items() if name != AS_IT_IS}
    rates = {name: effects[name] for name in OTHER_RATES}
    rules, chance = foretold(base, list(rates.values())), luck(base, published_scores())
    ladder = ladder_table(base)
    losses = {f"{name}, by {of.name}": of for name, r in by_name.items() for of in by_losses(r.by_label, ZERO)}
    sections = [
        Section("Over std / learning rate", [ladder_figure(base), ladder]),
        Section("Under other circumstances", [elsewhere_figure(elsewhere), elsewhere_table(elsewhere)]),
        Section("In updates or in std?", [*rate_figures(base, rates), rules_table(rules)]),
        Section("The paper's Table 2, were its noise that between these seeds", [luck_table(chance)]),
        *loss_sections(losses),
    ]
    lines = [*verdict(base, elsewhere), rule_line(rules), luck_line(chance)]
    result = study_result(TITLE, lines, ladder, sections, base.responses.by_label, numbers(effects, rules, chance))
    return replace(result, more={"runs": {name: run_names(r.by_label) for name, r in by_name.items()}})


def published_scores() -> list[float]:
    """Table 2 from std 0 on."""
    return [row.fid for row in published_tables()["table2"].rows if row.fid is not None]


def verdict(base: Effects, elsewhere: Mapping[str, Effects]) -> list[str]:
    """Whether a start differs from Zero as it is; which do, when in training, and under which circumstances."""
    first, last = base.steps[0], base.steps[-1]
    what = f"after {last:,} steps, over {base.responses.num_seeds} seeds, by {base.responses.score}"
    clear = {label: change for label, change in base.at_end().items() if change.distinguishable}
    if clear:
        most = max(clear, key=lambda label: abs(clear[label].relative.value))
        start = f"a start of {_updates(base, most)} is {clear[most].verdict} than Zero ({_percent(clear[most])})"
        answer = f"Yes: {start} {what}; {len(clear)} of {len(base.starts)} starts differ."
    else:
        answer = f"Not that these seeds tell: {what}, none of {len(base.starts)} starts differs from Zero."
    lines = [answer, f"As it is, after {last:,} steps: {_clear(base, last)}."]
    if first < last:
        lines.append(f"Early, after {first:,} steps: {_clear(base, first)}.")
    return [*lines, *(f"{name}, after {of.steps[-1]:,}: {_clear(of, of.steps[-1])}." for name, of in elsewhere.items())]


def _clear(of: Effects, step: int) -> str:
    """The starts that are told from Zero at a step."""
    clear = [
        f"{_updates(of, label)} {change.verdict} ({_percent(change)})"
        for label, change in of.changes[step].items()
        if change.distinguishable
    ]
    return "; ".join(clear) or "none differs from Zero"


def _updates(of: Effects, label: str) -> str:
    """How long a start lasts."""
    updates = of.updates[label]
    return f"{updates:,.0f} update{'s' * (round(updates) != 1)}" if updates >= 0.95 else f"{updates:.2g} of an update"


def _percent(change: Difference) -> str:
    relative = change.relative
    is_bounded = isfinite(relative.high - relative.low)
    ends = f" [{100 * relative.low:+.0f}, {100 * relative.high:+.0f}]" if is_bounded else ""
    return f"{100 * relative.value:+.1f} %{ends}"


def rule_line(rules: Rules) -> str:
    """Which rule foretells effects at other learning rates."""
    updates, std = (100 * rules.errors[rule] for rule in ("in updates", "in std"))
    better = "std / lr" if rules.gain.value > 0 else "the std itself"
    told = f"{better} foretells them better" if rules.p_value <= 0.05 else "these seeds do not tell which is better"
    return (
        f"At other learning rates the curve over std / lr misses a seed's effect by {updates:.0f} %, that over std by"
        f" {std:.0f} %: {told}."
    )


def luck_line(chance: Luck) -> str:
    """What seed noise alone makes of a table like the paper's."""
    return (
        f"The best of the paper's six stds is {100 * expm1(chance.best):.1f} % from Zero, one seed each. Were nothing"
        f" but noise there, the best of six would be as good with a chance of {100 * chance.chance:.0f} % at the noise"
        f" between these seeds ({100 * chance.noise:.1f} %), of {100 * chance.chance_by_roughness:.0f} % at the table's"
        f" own roughness ({100 * chance.roughness:.1f} % of a score)."
    )


def ladder_table(base: Effects) -> Table:
    """A row per start, with its change at every scored step."""
    score = base.responses.score
    columns = [
        Column("start"),
        Column("std / lr", "updates", ",.4g"),
        Column("verdict", f"after {base.steps[-1]:,} steps"),
        Column(score, "lower is better", ".1f"),
        *(Column(f"after {step:,}", "change in %", "+.1f") for step in base.steps),
    ]
    rows: list[list[Cell]] = []
    for label, updates in base.updates.items():
        change = base.changes[base.steps[-1]].get(label)
        verdict = badge(change.verdict) if change else "the reference"
        relative = [base.changes[step][label].relative if change else None for step in base.steps]
        changes = [Measurement.of(one, 100) if one else None for one in relative]
        rows.append([label, updates, verdict, Measurement.of(t_interval(base.responses.fid[label])), *changes])
    notes = [
        f"{score}: in {base.responses.scores['fid'].label}. Mean over {base.responses.num_seeds} seeds, 95 % t"
        f" intervals; changes are against Zero, paired; their intervals hold for all {len(base.starts)} starts and"
        f" {len(base.steps)} steps together (Bonferroni; Fieller's)."
    ]
    return Table(TITLE, columns, rows, notes)


def ladder_figure(base: Effects) -> Lines:
    """The change against Zero over std / lr, a curve for every scored step."""
    series = [_curve(f"after {step:,} steps", base, base.updates, step) for step in base.steps]
    caption = (
        f"Relative change of {base.responses.score} against Zero, n = {base.responses.num_seeds} paired seeds, with"
        " intervals for all together (95 %). Below 0 the start is better. Adam moves a weight by about the learning"
        " rate per update: the x axis is how many updates undo the start."
    )
    return Lines("Change against Zero", caption, Axis("std / lr", "updates", "log"), Axis("change", "%"), series)


def _curve(name: str, of: Effects, x: Mapping[str, float], step: int) -> Series:
    relative = [of.changes[step][label].relative for label in of.starts]
    y, low, high = ([100 * getattr(one, end) for one in relative] for end in ("value", "low", "high"))
    at = [x[label] for label in of.starts]
    return Series(name, at, y, low, high) if all(map(isfinite, (*low, *high))) else Series(name, at, y)


def elsewhere_figure(elsewhere: Mapping[str, Effects]) -> Intervals:
    """The change against Zero under every circumstance, by std / lr."""
    some = next(iter(elsewhere.values()))
    groups = []
    for index, first in enumerate(some.starts):
        changes = [of.at_end()[of.starts[index]].relative for of in elsewhere.values()]
        groups.append(Group(f"std / lr {some.updates[first]:.3g}", [in_percent(one) for one in changes]))
    caption = (
        f"Relative change of {some.responses.score} against Zero of the same circumstance at its last step,"
        f" n = {some.responses.num_seeds} paired seeds; the intervals hold for all together (95 %). Left of 0 the start"
        " is better."
    )
    return Intervals("Elsewhere", caption, Axis("change", "%"), list(elsewhere), groups, better="below")


def elsewhere_table(elsewhere: Mapping[str, Effects]) -> Table:
    """A row per circumstance and start."""
    columns = [
        Column("circumstance"),
        Column("after", "steps", ",d"),
        Column("std / lr", "updates", ",.4g"),
        Column("verdict"),
        Column("Zero", format=".1f"),
        Column("start", format=".1f"),
        Column("change", "%", "+.1f"),
        Column("p", "Bonferroni", ".2g"),
    ]
    rows: list[list[Cell]] = []
    for name, of in elsewhere.items():
        zero, fid = fmean(of.responses.fid[ZERO]), of.responses.fid
        for label, change in of.at_end().items():
            relative = Measurement.of(change.relative, 100)
            seen = [badge(change.verdict), zero, fmean(fid[label]), relative, change.p_value]
            rows.append([name, of.steps[-1], of.updates[label], *seen])
    notes = ["Changes against Zero of the same circumstance; intervals and verdicts hold for all rows together."]
    return Table("Under other circumstances", columns, rows, notes)


def rate_figures(base: Effects, rates: Mapping[str, Effects]) -> list[Lines]:
    """Effects at every learning rate over std / lr, and over std: on which axis do they lie on one curve?"""
    caption = (
        "Relative change against Zero of the same rate; mean over seeds. Each other rate at its last step lies beside"
        f" {AS_IT_IS} where that has gone as far: learning rate times steps."
    )
    curves = [(name, of, of.steps[-1]) for name, of in rates.items()]
    curves += [(AS_IT_IS, base, step) for step in sorted({base.as_far_as(of) for of in rates.values()})]
    figures = []
    for label, unit in (("std / lr", "updates"), ("std", "")):
        series = [
            Series(
                f"{name}, after {step:,} steps",
                [x[one] for one in of.starts],
                [100 * of.changes[step][one].relative.value for one in of.starts],
            )
            for name, of, step in curves
            for x in [of.updates if unit else of.stds]
        ]
        figures.append(Lines(f"Over {label}", caption, Axis(label, unit, "log"), Axis("change", "%"), series))
    return figures


def rules_table(rules: Rules) -> Table:
    """What either rule misses at the other learning rates."""
    columns = [Column("rule"), Column("misses", "ln of the score, root mean square", ".3f")]
    gain = rules.gain
    notes = [
        f"Foretold from the ladder, where it has gone as far (learning rate times steps), for {', '.join(OTHER_RATES)},"
        f" no run of which it has seen. Mean square missed over std"
        f" less that over std / lr: {gain.value:.4f} [{gain.low:.4f}, {gain.high:.4f}], p {rules.p_value:.2g}."
    ]
    return Table("What the rules miss", columns, [[rule, error] for rule, error in rules.errors.items()], notes)


def luck_table(chance: Luck) -> Table:
    """The paper's scores, and its changes in units of the noise between our seeds."""
    columns = [
        Column("start"),
        Column("published", "FID", ".2f"),
        Column("change", "%", "+.1f"),
        Column("change", "over our noise", "+.2f"),
        Column("change", "over the table's roughness", "+.2f"),
    ]
    scores, rough = published_scores(), chance.roughness * 2**0.5
    rows: list[list[Cell]] = []
    for row, score in zip(published_tables()["table2"].rows, scores, strict=True):
        change = score / scores[0] - 1
        rows.append([row.setting.label, score, 100 * change, change / chance.noise, change / rough])
    notes = [
        f"Noise: std over our seeds of ln(score / Zero's), {chance.noise:.3f}. The paper's network, data and samples"
        " are others, and it has one seed each: its noise need not be ours. Roughness: how far scores of neighbouring"
        f" stds are from a line, {chance.roughness:.3f} of a score, so {rough:.3f} of a change."
    ]
    return Table("The paper's Table 2 in units of noise", columns, rows, notes)


def numbers(effects: Mapping[str, Effects], rules: Rules, chance: Luck) -> dict[str, Any]:
    """For machines."""
    circumstances = {
        name: {
            "fid": of.responses.fid,
            "std": of.stds,
            "updates": of.updates,
            "changes": {
                str(step): {label: plain_difference(change) for label, change in changes.items()}
                for step, changes in of.changes.items()
            },
        }
        for name, of in effects.items()
    }
    score = effects[AS_IT_IS].responses.score
    return {"score": score, "circumstances": circumstances, "rule": asdict(rules), "luck": asdict(chance)}


RATIO = Study("ratio", TITLE, tuple(settings()), reduce)
