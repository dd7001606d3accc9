"""`adaln bench`."""

import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from adaln.benchmarks.options import (
    AnalysisOptions,
    DataOptions,
    GpuOptions,
    MachineOptions,
    MemoryOptions,
    SampleOptions,
    ScoreOptions,
    StudyBenchOptions,
    TrainOptions,
)
from adaln.cli.options import first_word, parse, take_option
from adaln.cli.output import Output
from adaln.codec import leaves
from adaln.files import write_atomically
from adaln.registry import Registry
from adaln.report import Axis, Cell, Column, Group, Intervals, Table, picture

Row = dict[str, Any]
BESIDE = "beside diffusers' and bare matrix products"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What one word of `adaln bench` measures."""

    module: str
    """Of `adaln.benchmarks`, imported once its options are understood."""
    options: type
    run: str
    """A function there: options -> result."""
    title: str
    table: str = ""
    """A function there: result -> table; default: of both sides, else of every number."""


BENCHMARKS: Registry[Benchmark] = Registry(
    "benchmark",
    {
        "machine": Benchmark("machine", MachineOptions, "limits", "What the machine does at best"),
        "train": Benchmark("training", TrainOptions, "train_step", f"A training step {BESIDE}"),
        "sample": Benchmark("sampling", SampleOptions, "sample_step", f"A sampling step {BESIDE}"),
        "gpu": Benchmark(
            "gpu",
            GpuOptions,
            "everything",
            "All that wants a GPU, for whoever has one for ten minutes",
            "result_table",
        ),
        "memory": Benchmark(
            "training", MemoryOptions, "kept_for_backward", "What the backward pass needs kept beside diffusers'"
        ),
        "scores": Benchmark("scores", ScoreOptions, "scores", "Scores beside their plain forms"),
        "study": Benchmark("study", StudyBenchOptions, "study_parts", "Processor seconds of a study's runs by part"),
        "data": Benchmark("data", DataOptions, "data", "Reading beside other layouts and plain copies"),
        "analysis": Benchmark(
            "analysis", AnalysisOptions, "analysis", "Recording and analysing beside training and plain reading"
        ),
    },
)


def bench_verb(words: list[str]) -> Output:
    """NAME [--out FILE.json]: measure in turns with a peer and with the machine's own limits, all in one run."""
    if words[:1] in (["-h"], ["--help"], ["--help-all"]):
        return listing()
    benchmark = BENCHMARKS[name := first_word(words, "what to measure", BENCHMARKS)]
    file, words = take_option(words, "--out")
    options: Any = parse(benchmark.options, f"bench {name}", words[1:])
    module = import_module(f"adaln.benchmarks.{benchmark.module}")
    command = " ".join(["adaln bench", *words])
    result = {"command": command, **getattr(module, benchmark.run)(options)}
    if benchmark.table:
        return Output(result, [getattr(module, benchmark.table)(result), *written(file, result, None)])
    if not precisions(result):
        return Output(result, [plain_table(benchmark.title, result), *written(file, result, None)])
    table, figure = sides_table(benchmark.title, result), shares(benchmark.title, result)
    return Output(result, [table, *written(file, result, figure)])


def listing() -> Output:
    """What there is to measure."""
    titles = {name: benchmark.title for name, benchmark in BENCHMARKS.items()}
    notes = [
        "adaln bench NAME --help tells its options.",
        "--out FILE.json keeps the numbers, beside a picture of both sides.",
    ]
    return Output(titles, [Table("Benchmarks", [Column("name"), Column("what")], list(titles.items()), notes)])


def written(file: str | None, result: Row, figure: Intervals | None) -> list[str]:
    """Write the JSON, and the picture beside it; says where."""
    if file is None:
        return []
    write_atomically(Path(file), json.dumps(result, indent=1, allow_nan=False) + "\n")
    if figure is not None:
        write_atomically(Path(file).with_suffix(".svg"), picture(figure, "svg"))
    return [f"wrote {file}"]


def precisions(result: Row) -> Row:
    """The parts of a result that hold both sides."""
    return {name: row for name, row in result.items() if isinstance(row, dict) and "flops" in row}


def sides(row: Row) -> list[str]:
    """Who took turns."""
    return list(row["median"]["seconds"])


def sides_table(title: str, result: Row) -> Table:
    """One line per precision and side."""
    rows = [side_cells(precision, side, row) for precision, row in precisions(result).items() for side in sides(row)]
    columns = [
        Column("precision"),
        Column("side"),
        Column("median", "s", ".4g"),
        Column("least", "s", ".4g"),
        Column("processor", "s", ".4g"),
        Column("GFLOP/s", format=",.0f"),
        Column("of torch's matmul", "%", ".1f"),
        Column("of the fastest matmul", "%", ".1f"),
        Column("times faster", format=".2f"),
        Column("times, processor", format=".2f"),
        Column("peak memory", "GB", ".2f"),
    ]
    return Table(title, columns, rows, notes(result))


def side_cells(precision: str, side: str, row: Row) -> list[Cell]:
    """What `sides_table` says of one side."""
    median, is_ours = row["median"], side == "ours"
    shares, memory = median["share_of_matmul_rate"], row.get("peak_bytes", {}).get(side)
    return [
        precision,
        side,
        *(row[clock]["seconds"][side] for clock in ("median", "least", "processor")),
        row["flops"] / median["seconds"][side] / 1e9,
        100 * shares[precision][side],
        100 * shares[fastest(row)][side],
        *(row[clock]["times_faster"] if is_ours else None for clock in ("median", "processor")),
        memory and memory / 1e9,
    ]


def fastest(row: Row) -> str:
    """The kind of product that is fastest in a precision."""
    rates: dict[str, float] = row["median"]["matmul_gigaflops"]
    return max(rates, key=lambda kind: rates[kind])


def notes(result: Row) -> list[str]:
    """What a reader must know of a result."""
    machine, options = result["machine"], result["options"]
    where = f"{machine['processor']}, {machine['cores']} cores, {machine['num_threads']} threads, {machine['device']}"
    variables = "".join(f"{name}={value}; " for name, value in machine["variables"].items())
    what = f"{options['model']}, batch {options['batch_size']}, compiled: {options['compile']}"
    rates = {k: v for row in precisions(result).values() for k, v in row["median"]["matmul_gigaflops"].items()}
    return [
        f"{what}; {options['repeats']} turns; torch {machine['torch']}; {where}; {variables}"
        f"load {machine['load_average']:.1f}.",
        f"Matrix products, GFLOP/s: {', '.join(f'{kind} {rate:,.0f}' for kind, rate in rates.items())}.",
        "Shares are the network's products alone over the whole step, by the median.",
    ]


def shares(title: str, result: Row) -> Intervals:
    """Both sides' shares of the rate of the fastest product."""
    parts = precisions(result)
    groups = [
        Group(side, [100 * row["median"]["share_of_matmul_rate"][fastest(row)][side] for row in parts.values()])
        for side in sides(next(iter(parts.values())))
    ]
    axis = Axis("share of the rate of the fastest matrix product", "%")
    return Intervals(title, " ".join(notes(result)), axis, list(parts), groups, bars=True)


def plain_table(title: str, result: Row) -> Table:
    """Every number of a result, by its path."""
    measured = leaves({k: v for k, v in result.items() if k not in ("machine", "options")}, " / ")
    rows = [[path, value if isinstance(value, int | float) else str(value)] for path, value in measured]
    return Table(title, [Column("measured"), Column("value")], rows)
