"""Extractors by name, and what functions of the user's may give."""

import sys

import numpy as np
import pytest
import torch

from adaln.metrics import Features, evaluate, load_extractor, statistics
from adaln.metrics.features import function_extractor


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda x: x.float().flatten(), r"torch.float32 \(1728,\)"),
        (lambda x: x.float()[:, 0, 0, :0], r"torch.float32 \(9, 0\)"),
        (lambda x: x.float().flatten(1)[:1], r"torch.float32 \(1, 192\)"),
        (lambda x: x.flatten(1) * 1j, r"torch.complex64 \(9, 192\)"),
        (lambda x: x.numpy(), "ndarray"),
        (lambda x: None, "NoneType"),
        (lambda x: Features(x.float().flatten(1)[:1]), r"torch.float32 \(1, 192\)"),
    ],
)
def test_a_function_that_gives_no_row_of_real_numbers_for_each_image_is_refused(given, said, monkeypatch):
    monkeypatch.setattr("adaln.metrics.features.code_named", lambda target: given)
    with pytest.raises(ValueError, match=rf"features 'module:given' gave {said}; expected Features or real numbers"):
        statistics(pictures(9), function_extractor("module:given"))


def test_bytes_halves_and_doubles_of_a_function_are_features_in_single_precision(monkeypatch):
    for dtype in (torch.uint8, torch.float16, torch.float64):
        monkeypatch.setattr(
            "adaln.metrics.features.code_named", lambda target, dtype=dtype: lambda x: x[:, 0, 0].to(dtype)
        )
        rows = statistics(pictures(9), function_extractor("module:given")).pool_rows
        assert rows.dtype == torch.float32 and rows.tolist() == pictures(9)[:, 0, :, 0].tolist()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def mean(images):\n    return {}['pool']\n", "features 'own_features:mean': KeyError: 'pool'"),
        ("def mean(images):\n    raise RuntimeError('a\\nb')\n", "features 'own_features:mean': RuntimeError: a b"),
        ("def mean(images)\n", "features 'own_features:mean' cannot be imported: SyntaxError"),
    ],
)
def test_what_a_users_own_features_raise_is_said_to_be_theirs(tmp_path, monkeypatch, code, said):
    (tmp_path / "own_features.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "own_features", raising=False)
    with pytest.raises(ValueError) as caught:
        statistics(pictures(9), load_extractor("own_features:mean", cache=tmp_path))
    assert said in str(caught.value)


def test_extractors_are_found_by_name_and_misses_name_the_nearest(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"unknown feature extractor 'inceptoin' \(nearest: 'inception'\)"):
        load_extractor("inceptoin", cache=tmp_path)
    with pytest.raises(ValueError, match="need the labelled images"):
        load_extractor("dataset-classifier", cache=tmp_path)
    (tmp_path / "my_features.py").write_text("def means(images):\n    return images.float().mean(dim=(2, 3))\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    extractor = load_extractor("my_features:means", cache=tmp_path)
    assert "fid" in evaluate(pictures(40), pictures(50), extractor).scores
    with pytest.raises(ValueError, match=r"no 'mean' in 'my_features' \(nearest: 'means'\)"):
        load_extractor("my_features:mean", cache=tmp_path)
    with pytest.raises(ValueError, match="no source to hash; give it an attribute `fingerprint`"):
        load_extractor("math:sqrt", cache=tmp_path)
    with pytest.raises(ValueError, match="No module named 'no_such_module'"):
        load_extractor("no_such_module:f", cache=tmp_path)
