import json
import sys

import numpy as np
import pytest
from PIL import Image

from adaln.data import DataConfig, inspect, load, open_source
from adaln.data.pictures import decode
from helpers.pictures import pixels

pytestmark = pytest.mark.filterwarnings("ignore:Cannot (locate|pickle)")  # the library's own hashing of functions


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return pytest.importorskip("datasets")


def table(datasets, labels=(1, 0, 1), **more):
    columns = {"label": list(labels), "photo": [Image.fromarray(pixels(i)) for i in range(len(labels))]}
    kinds = {"label": datasets.ClassLabel(names=["cat", "dog"]), "photo": datasets.Image()}
    return datasets.Dataset.from_dict(columns | more, features=datasets.Features(kinds))


def load_saved(saved, tmp_path):
    saved.save_to_disk(str(tmp_path / "set"))
    return load(DataConfig(str(tmp_path / "set")), cache=tmp_path / "cache")


def test_a_saved_dataset_is_read_with_its_class_names(datasets, tmp_path):
    found = load_saved(table(datasets), tmp_path)
    assert found.class_names == ("cat", "dog")
    assert found.labels.tolist() == [1, 0, 1]
    np.testing.assert_array_equal(found.images[2], pixels(2).transpose(2, 0, 1))
    assert inspect(str(tmp_path / "set")).kind == "images in a Hugging Face dataset"


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("1", 1), ("RGB", 3), ("P", 3), (None, 3)])
def test_a_column_that_says_what_its_pictures_are_is_believed(datasets, tmp_path, mode, channels):
    saved = table(datasets).cast_column("photo", datasets.Image(mode=mode))
    assert load_saved(saved, tmp_path).spec.channels == channels


def test_of_several_splits_the_training_one_is_taken(datasets, tmp_path):
    splits = datasets.DatasetDict({"test": table(datasets, (0,)), "train": table(datasets)})
    found = load_saved(splits, tmp_path)
    assert (len(found), found.passed_over) == (3, ("split 'test' (1 rows)",))
    splits.pop("train")
    splits.save_to_disk(str(tmp_path / "other"))
    with pytest.raises(ValueError, match="has the splits test; expected 'train'"):
        load(DataConfig(str(tmp_path / "other")))


def test_a_row_without_a_class_and_a_table_without_pictures_are_refused(datasets, tmp_path):
    with pytest.raises(ValueError, match="row 1 has no label"):
        load_saved(table(datasets, (0, -1)), tmp_path)
    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(str(tmp_path / "text"))
    with pytest.raises(ValueError, match=r"no column of images among text \(Value\)"):
        load(DataConfig(str(tmp_path / "text")))


@pytest.mark.parametrize(
    ("name", "kind", "values", "class_names"),
    [
        ("label", "int64", [2, 0, 1], ("0", "1", "2")),
        ("label", "uint8", [1, 1, 0], ("0", "1")),
        ("labels", "string", ["cat", "emu", "cat"], ("cat", "emu")),
        ("target", "float32", [1.0, 0.0, 1.0], ("0", "1")),
        ("caption", "string", ["a", "b", "c"], ()),
    ],
)
@pytest.mark.parametrize("kept_as", [None, "numpy", "pandas", "arrow"])
def test_a_plain_column_of_labels_gives_classes_and_others_are_counted(
    datasets, tmp_path, name, kind, values, class_names, kept_as
):
    saved = plain(datasets, name, kind, values).with_format(kept_as)
    found = load_saved(saved, tmp_path)
    assert found.class_names == class_names
    if class_names:
        as_names = [value if kind == "string" else str(int(value)) for value in values]
        assert [found.class_names[label] for label in found.labels] == as_names
    assert found.passed_over == (() if class_names else ("column 'caption'",))


def test_files_of_rows_that_the_set_does_not_list_are_counted(datasets, tmp_path):
    table(datasets, (0, 1, 0)).save_to_disk(str(tmp_path / "set"), num_shards=3)
    state = json.loads((tmp_path / "set/state.json").read_text())
    state["_data_files"] = state["_data_files"][:2]
    (tmp_path / "set/state.json").write_text(json.dumps(state))
    (tmp_path / "set/notes.txt").write_text("mine")
    source = open_source(tmp_path / "set")
    assert len(source.names) == 2
    assert set(source.passed_over) == {"1 .arrow (data-00002-of-00003.arrow)", "1 .txt (notes.txt)"}
    (tmp_path / "set/data-00002-of-00003.arrow").unlink()
    assert "1 missing among numbered ones (data-00002-of-00003.arrow)" in open_source(tmp_path / "set").passed_over


@pytest.mark.parametrize(
    ("kinds", "taken"),
    [
        ({"label": "int64", "sex": "class"}, "label"),
        ({"sex": "class"}, "sex"),
        ({"Label": "int64", "target": "int64"}, "Label"),
        ({"coarse_label": "class", "fine_label": "class"}, "fine_label"),
        ({"fine_label": "class", "labels": "int64"}, "labels"),
        ({"class": "string", "is_real": "class"}, None),
        ({"sex": "class", "age": "class"}, None),
    ],
)
def test_classes_are_of_the_column_that_is_called_so_else_of_the_only_one(datasets, tmp_path, kinds, taken):
    values = {name: ["a", "b", "a"] if kind == "string" else [0, 1, 0] for name, kind in kinds.items()}
    features = {n: datasets.ClassLabel(names=[n, "b"]) if k == "class" else datasets.Value(k) for n, k in kinds.items()}
    saved = with_pictures(datasets, values, features)
    saved.save_to_disk(str(tmp_path / "set"))
    if taken is None:
        with pytest.raises(ValueError, match=rf"{', '.join(kinds)} may all be the labels; rename .* to 'label'"):
            open_source(tmp_path / "set")
    else:
        source = open_source(tmp_path / "set")
        assert source.class_names == ((taken, "b") if kinds[taken] == "class" else ("0", "1"))
        assert source.passed_over == tuple(f"column {name!r}" for name in kinds if name != taken)


@pytest.mark.parametrize(
    ("columns", "taken"), [(("mask", "image"), 1), (("mask", "img"), 1), (("Image", "b"), 0), (("a", "b"), None)]
)
def test_pictures_are_of_the_column_that_is_called_so_else_of_the_only_one(datasets, tmp_path, columns, taken):
    images = {name: [Image.fromarray(pixels(10 * n + i)) for i in range(2)] for n, name in enumerate(columns)}
    features = datasets.Features({name: datasets.Image() for name in columns})
    datasets.Dataset.from_dict(images, features=features).save_to_disk(str(tmp_path / "set"))
    if taken is None:
        with pytest.raises(ValueError, match=r"the columns a, b may all be the pictures; rename .* to 'image'"):
            open_source(tmp_path / "set")
    else:
        source = open_source(tmp_path / "set")
        decoded = decode(source.read(source.names[1]), None, "RGB")
        np.testing.assert_array_equal(decoded, pixels(10 * taken + 1).transpose(2, 0, 1))


def test_a_row_without_a_picture_or_with_an_empty_class_is_named(datasets, tmp_path):
    kinds = datasets.Features({"photo": datasets.Image()})
    photos = [Image.fromarray(pixels(0)), None]
    datasets.Dataset.from_dict({"photo": photos}, features=kinds).save_to_disk(str(tmp_path / "set"))
    with pytest.raises(ValueError, match="row 1 holds no picture in its column 'photo'"):
        load(DataConfig(str(tmp_path / "set")), cache=tmp_path / "cache")
    with_pictures(datasets, {"label": ["a", ""]}, {"label": datasets.Value("string")}).save_to_disk(str(tmp_path / "b"))
    with pytest.raises(ValueError, match="row 1 has an empty text as label"):
        open_source(tmp_path / "b")


def with_pictures(datasets, values, features):
    photos = [Image.fromarray(pixels(i)) for i in range(len(next(iter(values.values()))))]
    kinds = datasets.Features({**features, "photo": datasets.Image()})
    return datasets.Dataset.from_dict({**values, "photo": photos}, features=kinds)


@pytest.mark.parametrize(
    ("kind", "values"), [("float32", [0.5, 1.0]), ("int64", [0, -1]), ("int64", [0, None]), ("bool", [True, False])]
)
def test_a_plain_column_that_holds_no_classes_is_refused_by_row(datasets, tmp_path, kind, values):
    with pytest.raises(ValueError, match=r"column 'label': class .* of 'row \d'; expected a whole number"):
        load_saved(plain(datasets, "label", kind, values), tmp_path)


def plain(datasets, name, kind, values):
    kinds = datasets.Features({name: datasets.Value(kind), "photo": datasets.Image()})
    pictures = [Image.fromarray(pixels(i)) for i in range(len(values))]
    return datasets.Dataset.from_dict({name: values, "photo": pictures}, features=kinds)


def test_without_the_library_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    for path in ("hf:cifar10", str(tmp_path)):
        (tmp_path / "state.json").write_text("{}")
        with pytest.raises(ValueError, match=r"pip install 'adaln\[datasets\]'"):
            load(DataConfig(path))
