from math import sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from adaln.analysis import (
    Group,
    checkpoints,
    distances,
    gate_sizes,
    interpolate,
    observe,
    permute_role,
)
from adaln.conditioning import SCHEMES, Role, find_sites, initialise
from adaln.config import RunConfig
from adaln.models import MODELS, build
from adaln.processes import PROCESSES
from adaln.rng import generator
from adaln.runs import Run
from adaln.runs.checkpoints import FILES
from helpers.networks import DIGITS


def network(scheme: str, seed: int = 0, name: str = "tiny") -> torch.nn.Module:
    net = build(MODELS[name], DIGITS, generator("weight space test"))
    initialise(net, SCHEMES[scheme], generator("weight space test", "start", seed))
    return net


def weights(scheme: str, seed: int = 0) -> dict[str, torch.Tensor]:
    return {name: tensor.detach() for name, tensor in network(scheme, seed).state_dict().items()}


def test_checkpoints_of_a_run_are_those_that_are_complete(tmp_path):
    run = Run(tmp_path, RunConfig("test", MODELS["tiny"], SCHEMES["adaln-zero"], PROCESSES["ddpm"]))
    for step, files in ((5, FILES), (10, FILES), (15, FILES[:1])):
        run.folder(step).mkdir(parents=True)
        for file in files:
            save_file({"w": torch.full((2,), float(step))}, run.folder(step) / file)
    found = checkpoints(run, "model")
    assert {step: file["w"].tolist() for step, file in found.items()} == {5: [5.0, 5.0], 10: [10.0, 10.0]}


def test_distances_are_those_of_the_rows_side_by_side():
    a, b = weights("adaln-gaussian", 0), weights("adaln-gaussian", 1)
    found = {distance.group: distance for distance in distances(a, b)}
    gates = [site for site in find_sites(a) if site.role is Role.GATE]
    x, y = (torch.cat([t[s.weight][s.rows].flatten() for s in gates]).double() for t in (a, b))
    gate = found[Group("gate")]
    assert gate.mean_absolute == pytest.approx(float((x - y).abs().mean()), rel=1e-12)
    assert gate.mean_absolute == pytest.approx(1e-3 * 2 / sqrt(torch.pi), rel=0.01)  # of two independent normals
    assert gate.euclidean == pytest.approx(float((x - y).norm()), rel=1e-12)
    assert gate.relative == pytest.approx(sqrt(2), rel=0.02)
    assert gate.cosine == pytest.approx(0, abs=0.02)
    assert found[Group("attention")].euclidean == 0
    assert found[Group("attention")].cosine == pytest.approx(1)
    assert (found[Group("final head")].relative, found[Group("final head")].cosine) == (None, None)


def test_models_of_another_shape_are_refused_by_the_tensor_that_differs():
    a = weights("adaln-zero")
    with pytest.raises(ValueError, match=r"'blocks\.3\..*' is in one of the two models only"):
        distances(a, {name: t for name, t in a.items() if not name.startswith("blocks.3.")})
    wider = {**a, "final_layer.linear.weight": torch.zeros(3, 64)}
    with pytest.raises(ValueError, match=r"'final_layer\.linear\.weight' has shapes"):
        interpolate(a, wider, 0.5)


@settings(deadline=None, max_examples=30)
@given(st.floats(0, 1))
def test_interpolation_meets_both_ends_exactly_and_is_straight(weight):
    a = {"w": torch.randn(50, generator=generator("line", 0)), "step": torch.tensor(3)}
    b = {"w": torch.randn(50, generator=generator("line", 1)), "step": torch.tensor(9)}
    assert torch.equal(interpolate(a, b, 0.0)["w"], a["w"])
    assert torch.equal(interpolate(a, b, 1.0)["w"], b["w"])
    assert int(interpolate(a, b, weight)["step"]) == 3
    expected = (1 - weight) * a["w"].double() + weight * b["w"].double()
    torch.testing.assert_close(interpolate(a, b, weight)["w"].double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "U-DiT-tiny", "tiny-SE", "tiny-shared"])
@pytest.mark.parametrize("role", Role)
def test_permuting_a_role_keeps_every_histogram_and_moves_nothing_else(name, role):
    net, other = network("adaln-gaussian", name=name), network("adaln-gaussian", name=name)
    for model in (net, other):
        rng = generator("weight space test", "every value its own")
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, generator=rng)
    permute_role(other, role, seed=3)
    before, after = (dict(n.named_parameters()) for n in (net, other))
    for a, b in zip(observe(0, before), observe(0, after), strict=True):
        assert a.histogram == b.histogram
    touched = {s.tensors()[0] for s in find_sites(before) if s.role is role and s.branch != "final"}
    for tensor, value in before.items():
        assert torch.equal(value, after[tensor]) == (tensor not in touched)
    for site in find_sites(before):
        same = torch.equal(before[site.tensors()[0]][site.rows], after[site.tensors()[0]][site.rows])
        assert same == (site.role is not role or site.branch == "final")


def test_permutation_depends_on_its_seed_alone():
    nets = [network("adaln-gaussian") for _ in range(3)]
    for net, seed in zip(nets, (1, 1, 2), strict=True):
        permute_role(net, Role.GATE, seed)
    first, again, other = (net.get_parameter("blocks.0.adaLN_modulation.1.weight") for net in nets)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", ["tiny", "U-DiT-tiny", "tiny-SE", "DiT-LLaMA-tiny"])
def test_gates_that_are_held_at_one_measure_one_everywhere(name):
    net, (x, y) = network("adaln", name=name), (torch.zeros(2, 1, 8, 8), torch.tensor([1, 2]))
    found = gate_sizes(net, x, [0, 500, 999], y)
    assert len(found) == 3 * sum(site.role is Role.GATE for site in find_sites(dict(net.named_parameters())))
    assert {(size.mean_absolute, size.rms) for size in found} == {(1.0, 1.0)}
    assert [size.t for size in found] == sorted(size.t for size in found)
    depths = [size.depth for size in found if size.t == 0]
    assert depths == sorted(depths)


def test_gate_sizes_are_those_of_the_modulation_and_depend_on_time():
    net, (x, y) = network("adaln-gaussian"), (torch.zeros(3, 1, 8, 8), torch.tensor([0, 4, 9]))
    conditions = []
    handle = net.blocks[2].adaLN_modulation.register_forward_pre_hook(lambda _, inputs: conditions.append(inputs[0]))
    found = {(s.block, s.branch, s.t): s for s in gate_sizes(net, x, [0, 999], y)}
    handle.remove()
    alpha = net.blocks[2].adaLN_modulation(conditions[1])[..., 5 * 64 : 6 * 64].detach()
    size = found["blocks.2", "mlp", 999.0]
    assert size.mean_absolute == pytest.approx(float(alpha.abs().mean()), rel=1e-5)
    assert size.rms == pytest.approx(float(alpha.square().mean().sqrt()), rel=1e-5)
    assert found["blocks.2", "mlp", 0.0].rms != size.rms


def test_gates_of_a_shared_modulation_add_their_tables():
    net, (x, y) = network("adaln-zero", name="tiny-shared"), (torch.zeros(2, 1, 8, 8), torch.tensor([1, 2]))
    with torch.no_grad():
        net.blocks[1].scale_shift_table[2] = 0.25  # attention's gate
    found = {(size.block, size.branch): size.rms for size in gate_sizes(net, x, [10], y)}
    assert found["blocks.1", "attn"] == pytest.approx(0.25)
    assert found["blocks.1", "mlp"] == found["blocks.0", "attn"] == 0
