import sys

import numpy as np
import pytest
from PIL import Image

from adaln.data import DataConfig, inspect, load
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
    assert len(load_saved(splits, tmp_path)) == 3
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
