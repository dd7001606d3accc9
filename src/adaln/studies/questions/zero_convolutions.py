"""Figure 20: what the zero convolutions of ControlNets became, read from networks that are given; nothing is trained.

A zero convolution is a 1 x 1 convolution that starts at zero, one behind every block of a ControlNet, and the last one
of the layers that read its condition; in ControlNets of transformers it is a linear map of every token.
"""

import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median

from adaln.analysis import Group, Moments
from adaln.analysis.groups import GroupedRows
from adaln.codec import json_text, short_hash
from adaln.conditioning.family import GROUPS
from adaln.files import about, write_atomically
from adaln.hub import PREFIX
from adaln.report import Axis, Facts, Lines, Section, Series, write_page
from adaln.runs import is_run, local
from adaln.studies.questions.distribution_figures import NO_CLAIM, UNIFORM, bimodality, figure_title
from adaln.studies.study import Result
from adaln.tensor_files import OpenedWeights, open_weights
from adaln.tensor_files.contents import WEIGHT_SUFFIXES
from adaln.tensor_files.folders import STEMS
from adaln.views.distributions import as_data, overview_table, shape_table
from adaln.views.figures import PAPER_FIGURES, ZERO_CONVOLUTION
from adaln.views.snapshots import Snapshot, View, snapshot

NAME = "figure20"
PIPELINE_FOLDER = "controlnet"
"""Where a pipeline of diffusers has its ControlNet."""
PREFIXES = ("control_model.", "state_dict.control_model.")
"""Where official checkpoints have theirs."""
KINDS = {
    "conv_out": "condition",
    "input_hint_block": "condition",
    "zero_convs": "down",
    "controlnet_down_blocks": "down",
    "controlnet_mid_block": "middle",
    "middle_block_out": "middle",
    "controlnet_blocks": "block",
    "controlnet_single_blocks": "single block",
}
"""What the convolutions of a module follow, in forward order: official names and those of diffusers are one."""
_NAME = re.compile(r"(\w+)((?:\.\d+)*)\.weight$")
TAILS = 0.5
"""Excess kurtosis below which tails are called a Gaussian's."""


@dataclass(frozen=True, eq=False)
class ControlNet:
    """One of the networks that are given."""

    label: str
    """What tells it from the others in what the user typed."""
    given: str
    weights: OpenedWeights

    @cached_property
    def rows(self) -> list[GroupedRows]:
        """Its zero convolutions in forward order; `ValueError` where it has none, or is several networks."""
        pattern, tensors = re.compile(GROUPS[ZERO_CONVOLUTION]), self.weights.tensors
        names = {name: place(name) for name in tensors if pattern.fullmatch(name)}
        if not names:
            raise ValueError(
                f"{self.given!r} has no zero convolution among {len(tensors)} tensors like {next(iter(tensors))!r};"
                " expected a ControlNet: control_model.zero_convs.0.0.weight, controlnet_down_blocks.0.weight"
            )
        if len(set(names.values())) < len(names):
            first, second, *_ = sorted(names, key=lambda name: (names[name], name))
            raise ValueError(f"{self.given!r} holds several ControlNets, as {first!r} and {second!r}; expected one")
        return [
            GroupedRows(name, slice(None), (Group(ZERO_CONVOLUTION), Group(ZERO_CONVOLUTION, block, depth)))
            for depth, (name, (_, _, block)) in enumerate(sorted(names.items(), key=lambda pair: pair[1]))
        ]

    @property
    def read(self) -> str:
        """What was looked at, in words."""
        return f"{len(self.rows)} zero convolutions in {self.weights.file}"

    def snapshot(self) -> Snapshot:
        """The distribution of all its zero convolutions, and of each."""
        return snapshot(self.label, None, self.weights.tensors, lambda _: self.rows)


def place(name: str) -> tuple[int, int, str]:
    """Where a zero convolution of that name stands in the forward pass, and what it is called here.

    >>> [place(f"{name}.weight")[2] for name in ("control_model.zero_convs.3.0", "controlnet_down_blocks.3")]
    ['down 3', 'down 3']
    """
    word, numbers = _NAME.search(name).groups()  # type: ignore[union-attr]
    kind = KINDS[word]
    order = list(dict.fromkeys(KINDS.values())).index(kind)
    if kind in ("condition", "middle"):
        return order, 0, kind
    number = int(numbers.split(".")[1])
    return order, number, f"{kind} {number}"


def controlnets(weights: Sequence[str]) -> list[ControlNet]:
    """The networks at these places: files, folders, pipelines of diffusers, names of the hub.

    `ValueError` in one line for what is no ControlNet, damaged, or given twice.
    """
    networks: dict[Path, ControlNet] = {}
    for label, given in zip(labels(weights), weights, strict=True):
        path = local(given)
        if is_run(path):
            raise ValueError(f"{given!r} is a run, whose network has no zero convolutions; expected a ControlNet")
        with about(path):
            opened = open_controlnet(path)
        if twin := networks.get(file := opened.file.resolve()):
            raise ValueError(f"{twin.given!r} and {given!r} are the same file; expected each network once")
        networks[file] = ControlNet(label, given, opened)
    return [*networks.values()]


def open_controlnet(path: Path) -> OpenedWeights:
    """Of a pipeline its ControlNet, of a file that holds the rest of Stable Diffusion too what is under `PREFIXES`."""
    path = inner if (inner := path / PIPELINE_FOLDER).is_dir() else path
    for prefix in PREFIXES:
        with suppress(ValueError):  # no name begins so, or what ails the file whatever the prefix
            return open_weights(path, prefix=prefix)
    return open_weights(path)


def labels(weights: Sequence[str]) -> list[str]:
    """As much of every place's end as tells it from the others, without what all files of weights are called.

    >>> labels(["a/canny/diffusion_pytorch_model.safetensors", "hf:lllyasviel/sd-controlnet-depth@main", "b/pose.pth"])
    ['canny', 'sd-controlnet-depth', 'pose']
    """
    parts = [_words(given) for given in weights]
    for depth in range(1, max(map(len, parts)) + 1):
        ends = ["/".join(words[-depth:]) for words in parts]
        if len({*ends}) == len(ends):
            return ends
    return [*weights]


def _words(given: str) -> list[str]:
    name = given.removeprefix(PREFIX)
    path = Path(given).resolve() if name == given else Path(name.partition("@")[0])
    words = [*path.parts[bool(path.root) : -1], path.stem if path.suffix in WEIGHT_SUFFIXES else path.name]
    while len(words) > 1 and words[-1].partition(".")[0] in (*STEMS, PIPELINE_FOLDER):
        words.pop()
    return words


def draw_zero_convolutions(weights: Sequence[str]) -> Result:
    """The figure of these networks, a panel each, their numbers, and what shape their zero convolutions took."""
    networks = controlnets(weights)
    snapshots = [network.snapshot() for network in networks]
    check_values(networks, snapshots)
    table, figure = overview_table(snapshots, "role", "Zero convolutions"), PAPER_FIGURES[NAME].draw(snapshots)
    lines = [answer(snapshots), *map(course, snapshots), NO_CLAIM]
    sections = [
        Section("Figure", [figure, shape_table(snapshots, "role")]),
        Section("Convolution by convolution", [over_convolutions(snapshots), shape_table(snapshots, "block")]),
    ]
    read = {n.label: "; ".join([n.read, *(note.partition(" (--")[0] for note in n.weights.notes)]) for n in networks}
    numbers = {"weights": [n.given for n in networks], "numbers": as_data(snapshots, "role")}
    numbers["by_convolution"] = as_data(snapshots, "block")
    return Result(figure_title(NAME), lines, table, sections, Facts("What was read", read), numbers)


def write_zero_convolutions(weights: Sequence[str], root: Path) -> tuple[Path, Result]:
    """Its page, `result.json`, and in `study.json` what `adaln report` draws it from again; returns their folder."""
    result = draw_zero_convolutions(weights)
    places = [given if given.startswith(PREFIX) else str(Path(given).resolve()) for given in weights]
    folder = root / "studies" / f"{NAME}-{short_hash({'numbers': json_text(result.numbers)})}"
    write_page(result.page(command(weights)), folder / "index.html")
    write_atomically(folder / "result.json", json_text(result.data) + "\n")
    write_atomically(folder / "study.json", json_text({"study": NAME, "weights": places}) + "\n")
    return folder, result


def command(weights: Sequence[str]) -> str:
    """What a user types."""
    return f"adaln study {NAME} --weights {shlex.join(weights)}"


def check_values(networks: Sequence[ControlNet], snapshots: Sequence[Snapshot]) -> None:
    """`ValueError` where no value is finite, and for copies of one network, unless their values are all alike."""
    seen: list[tuple[str, list[Moments]]] = []
    for network, each in zip(networks, snapshots, strict=True):
        moments = [view.moments for view in each.views.values()]
        if moments[0].std is None:
            raise ValueError(f"{network.given!r} holds zero convolutions none of whose values is finite")
        if twin := next((given for given, known in seen if known == moments and moments[0].std), None):
            raise ValueError(f"{twin!r} and {network.given!r} hold the same zero convolutions; expected two networks")
        seen.append((network.given, moments))


def answer(snapshots: Sequence[Snapshot]) -> str:
    """What shape the zero convolutions of all networks took, those of one shape together."""
    by_shape: dict[str, list[Snapshot]] = {}
    for each in snapshots:
        by_shape.setdefault(shape(pooled(each)), []).append(each)
    parts = []
    for word, alike in by_shape.items():
        numbers = [pooled(each).moments for each in alike]
        text = f"{', '.join(each.source for each in alike)}: {word}"
        if kurtosis := [m.excess_kurtosis for m in numbers if m.excess_kurtosis is not None]:
            stds = [m.std for m in numbers if m.std is not None]
            text += f", std {span(stds, '.2g')}, excess kurtosis {span(kurtosis, '+.1f')}"
        parts.append(text)
    return f"Zero convolutions of {'; of '.join(parts)}."


def shape(view: View) -> str:
    """One distribution in words, by Sarle's coefficient and its excess kurtosis."""
    moments = view.moments
    if not moments.std:
        return "still at zero, as before any training" if moments.mean == 0 else "all values alike"
    humps, kurtosis = bimodality(moments.skewness, moments.excess_kurtosis), moments.excess_kurtosis or 0.0
    if humps is not None and humps > UNIFORM:
        return "two humps"
    if abs(kurtosis) < TAILS:
        return "one peak with the tails of a Gaussian"
    return f"one peak with {'heavier' if kurtosis > 0 else 'lighter'} tails than a Gaussian"


def course(each: Snapshot) -> str:
    """One network: how far its values are from a Gaussian, and whether that is its convolutions' being unlike."""
    view, single = pooled(each), each.by_block(ZERO_CONVOLUTION)
    moved = {block: v.moments.std for block, v in single.items() if v.moments.std}
    if not moved or not view.gaussian:
        return f"{each.source}: none of its {len(single)} zero convolutions has moved."
    kurtoses = [k for v in single.values() if (k := v.moments.excess_kurtosis) is not None]
    narrow, wide = min(moved, key=moved.__getitem__), max(moved, key=moved.__getitem__)
    return (
        f"{each.source}: all {len(single)} together lie {view.gaussian.ks_distance:.3f} (Kolmogorov-Smirnov) from the"
        f" Gaussian of their mean and std, excess kurtosis {view.moments.excess_kurtosis:+.2f}; each by itself"
        f" {median(kurtoses):+.2f} in the middle, of std {moved[narrow]:.1e} ({narrow}) to {moved[wide]:.1e} ({wide})."
    )


def over_convolutions(snapshots: Sequence[Snapshot]) -> Lines:
    """Std of each zero convolution in forward order; gaps where one has not moved."""
    series = []
    for each in snapshots:
        views = each.by_block(ZERO_CONVOLUTION).values()
        series.append(Series(each.source, list(range(len(views))), [view.moments.std or None for view in views]))
    num = max(len(one.x) for one in series)
    caption = f"Std of each of n = {num} zero convolutions; the table names them in this order."
    x = Axis("zero convolution", "in forward order")
    return Lines("Std over convolutions", caption, x, Axis("std", "", "log"), series)


def pooled(each: Snapshot) -> View:
    """All zero convolutions of a network together."""
    return each.views[Group(ZERO_CONVOLUTION)]


def span(values: Sequence[float], spec: str) -> str:
    """
    >>> span([0.3, 0.1, 0.2], ".2f"), span([0.1, 0.1], ".2f")
    ('0.10 to 0.30', '0.10')
    """
    low, high = f"{min(values):{spec}}", f"{max(values):{spec}}"
    return low if low == high else f"{low} to {high}"
