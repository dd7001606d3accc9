"""`adaln bench` prints a table, and writes JSON and a picture."""

import json
from pathlib import Path

import pytest

from adaln.benchmarks import machine
from adaln.cli import main
from adaln.cli.benching import BENCHMARKS, plain_table
from adaln.codec import leaves


def test_both_sides_are_told_written_and_drawn(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "PRODUCT_SIZES", ((8, 16, 24),))
    file = tmp_path / "train.json"
    words = "bench train --model tiny --batch-size 1 --repeats 1 --threads 1 --device cpu --precision bfloat16 --out"
    main([*words.split(), str(file)])
    shown = capsys.readouterr()
    assert "diffusers" in shown.out and "tiny, batch 1, compiled: none" in shown.out
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["command"].startswith("adaln bench train --model tiny")
    assert found["machine"]["cores"] and found["machine"]["torch"]
    assert found["bfloat16"]["median"]["seconds"]["ours"] > 0
    assert "share of the rate" in file.with_suffix(".svg").read_text(encoding="utf-8")


def test_an_unknown_benchmark_names_the_nearest(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "trian"])
    assert "unknown benchmark 'trian' (nearest: 'train')" in capsys.readouterr().err


def test_help_lists_what_there_is_to_measure(capsys):
    main(["bench", "--help"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in BENCHMARKS) and "--out FILE.json" in shown


def test_a_table_of_measurements_has_all_numbers_by_their_path():
    row = {"a": {"b": 1, "c d": {"e": 2.5}}, "f": [1, 2], "machine": {"cores": 2}}
    assert plain_table("t", row).rows == [["a / b", 1], ["a / c d / e", 2.5], ["f", "[1, 2]"]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "path"),
    [
        ("machine --repeats 1", "matmul_gigaflops / float32"),
        ("scores --dim 64 --points 300 --images 2 --repeats 1", "frechet_distance / times_faster / wall"),
        ("data --images 2048 --repeats 2 --steps 5", "opening / seconds"),
        ("analysis --model tiny --trained tiny --threads 1 --repeats 1 --device cpu", "reading / peak_bytes"),
        ("study --steps 4 --num-images 20", "processor_seconds_per_run / sample"),
    ],
)
def test_every_benchmark_runs(words: str, path: str, capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    main(["bench", *words.split(), "--json"])
    found = dict(leaves(json.loads(capsys.readouterr().out), " / "))
    assert found[path] > 0
