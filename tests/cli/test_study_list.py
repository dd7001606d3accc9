"""`adaln study list`: every study at every scale with what it costs here."""

from adaln.cli import studying
from adaln.registry import Registry
from adaln.studies import SCALES, STUDIES


def test_the_list_tells_runs_steps_time_and_disk(monkeypatch):
    monkeypatch.setattr(studying, "STUDIES", Registry("study", {"table3": STUDIES["table3"]}))
    monkeypatch.setattr(studying, "SCALES", Registry("scale", {"tiny": SCALES["tiny"]}))
    answer = studying.study_verb(["list"])
    (row,) = answer.data
    assert (row["study"], row["scale"], row["runs"], row["steps"]) == ("table3", "tiny", 9, 9_000)
    assert row["seconds"] > 0 and row["bytes"] > 0
    (table,) = answer.shown
    assert table.rows[0][:4] == ["table3", 3, 9, 9_000]
