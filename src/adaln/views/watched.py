"""The page of a training that `adaln.watch` followed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from adaln.analysis.alarms import Alarm
from adaln.analysis.branches import BranchRecord
from adaln.analysis.recorder import read_recording
from adaln.analysis.tracked import numbers_of_branches
from adaln.analysis.watch_handle import ABOUT, ALARMS, BRANCHES, METRICS, ROLES
from adaln.codec import decode
from adaln.files import reading
from adaln.report import Axis, Cell, Column, Facts, Lines, Page, Section, Series, Table, write_report
from adaln.runs import read_records
from adaln.views.figures import role_histograms
from adaln.views.run_page import MOST_RIDGES, over_record_steps, spike_sentence, with_saved
from adaln.views.snapshots import spread_evenly


def watched_page(folder: Path) -> Page:
    """Warnings first, then how gate, scale and shift changed, and the loss where the loop said it."""
    with reading(folder / ABOUT, "what watch wrote"):
        about = dict(json.loads((folder / ABOUT).read_text(encoding="utf-8")))
        network = decode(str, about["network"], "network")
    with reading(folder / ALARMS, "what watch warned of"):
        alarms = [decode(Alarm, row) for row in read_records(folder / ALARMS)]
    with reading(folder / BRANCHES, "what branches did"):
        rows = read_records(folder / BRANCHES)
        branches = {row["step"]: [decode(BranchRecord, one) for one in row["branches"]] for row in rows}
    recording, losses = read_recording(folder / ROLES), read_records(folder / METRICS, ["loss"])
    steps = sorted({record.step for record in recording})
    if not steps:
        raise ValueError(f"{str(folder)!r} holds no record yet; expected a training that has begun")
    last = max([steps[-1], *(int(row["step"]) for row in losses[-1:])])
    summary = [f"{network}, watched over {last:,} updates: " + warned(alarms)]
    shown = spread_evenly(steps, MOST_RIDGES)
    biases = [record for record in recording if record.group.name.endswith(" bias")]
    weights = [record for record in recording if not record.group.name.endswith(" bias")]
    figures = [
        over_record_steps("Update ratio of each role", weights, lambda record: record.update_ratio),
        over_record_steps("Gradient norm of each role", weights, lambda record: record.gradient_norm),
        over_record_steps("Std of each role", weights, lambda record: record.moments.std),
        over_record_steps("Share moved of each role", weights, lambda record: record.moved, "share"),
        over_record_steps("Cosine of successive updates of each role", weights, lambda record: record.cosine, "linear"),
    ]
    if biases:
        figures += [
            over_record_steps("Mean of each bias", biases, lambda record: record.moments.mean, "linear"),
            over_record_steps("Update ratio of each bias", biases, lambda record: record.update_ratio),
        ]
    sections = [
        *([Section("Warnings", [alarm_table(alarms)])] if alarms else []),
        Section("Who moves, and how far", figures),
        Section("Gate, scale and shift over training", role_histograms({network: recording}, shown)),
        *([Section("What branches do", branch_figures(branches))] if branches else []),
        *([Section("Loss", [loss_figure(losses)])] if losses else []),
        Section("What was watched", [Facts("network", {name: str(value) for name, value in about.items()})]),
    ]
    return Page(folder.name, summary, sections)


def write_watched_page(folder: Path) -> Path:
    """Into FOLDER/report, with every table and picture as a file; returns the path of the page."""
    return write_report(with_saved(watched_page(folder), folder / "analysis"), folder / "report")


def warned(alarms: Sequence[Alarm]) -> str:
    """How many warnings, the first of them in full."""
    if not alarms:
        return "nothing to warn of."
    return f"{len(alarms)} warning{'s' * (len(alarms) > 1)}, the first at step {alarms[0].step}: {alarms[0].text}."


def alarm_table(alarms: Sequence[Alarm]) -> Table:
    """Every warning, in the order in which they came."""
    rows: list[list[Cell]] = [[one.step, one.rule, one.text] for one in alarms]
    columns = [Column("step", format=",d"), Column("what"), Column("where, and what others did about it")]
    return Table(
        "Warnings", columns, rows, ["Each role is warned of once for each rule; adaln.analysis.alarms has them."]
    )


def branch_figures(branches: Mapping[int, Sequence[BranchRecord]]) -> list[Lines]:
    """Energy and largest |1 + scale| of each kind of branch, at the steps at which the loop asked for them."""
    steps, seen = list(branches), [numbers_of_branches(records) for records in branches.values()]
    what = {
        "energy": ("Energy of each branch", "|gate * F(...)| / |x|, mean over blocks, on the batch that the loop gave"),
        "largest_scale": ("Largest |1 + scale| of each branch", "Over blocks, channels and the batch's samples"),
    }
    figures = []
    for key, (title, caption) in what.items():
        names = dict.fromkeys(name for numbers in seen for name in numbers if name.endswith(f"/{key}"))
        series = [Series(name.rpartition("/")[0], steps, [numbers.get(name) for numbers in seen]) for name in names]
        axes = Axis("step", "updates", "symlog", 1), Axis(key.replace("_", " "))
        figures += [Lines(title, f"{caption} (n = {len(steps)} steps).", *axes, series)] * bool(series)
    return figures


def loss_figure(losses: Sequence[dict[str, float]]) -> Lines:
    """As the loop said it."""
    steps = [int(row["step"]) for row in losses]
    caption = f"As the loop said it, n = {len(steps)} updates."
    values = [row["loss"] for row in losses]
    caption += spike_sentence(values)
    series = [Series("loss", steps, values)]
    return Lines("Training loss", caption, Axis("step", "updates", "symlog", 1), Axis("loss"), series)
