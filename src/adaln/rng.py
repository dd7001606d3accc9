"""Randomness as a function of what it is for: no global state, nothing to save for a resume."""

import hashlib

import torch


def generator(*key: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that depends on `key` alone, e.g. `generator("train", seed, step)`.

    Distinct keys give independent streams: the seed is the first 8 bytes of SHA-256 over the key's repr.
    Streams of CPU and CUDA generators with one key differ, as torch's do.
    """
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little"))
