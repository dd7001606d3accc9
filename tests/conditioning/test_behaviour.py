"""Rows shown by what networks do, not by names and shapes: each is followed to the tokens that it moves."""

from dataclasses import replace

import diffusers
import pytest
import torch
from torch import nn

from adaln.analysis.live import observe
from adaln.conditioning import SCHEMES, Role, find_layout, initialise, standard_inputs
from adaln.models import MODELS, build
from adaln.rng import generator
from helpers.mechanisms import EVERY_MECHANISM, MECHANISMS
from helpers.networks import DIGITS
from helpers.zoo import SLOW, ZOO, zoo_network

OWN = ["tiny", "tiny-SE", "tiny-shared", "U-DiT-tiny"]
QUICK = ["SD3Transformer2DModel", "WanTransformer3DModel", "Lumina2Transformer2DModel"]
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:In CPU autocast"),  # diffusers' own
    pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile"),
]
IDLE = {
    "SanaWMLTX2RefinerTransformer3DModel": "audio",  # of LTX-2 it runs the half that makes pictures
    "ZImageTransformer2DModel patches": "all_final_layer.4-1",  # of two patch sizes one runs at a time
}
"""Networks of which some rows meet no tokens, and a word of the names of those."""
PROJECTING = ("WanVACE", "ZImageControlNet", "CosmosControlNet")
"""Of these some blocks give projections for another network, closed or not."""


def network(name: str) -> nn.Module:
    """One of ours with open gates, or one of diffusers as it starts there."""
    if name in ZOO:
        return zoo_network(name)
    if name in EVERY_MECHANISM:
        return mechanism(name)
    model = build(MODELS[name], DIGITS, generator("behaviour", 0))
    initialise(model, SCHEMES["adaln-step1"], generator("behaviour", 1))
    return model


def mechanism(name: str) -> nn.Module:
    """One of ours of which all rows act."""
    model, rng = build(EVERY_MECHANISM[name], DIGITS, generator("behaviour", 0)), generator("behaviour", 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=rng), alpha=0.1)
    return model


def check_rows_do_what_their_layout_says(name: str) -> None:
    model = network(name)
    layout = find_layout(model)
    if not layout.sites:
        assert layout.family.generated_by or layout.family.class_names
        return
    for site, effects in observe(model, standard_inputs(model), layout).roles:
        idle = IDLE.get(name, "\0") in f"{site.branch} {site.tensors()[0]}"
        assert effects == ({(site.role, site.function)} if not idle else set()), site


@pytest.mark.parametrize(
    "name",
    [
        *OWN,
        *(pytest.param(name, marks=[pytest.mark.slow] * name.startswith("U-DiT")) for name in MECHANISMS),
        *QUICK,
    ],
)
def test_rows_do_what_their_layout_says(name):
    check_rows_do_what_their_layout_says(name)


@pytest.mark.nightly
def test_rows_of_every_mechanism_do_what_their_layout_says():
    for name in EVERY_MECHANISM:
        check_rows_do_what_their_layout_says(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ZOO if name not in QUICK])
def test_rows_of_every_network_of_diffusers_do_what_their_layout_says(name):
    check_rows_do_what_their_layout_says(name)


def test_every_class_of_diffusers_has_been_looked_at():
    """A class that diffusers gains is a failure here until it stands in the zoo, with rows or without."""
    rooms = (diffusers.models.transformers, diffusers.models.controlnets)
    classes = [cls for room in rooms for cls in vars(room).values() if isinstance(cls, type)]
    networks = {cls.__name__ for cls in classes if issubclass(cls, diffusers.ModelMixin)}
    of_unets = {
        "ControlNetXSAdapter",
        "ControlNetModel",
        "ControlNetUnionModel",
        "SparseControlNetModel",
        "UNetControlNetXSModel",
    }
    several_in_one = {name for name in networks if "Multi" in name}
    assert len(networks) > 80
    assert sorted(networks - {name.split()[0] for name in ZOO} - of_unets - several_in_one) == []


def test_the_check_sees_rows_that_do_something_else():
    model = zoo_network("SD3Transformer2DModel")
    layout = find_layout(model)
    lines = list(layout.family.layers)
    final = next(line for line in lines if line.name == "norm_out.linear")
    lines[lines.index(final)] = replace(final, rows="final: shift scale")
    wrong = find_layout(model, replace(layout.family, layers=tuple(lines)))
    seen = [(site, effects) for site, effects in observe(model, standard_inputs(model), wrong).roles]
    assert [site.role for site, effects in seen if (site.role, "") not in effects] == [Role.SHIFT, Role.SCALE]


@pytest.mark.parametrize("name", ["SD3Transformer2DModel", "tiny-shared", "SanaTransformer2DModel"])
def test_the_check_leaves_the_network_as_it_was(name):
    model = network(name).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    observe(model, standard_inputs(model))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())


def check_closed_blocks_are_identities(name: str) -> None:
    model = network(name)
    try:
        initialise(model, "adaln-zero")
    except ValueError as refusal:
        assert any(word in str(refusal) for word in ("closed nowhere", "no modulation", "nothing can be started"))
        return
    layout = find_layout(model)
    if any(site.role is Role.GATE for site in layout.sites):
        assert observe(model, standard_inputs(model), layout).identities in (True, None)


@pytest.mark.parametrize("name", ["PixArtTransformer2DModel", "SkyReelsV2Transformer3DModel", "tiny", "U-DiT-tiny"])
def test_zero_closes_every_block_or_is_refused(name):
    check_closed_blocks_are_identities(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ZOO if name not in SLOW and not name.startswith(PROJECTING)])
def test_zero_closes_every_block_of_diffusers_or_is_refused(name):
    check_closed_blocks_are_identities(name)


@pytest.mark.parametrize("name", ["PixArtTransformer2DModel", "FluxTransformer2DModel", "LatteTransformer3DModel"])
def test_depth_is_the_order_in_which_a_network_runs_its_blocks(name):
    model = zoo_network(name)
    layout = find_layout(model)
    by_depth = [site.block for site in layout.sites if site.is_of_one_block]
    called: list[str] = []
    for block in dict.fromkeys(by_depth):
        model.get_submodule(block).register_forward_hook(lambda *_, block=block: called.append(block))
    model(**standard_inputs(model))
    assert called == list(dict.fromkeys(by_depth))
