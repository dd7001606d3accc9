"""The page of `adaln bench gpu`: what was wanted beside what was measured, then every part."""

from collections.abc import Callable, Mapping
from typing import Any

from adaln.report import Cell, Column, Command, Facts, Page, Section, Table

Record = dict[str, Any]
"""A part: title, command, outcome, seconds, and its result where it is done."""
TRAINING, CHECKPOINTED = ("train", "train-large"), ("train-checkpointed",)
SAMPLING = ("sample", "sample-graphed")
PRECISION = "bfloat16"


def share(row: Record, side: str = "ours") -> float:
    """Of the rate of the fastest product, in percent."""
    shares: Mapping[str, Mapping[str, float]] = row["median"]["share_of_matmul_rate"]
    return 100 * min(sides[side] for sides in shares.values())


def faster(row: Record) -> float | None:
    """Times, against the peer; None without one."""
    times: float | None = row["median"]["times_faster"]
    return times


def memory(row: Record) -> float | None:
    """Ours of the peer's peak; None where one of them is not known."""
    ours, theirs = (row["peak_bytes"].get(side) for side in ("ours", "diffusers"))
    return ours / theirs if ours and theirs else None


Goal = tuple[str, str, tuple[str, ...], Callable[[Record], float | None], Callable[..., float]]
GOALS: tuple[Goal, ...] = (
    ("training step, share of the matmul rate, %", "50", (*TRAINING, *CHECKPOINTED), share, max),
    ("training step, times faster than diffusers' DiT", "1.5", TRAINING, faster, max),
    ("the same, both recomputing blocks", "2", CHECKPOINTED, faster, max),
    ("peak memory of a training step over diffusers'", "0.8", TRAINING, memory, min),
    ("guided sampling, share of the matmul rate, %", "65", SAMPLING, share, max),
)
"""What is wanted, how much of it, of which parts, and whether the most or the least of them counts."""


def measured(records: Mapping[str, Record]) -> dict[str, Record]:
    """The rows of both sides by the part that gave them."""
    done = {name: record["result"] for name, record in records.items() if record.get("outcome") == "done"}
    return {name: row[PRECISION] for name, row in done.items() if isinstance(row, dict) and PRECISION in row}


def table(result: Record) -> Table:
    """Every goal with what was measured, and where."""
    rows: list[list[Cell]] = []
    seen = measured(result["parts"])
    for what, goal, names, value_of, best in GOALS:
        values = {name: value for name in names if name in seen and (value := value_of(seen[name])) is not None}
        value = best(values.values()) if values else None
        rows.append([what, goal, value, next((name for name in values if values[name] == value), "–")])
    machine = result["machine"]
    where = f"{machine['device']}; torch {machine['torch']}; {result['options']['model']}"
    if result["options"]["tiny"]:
        where = f"{where}; TINY SIZES: these numbers say nothing but that every part works"
    columns = [Column("wanted"), Column("goal"), Column("measured", format=".2f"), Column("part")]
    return Table("What was wanted of one GPU", columns, rows, [where])


def page(result: Record) -> Page:
    """All that is known so far."""
    records: Mapping[str, Record] = result["parts"]
    over = [f"{name}: {record['outcome']}" for name, record in records.items() if record["outcome"] != "done"]
    done = f"{len(records) - len(over)} of the {len(records)} parts so far are done"
    summary = [f"{done}{'; ' * bool(over)}{'; '.join(over)}."]
    parts = Table(
        "Parts",
        [Column("part"), Column("what"), Column("took", "s", ".0f"), Column("outcome")],
        [[name, record["title"], record["seconds"], _said(record)] for name, record in records.items()],
    )
    commands = [Command(record["command"]) for record in records.values()]
    facts = {name: str(value) for name, value in result["machine"].items()}
    sections = [
        Section("Goals", [table(result)]),
        Section("Both sides", [_both_sides(measured(records))]),
        Section("The machine's own limits", [_limits(records.get("machine", {}))]),
        Section("Parts", [parts]),
        Section("How this was made", [*commands, Facts("Machine", facts)]),
    ]
    return Page("One GPU", summary, sections)


def _said(record: Record) -> str:
    """How a part ended: of tests their last line, of a study its answer."""
    result = record.get("result")
    if isinstance(result, dict) and result.get("verdict"):
        return str(result["verdict"][0])
    return result if isinstance(result, str) else str(record["outcome"])


def _both_sides(seen: Mapping[str, Record]) -> Table:
    """A line for each side of each part."""
    rows: list[list[Cell]] = []
    for name, row in seen.items():
        for side, seconds in row["median"]["seconds"].items():
            peak = row.get("peak_bytes", {}).get(side)
            numbers = [row["images_per_second"][side], row["flops"] / seconds / 1e12, share(row, side)]
            rows.append([name, side, seconds, *numbers, peak and peak / 1e9, faster(row) if side == "ours" else None])
        rows += [[name, f"{side}: {why}", *[None] * 6] for side, why in row.get("left_out", {}).items()]
    columns = [Column("part"), Column("side"), Column("step", "s", ".4g"), Column("images/s", format=".4g")]
    columns += [Column("rate", "TFLOP/s", ".4g"), Column("of the fastest matmul", "%", ".1f")]
    columns += [Column("peak memory", "GB", ".1f"), Column("times faster", format=".2f")]
    notes = ["Medians; both sides and bare products in turns. Sampling: images of 250 guided steps."]
    return Table("Both sides", columns, rows, notes)


def _limits(record: Record) -> Table:
    """Products and copies."""
    result = record.get("result", {})
    rates = {f"product, {kind}, TFLOP/s": rate / 1e3 for kind, rate in result.get("matmul_gigaflops", {}).items()}
    if "copy_gigabytes_per_second" in result:
        rates["copy, GB/s read and written"] = result["copy_gigabytes_per_second"]
    return Table("Limits", [Column("what"), Column("rate", format=".4g")], [[*pair] for pair in rates.items()])
