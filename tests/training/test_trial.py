"""A step is timed of the network itself, before anything is begun."""

from dataclasses import replace

import pytest
import torch

from adaln.config import digits, imagenet_256
from adaln.processes import PROCESSES
from adaln.specs import DataSpec
from adaln.training.trial import seconds_per_image
from helpers.networks import DIGITS

CPU = torch.device("cpu")


@pytest.mark.parametrize("process", ["ddpm", "linear-velocity"])
def test_a_small_network_is_timed_the_way_that_it_is_trained(process):
    config = replace(
        digits(), process=PROCESSES[process], model=replace(digits().model, drop_variance=process != "ddpm")
    )
    narrow, wide = (replace(config, model=config.model.resized(hidden_size=width)) for width in (16, 256))
    assert 0 < seconds_per_image(narrow, DIGITS, CPU) < seconds_per_image(wide, DIGITS, CPU) < 10


def test_what_is_too_large_to_be_made_for_that_is_not():
    assert seconds_per_image(imagenet_256(), DataSpec(4, 32, 32, 1_000), CPU) is None
