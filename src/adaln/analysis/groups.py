"""What is looked at: whose weights (a network's, tensors by name, a file's, those of a run's checkpoint), and which
values together: a role over all blocks, in one block, in one branch; and every other module; and how they are read.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from adaln.analysis.sketch import CHUNK_ELEMENTS
from adaln.conditioning import Family, Role, Site, find_layout
from adaln.files import reading
from adaln.runs import Run, is_run, local
from adaln.tensor_files import TensorFile, WeightSet, open_weights
from adaln.types import as_rows

T = TypeVar("T")

Weights = nn.Module | Mapping[str, Tensor] | Run | str | Path
"""A network, tensors by name, a run, or the path of one, of a file of weights or of a diffusers folder."""


@dataclass(frozen=True, slots=True)
class Group:
    """Values that form one distribution. None where the group spans all of them."""

    name: str
    """A role ("gate", "final scale", ...), "gate bias", "gate table" (PixArt's), or one of the family's `groups`."""
    block: str | None = None
    depth: int | None = None
    """Place of the block in the forward pass."""
    branch: str | None = None


@dataclass(frozen=True, slots=True)
class GroupedRows:
    """Rows of one tensor, and every group that they count in."""

    tensor: str
    rows: slice
    groups: tuple[Group, ...]


FindRows = Callable[[Mapping[str, Tensor]], Iterable[GroupedRows]]
"""From names and shapes to the rows that are looked at."""


def role_name(site: Site) -> str:
    """A role in words, with what sets it apart."""
    return "final " * (site.branch == "final") + site.role.name.lower() + " table" * (site.weight is None)


def groups_of(site: Site, *, by_branch: bool) -> tuple[Group, ...]:
    """The groups of a site: all blocks, its block, its branch there; the final layer stands alone (Figures 8, 14)."""
    role = role_name(site)
    if site.branch == "final":
        return (Group(role),)
    groups = Group(role), Group(role, site.block, site.depth), Group(role, site.block, site.depth, site.branch)
    return groups if by_branch else groups[:2]


def bias_of(group: Group) -> Group:
    """The biases of a role beside its matrices."""
    return replace(group, name=f"{group.name} bias")


def grouped_rows(
    tensors: Mapping[str, Tensor], family: str | Family | None = None, class_name: str = ""
) -> Iterator[GroupedRows]:
    """All rows of a model that belong to a group, roles first; reads names and shapes only.

    `family` and `class_name` as `find_layout` takes them.
    """
    layout = find_layout(tensors, family, class_name=class_name)
    yield from rows_of_sites(layout.sites)
    for name in sorted(name for name in layout.head if name.endswith("weight")):
        yield GroupedRows(name, slice(None), (Group("final head"),))
    for module, pattern in layout.family.groups.items():
        for name in sorted(layout.names):  # never the order of the mapping: files sort names, models do not
            if re.fullmatch(pattern, name):
                yield GroupedRows(layout.names[name], slice(None), (Group(module),))


def role_rows(
    tensors: Mapping[str, Tensor], family: str | Family | None = None, class_name: str = ""
) -> Iterator[GroupedRows]:
    """The rows that are gate, scale or shift, in forward order: matrices, their biases, and tables."""
    return rows_of_sites(find_layout(tensors, family, class_name=class_name).sites)


def rows_of_sites(sites: Iterable[Site]) -> Iterator[GroupedRows]:
    """The rows of these sites, each with its bias after it."""
    for site in sites:
        yield GroupedRows(site.tensors()[0], site.rows, groups_of(site, by_branch=True))
        if site.weight and site.bias:
            yield GroupedRows(site.bias, site.rows, tuple(map(bias_of, groups_of(site, by_branch=False))))


def by_role(sites: Iterable[Site]) -> list[Site]:
    """Sites role by role, tables and the final layer last; those of one role in the order given."""
    return sorted(sites, key=lambda s: (s.branch == "final", s.weight is None, list(Role).index(s.role)))


def read_rows(
    tensors: Mapping[str, Tensor], rows: Iterable[GroupedRows], reduce: Callable[[Iterable[Tensor]], T]
) -> Iterator[tuple[GroupedRows, T]]:
    """The rows with what `reduce` makes of their values, which it gets as flat chunks of at most `CHUNK_ELEMENTS`.

    Tensors are read side by side, as many as torch has threads, with equal results; a file's without keeping them.
    """
    by_tensor: dict[str, list[GroupedRows]] = defaultdict(list)
    for grouped in rows:
        by_tensor[grouped.tensor].append(grouped)

    def read(name: str) -> list[T]:
        if isinstance(tensors, TensorFile):
            return [reduce(tensors.chunks(name, grouped.rows, CHUNK_ELEMENTS)) for grouped in by_tensor[name]]
        flat = (as_rows(tensors[name].detach())[grouped.rows].reshape(-1) for grouped in by_tensor[name])
        return [reduce(torch.split(values, CHUNK_ELEMENTS)) for values in flat]

    with _readers() as pool:
        for name, results in zip(by_tensor, pool.map(read, by_tensor), strict=True):
            yield from zip(by_tensor[name], results, strict=True)


@contextmanager
def _readers() -> Iterator[ThreadPoolExecutor]:
    """As many threads as torch has, each computing alone: sharing out every small chunk costs more than it gains."""
    num_threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(num_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(num_threads)  # torch also keeps the number as the default of threads yet to come


def weights_of(
    source: Weights, step: int | None = None, weights: WeightSet | None = None, prefix: str = ""
) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    """Tensors by name, of a file read when used, and what must be known of which were read (see `open_weights`).

    Of a run those of `checkpoint`, `weights` "model" by default.

    Raises `ValueError` in one line for what is missing or damaged, and for the step of what is no run.
    """
    if run := run_of(source):
        return checkpoint(run, step, weights or "model")[1], ()
    assert not isinstance(source, Run)
    if step is not None:
        whose = repr(str(source)) if isinstance(source, str | Path) else "weights in memory"
        raise ValueError(f"step {step} of {whose}: a file holds one step only; expected a run")
    if isinstance(source, str | Path):
        opened = open_weights(Path(source), weights, prefix)
        return opened.tensors, opened.notes
    return (dict(source.named_parameters()) if isinstance(source, nn.Module) else source), ()


def class_of(source: Weights) -> str:
    """The network's class that the config.json of its folder names; "" where none does."""
    if not isinstance(source, str | Path) or is_run(source):
        return ""
    folder = Path(source) if Path(source).is_dir() else Path(source).parent
    for config in (folder / "config.json", folder / "transformer" / "config.json"):
        if config.is_file():
            with reading(config, "the config of a network"):
                return str(json.loads(config.read_text(encoding="utf-8")).get("_class_name", ""))
    return ""


def fetched(source: Weights) -> Weights:
    """The same, where it lies if it is a name of the hub (`hf:ORG/NAME`)."""
    return local(source) if isinstance(source, str) else source


def run_of(source: Weights) -> Run | None:
    """The run that it is, or that lies at its path."""
    if isinstance(source, Run):
        return source
    return Run.open(source) if isinstance(source, str | Path) and is_run(source) else None


def checkpoint(run: Run, step: int | None = None, weights: WeightSet = "ema") -> tuple[int, TensorFile]:
    """A complete checkpoint and its step, the newest by default; `ValueError` naming the checkpoints that there are."""
    saved = checkpoints(run, weights)
    if not saved or step not in (None, *saved):
        wanted = "any step" if step is None else f"step {step}"
        raise ValueError(f"run {str(run.path)!r} has no checkpoint at {wanted}; it has {[*saved] or 'none'}")
    chosen = max(saved) if step is None else step
    return chosen, saved[chosen]


def checkpoints(run: Run, weights: WeightSet) -> dict[int, TensorFile]:
    """The complete checkpoints of a run by step, read when used."""
    return {step: TensorFile(run.folder(step) / f"{weights}.safetensors") for step in run.steps_saved()}
