import io

import numpy as np
import pytest
from PIL import Image

from adaln.data import DataConfig, encode, inspect, load
from adaln.data.pictures import centre_crop, decode, has_several_frames, is_colour
from helpers.pictures import pixels, png, two_classes, write_folder


def encoded(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def box_halved(array: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels, each direction rounded to a byte (halves up) as Pillow does."""
    across = (array[:, ::2].astype(int) + array[:, 1::2] + 1) // 2
    return (across[::2] + across[1::2] + 1) // 2


def test_a_picture_of_the_right_size_is_left_alone():
    array = pixels(0, 16, 16)
    np.testing.assert_array_equal(np.asarray(centre_crop(Image.fromarray(array), 16)), array)


def test_only_the_longer_side_is_cropped_and_around_the_centre():
    array = pixels(0, 9, 16)
    np.testing.assert_array_equal(np.asarray(centre_crop(Image.fromarray(array), 9)), array[:, 3:12])
    np.testing.assert_array_equal(
        np.asarray(centre_crop(Image.fromarray(array.swapaxes(0, 1)), 9)).swapaxes(0, 1), array[:, 3:12]
    )


def test_power_of_two_reductions_are_box_means():
    array = pixels(0, 32, 32, channels=1)
    cropped = np.asarray(centre_crop(Image.fromarray(array), 8))
    np.testing.assert_array_equal(cropped, box_halved(box_halved(array)))


@pytest.mark.parametrize(
    ("width", "height", "size"), [(47, 31, 10), (500, 333, 64), (33, 129, 32), (64, 64, 33), (7, 5, 8)]
)
def test_odd_sizes_follow_the_documented_procedure(width, height, size):
    picture = Image.fromarray(pixels(1, height, width))
    expected = picture
    while min(expected.size) >= 2 * size:
        expected = expected.resize(tuple(side // 2 for side in expected.size), resample=Image.BOX)
    scale = size / min(expected.size)
    array = np.array(expected.resize(tuple(round(side * scale) for side in expected.size), resample=Image.BICUBIC))
    top, left = (array.shape[0] - size) // 2, (array.shape[1] - size) // 2
    np.testing.assert_array_equal(np.asarray(centre_crop(picture, size)), array[top : top + size, left : left + size])


def test_exif_rotation_is_applied():
    array = pixels(0, 4, 6)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to stand upright
    upright = decode(png(array, exif=exif), None, "RGB")
    np.testing.assert_array_equal(upright.transpose(1, 2, 0), np.rot90(array, -1))


def test_damaged_exif_does_not_spoil_the_pixels():
    picture = Image.fromarray(pixels(0))
    damaged = encoded(picture, "JPEG", exif=b"Exif\0\0" + b"XX*\0garbage")
    np.testing.assert_array_equal(decode(damaged, None, "RGB"), decode(encoded(picture, "JPEG"), None, "RGB"))


def test_sixteen_bit_grey_is_rescaled_not_clipped():
    array = np.array([[0, 257, 65535], [128 * 257, 300, 1000]], dtype=np.uint16)
    decoded = decode(encoded(Image.fromarray(array)), None, "L")
    assert decoded.tolist() == [[[0, 1, 255], [128, 1, 4]]]


def test_thirty_two_bit_pixels_are_refused():
    with pytest.raises(ValueError, match="no fixed range"):
        decode(encoded(Image.fromarray(np.ones((3, 3), np.float32)), "TIFF"), None, "L")


def test_alpha_is_laid_over_white():
    array = np.zeros((2, 2, 4), np.uint8)
    array[0, 0] = (10, 20, 30, 255)
    decoded = decode(png(array), None, "RGB")
    assert decoded[:, 0, 0].tolist() == [10, 20, 30]
    assert decoded[:, 1, 1].tolist() == [255, 255, 255]


def test_a_palette_with_transparency_is_laid_over_white_too():
    picture = Image.new("P", (2, 1))
    picture.putpalette([0, 0, 0, 200, 100, 50])
    picture.putpixel((1, 0), 1)
    decoded = decode(encoded(picture, transparency=0), None, "RGB")
    assert decoded[:, 0].T.tolist() == [[255, 255, 255], [200, 100, 50]]


def test_cmyk_becomes_rgb():
    decoded = decode(encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "TIFF"), None, "RGB")
    assert decoded[:, 0, 0].tolist() == [0, 255, 255]


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    animated = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(animated, None, "RGB")[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("mode", "colour"),
    [("1", False), ("L", False), ("LA", False), ("I;16", False), ("P", True), ("RGB", True), ("RGBA", True)],
)
def test_colour_is_a_matter_of_the_stored_mode(mode, colour):
    assert is_colour(encoded(Image.new(mode, (2, 2)))) == colour


def frames(kind: str, count: int) -> bytes:
    first, *others = [Image.fromarray(pixels(i)) for i in range(count)]
    return encoded(first, kind, **({"save_all": True, "append_images": others} if others else {}))


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG", "MPO"])
def test_pictures_of_several_frames_are_known_in_every_format(kind):
    assert has_several_frames(frames(kind, 3))
    assert not has_several_frames(frames("JPEG" if kind == "MPO" else kind, 1))
    assert not has_several_frames(frames(kind, 3)[:10])


def test_that_further_frames_are_left_out_is_said_wherever_the_set_is_read(tmp_path):
    files = two_classes() | {"cat/a.gif": frames("GIF", 3), "dog/b.tif": frames("TIFF", 2)}
    path, said = write_folder(tmp_path / "set", files), ("all but the first frame of 2 pictures (cat/a.gif)",)
    for _ in range(2):  # decoded, then from the cache
        assert load(DataConfig(str(path)), cache=tmp_path / "cache").passed_over == said
    assert inspect(str(path)).passed_over == said
    assert encode(DataConfig(str(path)), tmp_path / "out", shard_rows=3).passed_over == said
    assert load(DataConfig(str(tmp_path / "out"))).passed_over == said
