"""The door to watching anyone's training: what is watched, by what it may be counted, and whose a folder is."""

import atexit
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from functools import partial
from numbers import Integral
from os import getpid
from os.path import commonpath
from pathlib import Path
from typing import Any
from weakref import WeakMethod, WeakValueDictionary

import torch
from torch import nn

from adaln.analysis.branches import BranchRecord, branch_records, inner_network, named_inputs
from adaln.analysis.optimizer_steps import steps_behind
from adaln.analysis.recorder import LOG_SPACED_STEPS, read_recording
from adaln.analysis.role_updates import Watched, parameters_in, watched_sites
from adaln.analysis.watch_handle import ABOUT, ROLES, TrainingWarning, Watch, as_given, is_watched
from adaln.analysis.watched_weights import WatchedWeights
from adaln.codec import json_text, short_hash
from adaln.conditioning import Family, Layout, UnknownLayout, find_layout
from adaln.conditioning.startable import adapters
from adaln.files import reading, remove_temporaries, write_atomically
from adaln.parallel import from_first, is_sharded, rank
from adaln.registry import nearest
from adaln.trackers import KNOWN, KNOWN_AS, Beside, Tracker, import_extra, in_words, warn
from adaln.version import __version__

OPEN: WeakValueDictionary[Path, Watch] = WeakValueDictionary()
"""Handles of this process, by folder."""


def watch(
    model: nn.Module,
    optimizer: Any = None,
    *,
    to: str | Path,
    every: int | Collection[int] = LOG_SPACED_STEPS,
    step: int | None = None,
    family: str | Family | None = None,
    track: Sequence[str | Tracker] = (),
) -> Watch:
    """Record gate, scale and shift of a network that is trained by a loop of your own, into the folder `to`.

    Given the optimiser, or several in a list, it counts the updates of those that hold the modulation, each a step of
    all of them; without, call `.step()` after each. `every`: a number of updates between two records, or the steps to
    record. `step`: updates behind the weights, where a loop goes on (default: what the optimiser's state says, else 0);
    records of later steps are written anew. `family` as in `find_sites`. `track`: tensorboard, wandb, trackio, mlflow,
    or what has `on_log(step, numbers by name)`, called at recorded steps in a thread beside. `adaln report FOLDER`
    makes the page.

    Compiled, DDP and FSDP2 networks, accumulation, autocast and GradScaler need nothing else. Raises `ValueError` in
    one line for a network without known modulation, an optimiser that holds none of it, and a folder that is another's.

    >>> from tempfile import mkdtemp
    >>> from adaln.models import MODELS, build
    >>> from adaln.rng import generator
    >>> from adaln.specs import DataSpec
    >>> network = build(MODELS["tiny"], DataSpec(1, 8, 8, 10), generator("watch"))
    >>> optimizer = torch.optim.AdamW(network.parameters())
    >>> with watch(network, optimizer, to=mkdtemp(), every=10) as watched:
    ...     for _ in range(3):
    ...         loss = network(torch.zeros(2, 1, 8, 8), torch.rand(2), torch.tensor([0, 1])).square().mean()
    ...         loss.backward()
    ...         optimizer.step()
    ...         optimizer.zero_grad()
    ...         watched.log(loss)
    >>> watched.updates
    3
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model is a {type(model).__name__}; expected a network, an nn.Module")
    layout = layout_of(model, family)
    sites, folder = watched_sites(model, layout), folder_of(to)
    if empty := [w.site.tensors()[0] for w in sites if w.values.is_meta or not w.values.numel()]:
        raise ValueError(
            f"{empty[0]!r} has no values here (on meta, or ZeRO-3's); expected parameters, whole or DTensors"
        )
    is_recorded = chosen(every)
    check_trackers(track)
    inner = [] if optimizer is None else holders_of(optimizer, model, sites)
    begun = max(map(steps_behind, inner), default=0) if step is None else step
    if not is_count(begun):
        raise ValueError(f"step is {as_given(begun)}; expected the number of updates behind the weights, from 0")
    begun, config = int(begun), about(model, layout, sites)
    look_into, weights = (
        partial(looked_into, model, family),
        WatchedWeights(sites, lambda: dict(model.named_parameters())),
    )

    def begin() -> list[Beside]:
        claim(folder, config, begun, was_said=step is not None or begun > 0)
        close_other(folder)
        if not begun:  # another training to trackers, whose runs go on alone
            (folder / KNOWN_AS).unlink(missing_ok=True)
        return [tracker_of(one, folder, config) for one in track]

    with written(folder):
        trackers = in_first(begin, all_take_part=any(is_sharded(watched.values) for watched in sites))
        handle = Watch(weights, folder, is_recorded, begun, trackers, page_of, look_into)
    OPEN[folder.resolve()] = handle
    if inner:
        handle.attach(inner)
    if adapter := adapter_of(model, sites):
        warn(adapter, TrainingWarning)
    close, process = WeakMethod(handle.close_at_exit), getpid()  # of this process, not of its forks
    atexit.register(lambda: getpid() == process and (still := close()) and still())
    return handle


def in_first(begin: Callable[[], list[Beside]], all_take_part: bool) -> list[Beside]:
    """What it gives in the first process, which alone writes; nothing in others, which need not be there unless the
    network is sharded, and then raise what the first did."""
    found: list[Beside] = []
    failed: Exception | None = None
    try:
        found = [] if rank() else begin()
    except (ValueError, OSError) as error:
        failed = error
    if all_take_part:
        failed = from_first(lambda: failed)
    if failed is not None:
        raise failed
    return found


def layout_of(model: nn.Module, family: Any) -> Layout:
    """Of a network that has one; else a `ValueError` that says what a program can do about it."""
    if not isinstance(family, str | Family | None):
        raise ValueError(f"family is {as_given(family)}; expected its name, a layout file's, or a Family")
    try:
        layout = find_layout(model, family)
    except UnknownLayout as error:
        ways = "ways on: family=, by name, by the file of a layout, or as adaln.audit(model, discover=True) sees it"
        raise UnknownLayout(error.args[0], *[ways] * (len(error.args) > 1)) from error
    if not layout.sites:
        raise ValueError("the network has no known modulation; adaln.audit(model, discover=True) tells what may be it")
    return layout


def looked_into(model: nn.Module, family: str | Family | None, *arguments: Any, **named: Any) -> list[BranchRecord]:
    """The branches of a network on the inputs of its `forward`."""
    network = inner_network(model)
    return branch_records(network, named_inputs(network, arguments, named), family)


def page_of(folder: Path) -> Path:
    """The page of `adaln report`, written into the folder."""
    from adaln.views.watched import write_watched_page  # brings matplotlib

    return write_watched_page(folder)


def tracker_of(track: str | Tracker, folder: Path, config: Mapping[str, Any]) -> Beside:
    """A tracker by its name, or one as it is, in a thread of its own; `ValueError` where it cannot be made."""
    if not isinstance(track, str):
        return Beside(type(track).__name__, track)
    try:
        return Beside(track, KNOWN[track](folder, config))
    except (Exception, SystemExit) as error:  # of its library, which nobody is logged in to, say
        raise ValueError(f"tracker {track!r} cannot be used: {in_words(error)}") from error


def folder_of(to: Any) -> Path:
    """Where it is, wherever the program goes; `ValueError` for what is no folder's name."""
    if not isinstance(to, str | Path) or not str(to) or "\0" in str(to):
        raise ValueError(f"to is {as_given(to)}; expected a folder")
    folder = Path(to).absolute()
    with written(folder):
        if file := next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None):
            raise ValueError(f"to is {str(to)!r}, and {str(file)!r} is a file; expected a folder")
    return folder


@contextmanager
def written(folder: Path) -> Iterator[None]:
    """`ValueError` in one line where nothing can be written."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"to is {as_given(str(folder))}, where nothing can be written: {error.strerror}") from error


def close_other(folder: Path) -> None:
    """The handle that has it in this process, if one does: two would write every line twice."""
    if (other := OPEN.get(folder.resolve())) and other.is_open:
        other.close(records_end=False)
        warn(f"{str(folder)!r} is watched anew: the handle that had it is closed", TrainingWarning)


def is_count(value: object) -> bool:
    """Whether it is a whole number from 0."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0


def check_trackers(track: Any) -> None:
    """`ValueError` for one that is not known, takes no lines, or whose package is not installed."""
    if not isinstance(track, list | tuple):
        raise ValueError(f"track is {track!r}; expected a list of trackers, such as ['tensorboard']")
    for name in track:
        if isinstance(name, type):
            raise ValueError(f"tracker {name.__name__} is a class; expected one made of it, {name.__name__}(...)")
        if not isinstance(name, str | Tracker):
            raise ValueError(f"tracker {type(name).__name__} has no on_log(step, numbers by name)")
        if isinstance(name, str):
            if name not in KNOWN:
                raise ValueError(f"unknown tracker {name!r}{nearest(name, KNOWN)}; known: {', '.join(KNOWN)}")
            import_extra(name)


def chosen(every: Any) -> Callable[[int], bool]:
    """Whether a step is recorded."""
    if is_count(every) and every:
        return lambda step: step % every == 0
    listed = every if isinstance(every, Sequence | Set) and not isinstance(every, str | bytes) else ()
    ends = (listed[0], listed[-1]) if isinstance(listed, range) and listed else listed  # it may be too long for len()
    if not ends or not all(map(is_count, ends)):
        raise ValueError(f"every is {as_given(every)}; expected a number of updates, from 1, or the steps to record")
    steps = listed if isinstance(listed, range) else frozenset(listed)
    return lambda step: step in steps


def innermost(optimizer: Any) -> torch.optim.Optimizer:
    """The optimiser inside those of accelerate and Lightning; `ValueError` for what has no hooks."""
    while isinstance(inner := getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        optimizer = inner
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ValueError(
            f"optimizer is a {type(optimizer).__name__}; expected a torch.optim.Optimizer, or None and .step() after"
            " each update"
        )
    return optimizer


def holders_of(optimizers: Any, model: nn.Module, sites: Sequence[Watched]) -> list[torch.optim.Optimizer]:
    """Those that step the modulation, of one or several; `ValueError` where none does."""
    modulation = {id(watched.values) for watched in sites}
    given = [innermost(one) for one in (optimizers if isinstance(optimizers, list | tuple) else [optimizers])]
    if not given:
        raise ValueError(f"optimizer is {optimizers!r}; expected the optimisers, or None and .step() after each update")
    if holders := [one for one in dict.fromkeys(given) if modulation & parameters_in(one.param_groups)]:
        return holders
    if not any(watched.values.requires_grad for watched in sites):
        raise ValueError(
            f"the network's modulation is frozen (e.g. {sites[0].name!r}), so that no optimiser moves it; expected no"
            f" optimizer, and .step() after each update{'; ' * bool(adapter := adapter_of(model, sites))}{adapter}"
        )
    raise ValueError(
        f"the optimiser holds none of the network's modulation (e.g. {sites[0].site.tensors()[0]!r}); expected the"
        " optimiser of this very network, made after it was sharded or moved"
    )


def adapter_of(model: nn.Module, sites: Sequence[Watched]) -> str:
    """That something trained hangs on a layer of the modulation, LoRA say; "" where nothing does."""
    tensors = dict(model.named_parameters())
    hung = adapters(tensors, [watched.name for watched in sites])
    layer, added = next((pair for pair in hung if tensors[pair[1]].requires_grad), ("", ""))
    return f"{added!r} is an adapter of {layer!r}, which shows nothing of it until it is merged" if added else ""


def about(model: nn.Module, layout: Layout, sites: Sequence[Watched]) -> dict[str, Any]:
    """What is watched, for `watch.json`: the same in a wrapper and out of it."""
    inside = commonpath([watched.site.tensors()[0].rpartition(".")[0].replace(".", "/") for watched in sites])
    start = f"{inside}.".lstrip(".").replace("/", ".")
    others = sorted(list(p.shape) for name, p in model.named_parameters() if name.startswith(start))
    own = {name: own for own, name in layout.names.items()}
    shapes = {own[watched.site.tensors()[0]]: tuple(watched.values.shape) for watched in sites}
    named = {name: list(shape) for name, shape in shapes.items()}
    row = {
        "network": type(model).__name__,
        "sites": len(sites),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    return {**row, "shapes": short_hash({"modulation": named, "all": others}), "adaln": __version__}


def claim(folder: Path, row: Mapping[str, Any], step: int, was_said: bool) -> None:
    """Make the folder this network's; `ValueError` where it is another's, or goes on from a step that nobody said."""
    file = folder / ABOUT
    remove_temporaries(folder, file.name)
    if is_watched(folder):
        with reading(file, "what watch wrote"):
            theirs = json.loads(file.read_text(encoding="utf-8"))["shapes"]
        if theirs != row["shapes"]:
            raise ValueError(f"{str(folder)!r} is of another network; expected a folder of its own")
        last = max((record.step for record in read_recording(folder / ROLES)), default=0)
        if last and not was_said:
            raise ValueError(
                f"{str(folder)!r} holds records up to step {last:,}; expected step=N, the updates behind these weights"
                " (0: all is recorded anew), or another folder"
            )
    elif folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{str(folder)!r} holds something else; expected an empty folder, or one that watch made")
    else:
        write_atomically(file, json_text(row) + "\n")
    (folder / ROLES).parent.mkdir(exist_ok=True)
