"""A shuffled order of N items that is computed where it is asked for, never stored.

A generalised Feistel network over Z_a x Z_b with a * b >= N, a and b near sqrt(N): each round adds a keyed hash of one
half to the other, a bijection whatever the hash. The few values >= N are walked on until they fall below N. An even a
lets both even and odd permutations occur (adding to a half of odd size is always an even one).

Source: Black & Rogaway, "Ciphers with Arbitrary Finite Domains" (CT-RSA 2002); the hash is SplitMix64's finaliser
(Steele, Lea & Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
"""

import hashlib
import math

import numpy as np
from jaxtyping import Int64, UInt64

ROUNDS, FEW_ITEMS, ROUNDS_FOR_FEW = 10, 64, 24
"""Hashes of a few bits mix slowly: up to FEW_ITEMS items need more rounds until all orders are equally likely."""
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def shuffled(positions: Int64[np.ndarray, "B"], num_items: int, seed: int) -> Int64[np.ndarray, "B"]:
    """The item at each position of an endless sequence that holds every item once per epoch, each epoch anew shuffled.

    Epoch e covers positions e * num_items to (e + 1) * num_items - 1; the order is a function of (seed, e).
    """
    epoch, within = np.divmod(positions.astype(np.uint64), np.uint64(num_items))
    root = int.from_bytes(hashlib.sha256(repr(("shuffle", seed)).encode()).digest()[:8], "little")
    keys = mix(mix(epoch) ^ np.uint64(root))
    items = network(within, keys, num_items)
    while len(outside := np.flatnonzero(items >= num_items)):
        items[outside] = network(items[outside], keys[outside], num_items)
    return items.astype(np.int64)


def network(values: UInt64[np.ndarray, "B"], keys: UInt64[np.ndarray, "B"], num_items: int) -> UInt64[np.ndarray, "B"]:
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
