import subprocess
import sys

import pytest

from adaln.data import PUBLISHED_SETS, check_published, open_source, published_config
from helpers.pictures import pixels, png, write_folder

PICTURE = png(pixels(0))
UNPACKED = {
    "imagenet-256": [f"ILSVRC/Data/CLS-LOC/{split}/n0144000{i}/a.JPEG" for split in ("train", "val") for i in range(2)],
    "tiny-imagenet-64": [f"tiny-imagenet-200/train/n0{i}/images/a.JPEG" for i in range(2)],
    "afhq-512": [f"afhq/{split}/{name}/a.jpg" for split in ("train", "val") for name in ("cat", "dog")],
    "celeba-hq-256": ["CelebA-HQ-img/0.jpg", "CelebA-HQ-img/1.jpg"],
}


@pytest.mark.parametrize("name", UNPACKED)
def test_the_training_part_is_found_where_the_authors_put_it(tmp_path, name):
    write_folder(tmp_path, dict.fromkeys(UNPACKED[name], PICTURE))
    config = published_config(name, tmp_path)
    source = open_source(tmp_path / config.path)
    assert len(source.names) == 2
    assert len(source.class_names) == (2 if PUBLISHED_SETS[name].num_classes else 0)
    assert config.size == PUBLISHED_SETS[name].size
    assert config.conditional == (PUBLISHED_SETS[name].num_classes > 0)


@pytest.mark.parametrize("name", UNPACKED)
def test_the_folder_of_the_training_part_itself_will_do(tmp_path, name):
    write_folder(tmp_path, dict.fromkeys(UNPACKED[name], PICTURE))
    inner = published_config(name, tmp_path).path
    assert (
        open_source(tmp_path / published_config(name, tmp_path / inner).path).names
        == open_source(tmp_path / inner).names
    )


def test_an_incomplete_set_is_not_taken_for_the_published_one():
    check_published("afhq-256", 14_630, ("cat", "dog", "wild"))
    with pytest.raises(ValueError, match="100 images; AFHQ has 14,630 or 14,336"):
        check_published("afhq-256", 100, ("cat", "dog", "wild"))
    with pytest.raises(ValueError, match="2 images; AFHQ has"):
        check_published("afhq-512", 2, ("cat", "dog"))
    with pytest.raises(ValueError, match="2 classes; AFHQ has 3"):
        check_published("afhq-256", 14_336, ("cat", "dog"))


def test_an_unknown_layout_names_the_nearest(tmp_path):
    with pytest.raises(ValueError, match=r"unknown data layout 'imagnet-256' .*nearest: 'imagenet-256'"):
        published_config("imagnet-256", tmp_path)
    with pytest.raises(ValueError, match="expected the unpacked AFHQ"):
        published_config("afhq-256", tmp_path / "nothing")


DIGITS = """
import sys
from adaln.data.published_sets import read_digits
images, labels = read_digits()
assert "sklearn" not in sys.modules
from sklearn.datasets import load_digits
there = load_digits()
assert (images == (there.images * 255 / 16).round()).all() and (labels == there.target).all()
"""


@pytest.mark.slow
def test_the_digits_are_those_of_scikit_learn_which_is_not_imported_for_them():
    done = subprocess.run([sys.executable, "-c", DIGITS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
