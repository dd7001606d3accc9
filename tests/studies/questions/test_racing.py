"""A study whose rows race: rounds of seeds as in a choice, from the same command and into the same folder."""

import json
from dataclasses import replace

import pytest

from adaln.cli import main
from adaln.studies import Setting
from adaln.studies.questions import choose
from adaln.studies.questions.racing import finish, question_of, reduced
from helpers.smallest import PLAN, SETTINGS, Here

RACE = replace(PLAN.study, settings=(*SETTINGS, Setting("adaln", "adaln")), races="adaln-zero")
PLANNED = replace(PLAN, study=RACE, seeds=tuple(range(4)))


@pytest.fixture
def scored(monkeypatch):
    """adaLN is hopeless, the others are alike: what runs gave, seed by seed."""
    values = {
        "adaln-zero": [20.0, 24.0, 18.0, 22.0, 21.0, 23.0],
        "adaln-mix": [20.5, 23.0, 18.5, 21.0, 22.0, 22.5],
        "adaln": [200.0, 241.0, 179.0],
    }
    monkeypatch.setattr(choose, "judged", lambda choice, job, root, diverged: values[job.label][job.config.seed])


def test_its_runs_are_those_of_the_study_and_its_folder_too(tmp_path):
    asked = question_of(PLANNED, tmp_path)
    jobs = [asked.job(scheme, seed) for seed in range(4) for scheme in asked.choice.schemes]
    assert jobs == PLANNED.jobs()
    assert asked.folder == PLANNED.folder(tmp_path) and str(asked.budget) == "12 runs"
    assert asked.choice.base.name == "adaln-zero" and not asked.choice.rules.fit


@pytest.mark.slow
def test_what_a_hopeless_row_does_not_take_is_left_for_the_others(tmp_path, scored):
    folder, result = finish(PLANNED, tmp_path, launcher := Here())
    rows = {row["start"]: row for row in json.loads((folder / "result.json").read_text())["rows"]}
    assert rows["adaln"]["race"] == "not the best, given up after 3"
    assert {name: len(row["scores"]) for name, row in rows.items()} == {"adaln-mix": 4, "adaln-zero": 4, "adaln": 3}
    assert len([name for name in launcher.done if not name.startswith("reference")]) == 11
    assert result.verdict[0].startswith("Not known yet after 4 seeds")
    assert (folder / "use.json").exists() and (folder / "study.json").exists()
    titles = [section.heading for section in result.sections]
    assert titles[:2] == ["Result", "Samples"] and {"Seed by seed", "Who moves when"} <= set(titles)
    assert "Other measures, over the first 3 seeds of all" in titles

    assert json.dumps(reduced(PLANNED, tmp_path).data, default=str) == json.dumps(result.data, default=str)
    later = replace(PLANNED, seeds=tuple(range(5)))
    with pytest.raises(ValueError, match="not all of its runs are there; go on with: adaln study smallest"):
        reduced(later, tmp_path)


@pytest.mark.slow
def test_the_quickstart_is_a_choice_and_its_folder_reports_again(tmp_path, capsys):
    sizes = ["--seeds", "2", "--steps", "4", "--num-images", "40", "--jobs", "1", "--root", str(tmp_path)]
    main(["study", "quickstart", *sizes, "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert {"leader", "is_known", "equals"} <= set(answer) and len(answer["rows"]) == 5
    (folder,) = (tmp_path / "studies").glob("quickstart-tiny-*")
    main(["report", str(folder)])
    assert (folder / "report" / "index.html").exists()
