"""Anyone's network by the name of its factory: what it takes part in, and what is refused before it trains."""

import pickle
import sys
from dataclasses import replace

import pytest
import torch

from adaln.cli import main
from adaln.cli.reporting import naming_factory
from adaln.conditioning import UnknownLayout
from adaln.config import from_dict, model_name, preset, to_dict
from adaln.models import build, flops, model_named, num_parameters, own_config, own_network, skeleton
from adaln.progress import noting
from adaln.rng import generator
from adaln.runs import Run
from adaln.sampling import sample
from adaln.training import train
from helpers import own_networks

SMALL = "helpers.own_networks:small"


@pytest.fixture(autouse=True)
def nobody_named_a_factory(monkeypatch):
    monkeypatch.setattr(own_config, "_factories", {})


@pytest.fixture
def config(small_config):
    return small_config(model=own_network(SMALL), process=preset("digits", process="linear-velocity").process)


@pytest.mark.slow
def test_it_trains_goes_on_and_samples_as_any_other(config, tmp_path):
    whole, parts = (Run.create(config, tmp_path / name) for name in ("whole", "parts"))
    train(whole)
    half = Run.create(replace(config, steps=5), tmp_path / "parts")
    train(half)
    train(parts)
    tensors = [run.checkpoints.load(10)["model"] for run in (whole, parts)]
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    assert not torch.equal(tensors[0]["blocks.0.mlp.weight"], whole.new_model().blocks[0].mlp.weight)
    assert sample(whole, num_images=4, guidance=1.5, **{"sampler.steps": 2}).images.shape == (4, 8, 8, 1)


def test_all_it_draws_follows_from_the_seed_and_nothing_else_is_drawn_from(config):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, same, other = (build(config.model, own_networks.DIGITS, generator("init", seed)) for seed in (0, 0, 1))
    assert torch.equal(one.position, same.position) and not torch.equal(one.position, other.position)
    assert torch.equal(torch.get_rng_state(), before)


def test_it_is_counted_on_itself(config):
    network = own_networks.small()
    assert num_parameters(config.model, own_networks.DIGITS) == sum(p.numel() for p in network.parameters())
    in_tokens = 2 * 64 * (8 + 8 + 2 * 2 * 64)
    assert flops(config.model, own_networks.DIGITS) == in_tokens + 2 * (8 + 2 * 8 * 48)
    assert next(skeleton(config.model, own_networks.DIGITS).parameters()).is_meta


def test_no_file_brings_its_code_along(config, tmp_path, monkeypatch):
    run = Run.create(config, out=tmp_path / "run")
    row = to_dict(config)
    row["model"]["factory"] = "code_of_a_stranger:run"
    (tmp_path / "code_of_a_stranger.py").write_text("raise SystemExit('imported')")
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    stranger = Run(tmp_path / "other", from_dict(row))
    for opened in (stranger, Run(stranger.path, pickle.loads(pickle.dumps(stranger.config)))):
        with pytest.raises(ValueError, match="no file brings code along; expected --model code_of_a_stranger:run"):
            opened.new_model()
    assert "code_of_a_stranger" not in sys.modules
    monkeypatch.setattr(own_config, "_factories", {})
    with pytest.raises(ValueError, match=f"expected --model {SMALL} in this command as well"):
        Run.open(run.path).new_model()
    own_network(SMALL)
    Run.open(run.path).new_model()


def test_where_its_module_may_bring_the_layout_the_option_is_named(config, monkeypatch):
    with pytest.raises(UnknownLayout, match="no layout; ways on"), naming_factory(config.model):
        raise UnknownLayout("no layout", "ways on: --family")
    monkeypatch.setattr(own_config, "_factories", {})
    said = f"^no layout; the network is made by '{SMALL}', .*: expected --model {SMALL} in this command as well$"
    with pytest.raises(ValueError, match=said), naming_factory(config.model):
        raise UnknownLayout("no layout", "ways on: --family")


def test_what_was_named_here_is_named_in_the_processes_that_are_started(config, monkeypatch):
    sent = pickle.dumps(config)
    monkeypatch.setattr(own_config, "_factories", {})
    assert pickle.loads(sent) == config
    assert own_config._factories == {SMALL: own_networks.small}


def test_other_code_is_another_run_and_is_said_where_one_is_opened(config, tmp_path):
    config = replace(config, model=replace(config.model, source="0123456789"))
    with noting((lines := []).append):
        run = Run.create(config, out=tmp_path / "run")
    caveat = run.check_fits().caveat
    assert set(lines) == {f"the file of {SMALL!r} has changed since this run was begun", caveat}
    with pytest.raises(ValueError, match=r"has another config: model\.source: 0123456789 -> "):
        Run.create(replace(config, model=own_network(SMALL)), out=run.path)


def test_it_has_the_name_of_its_factory_for_commands_and_programs(config):
    assert model_name(config.model) == SMALL
    assert model_named("tiny") == preset("digits").model
    assert preset("digits", model=SMALL).model == config.model


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("nowhere_at_all:small", "'nowhere_at_all:small' is not there: ModuleNotFoundError"),
        ("helpers.own_networks:smal", "no 'smal' in 'helpers.own_networks' (nearest: 'small')"),
        ("helpers.own_networks:NUMBER", "is a int; expected a function"),
        ("helpers.own_networks:", "expected module:function"),
        ("helpers.own_networks:no_module", "made a DataSpec; expected an nn.Module"),
        ("helpers.own_networks:fails", "RuntimeError: no weights"),
        ("helpers.own_networks:without_null_class", "labels up to 9, 10 for the null class"),
        ("helpers.own_networks:with_variance", "gave (2, 2, 8, 8); expected a tensor (2, 1, 8, 8)"),
        ("helpers.own_networks:in_pairs", "gave a tuple; expected a tensor (2, 1, 8, 8)"),
        ("helpers.own_networks:with_batch_norm", "changes its buffer 'blocks.0.attn.1.running_mean'"),
        ("helpers.own_networks:of_no_modulation", "no modulation among these tensors"),
        ("helpers.own_networks:of_unknown_names", "'inner.blocks.0.squish.1.weight'"),
        ("helpers.own_networks:of_unknown_names", "of_unknown_names --discover --out own_networks.toml, then, in the"),
        (f"{SMALL} --scheme adaln-gaussian-blockwise", "of 28 blocks one by one, the model has 2"),
        (f"{SMALL} --process ddpm", "the process needs 2 output(s) per channel, the model gives 1"),
        (f"{SMALL} --model.factory os:remove", "expected --model os:remove in this command as well"),
        (f"{SMALL} --model.class-dropout-prob 2", "class_dropout_prob is 2"),
    ],
)
def test_what_does_not_fit_is_one_line_before_anything_is_written(words, said, tmp_path, capsys):
    out = tmp_path / "run"
    process = [] if "--process" in words else ["--process", "linear-velocity"]
    with pytest.raises(SystemExit) as stop:
        main(["train", "digits", *process, "--model", *words.split(), "--steps", "1", "--out", str(out)])
    line = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 2 and said in line and line.startswith("adaln: error: ")
    assert not out.exists()


@pytest.mark.slow
def test_commands_open_its_run_where_they_name_its_factory(config, tmp_path, capsys, monkeypatch):
    run = Run.create(config, out=tmp_path / "run")
    train(run)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(own_config, "_factories", {})
    for verb in ("audit", "report", "order"):
        main([verb, "run", "--model", SMALL])
    main(["order", SMALL, "--size", "8", "--channels", "1", "--num-classes", "10", "--out", "order"])
    assert "page is" in capsys.readouterr().out
