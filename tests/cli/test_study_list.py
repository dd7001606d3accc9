"""`adaln study list`: every study at every scale with what it costs here."""

from adaln.cli import study_list, studying
from adaln.registry import Registry
from adaln.studies import SCALES, STUDIES


def test_the_list_tells_runs_steps_time_and_disk(monkeypatch):
    monkeypatch.setattr(study_list, "STUDIES", Registry("study", {"table3": STUDIES["table3"]}))
    monkeypatch.setattr(study_list, "SCALES", Registry("scale", {"tiny": SCALES["tiny"]}))
    answer = studying.study_verb(["list"])
    row, of_weights = answer.data
    assert (row["study"], row["scale"], row["runs"], row["steps"]) == ("table3", "tiny", 9, 9_000)
    assert row["seconds"] > 0 and row["bytes"] > 0
    table, line = answer.shown
    assert table.rows[0][:4] == ["table3", 3, 9, 9_000]
    assert (of_weights["study"], of_weights["runs"]) == ("figure20", 0), "what trains nothing is listed too"
    assert "adaln study figure20 --weights" in line
