"""Settings by role move exactly the weights of that role, and a run with them is resumed bit for bit."""

from dataclasses import replace

import pytest
import torch

from adaln.codec import decode, encode
from adaln.conditioning import ROLES, SCHEMES, find_layout, initialise, measure_order, roles_of
from adaln.config import OptimConfig
from adaln.models import MODELS, DiTConfig, LLaMAConfig, build, mup_factors
from adaln.rng import generator
from adaln.runs import Run
from adaln.training import TrainState, train
from adaln.types import as_rows
from helpers.networks import DIGITS
from helpers.runs import assert_same_bits, stop_after

CONFIG = DiTConfig(16, 2, 2, 2)
SPLIT = OptimConfig(
    lr=1e-2, lr_of=("gate=0.03", "head=0.002"), betas_of=("scale=0.5,0.9",), weight_decay_of=("backbone=0.1",)
)
MUON = OptimConfig(lr=1e-2, muon=("backbone", "gate"), weight_decay_of=("backbone=0.1",))


def network(config=CONFIG):
    return build(config, DIGITS, generator("optimizer"))


def gradients(model, step):
    for index, parameter in enumerate(model.parameters()):
        parameter.grad = 0.1 * torch.randn(parameter.shape, generator=generator("gradients", step, index))


def parts(model):
    return roles_of(dict(model.named_parameters()), find_layout(model))


def test_every_row_has_one_role_and_a_dit_has_all_of_them():
    for name in ("tiny", "tiny-SE", "tiny-shared", "U-DiT-tiny"):
        model = network(MODELS[name])
        roles = parts(model)
        assert {*roles.values()} == {*ROLES}
        counted = sum(as_rows(model.get_parameter(p.tensor))[p.start : p.stop].numel() for p in roles)
        assert counted == sum(p.numel() for p in model.parameters())
    of = {f"{part.tensor}:{part.start}": role for part, role in parts(network()).items()}
    assert (
        of["blocks.1.adaLN_modulation.1.bias:32"] == "gate" and of["blocks.1.adaLN_modulation.1.weight:64"] == "scale"
    )
    assert of["final_layer.adaLN_modulation.1.weight:0"] == "final_shift" and of["final_layer.linear.bias:0"] == "head"
    assert of["blocks.0.attn.qkv.bias:0"] == "backbone" and of["y_embedder.embedding_table.weight:0"] == "embedding"


def test_each_part_moves_as_if_it_were_alone_under_adamw():
    model = network()
    state, alone = TrainState(model, SPLIT), {}
    for part, role in parts(model).items():
        copy = part.of(dict(model.named_parameters())).detach().clone()
        lr = {"gate": 0.03, "head": 0.002}.get(role, 1e-2)
        betas, decay = (0.5, 0.9) if role == "scale" else (0.9, 0.999), 0.1 if role == "backbone" else 0.0
        alone[part] = copy, torch.optim.AdamW([copy], lr=lr, betas=betas, weight_decay=decay, fused=True)
    for step in range(5):
        gradients(model, step)
        named = {name: p.grad for name, p in model.named_parameters()}
        for part, (copy, optimizer) in alone.items():
            copy.grad = part.of(named).clone()
            optimizer.step()
        state.update(torch.zeros(()))
    after = dict(model.named_parameters())
    for part, (copy, _) in alone.items():
        torch.testing.assert_close(part.of(after), copy, rtol=1e-6, atol=1e-8)


def test_muon_makes_orthogonal_steps_of_its_matrices_and_of_each_role_of_a_layer():
    model = network()
    before = {part: part.of(dict(model.named_parameters())).detach().clone() for part in parts(model)}
    gradients(model, 0)
    state = TrainState(model, replace(MUON, weight_decay_of=()))
    state.update(torch.zeros(()))
    after = dict(model.named_parameters())
    for part, role in parts(model).items():
        step = (part.of(after) - before[part]).detach() / 1e-2
        if role in MUON.muon and step.ndim == 2:
            spectrum = torch.linalg.svdvals(step) / (0.2 * max(step.shape) ** 0.5)
            assert spectrum.min() > 0.5 and spectrum.max() < 1.3, part
        else:
            assert step.abs().max() == pytest.approx(1, rel=1e-3), part  # Adam's first step


@pytest.mark.parametrize("optim", [SPLIT, MUON, OptimConfig(lr=1e-2, mup=8)], ids=["roles", "muon", "mup"])
def test_the_update_order_is_that_of_the_probe_at_any_rates(optim):
    x, y = torch.randn(8, 1, 8, 8, generator=generator("x")), torch.arange(8)

    def loss(model, iteration):
        output = model(x, torch.arange(8) * 100.0, y)
        return (output - torch.randn(output.shape, generator=generator("order", iteration))).square().mean()

    model = network()
    order = measure_order(model, SCHEMES["adaln-zero"], loss)
    initialise(model, SCHEMES["adaln-zero"], generator("order", 0))
    state = TrainState(model, optim, lr_factors=mup_factors(CONFIG, DIGITS, optim.mup) if optim.mup else {})
    moved = dict.fromkeys(order)
    for iteration in range(3):
        loss(model, iteration).backward()
        named = {name: p.grad for name, p in state.named.items() if p.grad is not None}
        for part in [part for part, first in moved.items() if first is None and part.tensor in named]:
            moved[part] = iteration if bool(part.of(named).any()) else None
        state.update(torch.zeros(()))
    assert moved == order


def test_muon_counts_no_steps_of_its_own_and_all_else_is_adamws():
    model = network()
    state = TrainState(model, MUON)
    gradients(model, 0)
    state.update(torch.zeros(()))
    kept = state.tensors()["training"]
    assert {key.partition("/")[0] for key in kept if "attn.qkv.weight" in key} == {"momentum_buffer"}
    fused = {key.partition("/")[0] for key in kept if "blocks.0.adaLN_modulation.1.weight" in key}
    assert fused == {"momentum_buffer", "exp_avg", "exp_avg_sq", "step"}


@pytest.mark.parametrize(
    "optim",
    [
        pytest.param(SPLIT, id="roles"),
        pytest.param(MUON, id="muon", marks=pytest.mark.slow),
        pytest.param(OptimConfig(lr=1e-2, mup=8), id="mup", marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_with_roles_goes_on_bit_for_bit(small_config, tmp_path, optim):
    config = small_config(optim=optim)
    whole, stopped = (Run.create(config, tmp_path / name) for name in ("whole", "stopped"))
    train(whole)
    stop_after(stopped, 3)
    train(stopped)
    assert_same_bits(whole, stopped, 10)
    groups = whole.manifest["optimizer"]
    assert sum(group["parameters"] for group in groups) == sum(p.numel() for p in whole.new_model().parameters())
    assert len(groups) > 1


def test_settings_by_role_that_are_the_usual_ones_change_nothing(small_config, tmp_path):
    plain = Run.create(small_config(optim=OptimConfig(lr=1e-2)), tmp_path / "plain")
    named = Run.create(small_config(optim=OptimConfig(lr=1e-2, lr_of=("gate=0.01",), mup=16)), tmp_path / "named")
    for run in (plain, named):
        train(run)
    assert_same_bits(plain, named, 10)
    assert "optimizer" not in named.manifest


def test_a_setting_has_one_spelling_and_none_is_written_where_none_is_made():
    assert not {"lr_of", "betas_of", "weight_decay_of", "mup", "muon"} & encode(OptimConfig()).keys()
    one = OptimConfig(lr_of=("head=1e-3", "gate=3e-4"), muon=("gate", "scale"))
    assert one == OptimConfig(lr_of=("gate=0.0003", "head=0.001"), muon=("scale", "gate"))
    assert decode(OptimConfig, encode(one)) == one


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"lr_of": ("gat=1",)}, "optim.lr_of names 'gat' .nearest: 'gate'.; expected roles: gate, scale"),
        ({"lr_of": ("gate",)}, "optim.lr_of gate is ''; expected gate=NUMBER, a number > 0"),
        ({"lr_of": ("gate=0",)}, "optim.lr_of gate is '0'; expected gate=NUMBER, a number > 0"),
        ({"lr_of": ("gate=nan",)}, "optim.lr_of gate is 'nan'"),
        ({"lr_of": ("gate=1", "gate=2")}, "optim.lr_of names gate twice"),
        ({"betas_of": ("gate=0.9",)}, "expected gate=NUMBER,NUMBER, two numbers, 0 <= beta < 1"),
        ({"betas_of": ("gate=0.9,1",)}, "0 <= beta < 1"),
        ({"weight_decay_of": ("gate=-1",)}, "a number >= 0"),
        ({"muon": ("bakbone",)}, "optim.muon names 'bakbone' .nearest: 'backbone'."),
        ({"mup": 0}, "optim.mup is 0; expected a width > 0 or none"),
    ],
)
def test_what_is_no_setting_is_refused_in_one_line(fields, said):
    with pytest.raises(ValueError, match=said) as error:
        OptimConfig(**fields)
    assert "\n" not in str(error.value)


def test_a_role_that_the_network_lacks_and_a_width_that_it_cannot_have_are_refused_before_a_run(small_config, tmp_path):
    with pytest.raises(ValueError, match=r"optim.mup is 6, no width of a DiT of width 16"):
        Run.create(small_config(optim=OptimConfig(mup=6)), tmp_path)
    assert not [*tmp_path.iterdir()]
    model = network()
    layout = replace(
        find_layout(model), sites=tuple(site for site in find_layout(model).sites if site.branch != "final")
    )
    with pytest.raises(ValueError, match="optim names final_scale, which no weight of this network is; expected roles"):
        roles_of(dict(model.named_parameters()), layout, {"gate", "final_scale"})


def test_rows_that_are_held_take_no_weight_decay_and_all_others_may(small_config, tmp_path):
    for decay, refused in (("gate=0.1", True), ("backbone=0.1", False)):
        optim = OptimConfig(lr=1e-3, weight_decay_of=(decay,))
        run = Run.create(small_config(optim=optim, scheme=SCHEMES["adaln"], steps=2), tmp_path / decay)
        if not refused:
            train(run)
            continue
        with pytest.raises(ValueError, match=r"weight decay 0.1 moves rows whose gradient is zero"):
            train(run)


@pytest.mark.parametrize("config", [DiTConfig(64, 1, 4, 2), LLaMAConfig(64, 1, 4, 2), MODELS["U-DiT-tiny"]])
def test_mup_divides_the_rate_of_matrices_whose_inputs_grow_and_of_nothing_else(config):
    half = config.hidden_size // 2
    factors = mup_factors(config, DIGITS, half)
    assert mup_factors(config, DIGITS, config.hidden_size) == {}
    named = dict(network(config).named_parameters())
    narrow = network(config.resized(hidden_size=half, num_heads=1))
    for name, tensor in named.items():
        is_matrix = tensor.ndim > 1 and "embedding_table" not in name
        ratio = narrow.get_parameter(name)[0].numel() / tensor[0].numel() if is_matrix else 1.0
        assert factors.get(name, 1.0) == ratio, name
    (head,) = (name for name in find_layout(narrow).head if name.endswith("weight"))
    assert factors[head] == 0.5
