import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaln.data import open_source
from adaln.data.folders import are_shards, by_folder
from adaln.data.formats import open_pictures
from helpers.pictures import path_for, pixels, png, two_classes, write_folder, write_tar, write_zip

PICTURE = png(pixels(0))


def class_tars(folder, stems, name="{stem}_{i}.JPEG"):
    for stem in stems:
        write_tar(folder / f"{stem}.tar", {name.format(stem=stem, i=i): PICTURE for i in range(2)})
    return folder


@pytest.mark.parametrize(
    ("stems", "name"),
    [
        (("n01440764", "n01443537"), "{stem}_{i}.JPEG"),
        (("n01440764", "n01443537"), "{i}.JPEG"),
        (("cat", "dog", "élan"), "{i}.png"),
        (("class1", "class2"), "{stem}_{i}.png"),
    ],
)
def test_a_tar_for_each_class_is_a_class(tmp_path, stems, name):
    source = open_source(class_tars(tmp_path / "set", stems, name))
    assert source.class_names == tuple(stems)
    assert source.labels.tolist() == [number for number in range(len(stems)) for _ in range(2)]


def test_a_tar_of_class_tars_equals_the_folder_of_them(tmp_path):
    folder = class_tars(tmp_path / "set", ("n01440764", "n01443537"))
    outer = write_tar(tmp_path / "outer.tar", {path.name: path.read_bytes() for path in folder.iterdir()})
    inside, beside = open_source(outer), open_source(folder)
    assert (inside.class_names, inside.labels.tolist()) == (beside.class_names, beside.labels.tolist())
    assert [inside.read(name) for name in inside.names] == [beside.read(name) for name in beside.names]


@pytest.mark.parametrize("cut", [512, 2000])
def test_a_tar_that_is_cut_short_within_a_tar_is_named(tmp_path, cut):
    folder = class_tars(tmp_path / "set", ("cat", "dog"))
    outer = write_tar(tmp_path / "outer.tar", {p.name: p.read_bytes()[:cut] for p in sorted(folder.iterdir())})
    with pytest.raises(ValueError, match=r"outer\.tar' is not a whole tar"):
        open_source(outer)


@pytest.mark.parametrize("stems", [("train-000", "train-001"), ("00000", "00001"), ("part_1_of_2", "part_2_of_2")])
def test_tars_that_differ_in_digits_alone_are_shards(tmp_path, stems):
    assert open_source(class_tars(tmp_path / "set", stems, "{i}.png")).class_names == ()


@pytest.mark.parametrize(
    ("stems", "said"), [(("train", "val"), "are splits"), (("cat-0", "cat-1", "dog-0"), "are they classes or shards?")]
)
def test_tars_that_may_be_either_are_refused(tmp_path, stems, said):
    with pytest.raises(ValueError, match=said):
        open_source(class_tars(tmp_path / "set", stems, "{i}.png"))


def test_an_empty_class_tar_is_named(tmp_path):
    write_tar(class_tars(tmp_path / "set", ("cat", "dog")) / "emu.tar", {"0.jfif": b""})
    with pytest.raises(ValueError, match=r"class tar 'emu\.tar' holds no image \(1 \.jfif\)"):
        open_source(tmp_path / "set")


STEM = st.from_regex(r"[a-z]{1,3}[0-9]{0,2}", fullmatch=True)


@given(st.lists(STEM, min_size=2, max_size=4, unique=True))
def test_tars_are_shards_classes_or_refused_and_never_lose_their_labels(stems):
    names = [f"{stem}.tar/x.png" for stem in stems]
    tars = [f"{stem}.tar" for stem in stems]
    try:
        found = are_shards(tars, names)
    except ValueError:
        assert any(stem[-1].isdigit() for stem in stems)
    else:
        assert found == (len({stem.rstrip("0123456789") for stem in stems}) == 1 and stems[0][-1].isdigit())


@settings(max_examples=50)
@given(st.lists(st.sampled_from(["home", "me", "set", "x.y"]), max_size=3))
def test_folders_around_the_whole_set_are_no_classes(around):
    before = "".join(f"{part}/" for part in around)
    names = sorted(before + name for name in two_classes())
    folders = {name.rsplit("/", depth)[0] for name in names for depth in range(1, name.count("/") + 1)}
    labels, class_names = by_folder(names, folders, names)
    assert (class_names, labels.tolist()) == (("cat", "dog"), [0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize("write", [write_folder, write_zip])
def test_a_class_without_pictures_says_what_it_holds(tmp_path, write):
    path = write(tmp_path / "set.zip", two_classes() | {"emu/0.jfif": b"", "emu/1.HEIC": b"", "emu/2.heic": b""})
    with pytest.raises(ValueError, match=r"class folder 'emu' holds no image \(2 \.heic, 1 \.jfif\); fill"):
        open_source(path)


@pytest.mark.parametrize("content", [b"", bytes(512), bytes(10240)])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("stems", [("cat", "dog", "owl"), ("a-0", "a-1", "a-2")])
def test_a_tar_without_files_is_named_and_neither_a_shard_nor_a_class_is_lost(tmp_path, content, nested, stems):
    path = class_tars(tmp_path / "set", stems, "{i}.png")
    (path / f"{stems[2]}.tar").write_bytes(content)
    if nested:
        path = write_tar(tmp_path / "outer.tar", {tar.name: tar.read_bytes() for tar in sorted(path.iterdir())})
    with pytest.raises(ValueError, match=rf"{stems[2]}\.tar: holds no file; fill or remove it"):
        open_source(path)


@pytest.mark.parametrize("copy", ["a-1 (1)", "a-1(2)", "Copy of a-1", "a-1 - Copy", "a-1 copy 2", "a-1_old", "a-1.bak"])
def test_a_shard_that_is_called_a_copy_of_another_is_refused(tmp_path, copy):
    path = class_tars(tmp_path / "set", ("a-0", "a-1", copy), "{i}.png")
    with pytest.raises(ValueError, match=r"is called a copy of 'a-1\.tar'; remove or rename one of them"):
        open_source(path)


@pytest.mark.parametrize("stems", [("man", "man_old"), ("new", "old"), ("copy", "cat"), ("a", "b (1)")])
def test_classes_whose_names_end_as_copies_do_are_classes(tmp_path, stems):
    assert open_source(class_tars(tmp_path / "set", stems, "{stem}_{i}.png")).class_names == tuple(sorted(stems))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("images", "masks"), "images, masks are pictures and what belongs to each"),
        (("images", "labels", "readme"), "images, labels are pictures and"),
        (("JPEGImages", "SegmentationClass"), "JPEGImages, SegmentationClass are pictures and"),
        (("train_images", "train_masks"), "train_images, train_masks are pictures and"),
        (("images", "instance_masks"), "images, instance_masks are pictures and"),
        (("original_images", "label_images_semantic"), "original_images, label_images_semantic are pictures and"),
        (("images", "ground_truth"), "images, ground_truth are pictures and"),
        (("leftImg8bit", "gtFine"), "leftImg8bit, gtFine are pictures and"),
        (("imagesTr", "labelsTr"), "imagesTr, labelsTr are pictures and"),
        (("imagesTr", "imagesTs"), "imagesTr, imagesTs are splits"),
        (("tr", "te"), "te, tr are splits"),
        (("trn", "tst", "val"), "trn, tst, val are splits"),
    ],
)
@pytest.mark.parametrize("where", ["", "set/", "cat/"])
@pytest.mark.parametrize("opens", [open_source, open_pictures])
def test_parts_and_pairs_side_by_side_are_refused_by_name_with_or_without_labels(tmp_path, names, said, where, opens):
    files = {f"{where}{name}/0.png": PICTURE for name in names} | ({"dog/0.png": PICTURE} if where == "cat/" else {})
    said = said if not where else said.replace(said.split(",")[0], where + said.split(",")[0])
    with pytest.raises(ValueError, match=said.split(",")[0] + ".* are .*not classes; expected one of them alone"):
        opens(write_folder(tmp_path / "data", files))


@pytest.mark.parametrize(
    "names",
    [
        ("tr", "te", "en"),
        ("mask", "glove"),
        ("images", "dog"),
        ("HR", "LR", "AT"),
        ("label", "tag"),
        ("ski_mask", "gas_mask"),
    ],
)
def test_names_that_could_be_parts_or_pairs_among_others_are_classes(tmp_path, names):
    found = open_source(write_folder(tmp_path / "set", {f"{name}/0.png": PICTURE for name in names}))
    assert found.class_names == tuple(sorted(names))


def test_annotations_without_pictures_do_not_make_a_pair(tmp_path):
    files = {f"{name}/images/0.png": PICTURE for name in ("cat", "dog")} | {"cat/labels/0.txt": b"1"}
    assert open_source(write_folder(tmp_path / "set", files)).class_names == ("cat", "dog")


WRITERS = [write_folder, write_zip, write_tar]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    ("picture", "made"),
    [
        *(
            ("{}", f"{{}}{end}")
            for end in ("_mask", "_seg", "-label", "_depth", "Mask", " (mask)", "_LabelIds", "_gt_1")
        ),
        *(("{}_sat", "{}_mask"), ("{}", "mask_{}"), ("img{}", "img{}.mask"), ("a {}", "a {}_segmentation_mask")),
    ],
)
def test_what_is_made_of_the_picture_beside_it_is_no_picture_of_the_set_and_counted(tmp_path, write, picture, made):
    files = {
        f"{name}/{kind.format(i)}.png": png(pixels(i)) for name in "cd" for i in range(3) for kind in (picture, made)
    }
    source = open_source(write(path_for(write, tmp_path), files))
    assert [name.rpartition("/")[2] for name in source.names] == [f"{picture.format(i)}.png" for i in range(3)] * 2
    assert any(kind.startswith("6 ") and made.format(0) in kind for kind in source.passed_over)


@pytest.mark.parametrize("names", [["0_mask", "1_mask"], ["mask", "0"], ["n95_mask", "other"], ["depth_1", "seg_1"]])
def test_pictures_whose_names_only_sound_so_are_pictures(tmp_path, names):
    source = open_source(write_folder(tmp_path / "set", {f"{name}.png": png(pixels(1)) for name in names}))
    assert len(source.names) == 2 and not source.passed_over


@pytest.mark.parametrize(
    "sides",
    [
        *(("HR", "LR"), ("A", "B"), ("trainA", "trainB"), ("clean", "noisy"), ("DIV2K_HR", "DIV2K_LR_bicubic")),
        *(("HR", "LR_x2", "LR_x4"), ("source", "target"), ("blur", "sharp")),
    ],
)
def test_classes_that_are_named_like_sides_of_pairs_are_said_to_be(tmp_path, sides):
    files = {f"{side}/{i}.png": png(pixels(i)) for side in sides for i in range(2)}
    source = open_source(write_folder(tmp_path / "set", files))
    assert source.class_names == tuple(sorted(sides))
    assert source.passed_over == (
        f"1 group of classes that are named like sides of pairs ({', '.join(sorted(sides))})",
    )


@pytest.mark.parametrize("classes", [("cat", "dog"), ("A", "B", "C"), ("clean", "dirty"), ("low", "medium", "high")])
def test_other_classes_are_taken_without_a_word(tmp_path, classes):
    files = {f"{name}/{i}.png": png(pixels(i)) for name in classes for i in range(2)}
    assert not open_source(write_folder(tmp_path / "set", files)).passed_over


@pytest.mark.parametrize(("folder", "said"), [("stage0", "stage0"), ("cat", "cat"), ("train", ""), ("images", "")])
def test_one_folder_that_holds_all_pictures_is_said_to_be_the_one_class(tmp_path, folder, said):
    source = open_source(write_folder(tmp_path / "set", {f"{folder}/{i}.png": png(pixels(i)) for i in range(2)}))
    expected = (f"1 folder that holds all of them, taken for a class ({said})",) if said else ()
    assert source.passed_over == expected


def test_one_tar_that_holds_all_pictures_is_said_to_be_no_class(tmp_path):
    (tmp_path / "set").mkdir()
    write_tar(tmp_path / "set" / "cat.tar", {f"{i}.png": png(pixels(i)) for i in range(2)})
    source = open_source(tmp_path / "set")
    assert source.passed_over == ("1 folder that holds all of them, taken for no class (cat.tar)",)
    assert not open_source(tmp_path / "set" / "cat.tar").passed_over


def test_a_shard_of_the_same_bytes_as_another_is_counted_and_said_under_whatever_number(tmp_path):
    (tmp_path / "set").mkdir()
    for number in range(3):
        write_tar(
            tmp_path / "set" / f"a-{number}.tar", {f"{number}{i}.png": png(pixels(3 * number + i)) for i in range(2)}
        )
    assert not open_source(tmp_path / "set").passed_over
    (tmp_path / "set" / "a-3.tar").write_bytes((tmp_path / "set" / "a-1.tar").read_bytes())
    source = open_source(tmp_path / "set")
    assert len(source.names) == 8 and source.passed_over == (
        "1 of the same bytes as another, counted like it (a-3.tar)",
    )
