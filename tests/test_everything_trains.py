"""Every small network x scheme x process trains: the first loss is the theory's, it falls, every weight is reached.

By default each network, each scheme and each process once; slow tests take every two of them together, of networks that
have a name, a nightly run the whole product.
"""

from dataclasses import replace
from functools import cache
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from adaln.conditioning import (
    SCHEMES,
    Layout,
    Order,
    Role,
    Start,
    find_layout,
    find_sites,
    holding,
    initialise,
    order_to_hold,
)
from adaln.conditioning.held_rows import held_by
from adaln.conditioning.initialisation import all_starts
from adaln.conditioning.update_order import order_parts
from adaln.config import OptimConfig
from adaln.models import MODELS, DiTConfig, ModelConfig, UDiTConfig, build, skeleton
from adaln.processes import PROCESSES, GaussianDiffusion, Interpolant
from adaln.rng import generator
from adaln.training import TrainState
from helpers.mechanisms import MECHANISMS
from helpers.networks import DIGITS
from helpers.pairs import cover

DEEP = DiTConfig(16, 28, 2, 4)
"""For the schemes whose published coefficients serve 28 blocks."""
TINY: dict[str, ModelConfig] = {name: config for name, config in MODELS.items() if "tiny" in name}
NETWORKS = TINY | {"deep": DEEP} | MECHANISMS
STEPS = 4
REACHED_BY = 3
"""Table 1: from the third iteration on everything moves, whatever the scheme holds back until then."""


def reached_by(network: str) -> int:
    """One later for what lies before a map that moves in the third, since static gates open in the second: the first
    of two maps, and embedders of a U-DiT's levels that the last layer does not ask."""
    config = NETWORKS[network]
    is_late = getattr(config, "modulation", "") in ("se", "low-rank") or isinstance(config, UDiTConfig)
    return REACHED_BY + (is_late and getattr(config, "gate", "") == "static")


@cache
def fitted(network: str, process: str) -> ModelConfig | None:
    """The network with as many outputs as the process needs; None where no setting of it has them (SiT's variance)."""
    needed = PROCESSES[process].outputs_per_channel
    settings = (replace(NETWORKS[network], learn_sigma=learn_sigma) for learn_sigma in (True, False))
    return next((config for config in settings if config.outputs_per_channel == needed), None)


@cache
def layout_of(network: str) -> Layout:
    """Where its modulation lives."""
    return find_layout(skeleton(NETWORKS[network], DIGITS))


@cache
def fits(network: str, scheme: str) -> bool:
    """Whether the scheme serves as many blocks as the network has; any number of them, on small networks only."""
    try:
        all_starts(layout_of(network), SCHEMES[scheme])
    except ValueError:
        return False
    return network != "deep" or not fits("tiny", scheme)


ALL = [
    case
    for case in product(NETWORKS, SCHEMES, PROCESSES)
    if fits(case[0], case[1]) and fitted(case[0], case[2]) is not None
]


def is_quick(network: str, scheme: str, process: str) -> bool:
    """Each network once, on the smallest that it fits each scheme once, and on one network each process once."""
    home = next(name for name in ("adaln-gaussian-blockwise", "adaln-zero", "adaln-gaussian") if fits(network, name))
    first = next(process for process in PROCESSES if fitted(network, process) is not None)
    return (
        (scheme == home and process == first)
        or (network == next(name for name in ("tiny", *NETWORKS) if fits(name, scheme)) and process == first)
        or (network == "tiny" and scheme == home)
    )


QUICK = [case for case in ALL if is_quick(*case)]
OF_TABLE = [case for case in ALL if case[0] not in MECHANISMS]
PAIRED = cover(OF_TABLE, [case for case in QUICK if case in OF_TABLE])


def marks(*case: str) -> tuple[pytest.MarkDecorator, ...]:
    network, scheme, _ = case
    if case in QUICK and (network not in MECHANISMS or SCHEMES[scheme].needs):
        return ()
    return (pytest.mark.slow if case in PAIRED or case in QUICK else pytest.mark.nightly,)


class ToyTraining:
    """A fixed batch with fixed times and noise, so that nothing but the weights changes the loss."""

    def __init__(self, network: str, scheme: str, process: str) -> None:
        self.reached_by = reached_by(network)
        self.scheme, self.process = SCHEMES[scheme], PROCESSES[process].build()
        config = fitted(network, process)
        self.model = build(config, DIGITS, generator("everything"))
        initialise(self.model, self.scheme, generator("scheme"))
        self.x = torch.randn(8, 1, 8, 8, generator=generator("data")).clamp(-1, 1)
        self.y = torch.arange(8)
        self.held: Order = order_to_hold(self.model, self.scheme, self.loss)

    def loss(self, model: nn.Module, iteration: int) -> Tensor:
        drawn = self.process.draw(self.x.shape, generator("times and noise"))
        return self.process.loss(model, self.x, self.y, *drawn).mean()

    def run(self) -> tuple[list[float], set]:
        """Losses of some steps, and the parts that had a gradient by `reached_by`."""
        state, hook = TrainState(self.model, OptimConfig(lr=1e-3)), holding(self.held)
        losses, reached = [], set()
        for step in range(STEPS):
            loss = self.loss(self.model, step)
            loss.backward()
            hook(step, self.model)
            if step < self.reached_by:
                gradients = {name: p.grad for name, p in state.named.items()}
                reached |= {part for part in order_parts(gradients) if part.of(gradients).any()}
            state.update(loss)
            losses.append(loss.item())
        return losses, reached


def loss_of_zero(process: GaussianDiffusion | Interpolant, x: Tensor) -> float:
    """What the first batch must cost a network that outputs zero, by the formulas of the processes."""
    rng = generator("times and noise")
    if isinstance(process, Interpolant):
        noise, u = torch.randn(x.shape, generator=rng), torch.rand(len(x), generator=rng)
        t0, t1 = process.interval(process.default_eps(sampling=False))
        at = process.coefficients(t0 + (t1 - t0) * u)
        target = at.d_alpha_t * x + at.d_sigma_t * noise if process.config.prediction == "velocity" else noise
        return float(target.square().mean())
    t = torch.randint(process.num_steps, (len(x),), generator=rng)
    noise = torch.randn(x.shape, generator=rng)
    squared_error = float(noise.square().mean())
    return squared_error + (0.0 if process.config.variance != "learned-range" else bound_of_zero(process, x, t, noise))


def bound_of_zero(process: GaussianDiffusion, x: Tensor, t: Tensor, noise: Tensor) -> float:
    """KL(posterior || prediction) in bits, for a predicted noise of 0 and a variance half-way between its two ends."""
    assert (t > 0).all()  # the first step has another formula; the golden files have it
    abar, beta = (torch.tensor(getattr(process.tables, name).numpy())[t] for name in ("alphas_cumprod", "betas"))
    before = torch.tensor(process.tables.alphas_cumprod.numpy())[t - 1]
    posterior = beta * (1 - before) / (1 - abar)
    predicted = (beta * posterior).sqrt()
    error = (before.sqrt() * beta / (1 - abar))[:, None, None, None] * (
        x - (x + ((1 - abar) / abar).sqrt()[:, None, None, None] * noise)
    )
    squared = error.square().mean(dim=(1, 2, 3))
    nats = 0.5 * ((predicted / posterior).log() - 1 + posterior / predicted + squared / predicted)
    return float(nats.mean() / torch.tensor(2.0).log())


@pytest.mark.parametrize(
    ("network", "scheme", "process"),
    [pytest.param(*case, marks=marks(*case)) for case in ALL],
)
def test_it_trains(network: str, scheme: str, process: str):
    training = ToyTraining(network, scheme, process)
    losses, reached = training.run()
    if training.scheme.head == Start():  # else the first loss is another, see tests/conditioning/test_first_output.py
        assert losses[0] == pytest.approx(loss_of_zero(training.process, training.x), rel=2e-5)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.99 * losses[0]
    named = dict(training.model.named_parameters())
    for_ever = {part for part, opens in held_by(find_sites(named), training.scheme).items() if opens is None}
    assert reached == set(order_parts(named)) - for_ever


def test_only_adaln_holds_anything_for_ever_and_that_is_its_gates():
    named = dict(skeleton(MODELS["tiny"], DIGITS).named_parameters())
    gates = {(site.weight, site.rows.start) for site in find_sites(named) if site.role is Role.GATE}
    for name, scheme in SCHEMES.items():
        if fits("tiny", name):
            held = {(p.tensor, p.start) for p, opens in held_by(find_sites(named), scheme).items() if opens is None}
            assert {at for at in held if at[0].endswith("weight")} == (gates if name == "adaln" else set())


@pytest.mark.parametrize("network", TINY)
def test_the_rows_of_a_dropped_variance_are_the_only_ones_of_the_head_without_a_gradient(network: str):
    """SiT computes a variance half of which nothing is used; DiT without a learned variance has no such rows."""
    config = NETWORKS[network]
    training = ToyTraining(network, "adaln-zero", "linear-velocity")
    training.loss(training.model, 0).backward()
    head = training.model.final_layer.out_proj if isinstance(config, UDiTConfig) else training.model.final_layer.linear
    moves = head.weight.grad.flatten(1).any(dim=1)
    dropped = getattr(config, "drop_variance", False)
    assert moves.tolist() == [not dropped or row % 2 == 0 for row in range(len(moves))]


def test_every_network_scheme_and_process_is_in_the_default_suite():
    assert [set(names) for names in zip(*QUICK, strict=True)] == [set(NETWORKS), set(SCHEMES), set(PROCESSES)]
    assert len(QUICK) < len(PAIRED) < len(OF_TABLE)


@pytest.mark.parametrize("two", [(0, 1), (0, 2), (1, 2)])
def test_every_two_that_fit_each_other_are_trained_together_before_the_night(two):
    assert {tuple(case[i] for i in two) for case in PAIRED} == {tuple(case[i] for i in two) for case in OF_TABLE}
