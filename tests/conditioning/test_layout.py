import pytest

from adaln.conditioning import find_layout
from helpers.zoo import UNMODULATED, zoo_network


@pytest.mark.filterwarnings("ignore::FutureWarning")  # diffusers' own
@pytest.mark.parametrize("name", UNMODULATED)
def test_a_network_without_modulation_is_known_by_its_class_and_no_name_in_it_is_suspicious(name):
    model = zoo_network(name)
    layout = find_layout(model)
    assert layout.family_name and not layout.sites
    assert not find_layout(dict(model.named_parameters())).sites


def test_experts_in_one_tensor_are_of_the_backbone_and_end_a_branch():
    layout = find_layout(zoo_network("NucleusMoEImageTransformer2DModel"))
    experts = "transformer_blocks.3.img_mlp.experts."
    assert {f"{experts}gate_up_proj", f"{experts}down_proj"} <= set(layout.backbone)
    assert f"{experts}down_proj" in layout.branch_ends and f"{experts}gate_up_proj" not in layout.branch_ends
