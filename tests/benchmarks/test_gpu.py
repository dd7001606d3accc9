"""`adaln bench gpu`: parts with files and limits of their own, a page of goals; commands that a GPU will understand."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adaln.benchmarks import gpu, training
from adaln.benchmarks.gpu import Part, everything, parts
from adaln.benchmarks.gpu_page import page, table
from adaln.benchmarks.options import GpuOptions, TrainOptions
from adaln.benchmarks.peer import busy_model
from adaln.benchmarks.training import batch_of, loss_of, our_step
from adaln.cli import main
from adaln.cli.benching import BENCHMARKS
from adaln.cli.options import parse
from adaln.cli.studying import StudyOptions
from adaln.models import MODELS
from adaln.report import markdown

CUDA = torch.device("cuda")
PRINTS = ("json.tool", "--compact")
"""`python -m json.tool FILE`: a part that prints a result."""


def options_of(words: tuple[str, ...]) -> object:
    """What the command line makes of the words of a part."""
    assert words[0] == "adaln"
    if words[1] == "study":
        return parse(StudyOptions, "study", words[2:])
    return parse(BENCHMARKS[words[2]].options, words[2], words[3:])


@pytest.mark.parametrize("tiny", [False, True])
def test_every_command_is_understood_before_anyone_has_a_gpu(tiny: bool, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    first, *rest = parts(GpuOptions(tiny=tiny), CUDA)
    files = [word for word in first.words if word.endswith(".py")]
    assert first.name == "tests" and "tests/test_no_waiting.py" in files
    understood = {part.name: options_of(part.words) for part in rest}
    assert understood["sample-graphed"].cuda_graph and understood["train-checkpointed"].checkpoint
    assert understood["train"].precision == ("bfloat16",) and understood["study"].scale == "tiny" if tiny else "small"
    assert len({part.name for part in parts(GpuOptions(), CUDA)}) == 8


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """Three parts that take no time, of which the second fails."""
    (tmp_path / "numbers.json").write_text('{"a": 1}')
    there = [
        Part("good", "prints", (*PRINTS, str(tmp_path / "numbers.json")), 60, "cpu"),
        Part("bad", "fails", (*PRINTS, str(tmp_path / "absent.json")), 60, "cpu"),
        Part("endless", "does not end", ("timeit", "-n", "1", "while True: pass"), 0.5, "cpu"),
    ]
    monkeypatch.setattr(gpu, "parts", lambda options, device: there)
    return there


def outcomes(folder: Path) -> dict[str, str]:
    return {
        file.stem.rpartition("-")[0]: json.loads(file.read_text())["outcome"]
        for file in (folder / "parts").glob("*.json")
    }


def test_a_part_is_kept_as_it_ends_within_its_limit_and_a_finished_one_is_not_done_again(
    made_up, tmp_path, monkeypatch
):
    options = GpuOptions(tmp_path / "out", device="cpu")
    records = everything(options)["parts"]
    assert records["good"]["outcome"] == "done" and records["good"]["result"] == {"a": 1}
    assert records["bad"]["outcome"].startswith("failed: ") and "absent.json" in records["bad"]["outcome"]
    assert records["endless"]["outcome"] == "stopped after its 0 s" and records["endless"]["seconds"] < 30
    text = (tmp_path / "out" / "index.md").read_text()
    assert "1 of the 3 parts so far are done; bad: failed" in text
    again = []
    monkeypatch.setattr(gpu, "done", lambda part, folder, limit: again.append(part.name) or records[part.name])
    assert everything(options)["parts"] == records and again == ["bad", "endless"]


def test_whatever_stops_it_what_was_measured_is_kept_and_shown(made_up, tmp_path, monkeypatch):
    ended, calls = gpu.ended, []

    def interrupted(child, limit):
        calls.append(child)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return ended(child, limit)

    monkeypatch.setattr(gpu, "ended", interrupted)
    with pytest.raises(KeyboardInterrupt):
        everything(GpuOptions(tmp_path / "out", device="cpu"))
    assert calls[1].wait() != 0, "nothing goes on behind"
    assert outcomes(tmp_path / "out").items() >= {"good": "done"}.items()
    assert "1 of the 1 parts so far are done" in (tmp_path / "out" / "index.md").read_text()


def test_no_part_begins_when_the_time_is_over(made_up, tmp_path):
    before = everything(GpuOptions(tmp_path / "out", only=("bad",), device="cpu"))["parts"]
    records = everything(GpuOptions(tmp_path / "out", minutes=1e-9, device="cpu"))["parts"]
    assert {record["outcome"] for record in records.values()} == {"no time was left"}
    assert outcomes(tmp_path / "out") == {"bad": before["bad"]["outcome"]}, "what was found out stays"


def test_what_another_device_or_command_gave_is_neither_taken_nor_overwritten(made_up, tmp_path, monkeypatch):
    options = GpuOptions(tmp_path / "out", only=("good",), device="cpu")
    everything(options)
    other = replace(made_up[0], device="another"), replace(made_up[0], words=("json.tool", made_up[0].words[2]))
    for part in other:
        monkeypatch.setattr(gpu, "parts", lambda options, device, part=part: [part])
        assert everything(options)["parts"]["good"]["command"] == gpu.command(part)
    assert len(list((tmp_path / "out" / "parts").glob("good-*.json"))) == 3


def test_a_part_that_prints_no_result_has_failed(made_up, tmp_path, monkeypatch):
    part = replace(made_up[0], words=("this",))
    monkeypatch.setattr(gpu, "parts", lambda options, device: [part])
    records = everything(GpuOptions(tmp_path / "out", device="cpu"))["parts"]
    assert records["good"]["outcome"] == "failed: it printed no result"


def test_unknown_parts_and_times_are_refused(made_up, tmp_path):
    with pytest.raises(ValueError, match="unknown part 'bda'; known: good, bad, endless"):
        everything(GpuOptions(tmp_path, only=("bda",), device="cpu"))
    with pytest.raises(ValueError, match="minutes is 0; expected a number > 0"):
        GpuOptions(minutes=0)


def row(seconds: float, peer: float | None, peaks: tuple[int, int] | None = None) -> dict:
    """What a benchmark of both sides gives, at a product rate of 1 GFLOP/s."""
    sides = {"ours": seconds} | ({"diffusers": peer} if peer else {})
    median = {
        "seconds": sides,
        "matmul_gigaflops": {"bfloat16": 1.0},
        "share_of_matmul_rate": {"bfloat16": {name: 1 / each for name, each in sides.items()}},
        "times_faster": peer / seconds if peer else None,
    }
    of_peaks = dict(zip(("ours", "diffusers"), peaks or (None, None), strict=True))
    images = {name: 1 / each for name, each in sides.items()}
    left_out = {} if peer else {"diffusers": "does not fit"}
    return {"flops": 1e9, "median": median, "peak_bytes": of_peaks, "images_per_second": images, "left_out": left_out}


def test_the_table_holds_each_goal_against_the_best_part():
    done = {"title": "t", "command": "c", "outcome": "done", "seconds": 1.0}
    records = {
        "train": done | {"result": {"bfloat16": row(4.0, 8.0, (70, 100))}},
        "train-large": done | {"result": {"bfloat16": row(2.0, None)}},
        "train-checkpointed": done | {"outcome": "failed: x"},
    }
    machine = {"device": "H200", "torch": "2.11"}
    result = {"machine": machine, "options": {"model": "DiT-XL/2", "tiny": False}, "parts": records}
    share, faster, checkpointed, memory, sampled = table(result).rows
    assert share[2:] == [50.0, "train-large"]
    assert faster[2:] == [2.0, "train"] and memory[2:] == [0.7, "train"]
    assert checkpointed[2:] == sampled[2:] == [None, "–"]
    both = page(result).sections[1].blocks[0]
    assert "diffusers: does not fit" in markdown(both)


def test_a_side_that_does_not_fit_or_is_not_installed_is_left_out(monkeypatch):
    def too_large(model, config, spec):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(training, "peer_of", too_large)
    monkeypatch.setattr(training, "products", lambda device, precision: iter(()))
    options = TrainOptions("tiny", batch_size=1, precision=("float32",), repeats=1, threads=1, device="cpu")
    found = training.train_step(options)["float32"]
    assert found["left_out"] == {"diffusers": "does not fit"}
    assert found["median"]["times_faster"] is None and found["images_per_second"].keys() == {"ours"}
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "diffusers", None)
    monkeypatch.setattr(training, "products", lambda device, precision: iter(()))
    assert training.train_step(options)["float32"]["left_out"] == {"diffusers": "diffusers is not installed"}


@pytest.mark.slow
def test_all_of_it_works_at_tiny_sizes_and_is_not_done_twice(tmp_path, capsys):
    words = ["bench", "gpu", "--tiny", "--device", "cpu", "--minutes", "30", "--folder", str(tmp_path / "out")]
    main([*words, "--out", str(tmp_path / "gpu.json")])
    assert "training step, share of the matmul rate" in capsys.readouterr().out
    assert set(outcomes(tmp_path / "out").values()) == {"done"}
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert len(result["parts"]) == 8 and result["parts"]["study"]["result"]["verdict"]
    main([*words, "--json"])
    assert json.loads(capsys.readouterr().out)["parts"] == result["parts"]


@pytest.mark.gpu
@pytest.mark.parametrize("checkpoint", [False, True])
def test_a_compiled_training_step_on_a_gpu_waits_for_nothing(checkpoint: bool):
    options = TrainOptions("DiT-S/2", batch_size=8, compile="ours", checkpoint=checkpoint)
    batch, model = batch_of(8, CUDA), busy_model(MODELS["DiT-S/2"], CUDA)
    step = our_step(model, lambda network: loss_of(batch, "bfloat16", network), options)
    step()  # compiles, and copies tables
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
