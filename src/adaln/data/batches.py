"""Endless shuffled batches, each a function of (seed, step) and the process's share: nothing to save or to replay."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from adaln.data.dataset import Dataset
from adaln.data.permutation import shuffled
from adaln.rng import generator
from adaln.types import Labels


@dataclass(frozen=True, slots=True)
class Batches:
    """Batches of `batch_size` per rank; the ranks of one step together take `batch_size * world` items in turn.

    Position p = (step * world + rank) * batch_size + j of the endless sequence holds item p mod N of epoch p div N,
    mirrored or drawn from its posterior as a generator of (seed, p) says: however many ranks share a batch, it is one.
    """

    dataset: Dataset
    batch_size: int
    seed: int
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; expected at least 1")
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank is {self.rank}; expected 0 to {self.world - 1} (world {self.world})")

    def at(self, step: int) -> tuple[Float[Tensor, "B C H W"], Labels | None]:
        """Images in [-1, 1] and labels (None: unconditional) of a step; any step costs the same."""
        indices = self.indices(step)
        x = self.dataset.take(indices, (generator("augment", self.seed, p) for p in self.positions(step)))
        if self.dataset.spec.num_classes == 0:
            return x, None
        return x, torch.from_numpy(self.dataset.labels[indices])

    def indices(self, step: int) -> Int64[np.ndarray, "B"]:
        """Which items the step takes; within an epoch no item is taken twice, by any rank."""
        return shuffled(np.array(self.positions(step), np.int64), len(self.dataset), self.seed)

    def positions(self, step: int) -> range:
        """Where the step's items stand in the endless sequence."""
        start = (step * self.world + self.rank) * self.batch_size
        return range(start, start + self.batch_size)

    @property
    def share(self) -> slice:
        """Which rows of the batch of all ranks together are this rank's."""
        return slice(self.rank * self.batch_size, (self.rank + 1) * self.batch_size)


Batch = tuple[Tensor, Tensor | None]


class Prefetched:
    """The batches of `batches`, the next ones made in a thread of their own while a step computes.

    `pin`: in page-locked memory, from which a copy to a GPU does not hold up the host. A `with` block ends the thread.
    """

    def __init__(self, batches: Batches, ahead: int = 2, pin: bool = False) -> None:
        self.batches, self.ahead, self.pin = batches, ahead, pin
        self._pool = ThreadPoolExecutor(1, "prefetch")
        self._coming: dict[int, Future[Batch]] = {}

    def __enter__(self) -> "Prefetched":
        return self

    def __exit__(self, *raised: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    @property
    def share(self) -> slice:
        """What `batches.share` gives."""
        return self.batches.share

    def at(self, step: int) -> Batch:
        """What `batches.at(step)` gives."""
        wanted = range(step, step + self.ahead + 1)
        for other in set(self._coming).difference(wanted):
            self._coming.pop(other).cancel()
        for coming in wanted:
            if coming not in self._coming:
                self._coming[coming] = self._pool.submit(self._make, coming)
        return self._coming.pop(step).result()

    def _make(self, step: int) -> Batch:
        x, y = self.batches.at(step)
        if not self.pin:
            return x, y
        return x.pin_memory(), None if y is None else y.pin_memory()
