import numpy as np
import pytest

from adaln.data import DataConfig, encode, inspect
from adaln.progress import showing
from helpers.pictures import pixels, png, two_classes, write_folder, write_zip


def test_the_digits_are_told_as_they_are():
    found = inspect("digits")
    assert (found.kind, found.num_items, found.is_intact) == ("images (embedded)", 1797, True)
    assert found.shapes == {"1x8x8": 1797}
    assert found.class_counts["3"] == 183


def test_every_bad_picture_is_listed_and_the_rest_counted(tmp_path):
    files = two_classes() | {"cat/empty.png": b"", "dog/text.png": b"hello", "dog/wide.png": png(pixels(0, 6, 9))}
    for path, kind in (
        (write_folder(tmp_path / "set", files), "folder"),
        (write_zip(tmp_path / "s.zip", files), "zip"),
    ):
        seen = []
        with showing(lambda *call, seen=seen: seen.append(call)):
            found = inspect(str(path))
        assert found.kind == f"images in a {kind}"
        assert found.num_items == 9
        assert found.shapes == {"3x6x6": 6, "3x6x9": 1}
        assert found.class_counts == {"cat": 4, "dog": 5}
        assert [line.split(":")[0] for line in found.problems] == ["cat/empty.png", "dog/text.png"]
        assert not found.is_intact
        assert seen[-1] == (f"inspect {path}", 9, 9, "images")


def test_shards_are_held_against_their_hashes(tmp_path):
    encode(DataConfig(str(write_folder(tmp_path / "set", two_classes()))), tmp_path / "out", shard_rows=2)
    whole = inspect(str(tmp_path / "out"))
    assert whole.kind == "shards of adaln"
    assert whole.is_intact
    assert (whole.num_items, whole.shapes) == (6, {"3x6x6": 6})
    assert whole.class_counts == {"cat": 3, "dog": 3}
    flipped = tmp_path / "out/shard-000002.safetensors"
    content = bytearray(flipped.read_bytes())
    content[-1] ^= 1
    flipped.write_bytes(content)
    (tmp_path / "out/shard-000000.safetensors").unlink()
    problems = inspect(str(tmp_path / "out")).problems
    assert len(problems) == 2
    assert "shard-000000.safetensors: missing" in problems[0]
    assert "shard-000002.safetensors: its content is not what was written" in problems[1]


def test_an_unfinished_encoding_says_so(tmp_path):
    encode(DataConfig(str(write_folder(tmp_path / "set", two_classes()))), tmp_path / "out", shard_rows=2, world=2)
    assert "has not ended" in inspect(str(tmp_path / "out")).problems[0]


def test_a_path_that_is_not_there_is_refused_and_an_empty_one_has_a_problem(tmp_path):
    with pytest.raises(ValueError, match="no data at"):
        inspect(str(tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    assert "no images" in inspect(str(tmp_path / "empty")).problems[0]


def test_latents_of_fast_dit_are_read_to_the_last(tmp_path, monkeypatch):
    monkeypatch.setenv("ADALN_CACHE", str(tmp_path / "cache"))
    for name in ("a_features", "a_labels"):
        (tmp_path / "set" / name).mkdir(parents=True)
    for i in range(4):
        latent = np.full((1, 4, 2, 2), np.nan if i == 3 else 1.0, np.float32)
        np.save(tmp_path / "set/a_features" / f"{i}.npy", latent)
        np.save(tmp_path / "set/a_labels" / f"{i}.npy", np.array([i % 2]))
    found = inspect(str(tmp_path / "set"))
    assert (found.kind, found.num_items, found.class_counts) == ("latents of fast-DiT", 4, {"0": 2, "1": 2})
    assert found.problems == (f"{tmp_path / 'set/a_features/3.npy'}: row 3 is not finite (1 of rows 0 to 3)",)
    (tmp_path / "set/a_features/2.npy").write_bytes(b"")
    assert "2.npy' is not an intact npy file" in inspect(str(tmp_path / "set")).problems[0]


def test_what_a_set_holds_is_one_line_in_every_kind(tmp_path):
    files = two_classes() | {"cat/0.jfif": b"", "cat/1.HEIC": b"", "cat/2.heic": b""}
    said = "6 pictures, 2 classes (cat, dog) of at least 3; passed over: 2 .heic (cat/1.HEIC), 1 .jfif (cat/0.jfif)"
    folder = write_folder(tmp_path / "set", files)
    encode(DataConfig(str(folder)), tmp_path / "out")
    for path in (folder, write_zip(tmp_path / "s.zip", files), tmp_path / "out"):
        found = inspect(str(path))
        assert found.notes["holds"] == said
        assert found.passed_over == ("2 .heic (cat/1.HEIC)", "1 .jfif (cat/0.jfif)")
