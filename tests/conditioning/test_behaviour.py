"""Layouts shown by what networks do, not by shapes: each site's rows are moved, and what moves with them is watched."""

from collections import defaultdict
from dataclasses import replace

import pytest
import torch
from torch import nn

from adaln.analysis.branches import observe_roles, passages, trace
from adaln.conditioning import SCHEMES, Role, find_sites, initialise, standard_inputs
from adaln.models import MODELS, build
from adaln.rng import generator
from helpers.foreign import CONFIGS, foreign
from helpers.networks import DIGITS

OWN = ["tiny", "tiny-SE", "tiny-shared", "U-DiT-tiny"]


def network(name: str) -> nn.Module:
    """One of ours with open gates, so that they can be seen, or one of diffusers as it starts there."""
    if name in CONFIGS:
        return foreign(name)
    model = build(MODELS[name], DIGITS, generator("behaviour", 0))
    initialise(model, SCHEMES["adaln-step1"], generator("behaviour", 1))
    return model


def sites_of(model: nn.Module) -> list:
    return find_sites(dict(model.named_parameters()))


def one_of_each(model: nn.Module) -> list:
    """The sites of the last block of every kind that has them: every layout once."""
    kinds = {(site.block.split(".")[0], site.branch, site.role): site for site in sites_of(model)}
    return list(kinds.values())


@pytest.mark.parametrize("name", [*CONFIGS, *OWN])
def test_rows_do_what_their_layout_says(name):
    model = network(name)
    sites = one_of_each(model)
    some = sites[::5] if name == "U-DiT-tiny" else sites  # 5 is prime to its 6 chunks: each comes up
    for site, role in observe_roles(model, standard_inputs(model), sites=some):
        assert role is site.role, site


def test_the_check_sees_rows_that_do_something_else():
    model = foreign("SD3")
    by_role = {(site.block, site.branch, site.role): site for site in sites_of(model)}
    exchanged = [
        replace(by_role["norm_out", "final", Role.SCALE], role=Role.SHIFT),
        replace(by_role["norm_out", "final", Role.SHIFT], role=Role.SCALE),
        replace(by_role["transformer_blocks.1", "attn", Role.GATE], branch="mlp"),
        replace(by_role["transformer_blocks.1", "context_mlp", Role.SHIFT], branch="mlp"),
    ]
    observed = [role for _, role in observe_roles(model, standard_inputs(model), sites=exchanged)]
    assert observed == [Role.SCALE, Role.SHIFT, Role.SCALE, Role.GATE]  # the third moves what enters the MLP


@pytest.mark.parametrize("name", ["SD3", "tiny-shared", "Sana"])
def test_the_check_leaves_the_network_as_it_was(name):
    model = network(name).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    observe_roles(model, standard_inputs(model), sites=sites_of(model)[:8])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())


def stream_of(passage, outputs: tuple) -> torch.Tensor:
    """The block's output that continues the passage's stream; Flux's single blocks split theirs in two."""
    whole = torch.cat(outputs, dim=1) if passage.site.branch == "attn_and_mlp" else None
    candidates = [whole] if whole is not None else [o for o in outputs if o.shape == passage.x.shape]
    return min(candidates, key=lambda output: (output - passage.x).norm())


@pytest.mark.parametrize("name", [*(name for name in CONFIGS if name != "HunyuanDiT"), *OWN])
def test_gated_branches_add_up_to_what_the_block_adds(name):
    """x_out = x_in + sum of gate * F: no gate, branch or stream is another's, and none is missing.

    Cross attention (PixArt, Sana) has no gate; AuraFlow adds its MLP only, to which the attention is an input.
    """
    model = network(name)
    inputs = standard_inputs(model)
    streams = defaultdict(list)
    for passage in passages(model, inputs):
        if not (name == "AuraFlow" and "attn" in passage.site.branch):
            streams[passage.site.block, "context" in passage.site.branch].append(passage)
    blocks = {block for block, _ in streams}
    cross = {f"{block}.attn2" for block in blocks} if name.startswith(("PixArt", "Sana")) else set()
    calls = trace(model, [*blocks, *cross], inputs)
    assert len(streams) > 1
    for (block, _), parts in streams.items():
        added = sum(passage.gate * passage.branch for passage in parts)
        if cross:
            added = added + calls[f"{block}.attn2"].outputs()[0]
        x_out = stream_of(parts[0], calls[block].outputs())
        assert added.norm() > 1e-3 * x_out.norm()
        torch.testing.assert_close(parts[0].x + added, x_out, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_depth_is_the_order_in_which_a_foreign_network_runs_its_blocks(name):
    model = foreign(name)
    by_depth = list(dict.fromkeys(site.block for site in sites_of(model) if site.role is not Role.GATE))
    modules = dict(model.named_modules())
    called = []
    for block in by_depth:
        if block in modules:
            modules[block].register_forward_hook(lambda *_, block=block: called.append(block))
    model(**standard_inputs(model))
    assert called == [block for block in by_depth if block in modules]
    assert len(called) >= len(by_depth) - 1  # PixArt's and Sana's last table belongs to no module
