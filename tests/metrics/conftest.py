"""The golden activations are not stored but regenerated, bit for bit, from the recipes in `results.json`."""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.golden_files import golden_folders

WORK_LIMIT = 1_000 * 1_000  # pairs larger than this many distances are slow


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`pair` runs over every pair of every golden folder, `part` over its pool and spatial features."""
    if "pair" not in metafunc.fixturenames:
        return
    params = []
    for folder in golden_folders("metrics"):
        for name, recorded in results(folder)["pairs"].items():
            for part in recorded["recipe"] if "part" in metafunc.fixturenames else ["pool"]:
                marks = _marks(recorded["recipe"][part])
                params.append(pytest.param((folder, name), part, id=f"{name}-{part}", marks=marks))
    if "part" in metafunc.fixturenames:
        metafunc.parametrize(("pair", "part"), params, indirect=["pair"])
    else:
        plain = [pytest.param(p.values[0], id=p.id.removesuffix("-pool"), marks=p.marks) for p in params]
        metafunc.parametrize("pair", plain, indirect=True)


def _marks(recipe: dict[str, Any]) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] if recipe["ref"]["n"] * recipe["sample"]["n"] >= WORK_LIMIT else []


@cache
def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


class GoldenPair:
    """One pair of a golden folder: recorded results, recorded arrays, regenerated activations."""

    def __init__(self, folder: Path, name: str) -> None:
        self.recorded = results(folder)["pairs"][name]
        self.arrays = np.load(folder / f"pair_{name}.npz")
        self.softmax_weight = softmax_weight(folder)
        recipe = self.recorded["recipe"]
        self.rows = {(part, side): activations(recipe[part], side) for part in recipe for side in ("ref", "sample")}


@pytest.fixture
def pair(request: pytest.FixtureRequest) -> GoldenPair:
    return _pair(*request.param)


@cache
def _pair(folder: Path, name: str) -> GoldenPair:
    return GoldenPair(folder, name)


def activations(recipe: dict[str, Any], side: str) -> Tensor:
    """Float32 rows by the recorded recipe; every product and sum in the order that the recipe states."""
    width, structure = recipe["width"], _rng(recipe["structure_seed"])
    modes = structure.standard_normal((recipe["K"], width)) * recipe["mean_scale"] + recipe["offset"]
    factors = structure.standard_normal((recipe["r"], width)) * recipe["factor_scale"]
    direction = structure.standard_normal((width,))
    one, rng = recipe[side], _rng(recipe[side]["seed"])
    chosen = rng.integers(0, one["modes"], size=one["n"])
    loadings = rng.standard_normal((one["n"], recipe["r"]))
    noise = rng.standard_normal((one["n"], width))
    x = modes[chosen]
    for j in range(recipe["r"]):
        x = x + (one["spread"] / (1 + j)) * loadings[:, j : j + 1] * factors[j][None, :]
    x = x + recipe["noise_scale"] * noise + one["shift"] * direction[None, :]
    if recipe["post"] == "relu":
        x = np.maximum(x, 0)
    if recipe["dead"]:
        x[:, :: recipe["dead"]] = 0
    return torch.from_numpy((x * recipe["scale"]).astype(np.float32))


@cache
def softmax_weight(folder: Path) -> Tensor:
    recipe = results(folder)["softmax_weight"]
    weight = (_rng(recipe["seed"]).standard_normal(recipe["shape"]) * recipe["scale"]).astype(np.float32)
    assert sha256(weight) == recipe["sha256_float32"]
    return torch.from_numpy(weight)


def _rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


@pytest.fixture(name="sha256")
def _sha256() -> Any:
    return sha256


@pytest.fixture(name="results")
def _results() -> Any:
    return results


@pytest.fixture(name="softmax_weight")
def _softmax_weight() -> Any:
    return softmax_weight


@pytest.fixture(name="activations")
def _activations() -> Any:
    return activations
