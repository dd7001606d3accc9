"""Audits of files and folders, and the command `adaln audit`."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import adaln
from adaln.analysis.audit import audit
from adaln.cli import main
from adaln.cli.auditing import audit_verb
from adaln.config import PRESETS
from adaln.models import MODELS, build
from adaln.rng import generator
from adaln.runs import Run
from adaln.tensor_files import open_weights
from adaln.training import train
from helpers.command_line import fails, run
from helpers.networks import DIGITS


def network(scheme="adaln-gaussian", seed=0):
    model = build(MODELS["tiny"], DIGITS, generator("audit files", seed))
    adaln.initialise(model, scheme, seed)
    return model


def weights(scheme="adaln-gaussian", seed=0):
    return {name: tensor.detach().clone() for name, tensor in network(scheme, seed).state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_safetensors_file_audits_like_the_tensors_in_memory(tmp_path, dtype):
    tensors = {name: tensor.to(dtype) for name, tensor in weights().items()}
    save_file(tensors, tmp_path / "net.safetensors")
    assert asdict(audit(open_weights(tmp_path / "net.safetensors").tensors)) == asdict(audit(tensors))


def test_of_a_file_that_holds_more_an_audit_says_what_was_read(tmp_path):
    both = {f"{name}.{key}": tensor for name in ("model", "ema_model") for key, tensor in weights().items()}
    save_file(both, tmp_path / "net.safetensors")
    [note] = [finding for finding in audit(tmp_path / "net.safetensors").findings if finding.kind == "file"]
    assert "the averaged weights under 'ema_model.'" in note.text and "'model.'" in note.text
    raw = audit(tmp_path / "net.safetensors", prefix="model.")
    assert asdict(raw)["rows"] == asdict(audit(weights()))["rows"]


@pytest.mark.parametrize(
    ("class_name", "said"), [("FluxTransformer2DModel", "by the names and shapes"), ("Mine", None)]
)
def test_a_config_whose_class_has_other_weights_is_said_so(tmp_path, class_name, said):
    save_file(weights(), tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": class_name}))
    notes = [finding.text for finding in audit(tmp_path).findings if finding.kind == "file"]
    assert [note for note in notes if class_name in note] == [note for note in notes if said and said in note]
    assert bool(notes) == (said is not None)


# The command


FACTORY = """
import torch
from adaln.models import MODELS, build
from adaln.rng import generator
from adaln.types import DataSpec

def network():
    return build(MODELS["tiny"], DataSpec(1, 8, 8, 10), generator("factory"))

def network_and_inputs():
    inputs = {"x": torch.ones(1, 1, 8, 8), "t": torch.tensor([500]), "y": torch.tensor([3])}
    return network(), inputs

def number():
    return 3

def needs_more(width, depth):
    return network()

def fails():
    raise RuntimeError("no\\nweights")

def stops():
    raise SystemExit(3)

class NeedsCuda(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = network()
        self.spec, self.num_labels = self.inner.spec, self.inner.num_labels

    def forward(self, **inputs):
        raise RuntimeError("needs\\ncuda")

class Refuses(NeedsCuda):
    def forward(self, **inputs):
        raise ValueError("not so")

def refuses():
    return Refuses(), {}

class Stopped(NeedsCuda):
    def forward(self, **inputs):
        raise KeyboardInterrupt

def with_inputs():
    return NeedsCuda(), {"x": 1}

def with_foreign_inputs():
    return network(), {"x": 1}

def with_listed_inputs():
    return network(), [1]

def on_meta():
    return network().to("meta")

def talks():
    print("building")
    made = network()
    made.register_forward_pre_hook(lambda *_: print("running"))
    return made

SETTING = 3
"""


@pytest.fixture
def factory(tmp_path, monkeypatch):
    (tmp_path / "audited_factory.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    return "audited_factory"


def shown(answer, capsys):
    answer.show()
    return capsys.readouterr().out


def test_the_command_tells_layout_rows_energies_and_findings(factory, capsys):
    told = shown(audit_verb([f"{factory}:network"]), capsys)
    assert "audited_factory:network: DiT layout, 4 blocks, modulation as adaln-zero starts it" in told
    assert "Role by block" in told and "What each branch adds to the residual stream" in told
    assert "note: all gates start at exactly zero" in told


def test_json_is_the_audit_itself(factory, capsys):
    main(["audit", f"{factory}:network_and_inputs", "--json"])
    data = json.loads(capsys.readouterr().out)
    assert data["family"] == "DiT" and data["start"]["name"] == "adaln-zero"
    assert len(data["energies"]) == 8 and {energy["ratio"] for energy in data["energies"]} == {0.0}
    assert len(data["rows"]) == 17


def test_a_file_is_audited_without_being_run(tmp_path, capsys):
    save_file(weights("adaln-gaussian-v2"), tmp_path / "net.safetensors")
    told = shown(audit_verb([str(tmp_path / "net.safetensors")]), capsys)
    assert "as adaln-gaussian-v2 starts it" in told
    assert "residual stream" not in told


def test_stored_types_with_commas_between_are_a_table_of_their_own(factory, capsys):
    answer = audit_verb([f"{factory}:network", "--precision", "bf16,fp8"])
    assert [row["type"] for row in answer.data["precision"]] == ["bf16"] * 12 + ["fp8"] * 12
    assert "What a stored type loses" in shown(answer, capsys)


def test_family_decides_between_layouts_of_one_name(tmp_path, capsys):
    tensors = {"blocks.0.adaLN_modulation.1.weight": torch.ones(24, 6)}
    save_file(tensors, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match="fit both"):
        audit_verb([str(tmp_path / "net.safetensors")])
    answer = audit_verb([str(tmp_path / "net.safetensors"), "--family", "adaLN-no-gate"])
    assert answer.data["family"] == "adaLN-no-gate"
    assert "no gates" in shown(answer, capsys)


@pytest.mark.parametrize("verb", ["fit", "distributions"])
def test_family_and_config_decide_for_every_command(tmp_path, capsys, verb):
    folder, last = tmp_path / "net", "final_layer.adaLN_modulation.1.weight"
    folder.mkdir()
    tensors = {f"blocks.{i}.adaLN_modulation.1.weight": torch.randn(24, 6) for i in range(2)}
    save_file({**tensors, last: torch.randn(12, 6)}, folder / "diffusion_pytorch_model.safetensors")
    words = [verb, str(folder), "--out", str(tmp_path / "out.json")]
    assert "fit both 'LightningDiT-no-shift' and 'adaLN-no-gate'" in fails(capsys, *words)
    if verb == "fit":
        for family, lacking in (("LightningDiT-no-shift", "shift"), ("adaLN-no-gate", "gate")):
            run(capsys, *words, "--family", family)
            assert f"which has no {lacking}" in (tmp_path / "out.json").read_text()
    else:
        assert "shift" not in run(capsys, *words, "--family", "LightningDiT-no-shift").partition("final shift")[0]
    assert "unknown family 'LightningDiT-no-shif'" in fails(capsys, *words, "--family", "LightningDiT-no-shif")


def test_a_modulation_that_blocks_share_is_named_in_memory_and_in_a_file(tmp_path):
    model = network()
    model.blocks[2].adaLN_modulation = model.blocks[1].adaLN_modulation
    for read in (audit, adaln.initialise):
        with pytest.raises(ValueError, match=r"'blocks\.2\..*' is the same tensor as 'blocks\.1\..*' \(tied\)"):
            read(model)
    torch.save(model.state_dict(), tmp_path / "net.pt")
    [text] = [finding.text for finding in audit(tmp_path / "net.pt").findings if finding.kind == "tied"]
    assert "blocks.1.adaLN_modulation.1.weight, blocks.2.adaLN_modulation.1.weight hold the same values" in text
    assert not any(finding.kind == "tied" for finding in audit(network()).findings)


def test_an_adapter_in_a_network_in_memory_is_named():
    model = network()
    model.blocks[0].mlp.lora_A = torch.nn.Linear(64, 4, bias=False)
    [text] = [finding.text for finding in audit(model).findings if finding.kind == "adapter"]
    assert "without the adapter (LoRA) that is there, branches seen with it: blocks.0.mlp.lora_A.weight" in text


@pytest.mark.slow
def test_a_run_is_audited_at_its_newest_checkpoint_and_as_it_started(tmp_path):
    run = str(tmp_path / "run")
    train(Run.create(replace(PRESETS["digits"](), steps=2, batch_size=8), out=Path(run)))
    ends, raw, began = (audit_verb([run, *words]).data for words in ([], ["--weights", "model"], ["--step", "0"]))
    assert not ends["start"]["is_start"] and not raw["start"]["is_start"]
    assert began["start"] == {"name": "adaln-zero", "distance": 0.0, "is_start": True}
    assert {energy["ratio"] for energy in began["energies"]} == {0.0}
    assert all(energy["ratio"] > 0 for energy in ends["energies"])
    assert raw["rows"][0]["moments"]["std"] > ends["rows"][0]["moments"]["std"]  # averaged weights lag behind
    assert audit_verb([f"{run}/checkpoints/000000002/ema.safetensors"]).data["rows"] == ends["rows"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "expected a run, a file of weights"),
        (["nowhere"], "do not exist"),
        (["audited_factory:nothing"], "is not there"),
        (["no_such_module:network"], "No module named"),
        (["audited_factory:number"], "made a int; expected an nn.Module"),
        (["audited_factory:network", "--family", "dit"], "nearest: 'DiT'"),
        (["audited_factory:network", "--family", "SD3"], "no layout takes the modulation layer"),
        (["audited_factory:network", "--step", "3"], "--step is for runs"),
        (["audited_factory:network", "--weights", "ema"], "--weights and --prefix are for runs and files"),
        ([".", "--weights", "ema"], "no run and no diffusers model"),
        (["audited_factory:network", "--precision", "bf16,fp8_e5m3"], "(nearest: 'fp8_e5m2')"),
        (["audited_factory:network", "--precision", ","], "--precision is ','; expected types out of bf16"),
        (["audited_factory:network", "--layout", "x.safetensors"], "--layout is 'x.safetensors'; expected"),
        (["audited_factory:network", "--famly", "DiT"], "nearest: '--family'"),
        (["audited_factory:SETTING"], "'audited_factory:SETTING' is a int; expected a function"),
        (["audited_factory:needs_more"], "wants width, depth; expected a factory that takes no more than the data"),
        (["audited_factory:fails"], "'audited_factory:fails' raised RuntimeError: no weights"),
        (["audited_factory:stops"], "'audited_factory:stops' raised SystemExit: 3"),
        (["audited_factory:with_inputs"], "running NeedsCuda raised RuntimeError: needs cuda"),
        (["audited_factory:with_inputs", "--discover"], "running NeedsCuda raised RuntimeError: needs cuda"),
        (["audited_factory:refuses"], "running Refuses raised ValueError: not so"),
        (["audited_factory:refuses", "--discover"], "running Refuses raised ValueError: not so"),
        (["audited_factory:with_foreign_inputs"], "raised TypeError"),
        (["audited_factory:with_listed_inputs"], "made inputs that are a list; expected them by name, in a dict"),
        (["audited_factory:on_meta"], "on the meta device, without values"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(factory, words, said, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["audit", *words])
    told = capsys.readouterr().err
    assert stop.value.code == 2
    assert said in told and told.count("\n") == 1


def test_a_network_that_fails_with_standard_inputs_is_audited_by_its_weights(factory, capsys):
    told = shown(audit_verb([f"{factory}:NeedsCuda"]), capsys)
    assert "DiT layout, 4 blocks" in told
    assert "note: only its weights were audited: running NeedsCuda raised RuntimeError: needs cuda" in told


@pytest.mark.parametrize("words", [[], ["--discover"]])
def test_what_a_network_prints_is_no_part_of_the_json(factory, words, capsys):
    main(["audit", f"{factory}:talks", *words, "--json"])
    answer = capsys.readouterr()
    assert json.loads(answer.out)["model"] == "audited_factory:talks"
    assert "building" in answer.err and "running" in answer.err


def test_a_stop_by_the_user_is_no_error_of_the_network(factory):
    with pytest.raises(KeyboardInterrupt):
        audit_verb([f"{factory}:Stopped"])


def test_an_audit_from_memory_and_through_the_command_agree(factory):
    live = audit(build(MODELS["tiny"], DIGITS, generator("factory")))
    assert audit_verb([f"{factory}:network"]).data == {"model": "audited_factory:network", **asdict(live)}


def test_what_was_read_stands_above_the_table_and_in_json(tmp_path, capsys):
    torch.save({"model": weights(), "ema": weights()}, tmp_path / "net.pt")
    words = ["audit", str(tmp_path / "net.pt"), "--weights", "model"]
    main(words)
    lines = capsys.readouterr().out.splitlines()
    note = next(number for number, line in enumerate(lines) if "read the raw weights" in line)
    assert note < next(number for number, line in enumerate(lines) if "kurtosis" in line)
    main([*words, "--json"])
    assert "read the raw weights" in capsys.readouterr().out
