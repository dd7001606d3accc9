import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaln.data import open_source
from adaln.data.keys import keys, missing
from helpers.pictures import path_for, pixels, png, write_folder, write_tar, write_zip

PICTURE = png(pixels(0))
WRITERS = [write_folder, write_zip, write_tar]


def keyed(stems, *endings, labels=(0, 1, 2)):
    files = {f"{stem}{ending}": PICTURE for stem in stems for ending in endings}
    return files | {f"{stem}.cls": str(label).encode() for stem, label in zip(stems, labels, strict=True)}


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    "stems",
    [
        "abc",
        ("img 0.5", "img 1.5", "img 2.5"),
        ("a.b0", "b1", "b2"),
        ("v1.0/0", "v1.0/1", "v1.0/2"),
        ("a/0", "b/0", "c/0"),
    ],
)
def test_a_class_file_beside_each_picture_is_its_class_in_every_container(tmp_path, write, stems):
    source = open_source(write(path_for(write, tmp_path), keyed(stems, ".png")))
    assert sorted(source.labels.tolist()) == [0, 1, 2] and source.class_names == ("0", "1", "2")
    assert source.passed_over == ()


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("without", ["a", "b", "c"])
def test_a_picture_without_a_class_file_is_named_whichever_it_is(tmp_path, write, without):
    files = keyed("abc", ".png")
    del files[f"{without}.cls"]
    with pytest.raises(
        ValueError, match=rf"{without}\.cls holds 'nothing'; expected the class number of '.*{without}\.png'"
    ):
        open_source(write(path_for(write, tmp_path), files))


@pytest.mark.parametrize("ending", [".seg.png", ".mask.PNG", ".depth.tif", ".1.png"])
def test_beside_a_plain_picture_others_of_its_key_are_passed_over_and_counted(tmp_path, ending):
    source = open_source(write_tar(tmp_path / "a.tar", keyed("abc", ".png", ending)))
    assert source.names == ["a.tar/a.png", "a.tar/b.png", "a.tar/c.png"]
    assert source.passed_over == (f"3 more pictures of one key (a.tar/a{ending})",)


@pytest.mark.parametrize("endings", [(".left.png", ".right.png"), (".png", ".jpg"), (".a.png", ".b.png", ".c.png")])
def test_several_pictures_of_a_key_without_a_plain_one_are_refused(tmp_path, endings):
    with pytest.raises(ValueError, match=r"'a\.tar/a' has several pictures"):
        open_source(write_tar(tmp_path / "a.tar", keyed("abc", *endings)))


def test_masks_are_passed_over_without_labels_too_and_other_dotted_names_are_not(tmp_path):
    masks = {f"{i}{ending}": PICTURE for i in range(3) for ending in (".png", ".seg.png")}
    assert len(open_source(write_tar(tmp_path / "a.tar", masks)).names) == 3
    dotted = {f"photo.{day}.png": PICTURE for day in ("2020.01", "2020.02", "x")}
    assert len(open_source(write_tar(tmp_path / "b.tar", dotted)).names) == 3
    lost = {name: content for name, content in masks.items() if name != "1.png"}
    with pytest.raises(ValueError, match=r"'d\.tar/1\.seg\.png' has no plain picture of its key beside it"):
        open_source(write_tar(tmp_path / "d.tar", lost))
    pairs = {f"{i}.{side}.png": PICTURE for i in range(3) for side in ("left", "right")}
    with pytest.raises(ValueError, match="has several pictures"):
        open_source(write_tar(tmp_path / "c.tar", pairs))


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("group", [("0.jpg", "0.png"), ("0.left.png", "0.right.png")])
@pytest.mark.parametrize("others", [("1.png",), ("1.jpg", "2.png"), ("1.left.png", "2.png"), ()])
def test_a_key_of_several_pictures_is_refused_however_many_others_have(tmp_path, labels, group, others):
    files = dict.fromkeys((*group, *others), PICTURE)
    files |= {f"{i}.cls": b"0" for i in range(3) if labels}
    with pytest.raises(ValueError, match=r"'a\.tar/0' has several pictures"):
        open_source(write_tar(tmp_path / "a.tar", files))


@given(st.sets(st.integers(0, 40), min_size=1), st.integers(1, 4), st.sampled_from(["a-{}.tar", "a{}-of-7.tar"]))
def test_the_gaps_of_a_numbering_are_what_would_make_it_whole(numbers, width, pattern):
    names = [pattern.format(f"{number:0{width}}") for number in numbers]
    gaps = missing(names)
    assert not set(gaps) & set(names)
    assert missing([*names, *gaps]) == []
    if "of" not in pattern:
        whole = range(min(1, *numbers), max(numbers) + 1)
        assert len(gaps) == (len(whole) - len(numbers) if len(whole) <= 2 * len(numbers) else 0)


@given(st.text(st.sampled_from("ab./ "), min_size=1, max_size=12))
def test_the_keys_of_a_name_are_what_stands_before_its_dots(name):
    found = keys(f"{name}.png")
    assert found[0] == name and found == sorted(found, key=len, reverse=True)
    assert all(name.startswith(key) and "/" not in name[len(key) :] for key in found)
