"""`adaln.initialise` on networks that are not ours."""

import copy
from itertools import permutations

import pytest
import torch
from torch import nn

import adaln
from adaln.conditioning import SCHEMES, Role, UnknownLayout, find_layout, find_sites, scheme, standard_inputs
from adaln.rng import generator
from helpers.foreign import CONFIGS, foreign
from helpers.zoo import UNMODULATED, ZOO, zoo_network


def parameters(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def rows(tensors, role, final=False):
    sites = [s for s in find_sites(tensors) if s.role is role and (s.branch == "final") == final and s.weight]
    return torch.cat([tensors[s.weight][s.rows].flatten() for s in sites]) if sites else torch.zeros(0)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_every_known_network_takes_the_papers_start(name):
    model = foreign(name)
    before = parameters(model)
    sites = adaln.initialise(model)
    after = parameters(model)
    for role in Role:
        values = rows(after, role)
        if len(values):
            # the std of n draws is known to 1 / sqrt(2n); four of these
            assert values.std().item() == pytest.approx(1e-3, rel=4 / (2 * len(values)) ** 0.5), role
        assert not rows(after, role, final=True).any()
    touched = {tensor for site in sites for tensor in site.tensors()} | set(find_layout(before).head)
    assert {key for key in before if not torch.equal(before[key], after[key])} <= touched


@pytest.mark.parametrize("name", list(CONFIGS))
def test_a_started_foreign_network_predicts_exactly_zero(name):
    model = foreign(name)
    with torch.no_grad():
        before = model(**standard_inputs(model), return_dict=False)[0]
        adaln.initialise(model, "adaln-zero")
        after = model(**standard_inputs(model), return_dict=False)[0]
    assert before.any()
    assert not after.any()


NEVER_CLOSED = {
    "HunyuanDiT2DModel": "skips between its halves",
    "OmniGenTransformer2DModel": "no block is modulated",
    "RFD4ProteinaTransformer": "gates that are sigmoids",
    **{name: "blocks that give projections" for name in ZOO if name.startswith(("ZImageC", "CosmosC"))},
    "WanVACETransformer3DModel": "blocks of the control signal take the image up",
    "StableAudio3DiTModel": "gates that are sigmoids",
    **dict.fromkeys(UNMODULATED, "no modulation"),
    "ChromaTransformer2DModel": "roles that another network makes",
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:In CPU autocast")  # diffusers' own
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("name", [name for name in ZOO if name not in NEVER_CLOSED])
def test_closed_blocks_give_back_the_streams_that_enter_them(name):
    network = zoo_network(name)
    blocks, closed = adaln.initialise(network, "adaln-zero").layout.blocks, set()

    def watch(block, args, kwargs, output):
        streams = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor) and value.ndim > 2]
        tokens = [stream for stream in streams if stream.ndim == 3]
        pairs = [pair for pair in permutations(tokens, 2) if pair[0].shape[::2] == pair[1].shape[::2]]
        came = [*streams, *(torch.cat(pair, dim=1) for pair in pairs)]  # blocks of one stream take both
        outputs = output if isinstance(output, tuple) else (output,)
        if all(any(torch.equal(left, x) for x in came) for left in outputs if left is not None):
            closed.add(block)

    for block in blocks:
        network.get_submodule(block).register_forward_hook(watch, with_kwargs=True)
    with torch.no_grad():
        network(**standard_inputs(network))
    assert closed == {network.get_submodule(block) for block in blocks}


def test_a_start_is_its_seed_whatever_wraps_the_network():
    plain, wrapped, other = foreign("SD3"), nn.Sequential(), foreign("SD3")
    wrapped.module = foreign("SD3")
    adaln.initialise(plain, "adaln-gaussian-v2", seed=3)
    adaln.initialise(wrapped, SCHEMES["adaln-gaussian-v2"], seed=3)
    adaln.initialise(other, "adaln-gaussian-v2", seed=4)
    assert all(torch.equal(p, wrapped.module.get_parameter(name)) for name, p in plain.named_parameters())
    assert not torch.equal(plain.norm_out.linear.weight, foreign("SD3").norm_out.linear.weight)
    first = "transformer_blocks.0.norm1.linear.weight"
    assert not torch.equal(plain.get_parameter(first), other.get_parameter(first))


def test_a_start_is_the_same_in_half_precision_up_to_its_rounding():
    half = foreign("Flux guided").bfloat16()
    adaln.initialise(half, "adaln-gaussian")
    full = foreign("Flux guided")
    adaln.initialise(full, "adaln-gaussian")
    assert all(torch.equal(p, full.get_parameter(name).bfloat16()) for name, p in half.named_parameters())


def test_adaln_without_gate_holds_every_gate_at_one_in_foreign_networks():
    model = foreign("SD3.5")
    adaln.initialise(model, "adaln")
    tensors = parameters(model)
    gates = [site for site in find_sites(tensors) if site.role is Role.GATE]
    assert all((tensors[s.bias][s.rows] == 1).all() and not tensors[s.weight][s.rows].any() for s in gates)


class NoShift(nn.Module):
    """The modulation layers of LightningDiT without shift."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        block = nn.ModuleDict({"adaLN_modulation": nn.Sequential(nn.SiLU(), nn.Linear(width, 4 * width))})
        self.blocks = nn.ModuleList([block, copy.deepcopy(block)])


def test_an_ambiguous_network_needs_its_family():
    with pytest.raises(UnknownLayout, match="name the family"):
        adaln.initialise(NoShift())
    model = NoShift()
    adaln.initialise(model, "adaln-gaussian:1e-3,2e-3,2e-3", family="LightningDiT-no-shift")
    scale, gate = model.blocks[1].adaLN_modulation[1].weight.chunk(4)[:2]
    assert scale.std().item() == pytest.approx(2e-3, rel=0.1)
    assert gate.std().item() == pytest.approx(1e-3, rel=0.1)


def test_a_network_without_modulation_is_refused_untouched():
    model = nn.Sequential(nn.Linear(4, 4))
    before = parameters(model)
    with pytest.raises(UnknownLayout, match=r"^no modulation among these tensors; expected"):
        adaln.initialise(model)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_a_network_without_memory_is_refused_by_the_name_of_a_tensor():
    with pytest.raises(ValueError, match=r"'\S+' is on the meta device, where nothing is kept; expected a network in"):
        adaln.initialise(foreign("DiT").to("meta"))


def test_an_unknown_scheme_is_one_line():
    with pytest.raises(ValueError, match="nearest: 'adaln-gaussian'"):
        adaln.initialise(foreign("DiT"), "adaln-gausian")


def test_the_library_start_is_the_start_of_a_run():
    model, twin = foreign("DiT"), foreign("DiT")
    adaln.initialise(model, "adaln-step1", seed=5)
    adaln.initialise(twin, scheme("adaln-step1"), generator("scheme", 5))
    assert all(torch.equal(p, twin.get_parameter(name)) for name, p in model.named_parameters())


@pytest.mark.parametrize(
    ("name", "start", "said"),
    [
        ("AuraFlow", "adaln", "starts the gate by its bias, 'joint_transformer_blocks.0.norm1.linear.weight' has none"),
        ("PixArt-sigma", "adaln-final-shift", "starts the final shift, the model has no matrix for it"),
        ("Lumina 2", "adaln-final-shift", "starts the final shift, the model has no matrix for it"),
        ("Flux", "adaln-gaussian-blockwise", "of 28 blocks one by one, the model has 13"),
    ],
)
def test_what_a_network_has_no_place_for_is_refused_before_anything_is_drawn(name, start, said):
    model = foreign(name)
    before = parameters(model)
    with pytest.raises(ValueError, match=said):
        adaln.initialise(model, start)
    assert all(torch.equal(p, before[key]) for key, p in model.named_parameters())
