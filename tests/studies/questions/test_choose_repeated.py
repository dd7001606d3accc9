"""A choice asked on disjoint sets of seeds, from scores that stand in for runs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adaln.cli import main
from adaln.conditioning import SCHEMES
from adaln.config import digits
from adaln.sequential import HORIZON, race
from adaln.studies.choices import Budget, Choice, Rules
from adaln.studies.questions.choose import Chosen, Plan
from adaln.studies.questions.choose_question import MOST_SEEDS, Question, job_of, starts_of
from adaln.studies.questions.choose_repeated import APART, agreement, verdict, write_repeated

TWO = Choice((SCHEMES["adaln-zero"], SCHEMES["adaln-gaussian"]), Rules(fit=False))


def chosen(number, change, noise=0.01, root=Path("runs")):
    """What one set of seeds says where the second start is truly so much from the first."""
    rng, base = np.random.default_rng(number), replace(digits(), seed=number * APART)
    logs = 3 + 0.1 * rng.standard_normal(8) + noise * rng.standard_normal((2, 8)) + np.log1p([[0], [change]])
    scores = dict(zip(starts_of(TWO), np.exp(logs).tolist(), strict=True))
    jobs = {scheme.name: [job_of(TWO, base, scheme, seed) for seed in range(8)] for scheme in TWO.schemes}
    standing = race(scores, "adaln-zero", 8, TWO.rules.margin)
    asked = Question.of(TWO, base, Budget.of("16runs"), root, "adaln choose digits --budget 16runs --repeat 10")
    return Chosen(asked, starts_of(TWO), jobs, scores, standing, Plan(8))


@pytest.mark.slow
def test_the_same_answer_is_counted_and_each_set_is_a_row_of_the_page(tmp_path):
    sets = [chosen(number, -0.2, root=tmp_path) for number in range(10)]
    assert agreement(sets) == {"answer": "adaln-gaussian", "same": 10, "not_known": 0, "another": 0}
    folder, result = write_repeated(sets)
    assert [row[0] for row in result.table.rows] == [APART * number for number in range(10)]
    said = "adaln-gaussian (within 2%) in 10 of 10 sets of seeds; not known within 16 runs in 0, another start in 0."
    assert f"{said} Given up in all of them: adaln-zero." in (folder / "index.md").read_text()
    assert json.loads((folder / "result.json").read_text())["same"] == 10


@pytest.mark.slow
def test_an_equal_leader_says_the_same_and_an_open_set_and_another_answer_are_told_apart():
    equal = chosen(0, 0.0, noise=0.001)
    assert equal.standing.equals
    sets = [equal, chosen(1, -0.2), chosen(2, -0.2), chosen(3, 0.2), chosen(4, 0.0, noise=0.1)]
    assert agreement(sets) == {"answer": "adaln-gaussian", "same": 3, "not_known": 1, "another": 1}
    assert agreement(sets[:1])["answer"] == "adaln-gaussian or adaln-zero"
    assert verdict(sets[-1:]) == "In none of 1 sets of seeds the answer is known within 16 runs."


def test_no_choice_looks_at_the_seeds_of_the_next_set():
    assert APART >= HORIZON * MOST_SEEDS


def test_less_than_one_set_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["choose", "digits", "--budget", "16runs", "--repeat", "0"])
    assert "repeat is 0; expected an integer >= 1" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_asks_each_set_and_says_how_often_the_answer_is_the_same(tmp_path, capsys):
    words = ["--scheme", "adaln-zero", "--scheme", "adaln-gaussian", "--no-fit", "--by", "loss", "--budget", "6runs"]
    sizes = ["--steps", "4", "--batch-size", "4", "--log-every", "1", "--checkpoint-every", "4", "--jobs", "1"]
    main(["choose", "digits", *words, *sizes, "--repeat", "2", "--root", str(tmp_path), "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert [one["seed"] for one in answer["sets"]] == [0, APART]
    assert answer["same"] + answer["not_known"] + answer["another"] == 2
