import os
import subprocess
from pathlib import Path

import pytest

from adaln.files import (
    about,
    atomic_file,
    atomic_folder,
    expanded,
    file_sha256,
    naming,
    reading,
    remove_folder,
    remove_temporaries,
    write_atomically,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    target = write_atomically(tmp_path / "page.html", "old")
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_atomically(target, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert target.read_text() == "old"


def test_a_streamed_file_takes_its_place_when_all_of_it_is_written(tmp_path):
    target = write_atomically(tmp_path / "statistics.npz", b"old")
    with pytest.raises(RuntimeError), atomic_file(target) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    with atomic_file(target) as temporary:
        temporary.write_bytes(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["statistics.npz"]
    assert file_sha256(target).startswith("11507a0e2f5e69d5")  # sha256sum of "new"


def test_written_files_have_the_rights_of_any_new_file(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    assert write_atomically(tmp_path / "ours", b"x").stat().st_mode == plain.stat().st_mode


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with atomic_folder(tmp_path / "whole") as folder:
        (folder / "a").write_text("1")
        assert not (tmp_path / "whole").exists()
    assert (tmp_path / "whole" / "a").read_text() == "1"
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "half") as folder:
        (folder / "a").write_text("1")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_what_a_killed_writer_left_is_removed(tmp_path):
    (tmp_path / ".tmp-000000005-123").mkdir()
    (tmp_path / ".tmp-x.json-123").write_text("half")
    (tmp_path / "kept").write_text("x")
    remove_temporaries(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_who_writes_a_file_removes_what_killed_writers_left_of_it_and_of_no_other(tmp_path):
    gone, running = subprocess.Popen(["true"]), os.getppid()
    gone.wait()
    others = [
        f".tmp-x[1].json-{running}",
        f".tmp-x[1].jsonl-{gone.pid}",
        f".tmp-x1.json-{gone.pid}",
        ".tmp-x[1].json-a",
    ]
    for name in (*others, f".tmp-x[1].json-{gone.pid}"):
        (tmp_path / name).write_text("half")
    write_atomically(tmp_path / "x[1].json", "{}")
    assert {path.name for path in tmp_path.iterdir()} == {"x[1].json", *others}


def test_what_other_writers_have_begun_may_be_left_alone(tmp_path):
    for name in (".tmp-one-123", ".tmp-two-123"):
        (tmp_path / name).write_text("half")
    remove_temporaries(tmp_path, "one")
    assert [path.name for path in tmp_path.iterdir()] == [".tmp-two-123"]


def test_a_folder_that_is_being_removed_is_no_longer_there(tmp_path, monkeypatch):
    (tmp_path / "old").mkdir()
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)  # as if killed before anything is removed
    remove_folder(tmp_path / "old")
    assert [path.name.startswith(".tmp-old") for path in tmp_path.iterdir()] == [True]
    monkeypatch.undo()
    remove_temporaries(tmp_path)
    remove_folder(tmp_path / "old")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_is_told_of_with_the_file(tmp_path):
    with pytest.raises(OSError, match=r"No space left on device: '.*page\.html'"), naming(tmp_path / "page.html"):
        raise OSError(28, "No space left on device")
    with pytest.raises(FileNotFoundError, match=r"other\.html"), naming(tmp_path / "page.html"):
        (tmp_path / "other.html").read_bytes()


@pytest.mark.parametrize("look", [lambda row: row["a"], lambda row: row.a, lambda row: int("x"), lambda row: row[1:]])
def test_a_file_that_holds_something_else_is_named(tmp_path, look):
    with pytest.raises(ValueError, match=r"a\.json' is not a row: "), reading(tmp_path / "a.json", "a row"):
        look({})


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("spec"), "'a.json' is not a list: it has no 'spec'"),
        (EOFError(), "'a.json' is not a list: EOFError"),
        (RecursionError("two\nlines"), "'a.json' is not a list: two lines"),
        (OSError(22, "Invalid argument"), r"'a.json' is not a list: .*Invalid argument"),
        (ValueError("a.json: known"), "^a.json: known$"),
    ],
)
def test_whatever_is_raised_over_a_file_names_it_once(error, said):
    with pytest.raises(ValueError, match=said), reading(Path("a.json"), "a list"):
        raise error


@pytest.mark.parametrize(
    "error", [NameError("x"), ImportError("x"), FileNotFoundError(2, "No such file", "b"), KeyboardInterrupt()]
)
def test_what_no_content_leads_to_is_not_laid_to_a_file(error):
    with pytest.raises(type(error)) as caught, reading(Path("a.json"), "a list"):
        raise error
    assert caught.value is error


def test_an_error_is_about_the_file_that_is_there(tmp_path):
    file = write_atomically(tmp_path / "a", "")
    for path, said in ((file, f"{str(file)!r}: no rows"), (tmp_path / "factory", "no rows")):
        with pytest.raises(ValueError) as caught, about(path):
            raise ValueError("no rows")
        assert str(caught.value) == said


def test_an_error_about_the_folder_that_one_stands_in_names_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as caught, about(Path()):
        raise ValueError("no rows.")
    assert str(caught.value) == f"{str(tmp_path.resolve())!r}: no rows."


def test_a_home_that_is_not_there_is_one_line():
    assert expanded("~") == Path.home() and expanded("a/~b") == Path("a/~b")
    with pytest.raises(ValueError, match="'~nobody-of-that-name/set' begins with a home folder"):
        expanded("~nobody-of-that-name/set")
