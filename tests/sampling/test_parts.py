"""Samples written part by part: killed at any moment, drawn by any number of processes, the same file."""

import json
import tracemalloc
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from adaln.files import claimed
from adaln.processes import Guidance, SamplerConfig
from adaln.progress import showing
from adaln.runs import Run
from adaln.sampling import SampleConfig, Sampler, Weak, load_sampler, parts, sample, save_samples
from adaln.sampling.parts import assemble, holds_sample, sample_key
from helpers.in_threads import in_processes

CONFIG = SampleConfig(num_images=10, batch_size=4, sampler=SamplerConfig(solver="ddpm", steps=3))


def savez(images: np.ndarray, labels: np.ndarray, key: str) -> bytes:
    """What numpy writes, with the key as comment."""
    buffer = BytesIO()
    np.savez(buffer, arr_0=images, arr_1=labels)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = key.encode()
    return buffer.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def at_once(run: Run) -> bytes:
    """The file of all images drawn in memory."""
    return savez(sample(run, CONFIG).images, load_sampler(run, CONFIG).labels, sample_key(load_sampler(run, CONFIG)))


def never(x, t, y):
    pytest.fail("drawn again")


@contextmanager
def stopped_at(images: int):
    """Interrupts once so many images, or their share of the updates, are drawn."""

    def interrupt(stage: str, done: int, total: int, unit: str) -> None:
        if done >= images:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), showing(interrupt):
        yield


def save(sampler: Sampler, path: Path) -> list[int]:
    """How many images were said to be drawn, one call after the other."""
    seen: list[int] = []
    with showing(lambda stage, done, total, unit: seen.append(done)):
        save_samples(sampler, path)
    return seen


@pytest.fixture
def sampler(trained):
    return load_sampler(trained, CONFIG)


def test_the_file_is_what_numpy_writes_of_all_images_at_once(trained, sampler, tmp_path: Path):
    save_samples(sampler, tmp_path / "x.npz")
    assert (tmp_path / "x.npz").read_bytes() == at_once(trained)
    record = json.loads((tmp_path / "x.json").read_text())
    assert record == {**json.loads(json.dumps(sampler.record)), "key": sample_key(sampler)}
    assert sorted(file.name for file in tmp_path.iterdir() if file.is_file()) == ["x.json", "x.npz"]


@pytest.mark.parametrize("images", [1, 5, *(pytest.param(n, marks=pytest.mark.slow) for n in (4, 8, 9, 10))])
def test_stopped_anywhere_it_goes_on_and_loses_one_batch_at_most(trained, sampler, tmp_path: Path, images: int):
    out = tmp_path / "x.npz"
    with stopped_at(images):
        save_samples(sampler, out)
    assert not out.exists()
    before, *_, last = save(load_sampler(trained, CONFIG), out)
    assert before % 4 == 0 and images - 4 <= before < images
    assert last == 10
    assert out.read_bytes() == at_once(trained)
    assert not (tmp_path / "x.npz.parts").exists()


def test_what_is_finished_is_not_drawn_again_and_what_a_kill_left_undone_is_done(trained, sampler, tmp_path: Path):
    out = tmp_path / "x.npz"
    assert save_samples(sampler, out)
    whole = contents(tmp_path)
    (tmp_path / "x.json").unlink()
    (tmp_path / "x.npz.parts").mkdir()
    (tmp_path / "x.npz.parts" / "00000000-00000004-0123456789.npy").touch()
    (tmp_path / ".tmp-x.npz.parts-1").mkdir()
    (tmp_path / ".tmp-x.png-1").touch()
    others = tmp_path / ".tmp-x.y.npz-1"  # which another process is writing
    others.touch()
    assert save(replace(load_sampler(trained, CONFIG), model=never), out) == [10]
    others.unlink()
    assert contents(tmp_path) == whole


@pytest.mark.slow
def test_other_images_take_the_place_of_finished_ones(trained, sampler, tmp_path: Path):
    out = tmp_path / "x.npz"
    save_samples(sampler, out)
    for change in ({"seed": 1}, {"num_images": 9}, {"guidance": Guidance(2.0)}, {"labels": 3}, {"dtype": "bfloat16"}):
        other = load_sampler(trained, replace(CONFIG, **change))
        assert save_samples(other, out) and not save_samples(other, out)
        record = json.loads((tmp_path / "x.json").read_text())
        assert record == {**json.loads(json.dumps(other.record)), "key": sample_key(other)}
    assert save_samples(load_sampler(trained, CONFIG, step=5), out)
    assert save_samples(sampler, out)
    assert out.read_bytes() == at_once(trained)


def test_a_damaged_file_is_not_taken_for_finished(trained, sampler, tmp_path: Path):
    out, key = tmp_path / "x.npz", sample_key(sampler)
    save_samples(sampler, out)
    whole = out.read_bytes()
    flipped = whole[:500] + bytes([whole[500] ^ 1]) + whole[501:]
    for damaged in (b"", whole[:-1], whole[200:], whole[:400] + whole[500:], flipped):
        assert holds_sample(out, key)
        out.write_bytes(damaged)
        assert not holds_sample(out, key)
        out.write_bytes(whole)
    out.write_bytes(flipped)
    assert save_samples(sampler, out)
    assert out.read_bytes() == whole


def test_the_record_of_other_images_never_lies_beside_new_ones(trained, sampler, tmp_path: Path, monkeypatch):
    out = tmp_path / "x.npz"
    save_samples(load_sampler(trained, replace(CONFIG, seed=1)), out)

    def die(path: Path, content: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(parts, "write_atomically", die)
        save_samples(sampler, out)
    assert out.read_bytes() == at_once(trained) and not (tmp_path / "x.json").exists()
    assert not save_samples(sampler, out)
    assert json.loads((tmp_path / "x.json").read_text())["seed"] == 0


@pytest.mark.slow
def test_only_whole_parts_of_the_very_same_images_are_taken(trained, tmp_path: Path):
    out = tmp_path / "x.npz"
    for other in (replace(CONFIG, seed=1), replace(CONFIG, guidance=Guidance(2.0)), replace(CONFIG, dtype="bfloat16")):
        with stopped_at(10):
            save_samples(load_sampler(trained, other), out)
        assert len(list((tmp_path / "x.npz.parts").glob("*.npy"))) == 2
    with stopped_at(10):
        save_samples(load_sampler(trained, CONFIG), out)
    first, second = sorted((tmp_path / "x.npz.parts").glob("*.npy"))
    first.write_bytes(first.read_bytes()[:-1])
    second.write_bytes(b"")
    assert save(load_sampler(trained, CONFIG), out)[0] == 0
    assert out.read_bytes() == at_once(trained)


def test_parts_drawn_with_other_weights_are_drawn_again(trained, tmp_path: Path):
    """The same run made anew on another machine has the same name and step, but not the same bytes."""
    out = tmp_path / "x.npz"
    with stopped_at(6):
        save_samples(load_sampler(trained, CONFIG), out)
    later, earlier = (trained.folder(step) / "ema.safetensors" for step in (10, 5))
    later.write_bytes(earlier.read_bytes())
    assert save(load_sampler(trained, CONFIG), out)[0] == 0


def test_the_weights_that_guide_are_part_of_what_decides(trained):
    guided = replace(CONFIG, guidance=Guidance(2.0))
    by_last, by_first = (load_sampler(trained, guided, weak=Weak(trained, step)) for step in (10, 5))
    assert by_last.weights[0] == by_first.weights[0] != by_first.weights[1]


def test_a_second_process_with_the_same_file_is_refused(sampler, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("adaln.files.PATIENCE_SECONDS", 0)
    (tmp_path / "x.npz.parts").mkdir()
    held = claimed(tmp_path / "x.npz.parts" / ".rank-0.lock", "")
    with held, pytest.raises(ValueError, match=r"x.npz: another process is drawing these samples"):
        save_samples(sampler, tmp_path / "x.npz")
    save_samples(sampler, tmp_path / "x.npz")


def test_the_file_is_put_together_with_one_part_in_memory(tmp_path: Path):
    images = np.random.default_rng(0).integers(0, 256, (64, 128, 128, 3), dtype=np.uint8)
    parts = [tmp_path / f"{i:02d}.npy" for i in range(16)]
    for part, piece in zip(parts, np.split(images, 16), strict=True):
        np.save(part, piece)
    tracemalloc.start()
    assemble(parts, np.arange(64), tmp_path / "x.npz", "key")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * images.nbytes / 16
    assert (tmp_path / "x.npz").read_bytes() == savez(images, np.arange(64), "key")


# Processes


@pytest.mark.parametrize("world", [2, 3, 5])
def test_processes_share_the_batches_and_write_the_file_of_one(trained, sampler, tmp_path: Path, monkeypatch, world):
    save_samples(sampler, tmp_path / "one.npz")

    def draw() -> list[int]:
        seen = save(load_sampler(trained, CONFIG), tmp_path / "many.npz")
        assert (tmp_path / "many.npz").exists()  # whoever returns finds it
        return seen

    first, *_ = in_processes(monkeypatch, world, draw)
    assert (tmp_path / "many.npz").read_bytes() == (tmp_path / "one.npz").read_bytes()
    assert (first[0], first[-1]) == (0, 10)  # the first one's share stands for all


def test_what_one_process_began_several_finish(trained, sampler, tmp_path: Path, monkeypatch):
    with stopped_at(5):
        save_samples(sampler, tmp_path / "x.npz")
    first, _ = in_processes(monkeypatch, 2, lambda: save(load_sampler(trained, CONFIG), tmp_path / "x.npz"))
    assert (first[0], first[-1]) == (4, 10)
    assert (tmp_path / "x.npz").read_bytes() == at_once(trained)
