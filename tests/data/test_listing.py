import gzip
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaln.data import DataConfig, load, open_source
from adaln.data.listing import passes_over, settled
from adaln.data.tars import members
from helpers.pictures import path_for, pixels, png, two_classes, write_folder, write_tar, write_zip

PICTURE = png(pixels(0))


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


PREFIXES = ["./", "/", ".//set/", "set\\", "./././", "/home/me/set/", "//", "../", "../../me/set/", "a/../set/"]


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
    *("@__thumb", "@tmp", "@Transcode", "@sharesnap", "~snapshot", "@eaDir@tmp", "RECYCLER", "Recycled", "FOUND.000"),
    *("Network Trash Folder", "iPod Photo Cache", "_vti_cnf"),
]


@pytest.mark.parametrize("write", [write_folder, write_zip, write_tar])
@pytest.mark.parametrize("name", [*FURNITURE, "__MACOSX", ".ipynb_checkpoints"])
@pytest.mark.parametrize("where", ["", "cat/", "cat/old/"])
def test_furniture_of_systems_is_no_class_and_no_picture_and_is_counted(tmp_path, write, name, where):
    thumbs = {f"{where}{name}/{i}.png/THUMB.jpg": png(pixels(i)) for i in range(3)}
    source = open_source(write(path_for(write, tmp_path), two_classes() | thumbs))
    assert (source.class_names, len(source.names)) == (("cat", "dog"), 6)
    (said,) = source.passed_over
    assert said.startswith("1 hidden" if name.startswith((".", "__")) else f"1 {name}") and f"{where}{name})" in said


@pytest.mark.parametrize("write", [write_folder, write_zip, write_tar])
@pytest.mark.parametrize("name", ["thumbs", "Thumbnails", "_thumbs"])
def test_thumbnails_beside_pictures_are_counted_and_a_class_of_that_name_is_one(tmp_path, write, name):
    inside = {f"cat/{name}/{i}.png": png(pixels(i)) for i in range(2)}
    source = open_source(write(path_for(write, tmp_path), two_classes() | inside))
    assert (source.class_names, len(source.names)) == (("cat", "dog"), 6)
    assert source.passed_over[0].startswith("2 small copies (")
    as_class = write(path_for(write, tmp_path / "other"), two_classes() | {f"{name}/0.png": png(pixels(0))})
    assert set(open_source(as_class).class_names) == {"cat", "dog", name}


@settings(max_examples=50)
@given(
    st.lists(
        st.sampled_from(["recycled", "cat", "a.b", "x@eaDir", "@eaDirs", "lost", "MACOSX__"]), min_size=1, max_size=4
    )
)
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


def test_symbolic_links_in_a_tar_are_counted_and_hard_ones_are_their_files(tmp_path):
    path = write_tar(tmp_path / "a.tar", two_classes())
    with tarfile.open(path, "a") as archive:
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE)):
            member = tarfile.TarInfo(f"cat/link{number}.png")
            member.type, member.linkname = kind, "cat/0.png"
            archive.addfile(member)
    source = open_source(path)
    assert source.passed_over == ("1 links (a.tar/cat/link0.png)",)
    assert source.read("a.tar/cat/link1.png") == two_classes()["cat/0.png"]


@settings(max_examples=30)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=4).filter(any), st.sampled_from([1, 3, 40]))
def test_tars_one_behind_the_other_are_read_to_the_last_whatever_lies_between(sizes, padding):
    with tempfile.TemporaryDirectory() as folder:
        tars, named = [], iter(range(100))
        for size in sizes:
            files = {f"{next(named)}.png": PICTURE for _ in range(size)}
            whole = write_tar(Path(folder) / "part.tar", files).read_bytes().rstrip(b"\0")
            tars.append(whole + bytes(-len(whole) % 512 + 512 * padding))
        path = Path(folder) / "whole.tar"
        path.write_bytes(b"".join(tars))
        reasons = {}
        assert len(list(members(path, reasons))) == sum(sizes) and reasons == {}


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:1024] + b"x" * 512 + content[1536:],
        lambda content: content[:2048],
        lambda content: content[:2048] + b"x" * 512,
        lambda content: content.rstrip(b"\0") + bytes(512 * 4) + b"x" * 512,
    ],
    ids=["a header", "at a boundary", "foreign bytes", "foreign bytes behind"],
)
def test_a_tar_that_does_not_end_as_tars_do_is_refused(tmp_path, damage):
    path = write_tar(tmp_path / "a.tar", {f"{i}.png": b"x" for i in range(3)})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"a\.tar' is not a whole tar: cut short or damaged at byte"):
        open_source(path)


@pytest.mark.parametrize("missing", [(1,), (1, 3)])
def test_a_lost_shard_among_numbered_ones_is_said(tmp_path, missing):
    for number in set(range(5)) - set(missing):
        write_tar(tmp_path / f"set/d-{number:06d}.tar", {"0.png": PICTURE, "0.cls": b"0", f"{number}": b"other"})
    assert open_source(tmp_path / "set").passed_over[1:] == (
        f"{len(missing)} missing among numbered ones (d-000001.tar)",
    )


def test_files_are_what_they_hold_whatever_they_are_called(tmp_path):
    tar, packed = write_tar(tmp_path / "a.tar", two_classes()), write_zip(tmp_path / "b.zip", two_classes())
    assert open_source(tar.rename(tmp_path / "a.img")).class_names == ("cat", "dog")
    assert open_source(packed.rename(tmp_path / "b.tar")).class_names == ("cat", "dog")
    (tmp_path / "c.tar").write_bytes(gzip.compress((tmp_path / "a.img").read_bytes()))
    with pytest.raises(ValueError, match=r"c\.tar: a compressed tar cannot be read at random"):
        open_source(tmp_path / "c.tar")
    for name, content, said in (
        ("d.parquet", b"PAR1" + bytes(99), r"is a Parquet file \(datasets"),
        ("e.png", PICTURE, "is a PNG picture"),
        ("f.txt", b"a list", "is a text that begins 'a list'"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}: {said}.*; expected a folder, zip or tar of pictures"):
            open_source(tmp_path / name)


def test_a_zip_put_before_another_one_is_refused_and_a_program_before_one_is_not(tmp_path):
    path, other = write_zip(tmp_path / "a.zip", two_classes()), write_zip(tmp_path / "b.zip", {"cat/9.png": PICTURE})
    alone = path.read_bytes()
    path.write_bytes(other.read_bytes() + alone)
    with pytest.raises(ValueError, match=r"a\.zip' is not a readable zip: another zip stands before it"):
        open_source(path)
    path.write_bytes(b"#!/bin/sh\n" + alone)
    assert len(open_source(path).names) == 6


def test_a_file_with_a_backslash_in_its_name_is_not_lost_beside_the_one_that_it_names(tmp_path):
    root = write_folder(tmp_path / "set", two_classes() | {"cat\\9.png": PICTURE})
    assert len(open_source(root).names) == 7
    write_folder(root, {"cat/9.png": PICTURE})
    with pytest.raises(ValueError, match=r"set: holds 'cat/9\.png' twice, once with a backslash"):
        open_source(root)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12345\n"


@pytest.mark.parametrize(
    ("files", "opened"),
    [({"a.tar": POINTER, "b.tar": POINTER}, ""), ({"a.tar": POINTER}, "a.tar"), ({"a.zip": POINTER}, "a.zip")],
)
def test_a_pointer_of_git_lfs_is_called_one_in_every_container(tmp_path, files, opened):
    path = write_folder(tmp_path / "set", files) / opened
    with pytest.raises(ValueError, match=r"is a pointer of Git LFS, not the file of 12,345 bytes .*run `git lfs pull`"):
        open_source(path)


def test_a_pointer_of_git_lfs_is_called_one_within_a_tar_and_among_latents(tmp_path):
    outer = write_tar(tmp_path / "outer.tar", {"cat.tar": POINTER, "dog.tar": POINTER})
    pairs = write_folder(tmp_path / "pairs", {"x_features/0.npy": POINTER, "x_labels/0.npy": POINTER})
    shards = write_folder(tmp_path / "shards", {"latents_rank00_shard000.safetensors": POINTER})
    for path in (outer, pairs, shards):
        with pytest.raises(ValueError, match=r"a pointer of Git LFS, not the file of 12,345 bytes"):
            load(DataConfig(str(path)), cache=tmp_path / "cache")


@pytest.mark.parametrize("write", [write_folder, write_zip, write_tar])
def test_a_picture_that_is_a_pointer_of_git_lfs_is_called_one(tmp_path, write):
    path = write(path_for(write, tmp_path), two_classes() | {"cat/0.png": POINTER})
    with pytest.raises(ValueError, match=r"cat/0\.png: .*Pillow knows: a pointer of Git LFS"):
        load(DataConfig(str(path)), cache=tmp_path / "cache")


def test_a_link_to_a_folder_that_is_gone_is_called_a_link(tmp_path):
    root = write_folder(tmp_path / "set", two_classes())
    (root / "owl").symlink_to(tmp_path / "gone")
    assert open_source(root).passed_over == ("1 links to nothing (owl)",)


@pytest.mark.parametrize("name", ["data/train-0.parquet", "0.arrow"])
def test_a_folder_of_tables_gets_the_way_to_a_set(tmp_path, name):
    with pytest.raises(ValueError, match=r"no images among .*load_dataset\(FOLDER\)\.save_to_disk\(SET\) makes a set"):
        open_source(write_folder(tmp_path / "set", {name: b"PAR1"}))
    stream = (
        write_folder(tmp_path / "one", {"0.arrow": b"\xff" * 4 + (800).to_bytes(4, "little") + bytes(99)}) / "0.arrow"
    )
    with pytest.raises(ValueError, match=r"is an Arrow stream, a part of a Hugging Face dataset: give the folder"):
        open_source(stream)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_files_of_labels_are_read_in_the_encoding_that_their_mark_says(tmp_path, encoding):
    files = dict.fromkeys(("0.png", "1.png"), PICTURE)
    mark = "\ufeff" * (encoding == "utf-16-le")
    lines = {"val_annotations.txt": f"{mark}0.png\tcat\n1.png\tdog\n".encode(encoding)}
    assert open_source(write_folder(tmp_path / "lines", files | lines)).class_names == ("cat", "dog")
    each = {f"{number}.cls": f"{mark}{number}".encode(encoding) for number in range(2)}
    assert open_source(write_tar(tmp_path / "each.tar", files | each)).labels.tolist() == [0, 1]
