"""Images are read the same from every container; what is not images is refused in one line."""

import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adaln.data import DataConfig, Dataset, load
from adaln.data.dataset import Rows
from adaln.metrics import Extractor, Features, collect
from adaln.metrics.images import open_images
from adaln.types import DataSpec
from helpers import pictures as files_of

MEANS = Extractor("means", "", "0", lambda images: Features(images.float().mean(dim=(2, 3))))


def pictures(count: int = 5, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 9, 8, channels), dtype=np.uint8)


def read(source, size: int = 2, num_images: int | None = None) -> np.ndarray:
    return torch.cat(list(open_images(source, num_images).batches(size))).permute(0, 2, 3, 1).numpy()


def write_folder(path: Path, images: np.ndarray) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image.squeeze()).save(path / f"{i:03d}.png")
    return path


def write_zip(path: Path, images: np.ndarray) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for i, image in reversed(list(enumerate(images))):
            buffer = BytesIO()
            Image.fromarray(image.squeeze()).save(buffer, "png")
            archive.writestr(f"class/{i:03d}.png", buffer.getvalue())
    return path


def write_npz(path: Path, images: np.ndarray) -> Path:
    np.savez_compressed(path, arr_0=images)
    return path


@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_npz_folders_and_zips_give_the_same_images_in_the_same_order(tmp_path, channels):
    images = pictures(channels=channels)
    sources = [
        images,
        images.transpose(0, 3, 1, 2),
        torch.from_numpy(images),
        write_npz(tmp_path / "a.npz", images),
        write_folder(tmp_path / "folder", images),
        write_zip(tmp_path / "a.zip", images),
    ]
    for source in sources:
        np.testing.assert_array_equal(read(source), images)
        np.testing.assert_array_equal(read(source, size=100, num_images=3), images[:3])


def test_a_read_only_array_such_as_a_memory_map_is_read_without_a_warning():
    images = pictures()
    images.flags.writeable = False
    np.testing.assert_array_equal(read(images), images)


def test_a_data_set_in_memory_or_in_shards_gives_its_images_under_its_name():
    images = pictures()
    first, second = np.split(images.transpose(0, 3, 1, 2), [2])
    first.flags.writeable = False
    for stored in (images.transpose(0, 3, 1, 2), Rows([first, second])):
        dataset = Dataset("five", stored, np.zeros(5, np.int64), (), DataSpec(3, 9, 8, 0), "f")
        np.testing.assert_array_equal(read(dataset), images)
        stream = open_images(dataset, 4)
        assert (stream.name, stream.num_images) == ("five", 4)
        origins = [collect(open_images(of), MEANS).origin.sha256 for of in (dataset, images)]
        assert origins[0] == origins[1]


def test_a_stream_can_be_read_twice(tmp_path):
    stream = open_images(write_npz(tmp_path / "a.npz", pictures()))
    first, second = (torch.cat(list(stream.batches(3))) for _ in range(2))
    torch.testing.assert_close(first, second)
    assert [len(batch) for batch in stream.batches(3)] == [3, 2]


def test_what_is_left_out_of_an_npz_and_of_pictures_of_several_frames_is_said(tmp_path):
    images = pictures()
    np.savez(tmp_path / "a.npz", arr_0=images, arr_1=np.arange(5), arr_2=images)
    origin = collect(open_images(tmp_path / "a.npz"), MEANS).origin
    assert origin.passed_over == ("array 'arr_2' of the shape (5, 9, 8, 3)",)
    folder = write_folder(tmp_path / "folder", images)
    first, *others = map(Image.fromarray, images)
    first.save(folder / "more.gif", save_all=True, append_images=others)
    origin = collect(open_images(folder), MEANS).origin
    assert (origin.num_images, origin.passed_over) == (6, ("all but the first frame of 1 pictures (more.gif)",))


def test_an_npz_is_read_piece_by_piece(tmp_path, monkeypatch):
    path = write_npz(tmp_path / "a.npz", pictures(50))
    pieces: list[int] = []
    plain = zipfile.ZipExtFile.read
    monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda self, n=-1: pieces.append(n) or plain(self, n))
    assert len(read(path, size=4)) == 50
    assert max(pieces) == 4 * 9 * 8 * 3


STORED: dict[str, Callable[[Image.Image], Image.Image]] = {
    "1": lambda picture: picture.convert("1"),
    "L": lambda picture: picture.convert("L"),
    "LA": lambda picture: picture.convert("LA"),
    "I;16": lambda picture: Image.fromarray(257 * np.asarray(picture.convert("L"), np.uint16)),
    "P": lambda picture: picture.quantize(4),
    "grey P": lambda picture: picture.convert("L").convert("P"),
    "RGB": lambda picture: picture,
    "RGBA": lambda picture: picture.convert("RGBA"),
}
"""A picture as files store it, by Pillow's modes."""
CONTAINERS = {
    "folder": (files_of.write_folder, ""),
    "a.zip": (files_of.write_zip, ""),
    "a.tar": (files_of.write_tar, ""),
    "tars": (files_of.write_tar, "part-0.tar"),
}
"""How each is written, and where in it."""


@given(st.lists(st.sampled_from([*STORED]), min_size=1, max_size=5), st.sampled_from([*CONTAINERS]))
@settings(max_examples=12, deadline=None)
def test_pictures_of_any_kinds_in_any_order_and_container_are_what_training_reads(kinds, container):
    files = {}
    for i, (kind, image) in enumerate(zip(kinds, pictures(len(kinds)), strict=True)):
        STORED[kind](Image.fromarray(image)).save(buffer := BytesIO(), "PNG")
        files[f"{i:02d}.png"] = buffer.getvalue()
    with TemporaryDirectory() as folder:
        path = Path(folder, container)
        write, inside = CONTAINERS[container]
        write(path / inside, files)
        expected = np.asarray(load(DataConfig(str(path)), cache=Path(folder, "cache")).images)
        np.testing.assert_array_equal(read(path), expected.transpose(0, 2, 3, 1))
        assert open_images(path).shape == expected.shape[1:]
    assert len(expected[0]) == (1 if set(kinds) <= {"1", "L", "LA", "I;16"} else 3)


def test_what_is_no_picture_is_passed_over_and_counted(tmp_path):
    images = pictures(2)
    folder = write_folder(tmp_path / "folder", images)
    (folder / "._000.png").write_bytes(b"resource fork")
    (folder / "notes.txt").write_text("notes")
    (folder / "dataset.json").write_text("{}")
    write_folder(folder / "@eaDir", images)
    np.testing.assert_array_equal(read(folder), images)
    assert sorted(open_images(folder).passed_over) == [
        "1 .txt (notes.txt)",
        "1 @eaDir (@eaDir)",
        "1 hidden (._000.png)",
    ]


def test_pictures_need_no_layout_of_classes(tmp_path):
    images = pictures(4)
    for part, name in enumerate((".", "cat", "train", "a/b")):
        write_folder(tmp_path / "f" / name, images[part : part + 1])
    assert sorted(map(np.sum, read(tmp_path / "f"))) == sorted(map(np.sum, images))


def test_alpha_and_palette_are_read_as_rgb(tmp_path):
    (tmp_path / "f").mkdir()
    Image.new("RGBA", (8, 9), (1, 2, 3, 255)).save(tmp_path / "f" / "a.png")
    Image.new("RGB", (8, 9), (1, 2, 3)).quantize(4).save(tmp_path / "f" / "b.png")
    assert read(tmp_path / "f").reshape(-1, 3).tolist() == [[1, 2, 3]] * 144


BAD_ARRAYS = {
    "float": (np.zeros((2, 8, 8, 3), np.float32), "got float32 images, expected uint8"),
    "nan": (np.full((2, 8, 8, 3), np.nan), "got float64 images, expected uint8"),
    "channels": (np.zeros((2, 8, 8, 4), np.uint8), r"got shape \(2, 8, 8, 4\), expected .* with 1 or 3 channels"),
    "axes": (np.zeros((8, 8, 3), np.uint8), r"got shape \(8, 8, 3\)"),
    "none": (np.zeros((0, 8, 8, 3), np.uint8), "got no images"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_arrays_that_are_not_images_are_refused_in_one_line(case, tmp_path):
    array, message = BAD_ARRAYS[case]
    for source in (array, write_npz(tmp_path / "a.npz", array)):
        with pytest.raises(ValueError, match=message) as caught:
            open_images(source)
        assert "\n" not in str(caught.value)


def test_an_npz_without_arr_0_names_what_it_has(tmp_path):
    np.savez(tmp_path / "a.npz", images=pictures())
    with pytest.raises(ValueError, match=r"a\.npz: has no 'arr_0', got \['images'\]"):
        open_images(tmp_path / "a.npz")


def test_an_npz_with_python_objects_is_refused_without_running_them(tmp_path):
    np.savez(tmp_path / "a.npz", arr_0=np.array([{"a": 1}, None], dtype=object))
    with pytest.raises(ValueError, match="got object images, expected uint8"):
        open_images(tmp_path / "a.npz")


def test_fewer_images_than_asked_for_is_an_error():
    with pytest.raises(ValueError, match="got 5 images, expected at least 6"):
        open_images(pictures(), 6)


def test_a_damaged_npz_is_named(tmp_path):
    path = write_npz(tmp_path / "a.npz", pictures(200))
    content = bytearray(path.read_bytes())
    content[5000:5100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz' is not an intact npz: Bad CRC"):
        read(path)
    path.write_bytes(content[:3000])
    with pytest.raises(ValueError, match=r"a\.npz"):
        open_images(path)


def test_a_picture_that_cannot_be_decoded_is_named(tmp_path):
    folder = write_folder(tmp_path / "folder", pictures(2))
    (folder / "bad.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"bad\.png: cannot be decoded"):
        read(folder)


def test_pictures_of_unequal_size_are_named(tmp_path):
    folder = write_folder(tmp_path / "folder", pictures(2))
    Image.new("RGB", (4, 4)).save(folder / "z.png")
    with pytest.raises(ValueError, match=r"z\.png: got \(3, 4, 4\), expected \(3, 9, 8\)"):
        read(folder)


def test_what_is_neither_npz_nor_folder_nor_zip_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("text")
    for name, message in (("gone", "does not exist"), ("a.txt", "is a text that"), ("empty", "no images among")):
        with pytest.raises(ValueError, match=f"{name}: {message}"):
            open_images(tmp_path / name)
