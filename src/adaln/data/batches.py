"""Endless shuffled batches, each a function of (seed, step) and the process's share: nothing to save or to replay.

The shuffled order of N items is computed where it is asked for, never stored: a generalised Feistel network over
Z_a x Z_b with a * b >= N, a and b near sqrt(N). Each round adds a keyed hash of one half to the other, a bijection
whatever the hash. The few values >= N are walked on until they fall below N. An even a lets both even and odd
permutations occur (adding to a half of odd size is always an even one).

Source: Black & Rogaway, "Ciphers with Arbitrary Finite Domains" (CT-RSA 2002); the hash is SplitMix64's finaliser
(Steele, Lea & Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
"""

import hashlib
import math
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt64
from torch import Tensor

from adaln.data.dataset import Dataset
from adaln.rng import generator
from adaln.types import Labels

ROUNDS, FEW_ITEMS, ROUNDS_FOR_FEW = 10, 64, 24
"""Hashes of a few bits mix slowly: up to FEW_ITEMS items need more rounds until all orders are equally likely."""
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Batches:
    """Batches of `batch_size` per rank; the ranks of one step together take `batch_size * world` items in turn.

    Position p = (step * world + rank) * batch_size + j of the endless sequence holds item p mod N of epoch p div N, of
    the N that are learned from, mirrored or drawn from its posterior as a generator of (seed, p) says: however many
    ranks share a batch, it is one.
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
        x = augmented(self.dataset, indices, (generator("augment", self.seed, p) for p in self.positions(step)))
        if self.dataset.spec.num_classes == 0:
            return x, None
        return x, torch.from_numpy(self.dataset.labels[indices])

    def indices(self, step: int) -> Int64[np.ndarray, "B"]:
        """Which items the step takes; within an epoch no item is taken twice, by any rank."""
        split, positions = self.dataset.split, np.array(self.positions(step), np.int64)
        items = shuffled(positions, len(self.dataset if split is None else split.learned), self.seed)
        return items if split is None else np.take(split.learned, items)

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


def augmented(
    dataset: Dataset, indices: Int64[np.ndarray, "B"], rngs: Iterable[torch.Generator]
) -> Float[Tensor, "B C H W"]:
    """What a network learns from at `indices`, each mirrored as a generator of its own says if the set is to be."""
    if not dataset.flip:
        return dataset.read(indices, np.zeros(len(indices), bool), rngs)
    rngs = list(rngs)
    coins = torch.cat([torch.rand(1, generator=rng) for rng in rngs]).numpy()
    return dataset.read(indices, coins < 0.5, rngs)


def shuffled(positions: Int64[np.ndarray, "B"], num_items: int, seed: int) -> Int64[np.ndarray, "B"]:
    """The item at each position of an endless sequence that holds every item once per epoch, each epoch anew shuffled.

    Epoch e covers positions e * num_items to (e + 1) * num_items - 1; the order is a function of (seed, e).
    """
    epoch, within = np.divmod(positions.astype(np.uint64), np.uint64(num_items))
    root = int.from_bytes(hashlib.sha256(repr(("shuffle", seed)).encode()).digest()[:8], "little")
    keys = mix(mix(epoch) ^ np.uint64(root))
    items = permuted(within, keys, num_items)
    while len(outside := np.flatnonzero(items >= num_items)):
        items[outside] = permuted(items[outside], keys[outside], num_items)
    return items.astype(np.int64)


def permuted(values: UInt64[np.ndarray, "B"], keys: UInt64[np.ndarray, "B"], num_items: int) -> UInt64[np.ndarray, "B"]:
    """A keyed bijection of 0..a*b-1, a near-square domain that holds `num_items`."""
    a = math.isqrt(num_items - 1) // 2 * 2 + 2
    b = -(-num_items // a)
    rounds = ROUNDS if num_items > FEW_ITEMS else ROUNDS_FOR_FEW
    sizes = (np.uint64(a), np.uint64(b))
    halves = list(np.divmod(values, sizes[1]))
    for turn in range(rounds):
        keys = keys + GOLDEN
        here, there = turn % 2, 1 - turn % 2
        halves[here] = (halves[here] + mix(halves[there] ^ keys) % sizes[here]) % sizes[here]
    joined: UInt64[np.ndarray, B] = halves[0] * sizes[1] + halves[1]
    return joined


def mix(values: UInt64[np.ndarray, "B"]) -> UInt64[np.ndarray, "B"]:
    """A 64-bit hash in which every input bit reaches every output bit."""
    values = values + GOLDEN
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values
