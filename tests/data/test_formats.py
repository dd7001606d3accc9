import zipfile
from contextlib import ExitStack

import numpy as np
import pytest
from PIL import Image

from adaln.data import DataConfig, encode, is_encoded, load, open_source
from adaln.data.formats import FORMATS, Format
from adaln.files import locked
from adaln.progress import showing
from adaln.registry import Registry
from helpers.pictures import pixels, png, two_classes, write_folder, write_zip


def load_from(path, tmp_path, **config):
    return load(DataConfig(path=str(path), **config), cache=tmp_path / "cache")


def test_the_default_is_the_embedded_digits():
    digits = load(DataConfig())
    assert digits.images.shape == (1797, 1, 8, 8)
    assert digits.images.dtype == np.uint8
    assert digits.images.max() == 255
    assert digits.images.min() == 0
    assert np.bincount(digits.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert (digits.spec.channels, digits.spec.height, digits.spec.width, digits.spec.num_classes) == (1, 8, 8, 10)


def test_digits_grow_to_the_size_asked_for():
    assert load(DataConfig(size=16)).images.shape == (1797, 1, 16, 16)


def test_a_folder_of_class_folders_is_read_pixel_for_pixel(tmp_path):
    found = load_from(write_folder(tmp_path / "set", two_classes()), tmp_path)
    assert found.class_names == ("cat", "dog")
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.spec.num_classes == 2
    np.testing.assert_array_equal(found.images[4], pixels(101).transpose(2, 0, 1))


def test_a_zip_equals_the_folder_it_was_packed_from(tmp_path):
    folder = load_from(write_folder(tmp_path / "set", two_classes()), tmp_path)
    packed = load_from(write_zip(tmp_path / "set.zip", two_classes()), tmp_path)
    wrapped = load_from(write_zip(tmp_path / "w.zip", {f"set/{k}": v for k, v in two_classes().items()}), tmp_path)
    np.testing.assert_array_equal(folder.images, packed.images)
    assert folder.fingerprint == packed.fingerprint == wrapped.fingerprint
    assert folder.class_names == packed.class_names == wrapped.class_names


def test_a_flat_folder_is_unconditional(tmp_path):
    found = load_from(write_folder(tmp_path / "flat", {f"{i}.png": png(pixels(i)) for i in range(3)}), tmp_path)
    assert found.spec.num_classes == 0
    assert found.class_names == ()
    assert found.labels.tolist() == [0, 0, 0]


def test_conditional_false_keeps_labels_but_asks_for_no_classes(tmp_path):
    found = load_from(write_folder(tmp_path / "set", two_classes()), tmp_path, conditional=False)
    assert found.spec.num_classes == 0
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_all_grey_images_have_one_channel_and_one_colour_image_makes_three(tmp_path):
    grey = two_classes(channels=1)
    assert load_from(write_folder(tmp_path / "grey", grey), tmp_path).spec.channels == 1
    mixed = load_from(write_folder(tmp_path / "mixed", grey | {"dog/9.png": png(pixels(9))}), tmp_path)
    assert mixed.spec.channels == 3
    np.testing.assert_array_equal(mixed.images[0], np.stack([pixels(0, channels=1)] * 3))


def test_images_deep_inside_a_class_folder_belong_to_the_class(tmp_path):
    files = two_classes() | {"dog/more/deep.png": png(pixels(7))}
    assert load_from(write_folder(tmp_path / "set", files), tmp_path).labels.tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_hidden_files_and_other_files_are_passed_over(tmp_path):
    files = two_classes() | {"cat/.thumb.png": b"", "__MACOSX/cat/0.png": b"", "readme.txt": b"hi", ".git/x.png": b""}
    assert len(load_from(write_folder(tmp_path / "set", files), tmp_path)) == 6
    assert len(load_from(write_zip(tmp_path / "set.zip", files), tmp_path)) == 6


def test_unicode_and_very_long_names_are_read(tmp_path):
    files = {"Käse 🧀/ñandú.png": png(pixels(1)), "雪/" + "x" * 240 + ".PNG": png(pixels(2))}
    for path in (write_folder(tmp_path / "set", files), write_zip(tmp_path / "set.zip", files)):
        found = load_from(path, tmp_path)
        assert found.class_names == ("Käse 🧀", "雪")
        assert len(found) == 2


def test_the_second_start_decodes_nothing(tmp_path, monkeypatch):
    path = write_folder(tmp_path / "set", two_classes())
    first = load_from(path, tmp_path)
    monkeypatch.setattr("adaln.data.pictures.decode", lambda *_: pytest.fail("decoded again"))
    second = load_from(path, tmp_path)
    assert second.fingerprint == first.fingerprint
    assert isinstance(second.images.base, np.memmap)


def test_a_changed_image_is_decoded_anew(tmp_path):
    path = write_folder(tmp_path / "set", two_classes())
    first = load_from(path, tmp_path)
    (path / "cat/0.png").write_bytes(png(pixels(999)))
    second = load_from(path, tmp_path)
    np.testing.assert_array_equal(second.images[0], pixels(999).transpose(2, 0, 1))
    assert second.fingerprint != first.fingerprint


def test_a_cached_file_cut_short_is_made_again(tmp_path):
    path = write_folder(tmp_path / "set", two_classes())
    first = load_from(path, tmp_path).fingerprint
    (cached,) = (tmp_path / "cache").rglob("pixels.bin")
    cached.write_bytes(cached.read_bytes()[:-1])
    again = load_from(path, tmp_path)
    assert again.fingerprint == first
    np.testing.assert_array_equal(again.images[5], pixels(102).transpose(2, 0, 1))


def test_a_failed_decoding_leaves_nothing_that_counts(tmp_path):
    path = write_folder(tmp_path / "set", two_classes() | {"dog/9.png": b"no image"})
    for _ in range(2):
        with pytest.raises(ValueError, match=r"dog/9\.png"):
            load_from(path, tmp_path)
    assert [file.suffix for file in (tmp_path / "cache/images").iterdir()] == [".lock"]


def test_what_a_killed_decoding_left_behind_is_cleared_away(tmp_path):
    path = write_folder(tmp_path / "set", two_classes())
    fingerprint = load_from(path, tmp_path).fingerprint
    (folder,) = (entry for entry in (tmp_path / "cache/images").iterdir() if entry.is_dir())
    (folder / "about.json").unlink()
    unfinished = folder.with_name(f".tmp-{folder.name}-1")
    folder.rename(unfinished)
    of_another_set = folder.with_name(".tmp-0123-1")
    of_another_set.mkdir()
    assert load_from(path, tmp_path).fingerprint == fingerprint
    assert not unfinished.exists()
    assert of_another_set.exists()  # its writer may be at work


def test_decoding_is_shown_to_the_last_image_and_only_once(tmp_path):
    seen = []
    path = write_folder(tmp_path / "set", two_classes())
    with showing(lambda *call: seen.append(call)):
        load_from(path, tmp_path)
        load_from(path, tmp_path)
    assert seen == [("decode set", i + 1, 6, "images") for i in range(6)]


def test_who_waits_for_another_process_to_decode_shows_how_much_it_has_written(tmp_path):
    path = write_folder(tmp_path / "set", two_classes())
    load_from(path, tmp_path)
    (folder,) = (entry for entry in (tmp_path / "cache/images").iterdir() if entry.is_dir())
    unfinished = folder.with_name(f".tmp-{folder.name}-1")
    folder.rename(unfinished)
    (unfinished / "pixels.bin").write_bytes(bytes(3_500_000))
    seen = []
    with ExitStack() as other_process:
        other_process.enter_context(locked(folder.with_suffix(".lock")))

        def show(*call):
            seen.append(call)
            other_process.close()

        with showing(show):
            load_from(path, tmp_path)
    assert seen[0] == ("decode set in another process", 3, 0, "MB")
    assert seen[1:] == [("decode set", i + 1, 6, "images") for i in range(6)]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "0 bytes"),
        (b"hello", "not in any image format"),
        (png(pixels(0, 40, 40))[:-200], "truncated"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "cannot decode"),
    ],
)
def test_an_undecodable_image_stops_with_its_path_or_is_skipped_and_reported(tmp_path, content, why):
    path = write_folder(tmp_path / "set", two_classes() | {"dog/broken.png": content})
    with pytest.raises(ValueError, match=why) as stopped:
        load_from(path, tmp_path)
    assert "dog/broken.png" in str(stopped.value)
    assert "\n" not in str(stopped.value)
    skipped = load_from(path, tmp_path, on_bad_image="skip")
    assert len(skipped) == 6
    assert len(skipped.skipped) == 1
    assert skipped.skipped[0].startswith("dog/broken.png: ")
    with pytest.raises(ValueError, match=r"dog/broken\.png"):
        load_from(path, tmp_path)  # what was skipped once is not forgotten


def test_a_damaged_member_of_a_zip_is_named(tmp_path):
    path = write_zip(tmp_path / "set.zip", two_classes())
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo("dog/1.png").header_offset + 60
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"dog/1\.png.*CRC"):
        load_from(path, tmp_path)


def test_a_dangling_link_is_a_bad_image(tmp_path):
    path = write_folder(tmp_path / "set", two_classes())
    (path / "cat/link.png").symlink_to("nowhere.png")
    with pytest.raises(ValueError, match=r"cat/link\.png"):
        load_from(path, tmp_path)
    assert len(load_from(path, tmp_path, on_bad_image="skip")) == 6


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (two_classes() | {"empty/": b""}, "class folder 'empty' holds no image"),
        (two_classes() | {"notes/a.txt": b""}, "class folder 'notes' holds no image"),
        ({"a.txt": b"", "b/c.csv": b""}, "no images among its 2 files"),
        (two_classes() | {"loose.png": png(pixels(0))}, r"'loose\.png' lies beside class folders"),
        (two_classes() | {"dog/9.png": png(pixels(0, 5, 7))}, r"cat/0\.png 6x6, dog/9\.png 5x7"),
        ({"cat/0.png": b"", "dog/0.png": b"x"}, "cannot decode"),
    ],
)
def test_a_set_that_cannot_be_learned_from_gets_one_clear_line(tmp_path, files, message):
    folder = tmp_path / "set"
    write_folder(folder, {name: content for name, content in files.items() if not name.endswith("/")})
    for name in files:
        if name.endswith("/"):
            (folder / name).mkdir()
    for path in (folder, write_zip(tmp_path / "set.zip", files)):
        with pytest.raises(ValueError, match=message) as error:
            load_from(path, tmp_path)
        assert "\n" not in str(error.value)


def test_a_class_whose_images_were_all_skipped_is_named(tmp_path):
    path = write_folder(tmp_path / "set", {"cat/0.png": png(pixels(0)), "dog/0.png": b""})
    with pytest.raises(ValueError, match="no image of class 'dog'"):
        load_from(path, tmp_path, on_bad_image="skip")


def test_nothing_decodable_is_said_even_when_skipping(tmp_path):
    path = write_folder(tmp_path / "set", {"cat/0.png": b""})
    with pytest.raises(ValueError, match="none of its 1 images"):
        load_from(path, tmp_path, on_bad_image="skip")


def test_a_kind_of_data_that_is_added_is_asked_before_the_others(tmp_path, monkeypatch):
    def box(path):
        return open_source(write_folder(tmp_path / "inside", two_classes()))

    added = Format(lambda path: path.endswith(".box"), box)
    monkeypatch.setattr("adaln.data.formats.FORMATS", Registry("data", {**FORMATS, "box": added}))
    (tmp_path / "a.box").write_bytes(b"any file is taken for a zip")
    assert len(load_from(tmp_path / "a.box", tmp_path)) == 6


def test_a_kind_of_data_that_raises_is_one_warning_and_passed_over(tmp_path, monkeypatch, caplog):
    added = Format(lambda path: 1 / 0 > 0)
    monkeypatch.setattr("adaln.data.formats.FORMATS", Registry("data", {**FORMATS, "torn": added}))
    path = write_folder(tmp_path / "set", two_classes())
    assert len(load_from(path, tmp_path)) == 6 and not is_encoded(str(path))
    warnings = [record.getMessage() for record in caplog.records]
    assert warnings == ["data 'torn' is passed over: ZeroDivisionError: division by zero"]


def test_what_is_encoded_is_not_encoded_again(tmp_path):
    encode(DataConfig(str(write_folder(tmp_path / "set", two_classes()))), tmp_path / "shards")
    assert is_encoded(str(tmp_path / "shards"))
    assert not any(map(is_encoded, (str(tmp_path / "set"), "digits", "nowhere")))
    for path in (f"{tmp_path}/shards", f"{tmp_path}/shards#Smiling"):
        with pytest.raises(ValueError, match="shards: shards of adaln; expected images that are still to be decoded"):
            open_source(path)
    with pytest.raises(ValueError, match="expected images that are still to be decoded"):
        load_from(f"{tmp_path}/shards#Smiling", tmp_path)


def test_an_unknown_path_names_the_nearest_choice(tmp_path):
    with pytest.raises(ValueError, match=r"no data at 'digit' .*nearest: 'digits'"):
        load_from("digit", tmp_path)
    with pytest.raises(ValueError, match="size is 0"):
        load(DataConfig(size=0))


def test_a_file_that_is_no_zip_is_refused(tmp_path):
    (tmp_path / "set.zip").write_bytes(b"not a zip")
    with pytest.raises(ValueError, match=r"set\.zip: is a text that begins 'not a zip'; expected a folder, zip or tar"):
        load_from(tmp_path / "set.zip", tmp_path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_in_a_zip_is_refused(tmp_path):
    path = write_zip(tmp_path / "set.zip", two_classes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("cat/0.png", png(pixels(5)))
    with pytest.raises(ValueError, match=r"'cat/0\.png' twice"):
        load_from(path, tmp_path)


def test_a_link_to_a_class_folder_is_followed(tmp_path):
    write_folder(tmp_path / "store", two_classes())
    (tmp_path / "set").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "set" / name).symlink_to(tmp_path / "store" / name)
    assert len(load_from(tmp_path / "set", tmp_path)) == 6


def test_a_link_that_leads_back_does_not_loop(tmp_path):
    path = write_folder(tmp_path / "set", two_classes())
    (path / "cat/again").symlink_to(path)
    assert len(load_from(path, tmp_path)) == 6


def test_size_crops_pictures_of_different_shapes_to_one(tmp_path):
    files = {"a/0.png": png(pixels(0, 31, 47)), "b/1.png": png(pixels(1, 9, 8))}
    found = load_from(write_folder(tmp_path / "set", files), tmp_path, size=10)
    assert found.images.shape == (2, 3, 10, 10)


def test_formats_other_than_png_are_read(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for suffix in ("jpg", "webp", "bmp", "gif", "tiff"):
        Image.fromarray(pixels(1)).save(folder / f"picture.{suffix}")
    assert len(load_from(folder, tmp_path)) == 5


def test_a_folder_that_bears_the_name_of_the_embedded_set_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load(DataConfig("digits")).passed_over == ()
    write_folder(tmp_path / "digits", two_classes())
    found = load(DataConfig("digits"))
    assert len(found) == 1797
    assert f"passed over: what lies at '{tmp_path / 'digits'}' (give its whole path for it)" in found.summary()
    assert len(load(DataConfig("./digits"), cache=tmp_path / "cache")) == 6
