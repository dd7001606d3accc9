"""Models at moments: distributions of a run's checkpoints, of what it recorded while it trained, of anyone's file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import Tensor

from adaln.analysis import Group, Histogram, Moments, RoleRecord, Summary, checkpoints
from adaln.analysis.distributions import GaussianFit, descriptions
from adaln.analysis.groups import FindRows, class_of, grouped_rows
from adaln.analysis.recorder import read_recording
from adaln.analysis.watch_handle import ROLES, is_watched
from adaln.runs import Run, is_run
from adaln.tensor_files import WeightSet, open_weights

MOST_CHECKPOINTS, MOST_RECORDED = 6, 4
"""When no steps are asked for: so many checkpoints, and so many of the steps recorded before the first of them."""


@dataclass(frozen=True, slots=True)
class View:
    """One distribution, seen through a checkpoint (then with its `summary`) or through an online recording."""

    moments: Moments
    histogram: Histogram
    summary: Summary | None = None

    @property
    def gaussian(self) -> GaussianFit | None:
        """None where all values are alike, or for a recording."""
        return self.summary.gaussian if self.summary else None


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """One model at one moment: where it comes from, and the distribution of every group of its values."""

    source: str
    step: int | None
    """Updates behind it; None where a file does not tell."""
    views: Mapping[Group, View]
    tensors: Mapping[str, Tensor] | None = None
    """The weights themselves, read when used; None for a recording."""
    notes: tuple[str, ...] = ()
    """What must be known of which weights of a file were read."""
    find_rows: FindRows = grouped_rows
    """Which rows of the weights are looked at."""

    def view(self, name: str) -> View | None:
        """The distribution of a role over all blocks, or of a module."""
        return self.views.get(Group(name))

    def by_block(self, name: str) -> dict[str, View]:
        """The distribution of a role in each block, in forward order."""
        found = [(g, v) for g, v in self.views.items() if g.name == name and g.block and g.branch is None]
        return {str(group.block): view for group, view in sorted(found, key=lambda pair: pair[0].depth or 0)}

    @property
    def label(self) -> str:
        """Source and step, as a legend names them."""
        return self.source if self.step is None else f"{self.source} @ {self.step:,}"


def snapshot(
    source: str, step: int | None, tensors: Mapping[str, Tensor], find_rows: FindRows = grouped_rows
) -> Snapshot:
    """All distributions of a mapping of weights; a `TensorFile` is read in one pass and bounded memory.

    Raises `ValueError` naming the source where nothing in it is known.
    """
    views = {d.group: View(d.summary.moments, d.summary.histogram, d.summary) for d in descriptions(tensors, find_rows)}
    if not views:
        raise ValueError(f"{source!r} holds no values of a known group: no gate, scale or shift, no known module")
    return Snapshot(source, step, views, tensors, find_rows=find_rows)


def recorded(source: str, records: Iterable[RoleRecord]) -> dict[int, Snapshot]:
    """What a run recorded of its roles while it trained, by step."""
    views: dict[int, dict[Group, View]] = {}
    for record in records:
        views.setdefault(record.step, {})[record.group] = View(record.moments, record.histogram)
    return {step: Snapshot(source, step, found) for step, found in views.items()}


def snapshots_of_run(run: Run, steps: Sequence[int] = (), weights: WeightSet = "model") -> list[Snapshot]:
    """A run at `steps` (default: first, last and some between, see `MOST_CHECKPOINTS`), ascending.

    A step is read from its checkpoint where there is one, else from the online recording, which holds the roles of the
    weights in training (so it is left out for `weights` "ema"). Raises `ValueError` naming the steps that there are.
    """
    saved = checkpoints(run, weights)
    seen = recorded(run.path.name, read_recording(recording_file(run))) if weights == "model" else {}
    available = sorted({*saved, *seen})
    early = [step for step in seen if step < min(saved, default=step + 1)]
    chosen = sorted(set(steps)) or [*spread_evenly(early, MOST_RECORDED), *spread_evenly([*saved], MOST_CHECKPOINTS)]
    missing = [step for step in chosen if step not in available]
    if missing or not available:
        raise ValueError(
            f"run {str(run.path)!r} has no weights at {f'step {missing[0]}' if missing else 'any step'}; it has"
            f" checkpoints at {[*saved] or 'none'} and recordings at {[*seen] or 'none'}"
        )
    return [snapshot(run.path.name, step, saved[step]) if step in saved else seen[step] for step in chosen]


def open_snapshots(
    path: Path,
    steps: Sequence[int] = (),
    weights: WeightSet | None = None,
    prefix: str = "",
    family: str | None = None,
) -> list[Snapshot]:
    """The snapshots of a run's folder (by default of the weights in training), of one that `adaln.watch` wrote, or the
    one of a file of weights.

    `family` decides between two families of the names of a file.
    """
    if is_watched(path):
        seen = recorded(path.name, read_recording(path / ROLES))
        if missing := [step for step in steps if step not in seen]:
            raise ValueError(f"{str(path)!r} has no record of step {missing[0]}; it has {[*seen] or 'none'}")
        return [seen[step] for step in sorted(set(steps)) or spread_evenly(sorted(seen), MOST_CHECKPOINTS)]
    if is_run(path):
        if family is not None:
            raise ValueError(f"family is {family!r}; {str(path)!r} is a run, whose layout is known")
        return snapshots_of_run(Run.open(path), steps, weights or "model")
    opened = open_weights(path, None, prefix)
    notes = opened.notes
    if weights and opened.taken is None:  # of several sources the choice is for those with sets
        notes = (*notes, f"holds one set of weights only, whether {weights} or not")
    elif weights:
        notes = (opened := open_weights(path, weights, prefix)).notes
    find_rows = partial(grouped_rows, family=family, class_name=class_of(path))
    return [replace(snapshot(path.stem, None, opened.tensors, find_rows), notes=notes)]


def recording_file(run: Run) -> Path:
    """Where `train` and `study` let a run record its roles."""
    return run.path / "analysis" / "roles.jsonl"


def spread_evenly(steps: Sequence[int], most: int) -> list[int]:
    """At most `most` of ascending steps, evenly by rank, with the first and the last.

    >>> spread_evenly([0, 1, 2, 5, 10, 20, 50, 100], 4)
    [0, 2, 20, 100]
    """
    if len(steps) <= most:
        return list(steps)
    return [steps[round(i * (len(steps) - 1) / (most - 1))] for i in range(most)]
