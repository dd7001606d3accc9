"""One figure of every kind and a page that holds them all; made-up numbers."""

import numpy as np

from adaln.report import (
    Axis,
    Column,
    Command,
    Facts,
    Figure,
    Group,
    Histograms,
    ImageGrid,
    Intervals,
    Lines,
    Marked,
    Matrix,
    Measurement,
    Page,
    Panel,
    Ridge,
    Section,
    Series,
    Table,
)

STEPS = [0, 1, 3, 10, 100, 1000]


def bell(std: float, count: int = 20_000) -> Ridge:
    """The exact histogram of N(0, std) over bins that grow away from 0."""
    from scipy.stats import norm

    side = 1e-5 * 10 ** np.linspace(0, 5, 51)
    edges = np.concatenate([-side[::-1], [0.0], side])
    return Ridge(f"std {std}", edges.tolist(), (count * np.diff(norm.cdf(edges / std))).tolist(), f"n {count}")


TABLE = Table(
    "Scores",
    [Column("scheme"), Column("FID", "lower is better", ".2f"), Column("n", "images"), Column("change", "%", "+.1f")],
    [
        ["adaLN-Zero", Measurement(20.02, 19.6, 20.5), 50_000, None],
        ["adaLN-Gaussian", Marked(Measurement(17.86, 17.5, 18.2)), 50_000, -10.8],
        ["broken", Marked(float("nan"), "warning"), 0, float("inf")],
    ],
    notes=["95 % bootstrap intervals."],
)
FIGURES: dict[str, Figure] = {
    "lines": Lines(
        "Loss",
        "Loss of n = 2 runs, squared error.",
        Axis("step", "optimiser steps", "symlog"),
        Axis("loss", "squared error", "log"),
        [
            Series("Zero", STEPS, [1, 0.9, 0.8, 0.5, 0.2, 0.1], [0.9] * 6, [1.1] * 6),
            Series("Gaussian", STEPS, [1, 0.9, None, 0.4, float("nan"), 0.05]),
        ],
    ),
    "intervals": Intervals(
        "Differences",
        "Paired differences, n = 5 seeds, FID points.",
        Axis("ΔFID", "FID points"),
        ["Mix", "Gaussian"],
        [
            Group("digits", [Measurement(1, -0.5, 2), -2.2], [[0, 2], []]),
            Group("crops", [None, Measurement(-1, -0.5, 0.5)]),
        ],
    ),
    "histograms": Histograms(
        "Gate values",
        "All gate weights, n = 20,000 a ridge, no unit.",
        Axis("weight", scale="symlog"),
        [Panel("Gaussian", [bell(1e-3), bell(1e-2)]), Panel("Zero", [Ridge("0", [0, 0], [5]), bell(1e-3)])],
    ),
    "images": ImageGrid(
        "Samples",
        "Two samples of two schemes, 4 x 4 pixels.",
        np.arange(2 * 2 * 4 * 4, dtype=np.uint8).reshape(2, 2, 4, 4, 1),
        ["Zero", "Gaussian"],
        ["0", "1"],
    ),
    "matrix": Matrix(
        "Who moves",
        "Rows of n = 12 weights that move, by iteration.",
        ["iteration 1", "iteration 2"],
        ["W_f", "W_att", "W_α2"],
        [[1, 0, None], [1, -2.5, float("nan")]],
        outlined=[(1, 1)],
    ),
}
PAGE = Page(
    "A study",
    ["Gaussian is better by 2.16 points.", "Measured with `adaln study`."],
    [
        Section("Scores", ["One `paragraph`.", Command("adaln study table4"), TABLE, FIGURES["lines"]]),
        Section("Inside", [figure for name, figure in FIGURES.items() if name != "lines"]),
        Section("Provenance", [Facts("Run", {"commit": "abc", "seeds": 5, "ema": None, "std": 0.001})]),
    ],
)
