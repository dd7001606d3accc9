"""`adaln import` and `adaln export` end to end."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DiTTransformer2DModel
from safetensors.torch import load_file
from torch import Tensor

from adaln.cli.commands import main
from adaln.cli.comparing import compare_verb
from adaln.cli.reporting import report_verb
from adaln.cli.scoring import sample_verb
from adaln.cli.weights import export_verb, import_verb
from adaln.models import MODELS, build
from adaln.rng import generator
from adaln.runs import Run
from adaln.types import DataSpec
from helpers.networks import DIGITS

FAMILIES = ["tiny", "SiT-tiny", "DiT-LLaMA-tiny", "SiT-LLaMA-tiny", "U-DiT-tiny", "tiny-SE", "tiny-shared"]
SIZE = {"U-DiT-tiny": ["--size", "8"]}
"""What the weights do not tell."""


VERBS = {
    "import": import_verb,
    "export": export_verb,
    "sample": sample_verb,
    "report": report_verb,
    "compare": compare_verb,
}


def adaln(name: str, *words: object) -> dict:
    """What a command gives back for --json."""
    return VERBS[name]([str(word) for word in words]).data


def released(file: Path, name: str = "tiny", spec: DataSpec = DIGITS) -> dict[str, Tensor]:
    """A file as the published code writes it, of a network whose output is not zero."""
    tensors = build(MODELS[name], spec, generator("released")).state_dict()
    rng = generator("trained")
    for key, tensor in tensors.items():
        if key != "pos_embed":
            tensor.add_(torch.randn(tensor.shape, generator=rng), alpha=0.05)
    torch.save({"ema": tensors, "model": other_set(tensors)}, file)
    return tensors


def other_set(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights that were not averaged: others, but for the frozen positions."""
    return {name: tensor + (name != "pos_embed") for name, tensor in tensors.items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_imported_and_exported_is_bit_identical(tmp_path: Path, name: str):
    tensors = released(tmp_path / "released.pt", name)
    adaln("import", tmp_path / "released.pt", "--model", name, *SIZE.get(name, []), "--out", tmp_path / "run")
    adaln("export", tmp_path / "run", "--out", tmp_path / "back.safetensors")
    assert same(load_file(tmp_path / "back.safetensors"), tensors)
    adaln("import", tmp_path / "back.safetensors", "--model", name, *SIZE.get(name, []), "--out", tmp_path / "again")
    first, again = (Run.open(tmp_path / run).averaged_model()[0].state_dict() for run in ("run", "again"))
    assert same(first, again)


def test_diffusers_loads_what_is_exported_and_the_way_back_is_bit_identical(tmp_path: Path):
    tensors = released(tmp_path / "released.pt")
    adaln("import", tmp_path / "released.pt", "--model", "tiny", "--out", tmp_path / "run")
    adaln("export", tmp_path / "run", "--layout", "diffusers", "--out", tmp_path / "folder")
    theirs = DiTTransformer2DModel.from_pretrained(tmp_path / "folder").eval()
    for block in theirs.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0
    ours, _ = Run.open(tmp_path / "run").averaged_model()
    x, t, y = torch.randn(3, 1, 8, 8, generator=generator("x")), torch.tensor([0, 500, 999]), torch.tensor([0, 9, 10])
    with torch.no_grad():
        torch.testing.assert_close(theirs(x, t, y).sample, ours(x, t, y), rtol=0, atol=1e-5)
    adaln("import", tmp_path / "folder", "--model", "tiny", "--out", tmp_path / "back")
    assert same(Run.open(tmp_path / "back").averaged_model()[0].state_dict(), tensors)


def test_an_imported_run_says_where_it_comes_from(tmp_path: Path):
    released(tmp_path / "DiT.pt", spec=DataSpec(3, 16, 8, 4))
    answer = adaln("import", tmp_path / "DiT.pt", "--model", "tiny", "--step", "400000", "--out", tmp_path / "run")
    run = Run.open(tmp_path / "run")
    assert run.spec == DataSpec(3, 16, 8, 4)
    assert run.steps_saved() == [400_000]
    assert run.manifest["provenance"] == "imported"
    file_hash = hashlib.sha256((tmp_path / "DiT.pt").read_bytes()).hexdigest()
    expected = {"file": "DiT.pt", "file_sha256": file_hash, "layout": "official", "weights": "ema"}
    expected["notes"] = answer["notes"]
    assert "the averaged weights under 'ema.'; the file also holds 'model.'" in answer["notes"][0]
    assert run.manifest["imported"] == expected
    assert expected.items() <= answer.items()
    ema, model = (load_file(run.folder(400_000) / f"{name}.safetensors") for name in ("ema", "model"))
    assert same(ema, model)


def test_the_other_set_of_a_checkpoint_can_be_taken(tmp_path: Path):
    tensors = released(tmp_path / "DiT.pt")
    adaln("import", tmp_path / "DiT.pt", "--model", "tiny", "--weights", "model", "--out", tmp_path / "run")
    found = Run.open(tmp_path / "run").averaged_model()[0].state_dict()
    assert same(found, other_set(tensors))


@pytest.mark.slow
def test_the_other_verbs_work_on_an_imported_run(tmp_path: Path):
    released(tmp_path / "SiT.pt", "SiT-tiny")
    adaln("import", tmp_path / "SiT.pt", "--model", "SiT-tiny", "--out", tmp_path / "run")
    drawn = adaln("sample", tmp_path / "run", "--num-images", 4, "--sampler.steps", 2, "--device", "cpu")
    assert drawn["sampler"]["solver"] == "heun"
    assert Path(drawn["samples"]).exists()
    assert "imported" in Path(adaln("report", tmp_path / "run")["report"]).read_text(encoding="utf-8")
    released(tmp_path / "DiT.pt")
    adaln("import", tmp_path / "DiT.pt", "--model", "tiny", "--out", tmp_path / "other")
    assert len(adaln("compare", tmp_path / "run", tmp_path / "other")["runs"]) == 2


def test_a_process_that_fits_the_network_is_chosen_unless_one_is_named(tmp_path: Path):
    for name, words, kind in (
        ("tiny", [], "GaussianConfig"),
        ("SiT-tiny", [], "InterpolantConfig"),
        ("SiT-tiny", ["--process", "ddpm-fixed-large"], "GaussianConfig"),
    ):
        released(tmp_path / "a.pt", name)
        out = tmp_path / f"{name}{len(words)}"
        adaln("import", tmp_path / "a.pt", "--model", name, *words, "--out", out)
        assert json.loads((out / "config.json").read_text())["process"]["kind"] == kind


def test_a_step_is_exported_when_asked_for(tmp_path: Path):
    released(tmp_path / "DiT.pt")
    adaln("import", tmp_path / "DiT.pt", "--model", "tiny", "--step", 7, "--out", tmp_path / "run")
    assert adaln("export", tmp_path / "run", "--step", 7, "--out", tmp_path / "a.safetensors")["step"] == 7
    with pytest.raises(ValueError, match=r"no complete checkpoint at step 8; it has: \[7\]"):
        adaln("export", tmp_path / "run", "--step", 8, "--out", tmp_path / "b.safetensors")
    assert not (tmp_path / "b.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.pt"], "expected --model NAME"),
        (["a.pt", "--model", "DiT-XL2"], "nearest: 'DiT-XL/2'"),
        (["a.pt", "--model", "tiny", "--step", "-1"], "step is -1; expected at least 0"),
        (["a.pt", "--model", "tiny", "--process", "linear-velocity"], "the process needs 1 output"),
        (["a.pt", "--model", "tiny", "--out", "taken"], "is a run already"),
        (["b.pt", "--model", "tiny"], "do not exist"),
    ],
)
def test_what_cannot_be_imported_is_one_line_and_leaves_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
):
    monkeypatch.chdir(tmp_path)
    released(tmp_path / "a.pt")
    adaln("import", "a.pt", "--model", "tiny", "--out", "taken")
    with pytest.raises(ValueError, match=message) as told:
        adaln("import", *words)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "runs/a/config.json").exists()
    with pytest.raises(ValueError, match="is not a run"):
        Run.open("runs/a")


def test_the_program_knows_both_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    released(tmp_path / "a.pt")
    main(["import", str(tmp_path / "a.pt"), "--model", "tiny", "--out", str(tmp_path / "run"), "--json"])
    assert json.loads(capsys.readouterr().out)["spec"] == {"channels": 1, "height": 8, "width": 8, "num_classes": 10}
    main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "a.safetensors")])
    assert "exported the averaged weights" in capsys.readouterr().out
    for name in ("import", "export"):
        with pytest.raises(SystemExit, match="0"):
            main([name, "--help"])
        assert "--out" in capsys.readouterr().out


def test_what_cannot_be_exported_is_one_line(tmp_path: Path):
    released(tmp_path / "a.pt", "tiny-SE")
    adaln("import", tmp_path / "a.pt", "--model", "tiny-SE", "--out", tmp_path / "run")
    with pytest.raises(ValueError, match=r"expected a name that ends in .safetensors"):
        adaln("export", tmp_path / "run", "--out", tmp_path / "a.pt2")
    with pytest.raises(ValueError, match=r"modulation se.*; diffusers' layout serves no other than a DiT with"):
        adaln("export", tmp_path / "run", "--out", tmp_path / "folder", "--layout", "diffusers")
    assert not (tmp_path / "folder").exists()
    released(tmp_path / "b.pt")
    adaln("import", tmp_path / "b.pt", "--model", "tiny", "--out", tmp_path / "plain")
    adaln("export", tmp_path / "plain", "--out", tmp_path / "folder", "--layout", "diffusers")
    with pytest.raises(ValueError, match="exists; expected a new folder"):
        adaln("export", tmp_path / "plain", "--out", tmp_path / "folder", "--layout", "diffusers")


def test_a_run_is_not_imported_again_and_the_verbs_that_take_it_are_named(tmp_path: Path):
    released(tmp_path / "a.pt")
    adaln("import", tmp_path / "a.pt", "--model", "tiny", "--out", tmp_path / "run")
    for folder in (tmp_path / "run", tmp_path / "run" / "checkpoints" / f"{0:09d}"):
        with pytest.raises(ValueError, match=r"a run of ours, which needs no import: adaln sample .*run draws from it"):
            adaln("import", folder, "--out", tmp_path / "other")
    weights = tmp_path / "run" / "checkpoints" / f"{0:09d}" / "ema.safetensors"
    adaln("import", weights, "--model", "tiny", "--out", tmp_path / "other")


def test_an_unregistered_network_is_described_field_by_field(tmp_path: Path):
    config = replace(MODELS["tiny"], hidden_size=32, depth=2)
    tensors = build(config, DIGITS, generator(0)).state_dict()
    torch.save(tensors, tmp_path / "a.pt")
    adaln("import", tmp_path / "a.pt", "--model", "tiny", "--model.hidden-size", 32, "--model.depth", 2,
          "--out", tmp_path / "run")  # fmt: skip
    assert Run.open(tmp_path / "run").config.model == config


@pytest.mark.parametrize("sides", [("0",), ("-8",), ("8", "0")])
def test_a_size_below_one_is_refused(tmp_path: Path, sides: tuple[str, ...]):
    released(tmp_path / "released.pt")
    with pytest.raises(ValueError, match="expected whole numbers >= 1"):
        adaln("import", tmp_path / "released.pt", "--model", "tiny", "--out", tmp_path / "run", "--size", *sides)
    assert not (tmp_path / "run").exists()
