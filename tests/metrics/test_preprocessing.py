"""From bytes to a network's input: sizes, crops and filters against Pillow's, and what is not followed."""

import numpy as np
import pytest
import torch
from PIL import Image

from adaln.metrics.preprocessing import Preprocessing, of_timm, of_transformers
from adaln.rng import generator

CLIP = {
    "do_convert_rgb": True,
    "do_resize": True,
    "do_center_crop": True,
    "do_normalize": True,
    "size": {"shortest_edge": 224},
    "crop_size": {"height": 224, "width": 224},
    "resample": 3,
    "rescale_factor": 1 / 255,
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.2, 0.3, 0.4],
    "image_processor_type": "CLIPImageProcessor",
}
TIMM = {
    "input_size": (3, 224, 224),
    "crop_pct": 0.95,
    "crop_mode": "center",
    "interpolation": "bicubic",
    "mean": (0.5, 0.5, 0.5),
    "std": (0.25, 0.25, 0.25),
}
PLAIN = {"factor": 1.0, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def pictures(*shape: int) -> torch.Tensor:
    return torch.randint(256, shape, generator=generator("pictures", *shape), dtype=torch.uint8)


@pytest.mark.parametrize(("filter_", "pillows"), [("bilinear", 2), ("bicubic", 3)])
@pytest.mark.parametrize("size", [(20, 30), (48, 56), (90, 70)], ids=str)
def test_resizing_is_pillows_up_to_two_levels(filter_, pillows, size):
    images = pictures(4, 3, 48, 56)
    ours = Preprocessing(size, None, filter_, **PLAIN)(images)
    theirs = [
        np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).resize(size[::-1], pillows)) for image in images
    ]
    apart = ours.permute(0, 2, 3, 1) - torch.from_numpy(np.stack(theirs)).float()
    assert apart.abs().max() <= 2
    assert (apart != 0).float().mean() < 0.05


@pytest.mark.parametrize(
    ("height", "width", "shorter", "size"),
    [(64, 64, 32, (32, 32)), (48, 64, 36, (36, 48)), (70, 51, 32, (43, 32)), (16, 20, 28, (28, 35))],
)
def test_the_shorter_side_gets_the_size_and_the_longer_one_its_whole_pixels(height, width, shorter, size):
    assert Preprocessing(shorter, None, "bicubic", **PLAIN)(pictures(1, 1, height, width)).shape == (1, 3, *size)


@pytest.mark.parametrize(("margin", "down", "even"), [(4, 2, 2), (1, 0, 0), (3, 1, 2), (11, 5, 6)])
def test_half_of_an_odd_margin_is_rounded_as_each_library_rounds(margin, down, even):
    images = torch.arange(20 + margin, dtype=torch.uint8)[None, None, None].expand(1, 1, 20 + margin, -1)
    for rule, first in (("down", down), ("even", even)):
        cropped = Preprocessing(None, (20, 20), "none", **PLAIN, odd_margin=rule)(images)
        assert cropped[0, 0, 0].tolist() == [*range(first, first + 20)]


def test_bytes_are_multiplied_then_normalised_channel_by_channel_and_grey_is_three_of_a_kind():
    grey = pictures(2, 1, 8, 8)
    seen = Preprocessing(None, None, "none", 1 / 255, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))(grey)
    for channel, (mean, std) in enumerate(((0.4, 0.2), (0.5, 0.3), (0.6, 0.4))):
        torch.testing.assert_close(seen[:, channel], (grey[:, 0] / 255 - mean) / std)


def convnext(**changes: object) -> dict[str, object]:
    without_crop = {name: value for name, value in CLIP.items() if "crop" not in name}
    return without_crop | {"image_processor_type": "ConvNextImageProcessor"} | changes


@pytest.mark.parametrize(
    ("config", "resize", "crop"),
    [
        (CLIP, 224, (224, 224)),
        (CLIP | {"size": 224, "crop_size": 224}, 224, (224, 224)),
        (CLIP | {"do_center_crop": False}, 224, None),
        (CLIP | {"do_resize": False}, None, (224, 224)),
        (CLIP | {"size": {"height": 384, "width": 256}, "do_center_crop": False}, (384, 256), None),
        (CLIP | {"size": 224, "image_processor_type": "ViTImageProcessor"}, (224, 224), (224, 224)),
        (convnext(crop_pct=0.875), 256, (224, 224)),
        (convnext(size={"shortest_edge": 384}), (384, 384), None),
        (
            convnext(size=224, image_processor_type=None, feature_extractor_type="ConvNextFeatureExtractor"),
            256,
            (224, 224),
        ),
    ],
)
def test_sizes_are_those_that_the_processor_of_that_class_takes(config, resize, crop):
    made = of_transformers(config)
    assert (made.resize, made.crop, made.odd_margin) == (resize, crop, "down")
    assert made.mean == (0.4, 0.5, 0.6)


@pytest.mark.parametrize(
    ("changes", "resize"),
    [({}, 235), ({"crop_pct": 0.875}, 256), ({"crop_mode": "squash", "crop_pct": 1.0}, (224, 224))],
)
def test_timms_crops_are_a_share_of_what_is_resized(changes, resize):
    made = of_timm(TIMM | changes)
    assert (made.resize, made.crop, made.factor, made.odd_margin) == (resize, (224, 224), 1 / 255, "even")


@pytest.mark.parametrize(
    ("read", "config", "said"),
    [
        (of_transformers, CLIP | {"do_pad": True}, "asks for do_pad; expected do_center_crop, do_convert_rgb"),
        (of_transformers, CLIP | {"resample": 1}, "resizes by the filter 1; expected 2 or 3"),
        (of_transformers, CLIP | {"resample": None}, "resizes by the filter None"),
        (of_transformers, CLIP | {"size": {"longest_edge": 224}}, "size is {'longest_edge': 224}; expected a number"),
        (of_transformers, CLIP | {"size": -3}, "size is -3"),
        (of_transformers, CLIP | {"crop_size": None}, "crop_size is None"),
        (of_transformers, CLIP | {"image_mean": 0.5}, "image_mean is 0.5; expected three numbers"),
        (of_transformers, CLIP | {"image_std": ["a", "b", "c"]}, "image_std is"),
        (of_timm, TIMM | {"crop_mode": "border"}, "crop_mode 'border' to 3x224x224; expected 'center'"),
        (of_timm, TIMM | {"input_size": (3, 224, 192)}, "to 3x224x192"),
        (of_timm, TIMM | {"input_size": (1, 28, 28)}, "to 1x28x28"),
        (of_timm, TIMM | {"interpolation": "lanczos"}, "the filter 'lanczos'; expected 'bilinear' or 'bicubic'"),
    ],
)
def test_what_is_not_followed_is_refused(read, config, said):
    with pytest.raises(ValueError) as caught:
        read(config)
    assert said in str(caught.value)


def test_images_below_the_crop_are_refused():
    with pytest.raises(ValueError, match="images of 16x16 pixels before a crop to 20x20"):
        Preprocessing(None, (20, 20), "none", **PLAIN)(pictures(1, 3, 16, 16))
