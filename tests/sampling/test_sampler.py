import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from adaln.data import DataConfig
from adaln.processes import PROCESSES, Guidance, SamplerConfig
from adaln.progress import showing
from adaln.runs import Run
from adaln.sampling import SampleConfig, choose_labels, load_sampler, sample, save_samples
from adaln.sampling.sampler import seeded_draw, updates_as_progress
from adaln.training import train
from adaln.types import NonFinite

FEW = SampleConfig(num_images=6, batch_size=6, sampler=SamplerConfig(solver="ddpm", steps=4))


@pytest.mark.parametrize("batch_size", [1, 4, 5])
@pytest.mark.parametrize("solver", ["ddpm", "ddim"])
def test_image_i_depends_on_the_seed_and_i_alone(trained, batch_size, solver):
    config = replace(FEW, sampler=SamplerConfig(solver=solver, steps=4, eta=0.5 if solver == "ddim" else 0.0))
    together = sample(trained, config).images.astype(int)
    apart = sample(trained, replace(config, batch_size=batch_size)).images.astype(int)
    fewer = sample(trained, replace(config, num_images=3)).images.astype(int)
    assert np.abs(together - apart).max() <= 1  # float rounding at a boundary of two bytes
    assert np.abs(together[:3] - fewer).max() <= 1
    assert np.abs(together - sample(trained, replace(config, seed=1)).images.astype(int)).max() > 10


def test_draws_are_standard_normal_streams_of_their_own(trained):
    draw = seeded_draw(0, range(50), (1, 8, 8), torch.device("cpu"))
    first, second = draw(), draw()
    alone = seeded_draw(0, [7], (1, 8, 8), torch.device("cpu"))
    assert torch.equal(first[7], alone()[0]) and torch.equal(second[7], alone()[0])
    assert abs(first.mean().item()) < 5 / 3200**0.5
    assert first.std().item() == pytest.approx(1, abs=0.1)
    assert abs(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1].item()) < 5 / 3200**0.5


def test_labels(trained):
    assert choose_labels(replace(FEW, num_images=12), 10).tolist() == [*range(10), 0, 1]
    random = choose_labels(replace(FEW, num_images=300, labels="random"), 10)
    assert set(random) == set(range(10))
    assert random[:5].tolist() == choose_labels(replace(FEW, num_images=5, labels="random"), 10).tolist()
    assert choose_labels(replace(FEW, labels=3), 10).tolist() == [3] * 6
    with pytest.raises(ValueError, match="a class from 0 to 9"):
        choose_labels(replace(FEW, labels=10), 10)
    assert choose_labels(FEW, 0).tolist() == [-1] * 6
    with pytest.raises(ValueError, match="unconditional"):
        choose_labels(replace(FEW, labels=3), 0)


def test_guidance_changes_the_images_and_scale_one_does_not(trained):
    plain = sample(trained, FEW).images
    same = sample(trained, replace(FEW, guidance=Guidance(1.0, "all"))).images
    guided = sample(trained, replace(FEW, guidance=Guidance(1e4))).images
    assert np.array_equal(plain, same)
    assert not np.array_equal(plain, guided)


def test_an_unconditional_run_trains_samples_and_refuses_guidance(small_config, tmp_path):
    run = Run.create(small_config(data=DataConfig(conditional=False)), tmp_path)
    train(run)
    assert run.spec.num_classes == 0
    samples = sample(run, FEW)
    assert samples.images.shape == (6, 8, 8, 1) and set(samples.labels) == {-1}
    with pytest.raises(ValueError, match="unconditional"):
        sample(run, replace(FEW, guidance=Guidance(2.0)))


def test_files_have_adms_layout_and_a_record(trained, tmp_path):
    save_samples(load_sampler(trained, FEW), tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as archive:
        assert archive["arr_0"].dtype == np.uint8 and archive["arr_0"].shape == (6, 8, 8, 1)
        assert archive["arr_1"].tolist() == [0, 1, 2, 3, 4, 5]
    record = json.loads((tmp_path / "x.json").read_text())
    assert record["step"] == 10 and record["weights"] == "ema" and record["sampler"]["solver"] == "ddpm"
    assert "batch_size" not in record


def test_progress_counts_images_as_their_updates_are_made(trained):
    seen = []
    with showing(lambda *call: seen.append(call)):
        sample(trained, replace(FEW, batch_size=2))
    counts = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]  # two images together, four updates
    assert seen == [(f"sample {trained.path.name}", count, 6, "images") for count in counts]


def test_progress_of_an_adaptive_solver_counts_its_updates(trained):
    run = Run(trained.path, replace(trained.config, process=PROCESSES["linear-velocity"]))
    sampler = replace(load_sampler(trained, FEW), run=run, config=replace(FEW, sampler=SamplerConfig(solver="dopri5")))
    seen = []
    with showing(lambda *call: seen.append(call[1:])):
        updates_as_progress(sampler)(5)
    assert seen == [(0, 0, "image updates"), (5, 0, "image updates")]


def test_the_first_image_beyond_all_numbers_is_named_and_no_file_written(trained, tmp_path):
    """Bytes have no NaN: it would become black, and be scored."""
    sampler = load_sampler(trained, replace(FEW, batch_size=2))

    def overflow(x, t, y):
        return sampler.model(x, t, y).masked_fill((y == 3).reshape(-1, 1, 1, 1), np.inf)

    with pytest.raises(NonFinite, match="image 3 is not finite"):
        save_samples(replace(sampler, model=overflow), tmp_path / "x.npz")
    assert not (tmp_path / "x.npz").exists()


def test_older_checkpoints_can_be_sampled(trained):
    assert sample(trained, FEW, step=5).provenance["step"] == 5


def test_samples_are_saved_under_a_name_that_says_npz(trained, tmp_path):
    samples = sample(trained, FEW)
    for name in ("x.png", "x", "x.npz.gz", "x.NPZ", "x.npy"):
        with pytest.raises(ValueError, match=f"{name}'; expected a name that ends in .npz"):
            samples.save(tmp_path / name)
    assert not list(tmp_path.glob("x*"))
