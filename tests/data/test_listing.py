import tarfile
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaln.data import DataConfig, load, open_source
from adaln.data.listing import passes_over, settled
from helpers.pictures import path_for, pixels, png, two_classes, write_folder, write_tar, write_zip


def webdataset(folder, labels=((3, 0), (1,)), **replaced):
    for number, part in enumerate(labels):
        files = {}
        for i, label in enumerate(part):
            files[f"{i:04d}.png"] = png(pixels(10 * number + i))
            files[f"{i:04d}.cls"] = str(label).encode()
        write_tar(folder / f"train-{number:03d}.tar", files | replaced)
    return folder


def test_webdataset_shards_are_read_with_the_labels_beside_the_pictures(tmp_path):
    source = open_source(webdataset(tmp_path / "set"))
    assert source.names == ["train-000.tar/0000.png", "train-000.tar/0001.png", "train-001.tar/0000.png"]
    assert source.labels.tolist() == [3, 0, 1]
    assert source.class_names == ("0", "1", "2", "3")
    found = load(DataConfig(str(tmp_path / "set")), cache=tmp_path / "cache")
    np.testing.assert_array_equal(found.images[2], pixels(10).transpose(2, 0, 1))


def test_a_tar_of_class_folders_equals_the_folder(tmp_path):
    folder = load(DataConfig(str(write_folder(tmp_path / "set", two_classes()))), cache=tmp_path / "cache")
    packed = load(DataConfig(str(write_tar(tmp_path / "set.tar", two_classes()))), cache=tmp_path / "cache")
    assert packed.fingerprint == folder.fingerprint


def test_tars_without_labels_are_unconditional(tmp_path):
    write_tar(tmp_path / "set/a.tar", {"./0.png": png(pixels(0)), "./0.txt": b"a caption"})
    assert open_source(tmp_path / "set").class_names == ()


@pytest.mark.parametrize("content", [b"", b"-1", b"cat", b"1.5", b"\xff"])
def test_a_class_file_without_a_number_is_named(tmp_path, content):
    with pytest.raises(ValueError, match=r"train-000\.tar/0001\.cls holds") as error:
        open_source(webdataset(tmp_path / "set", **{"0001.cls": content}))
    assert "\n" not in str(error.value)


def test_a_picture_without_its_class_file_is_named(tmp_path):
    write_tar(tmp_path / "a.tar", {"0.png": png(pixels(0)), "0.cls": b"1", "1.png": png(pixels(1))})
    with pytest.raises(ValueError, match=r"1\.cls holds 'nothing'; expected the class number of 'a\.tar/1\.png'"):
        open_source(tmp_path / "a.tar")


@pytest.mark.parametrize("num_bytes", [100, 700, 2000])
def test_a_tar_cut_short_is_named(tmp_path, num_bytes):
    path = write_tar(tmp_path / "a.tar", {f"{i}.png": png(pixels(i, 20, 20)) for i in range(3)})
    path.write_bytes(path.read_bytes()[:num_bytes])
    with pytest.raises(ValueError, match=r"a\.tar' is not a whole tar"):
        open_source(path)


def test_a_tar_left_beside_class_folders_is_not_taken_for_the_set(tmp_path):
    write_folder(tmp_path / "set", two_classes())
    write_tar(tmp_path / "set/original.tar", {"0.png": png(pixels(0))})
    assert open_source(tmp_path / "set").class_names == ("cat", "dog")


def test_a_compressed_tar_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"")
    with pytest.raises(ValueError, match="cannot be read at random; unpack it"):
        open_source(tmp_path / "a.tar.gz")


def test_a_name_twice_in_a_tar_is_refused(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"0.png": png(pixels(0))})
    with tarfile.open(path, "a") as archive:
        archive.addfile(tarfile.TarInfo("0.png"))
    with pytest.raises(ValueError, match=r"'0\.png' twice"):
        open_source(path)


def renamed_zip(path, files):
    """A zip of names that zipfile itself would mend."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo("x")
            info.filename = name
            archive.writestr(info, content)
    return path


PREFIXES = ["./", "/", ".//set/", "set\\", "./././", "/home/me/set/", "//"]


@pytest.mark.parametrize("write", [renamed_zip, write_tar])
@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("between", ["/", "\\", "//", "/./"])
def test_names_inside_archives_are_brought_to_one_form(tmp_path, write, prefix, between):
    files = {prefix + name.replace("/", between): content for name, content in two_classes().items()}
    source = open_source(write(path_for(write, tmp_path), files))
    assert (source.class_names, source.labels.tolist()) == (("cat", "dog"), [0, 0, 0, 1, 1, 1])
    assert [source.read(name) for name in source.names] == list(two_classes().values())


PARTS = st.lists(st.sampled_from(["a", "b.c", "..d", " ", "e."]), min_size=1, max_size=4)


@given(
    PARTS,
    st.lists(st.sampled_from(["/", "\\", "//", "/./", "\\.\\"]), min_size=4, max_size=4),
    st.sampled_from(PREFIXES[:2]),
)
def test_the_form_of_a_name_is_its_parts_whatever_stands_between(parts, between, prefix):
    name = prefix + "".join(part + mark for part, mark in zip(parts, between, strict=False))
    assert settled(name) == "/".join(parts) == settled(settled(name))


def test_a_name_with_nul_is_refused(tmp_path):
    path = write_zip(tmp_path / "set.zip", {"cat/0.png@.png": png(pixels(0)), "dog/0.png": png(pixels(1))})
    path.write_bytes(path.read_bytes().replace(b"0.png@.png", b"0.png\0.png"))
    with pytest.raises(
        ValueError, match=r"set\.zip' is not a readable zip: the name 'cat/0\.png\\x00\.png' holds a NUL"
    ):
        open_source(path)


def test_a_folder_of_names_with_backslashes_is_read_as_the_folders_that_were_meant(tmp_path):
    path = write_folder(tmp_path / "set", {name.replace("/", "\\"): c for name, c in two_classes().items()})
    source = open_source(path)
    assert source.class_names == ("cat", "dog")
    assert [source.read(name) for name in source.names] == list(two_classes().values())


FURNITURE = [
    "@eaDir",
    "$RECYCLE.BIN",
    "$Recycle.Bin",
    "System Volume Information",
    "#recycle",
    "@Recycle",
    "lost+found",
]


@pytest.mark.parametrize("write", [write_folder, write_zip, write_tar])
@pytest.mark.parametrize("name", [*FURNITURE, "__MACOSX", ".ipynb_checkpoints"])
@pytest.mark.parametrize("where", ["", "cat/", "cat/old/"])
def test_furniture_of_systems_is_no_class_and_no_picture_and_is_counted(tmp_path, write, name, where):
    thumbs = {f"{where}{name}/{i}.png/THUMB.jpg": png(pixels(i)) for i in range(3)}
    source = open_source(write(path_for(write, tmp_path), two_classes() | thumbs))
    assert (source.class_names, len(source.names)) == (("cat", "dog"), 6)
    (said,) = source.passed_over
    assert said.startswith("1 hidden" if name[0] in "._" else f"1 {name}") and f"{where}{name})" in said


@settings(max_examples=50)
@given(st.lists(st.sampled_from(["cat", "a.b", "x@eaDir", "@eaDirs", "lost", "MACOSX__"]), min_size=1, max_size=4))
def test_names_that_only_look_like_furniture_are_kept(parts):
    assert not passes_over("/".join(parts), {})


@pytest.mark.parametrize("write", [write_folder, write_zip, write_tar])
def test_files_that_are_passed_over_are_counted_by_ending_and_named(tmp_path, write):
    others = {f"cat/{i}.jfif": b"" for i in range(3)} | {
        "dog/a.HEIC": b"",
        "dog/b.JPG_large": b"",
        "dog/c.jpg.bak": b"",
        "LICENSE": b"",
        "cat/.0.png": b"",
    }
    path = write(path_for(write, tmp_path), two_classes() | others)
    before = "set.tar/" if write is write_tar else ""
    kinds = [
        "3 .jfif (cat/0.jfif)",
        "1 .heic (dog/a.HEIC)",
        "1 .jpg_large (dog/b.JPG_large)",
        "1 .bak (dog/c.jpg.bak)",
        "1 without an ending (LICENSE)",
        "1 hidden (cat/.0.png)",
    ]
    assert sorted(open_source(path).passed_over) == sorted(kind.replace("(", f"({before}") for kind in kinds)


def test_links_to_folders_are_followed_at_any_depth_and_those_that_lead_back_are_counted(tmp_path):
    write_folder(tmp_path / "store", two_classes())
    root = write_folder(tmp_path / "set", two_classes())
    for name in ("cat", "dog"):
        (root / name / "more").symlink_to(tmp_path / "store" / name)
    assert open_source(root).labels.tolist() == [0] * 6 + [1] * 6
    (root / "cat/back").symlink_to(root)
    (root / "dog/above").symlink_to(tmp_path)
    (tmp_path / "store/dog/mutual").symlink_to(root / "dog")
    source = open_source(root)
    assert len(source.names) == 12
    assert source.passed_over == ("3 links that lead back (cat/back)",)
    (root / "cat/self").symlink_to(root / "cat/self")
    assert len(open_source(root).names) == 12


def test_links_in_a_tar_are_counted(tmp_path):
    path = write_tar(tmp_path / "a.tar", two_classes())
    with tarfile.open(path, "a") as archive:
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE)):
            member = tarfile.TarInfo(f"cat/link{number}.png")
            member.type, member.linkname = kind, "cat/0.png"
            archive.addfile(member)
    assert open_source(path).passed_over == ("2 links (a.tar/cat/link0.png)",)
