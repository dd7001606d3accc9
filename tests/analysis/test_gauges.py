"""Gauges of the residual stream and of condition vectors, against the same computed token by token."""

from itertools import combinations

import numpy as np
import pytest
import torch

from adaln.analysis import gauges
from adaln.analysis.gauges import condition_modules, pruned_conditions, stream_gauge
from adaln.conditioning import find_layout, standard_inputs
from adaln.models import MODELS, build
from adaln.rng import generator
from adaln.types import DataSpec
from helpers.mechanisms import EVERY_MECHANISM
from helpers.networks import DIGITS

X, Y, TIMES = torch.randn(3, 1, 8, 8, generator=generator("gauges")), torch.tensor([0, 4, 7]), [0.0, 500.0]


def awake(config):
    """With weights that all act."""
    model, rng = build(config, DIGITS, generator("gauges")), generator("noise")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=rng), alpha=0.1)
    return model


def cosine(a, b):
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def test_the_stream_is_what_enters_and_leaves_each_block_at_each_time():
    model, seen = awake(MODELS["tiny"]), []
    for block in model.blocks:
        block.register_forward_hook(lambda _, args, output: seen.append((args[0], output)))
    streams, _ = gauges(model, X, TIMES, Y)
    names = [f"blocks.{i}" for i in range(len(model.blocks))]
    assert [(one.block, one.t) for one in streams] == [(name, t) for t in TIMES for name in names]
    for one, pair in zip(streams, seen, strict=True):
        before, after = (tokens.double().numpy() for tokens in pair)
        images, tokens, width = after.shape
        each = [(i, n) for i in range(images) for n in range(tokens)]
        squares = [after[i, n] @ after[i, n] for i, n in each]
        assert one.norm == pytest.approx(np.mean(np.sqrt(squares)), rel=1e-5)
        assert one.cosine == pytest.approx(np.mean([cosine(before[i, n], after[i, n]) for i, n in each]), rel=1e-5)
        means = [sum(after[i, n] for n in range(tokens)) / tokens for i in range(images)]
        assert one.mean_share == pytest.approx(sum(m @ m for m in means) / images / np.mean(squares), rel=1e-5)
        sizes = [np.sqrt(np.mean([after[i, n, k] ** 2 for i, n in each])) for k in range(width)]
        assert one.channel == int(np.argmax(sizes))
        assert one.largest == pytest.approx(max(sizes) / sorted(sizes)[(width - 1) // 2], rel=1e-5)


def test_conditions_are_those_that_enter_modulation_before_its_silu():
    model = awake(MODELS["tiny"])
    _, conditions = gauges(model, X, TIMES, Y)
    for one, t in zip(conditions, TIMES, strict=True):
        vectors = model.condition(torch.full((3,), t), Y).squeeze(1).detach().double().numpy()
        cosines = [cosine(a, b) for a, b in combinations(vectors, 2)]
        assert (one.t, one.width) == (t, 64)
        assert one.cosine == pytest.approx(np.mean(cosines)) and one.least_cosine == pytest.approx(min(cosines))
        assert one.participation == pytest.approx(np.mean([(v @ v) ** 2 / (v**4).sum() for v in vectors]))
        eigenvalues = np.linalg.eigvalsh(np.cov(vectors.T))
        assert one.directions == pytest.approx(eigenvalues.sum() ** 2 / (eigenvalues**2).sum())


def test_blocks_that_are_identities_turn_nothing():
    model = build(MODELS["tiny"], DataSpec(1, 8, 8, 0), generator("gauges"))
    streams, conditions = gauges(model, X, TIMES[:1], None)
    assert [one.cosine for one in streams] == pytest.approx([1.0] * 4)
    assert len({one.norm for one in streams}) == 1 and conditions == []


@pytest.mark.parametrize(("token", "share"), [(lambda x: x[:, :1], 1.0), (lambda x: x - x.mean(1, True), 0.0)])
def test_the_share_of_the_mean_token_is_one_of_tokens_that_are_alike_and_none_of_those_about_zero(token, share):
    tokens = token(torch.randn(2, 5, 6, generator=generator("tokens"))).expand(2, 5, 6)
    assert stream_gauge("b", 0.0, tokens, tokens).mean_share == pytest.approx(share, abs=1e-6)


def test_every_mechanism_has_a_stream_and_a_condition_but_where_tokens_are_all_there_is():
    for name in ("DiT, modulation low-rank", "DiT, modulation shared", "DiT, modulation se"):
        model = awake(next(config for key, config in EVERY_MECHANISM.items() if key.startswith(name)))
        streams, conditions = gauges(model, X, TIMES, Y)
        vectors = model.condition(torch.full((3,), TIMES[0]), Y).squeeze(1)
        assert len(streams) == 2 * len(model.blocks)
        assert conditions[0].least_cosine == pytest.approx(
            min(cosine(a, b) for a, b in combinations(vectors.detach().double().numpy(), 2))
        )
    tokens = next(config for key, config in EVERY_MECHANISM.items() if "modulation in-context" in key)
    streams, conditions = gauges(awake(tokens), X, TIMES, Y)
    assert len(streams) == 2 * tokens.depth and conditions == []


class ChannelsFirst(torch.nn.Module):
    """A convolutional block that DiT's names fit."""

    def __init__(self, dim):
        super().__init__()
        self.attn = torch.nn.Conv2d(dim, dim, 3, padding=1)
        self.adaLN_modulation = torch.nn.Sequential(torch.nn.SiLU(), torch.nn.Linear(dim, 6 * dim))

    def forward(self, x, c):
        shift, scale, gate, *_ = (one[:, :, None, None] for one in self.adaLN_modulation(c).chunk(6, dim=-1))
        return x + gate * self.attn((1 + scale) * x + shift)


class Convolutional(torch.nn.Module):
    def __init__(self, dim=6):
        super().__init__()
        self.x_embedder = torch.nn.Conv2d(1, dim, 1)
        self.y_embedder = torch.nn.Embedding(10, dim)
        self.blocks = torch.nn.ModuleList(ChannelsFirst(dim) for _ in range(2))

    def forward(self, x, t, y):
        x, c = self.x_embedder(x), self.y_embedder(y)
        for block in self.blocks:
            x = block(x, c)
        return x


def test_channels_of_convolutional_blocks_are_those_that_are_modulated():
    model, seen = Convolutional(), []
    for block in model.blocks:
        block.register_forward_hook(lambda _, args, output: seen.append((args[0], output)))
    streams, _ = gauges(model, X, TIMES[:1], Y)
    for one, pair in zip(streams, seen, strict=True):
        tokens = (tensor.movedim(1, -1).flatten(1, 2) for tensor in pair)
        assert one == stream_gauge(one.block, one.t, *tokens)


@pytest.mark.parametrize("name", ["tiny", "tiny-SE", "tiny-shared", "U-DiT-tiny"])
def test_pruned_conditions_keep_their_largest_entries_wherever_they_enter_modulation(name):
    model, kept = awake(MODELS[name]), []
    inputs = standard_inputs(model)
    whole = model(**inputs)
    first = condition_modules(model, find_layout(model))[0]
    with pruned_conditions(model, 0.75):
        hook = model.get_submodule(first)[0].register_forward_hook(lambda _, args, output: kept.append(args[0]))
        pruned = model(**inputs)
        hook.remove()
    (condition,) = kept
    assert ((condition != 0).sum(-1) == condition.shape[-1] / 4).all()
    assert not torch.equal(whole, pruned) and torch.equal(whole, model(**inputs))
    with pruned_conditions(model, 0.0):
        assert torch.equal(whole, model(**inputs))
    with torch.no_grad(), pruned_conditions(model, 1.0):
        other = {**inputs, "y": (inputs["y"] + 1) % 10, "t": inputs["t"] + 50}
        torch.testing.assert_close(model(**inputs), model(**other))


def test_networks_without_modulation_have_no_conditions_to_prune():
    tokens = awake(next(config for key, config in EVERY_MECHANISM.items() if "modulation in-context" in key))
    assert condition_modules(tokens, find_layout(tokens)) == []
