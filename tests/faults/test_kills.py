"""Commands killed without warning, again and again: they end with the very bytes of one that nothing happened to."""

import pytest

from adaln.runs import read_records
from faults.small import ENCODE, SAMPLE, TRAIN, check_whole, contents, newest

pytestmark = pytest.mark.slow


def test_training_loses_the_steps_since_its_last_checkpoint_and_no_bit(adaln, tmp_path):
    words = [*TRAIN[:-1], "--steps", 40, "--keep-checkpoints", 2, "--out"]
    took = adaln(*words, tmp_path / "whole").done().seconds
    run, saved = tmp_path / "killed", [0]

    def look() -> None:
        check_whole(run)
        assert newest(run) >= saved[-1]
        saved.append(newest(run))
        steps = [row["step"] for row in read_records(run / "metrics.jsonl")]
        assert len(steps) < newest(run) + 2 * 4  # the next checkpoint may have been on its way

    assert adaln.killed_until_done([*words, run], run, look, took=took, changes=200, patience=40) >= 6
    assert len(set(saved)) >= 4
    assert contents(run) == contents(tmp_path / "whole")


def test_encoding_makes_no_shard_twice(adaln, tmp_path):
    took = adaln("encode", "digits", tmp_path / "whole", *ENCODE).done().seconds
    out, made = tmp_path / "killed", [{}]
    words = ["encode", "digits", out, *ENCODE]

    def look() -> None:
        check_whole(out)
        times = {file.name: file.stat().st_mtime_ns for file in out.glob("shard-*")}
        assert made[-1].items() <= times.items()
        made.append(times)

    assert adaln.killed_until_done(words, out, look, took=took, changes=100, patience=40) >= 6
    assert contents(out) == contents(tmp_path / "whole")


def test_sampling_loses_one_batch_at_most(adaln, clean, tmp_path):
    words = ["sample", clean, *SAMPLE, "--out"]
    took = adaln(*words, tmp_path / "whole" / "x.npz").done().seconds
    out, made = tmp_path / "killed" / "x.npz", [{}]

    def look() -> None:
        check_whole(out.parent)
        times = {file.name: file.stat().st_mtime_ns for file in out.parent.glob("*.parts/0*.npy")}
        assert made[-1].items() <= times.items() or out.exists()
        made.append(times)

    assert adaln.killed_until_done([*words, out], out.parent, look, took=took, changes=65, patience=40) >= 6
    assert contents(out.parent) == contents(tmp_path / "whole")
