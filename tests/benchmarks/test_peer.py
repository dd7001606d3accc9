"""Both sides compute the same; shares are arithmetic."""

import pytest
import torch

from adaln.benchmarks import machine, sampling, training
from adaln.benchmarks.machine import Product, Taken, Turns
from adaln.benchmarks.options import SampleOptions, TrainOptions
from adaln.benchmarks.peer import LATENTS, busy_model, called_like_ours, compared, peer_of
from adaln.benchmarks.sampling import sample_step
from adaln.benchmarks.training import batch_of, train_step
from adaln.models import MODELS, flops

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small_products(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "PRODUCT_SIZES", ((8, 16, 24),))


def test_the_peer_computes_what_we_do_from_the_same_weights():
    model = busy_model(MODELS["tiny"], CPU)
    assert all(parameter.any() for parameter in model.parameters())
    x, y, t, _ = batch_of(3, CPU)
    ours, theirs = model(x, t, y), called_like_ours(peer_of(model, MODELS["tiny"], LATENTS))(x, t, y)
    assert ours.abs().max() > 0.1
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)


def test_a_network_that_the_peer_lacks_is_refused():
    with pytest.raises(ValueError, match="serves no other than a DiT"):
        peer_of(busy_model(MODELS["SiT-tiny"], CPU), MODELS["SiT-tiny"], LATENTS)


def test_a_share_is_operations_over_seconds_over_the_rate_of_the_product():
    turns = Turns({"ours": [Taken(2, 1), Taken(4, 1), Taken(9, 1)], "diffusers": [Taken(6, 1)], "p": [Taken(0.5, 1)]})
    found = compared(40 * 10**9, turns, [Product("p", "float32", 10 * 10**9, print)])
    assert found["median"]["matmul_gigaflops"] == {"float32": 20}
    assert found["median"]["seconds"] == {"ours": 4, "diffusers": 6}
    assert found["median"]["share_of_matmul_rate"]["float32"]["ours"] == 0.5
    assert found["median"]["times_faster"] == 1.5
    assert found["least"]["share_of_matmul_rate"]["float32"]["ours"] == 1
    assert found["processor"]["matmul_gigaflops"] == {"float32": 10}
    assert found["processor"]["times_faster"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", [False, True])
def test_training_steps_of_both_sides_begin_at_the_same_loss(checkpoint: bool):
    options = TrainOptions("tiny", batch_size=2, checkpoint=checkpoint, repeats=1, threads=1, device="cpu")
    found = train_step(options)
    losses = found["float32"]["loss_of_first_step"]
    assert losses["ours"] == pytest.approx(losses["diffusers"], rel=1e-5)
    assert found["float32"]["flops"] == 6 * flops(MODELS["tiny"], LATENTS)
    rounded = found["bfloat16"]["loss_of_first_step"]
    assert rounded["ours"] != losses["ours"]
    assert rounded["ours"] == pytest.approx(losses["ours"], rel=1e-2)


@pytest.mark.slow
def test_both_sides_train(monkeypatch: pytest.MonkeyPatch):
    losses: dict[str, list[float]] = {"ours": [], "diffusers": []}

    def watched(works, repeats):
        for _ in range(8):
            for side, seen in losses.items():
                seen.append(float(works[side]()))
        return Turns({name: [Taken(1.0, 1.0)] for name in works})

    monkeypatch.setattr(training, "in_turns", watched)
    train_step(TrainOptions("tiny", batch_size=2, precision=("float32",), threads=1, device="cpu"))
    for seen in losses.values():
        assert seen[-1] < 0.99 * seen[0]
    assert losses["ours"] == pytest.approx(losses["diffusers"], rel=1e-3)


def test_sampling_counts_both_guided_halves_and_stays_finite(monkeypatch: pytest.MonkeyPatch):
    states: list[torch.Tensor] = []

    def watched(works, repeats):
        for name in ("ours", "diffusers"):
            states.extend(works[name]() for _ in range(repeats))
        return Turns({name: [Taken(2.0, 1.0)] for name in works})

    monkeypatch.setattr(sampling, "in_turns", watched)
    found = sample_step(SampleOptions("tiny", batch_size=2, repeats=2, threads=1, device="cpu"))
    assert len(states) == 8  # two precisions, two sides, two steps
    assert all(state.shape == (2, 4, 32, 32) and bool(state.isfinite().all()) for state in states)
    assert found["bfloat16"]["flops"] == 4 * flops(MODELS["tiny"], LATENTS)
    assert found["bfloat16"]["images_per_second"]["ours"] == 2 / 250 / 2.0


def test_more_steps_than_a_sample_has_are_refused():
    with pytest.raises(ValueError, match="repeats is 250; expected 1 to 249"):
        SampleOptions(repeats=250)
