import diffusers
import pytest
import torch

from adaln.conditioning import standard_inputs
from helpers import zoo_others
from helpers.zoo_joint import JOINT
from helpers.zoo_tables import TABLES

ZOO = JOINT | TABLES
SLOW = {"Kandinsky6SRTransformer3DModel", "Lumina2Transformer2DModel wide"}
OTHERS = [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in zoo_others.CONFIGS]
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:In CPU autocast"),  # diffusers' own
    pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile"),
]


def first_tensor(output):
    """Of an output of several parts; a ControlNet gives one for every block."""
    while not isinstance(output, torch.Tensor):
        output = next(iter(output.values() if isinstance(output, dict) else output))
    return output


@pytest.mark.parametrize("name", ZOO)
def test_a_network_runs_on_the_inputs_made_for_its_class(name):
    network = getattr(diffusers, name.split()[0])(**ZOO[name]).eval()
    with torch.no_grad():
        output = first_tensor(network(**standard_inputs(network)))
    assert len(output) == 4 and output.isfinite().all()


@pytest.mark.parametrize("name", OTHERS)
def test_a_network_of_no_lineage_runs_on_the_inputs_made_for_its_class(name):
    network = zoo_others.network(name)
    with torch.no_grad():
        assert first_tensor(network(**standard_inputs(network))).isfinite().all()
