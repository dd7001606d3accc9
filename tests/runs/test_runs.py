import json
import resource
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adaln.analysis.audit import audit
from adaln.analysis.fit import fit
from adaln.conditioning import SCHEMES
from adaln.config import OptimConfig, Schedule
from adaln.data import DataConfig
from adaln.evaluation.samples import named_reference
from adaln.files import atomic_folder, write_atomically
from adaln.processes import PROCESSES
from adaln.runs import Run, append_record, is_run, read_records
from adaln.runs.folders import config_hash
from adaln.tensor_files import load_tensors, save_tensors
from adaln.training import train
from adaln.training.resume import exclusive, resume_or_start
from adaln.types import NonFinite
from adaln.views.snapshots import open_snapshots


def test_a_run_is_found_by_name_and_hash(small_config, tmp_path):
    config = small_config()
    run = Run.create(config, tmp_path)
    assert run.path == tmp_path / f"small-{config_hash(config)}"
    assert Run.open(run.path).config == config


def test_the_manifest_holds_what_a_number_depends_on(trained):
    manifest = trained.manifest
    session = manifest["sessions"][0]
    assert {"adaln", "commit", "torch", "device", "num_threads", "precision", "execution"} <= session.keys()
    assert manifest["data"]["fingerprint"] == trained.dataset.fingerprint
    assert manifest["data"]["spec"] == {"channels": 1, "height": 8, "width": 8, "num_classes": 10}
    assert manifest["parameters"]["trained"] == sum(p.numel() for p in trained.new_model().parameters())


def test_resume_with_another_config_names_the_fields(trained, small_config, tmp_path):
    changed = small_config(optim=OptimConfig(lr=0.5), scheme=SCHEMES["adaln-mix"])
    with pytest.raises(ValueError, match=r"another config: .*optim\.lr: 0\.004 -> 0\.5; .*scheme\.name"):
        Run.create(changed, out=trained.path)
    assert Run.open(trained.path).config == trained.config


@pytest.mark.slow
def test_a_shorter_run_is_the_first_steps_of_a_longer_one(trained, small_config, tmp_path):
    longer = Run.create(small_config(steps=12), out=trained.path)
    train(longer)
    assert longer.steps_saved() == [5, 10, 12]
    assert Run.create(small_config(steps=12), tmp_path).path.name == Run.create(small_config(), tmp_path).path.name
    at_once = Run.create(small_config(steps=12), tmp_path)
    train(at_once)
    for step in (10, 12):
        one, other = (load_tensors(run.folder(step) / "training.safetensors") for run in (at_once, longer))
        assert all(torch.equal(one[name], other[name]) for name in one.keys() | other.keys())


def test_asking_for_fewer_steps_than_there_are_trains_nothing_and_forgets_nothing(trained, small_config):
    train(Run.create(small_config(steps=12), out=trained.path))
    shorter = Run.create(small_config(), out=trained.path)
    train(shorter)
    assert (shorter.config.steps, Run.open(trained.path).config.steps) == (10, 12)
    assert shorter.steps_saved() == [5, 10, 12]


def test_steps_to_keep_are_saved_and_kept(small_config, tmp_path):
    run = Run.create(small_config(checkpoint_every=2, keep_checkpoints=1, keep_at=(3, 4)), tmp_path)
    train(run)
    assert run.steps_saved() == [3, 4, 10]


def test_changed_data_is_refused(trained):
    manifest = trained.manifest
    manifest["data"]["fingerprint"] = "0" * 64
    write_atomically(trained.path / "manifest.json", json.dumps(manifest))
    with pytest.raises(ValueError, match="began with data 000000000000"):
        resume_or_start(Run.open(trained.path))


def test_the_newest_complete_checkpoint_wins(trained):
    cut = trained.folder(10) / "ema.safetensors"
    cut.write_bytes(cut.read_bytes()[:-7])
    assert trained.steps_saved() == [5]
    assert resume_or_start(trained).step == 5
    train(trained)  # writes the broken one again
    assert trained.steps_saved() == [5, 10]


def test_a_checkpoint_of_another_network_lists_what_does_not_fit(trained, small_config, tmp_path):
    wider = Run.create(small_config(model=replace(trained.config.model, hidden_size=32)), tmp_path / "wider")
    train(wider)
    for file in wider.folder(10).iterdir():
        (trained.folder(10) / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match=r"does not fit the model: of another shape blocks"):
        trained.averaged_model()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_averaged_weights_that_are_not_finite_are_named(trained, value):
    file = trained.folder(10) / "ema.safetensors"
    tensors = load_tensors(file)
    tensors["blocks.1.mlp.fc1.weight"] = tensors["blocks.1.mlp.fc1.weight"].index_fill(0, torch.tensor(2), value)
    save_tensors(file, tensors)
    with pytest.raises(NonFinite, match=r"000000010/ema.safetensors: 'blocks.1.mlp.fc1.weight' is not finite"):
        trained.averaged_model()


def test_only_the_newest_checkpoints_are_kept(small_config, tmp_path):
    run = Run.create(small_config(checkpoint_every=2, keep_checkpoints=2), tmp_path)
    train(run)
    assert run.steps_saved() == [8, 10]


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    target = tmp_path / "checkpoints" / "000000005"
    with pytest.raises(RuntimeError), atomic_folder(target) as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_record_that_a_full_disk_cuts_is_taken_back(tmp_path):
    file = tmp_path / "analysis" / "roles.jsonl"
    file.parent.mkdir()
    append_record(file, {"step": 1})
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 20, old[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            append_record(file, {"step": 2, "records": ["long"] * 100})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    append_record(file, {"step": 3})
    assert read_records(file) == [{"step": 1}, {"step": 3}]


@pytest.mark.slow
def test_a_full_disk_while_saving_leaves_the_last_checkpoint(small_config, tmp_path):
    """The limit on file sizes stands in for a full disk: both make the write fail half-way."""
    run = Run.create(small_config(), tmp_path)
    largest = 64 * 1024
    old = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(step, model):
        if step == 6:
            while run.steps_saved() != [5]:  # it is written beside the training
                time.sleep(0.01)
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest // 64, old[1]))

    try:
        with pytest.raises(OSError, match="cannot write"):
            train(run, [fill])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert run.steps_saved() == [5]
    assert [p.name for p in (run.path / "checkpoints").iterdir()] == ["000000005"]
    train(run)
    assert run.steps_saved() == [5, 10]


def test_a_folder_that_is_no_run_names_the_nearest(trained):
    name = trained.path.name
    with pytest.raises(ValueError, match=rf"is not a run \(no config\.json\) \(nearest: '.*{name}'\)"):
        Run.open(trained.path.parent / name[:-1])


@pytest.mark.parametrize("content", ['{"_class_name": "DiTTransformer2DModel"}', "{}", "[]", "null", "{", "\xff"])
def test_a_folder_whose_config_has_no_scheme_is_no_run(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    assert not is_run(tmp_path)


def test_a_run_is_one_from_its_config_on(small_config, tmp_path):
    run = Run.create(small_config(), tmp_path)
    assert is_run(run.path) and is_run(str(run.path))
    assert not any(is_run(path) for path in (tmp_path, run.path / "config.json", tmp_path / "nowhere"))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
def test_a_damaged_config_is_one_line_of_whoever_looks_at_the_run(trained, content):
    (trained.path / "config.json").write_bytes(content)
    for look in (Run.open, audit, fit, open_snapshots, lambda path: named_reference(str(path), None)):
        with pytest.raises(ValueError, match=r"/config\.json' is not the config of a run: "):
            look(trained.path)


def test_a_config_cut_short_is_of_a_run_before_its_first_checkpoint(small_config, tmp_path):
    file = Run.create(small_config(), tmp_path).path / "config.json"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ValueError, match="is not the config of a run"):
        audit(file.parent)


def test_a_diffusers_folder_is_called_one(tmp_path):
    (tmp_path / "config.json").write_text('{"_class_name": "DiTTransformer2DModel"}')
    with pytest.raises(ValueError, match="it is a diffusers model, not a run"):
        Run.open(tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("warmup_steps", 1.5, "^optim.schedule.warmup_steps is 1.5; expected an integer$"),
        ("decay", "lineer", r"^optim.schedule.decay is 'lineer'; expected .* \(nearest: 'linear'\)$"),
    ],
)
def test_what_could_not_be_opened_again_is_not_begun(small_config, tmp_path, field, value, said):
    schedule = Schedule(decay="linear", decay_end=4)
    object.__setattr__(schedule, field, value)  # types are checked while tests run, not for a user
    with pytest.raises(ValueError, match=said):
        Run.create(small_config(optim=OptimConfig(schedule=schedule)), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_cannot_train_one_run(trained, monkeypatch):
    monkeypatch.setattr("adaln.files.PATIENCE_SECONDS", 0)
    with exclusive(trained), pytest.raises(ValueError, match="being trained by another process"):  # noqa: SIM117
        with exclusive(Run.open(trained.path)):
            pass


def test_a_model_that_does_not_fit_is_refused_before_anything_is_written(small_config, tmp_path):
    cases = (
        small_config(process=PROCESSES["linear-velocity"]),
        small_config(model=replace(small_config().model, patch_size=3)),
        small_config(scheme=SCHEMES["adaln-gaussian-blockwise"]),
    )
    for config in cases:
        with pytest.raises(ValueError) as error:
            Run.create(config, tmp_path / "runs")
        assert "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_a_torn_last_line_of_metrics_is_left_out(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert read_records(file) == [{"step": 1}, {"step": 2}]
    assert read_records(Path("nowhere.jsonl")) == []


def test_sampling_needs_no_data(trained, monkeypatch):
    monkeypatch.setattr("adaln.runs.run.load", lambda config: pytest.fail("data was loaded"))
    run = Run.open(trained.path)
    model, step = run.averaged_model()
    assert step == 10
    assert not any(p.requires_grad for p in model.parameters())


def test_an_unsaved_step_lists_what_there_is(trained):
    with pytest.raises(ValueError, match=r"no complete checkpoint at step 7; it has: \[5, 10\]"):
        trained.averaged_model(7)


@pytest.mark.parametrize("manifest", [None, "{}", '{"data": {}}'])
def test_the_data_of_a_run_without_a_fingerprint_of_it_is_not_called_its_own(trained, manifest):
    file = trained.path / "manifest.json"
    file.unlink() if manifest is None else file.write_text(manifest)
    with pytest.raises(ValueError, match=r"manifest\.json has no fingerprint of the run's data"):
        _ = Run.open(trained.path).dataset


def test_a_run_that_holds_pictures_out_is_another_run_and_says_how_many(trained, small_config, tmp_path):
    config = small_config(steps=1, data=DataConfig(held_out=0.2))
    run = Run.create(config, tmp_path)
    train(run)
    data, split = run.manifest["data"], run.dataset.split
    assert data["held_out"]["num_images"] == len(split.held_out) == sum(data["held_out"]["class_counts"]) > 0
    assert data["fingerprint"] == trained.dataset.fingerprint and "held_out" not in trained.manifest["data"]
    with pytest.raises(ValueError, match=r"another config: data\.held_out: absent -> 0\.2"):
        Run.create(config, out=trained.path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"step": 4}', "it has no 'loss'"),
        ('{"step": 4, "loss": 1.0}', "it has no 'grad_norm'"),
        ('{"step": 4, "loss": "x", "grad_norm": 1.0}', "loss is 'x'; expected a number"),
        ('{"step": 4.5, "loss": 1.0, "grad_norm": 1.0}', "step is 4.5; expected an integer"),
        ('{"loss": 1.0, "grad_norm": 1.0}', "it has no 'step'"),
        ("[4]", "whole, see line 2"),
    ],
)
def test_a_line_of_metrics_without_a_number_is_named(small_config, tmp_path, line, said):
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 2, "loss": 1.0, "grad_norm": 2.0}}\n{line}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl' is not whole, see line 2") as caught:
        Run(tmp_path, small_config()).metrics()
    assert said in str(caught.value)


@pytest.mark.parametrize("field", ["data", "parameters", "sessions"])
@pytest.mark.parametrize("value", [None, "x", 3])
def test_a_manifest_with_something_else_in_a_field_is_named(small_config, tmp_path, field, value):
    (tmp_path / "manifest.json").write_text(json.dumps({field: value}))
    with pytest.raises(ValueError, match=rf"manifest\.json' is not the manifest of a run: {field} is"):
        _ = Run(tmp_path, small_config()).manifest
