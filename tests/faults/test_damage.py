"""Files of a run that were cut, changed or lost: the command recovers, or says in one line which file it is."""

import json
import random
import shutil

import pytest

from helpers.smallest_commands import CHECKPOINT, ENCODE, NETWORK, SAMPLE, STUDY, TRAIN, contents, newest


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file):
    file.write_bytes(b"")


def spoil(file):
    """A byte of the header that makes no JSON of it."""
    content = bytearray(file.read_bytes())
    content[9] = 0
    file.write_bytes(content)


def lose(file):
    file.unlink()


def tear(file):
    """Cut in the midst of the last line, as a kill or a full disk does."""
    file.write_bytes(file.read_bytes()[:-20])


def scribble(file):
    """Change a line in the midst of the file, which no kill does."""
    lines = file.read_bytes().split(b"\n")
    file.write_bytes(b"\n".join([lines[0], lines[1][: len(lines[1]) // 2], *lines[2:]]))


@pytest.mark.slow
@pytest.mark.parametrize("damage", [cut, empty, spoil, lose])
def test_a_damaged_checkpoint_is_made_again_from_the_newest_complete_one(adaln, clean, run, damage):
    for name, step in zip(sorted(CHECKPOINT), (12, 12, 8), strict=True):  # two files of the last, one before
        damage(run / "checkpoints" / f"{step:09d}" / name)
    adaln(*TRAIN, run).done()
    assert json.loads((run / "manifest.json").read_text())["sessions"][-1]["from_step"] == 4
    assert contents(run) == contents(clean)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [cut, empty, spoil, lose])
def test_samples_come_from_the_newest_complete_checkpoint(adaln, run, tmp_path, damage):
    damage(run / "checkpoints" / f"{12:09d}" / "ema.safetensors")
    adaln("sample", run, *SAMPLE, "--out", tmp_path / "x.npz").done()
    assert json.loads((tmp_path / "x.json").read_text())["step"] == 8
    said = adaln("sample", run, *SAMPLE, "--step", 12, "--out", tmp_path / "y.npz").refused()
    assert "no complete checkpoint at step 12; it has: [4, 8]" in said


@pytest.mark.slow
@pytest.mark.parametrize("damage", [cut, empty, spoil, lose])
def test_damaged_shards_are_named_and_made_again(adaln, tmp_path, damage):
    out = tmp_path / "out"
    words = ["encode", "digits", out, *ENCODE]
    adaln(*words).done()
    whole, shard = contents(out), out / "shard-000003.safetensors"
    damage(shard)
    said = adaln("train", "digits", *NETWORK, "--data.path", out, "--steps", 1, "--out", tmp_path / "run").refused()
    assert str(shard) in said
    adaln(*words).done()
    assert contents(out) == whole


@pytest.mark.slow
@pytest.mark.parametrize("damage", [cut, empty, spoil, lose])
def test_a_study_makes_a_damaged_checkpoint_and_what_came_of_it_again(adaln, clean_study, root, damage):
    shutil.copytree(clean_study, root, dirs_exist_ok=True)
    run = min(root.glob("digits-adaln-mix-s0-*"))
    damage(run / "checkpoints" / f"{8:09d}" / "training.safetensors")
    scores, samples = min(run.glob("scores/000000008*.scores.json")), min(run.glob("scores/000000008*.npz"))
    scores.unlink()
    damage(samples)
    adaln(*STUDY, root).done()
    assert contents(root) == contents(clean_study)
    cut(scores)
    assert str(scores) in adaln(*STUDY, root).refused()


@pytest.mark.slow
def test_whatever_byte_of_a_header_is_changed_the_run_recovers_or_names_the_file(adaln, clean, run):
    rng, refused = random.Random(0), 0
    words = [*TRAIN[:-1], "--steps", 14, "--out"]
    adaln(*words, clean.with_name("longer")).done()
    for name in sorted(CHECKPOINT) * 4:
        file = run / "checkpoints" / f"{12:09d}" / name
        content = bytearray(file.read_bytes())
        content[rng.randrange(8 + int.from_bytes(content[:8], "little"))] ^= 1 << rng.randrange(7)
        file.write_bytes(content)
        ended = adaln(*words, run)
        if ended.code:
            refused += 1
            assert str(file) in ended.refused()
        else:
            shutil.rmtree(run / "checkpoints" / f"{12:09d}")
            shutil.copytree(clean / "checkpoints" / f"{12:09d}", run / "checkpoints" / f"{12:09d}")
            assert contents(run) == contents(clean.with_name("longer"))
        shutil.rmtree(run)
        shutil.copytree(clean, run)
    assert refused < 12


@pytest.mark.slow
@pytest.mark.parametrize("records", ["metrics.jsonl", "analysis/roles.jsonl"])
def test_records_that_a_kill_has_torn_are_written_again(adaln, clean, run, records):
    shutil.rmtree(run / "checkpoints" / f"{12:09d}")
    tear(run / records)
    adaln(*TRAIN, run).done()
    assert contents(run) == contents(clean)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *(
            (name, damage)
            for name in ("config.json", "manifest.json", "order.json")
            for damage in (cut, empty, scribble)
        ),
        *((name, scribble) for name in ("metrics.jsonl", "analysis/roles.jsonl")),  # a kill can do the others
    ],
)
def test_other_damage_to_what_a_run_knows_names_the_file(adaln, run, name, damage):
    shutil.rmtree(run / "checkpoints" / f"{12:09d}")
    damage(run / name)
    assert str(run / name) in adaln(*TRAIN, run).refused()
    assert newest(run) == 8


@pytest.mark.slow
@pytest.mark.parametrize("content", ["{}", "[]", "[1]", '{"a": 1}', "null"])
@pytest.mark.parametrize(
    "name", ["config.json", "manifest.json", "order.json", "metrics.jsonl", "analysis/roles.jsonl"]
)
def test_json_of_something_else_is_refused_or_mended(adaln, clean, run, name, content):
    shutil.rmtree(run / "checkpoints" / f"{12:09d}")
    (run / name).write_text(content + "\n")
    ended = adaln(*TRAIN, run)
    if ended.code:
        assert str(run / name) in ended.refused()
    else:
        assert contents(run) == contents(clean)


@pytest.mark.slow
def test_samples_cut_short_are_not_scored(adaln, clean, tmp_path):
    out = tmp_path / "x.npz"
    adaln("sample", clean, *SAMPLE, "--out", out).done()
    cut(out)
    assert str(out) in adaln("evaluate", out, "--reference", "digits").refused()


@pytest.mark.slow
@pytest.mark.parametrize("content", ["", "{", "{}", '{"study": "quickstart"}', "[]"])
def test_a_study_that_cannot_be_read_names_its_file(adaln, tmp_path, content):
    (tmp_path / "study.json").write_text(content)
    assert str(tmp_path / "study.json") in adaln("report", tmp_path).refused()
