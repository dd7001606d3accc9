"""What rows do is found by behaviour alone, in whatever form a network computes it."""

import pytest
import torch
from torch.nn import functional as F

from adaln.analysis.live import branch_energies
from adaln.analysis.probe import of_one_role, probe
from adaln.conditioning import VALUE_FUNCTIONS, Role, find_sites, initialise, standard_inputs
from adaln.models import MODELS, build
from adaln.rng import generator
from helpers.modulated import (
    BATCH,
    FORMS,
    TOKENS,
    BiasedScores,
    Block,
    D,
    Joint,
    JointNetwork,
    Lerped,
    Network,
    NoModulation,
    Odd,
    OfFunctions,
    PerFrame,
    PerToken,
    Pooled,
    Scalars,
    TabledNetwork,
    Uneven,
    inputs,
)
from helpers.networks import DIGITS


def said(seen):
    """Each tensor's rows in their order, with what they do."""
    words = {}
    for one in sorted(seen, key=lambda one: (one.tensor, one.rows.start)):
        word = one.role.name.lower() + (f"({one.function})" if one.function else "")
        words.setdefault(one.tensor, {})[one.rows.start, one.rows.stop] = word
    return {tensor: " ".join(rows.values()) for tensor, rows in words.items()}


SIX = "shift scale gate shift scale gate"


@pytest.mark.parametrize("form", FORMS)
def test_roles_are_seen_in_whatever_form_they_are_computed(form):
    seen = probe(Network(Block, form), inputs())
    assert said(seen) == {f"blocks.{i}.modulation.weight": SIX for i in range(2)}
    assert {(one.block, one.branch) for one in seen} == {(f"blocks.{i}", b) for i in range(2) for b in ("attn", "mlp")}
    assert {one.stream for one in seen} == {"x"}


def test_rows_may_stand_in_any_order():
    seen = probe(Network(Block, "fused", (1, 2, 0, 5, 3, 4)), inputs())
    assert said(seen)["blocks.0.modulation.weight"] == "gate shift scale scale gate shift"


@pytest.mark.parametrize("name", [name for name in VALUE_FUNCTIONS if name])
def test_what_a_value_goes_through_is_seen(name):
    function = VALUE_FUNCTIONS[name]
    seen = probe(Network(OfFunctions, function, function), inputs())
    gate = "gate" if name == "plain" else f"gate({name})"
    assert said(seen)["blocks.0.modulation.weight"] == f"scale({name}) {gate}"


def test_a_function_that_is_not_known_is_refused_by_the_name_of_the_layer():
    with pytest.raises(ValueError, match=r"blocks.0.modulation meets tokens in 'blocks.0' in a way"):
        probe(Network(OfFunctions, torch.atan, torch.tanh), inputs())


def test_an_operation_that_is_not_known_is_refused_too():
    with pytest.raises(ValueError, match=r"blocks.0.modulation meets tokens in 'blocks.0' in a way that is not known"):
        probe(Network(Lerped), inputs())


def test_one_number_may_stand_for_a_whole_branch():
    assert said(probe(Network(Scalars), inputs())) == {f"blocks.{i}.modulation.weight": "scale gate" for i in range(2)}


def test_streams_that_run_together_are_told_apart():
    text = torch.randn(BATCH, 2, D, generator=generator("probe", "text"))
    seen = probe(JointNetwork(Joint), inputs(text=text))
    expected = [(role, stream) for role in ("shift", "scale", "gate") for stream in ("x", "text")]
    rows = sorted((one for one in seen if one.block == "blocks.1"), key=lambda one: one.rows.start)
    assert [(one.role.name.lower(), one.stream) for one in rows] == expected
    assert {one.branch for one in seen} == {"attn"}


def test_chunks_may_be_of_unequal_width_and_gate_another_stream():
    text = torch.randn(BATCH, 2, 3 * D, generator=generator("probe", "text"))
    seen = probe(JointNetwork(Uneven), inputs(text=text))
    assert said(seen)["blocks.0.modulation.weight"] == "shift gate scale shift gate"
    assert {(one.rows.start, one.stream) for one in seen if one.role is Role.GATE} == {(D, "text"), (8 * D, "x")}


@pytest.mark.parametrize("shape", [(6, D), (1, 6, D), (6 * D,)])
@pytest.mark.parametrize("num_maps", [1, 2, 3])
def test_what_is_added_to_each_other_is_told_apart(shape, num_maps):
    model = TabledNetwork(shape, num_maps)
    seen = probe(model, inputs())
    tables = {f"blocks.{i}.table": SIX for i in range(2)} | {"last_table": "shift scale"}
    assert said(of_one_role(seen)) == tables | {f"maps.{i}.weight": SIX for i in range(num_maps)}
    blocks = [one.block for one in seen if one.tensor == "maps.0.weight" and one.rows.start == 0]
    assert blocks == ["blocks.0", "blocks.1"]  # what is shared acts in each
    row = next(one.rows for one in seen if one.tensor == "blocks.0.table" and one.role is Role.SCALE)
    assert row == (slice(D, 2 * D) if len(shape) == 1 else slice(1, 2))
    assert not model.blocks[0].table.any()


def test_an_embedding_that_is_added_to_a_whole_table_has_no_role_of_its_own():
    seen = probe(TabledNetwork((6, D), 1), inputs())
    roles = {one.role for one in seen if one.tensor == "t_embedder.linear_2.weight"}
    assert roles == {Role.SCALE, Role.SHIFT}


def test_rows_may_be_chosen_token_by_token():
    kinds = torch.arange(TOKENS).remainder(2).expand(2 * BATCH, TOKENS)
    seen = probe(PerToken(), inputs(kinds=kinds))
    assert said(seen) == {"modulation.weight": "scale gate scale gate"}


def test_what_only_looks_like_modulation_is_left_out():
    assert probe(NoModulation(), inputs()) == []
    assert probe(Network(BiasedScores), inputs()) == []


def test_times_of_frames_are_no_tokens():
    class OfFrames(Network):
        def forward(self, x, t):
            return super().forward(x, t.flatten(1))

    model = OfFrames(PerFrame)
    given = inputs(t=torch.rand(BATCH, 1, TOKENS, 1))
    assert said(probe(model, given)) == {f"blocks.{i}.modulation.weight": "scale gate" for i in range(2)}


def test_a_condition_may_depend_on_the_text():
    text = torch.randn(BATCH, 2, D, generator=generator("probe", "text"))
    assert said(probe(Pooled(), inputs(text=text))) == {"blocks.0.modulation.weight": SIX}


def test_low_rank_experts_heads_and_channels_first_are_followed():
    seen = said(probe(Network(Odd), inputs()))
    assert seen == {
        f"blocks.{i}.{name}.weight": rows
        for i in range(2)
        for name, rows in {"modulation.1": "scale gate", "head_gate": "gate", "conv_scale": "scale"}.items()
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_rows_of_other_precisions_are_read_too(dtype):
    model = Network(Block, "fused").to(dtype)
    given = {name: value.to(dtype) for name, value in inputs().items()}
    assert said(probe(model, given)) == {f"blocks.{i}.modulation.weight": SIX for i in range(2)}


def test_rows_are_read_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert said(probe(Network(Block), inputs())) == {f"blocks.{i}.modulation.weight": SIX for i in range(2)}


@pytest.mark.slow
def test_a_compiled_network_is_watched_uncompiled():
    seen = probe(torch.compile(Network(Block)), inputs())
    assert said(seen)["_orig_mod.blocks.0.modulation.weight"] == SIX


def test_only_the_layers_that_are_named_count():
    seen = probe(Network(Block), inputs(), ["blocks.1.modulation"])
    assert {one.tensor for one in seen} == {"blocks.1.modulation.weight"}


@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_as_it_was(fails):
    model = TabledNetwork((6, D), 2).train()
    model.blocks[1].eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, generator=generator("probe", "weights"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    given = inputs()
    if fails:
        model.last = None
        with pytest.raises(TypeError):
            probe(model, given)
    else:
        probe(model, given)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.blocks] == [True, False] and model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(given[name], value) for name, value in inputs().items())


def test_ratios_are_those_of_the_gates_and_the_stream_that_enters_the_block():
    model = Network(Block, num_blocks=1)
    given, kept = inputs(), {}
    seen = {one.branch: one for one in probe(model, given) if one.role is Role.GATE}
    model.blocks[0].register_forward_pre_hook(lambda _, args: kept.update(x=args[0], c=args[1]))
    for name in ("attn", "mlp"):
        model.blocks[0].get_submodule(name).register_forward_hook(lambda m, a, out, name=name: kept.update({name: out}))
    model(**given)
    gates = dict(zip(("attn", "mlp"), model.blocks[0].modulation(F.silu(kept["c"])).chunk(6, -1)[2::3], strict=True))
    for name in ("attn", "mlp"):
        ratio = (gates[name][:, None] * kept[name]).norm() / kept["x"].norm()
        assert seen[name].ratio == pytest.approx(ratio.item(), rel=1e-5)
        assert seen[name].open_ratio == pytest.approx((kept[name].norm() / kept["x"].norm()).item(), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "tiny-SE", "tiny-shared", "U-DiT-tiny"])
def test_our_networks_do_what_their_layouts_say(name):
    model = build(MODELS[name], DIGITS, generator("probe", 0))
    initialise(model, "adaln-gaussian")
    seen = probe(model, standard_inputs(model))
    sites = find_sites(model)
    assert {(s.weight or s.bias, s.rows.start, s.rows.stop, s.role) for s in sites} == {
        (one.tensor, one.rows.start, one.rows.stop, one.role) for one in seen
    }
    energies = {(e.block, e.branch): (e.ratio, e.open_ratio) for e in branch_energies(model, standard_inputs(model))}
    of_gates = {(one.block, one.branch): (one.ratio, one.open_ratio) for one in seen if one.role is Role.GATE}
    assert of_gates.keys() == energies.keys()
    assert all(of_gates[key] == pytest.approx(energies[key], rel=1e-5) for key in energies)
