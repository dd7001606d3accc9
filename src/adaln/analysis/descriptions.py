"""The distributions of a whole model: one pass over its tensors, one record per role, block, branch and module."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from adaln.analysis.distributions import Summary, summarise
from adaln.analysis.groups import Group, Piece, pieces
from adaln.analysis.lattice import CHUNK_ELEMENTS, Sketch, sketch, sketch_chunks
from adaln.tensors import TensorFile, shapes


@dataclass(frozen=True, slots=True)
class Description:
    """One group of values and all that is known of it; JSON through `dataclasses.asdict`."""

    group: Group
    summary: Summary


def describe(tensors: Mapping[str, Tensor]) -> list[Description]:
    """Every group of a model: all blocks first, then blocks and branches in forward order, then other modules.

    A `TensorFile` is read in one pass through a buffer of constant size.

    >>> from adaln.models import MODELS, build
    >>> from adaln.rng import generator
    >>> from adaln.types import DataSpec
    >>> net = build(MODELS["tiny"], DataSpec(1, 8, 8, 10), generator("example"))
    >>> [d.group.name for d in describe(dict(net.named_parameters()))[:4]]
    ['shift', 'scale', 'gate', 'shift bias']
    """
    merged = sketches(tensors)
    order = list(merged)
    ordered = sorted(order, key=lambda g: (g.block is not None, g.depth or 0, g.branch is not None, order.index(g)))
    return [Description(group, summarise(merged[group])) for group in ordered]


def sketches(
    tensors: Mapping[str, Tensor], find_pieces: Callable[[Mapping[str, Tensor]], Iterable[Piece]] = pieces
) -> dict[Group, Sketch]:
    """The sketch of every group; tensors are read side by side, as many as torch has threads, with equal results."""
    by_tensor: dict[str, list[Piece]] = defaultdict(list)
    for piece in find_pieces(shapes(tensors)):
        by_tensor[piece.tensor].append(piece)

    def read(name: str) -> list[Sketch]:
        if isinstance(tensors, TensorFile):
            return [sketch_chunks(tensors.chunks(name, piece.rows, CHUNK_ELEMENTS)) for piece in by_tensor[name]]
        return [sketch(tensors[name][piece.rows]) for piece in by_tensor[name]]

    merged: dict[Group, Sketch] = defaultdict(Sketch)
    with _readers() as pool:
        for found, name in zip(pool.map(read, by_tensor), by_tensor, strict=True):
            for values, piece in zip(found, by_tensor[name], strict=True):
                for group in piece.groups:
                    merged[group] += values
    return dict(merged)


@contextmanager
def _readers() -> Iterator[ThreadPoolExecutor]:
    """As many threads as torch has, each computing alone: sharing out every small chunk costs more than it gains."""
    num_threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(num_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(num_threads)  # torch also keeps the number as the default of threads yet to come
