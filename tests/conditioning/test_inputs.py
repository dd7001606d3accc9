import diffusers
import pytest
import torch

from adaln.conditioning import standard_inputs
from helpers.zoo_joint import JOINT
from helpers.zoo_tables import TABLES

ZOO = JOINT | TABLES


@pytest.mark.filterwarnings("ignore:`\\w+` is deprecated", "ignore:In CPU autocast")  # diffusers' own
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("name", ZOO)
def test_a_network_runs_on_the_inputs_made_for_its_class(name):
    network = getattr(diffusers, name.split()[0])(**ZOO[name]).eval()
    with torch.no_grad():
        output = network(**standard_inputs(network))
    while not isinstance(output, torch.Tensor):  # an output of several parts; a ControlNet gives one for every block
        output = output[0]
    assert len(output) == 4 and output.isfinite().all()
