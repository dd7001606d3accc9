"""A full cache is used by whoever can read it; one that lacks something and cannot be written is named."""

import errno
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adaln.data import DataConfig, default_cache, load
from adaln.metrics.classifier import LabelledImages, classifier_extractor
from adaln.metrics.inception import read_weights
from helpers.pictures import two_classes, write_folder, write_tar, write_zip
from helpers.strangers import as_stranger, folder_of_all, take_rights


@pytest.fixture
def place(monkeypatch):
    with folder_of_all() as folder:
        monkeypatch.setenv("ADALN_CACHE", str(folder / "cache"))
        yield folder


def fast_dit(folder: Path) -> Path:
    for name, row in (("a_features", np.ones((1, 4, 2, 2), np.float32)), ("a_labels", np.array([1]))):
        (folder / name).mkdir(parents=True)
        for number in range(3):
            np.save(folder / name / f"{number}.npy", row)
    return folder


def classifier(place: Path) -> str:
    images = np.arange(8 * 64, dtype=np.uint32).astype(np.uint8).reshape(8, 1, 8, 8)
    return classifier_extractor(LabelledImages(images, np.arange(8) % 2), default_cache()).fingerprint


KINDS = {
    "folder": lambda place: load(DataConfig(str(place / "set"))).fingerprint,
    "zip": lambda place: load(DataConfig(str(place / "set.zip"))).fingerprint,
    "labels": lambda place: load(DataConfig(str(place / "fast"))).fingerprint,
    "classifier": classifier,
}


@pytest.fixture
def data(place):
    write_folder(place / "set", two_classes(2, height=8, width=8))
    write_zip(place / "set.zip", two_classes(2, height=8, width=8))
    fast_dit(place / "fast")
    return place


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_cache_is_used_by_whoever_can_only_read_it(data, kind, monkeypatch):
    monkeypatch.setattr("adaln.metrics.classifier.FEWEST_STEPS", 2)
    kept = KINDS[kind](data)
    take_rights(data)
    assert as_stranger(lambda: KINDS[kind](data)) == kept


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("has_folder", [True, False])
def test_a_cache_that_lacks_something_and_cannot_be_written_is_named(data, kind, has_folder, monkeypatch):
    monkeypatch.setattr("adaln.metrics.classifier.FEWEST_STEPS", 2)
    for folder in ("images", "labels") if has_folder else ():
        (data / "cache" / folder).mkdir(parents=True)
    with monkeypatch.context() as patch:  # here all that is needed is imported, which a stranger may not read
        patch.setenv("ADALN_CACHE", str(data / "other"))
        KINDS[kind](data)
    take_rights(data)
    line = as_stranger(lambda: KINDS[kind](data))
    assert line.startswith(f"ValueError: the cache '{data}/cache' lacks what is needed and cannot be written (")
    assert line.endswith("; set ADALN_CACHE to a folder that can") and "Permission denied" in line


def test_weights_that_cannot_be_kept_are_not_fetched(data):
    take_rights(data)
    line = as_stranger(lambda: read_weights(None, default_cache()))
    assert line.startswith(f"ValueError: the cache '{data}/cache' lacks what is needed and cannot be written (")


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_disk_that_is_mounted_to_be_read_is_no_other_case(data, code, monkeypatch):
    def refuse(path, *args, **others):
        raise OSError(code, os.strerror(code), str(path))

    kept = KINDS["folder"](data)
    for name in ("mkdir", "write_bytes", "rename"):
        monkeypatch.setattr(Path, name, refuse)
    assert KINDS["folder"](data) == kept
    with pytest.raises(ValueError, match=f"the cache .* cannot be written \\({os.strerror(code)}.*ADALN_CACHE"):
        KINDS["zip"](data)


def rewrite(file: Path, content: bytes) -> None:
    """Other bytes of the same number under the same time, as an archive of fixed times leaves them."""
    assert len(content) == file.stat().st_size
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    file.write_bytes(content)
    os.utime(file, ns=times)


def bitmap(value: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(content, "BMP")
    return content.getvalue()


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_a_picture_that_was_replaced_by_one_of_its_size_and_time_is_decoded_anew(place, kind):
    write = write_folder if kind == "folder" else write_tar
    path, other = (
        write(place / name, {f"{c}/0.bmp": bitmap(value + i) for i, c in enumerate("ab")})
        for name, value in (("set.tar", 10), ("other.tar", 20))
    )
    before, expected = (load(DataConfig(str(each))).fingerprint for each in (path, other))
    for file, new in [(path, other)] if kind == "tar" else [(path / f"{c}/0.bmp", other / f"{c}/0.bmp") for c in "ab"]:
        rewrite(file, new.read_bytes())
    assert load(DataConfig(str(path))).fingerprint == expected != before


def test_rights_and_notes_that_change_beside_the_pictures_decode_nothing(place, monkeypatch):
    path = write_folder(place / "set", two_classes(2, height=8, width=8))
    before = load(DataConfig(str(path))).fingerprint
    monkeypatch.setattr("adaln.data.cache.write_decoded", lambda *args: pytest.fail("it was decoded"))
    for file in path.rglob("*.png"):
        file.chmod(0o600)
    (path / "notes.txt").write_text("mine")
    assert load(DataConfig(str(path))).fingerprint == before
    monkeypatch.setattr("adaln.data.cache.content_of", lambda source: pytest.fail("it was read again"))
    assert load(DataConfig(str(path))).fingerprint == before


@pytest.mark.parametrize("home", ["/dev/null", "/proc/nowhere"])
def test_a_home_that_is_no_folder_names_the_way_on(data, home, monkeypatch):
    monkeypatch.delenv("ADALN_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", home)
    with pytest.raises(ValueError, match=f"the cache '{home}/.cache/adaln' .* set ADALN_CACHE to a folder that can"):
        KINDS["folder"](data)


def test_a_user_without_any_home_is_told_to_name_a_cache(monkeypatch):
    monkeypatch.setenv("ADALN_CACHE", "")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pathlib.os.path.expanduser", lambda path: path)
    with pytest.raises(ValueError, match="no home folder for a cache; set ADALN_CACHE"):
        default_cache()


def test_a_lock_that_another_user_left_holds_nobody_up(data):
    (data / "cache/images").mkdir(parents=True)
    (data / "cache/images").chmod(0o777)
    kept = KINDS["folder"](data)
    folder = next(path for path in (data / "cache/images").iterdir() if path.is_dir())
    lock = folder.with_suffix(".lock")
    lock.chmod(0o444)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    assert as_stranger(lambda: KINDS["folder"](data)) == kept
