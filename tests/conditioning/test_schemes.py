import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from adaln.analysis.live import branch_energies
from adaln.codec import decode, encode
from adaln.conditioning import (
    PARAMETRIC,
    SCHEMES,
    Constant,
    Normal,
    Role,
    Scheme,
    Start,
    find_layout,
    find_sites,
    initialise,
    num_held,
    save_scheme,
    scheme,
    standard_inputs,
)
from adaln.models import MODELS, DiTConfig, build
from adaln.rng import generator
from adaln.types import DataSpec
from helpers.networks import DIGITS

FOR_ANY_DEPTH = [name for name, row in SCHEMES.items() if "blockwise" not in name and not row.needs]
ZERO_HEAD = [name for name in FOR_ANY_DEPTH if SCHEMES[name].head == Start()]


def snapshot(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def values(model, role, branch=("attn", "mlp")):
    tensors = snapshot(model)
    sites = [site for site in find_sites(tensors) if site.role is role and site.branch in branch]
    return torch.cat([tensors[site.weight][site.rows].flatten() for site in sites])


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(list(SCHEMES)),
    modulation=st.sampled_from(["linear", "se", "shared"]),
    depth=st.sampled_from([1, 3]),
    width=st.sampled_from([16, 32]),
)
def test_initialise_changes_nothing_but_what_the_scheme_names(name, modulation, depth, width):
    row = SCHEMES[name]
    if "blockwise" in name:
        depth, modulation = 28, "linear"
    assume(not row.needs or (row.needs == "tables" and modulation == "shared"))
    model = build(DiTConfig(width, depth, 4, 2, modulation=modulation), DIGITS, generator("test", 1))
    before = snapshot(model)
    sites = initialise(model, row, generator("scheme", 1))
    named = {tensor for site in sites for tensor in site.tensors()} | set(find_layout(before).head)
    for what in ("backbone", "branch_ends", "embedders", "static_gates"):
        named |= set(getattr(find_layout(before), what)) if getattr(row, what) else set()
    changed = {tensor for tensor, p in model.named_parameters() if not torch.equal(p, before[tensor])}
    assert changed <= named


@pytest.mark.slow
@pytest.mark.parametrize("name", FOR_ANY_DEPTH)
def test_every_scheme_starts_every_family(any_model, name):
    assert find_layout(any_model).embedders, "which dit-mup starts"
    sites = initialise(any_model, SCHEMES[name], generator("scheme", 0))
    assert sites
    assert all(bool(torch.isfinite(p).all()) for p in any_model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", ZERO_HEAD)
def test_a_zeroed_head_gives_output_exactly_zero(any_model, name):
    initialise(any_model, SCHEMES[name], generator("scheme", 0))
    x = torch.randn(2, 1, 8, 8, generator=generator("x"))
    output = any_model(x, torch.tensor([3, 700]), torch.tensor([1, 10]))
    assert torch.equal(output, torch.zeros_like(output))


def test_adaln_has_no_gate_in_effect(any_model):
    """With the gate rows held at (0, 1) the gate is the constant 1 for every condition: x + 1 * f(x)."""
    initialise(any_model, SCHEMES["adaln"], generator("scheme", 0))
    tensors = snapshot(any_model)
    c = torch.randn(5, 1024, generator=generator("c"))
    tables = any(site.weight is None for site in find_sites(tensors))
    for site in find_sites(tensors):
        if site.role is not Role.GATE:
            continue
        gate = torch.zeros(())
        if site.weight:
            weight = tensors[site.weight][site.rows]
            gate = c[:, : weight.shape[1]] @ weight.T
        if site.bias and not (tables and site.weight):
            gate = gate + tensors[site.bias][site.rows]
        if tables and site.weight:
            assert torch.equal(gate, torch.zeros_like(gate))
            assert torch.equal(tensors[site.bias][site.rows], torch.zeros_like(tensors[site.bias][site.rows]))
        else:
            assert torch.equal(gate, torch.ones_like(gate))


def test_adaln_counts_four_of_six_modulation_rows():
    config = MODELS["DiT-S/2"]
    with torch.device("meta"):
        model = build(config, DataSpec(4, 32, 32, 1000), torch.Generator())
    tensors = dict(model.named_parameters())
    width, depth = config.hidden_size, config.depth
    assert num_held(tensors, SCHEMES["adaln"]) == depth * 2 * (width * width + width)
    assert all(num_held(tensors, SCHEMES[name]) == 0 for name in SCHEMES if name != "adaln")


@pytest.mark.parametrize(
    ("name", "gate", "scale", "shift"),
    [
        ("adaln-zero", 0, 0, 0),
        ("adaln-step1-gaussian", 1e-3, 0, 0),
        ("adaln-gaussian", 1e-3, 1e-3, 1e-3),
        ("adaln-gaussian-v2", 8e-4, 1.2e-3, 8e-4),
        ("adaln-gaussian:5e-2", 5e-2, 5e-2, 5e-2),
        ("adaln-gaussian:8e-4,1.6e-3,4e-4", 8e-4, 1.6e-3, 4e-4),
        ("adaln-gaussian:1e-3,0,0", 1e-3, 0, 0),
    ],
)
def test_standard_deviations_are_the_papers(model, name, gate, scale, shift):
    initialise(model, scheme(name), generator("scheme", 0))
    for role, std in ((Role.GATE, gate), (Role.SCALE, scale), (Role.SHIFT, shift)):
        assert values(model, role).std().item() == pytest.approx(std, rel=0.03)
    assert not values(model, Role.SCALE, ("final",)).any()


def test_step1_gates_are_what_dits_own_constructor_leaves(model):
    """Xavier uniform over the fused (6D, D) matrix: bound sqrt(6/(7D))."""
    initialise(model, SCHEMES["adaln-step1"], generator("scheme", 0))
    reference = torch.nn.init.xavier_uniform_(torch.empty(6 * 64, 64), generator=generator("reference"))
    gate = values(model, Role.GATE)
    assert gate.abs().max().item() == pytest.approx((6 / (7 * 64)) ** 0.5, rel=1e-3)
    assert gate.abs().max() <= (6 / (7 * 64)) ** 0.5
    assert gate.std().item() == pytest.approx(reference.std().item(), rel=0.03)
    assert not values(model, Role.SCALE).any() and not values(model, Role.SHIFT).any()


def test_what_was_started_beside_modulation_and_head_is_said(model):
    assert "; started attention and MLP matrices (16 tensors)" in str(initialise(model, SCHEMES["dit-mup"]))
    assert "; started what embeds patches and times (3 tensors)" in str(initialise(model, SCHEMES["dit-mup"]))
    assert "started the branches' last matrices (8 tensors)" in str(initialise(model, SCHEMES["gpt2-residual"]))
    assert "; " not in str(initialise(model, SCHEMES["torch-default"]))


def test_gpt2s_branches_are_narrower_by_the_root_of_their_number(model):
    ends = find_layout(model).branch_ends
    initialise(model, SCHEMES["gpt2-residual"], generator("scheme", 0))
    for name in ends:
        tensor = model.get_parameter(name)
        xavier = (2 / sum(tensor.shape)) ** 0.5
        assert tensor.std().item() == pytest.approx(xavier / len(ends) ** 0.5, rel=0.03)
    assert all((model.get_parameter(s.bias)[s.rows] == 1).all() for s in find_sites(model) if s.role is Role.GATE)


def test_torchs_default_is_that_of_a_fresh_linear_map(model):
    initialise(model, SCHEMES["torch-default"], generator("scheme", 0))
    layer = model.final_layer.adaLN_modulation[1]
    fresh = torch.nn.Linear(layer.in_features, layer.out_features)
    for ours, theirs in ((layer.weight, fresh.weight), (layer.bias, fresh.bias)):
        assert ours.abs().max() <= layer.in_features**-0.5
        assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.15)


def test_final_shift_and_backbone_gaussians(model):
    initialise(model, scheme("adaln-final-shift:0.004"), generator("scheme", 0))
    assert values(model, Role.SHIFT, ("final",)).std().item() == pytest.approx(4e-3, rel=0.05)
    initialise(model, scheme("adaln-backbone:0.03"), generator("scheme", 0))
    tensors = snapshot(model)
    assert all(tensors[name].std().item() == pytest.approx(0.03, rel=0.05) for name in find_layout(tensors).backbone)


@pytest.mark.slow
def test_branches_that_end_at_zero_add_nothing_though_their_gates_are_open(any_model):
    open_gate = Start(Constant(0.0), Constant(1.0), opens=None)
    row = Scheme("zero-ends", gate=open_gate, branch_ends=Constant(0.0))
    initialise(any_model, replace(row, branch_ends=None), generator("scheme", 0))
    before = snapshot(any_model)
    assert all(energy.ratio > 0 for energy in branch_energies(any_model, standard_inputs(any_model)))
    initialise(any_model, row, generator("scheme", 0))
    assert all(energy.ratio == 0 for energy in branch_energies(any_model, standard_inputs(any_model)))
    changed = {name for name, p in any_model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == set(find_layout(before).branch_ends) and len(changed) < len(find_layout(before).backbone)


def test_a_row_without_branch_ends_is_written_as_before_there_were_any():
    assert "branch_ends" not in encode(SCHEMES["adaln-zero"])
    row = Scheme("ends", branch_ends=Constant(0.5))
    assert decode(Scheme, encode(row)) == row


def stds(starts):
    return [start.weight.std for start in starts]


def test_blockwise_readings_differ_in_the_exchanged_normalisers():
    """Over 28 blocks the printed polynomials average 427.9, 175.8 (gamma) and 434.0 (beta)."""
    consistent, printed = SCHEMES["adaln-gaussian-blockwise"], SCHEMES["adaln-gaussian-blockwise-as-printed"]
    mean_peak = {role: sum(1 / std for std in stds(getattr(consistent, role))) / 28 for role in ("scale", "shift")}
    assert 1 / mean_peak["scale"] == pytest.approx(1.2e-3, rel=0.01)  # harmonic mean: the base, as the text says
    assert 1 / mean_peak["shift"] == pytest.approx(8e-4, rel=0.03)
    assert stds(printed.scale)[0] == pytest.approx(stds(consistent.scale)[0] * 444.8248 / 175.0044)
    assert stds(printed.shift)[0] == pytest.approx(stds(consistent.shift)[0] * 175.0044 / 444.8248)
    assert printed.gate == consistent.gate
    assert stds(consistent.gate)[0] == pytest.approx(8e-4 / (485.897902 / 449.9321))


def test_blockwise_first_and_last_block_follow_the_printed_polynomial():
    """Evaluated independently, power by power, at block 27."""
    powers = (
        -2.49635921e-6,
        1.24680129e-4,
        1.17149262e-3,
        -0.170585560,
        3.63484494,
        -29.4971466,
        67.4700382,
        485.897902,
    )
    peak = sum(p * 27.0 ** (7 - i) for i, p in enumerate(powers))
    assert stds(SCHEMES["adaln-gaussian-blockwise"].gate)[27] == pytest.approx(8e-4 / (peak / 449.9321), rel=1e-9)


def test_half_variants_fix_the_gate():
    for reading in ("", "-as-printed"):
        half = SCHEMES[f"adaln-gaussian-blockwise-half{reading}"]
        assert half.gate == Start(Normal(8e-4))
        assert half.scale == SCHEMES[f"adaln-gaussian-blockwise{reading}"].scale


def test_blockwise_refuses_another_depth(model):
    before = snapshot(model)
    with pytest.raises(ValueError, match="28 blocks one by one, the model has 4"):
        initialise(model, SCHEMES["adaln-gaussian-blockwise"], generator("scheme", 0))
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize("name", list(SCHEMES))
def test_schemes_round_trip_through_files(tmp_path, name):
    file = tmp_path / "mine.json"
    save_scheme(SCHEMES[name], file)
    assert scheme(str(file)) == SCHEMES[name]
    assert decode(Scheme, json.loads(json.dumps(encode(SCHEMES[name])))) == SCHEMES[name]


def test_a_toml_file_gives_roles_and_blocks(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        '[gate]\nweight = {kind = "laplace", std = 2e-3}\nopens = 5\n'
        '[[scale]]\nweight = {kind = "normal", std = 1e-3}\n[[scale]]\nbias = {kind = "constant", value = 0.5}\n'
    )
    row = scheme(str(file))
    assert row.name == "mine"
    assert row.gate.opens == 5
    assert row.scale == (Start(Normal(1e-3)), Start(bias=Constant(0.5)))
    assert row.shift == Start()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "mine.json"),
        ("[1]", "expected a table"),
        ('{"gaet": {}}', "unknown field 'gaet' of Scheme \\(nearest: 'gate'\\)"),
        ('{"gate": {"wieght": {}}}', "nearest: 'weight'"),
        ('{"gate": {"opens": -1}}', "gate: opens is -1; expected a step >= 0"),
        ('{"gate": 3}', "gate is 3; expected a table of weight, bias, opens or a list"),
        ('{"head": [{}]}', "head is .*; expected a table of weight"),
        ('{"scale": []}', "scale has no start"),
        ('{"scale": [{}, {"opens": "never"}]}', "scale.opens is 'never'; expected an integer or null"),
        ('{"gate": {"weight": {"kind": "normal", "std": -1}}}', "gate.weight: std is -1; expected a number >= 0"),
        ('{"order_of": "adaln-zro"}', "nearest: 'adaln-zero'"),
        ('{"backbone": {"kind": "normal"}}', "backbone lacks std"),
    ],
)
def test_a_wrong_file_is_named_in_one_line(tmp_path, text, said):
    file = tmp_path / "mine.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=said) as error:
        scheme(str(file))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("adaln-zro", "nearest: 'adaln-zero'"),
        ("adaln-gausian:1e-3", "nearest: 'adaln-gaussian'"),
        ("adaln-gaussian:wide", "takes 1 standard deviation, or 3 of gate, scale and shift, >= 0, e.g."),
        ("adaln-gaussian:1e-3,1e-3", "takes 1 standard deviation, or 3 of gate"),
        ("adaln-gaussian:-1", ">= 0"),
        ("adaln-backbone:1,2", "takes 1 standard deviation"),
        ("default:1,2", "default takes 1 factor >= 0, e.g. 'default:1e-3'"),
        ("layerscale:-1", "layerscale takes 1 value >= 0"),
        ("head-norml:1", "nearest: 'head-normal'"),
        ("nowhere.toml", "does not exist"),
    ],
)
def test_an_unknown_scheme_names_the_nearest(spec, said):
    with pytest.raises(ValueError, match=said):
        scheme(spec)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"gate": {"opens": 3}, "gate": {}}', "gate"),
        ('{"gate": {"opens": 3, "opens": 4}}', "opens"),
        ('{"scale": [{"weight": {"kind": "normal", "std": 1, "std": 2}}]}', "std"),
        ('{"note": "a", "note": "a"}', "note"),
    ],
)
def test_what_a_json_file_gives_twice_is_refused_by_name(tmp_path, text, name):
    file = tmp_path / "mine.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=f"mine.json' is not a scheme file: {name} is given twice"):
        scheme(str(file))


def test_a_path_is_a_scheme_file_whatever_it_is_called(tmp_path):
    save_scheme(SCHEMES["adaln-zero"], tmp_path / "mine.json")
    assert scheme(tmp_path / "mine.json") == scheme(str(tmp_path / "mine.json")) == SCHEMES["adaln-zero"]
    with pytest.raises(ValueError, match="scheme file 'adaln-zero' does not exist"):
        scheme(Path("adaln-zero"))
    for what in (None, 3, ["adaln"]):
        with pytest.raises(
            ValueError, match=f"scheme is a {type(what).__name__}; expected a name, name:std, a file or"
        ):
            scheme.__wrapped__(what)  # past the check of types, which a user does not have


def test_parametric_names_are_rows_too():
    assert set(PARAMETRIC) <= set(SCHEMES)
    assert all(isinstance(row, Scheme) and row.note for row in SCHEMES.values())


def test_a_scheme_file_is_the_old_one_or_the_next_never_half_of_it(tmp_path, monkeypatch):
    file = tmp_path / "mine.json"
    save_scheme(SCHEMES["adaln-zero"], file)
    whole, write = file.read_bytes(), Path.write_bytes

    def full_disk(path, content):
        write(path, content[: len(content) // 2])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="no space left"):
        save_scheme(SCHEMES["adaln"], file)
    assert file.read_bytes() == whole and list(tmp_path.iterdir()) == [file]
