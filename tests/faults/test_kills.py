"""Commands killed without warning, again and again: they end with the very bytes of one that nothing happened to."""

import itertools
import shutil

import pytest

from adaln.runs import read_records
from helpers.autoencoders import save_autoencoder
from helpers.pictures import two_classes, write_zip
from helpers.smallest_commands import (
    SAMPLE,
    STUDY,
    TRAIN,
    check_whole,
    contents,
    finished,
    kept,
    newest,
    temporaries,
    times,
)


@pytest.fixture(params=[pytest.param(6, marks=pytest.mark.slow), pytest.param(24, marks=pytest.mark.nightly)])
def kills(request):
    """Of each command that is killed again and again."""
    return request.param


def test_training_loses_the_steps_since_its_last_checkpoint_and_no_bit(adaln, tmp_path, kills):
    """A checkpoint is nearly always being written."""
    words = [*TRAIN[:-1], "--steps", 60, "--checkpoint-every", 2, "--keep-checkpoints", 2, "--out"]
    run, whole = tmp_path / "run", tmp_path / "whole"
    adaln(*words, whole).done()

    def look(before):
        steps = [row["step"] for row in read_records(run / "metrics.jsonl")]
        assert len(steps) <= newest(run) + 2 * 2  # a checkpoint may have been on its way, and the next waiting for it
        assert newest(run) >= before.get(run, 0)
        return {run: newest(run)}

    adaln.killed_again_and_again([*words, run], run, whole, look, changes=200, kills=kills)


def test_training_that_scores_on_its_way_has_the_same_scores(adaln, tmp_path, kills):
    few = ["--evaluate.num-images", 20, "--evaluate.sampler.solver", "ddim", "--evaluate.sampler.steps", 5]
    run, whole = tmp_path / "run", tmp_path / "whole"
    words = [*TRAIN[:-1], "--evaluate.every", 4, *few, "--out", run]
    adaln(*words).done()
    shutil.copytree(run, whole)

    def look(before):
        return kept(before, times(run.glob("scores/*.npz"), run.glob("scores/*.scores.json")))

    adaln.killed_again_and_again(words, run, whole, look, changes=200, kills=kills)


@pytest.mark.parametrize("kind", ["pictures", "latents"])
def test_encoding_makes_no_shard_twice(adaln, tmp_path, kind, kills):
    pictures = write_zip(tmp_path / "set.zip", two_classes(60, height=8, width=8))
    network = save_autoencoder(tmp_path / "vae") if kind == "latents" else "none"
    adaln.preload("diffusers.models.autoencoders.autoencoder_kl")
    words = ["--shard-rows", 2, "--batch-size", 1, "--autoencoder", network, "--device", "cpu"]
    out, whole = tmp_path / "out", tmp_path / "whole"
    adaln("encode", pictures, whole, *words).done()

    def look(before):
        return kept(before, times(out.glob("shard-*")))

    adaln.killed_again_and_again(["encode", pictures, out, *words], out, whole, look, changes=200, kills=kills)


def test_sampling_loses_one_batch_at_most_and_finished_samples_never(adaln, clean, tmp_path, kills):
    words = ["sample", clean, *SAMPLE, "--out"]
    folder, whole = tmp_path / "now", tmp_path / "whole"
    out = folder / "x.npz"
    adaln(*words, whole / "x.npz").done()

    def look(before):
        if out.exists():
            return kept({file: time for file, time in before.items() if file == out}, times([out]))
        return kept(before, times(folder.glob("x.npz.parts/0*.npy")))

    adaln.killed_again_and_again([*words, out], folder, whole, look, changes=65, kills=kills)


@pytest.mark.slow
def test_samples_that_are_all_drawn_survive_a_kill_before_every_change_to_come(adaln, clean, tmp_path):
    """They take the place of others: at every moment the record is that of the images beside it, or not there."""
    folder, drawn = tmp_path / "now", tmp_path / "drawn"
    words = ["sample", clean, *SAMPLE, "--batch-size", 12, "--out", folder / "x.npz"]
    adaln(*words).done()
    new = contents(folder)
    adaln(*words, "--seed", 1).done()
    old, seen = contents(folder), set()
    assert adaln(*words, where=str(folder / ".tmp-x.npz-"), change=1).is_killed
    folder.rename(drawn)
    for change in itertools.count(1):
        shutil.copytree(drawn, folder)
        if not adaln(*words, where=str(folder), change=change).is_killed:
            break
        check_whole(folder)
        found, written = contents(folder), (folder / "x.npz").stat().st_mtime_ns
        is_new = found["x.npz"] == new["x.npz"]
        images = new if is_new else old
        assert found["x.npz"] == images["x.npz"] and found.get("x.json", images["x.json"]) == images["x.json"]
        seen.add((is_new, "x.json" in found))
        said = adaln(*words).done().out
        assert said.startswith("nothing to draw: " if is_new else "wrote 24 images")
        assert ((folder / "x.npz").stat().st_mtime_ns == written) == is_new
        assert contents(folder) == new and not temporaries(folder)
        shutil.rmtree(folder)
    assert seen == {(False, True), (False, False), (True, False), (True, True)}


def test_a_study_loses_what_its_runs_lose(adaln, clean_study, root, kills):
    adaln.killed_again_and_again(
        [*STUDY, root], root, clean_study, lambda before: kept(before, finished(root)), changes=250, kills=kills
    )


@pytest.mark.slow
def test_a_study_whose_runs_are_done_survives_a_kill_before_every_change_to_come(adaln, clean_study, root):
    shutil.copytree(clean_study, root, dirs_exist_ok=True)
    shutil.rmtree(root / "studies")
    for change in itertools.count(1):
        if not adaln(*STUDY, root, where=str(root), change=change).is_killed:
            break
        check_whole(root)
    assert change > 10
    assert contents(root) == contents(clean_study) and not temporaries(root)
