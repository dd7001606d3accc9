import pytest
import torch

from adaln.conditioning import standard_inputs
from helpers.zoo import SLOW, ZOO, zoo_network

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:In CPU autocast"),  # diffusers' own
    pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile"),
]


def first_tensor(output):
    """Of an output of several parts; a ControlNet gives one for every block."""
    while not isinstance(output, torch.Tensor):
        output = next(iter(output.values() if isinstance(output, dict) else output))
    return output


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in ZOO])
def test_a_network_runs_on_the_inputs_made_for_its_class(name):
    model = zoo_network(name)
    with torch.no_grad():
        output = first_tensor(model(**standard_inputs(model)))
    assert len(output) == (1 if name == "Cosmos3OmniTransformer" else 4)  # whose batch is one packed sequence
    assert output.isfinite().all()
