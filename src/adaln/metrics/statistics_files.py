"""Reference statistics on disk: our own npz files, and ADM's, under the same keys."""

import json
import zipfile
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch

from adaln.data.pictures import UNREADABLE
from adaln.files import atomic_file, file_sha256
from adaln.metrics.collection import Origin, Statistics, collect
from adaln.metrics.features import Extractor
from adaln.metrics.images import ARRAY, ImagesLike, open_images
from adaln.metrics.moments import Gaussian

METADATA = "adaln"
"""Key of our JSON beside ADM's mu, sigma, mu_s, sigma_s."""
FORMAT = 1


def is_statistics(source: ImagesLike) -> TypeGuard[str | Path]:
    """Whether `source` is an npz file with ADM's key `mu`."""
    if not isinstance(source, str | Path):
        return False
    path = Path(source)
    if path.suffix != ".npz" or not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return "mu.npy" in archive.namelist()


def recorded_extractor(path: Path) -> dict[str, Any]:
    """What a statistics file says of the extractor it was made with; of ADM's files only the name is known."""
    try:
        with np.load(path, allow_pickle=False) as file:
            found: dict[str, Any] = json.loads(str(file[METADATA]))["extractor"] if METADATA in file.files else {}
    except (*UNREADABLE, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged statistics ({error!r}); make them anew") from error
    return found or {"name": "inception"}


def save_statistics(statistics: Statistics, path: Path, *, rows: bool = True) -> None:
    """Write statistics that `load_statistics`, and ADM's evaluator, can read; the file appears complete or not at all.

    `rows` keeps the features of single images, which precision and recall need.
    """
    arrays = _gaussian_arrays(statistics)
    for name in ("pool_rows", "probs") if rows else ():
        if getattr(statistics, name) is not None:
            arrays[name] = getattr(statistics, name).numpy()
    origin = statistics.origin
    metadata = {
        "format": FORMAT,
        "extractor": statistics.extractor,
        "origin": {"name": origin.name, "num_images": origin.num_images, "sha256": origin.sha256},
    }
    arrays[METADATA] = np.array(json.dumps(metadata))
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # the stub takes them for `allow_pickle`


def _gaussian_arrays(statistics: Statistics) -> dict[str, np.ndarray]:
    arrays = {"mu": statistics.pool.mean.numpy(), "sigma": statistics.pool.covariance.numpy()}
    if statistics.spatial is not None:
        arrays |= {"mu_s": statistics.spatial.mean.numpy(), "sigma_s": statistics.spatial.covariance.numpy()}
    return arrays


def load_statistics(path: str | Path, extractor: Extractor, *, batch_size: int = 64) -> Statistics:
    """The statistics in `path`.

    ADM's reference files hold statistics of the whole data set beside 10,000 images: FID and sFID use the statistics
    and the images are run through `extractor` for precision and recall, as ADM's evaluator does. Such statistics do
    not say which network they are of, so they are taken for Inception's and refused with any other.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            if METADATA in file.files:
                return _ours(path, file, json.loads(str(file[METADATA])))
            pool, spatial, has_images = (
                _gaussian(file, "mu", "sigma"),
                _gaussian(file, "mu_s", "sigma_s"),
                ARRAY in file,
            )
    except (*UNREADABLE, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: damaged statistics ({error!r}); make them anew") from error
    if extractor.name != "inception":
        raise ValueError(f"{path}: precomputed statistics of Inception features, got extractor {extractor.name!r}")
    if pool is None:
        raise ValueError(f"{path}: has 'mu' but no 'sigma', expected both")
    origin = Origin(str(path), 0, file_sha256(path))
    if not has_images:
        return Statistics(origin, extractor.describe(), pool, spatial)
    images = collect(open_images(path), extractor, batch_size=batch_size)
    return Statistics(origin, images.extractor, pool, spatial, images.pool_rows, images.spatial_rows, images.probs)


def _ours(path: Path, file: Any, metadata: dict[str, Any]) -> Statistics:
    pool = _gaussian(file, "mu", "sigma")
    if metadata.get("format") != FORMAT or pool is None:
        raise ValueError(
            f"{path}: got statistics of format {metadata.get('format')}, expected {FORMAT}; make them anew"
        )
    rows = {name: torch.from_numpy(file[name]) for name in ("pool_rows", "probs") if name in file.files}
    origin = Origin(**metadata["origin"])
    return Statistics(origin, metadata["extractor"], pool, _gaussian(file, "mu_s", "sigma_s"), **rows)


def _gaussian(file: Any, mean: str, covariance: str) -> Gaussian | None:
    if mean not in file.files or covariance not in file.files:
        return None
    mu, sigma = (torch.from_numpy(np.asarray(file[name], np.float64)) for name in (mean, covariance))
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
        raise ValueError(
            f"'{mean}' {tuple(mu.shape)} and '{covariance}' {tuple(sigma.shape)}: expected (F,) and (F, F)"
        )
    return Gaussian(mu, sigma)
