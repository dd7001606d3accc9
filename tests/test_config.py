import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from adaln.codec import canonical_json
from adaln.conditioning import SCHEMES
from adaln.config import (
    PRESETS,
    OptimConfig,
    Schedule,
    differing_fields,
    digits,
    from_dict,
    preset,
    to_dict,
)
from adaln.data import PUBLISHED_SETS
from adaln.models import MODELS
from adaln.processes import PROCESSES, InterpolantConfig
from adaln.runs.folders import config_hash


@pytest.mark.parametrize("model", ["tiny", "U-DiT-tiny", "DiT-LLaMA-tiny", "SiT-tiny"])
@pytest.mark.parametrize("process", ["ddpm", "linear-velocity"])
def test_configs_round_trip_through_json(model, process):
    config = replace(digits(), model=MODELS[model], process=PROCESSES[process], scheme=SCHEMES["adaln-mix"])
    assert from_dict(json.loads(canonical_json(to_dict(config)))) == config


def test_the_hash_follows_content_not_the_name():
    config = digits()
    assert config_hash(config) == config_hash(replace(config, name="other"))
    assert config_hash(config) != config_hash(replace(config, seed=1))
    renamed = replace(config, scheme=replace(config.scheme, gate=SCHEMES["adaln-gaussian"].gate))
    assert config_hash(config) != config_hash(renamed)


def test_differences_name_the_leaf_and_both_values():
    config = digits()
    changed = replace(config, optim=replace(config.optim, lr=0.5), scheme=SCHEMES["adaln-mix"])
    assert differing_fields(config, changed) == ["optim.lr: 0.004 -> 0.5", "scheme.name: adaln-zero -> adaln-mix"]
    assert differing_fields(config, config) == []


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_are_valid_and_round_trip(name):
    config = PRESETS[name]()
    assert from_dict(to_dict(config)) == config
    assert config.model.outputs_per_channel == config.process.outputs_per_channel


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("optim", "lrr"), 1, r"unknown field 'lrr' of optim \(nearest: 'lr'\)"),
        (("model", "kind"), "DiTConfg", r"unknown model kind 'DiTConfg' \(nearest: 'DiTConfig'\)"),
        (("optim", "lr"), -1.0, "expected a number > 0"),
        (("optim", "lr"), "fast", "^optim.lr is 'fast'; expected a number$"),
        (("optim", "betas"), [0.9], r"^optim.betas is \[0.9\]; expected a list of 2, each a number$"),
        (("optim", "grad_clip"), True, "^optim.grad_clip is True; expected a number or null$"),
        (("data", "on_bad_image"), "skp", r"expected 'stop' or 'skip' \(nearest: 'skip'\)$"),
        (("steps",), 1.5, "^steps is 1.5; expected an integer$"),
        (("process",), 3, "^process is 3; expected a table with a kind: GaussianConfig, InterpolantConfig$"),
        (("scheme", "gate", "weight", "std"), "wide", "^scheme.gate.weight.std is 'wide'; expected a number$"),
        (("steps",), 0, "expected an integer >= 1"),
        (("seed",), -1, "^seed is -1; expected an integer >= 0$"),
        (("keep_at",), [4, -4], r"^keep_at is \(4, -4\); expected steps, 0 or more$"),
        (("keep_checkpoints",), -1, "^keep_checkpoints is -1; expected an integer >= 0$"),
        (("optim", "lr"), float("inf"), "^optim.lr is inf; expected a number > 0$"),
        (("optim", "betas"), [0.9, 1.0], r"^optim.betas is \(0.9, 1.0\); expected 0 <= beta < 1$"),
        (("optim", "weight_decay"), float("nan"), "^optim.weight_decay is nan; expected a number >= 0$"),
        (("optim", "grad_clip"), 0, "^optim.grad_clip is 0; expected a number > 0 or none$"),
        (("optim", "grad_clip"), float("inf"), "^optim.grad_clip is inf; expected a number > 0 or none$"),
        (("optim", "ema_decay"), float("nan"), "^optim.ema_decay is nan; expected 0 <= decay < 1$"),
    ],
)
def test_a_wrong_field_is_named(path, value, said):
    row = to_dict(replace(digits(), scheme=SCHEMES["adaln-gaussian"]))
    inner = row
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(ValueError, match=said):
        from_dict(row)


def test_published_protocol_is_the_default_of_the_optimiser():
    optim = OptimConfig()
    assert (optim.lr, optim.betas, optim.weight_decay, optim.ema_decay) == (1e-4, (0.9, 0.999), 0.0, 0.9999)


@pytest.mark.parametrize("name", ["imagenet-256", "imagenet-512", "tiny-imagenet", "afhq", "celeba-hq"])
def test_presets_of_published_sets_follow_the_papers_protocol(name):
    config = PRESETS[name]()
    assert (config.model, config.process) == (MODELS["DiT-XL/2"], PROCESSES["ddpm"])
    assert (config.batch_size, config.model.class_dropout_prob) == (256, 0.1)
    assert (config.optim.lr, config.optim.ema_decay, config.optim.weight_decay) == (1e-4, 0.9999, 0.0)
    assert config.steps == (400_000 if name.startswith("imagenet") else 50_000)
    layout = PUBLISHED_SETS[config.data.path]
    assert (config.data.size, config.data.flip) == (layout.size, True)


HASHES = json.loads((Path(__file__).parent / "goldens" / "hashes.json").read_text())
"""Hashes of 0.1.0 (commit ab29aad) by preset and scheme, then by what `changed` changes."""


def changed(config):
    """A config and a few others."""
    sit = next(model for model in MODELS.values() if model.outputs_per_channel == 1)
    others = {"batch_size": 8, "precision": "bfloat16", "seed": 7, "log_every": 3}
    return {
        "": config,
        "optim": replace(config, optim=OptimConfig(1e-3, (0.8, 0.95), 0.1, 1.0, 0.5)),
        "flow": replace(config, model=sit, process=PROCESSES["linear-velocity"]),
        "run": replace(config, **others, keep_checkpoints=0, keep_at=(2, 5)),
        "data": replace(config, data=replace(config.data, path="elsewhere", flip=not config.data.flip)),
    }


@pytest.mark.parametrize("name", list(HASHES))
def test_runs_of_0_1_0_are_found_by_the_hash_they_have(name):
    preset, scheme = name.split()
    configs = changed(replace(PRESETS[preset](), scheme=SCHEMES[scheme]))
    assert {what: config_hash(config) for what, config in configs.items()} == HASHES[name]


def test_a_schedule_is_part_of_what_is_computed_and_none_leaves_no_trace():
    constant = digits()
    scheduled = replace(constant, optim=replace(constant.optim, schedule=Schedule(warmup_steps=10)))
    assert "schedule" not in to_dict(constant)["optim"]
    assert config_hash(scheduled) != config_hash(constant)
    assert from_dict(json.loads(canonical_json(to_dict(scheduled)))) == scheduled
    assert differing_fields(constant, scheduled)[-1] == "optim.schedule.warmup_steps: absent -> 10"


def test_a_preset_takes_names_and_dotted_changes():
    config = preset("digits", model="SiT-tiny", process="linear-velocity", scheme="adaln", **{"optim.lr": 1e-3})
    assert (config.model, config.process) == (MODELS["SiT-tiny"], PROCESSES["linear-velocity"])
    assert (config.scheme, config.optim.lr, config.optim.ema_decay) == (SCHEMES["adaln"], 1e-3, 0.99)


def test_the_order_of_changes_decides_nothing():
    whole, part = {"model": "SiT-tiny"}, {"model.depth": 3}
    expected = replace(MODELS["SiT-tiny"], depth=3)
    assert preset("digits", **whole, **part).model == preset("digits", **part, **whole).model == expected


def test_changes_may_be_of_numpy_and_paths_and_of_the_name():
    config = preset("digits", name="here", steps=np.int64(3), **{"optim.lr": np.float32(0.5), "data.path": Path("a")})
    assert (config.name, config.steps, config.optim.lr, config.data.path) == ("here", 3, 0.5, "a")
    assert [type(value) for value in (config.steps, config.optim.lr)] == [int, float]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"step": 3}, r"unknown field 'step' of RunConfig \(nearest: 'steps'\)"),
        ({"steps": "many"}, r"steps is 'many'; expected an integer"),
        ({"optim.lr": print}, r"optim.lr: cannot write a builtin_function_or_method as JSON"),
        ({"steps.more": 3}, r"steps has no fields; got 'steps.more'"),
        ({"scheme": "adaln-zro"}, r"unknown scheme 'adaln-zro' \(nearest: 'adaln-zero'\)"),
    ],
)
def test_a_change_that_does_not_belong_is_refused_in_one_line(changes, line):
    with pytest.raises(ValueError, match=line):
        preset("digits", **changes)


@dataclass(frozen=True)
class OwnProcess(InterpolantConfig):
    pass


def test_a_class_that_nobody_registered_is_not_written():
    with pytest.raises(ValueError, match="process is a OwnProcess; expected one of a kind that is registered"):
        to_dict(replace(digits(), process=OwnProcess()))


def test_a_kind_that_nobody_has_is_refused_with_the_nearest():
    row = to_dict(digits())
    row["model"] = {**row["model"], "kind": "DiTConfg"}
    with pytest.raises(ValueError, match=r"unknown model kind 'DiTConfg' \(nearest: 'DiTConfig'\)"):
        from_dict(row)
