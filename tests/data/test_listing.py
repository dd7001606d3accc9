import numpy as np
import pytest

from adaln.data import DataConfig, load, open_source
from helpers.pictures import pixels, png, two_classes, write_folder, write_tar


def webdataset(folder, labels=((3, 0), (1,)), **replaced):
    for number, part in enumerate(labels):
        files = {}
        for i, label in enumerate(part):
            files[f"{i:04d}.png"] = png(pixels(10 * number + i))
            files[f"{i:04d}.cls"] = str(label).encode()
        write_tar(folder / f"train-{number:03d}.tar", files | replaced)
    return folder


def test_webdataset_shards_are_read_with_the_labels_beside_the_pictures(tmp_path):
    source = open_source(webdataset(tmp_path / "set"))
    assert source.names == ["train-000.tar/0000.png", "train-000.tar/0001.png", "train-001.tar/0000.png"]
    assert source.labels.tolist() == [3, 0, 1]
    assert source.class_names == ("0", "1", "2", "3")
    found = load(DataConfig(str(tmp_path / "set")), cache=tmp_path / "cache")
    np.testing.assert_array_equal(found.images[2], pixels(10).transpose(2, 0, 1))


def test_a_tar_of_class_folders_equals_the_folder(tmp_path):
    folder = load(DataConfig(str(write_folder(tmp_path / "set", two_classes()))), cache=tmp_path / "cache")
    packed = load(DataConfig(str(write_tar(tmp_path / "set.tar", two_classes()))), cache=tmp_path / "cache")
    assert packed.fingerprint == folder.fingerprint


def test_tars_without_labels_are_unconditional(tmp_path):
    write_tar(tmp_path / "set/a.tar", {"./0.png": png(pixels(0)), "./0.txt": b"a caption"})
    assert open_source(tmp_path / "set").class_names == ()


@pytest.mark.parametrize("content", [b"", b"-1", b"cat", b"1.5", b"\xff"])
def test_a_class_file_without_a_number_is_named(tmp_path, content):
    with pytest.raises(ValueError, match=r"train-000\.tar/0001\.cls holds") as error:
        open_source(webdataset(tmp_path / "set", **{"0001.cls": content}))
    assert "\n" not in str(error.value)


def test_a_picture_without_its_class_file_is_named(tmp_path):
    write_tar(tmp_path / "a.tar", {"0.png": png(pixels(0)), "0.cls": b"1", "1.png": png(pixels(1))})
    with pytest.raises(ValueError, match=r"1\.cls holds 'nothing'; expected the class number of 'a\.tar/1\.png'"):
        open_source(tmp_path / "a.tar")


@pytest.mark.parametrize("num_bytes", [100, 700, 2000])
def test_a_tar_cut_short_is_named(tmp_path, num_bytes):
    path = write_tar(tmp_path / "a.tar", {f"{i}.png": png(pixels(i, 20, 20)) for i in range(3)})
    path.write_bytes(path.read_bytes()[:num_bytes])
    with pytest.raises(ValueError, match=r"a\.tar: cut short"):
        open_source(path)


def test_a_tar_left_beside_class_folders_is_not_taken_for_the_set(tmp_path):
    write_folder(tmp_path / "set", two_classes())
    write_tar(tmp_path / "set/original.tar", {"0.png": png(pixels(0))})
    assert open_source(tmp_path / "set").class_names == ("cat", "dog")


def test_a_compressed_tar_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"")
    with pytest.raises(ValueError, match="cannot be read at random; unpack it"):
        open_source(tmp_path / "a.tar.gz")


def test_a_name_twice_in_a_tar_is_refused(tmp_path):
    import tarfile

    path = write_tar(tmp_path / "a.tar", {"0.png": png(pixels(0))})
    with tarfile.open(path, "a") as archive:
        archive.addfile(tarfile.TarInfo("0.png"))
    with pytest.raises(ValueError, match=r"'0\.png' twice"):
        open_source(path)
