"""Autoguidance by a second run, and arithmetic in bfloat16, from run to bytes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adaln.cli.scoring import sample_verb
from adaln.data import DataConfig
from adaln.models import MODELS
from adaln.processes import PROCESSES, Guidance, SamplerConfig
from adaln.rng import generator
from adaln.runs import Run
from adaln.sampling import SampleConfig, Weak, sample
from adaln.training import TrainState, save
from adaln.training.resume import resume_or_start

FEW = SampleConfig(num_images=10, batch_size=10, sampler=SamplerConfig(steps=10))
GUIDED = replace(FEW, guidance=Guidance(2.0))
FAMILIES = {
    "tiny": "ddpm",
    "tiny-SE": "ddpm",
    "tiny-shared": "ddpm",
    "DiT-LLaMA-tiny": "ddpm",
    "U-DiT-tiny": "ddpm",
    "SiT-tiny": "linear-velocity",
    "SiT-LLaMA-tiny": "gvp-velocity",
}
ONE_QUICK = [name if name == "tiny" else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
"""A network of every family with a process that it serves."""


@pytest.fixture
def awake_run(small_config, tmp_path: Path):
    """A run with one checkpoint (per step) in which every weight acts, without the time to train it."""

    def make(name: str = "tiny", seed: int = 0, steps: tuple[int, ...] = (10,), **changes) -> Run:
        config = small_config(
            name=f"{name}-{seed}", model=MODELS[name], process=PROCESSES[FAMILIES[name]], seed=seed, **changes
        )
        run = Run.create(config, out=tmp_path / f"{name}-{seed}")
        state = resume_or_start(run)
        rng = generator("awake", seed)
        for step in steps:
            with torch.no_grad():
                for parameter in state.model.parameters():
                    parameter.add_(torch.randn(parameter.shape, generator=rng), alpha=0.05)
            state = advanced(run, state, step)
        return run

    return make


def advanced(run: Run, state: TrainState, step: int) -> TrainState:
    """The state saved as that of `step`, its average equal to its weights."""
    following = TrainState(state.model, run.config.optim)
    following.step = step
    save(run, following)
    return following


# Autoguidance


def test_autoguidance_steers_away_from_the_weak_runs_prediction(awake_run):
    """Guided by itself a run draws what it draws alone, at any scale; by another one it does not."""
    run, other = awake_run(), awake_run(seed=1)
    alone = sample(run, FEW).images.astype(int)
    by_itself = sample(run, GUIDED, weak=Weak(run)).images.astype(int)
    by_other = sample(run, GUIDED, weak=Weak(other)).images.astype(int)
    assert np.abs(by_itself - alone).max() <= 1  # worse + 2 (better - worse) is better up to rounding
    assert np.abs(by_other - alone).mean() > 1
    assert not np.array_equal(by_other, sample(run, GUIDED).images)


@pytest.mark.slow
def test_scale_zero_is_the_weak_run_alone(awake_run):
    run, other = awake_run(), awake_run(seed=1)
    config = replace(FEW, guidance=Guidance(0.0, "all"), sampler=SamplerConfig("ddim", 10))
    theirs = sample(other, replace(config, guidance=Guidance())).images
    assert np.array_equal(sample(run, config, weak=Weak(other)).images, theirs)


@pytest.mark.slow
def test_an_earlier_checkpoint_of_the_run_may_guide_and_the_record_says_so(awake_run):
    run = awake_run(steps=(5, 10))
    drawn = sample(run, GUIDED, weak=Weak(run, 5))
    assert drawn.provenance["step"] == 10
    assert drawn.provenance["weak"] == {"run": "tiny-0", "step": 5}
    assert sample(run, GUIDED, weak=Weak(run)).provenance["weak"] == {"run": "tiny-0", "step": 10}
    assert sample(run, GUIDED).provenance["weak"] is None
    assert not np.array_equal(drawn.images, sample(run, FEW).images)


def test_an_unconditional_run_can_be_guided_by_a_weak_one(awake_run):
    runs = [awake_run(seed=seed, data=DataConfig(conditional=False)) for seed in (0, 1)]
    assert sample(runs[0], GUIDED, weak=Weak(runs[1])).images.shape == (10, 8, 8, 1)
    with pytest.raises(ValueError, match="unconditional"):
        sample(runs[0], GUIDED)


@pytest.mark.slow
def test_networks_of_different_families_may_guide_each_other(awake_run):
    run, other = awake_run("U-DiT-tiny"), awake_run("DiT-LLaMA-tiny")
    assert sample(run, GUIDED, weak=Weak(other)).provenance["weak"]["run"] == "DiT-LLaMA-tiny-0"


def test_a_weak_run_without_effect_or_of_another_kind_is_refused(awake_run):
    run = awake_run()
    with pytest.raises(ValueError, match=r"no effect at guidance.scale 1; expected another scale"):
        sample(run, FEW, weak=Weak(run))
    with pytest.raises(ValueError, match=r"has process InterpolantConfig.* expected that of the run, GaussianConfig"):
        sample(run, GUIDED, weak=Weak(awake_run("SiT-tiny")))
    with pytest.raises(ValueError, match=r"has data DataSpec.*num_classes=0.* expected that of the run"):
        sample(run, GUIDED, weak=Weak(awake_run(seed=1, data=DataConfig(conditional=False))))
    with pytest.raises(ValueError, match="no complete checkpoint at step 3"):
        sample(run, GUIDED, weak=Weak(run, 3))


def test_the_command_takes_run_and_step(awake_run, tmp_path: Path):
    run = awake_run(steps=(5, 10))
    words = [str(run.path), "--num-images", "2", "--sampler.steps", "2", "--guidance.scale", "2", "--device", "cpu"]
    for spec, step in ((f"{run.path}:5", 5), (str(run.path), 10)):
        answer = sample_verb([*words, "--weak", spec, "--out", str(tmp_path / f"{step}.npz")]).data
        assert answer["weak"] == {"run": run.path.name, "step": step}
    with pytest.raises(ValueError, match="is not a run"):
        sample_verb([*words, "--weak", "nowhere:5"])


# bfloat16


@pytest.mark.parametrize("name", ONE_QUICK)
def test_sampling_in_bfloat16_stays_near_float32(awake_run, name: str):
    """Mean distance over all images below 1 of 255 grey levels (measured: 0.1; U-DiT 0.6), with the default solvers."""
    run = awake_run(name)
    config = replace(GUIDED, sampler=SamplerConfig(steps=20, **({"clip": True} if FAMILIES[name] == "ddpm" else {})))
    exact, rounded = sample(run, config), sample(run, replace(config, dtype="bfloat16"))
    distance = np.abs(exact.images.astype(int) - rounded.images.astype(int)).mean()
    assert 0 < distance < 1
    assert rounded.provenance["dtype"] == "bfloat16"
    assert exact.provenance["dtype"] == "float32"


def test_the_weak_network_rounds_as_well(awake_run):
    run, other = awake_run(), awake_run(seed=1)
    exact = sample(run, GUIDED, weak=Weak(other)).images.astype(int)
    rounded = sample(run, replace(GUIDED, dtype="bfloat16"), weak=Weak(other)).images.astype(int)
    assert 0 < np.abs(exact - rounded).mean() < 2


# Batches


@pytest.mark.parametrize("name", ONE_QUICK)
def test_an_image_does_not_depend_on_the_batch_it_is_drawn_in(awake_run, name: str):
    """To one grey level, which is what rounding near a boundary of two bytes can do."""
    run = awake_run(name)
    stochastic = "ddpm" if FAMILIES[name] == "ddpm" else "sde-euler"
    config = replace(GUIDED, sampler=SamplerConfig(stochastic, 6), labels="random")
    together = sample(run, config).images.astype(int)
    apart = sample(run, replace(config, batch_size=3)).images.astype(int)
    assert np.abs(together - apart).max() <= 1
    assert together.std() > 10
