"""How far work is, as people see it on standard error."""

import sys

import pytest

from adaln.cli import progress_bar
from adaln.cli.progress_bar import Display
from adaln.progress import describing, showing, titled
from adaln.progress import progress as say


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when a test says so."""
    seconds = [0.0]
    monkeypatch.setattr(progress_bar.time, "monotonic", lambda: seconds[0])
    return seconds


def test_nothing_is_shown_where_nobody_shows_it(capsys):
    say("train", 1, 9, "steps")
    assert capsys.readouterr() == ("", "")


def test_a_log_gets_a_line_now_and_then_with_rate_and_time_left_of_what_is_done_meanwhile(capsys, clock):
    with Display() as shown, showing(shown):
        say("train", 1_000, 5_000, "steps")  # lay on disk
        for _ in range(4):
            clock[0] += 10
            say("train", 1_000 + 50 * int(clock[0]), 5_000, "steps")
        clock[0] += 20
        say("count", 0, 0, "updates")
        clock[0] += 20
        say("count", 7, 0, "updates")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "train: 1,500 of 5,000 steps (50 steps/s, 1 min 10 s left)",
        "train: 2,500 of 5,000 steps (50 steps/s, 50 s left)",
        "count: 7 updates (0.35 updates/s)",
    ]


def test_a_stage_that_starts_over_begins_anew(capsys, clock):
    with Display() as shown, showing(shown):
        for seconds in (16, 32):
            say("draw", 0, 8, "images")
            clock[0] += seconds
            say("draw", 4, 8, "images")
    assert capsys.readouterr().err.splitlines() == [
        "draw: 4 of 8 images (0.25 images/s, 16 s left)",
        "draw: 4 of 8 images (0.12 images/s, 32 s left)",
    ]


def test_what_is_said_of_a_stage_stands_beside_it_and_in_its_stead_where_nothing_is_counted(capsys, clock):
    with Display() as shown, showing(shown), describing(lambda stage, rate: f"{stage} at {rate:g}"):
        for done in (0, 6):
            clock[0] += 3
            say("train", done, 9, "steps")
        say("wait", 0, 0, "images")
        clock[0] += 3
        say("wait", 0, 0, "images")
    assert capsys.readouterr().err.splitlines() == [
        "train: 6 of 9 steps, train at 2 (2 steps/s, 2 s left)",
        "wait: 0 images, wait at 0",
    ]


def test_a_terminal_gets_one_bar_per_stage(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with Display() as shown, showing(shown), titled("study a"):
        for stage in ("references", "runs"):
            for done in range(4):
                say(stage, done, 3, "images")
    out, err = capsys.readouterr()
    assert out == ""
    assert "study a: references" in err and "study a: runs" in err and "3/3" in err


def test_of_the_processes_of_torchrun_the_first_one_shows(capsys, clock, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "one")
    monkeypatch.setenv("RANK", "1")
    with Display() as shown, showing(shown):
        for done in range(3):
            say("train", done, 3, "steps")
            clock[0] += 16
    assert capsys.readouterr().err == ""


def test_a_notebook_gets_a_bar_in_its_cell_that_ends_full(monkeypatch, clock):
    display = pytest.importorskip("IPython.display")
    cells = []

    class Cell:
        def update(self, html):
            cells.append(html.data)

    monkeypatch.setattr(display, "display", lambda html, display_id: Cell())
    monkeypatch.setattr(progress_bar, "in_notebook", lambda: True)
    with progress_bar.show_progress():
        for done in (1, 2, 3, 4, 5):
            clock[0] += 0.4
            say("train a<b", done, 5, "steps")
    assert len(cells) == 3  # the first, the one a second later, the last
    assert cells[-1] == '<progress value="5" max="5"></progress> train a&lt;b: 5 of 5 steps (2.5 steps/s, 0 s left)'
