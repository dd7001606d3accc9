import json

import numpy as np
import pytest

from adaln.data import DataConfig, inspect, load, open_source
from helpers.pictures import path_for, pixels, png, two_classes, write_folder, write_tar, write_zip

PICTURE = png(pixels(0))
ALL_WRITERS = pytest.mark.parametrize("write", [write_folder, write_zip, write_tar])
ATTRIBUTES = "3\nMale Smiling\n0.jpg  -1  1\n1.jpg  1 -1\n10.jpg  1  1\n"


def celeba(tmp_path, attributes=ATTRIBUTES):
    files = {f"CelebA-HQ-img/{i}.jpg": PICTURE for i in (0, 1, 10)}
    write_folder(tmp_path, files | {"CelebAMask-HQ-attribute-anno.txt": attributes.encode()})
    return str(tmp_path / "CelebA-HQ-img")


def edm_zip(tmp_path, content, num_images=3):
    files = {f"00000/img{i:08d}.png": PICTURE for i in range(num_images)}
    return write_zip(tmp_path / "edm.zip", files | {"dataset.json": content})


def test_the_labels_of_an_edm_zip_are_read_from_its_dataset_json(tmp_path):
    labels = [[f"00000/img{i:08d}.png", label] for i, label in enumerate((4, 0, 2))]
    source = open_source(edm_zip(tmp_path, json.dumps({"labels": labels}).encode()))
    assert source.labels.tolist() == [4, 0, 2]
    assert source.class_names == ("0", "1", "2", "3", "4")


def test_an_edm_zip_without_labels_has_no_classes(tmp_path):
    assert open_source(edm_zip(tmp_path, b'{"labels": null}')).class_names == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", r"no JSON \(Expecting property name"),
        (b"[]", r"has no 'labels'; expected \{'labels'"),
        (b'{"labels": {"00000/img00000000.png": 1}}', r"labels are a dict; expected \{'labels'"),
        (b'{"labels": []}', "no label for image"),
        (b'{"labels": [["00000/img00000000.png", 1], 3]}', r"label 1 is 3; expected \{'labels'"),
        (b'{"labels": [["00000/img00000000.png", 1]]}', r"no label for image '00000/img00000001\.png'"),
        (b'{"labels": [["00000/img00000000.png", -1], ["00000/img00000001.png", 0]]}', "class -1"),
    ],
)
def test_a_wrong_dataset_json_is_refused_by_name(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as error:
        open_source(edm_zip(tmp_path, content, num_images=2))
    assert "edm.zip: dataset.json" in str(error.value)


def edm_files(before="", labels=(4, 0, 2), named="{}"):
    names = [f"0000{i % 2}/img{i}.png" for i in range(len(labels))]
    pairs = [[named.format(name), label] for name, label in zip(names, labels, strict=True)]
    pictures = {before + name: PICTURE for name in names}
    return pictures | {f"{before}dataset.json": json.dumps({"labels": pairs}).encode()}


@pytest.mark.parametrize("write", [write_folder, write_zip, write_tar])
@pytest.mark.parametrize("before", ["", "set/", "a/b.c/"])
@pytest.mark.parametrize("named", ["{}", "./{}", "/{}"])
def test_dataset_json_counts_wherever_the_sets_own_folder_puts_it(tmp_path, write, before, named):
    source = open_source(write(path_for(write, tmp_path), edm_files(before, named=named)))
    labels = {name[-8:]: label for name, label in zip(source.names, source.labels.tolist(), strict=True)}
    assert labels == {"img0.png": 4, "img1.png": 0, "img2.png": 2}
    assert source.class_names == ("0", "1", "2", "3", "4") and source.passed_over == ()


def test_each_tar_of_a_set_may_have_its_own_dataset_json_and_then_all_must(tmp_path):
    for number in range(2):
        write_tar(tmp_path / f"set/s{number}.tar", edm_files(labels=(number, 2)))
    assert open_source(tmp_path / "set").labels.tolist() == [0, 2, 1, 2]
    write_tar(tmp_path / "set/s2.tar", {"0.png": PICTURE})
    with pytest.raises(ValueError, match=r"no label for image 's2\.tar/0\.png'"):
        open_source(tmp_path / "set")


def test_a_dataset_json_that_lies_in_one_class_alone_is_passed_over_and_counted(tmp_path):
    source = open_source(write_folder(tmp_path / "set", two_classes() | {"cat/dataset.json": b"{}"}))
    assert (source.class_names, source.passed_over) == (("cat", "dog"), ("1 .json (cat/dataset.json)",))


def test_one_picture_of_two_classes_is_refused_and_accents_are_compared_composed(tmp_path):
    twice = {"0.png": PICTURE, "dataset.json": b'{"labels": [["0.png", 1], ["./0.png", 2]]}'}
    with pytest.raises(ValueError, match=r"'\./0\.png' is of the classes 1 and 2"):
        open_source(write_zip(tmp_path / "twice.zip", twice))
    apart = {"e\u0301.png": PICTURE, "dataset.json": json.dumps({"labels": [["\u00e9.png", 0]]}).encode()}
    assert open_source(write_zip(tmp_path / "accents.zip", apart)).class_names == ("0",)


@pytest.mark.parametrize("file", ["metadata.csv", "metadata.jsonl", "labels.csv", "labels.parquet", "0.txt"])
@pytest.mark.parametrize("write", [write_folder, write_zip])
def test_a_table_beside_flat_pictures_is_not_read_which_is_said(tmp_path, write, file):
    path = write(tmp_path / "set.zip", {"0.png": PICTURE, "1.png": PICTURE, file: b"0.png,1"})
    said = inspect(str(path)).notes["holds"]
    assert said.startswith("2 pictures, no classes: unconditional; passed over: 1 .") and file in said


def test_labels_of_pictures_that_are_not_there_and_repeated_ones_are_counted(tmp_path):
    pairs = [[f"{i}.png", i % 2] for i in (0, 1, 2, 3, 3, 7, 8)]
    files = {f"{i}.png": PICTURE for i in range(4)}
    path = write_zip(tmp_path / "a.zip", files | {"dataset.json": json.dumps({"labels": pairs}).encode()})
    counted = ("2 labels of no picture (dataset.json: 7.png)", "1 labels given twice (dataset.json: 3.png)")
    assert open_source(path).passed_over == counted
    assert inspect(str(path)).passed_over == counted
    rows = b"0.png\ta\n0.png\ta\n1.png\tb\n9.png\tb\n"
    files = {f"images/{i}.png": PICTURE for i in range(2)} | {"val_annotations.txt": rows}
    expected = (
        "1 labels given twice (val_annotations.txt: 0.png)",
        "1 labels of no picture (val_annotations.txt: 9.png)",
    )
    assert sorted(open_source(write_folder(tmp_path / "val", files)).passed_over) == sorted(expected)
    path = celeba(tmp_path, "5\nMale\n0.jpg 1\n0.jpg 1\n1.jpg -1\n10.jpg -1\n11.jpg 1\n")
    kinds = [kind.split(" (")[0] for kind in open_source(f"{path}#Male").passed_over]
    assert sorted(kinds) == ["1 labels given twice", "1 labels of no picture"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("0.png\ta\n0.png\tb\n", r"'0\.png' is of the classes a and b"),
        ("0.png\ta\n1.png\n", r"a line holds '1\.png'; expected a name, a tab and a class"),
        ("0.png\t\n", r"a line holds '0\.png '; expected a name, a tab and a class"),
    ],
)
def test_annotations_that_contradict_each_other_or_are_cut_are_refused(tmp_path, rows, said):
    path = write_folder(tmp_path / "val", {"images/0.png": PICTURE, "val_annotations.txt": rows.encode()})
    with pytest.raises(ValueError, match=rf"val_annotations\.txt: {said}"):
        open_source(path)


def test_two_pictures_of_one_name_do_not_share_its_label(tmp_path):
    files = {f"{folder}/0.png": PICTURE for folder in "ab"} | {"val_annotations.txt": b"0.png\ta\n"}
    with pytest.raises(ValueError, match=r"two images are called '0\.png'"):
        open_source(write_folder(tmp_path / "val", files))
    path = celeba(tmp_path)
    write_folder(tmp_path / "CelebA-HQ-img", {"more/0.jpg": PICTURE, "rest/1.jpg": PICTURE, "rest/10.jpg": PICTURE})
    for name in ("0.jpg", "1.jpg", "10.jpg"):
        (tmp_path / "CelebA-HQ-img" / name).rename(tmp_path / "CelebA-HQ-img/more" / name)
    with pytest.raises(ValueError, match=r"anno\.txt: two images are called '1\.jpg'"):
        open_source(f"{path}#Male")


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        (ATTRIBUTES.replace("3\n", "9\n"), "it says that it has 9 rows and has 3"),
        (ATTRIBUTES + "0.jpg 1 1\n", "it says that it has 3 rows and has 4"),
        (ATTRIBUTES.replace("3\n", "4\n") + "0.jpg 1 1\n", r"'0\.jpg' is of the classes not Male and Male"),
        (ATTRIBUTES.replace("1.jpg  1 -1", "1.jpg  1"), r"'1\.jpg' has 1 values; expected one of each of 2"),
    ],
)
def test_attributes_that_are_cut_or_contradict_each_other_are_refused(tmp_path, attributes, said):
    with pytest.raises(ValueError, match=said):
        open_source(f"{celeba(tmp_path, attributes)}#Male")


def test_attributes_without_their_count_are_read(tmp_path):
    assert open_source(f"{celeba(tmp_path, ATTRIBUTES[2:])}#Male").labels.tolist() == [0, 1, 1]


@ALL_WRITERS
def test_classes_that_differ_in_how_an_accent_is_stored_are_refused(tmp_path, write):
    files = {"\u00e9t\u00e9/0.png": PICTURE, "e\u0301te\u0301/0.png": PICTURE}
    with pytest.raises(ValueError, match="differ only in how an accent is stored") as error:
        open_source(write(path_for(write, tmp_path), files))
    assert str(error.value).isascii()


def test_tiny_imagenet_validation_is_labelled_by_its_annotations(tmp_path):
    rows = "val_0.JPEG\tn02\t0\t0\t9\t9\nval_1.JPEG\tn01\t0\t0\t9\t9\nval_2.JPEG\tn02\t0\t0\t9\t9\n"
    files = {f"images/val_{i}.JPEG": PICTURE for i in range(3)}
    source = open_source(write_folder(tmp_path / "val", files | {"val_annotations.txt": rows.encode()}))
    assert source.class_names == ("n01", "n02")
    assert source.labels.tolist() == [1, 0, 1]


def test_tiny_imagenet_training_is_labelled_by_its_folders(tmp_path):
    files = {f"{name}/images/{name}_0.JPEG": PICTURE for name in ("n01", "n02")}
    notes = {f"{name}/{name}_boxes.txt": b"" for name in ("n01", "n02")}
    source = open_source(write_folder(tmp_path / "train", files | notes))
    assert source.class_names == ("n01", "n02")
    assert np.array_equal(source.labels, [0, 1])


def test_splits_are_not_taken_for_classes(tmp_path):
    files = {f"{split}/{name}": content for split in ("train", "val") for name, content in two_classes().items()}
    with pytest.raises(ValueError, match="train, val are splits"):
        open_source(write_folder(tmp_path / "afhq", files))


@ALL_WRITERS
@pytest.mark.parametrize(
    "splits",
    [
        ("train", "test", "extra"),
        ("train2017", "val2017"),
        ("Train", "Test", "dev"),
        ("train", "unlabeled"),
        ("birds_train", "birds_holdout"),
        ("train", "train_extra"),
        ("trainA", "trainB", "testA", "testB"),
        ("TrainImages", "TestImages"),
        ("trainset", "testset"),
        ("labeled", "unlabeled"),
        ("images_train", "images_unlabeled"),
        ("test", "other"),
        ("train", "other"),
        ("whole/train", "whole/val"),
    ],
)
def test_splits_beside_a_folder_of_another_name_are_not_taken_for_classes(tmp_path, write, splits):
    files = {f"{split}/{name}": content for split in splits for name, content in two_classes().items()}
    with pytest.raises(ValueError, match=r"(are splits, not classes|is a split, not a class).*; expected one of them"):
        open_source(write(path_for(write, tmp_path), files))


@ALL_WRITERS
def test_splits_within_each_class_are_refused_and_a_flat_split_beside_classes_too(tmp_path, write):
    within = {f"{name}/{split}/0.png": PICTURE for name in ("cat", "dog") for split in ("train", "test")}
    with pytest.raises(ValueError, match=r"(cat|dog)/test, .*(cat|dog)/train are splits, not classes"):
        open_source(write(path_for(write, tmp_path), within))
    with pytest.raises(ValueError, match="val is a split, not a class"):
        open_source(write(path_for(write, tmp_path / "flat"), two_classes() | {"val/0.png": PICTURE}))


def test_shards_of_two_splits_with_class_files_are_refused(tmp_path):
    for split in ("train", "val"):
        for number in range(2):
            write_tar(tmp_path / f"set/in-{split}-{number:03d}.tar", {"0.png": PICTURE, "0.cls": b"0"})
    with pytest.raises(ValueError, match=r"in-train-000\.tar, .* are splits"):
        open_source(tmp_path / "set")


@ALL_WRITERS
@pytest.mark.parametrize("split", ["train", "val2017", "whole/test", "extra"])
def test_one_split_alone_is_the_set(tmp_path, write, split):
    flat = write(path_for(write, tmp_path), {f"{split}/{i}.png": PICTURE for i in range(3)})
    assert open_source(flat).class_names == ()
    files = {f"{split}/{name}": content for name, content in two_classes().items()}
    assert open_source(write(path_for(write, tmp_path / "two"), files)).class_names == ("cat", "dog")


@pytest.mark.parametrize(
    "classes", [("bus", "car", "train"), ("bus", "train"), ("freight train", "night train"), ("invalid", "valid")]
)
def test_what_is_called_like_a_split_and_may_be_a_class_is_one_and_a_few_classes_are_named(tmp_path, classes):
    files = {f"{name}/{i}.png": PICTURE for name in classes for i in range(2)}
    path = str(write_folder(tmp_path / "set", files))
    assert open_source(path).class_names == classes
    names = ", ".join(classes)
    assert inspect(path).notes["holds"] == f"{len(files)} pictures, {len(classes)} classes ({names}) of at least 2"


def test_celeba_is_split_in_two_by_an_attribute(tmp_path):
    path = celeba(tmp_path)
    assert open_source(path).class_names == ()
    smiling = open_source(f"{path}#Smiling")
    assert smiling.class_names == ("not Smiling", "Smiling")
    assert dict(zip(smiling.names, smiling.labels.tolist(), strict=True)) == {"0.jpg": 1, "1.jpg": 0, "10.jpg": 1}
    found = load(DataConfig(f"{path}#Male"), cache=tmp_path / "cache")
    assert (found.spec.num_classes, found.labels.tolist()) == (2, [0, 1, 1])
    assert inspect(f"{path}#Male").kind == "images in a folder"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list_attr_celeba.csv", b"image_id,Male,Smiling\n0.jpg,-1,1\n1.jpg,1,-1\n10.jpg,1,1\n"),
        (
            "list_attr_celeba.csv",
            b'\xef\xbb\xbf"image_id", "Male", "Smiling"\r\n0.jpg,0,1\r\n1.jpg,1,0\r\n10.jpg,1,1\r\n\r\n',
        ),
        ("list_attr_celeba.txt", b"3\r\nMale Smiling\r\n0.jpg -1  1\r\n1.jpg  1 -1\r\n10.jpg  1  1\r\n"),
        ("list_attr_celeba.txt", b"\xef\xbb\xbf3\n\nMale Smiling \n0.jpg -1 1\n1.jpg 1 -1\n10.jpg 1 1\n"),
    ],
)
@pytest.mark.parametrize("where", [".", "CelebA-HQ-img"])
def test_attributes_are_read_as_text_and_as_csv_whatever_their_line_ends(tmp_path, name, content, where):
    path = celeba(tmp_path)
    (tmp_path / "CelebAMask-HQ-attribute-anno.txt").unlink()
    (tmp_path / where / name).write_bytes(content)
    smiling = open_source(f"{path}#Smiling")
    assert dict(zip(smiling.names, smiling.labels.tolist(), strict=True)) == {"0.jpg": 1, "1.jpg": 0, "10.jpg": 1}


def test_what_may_be_attributes_and_is_not_read_is_named(tmp_path):
    path = celeba(tmp_path)
    (tmp_path / "CelebAMask-HQ-attribute-anno.txt").rename(tmp_path / "my_attributes.csv")
    with pytest.raises(
        ValueError, match=r"list_attr_celeba\.csv in it or beside it; 'my_attributes\.csv' is none of these"
    ):
        open_source(f"{path}#Male")
    celeba(tmp_path, ATTRIBUTES.replace("-1", "maybe"))
    with pytest.raises(ValueError, match=r"'0\.jpg' has 'maybe' of Male; expected 1 or -1"):
        open_source(f"{path}#Male")


def test_wrong_attributes_are_refused_by_name(tmp_path):
    path = celeba(tmp_path)
    with pytest.raises(ValueError, match=r"no attribute 'Smilling' \(nearest: 'Smiling'\); it has Male, Smiling"):
        open_source(f"{path}#Smilling")
    celeba(tmp_path, ATTRIBUTES.replace("10.jpg", "11.jpg"))
    with pytest.raises(ValueError, match=r"anno\.txt: no label for image '10\.jpg'"):
        open_source(f"{path}#Male")
    (tmp_path / "CelebAMask-HQ-attribute-anno.txt").unlink()
    with pytest.raises(ValueError, match=r"no attributes; expected CelebAMask-HQ-attribute-anno\.txt or list_attr"):
        open_source(f"{path}#Male")


def test_a_number_sign_in_the_name_of_a_folder_is_part_of_it(tmp_path):
    assert len(open_source(write_folder(tmp_path / "set#1", two_classes())).names) == 6


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab\nsize 12345\n"


@pytest.mark.parametrize("file", ["dataset.json", "val_annotations.txt", "0.cls", "list_attr_celeba.txt"])
def test_a_file_of_labels_that_is_a_pointer_of_git_lfs_is_called_one(tmp_path, file):
    folder = write_folder(
        tmp_path / "set", {"0.png": png(pixels(0)), "1.png": png(pixels(1)), "1.cls": b"1", file: POINTER}
    )
    if file != "0.cls":
        (tmp_path / "set" / "1.cls").unlink()
    with pytest.raises(ValueError, match=f"{file}.*pointer of Git LFS, not the file of 12,345 bytes"):
        open_source(f"{folder}#Smiling" if file.startswith("list") else folder)
