"""The page of a watched training refuses records that lack something, or hold something else, in one line."""

import json

import pytest

import adaln
from adaln.cli import main
from adaln.models import DiTConfig, build
from adaln.rng import generator
from helpers.networks import DIGITS

ALARM = {"step": 1, "rule": "shut", "role": "gate", "text": "it stays shut"}
BRANCH = {"block": "0", "branch": "attn", "energy": 0.5, "open_energy": 1.0, "largest_scale": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    network = build(DiTConfig(16, 2, 2, 4), DIGITS, generator("watched"))
    path = tmp_path_factory.mktemp("watched") / "w"
    with adaln.watch(network, to=path, every=1) as watched:
        watched.step(loss=1.0)
    return path


def rows(name):
    """The file whole, and each of its tables without each of its fields, or with what it cannot be."""
    whole = {
        "metrics.jsonl": {"step": 1, "loss": 1.0},
        "alarms.jsonl": ALARM,
        "analysis/branches.jsonl": {"step": 1, "branches": [BRANCH]},
        "watch.json": {"network": "DiT", "sites": 4},
    }[name]
    fields = ("network",) if name == "watch.json" else tuple(whole)
    yield [], "", name
    yield "x", "", name
    for field in fields:
        yield {key: value for key, value in whole.items() if key != field}, field, name
        yield whole | {field: {"a": [None]}}, field, name
    if name == "analysis/branches.jsonl":
        yield whole | {"branches": [{}]}, "block", name
        yield whole | {"branches": [BRANCH | {"energy": "x"}]}, "energy", name


FILES = ("metrics.jsonl", "alarms.jsonl", "analysis/branches.jsonl", "watch.json")


@pytest.mark.parametrize(("row", "field", "name"), [case for name in FILES for case in rows(name)])
def test_a_record_without_a_field_or_with_another_is_one_line_and_nothing_is_written(folder, capsys, row, field, name):
    file = folder / name
    before = file.read_bytes() if file.exists() else None
    file.write_text(json.dumps(row) + "\n")
    try:
        with pytest.raises(SystemExit, match="2"):
            main(["report", str(folder)])
    finally:
        file.unlink() if before is None else file.write_bytes(before)
    said = capsys.readouterr().err
    assert str(file) in said and field in said and said.count("\n") == 1
    assert not (folder / "report").exists()
