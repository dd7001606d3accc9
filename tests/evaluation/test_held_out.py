"""The loss on what was not learned from, against a loop written here, and what it must not depend on."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import adaln
from adaln.cli.commands import main
from adaln.data import DataConfig, load
from adaln.evaluation import held_out as room
from adaln.evaluation.held_out import (
    NUM_TIMES,
    Pictures,
    has_losses,
    held_out_loss,
    losses_of,
    own_pictures,
    take_losses,
)
from adaln.evaluation.samples import WEIGHTS as WEIGHT_NAMES
from adaln.parallel import rank
from adaln.processes import PROCESSES, GaussianConfig, InterpolantConfig
from adaln.rng import generator
from adaln.runs import Run
from adaln.training import train
from adaln.views.run_page import run_page
from helpers.in_threads import in_processes
from helpers.pictures import png, write_folder
from helpers.runs import assert_same_bits

CPU = torch.device("cpu")
SHARE = 0.02


@pytest.fixture(scope="module")
def pictures():
    digits = load(DataConfig(held_out=SHARE))
    return Pictures(digits, digits.split.held_out, digits.split.hashes)


def small_run(small_config, folder, name, **changes):
    """Two steps of a run that holds pictures out."""
    run = Run.create(small_config(**{"data": DataConfig(held_out=SHARE), "steps": 2, **changes}), out=folder / name)
    train(run)
    return run


@pytest.fixture(scope="module")
def folder(small_config, tmp_path_factory):
    """Holds runs that hold out the same pictures, more of them, and none."""
    folder = tmp_path_factory.mktemp("runs")
    small_run(small_config, folder, "one")
    small_run(small_config, folder, "two", seed=1)
    small_run(small_config, folder, "more", data=DataConfig(held_out=0.03))
    small_run(small_config, folder, "none", data=DataConfig())
    return folder


@pytest.fixture
def run(folder):
    run = Run.open(folder / "one")
    for file in run.path.glob("scores/*"):
        file.unlink()
    return run


def network(channels=1):
    """A function of all that it is given, whose numbers anyone can compute."""

    def model(x, t, y):
        wave = torch.sin(3 * x + 0.01 * t.float()[:, None, None, None] + y.float()[:, None, None, None])
        return torch.cat([wave, 0.3 * wave.cos()], 1)[:, :channels]

    return model


def alphas_bar(num_steps=1000):
    """DDPM's linear betas, from 1e-4 to 0.02."""
    beta = np.linspace(1e-4, 0.02, num_steps)
    return beta, np.cumprod(1 - beta)


def noise_loss(model, x, y, t, noise):
    """|noise' - noise|^2."""
    bar = alphas_bar()[1][t]
    x_t = math.sqrt(bar) * x + math.sqrt(1 - bar) * noise
    return float(((model(x_t, torch.tensor([t]), y) - noise) ** 2).mean())


def learned_variance_loss(model, x, y, t, noise):
    """The same of the first channel, plus the bound in bits per dimension, the mean of the reverse step frozen."""
    beta, bar = alphas_bar()
    before = np.append(1.0, bar)[t]
    x_t = math.sqrt(bar[t]) * x + math.sqrt(1 - bar[t]) * noise
    eps, v = model(x_t.float(), torch.tensor([t]), y).double().chunk(2, 1)
    posterior = [b * (1 - p) / (1 - a) for b, a, p in zip(beta, bar, np.append(1.0, bar[:-1]), strict=True)]
    true_log = math.log(posterior[max(t, 1)])
    log_variance = (v + 1) / 2 * math.log(beta[t]) + (1 - v) / 2 * true_log
    data = (x_t - math.sqrt(1 - bar[t]) * eps) / math.sqrt(bar[t])
    weights = beta[t] * math.sqrt(before) / (1 - bar[t]), (1 - before) * math.sqrt(1 - beta[t]) / (1 - bar[t])
    true, predicted = (weights[0] * of + weights[1] * x_t for of in (x, data))
    exponent = true_log - log_variance
    kl = 0.5 * (exponent.exp() - 1 - exponent + (true - predicted) ** 2 * (-log_variance).exp())
    assert t > 0, "the last step's bound is another one"
    return float(((eps - noise) ** 2).mean() + kl.mean() / math.log(2))


def velocity_loss(model, x, y, t, noise):
    """|v' - (data - noise)|^2 on a straight line."""
    return float(((model(t * x + (1 - t) * noise, torch.tensor([t]), y) - (x - noise)) ** 2).mean())


CASES = {
    "noise": (GaussianConfig(variance="fixed-small"), 1, noise_loss),
    "learned variance": (PROCESSES["ddpm"], 2, learned_variance_loss),
    "velocity": (InterpolantConfig(), 1, velocity_loss),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_loss_of_a_loop_over_pictures_and_times(pictures, case):
    config, channels, loss = CASES[case]
    few, model = pictures.first(3), network(channels)
    found = losses_of(model, config.build(), few, CPU)
    for k in range(3):
        image = few.dataset.images[few.rows[k]]
        x, y = (
            torch.tensor(image[None] / 127.5 - 1, dtype=torch.float32),
            torch.tensor([few.dataset.labels[few.rows[k]]]),
        )
        rng = generator("held-out loss", int(few.hashes[k]))
        noise = torch.randn((NUM_TIMES, 1, 8, 8), generator=rng)
        if case == "velocity":
            drawn = torch.randn((NUM_TIMES, 1, 8, 8), generator=rng)
            times = [(2 * k + 1) / 16 for k in range(8)], torch.rand(NUM_TIMES, generator=rng).tolist()
        else:
            times = [62, 187, 312, 437, 562, 687, 812, 937], torch.randint(1000, (NUM_TIMES,), generator=rng).tolist()
            drawn = torch.randn((NUM_TIMES, 1, 8, 8), generator=rng)
        for part, (ts, of) in enumerate(zip(times, (noise, drawn), strict=True)):
            expected = [loss(model, x, y, t, of[i : i + 1]) for i, t in enumerate(ts)]
            np.testing.assert_allclose(found[k, part], expected, rtol=2e-4)


def test_a_network_that_says_nothing_has_the_mean_square_of_the_noise(pictures):
    few = pictures.first(5)
    found = losses_of(lambda x, t, y: torch.zeros_like(x), GaussianConfig(variance="fixed-small").build(), few, CPU)
    for loss, key in zip(found, few.hashes, strict=True):
        noise = torch.randn((NUM_TIMES, 64), generator=generator("held-out loss", int(key)))
        torch.testing.assert_close(loss[0], (noise**2).mean(1))


@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_equidistant_times_lie_where_training_times_lie(name):
    process = PROCESSES[name].build()
    times, (drawn, _) = process.equidistant(8).double(), process.draw((4096, 1, 1, 1), generator("test", name))
    assert drawn.min() < times[0] and times[-1] < drawn.max() and drawn.dtype == process.equidistant(8).dtype
    torch.testing.assert_close(times.diff(), times.diff()[:1].expand(7), rtol=0.01, atol=0)


def test_neither_batches_nor_processes_nor_the_order_of_the_set_change_it(pictures, monkeypatch):
    process, model = PROCESSES["linear-velocity"].build(), network()
    expected = losses_of(model, process, pictures, CPU)
    for at_once in (1, 7, 1000):
        torch.testing.assert_close(losses_of(model, process, pictures, CPU, at_once=at_once), expected)
    for of_process in in_processes(monkeypatch, 3, lambda: losses_of(model, process, pictures, CPU, at_once=4)):
        torch.testing.assert_close(of_process, expected)
    order = np.random.default_rng(0).permutation(len(pictures.dataset))
    images, labels = pictures.dataset.images[order], pictures.dataset.labels[order]
    turned = replace(pictures.dataset, images=images, labels=labels, flip=True)
    elsewhere = replace(pictures, dataset=turned, rows=np.argsort(order)[pictures.rows])
    torch.testing.assert_close(losses_of(model, process, elsewhere, CPU), expected)
    assert elsewhere.sha256 == pictures.sha256 != pictures.first(7).sha256


def test_the_loss_of_a_run_is_kept_and_is_that_of_its_networks(run, monkeypatch):
    pictures = own_pictures(run)
    for weights in ("ema", "model"):
        loss = held_out_loss(run, 2, weights, pictures)
        model, _ = run.load_model(2, weights)
        expected = losses_of(model, run.process, pictures, CPU).double()
        np.testing.assert_allclose(loss.as_trained, expected[:, 1].mean(1), rtol=1e-4)
        np.testing.assert_allclose(loss.by_time, expected[:, 0].mean(0), rtol=1e-4)
        assert loss.mean.low < loss.mean.value < loss.mean.high
        assert math.isclose(loss.mean_at_times.value, np.mean(loss.by_time), rel_tol=1e-9)
    monkeypatch.setattr(room, "losses_of", lambda *_: pytest.fail("computed again"))
    assert held_out_loss(run, 2, "model", pictures) == loss


def test_several_processes_take_the_loss_of_a_run_together_and_one_writes_it(run, monkeypatch):
    writers, write = [], room.write_atomically
    monkeypatch.setattr(room, "write_atomically", lambda *of: writers.append(rank()) or write(*of))
    pictures = own_pictures(run)
    first, second = in_processes(monkeypatch, 2, lambda: held_out_loss(run, 2, "ema", pictures))
    assert first == second and writers == [0]


@pytest.mark.slow
def test_two_runs_are_held_against_each_other_picture_by_picture(folder, capsys):
    paths = [str(folder / name) for name in ("one", "two")]
    main(["loss", *paths, "--json"])
    row = json.loads(capsys.readouterr().out)
    one, two = (row["losses"]["model"][path] for path in paths)
    difference = np.subtract(two["as_trained"], one["as_trained"])
    change = row["changes"]["model"][paths[1]]["absolute"]
    assert math.isclose(change["value"], difference.mean(), rel_tol=1e-9)
    assert change["high"] - change["low"] < 0.2 * (
        row["means"]["model"][paths[1]]["high"] - row["means"]["model"][paths[1]]["low"]
    )
    main(["loss", *paths])
    assert re.search(r"two +2 +averaged .* 2 +raw ", capsys.readouterr().out, re.DOTALL)


def test_losses_of_other_processes_and_other_pictures_are_not_compared(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    paths = ["one", "more"]
    main(["loss", *paths, "--weights", "model", "--json"])
    row = json.loads(capsys.readouterr().out)
    assert (row["changes"], row["not_comparable"]) == ({"model": {}}, {"model": {paths[1]: ["pictures"]}})
    main(["loss", *paths])
    assert "not comparable: pictures" in capsys.readouterr().out


def test_a_set_beside_the_run_is_taken_without_what_the_run_learned_from(run, capsys):
    main(["loss", str(run.path), "--data", "digits", "--json"])
    row = json.loads(capsys.readouterr().out)
    assert row["left_out"] == {str(run.path): len(run.dataset.split.learned)}
    main(["loss", str(run.path), "--json"])
    assert json.loads(capsys.readouterr().out)["losses"] == row["losses"]  # of what is held out, as without --data


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            [],
            r"a held-out loss needs .* not trained on, and run 'none' holds none out: begin with --data\.held-out 0\.1",
        ),
        (["--data", "digits"], r"'digits' is what run 'none' learned from; expected pictures that it has not seen"),
        (["--data", "other"], r"'other' is 3x8x8 of no classes; expected .*, 1x8x8 of 10 classes"),
        (["--num-images", "1"], r"num_images is 1; expected at least 2"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(folder, tmp_path, monkeypatch, capsys, words, line):
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    write_folder(tmp_path / "other", {f"{i}.png": png(image) for i, image in enumerate(noise)})
    with pytest.raises(SystemExit):
        main(["loss", str(folder / "none"), *words])
    error = capsys.readouterr().err
    assert re.search(line, error) and error.count("\n") == 1


@pytest.mark.slow
def test_losses_while_a_run_trains_are_those_afterwards_and_leave_its_weights_alone(tmp_path, capsys):
    words = ["train", "digits", "--model", "tiny", "--steps", "4", "--checkpoint-every", "2", "--batch-size", "8"]
    words += ["--data.held-out", str(SHARE)]
    main([*words, "--out", str(tmp_path / "with"), "--evaluate.loss-every", "2", "--json"])
    rows = json.loads(capsys.readouterr().out)["held_out_losses"]
    assert [(row["step"], row["weights"]) for row in rows] == [(2, "ema"), (2, "model"), (4, "ema"), (4, "model")]
    main([*words, "--out", str(tmp_path / "without")])
    assert "Held-out loss" not in capsys.readouterr().out
    scored, plain = (Run.open(tmp_path / name) for name in ("with", "without"))
    assert_same_bits(scored, plain)
    assert take_losses(plain, 2)["model"].mean.value == rows[1]["loss"]
    section = next(section for section in run_page(scored).sections if section.heading == "Held-out loss")
    table, lines = section.blocks
    assert [row[0] for row in table.rows] == [2, 2, 4, 4] and [of.name for of in lines.series] == [
        *WEIGHT_NAMES.values()
    ]


def test_a_killed_run_takes_the_losses_that_it_lacks(small_config, tmp_path):
    config = small_config(data=DataConfig(held_out=SHARE), steps=4, checkpoint_every=2)
    train(run := Run.create(config, out=tmp_path / "run"))
    adaln.train(config, tmp_path / "run", "cpu", loss_at=[2, 4])
    assert [has_losses(run, step) for step in (1, 2, 4)] == [False, True, True]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["--evaluate.loss-every", "2"],
            r"a held-out loss needs pictures that were not trained on: begin with --data\.h",
        ),
        (
            ["--evaluate.loss-every", "3", "--data.held-out", "0.1"],
            r"evaluate\.loss_every asks for step 3, which leaves",
        ),
        (["--evaluate.loss-every", "0", "--data.held-out", "0.1"], r"evaluate\.loss_every is 0; expected an integer"),
        (["--data.held-out", "1.5"], r"data\.held_out is 1\.5; expected a share of the pictures, 0 <= share < 1"),
        (["--data.held-out", "0.0001"], r"no picture of class '\d' of 'digits' is held out; expected a share above"),
    ],
)
def test_what_cannot_be_taken_is_said_before_anything_is_trained(tmp_path, capsys, words, line):
    out = tmp_path / "run"
    with pytest.raises(SystemExit):
        main(["train", "digits", "--steps", "4", "--checkpoint-every", "2", "--out", str(out), *words])
    error = capsys.readouterr().err
    assert re.search(line, error) and error.count("\n") == 1 and not out.exists()
