"""The callback of Hugging Face's Trainer by itself, without the library."""

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest

from adaln.models import DiTConfig, build
from adaln.rng import generator
from helpers.networks import DIGITS


@pytest.fixture
def trainer_watch(monkeypatch):
    library = ModuleType("transformers")
    library.TrainerCallback = object
    monkeypatch.setitem(sys.modules, "transformers", library)
    monkeypatch.delitem(sys.modules, "adaln.watching.of_transformers", raising=False)
    from adaln.watching.of_transformers import TrainerWatch

    yield TrainerWatch
    sys.modules.pop("adaln.watching.of_transformers", None)


def train(callback, steps, begun=0):
    net, state = build(DiTConfig(16, 1, 2, 4), DIGITS, generator("trainer")), SimpleNamespace(global_step=begun)
    callback.on_train_begin(None, state, None, model=net)
    for _ in range(steps):
        callback.on_optimizer_step(None, state, None)
        state.global_step += 1
        callback.on_log(None, state, None, logs={"loss": float(steps)})


def test_what_begins_again_from_zero_after_an_exception_begins_anew_in_its_folder(tmp_path, trainer_watch):
    callback = trainer_watch(tmp_path / "w", every=1)
    train(callback, 3)  # and memory ran out: a smaller batch is tried
    train(callback, 2)
    callback.on_train_end(None, None, None)
    folder = tmp_path / "w"
    recorded = [json.loads(line)["step"] for line in (folder / "analysis" / "roles.jsonl").read_text().splitlines()]
    losses = [tuple(json.loads(line).values()) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert recorded == [0, 1, 2] and losses == [(1, 2.0), (2, 2.0)]
    with pytest.raises(ValueError, match="holds records up to step 2; expected step=N"):
        train(callback, 1)  # another training, after one that came to its end
