"""Figures 4 to 8 and 11 to 19: distributions of weights under adaLN-Zero beside adaLN-Mix, at the paper's timestamps.

All of them draw the same two runs per seed, which are trained once.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from adaln.report import Page, Section
from adaln.studies.comparison.how_made import how_made
from adaln.studies.comparison.schemes import group, run_names
from adaln.studies.paper.distribution_claims import told
from adaln.studies.paper.distribution_numbers import Drawn, as_data, number_table, shapes, snapshots_by_seed
from adaln.studies.plan import Outcome, Result, Setting, Study
from adaln.views.figures import PAPER_FIGURES

STAMPS = (160, 10_000, 50_000, 200_000, 400_000)
"""The paper's timestamps; a scale has its own steps for them."""
SCHEMES_SHOWN = ("adaln-zero", "adaln-mix")
DRAWN: Mapping[str, Drawn] = {
    "figure4": {"": "gate"},
    "figure5": {"": "gate"},
    "figure6": {"": "gate"},
    "figure7": {"": "scale"},
    "figure8": {"": "final scale"},
    "figure11": {"": "shift"},
    "figure12": {"": "scale"},
    "figure13": {"": "shift"},
    "figure14": {"": "final shift"},
    "figure15": {"": "final head"},
    "figure16": {"": "attention"},
    "figure17": {"fc1": "MLP fc1", "fc2": "MLP fc2"},
    "figure18": {"": "patch embedder"},
    "figure19": {"label": "label embedder", "timestep": "timestep embedder"},
}
"""What each figure is of."""
ELSEWHERE = {
    "figure20": "figure20 is of ControlNet's zero convolutions, which no study trains; draw it from weights of yours:"
    " adaln distributions CANNY DEPTH POSE SEG"
}
"""Figures that no study makes, and what does."""


def stamped(schemes: Sequence[str], stamps: Sequence[int]) -> tuple[Setting, ...]:
    """Every scheme at every timestamp: the timestamps of a scheme are moments of one run."""
    return tuple(
        Setting(name, name, steps=stamp, group=f"{stamp:,} steps", is_scored=False)
        for name in schemes
        for stamp in stamps
    )


def draw_figure(name: str, command: str, outcomes: Sequence[Outcome]) -> Result:
    """The figure from the first seed, its numbers over all seeds, and what they say beside the paper's words."""
    entry, title = PAPER_FIGURES[name], figure_title(name)
    by_seed = snapshots_by_seed(outcomes)
    found = shapes(outcomes, by_seed, DRAWN[name], entry.by_block)
    verdict, table = told(name, found), number_table(f"{title}: in numbers", found)
    seeds = sorted(by_seed)
    figure = entry.draw(by_seed[seeds[0]])
    sections = [
        Section("Figure", [figure, f"Drawn from seed {seeds[0]}; the table is over all seeds.", table]),
        how_made(command, outcomes[0]),
    ]
    data = {
        "title": title,
        "seeds": seeds,
        "numbers": as_data(found),
        "verdict": verdict,
        "runs": {label: list(dict.fromkeys(names)) for label, names in run_names(group(outcomes)).items()},
    }
    return Result(data, Page(title, verdict, sections), table)


def figure_title(name: str) -> str:
    """Number and subject."""
    return f"Figure {name.removeprefix('figure')}: {PAPER_FIGURES[name].shows}"


FIGURES = {
    name: Study(name, figure_title(name), stamped(SCHEMES_SHOWN, STAMPS), partial(draw_figure, name)) for name in DRAWN
}
