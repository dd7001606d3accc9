"""Reduces runs of several schemes over the same seeds to one table, one verdict and one page."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from adaln.analysis import RoleRecord
from adaln.report import Cell, Column, Command, Facts, Marked, Measurement, Page, Section, Table
from adaln.studies.figures import SHOWN_STEPS, curves, grids, histograms
from adaln.studies.orders import measured_order, order_section
from adaln.studies.plan import Outcome, Result
from adaln.studies.published import PublishedTable
from adaln.studies.statistics import Difference, Interval, paired_difference, t_interval

REFERENCE = "adaln-zero"
OTHER_METRICS = ("is", "precision", "recall")
LOSS_TAIL = 0.1
"""The reported loss is the mean over the last tenth of the steps."""


def compare_schemes(
    title: str,
    command: str,
    outcomes: Sequence[Outcome],
    *,
    reference: str = REFERENCE,
    published: PublishedTable | None = None,
) -> Result:
    """The answer to "which scheme?", with what it rests on; rows are labels, compared with the row `reference`."""
    by_scheme = group(outcomes)
    rows = summarise(by_scheme, reference)
    verdict = verdict_text(rows, reference)
    first = outcomes[0]
    recordings = {name: runs[0].recording() for name, runs in by_scheme.items()}
    shown = sorted({*SHOWN_STEPS, first.job.config.steps})
    orders = {name: measured_order(runs[0]) for name, runs in by_scheme.items()}
    table = result_table(title, rows, reference)
    beside = [published_table(rows, reference, published)] if published else []
    sections = [
        Section("Result", [table, *beside, score_table(rows)]),
        Section("Over training", curves(by_scheme)),
        Section("Samples", grids(by_scheme)),
        Section(
            "Gate, scale and shift over training",
            [*forgetting(recordings, first.job.config.optim.lr), *histograms(recordings, shown, first.job.config.seed)],
        ),
        order_section(orders, first.job.config.model),
        Section("How this was made", [Command(command), provenance(first)]),
    ]
    data = {
        "title": title,
        "reference": reference,
        "rows": rows,
        "verdict": verdict,
        "first_moves_at_iteration": {name: order.first for name, order in orders.items()},
        "runs": run_names(by_scheme),
    }
    return Result(data, Page(title, verdict, sections), table)


def group(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """Outcomes by label, seeds in the order in which they were asked for."""
    by_scheme: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_scheme.setdefault(outcome.job.label, []).append(outcome)
    return by_scheme


def run_names(by_scheme: dict[str, list[Outcome]]) -> dict[str, list[str]]:
    """Which folders the numbers come from."""
    return {name: [outcome.run.path.name for outcome in outcomes] for name, outcomes in by_scheme.items()}


def final_loss(outcome: Outcome) -> float:
    """Mean training loss over the last tenth of the steps."""
    steps = outcome.job.config.steps
    return fmean(row["loss"] for row in outcome.losses() if row["step"] > (1 - LOSS_TAIL) * steps)


def final_score(outcome: Outcome, metric: str) -> float:
    """Score of the last checkpoint."""
    return outcome.scores()[outcome.job.score_at[-1]][metric].value


def summarise(by_scheme: dict[str, list[Outcome]], reference: str) -> list[dict[str, Any]]:
    """One plain row per scheme: parameters, loss and scores over seeds, and the difference from the reference."""
    fid = {name: [final_score(o, "fid") for o in outcomes] for name, outcomes in by_scheme.items()}
    others = len(by_scheme) - 1
    rows = []
    for name, outcomes in by_scheme.items():
        difference = None if name == reference else paired_difference(fid[name], fid[reference], others)
        rows.append(
            {
                "scheme": name,
                "parameters": outcomes[0].run.manifest["parameters"]["trained"],
                "loss": _interval([final_loss(o) for o in outcomes]),
                "fid": {**_interval(fid[name]), "per_seed": fid[name]},
                **{metric: _interval([final_score(o, metric) for o in outcomes]) for metric in OTHER_METRICS},
                "difference": None if difference is None else _difference(difference),
            }
        )
    return rows


def _interval(values: Sequence[float]) -> dict[str, Any]:
    interval = t_interval(values)
    return {"mean": interval.mean, "low": interval.low, "high": interval.high, "seeds": len(values)}


def _difference(found: Difference) -> dict[str, Any]:
    interval: Interval = found.absolute
    return {
        "absolute": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "relative": found.relative,
        "distinguishable": found.distinguishable,
    }


def result_table(title: str, rows: Sequence[dict[str, Any]], reference: str) -> Table:
    """The table that a reader came for."""
    columns = [
        Column("scheme"),
        Column("parameters", "trained", ",d"),
        Column("loss", format=".4f"),
        Column("FID-like", "lower is better", ".1f"),
        Column("change", "FID-like", "+.1f"),
        Column("relative", "%", "+.1f"),
        Column("distinct"),
    ]
    best = min(row["fid"]["mean"] for row in rows)
    notes = [
        "FID-like: in dataset-classifier features, not comparable with Inception FID.",
        f"Mean over {rows[0]['fid']['seeds']} seeds, 95 % t intervals in brackets. Changes are against {reference},"
        f" paired over the same seeds; their intervals hold for all {len(rows) - 1} comparisons together (Bonferroni).",
    ]
    return Table(title, columns, [_cells(row, best) for row in rows], notes)


def _cells(row: dict[str, Any], best: float) -> list[Cell]:
    fid, change = _measured(row["fid"]), row["difference"]
    return [
        row["scheme"],
        row["parameters"],
        row["loss"]["mean"],
        Marked(fid) if row["fid"]["mean"] == best else fid,
        None if change is None else Measurement(change["absolute"], change["low"], change["high"]),
        None if change is None else 100 * change["relative"],
        None if change is None else ("yes" if change["distinguishable"] else "no"),
    ]


def published_table(rows: Sequence[dict[str, Any]], reference: str, published: PublishedTable) -> Table:
    """Our change beside the paper's, absolute and relative, row by row."""
    theirs = published.by_label()
    base = theirs[reference].fid
    columns = [
        Column("scheme"),
        Column("ours", "FID-like", ".1f"),
        Column("change", format="+.1f"),
        Column("change", "%", "+.1f"),
        Column("published", "FID", ".2f"),
        Column("change", format="+.2f"),
        Column("change", "%", "+.1f"),
        Column("published", "IS", ".2f"),
    ]
    cells: list[list[Cell]] = []
    for row in rows:
        change, paper = row["difference"] or {}, theirs[row["scheme"]]
        moved = None if paper.fid is None or base is None or row["scheme"] == reference else paper.fid - base
        ours = [row["fid"]["mean"], change.get("absolute"), 100 * change["relative"] if change else None]
        paper_cells = [paper.fid, moved, None if moved is None or base is None else 100 * moved / base]
        quoted = [Marked(value, "muted") for value in (*paper_cells, paper.inception_score)]
        cells.append([row["scheme"], *ours, *quoted])
    notes = [
        f"Published: {published.protocol}. Ours: digits, in other features: only the signs and relative changes of the"
        " two sides can be held against each other.",
    ]
    return Table("Beside the paper", columns, cells, notes)


def score_table(rows: Sequence[dict[str, Any]]) -> Table:
    """The other scores."""
    columns = [
        Column("scheme"),
        Column("IS-like", "higher is better", ".2f"),
        Column("precision", "higher is better", ".3f"),
        Column("recall", "higher is better", ".3f"),
    ]
    cells = [[row["scheme"], *(_measured(row[metric]) for metric in OTHER_METRICS)] for row in rows]
    return Table("Other scores", columns, cells, ["In the same features; mean over seeds with 95 % t intervals."])


def _measured(row: dict[str, Any]) -> Measurement:
    return Measurement(row["mean"], row["low"], row["high"])


def verdict_text(rows: Sequence[dict[str, Any]], reference: str) -> list[str]:
    """What the numbers say, and what they do not."""
    others = [row for row in rows if row["difference"]]
    clear = [row for row in others if row["difference"]["distinguishable"]]
    seeds = rows[0]["fid"]["seeds"]
    lines = []
    for row in clear:
        change = row["difference"]
        word = "better" if change["absolute"] < 0 else "worse"
        lines.append(
            f"{row['scheme']} is {word} than {reference}: FID-like {change['absolute']:+.2f} points"
            f" ({100 * change['relative']:+.1f} % relative) over {seeds} seeds."
        )
    unclear = [row["scheme"] for row in others if row not in clear]
    if unclear:
        lines.append(
            f"Not distinguishable from {reference} by FID-like at this size, over {seeds} seeds: {', '.join(unclear)}."
            " A difference smaller than the intervals in the table may exist; these runs cannot show it."
        )
    return lines


def forgetting(recordings: dict[str, list[RoleRecord]], lr: float) -> list[str]:
    """How much of a small random start is left after two updates, in words; nothing where no scheme starts so."""
    lines = []
    for name, recording in recordings.items():
        stds = {r.step: r.moments.std for r in recording if r.group.name == "gate" and r.group.depth is None}
        start, soon = stds.get(0), stds.get(2)
        if start and soon and start < lr:
            lines.append(
                f"Adam moves a weight by up to the learning rate, {lr:g}, in its first step. {name} starts its gates"
                f" with std {start:.1e}; after two updates it is {soon:.1e}: at this learning rate such a start is all"
                " but overwritten at once. The paper trains at 1e-4."
            )
    return lines


def provenance(outcome: Outcome) -> Facts:
    """Every choice that influences the numbers."""
    config, sample, manifest = outcome.job.config, outcome.job.sample, outcome.run.manifest
    session = manifest["sessions"][-1]
    return Facts(
        "Choices",
        {
            "data": f"{manifest['data']['name']}, {manifest['data']['num_images']} images,"
            f" {manifest['data']['fingerprint'][:12]}",
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
        },
    )
