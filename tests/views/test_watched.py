"""The page of a watched training refuses records that lack something, or hold something else, in one line."""

import json

import pytest

import adaln
from adaln.analysis import role_updates
from adaln.cli import main
from adaln.models import DiTConfig, build
from adaln.report.draw import draw
from adaln.report.palette import LIGHT
from adaln.rng import generator
from adaln.views.watched import watched_page
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


def test_a_share_is_drawn_from_0_to_1_and_of_some_entries_it_is_said_of_how_many(tmp_path, folder, monkeypatch):
    (shares,) = (one for section in watched_page(folder).sections for one in section.blocks if "Share" in one.title)
    assert shares.y.scale == "share"
    assert draw(shares, LIGHT, titled=False).axes[0].get_ylim() == pytest.approx((-0.03, 1.03))
    assert "1,024 weights of W_α over all blocks" in captions(folder)
    monkeypatch.setattr(role_updates, "KEPT_ENTRIES", 64)
    with adaln.watch(
        build(DiTConfig(16, 2, 2, 4), DIGITS, generator("watched")), to=tmp_path / "w", every=1
    ) as watched:
        watched.step()
    assert "256 of 1,024 weights of W_α over all blocks" in captions(tmp_path / "w")


def captions(folder):
    return " ".join(getattr(one, "caption", "") for section in watched_page(folder).sections for one in section.blocks)


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
