"""Power-function averages: their profiles in closed form, and any width afterwards from the few that a run keeps."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaln.runs import Run
from adaln.runs.power_averages import EVERY, Profile, average, distance, mixture
from adaln.sampling import SampleConfig, load_sampler
from adaln.tensor_files import load_tensors
from adaln.training import train

WIDTHS = (0.05, 0.1)


def profile_on(grid: np.ndarray, profile: Profile) -> np.ndarray:
    """The profile by its definition, 0 after its step."""
    g = profile.gamma
    return np.where(grid <= profile.step, (g + 1) * (grid / profile.step) ** g / profile.step, 0.0)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.01, 0.28))
def test_a_profile_has_the_width_that_it_is_called_by(width):
    grid = (np.arange(200_000) + 0.5) / 200_000
    weights = profile_on(grid, Profile(1, width)) / len(grid)
    mean = weights @ grid
    assert weights.sum() == pytest.approx(1, rel=1e-3)
    assert np.sqrt(weights @ (grid - mean) ** 2) == pytest.approx(width, rel=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(8, 100), st.integers(8, 100), st.floats(0.02, 0.28), st.floats(0.02, 0.28))
def test_products_of_profiles_are_their_integrals(step, other_step, width, other_width):
    one, other = Profile(step, width), Profile(other_step, other_width)
    grid = (np.arange(100_000) + 0.5) / 1000
    integral = float((profile_on(grid, one) * profile_on(grid, other)).sum() / 1000)
    assert one.product(other) == pytest.approx(integral, rel=1e-2)
    assert one.product(other) == pytest.approx(other.product(one))


def test_a_kept_width_is_itself_and_more_checkpoints_come_closer_to_any_other():
    kept = [Profile(step, width) for step in range(125, 1001, 125) for width in WIDTHS]
    factors, off = mixture(Profile(1000, 0.05), kept)
    assert off < 1e-6 and factors[-2] == pytest.approx(1)
    for width in (0.03, 0.07, 0.15, 0.2):
        assert mixture(Profile(1000, width), kept)[1] < mixture(Profile(1000, width), kept[-2:])[1]
    assert mixture(Profile(1000, 0.07), kept)[1] < 0.04


@pytest.fixture
def averaged(small_config, tmp_path) -> tuple[Run, list[dict[str, torch.Tensor]]]:
    """A run that keeps two widths and all checkpoints, and its weights after every update."""
    config = small_config(steps=40, checkpoint_every=8)
    run = Run.create(replace(config, optim=replace(config.optim, lr=1e-2, ema_widths=WIDTHS)), tmp_path / "runs")
    seen: list[dict[str, torch.Tensor]] = []

    def look(step, model):  # before the update of that step
        if step:
            seen.append({name: p.detach().clone() for name, p in model.named_parameters()})

    train(run, [look])
    return run, [*seen, load_tensors(run.folder(40) / "model.safetensors")]


def by_definition(seen: list[dict[str, torch.Tensor]], name: str, width: float) -> torch.Tensor:
    """The average over the looks, each by the share that the recursion gives it."""
    total = seen[EVERY - 1][name].double()
    for look in range(2, len(seen) // EVERY + 1):
        total += (seen[look * EVERY - 1][name].double() - total) * (1 - Profile(look * EVERY, width).kept)
    return total


def test_a_run_keeps_the_averages_of_its_weights_and_others_are_put_together(averaged):
    run, seen = averaged
    folders = run.folders_until(40)
    for width, tolerance in ((0.05, 1e-6), (0.1, 1e-6), (0.08, 0.03)):
        found = average(folders, width)
        for name in ("blocks.0.adaLN_modulation.1.weight", "blocks.1.mlp.fc1.weight"):
            wanted, moved = by_definition(seen, name, width), (seen[-1][name] - seen[0][name]).double()
            assert (found[name] - wanted).norm() <= tolerance * moved.norm() + 1e-7
    assert distance(folders, 0.05) < 1e-6 < distance(folders, 0.2)


def test_averages_are_the_same_after_a_stop_and_cost_the_weights_no_bit(averaged, small_config, tmp_path):
    run, _ = averaged
    config = run.config
    halves = Run.create(replace(config, steps=20), tmp_path / "halves")
    train(halves)
    longer = Run.create(config, out=halves.path)
    train(longer)
    without = Run.create(replace(config, optim=replace(config.optim, ema_widths=())), tmp_path / "without")
    train(without)
    files = {each: load_tensors(each.folder(40) / "training.safetensors") for each in (run, longer, without)}
    assert all(torch.equal(tensor, files[longer][name]) for name, tensor in files[run].items())
    assert all(torch.equal(tensor, files[run][name]) for name, tensor in files[without].items())
    assert {name.split("/")[0] for name in files[run].keys() - files[without].keys()} == {"average-0.05", "average-0.1"}


def test_samples_of_a_width_are_drawn_and_say_how_far_off_it_is(averaged):
    run, _ = averaged
    few = SampleConfig(2, ema=0.08)
    sampler = load_sampler(run, few)
    assert sampler.record["ema"] == 0.08 and 0 < sampler.record["ema_distance"] < 0.1
    assert sampler.record["ema_decay"] is None and sampler.record["start_in_average"] is None
    assert "ema" not in load_sampler(run, SampleConfig(2)).record


def test_what_cannot_be_averaged_is_one_line(averaged, trained, tmp_path):
    run, _ = averaged
    before_the_first_look = shutil.copytree(run.folder(8), tmp_path / "000000003")
    with pytest.raises(ValueError, match=r"000000003 is of step 3: averages begin with step 4"):
        average([before_the_first_look], 0.05)
    with pytest.raises(
        ValueError, match=r"ema is 0\.05, but .* keeps no power-function averages; .*--optim\.ema-widths"
    ):
        load_sampler(trained, SampleConfig(2, ema=0.05))
    with pytest.raises(ValueError, match=r"ema is 0\.5; expected a width from 0\.001 to 0\.289"):
        load_sampler(run, SampleConfig(2, ema=0.5))
    with pytest.raises(ValueError, match=r"ema is 0\.1 and weights 'model'"):
        SampleConfig(2, ema=0.1, weights="model")
    for widths, said in (((0.5,), "a width from 0.001 to 0.289"), ((0.1, 0.1), "each width once")):
        with pytest.raises(ValueError, match=said):
            replace(run.config.optim, ema_widths=widths)
