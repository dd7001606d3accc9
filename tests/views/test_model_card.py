import shlex

import pytest

from adaln.cli.options import parse, take_preset
from adaln.cli.training import TrainOptions
from adaln.config import preset
from adaln.views.model_card import train_command


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("digits", {}),
        ("digits", {"scheme": "adaln-mix", "steps": 7, "optim.lr": 1e-3, "optim.betas": (0.9, 0.95)}),
        ("digits", {"model": "SiT-tiny", "process": "linear-velocity", "optim.grad_clip": 1.0, "seed": 3}),
        ("images-32", {"data.flip": False, "data.path": "my pictures", "optim.lr_of": ("gate=0.0003",)}),
    ],
)
def test_the_command_of_a_card_gives_the_config_again(name, changes):
    config = preset(name, **changes)
    adaln, train, *words = shlex.split(train_command(config))
    assert (adaln, train) == ("adaln", "train")
    word, base, rest = take_preset(words)
    assert parse(TrainOptions, "train", rest, TrainOptions(word, base)).config == config


def test_what_flags_cannot_say_has_no_command():
    config = preset("digits")
    assert train_command(preset("digits", **{"model.depth": 3})) == ""
    assert train_command(preset("digits", name="mine")) == ""
    assert train_command(preset("digits", scheme="adaln-gaussian:8e-4")) == "" and train_command(config)
