"""What every scheme's network gives before it has learned anything, against what its starts say."""

import pytest
import torch
from torch.nn import functional as F

from adaln.conditioning import SCHEMES, Role, Start, all_starts, find_layout, initialise, scheme, std_of
from adaln.models import MODELS, DiTConfig, build
from adaln.rng import generator
from helpers.networks import DIGITS
from helpers.zoo import zoo_network

NETWORKS = {
    "tiny": MODELS["tiny"],
    "tables": MODELS["tiny-shared"],
    "sigmoid gates": DiTConfig(16, 2, 2, 4, gate="sigmoid"),
    "static gates": DiTConfig(16, 2, 2, 4, gate="static"),
    "28 blocks": DiTConfig(16, 28, 2, 4),
}
SPECS = [
    pytest.param(spec, marks=() if scheme(spec).head == Start() else pytest.mark.slow)
    for spec in [*SCHEMES, "default:1", "default:0.5", "head-normal:0.1"]
]


def network_of(spec):
    """The first network that has a place for the scheme."""
    for config in NETWORKS.values():
        model = build(config, DIGITS, generator("first output"))
        try:
            all_starts(find_layout(model), scheme(spec))
        except ValueError:
            continue
        return model
    raise AssertionError(f"no network here is for {spec}")


def outputs_and_theory(model, row, seeds):
    """Mean square of the outputs over starts, and D h^2 (1 + v_scale + v_shift) + h_b^2 of head and last modulation.

    h, h_b: spreads of the head's weight and bias; v = w^2 |silu(c)|^2 + b^2: variance of what rows of spreads w and b
    say of a condition c. Tokens come out of a norm, so that their square sums to D.
    """
    rng = generator("first output", "inputs")
    x, t, y = torch.randn(8, 1, 8, 8, generator=rng), torch.rand(8, generator=rng) * 999, torch.arange(8)
    head, dim = model.final_layer.linear.weight.shape, model.config.hidden_size
    measured, expected = [], []
    for seed in range(seeds):
        initialise(model, row, generator("scheme", seed))
        with torch.no_grad():
            measured.append(model(x, t, y).square().mean())
            energy = F.silu(model.condition(t, y)).square().sum(-1).mean()
        of_last = model.final_layer.adaLN_modulation[1].weight.shape
        values = [
            std_of(start.weight, dim, of_last) ** 2 * energy + std_of(start.bias, dim, of_last) ** 2
            for start in (row.final_scale, row.final_shift)
        ]
        weight, bias = (std_of(part, head[0], head) for part in (row.head.weight, row.head.bias))
        expected.append(dim * weight**2 * (1 + sum(values)) + bias**2)
    return torch.stack(measured).mean().item(), float(sum(expected) / seeds)


@pytest.mark.parametrize("spec", SPECS)
def test_the_first_output_is_as_large_as_head_and_last_layer_say(spec):
    row, model = scheme(spec), network_of(spec)
    is_zero = row.head == Start()
    measured, expected = outputs_and_theory(model, row, seeds=1 if is_zero else 30)
    assert (measured, expected) == (0, 0) if is_zero else measured == pytest.approx(expected, rel=0.12)


@pytest.mark.parametrize("spec", ["adaln-zero", "torch-default", "xavier-all", "default", "head-normal:0.1"])
def test_the_first_loss_is_that_of_the_noise_and_of_the_output(spec):
    """mean(noise^2), and of a head that is not zero the mean square of the output beside it."""
    row, model = scheme(spec), network_of(spec)
    rng = generator("first loss")
    initialise(model, row, generator("scheme", 0))
    x, y = torch.randn(64, 1, 8, 8, generator=rng), torch.randint(11, (64,), generator=rng)
    with torch.no_grad():
        output = model(x, torch.rand(64, generator=rng) * 999, y)
    noise = torch.randn(output.shape, generator=rng)
    loss = F.mse_loss(output, noise)
    assert loss == pytest.approx(noise.square().mean() + output.square().mean(), rel=0 if row.head == Start() else 0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "spec", "refused"),
    [
        ("RFD4ProteinaTransformer", "af3", ""),
        ("RFD4ProteinaTransformer", "torch-default", ""),
        ("LuminaNextDiT2DModel", "layerscale:1e-3", ""),
        ("LuminaNextDiT2DModel", "rezero", ""),
        ("PixArtTransformer2DModel", "table-zero", ""),
        ("PixArtTransformer2DModel", "table-normal", ""),
        ("PixArtTransformer2DModel", "torch-default", ""),
        ("DiTTransformer2DModel", "dit-mup", ""),
        ("DiTTransformer2DModel", "gpt2-residual", ""),
        ("PixArtTransformer2DModel", "af3", "'af3' is a start of sigmoid gates, and PixArt has none"),
        ("DiTTransformer2DModel", "table-zero", "'table-zero' is a start of tables, and diffusers-DiT has none"),
        ("DiTTransformer2DModel", "layerscale", "'layerscale' is a start of static gates, and diffusers-DiT has none"),
        ("RFD4ProteinaTransformer", "adaln-zero", "closed nowhere"),
    ],
)
def test_a_mechanisms_start_is_for_networks_that_have_it_and_is_refused_by_name_elsewhere(name, spec, refused):
    model = zoo_network(name)
    if refused:
        with pytest.raises(ValueError, match=refused):
            initialise(model, spec)
        return
    started = initialise(model, spec)
    assert started.num_set == len(started.layout.sites)
    tensors, row = dict(model.named_parameters()), started.scheme
    if spec == "af3":
        gates = [site for site in started if site.role is Role.GATE]
        assert gates and all((tensors[site.bias][site.rows] == -2).all() for site in gates)
    if row.static_gates:
        assert all((tensors[name] == row.static_gates.value).all() for name in started.layout.static_gates)
