"""A choice among a few starts of two updates, in this very process; scores stand in where an answer is wanted."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adaln.cli import main
from adaln.conditioning import SCHEMES, scheme
from adaln.config import digits, preset
from adaln.models import OwnConfig
from adaln.processes.registry import SamplerConfig
from adaln.progress import noting
from adaln.sampling.config import SampleConfig
from adaln.sequential import race
from adaln.studies.choices import FITTED, Budget, Choice, Rules
from adaln.studies.comparison_tables import train_longer
from adaln.studies.questions import choose
from adaln.studies.questions.choose import Chosen, Plan, again, run_choice
from adaln.studies.questions.choose_figures import order_moved
from adaln.studies.questions.choose_page import reduce_choice, verdict_of, write_choice
from adaln.studies.questions.choose_question import Question, check_choice, job_of, starts_of
from adaln.studies.run.workers import Failure
from adaln.training import Stopped
from helpers.smallest import Here

TWO = Choice((SCHEMES["adaln-zero"], SCHEMES["adaln-gaussian"]), Rules(fit=False, by="loss"))
RATE = 1e12


@pytest.fixture
def base(small_config):
    return small_config(steps=6, log_every=1, checkpoint_every=3, keep_checkpoints=0)


@pytest.fixture
def scored(monkeypatch):
    """Scores by the name of the scheme, a value per seed, in place of what runs give."""

    def use(values):
        monkeypatch.setattr(choose, "judged", lambda choice, job, root, diverged: values[job.label][job.config.seed])

    return use


def asked(base, root, choice=TWO, budget="40runs"):
    return Question.of(choice, base, Budget.of(budget), root, "adaln choose small")


def decided(base, tmp_path, choice=TWO, budget="40runs", launcher=None):
    question = asked(base, tmp_path, choice, budget)
    return run_choice(question, tmp_path, launcher or Here(), RATE, question.save)


@pytest.mark.slow
def test_a_start_that_is_better_by_less_than_the_margin_is_not_the_one_to_use(base, tmp_path, scored):
    scored({"adaln-zero": [20.0, 24.0, 18.0], "adaln-gaussian": [19.9, 23.879, 17.911]})
    answer = write_choice(decided(base, tmp_path), tmp_path).verdict[0]
    assert answer.startswith("adaln-gaussian or adaln-zero: adaln-gaussian is 0.5% better than adaln-zero [0.")
    assert "less than the margin of 2%" in answer


@pytest.mark.slow
def test_the_reference_is_kept_where_nothing_beats_it_by_the_margin(base, tmp_path, scored):
    scored({"adaln-zero": [20.0, 24.0, 18.0], "adaln-gaussian": [19.995, 24.01, 17.99]})
    chosen = decided(base, tmp_path)
    assert chosen.standing.leader == "adaln-gaussian" and chosen.advised == "adaln-zero"
    result = write_choice(chosen, tmp_path)
    assert result.verdict[0].startswith("Keep adaln-zero: no start is better by more than 2% by ")
    assert scheme(chosen.asked.folder / "use.json").gate == SCHEMES["adaln-zero"].gate


def test_the_command_that_trains_longer_names_anyones_network():
    config = replace(digits(), steps=100, model=OwnConfig(factory="mine:network", source="0"))
    assert train_longer(config, Path("runs/a")) == "adaln train runs/a --model mine:network --steps 1000"
    assert train_longer(digits(), Path("runs/a")).startswith("adaln train runs/a --steps ")


@pytest.mark.slow
def test_a_clear_answer_stops_after_three_seeds_and_is_one_sentence_and_a_scheme(base, tmp_path, scored):
    scored({"adaln-zero": [20.0, 24.0, 18.0], "adaln-gaussian": [10.0, 12.05, 8.96]})
    launcher = Here()
    chosen = decided(base, tmp_path, launcher=launcher)
    assert len(launcher.done) == 6 and chosen.standing.is_known
    result, folder = write_choice(chosen, tmp_path), chosen.asked.folder
    assert result.verdict[0].startswith("Use adaln-gaussian: 50% better than adaln-zero [")
    assert scheme(folder / "use.json").gate == SCHEMES["adaln-gaussian"].gate
    assert (folder / "index.html").stat().st_size > 10_000
    rows = {row["start"]: row for row in json.loads((folder / "result.json").read_text())["rows"]}
    assert rows["adaln-gaussian"]["verdict"] == "better"
    assert rows["adaln-zero"]["race"] == "not the best, given up after 3"


@pytest.mark.slow
def test_a_choice_goes_on_from_its_runs_with_a_larger_budget_and_the_plan_it_had(base, tmp_path, scored):
    noisy = {"adaln-zero": [20.0, 24.0, 18.0, 22.0, 19.0], "adaln-gaussian": [21.0, 22.0, 19.0, 21.0, 20.0]}
    scored(noisy)
    first = decided(base, tmp_path, budget="7runs")
    assert not first.standing.is_known and len(first.scores["adaln-zero"]) == 3
    assert reduce_choice(first, tmp_path).verdict[0].startswith("Not known yet after 3 seeds")
    launcher = Here()
    second = decided(base, tmp_path, budget="10runs", launcher=launcher)
    assert len(launcher.done) == 4 and len(second.scores["adaln-zero"]) == 5
    assert second.plan.seeds == first.plan.seeds == 3


@pytest.mark.slow
def test_the_fitted_start_is_that_of_the_first_run_of_the_reference(base, tmp_path, scored):
    values = {"adaln-zero": [20.0, 24.0, 18.0], "adaln-gaussian": [30.0, 36.5, 27.2], FITTED: [10.0, 12.05, 8.96]}
    scored(values)
    chosen = decided(base, tmp_path, replace(TWO, rules=Rules(by="loss")))
    assert chosen.standing.leader == FITTED
    assert "pilot" in chosen.starts[FITTED].note
    assert write_choice(chosen, tmp_path).verdict[0].startswith("Use fitted: 50% better")


@pytest.mark.slow
def test_a_score_of_which_more_is_better_is_told_in_its_own_terms(base, tmp_path):
    sample = SampleConfig(num_images=8, batch_size=8, sampler=SamplerConfig("ddim", 2, clip=True))
    rules = Rules(fit=False, by="is", sample=sample)
    chosen = decided(base, tmp_path, replace(TWO, rules=rules), budget="6runs")
    assert all(value >= 1 for values in chosen.scores.values() for value in values)
    result = write_choice(chosen, tmp_path)
    assert result.table.columns[2].name == "IS-like" and result.table.columns[2].unit == "higher is better"
    with pytest.raises(ValueError, match="dataset-classifier features give no sfid; expected --by fid"):
        decided(base, tmp_path, replace(TWO, rules=replace(rules, by="sfid")))


@pytest.mark.slow
def test_losses_of_real_runs_are_judged_and_shown(base, tmp_path):
    chosen = decided(base, tmp_path, budget="8runs")
    assert all(0 < value < 3 for values in chosen.scores.values() for value in values)
    result = write_choice(chosen, tmp_path)
    assert result.table.columns[2].name == "loss"


@pytest.mark.slow
def test_a_choice_is_reported_again_from_its_folder(base, tmp_path, capsys):
    first = decided(base, tmp_path, budget="6runs")
    write_choice(first, tmp_path)
    first.asked.save()
    second = again(read := Question.read(first.asked.folder), tmp_path)
    assert (read.choice, read.base, read.budget, read.folder) == (TWO, base, first.asked.budget, first.asked.folder)
    assert (second.standing.leader, second.scores) == (first.standing.leader, first.scores)
    main(["report", str(first.asked.folder)])
    assert "adaln choose small" in (first.asked.folder / "report" / "index.md").read_text()
    (first.asked.folder / "choice.json").write_text("{")
    with pytest.raises(SystemExit):
        main(["report", str(first.asked.folder)])
    assert "choice.json" in capsys.readouterr().err


@pytest.mark.slow
def test_several_steps_are_judged_by_their_geometric_mean(base, tmp_path):
    ends = decided(base, tmp_path, budget="6runs")
    both = replace(TWO, rules=replace(TWO.rules, at=(3, 6)))
    chosen, halves = decided(base, tmp_path, both, "6runs"), replace(TWO, rules=replace(TWO.rules, at=(3,)))
    early = decided(base, tmp_path, halves, "6runs")
    for name, values in chosen.scores.items():
        assert values == pytest.approx(np.sqrt(np.multiply(early.scores[name], ends.scores[name])).tolist())
    assert " at 3 and 6 steps" in write_choice(chosen, tmp_path).verdict[0]


@pytest.mark.slow
def test_a_held_out_loss_and_a_score_beyond_adms_are_judged(base, tmp_path):
    held_out = replace(base, data=replace(base.data, held_out=0.2))
    loss = replace(TWO, rules=Rules(fit=False, by="held-out-loss"))
    chosen = decided(held_out, tmp_path, loss, "6runs")
    assert all(value > 0 for values in chosen.scores.values() for value in values)
    assert write_choice(chosen, tmp_path).table.columns[2].name == "held-out loss"
    with pytest.raises(ValueError, match=r"no pictures are held out; expected --data\.held-out"):
        decided(base, tmp_path, loss)
    sample = SampleConfig(num_images=16, batch_size=16, sampler=SamplerConfig("ddim", 2, clip=True))
    mind = decided(base, tmp_path, replace(TWO, rules=Rules(fit=False, by="mind", sample=sample)), "6runs")
    assert write_choice(mind, tmp_path).table.columns[2].name.startswith("MIND")


def test_what_is_known_of_a_leader_is_said_before_all_is(tmp_path):
    """Two starts that both are better than the reference, and alike."""
    starts = {name: SCHEMES[name] for name in ("adaln-zero", "adaln-mix", "adaln-step1")}
    scores = {
        "adaln-zero": [20.0, 21.0, 22.0, 20.5, 21.5, 20.0],
        "adaln-mix": [16.0, 16.9, 17.5, 16.5, 17.3, 16.1],
        "adaln-step1": [16.4, 16.5, 17.9, 16.1, 17.0, 16.6],
    }
    choice = Choice(tuple(starts.values()), Rules(fit=False))
    about = asked(preset("digits"), tmp_path, choice, budget="18runs")
    jobs = {name: [about.job(scheme, seed) for seed in range(6)] for name, scheme in starts.items()}
    standing = race(scores, "adaln-zero", 6, 0.02)
    said = verdict_of(Chosen(about, starts, jobs, scores, standing, Plan(6)), "FID-like")[0]
    assert said.startswith(
        "Not known yet after 6 seeds: adaln-mix has the best FID-like at 2,000 steps of this network, "
    )
    assert re.search(r"\d+% better than adaln-zero \[\d+%, \d+%\], and not told apart from adaln-step1\.$", said)


def test_a_network_of_ones_own_races_as_it_is_made_too_where_that_is_a_start_of_ours(capsys, tmp_path):
    words = ["--model", "helpers.own_networks:small", "--process", "linear-velocity", "--by", "loss", "--steps", "40"]
    words += ["--budget", "40runs", "--no-fit", "--root", str(tmp_path), "--dry-run"]
    main(["choose", "digits", *words])
    said = capsys.readouterr()
    assert said.out.startswith("5 starts (adaln-zero, adaln-gaussian, adaln-step1, adaln-mix, torch-default), 40 runs")
    assert "torch-default is among the starts, for so helpers.own_networks:small is made" in said.err
    assert said.err.count("no last projection of DiT is known") == 1
    main(["choose", "digits", *words, "--scheme", "adaln-zero", "--scheme", "adaln-step1"])
    assert capsys.readouterr().out.startswith("2 starts (adaln-zero, adaln-step1), 40 runs")


def test_it_is_said_where_another_start_led_before_the_end():
    means = {10: {"a": 1.0, "b": 9.0}, 20: {"a": 3.0, "b": 2.0}, 40: {"a": 1.0, "b": 1.5}}
    (line,) = order_moved(means, False, "loss")
    assert (
        line == "Longer runs may say otherwise: at step 20 b was ahead of a; by step 40 the loss of a went from 3 to 1."
    )
    assert order_moved(means, True, "IS") == [
        "Longer runs may say otherwise: at step 20 a was ahead of b; by step 40 the IS of b went from 2 to 1.5."
    ]
    assert (
        order_moved({10: means[10], 40: means[40]}, False, "loss") == order_moved({40: means[40]}, False, "loss") == []
    )


def test_a_grid_is_over_one_role_at_a_time_and_equal_starts_count_once():
    choice = Choice(
        (SCHEMES["adaln-zero"], SCHEMES["adaln-gaussian"], scheme("adaln-gaussian:1e-3")), Rules(over=("gate",))
    )
    lines = []
    with noting(lines.append):
        starts = starts_of(choice)
    assert list(starts) == [
        "adaln-zero",
        "adaln-gaussian",
        *(f"adaln-zero+gate={s}" for s in ("0.0003", "0.001", "0.003")),
    ]
    assert lines == ["adaln-gaussian:0.001,0.001,0.001 starts as adaln-gaussian does: counted once"]
    assert starts["adaln-zero+gate=0.003"].gate.weight.std == 3e-3
    assert starts["adaln-zero+gate=0.003"].scale == SCHEMES["adaln-zero"].scale


@pytest.mark.slow
def test_a_start_that_diverges_leaves_and_the_page_says_so(base, tmp_path, scored):
    scored({"adaln-zero": [20.0, 24.0, 18.0], "adaln-gaussian": [10.0, math.inf, 9.0]})
    chosen = decided(base, tmp_path)
    assert chosen.standing.leader == "adaln-zero"
    assert "Diverged: adaln-gaussian." in write_choice(chosen, tmp_path).verdict


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            lambda: Choice(TWO.schemes, Rules(reference="adaln-zro")),
            r"'adaln-zro' is not among the schemes \(nearest: 'adaln-z",
        ),
        (lambda: Choice((*TWO.schemes, TWO.schemes[0])), "'adaln-zero' is given twice"),
        (lambda: Choice(()), "no schemes"),
        (lambda: Choice((*TWO.schemes, replace(TWO.schemes[0], name=FITTED))), "named 'fitted', as the fitted start"),
        (lambda: Rules(margin=2), "margin is 2; expected a share"),
        (lambda: Rules(stds=(0.0,)), "stds has 0.0"),
        (lambda: Rules(by="fidd"), r"by is 'fidd' \(nearest: 'fid'\); expected one of: fid, .*, held-out-loss"),
        (lambda: Rules(by="kid"), "by is 'kid', which may be below 0"),
        (lambda: Rules(by="fdr"), "by is 'fdr', which needs a validation set"),
        (lambda: Budget.of("2 weeks"), "budget is '2 weeks'; expected a time, runs or operations"),
        (lambda: Budget.of("4mo"), "budget is '4mo'; expected a time, runs or operations"),
        (lambda: Budget.of("-3h"), "budget is '-3h'"),
    ],
)
def test_what_cannot_be_chosen_is_one_line(change, named):
    with pytest.raises(ValueError, match=named):
        change()


@pytest.mark.parametrize(
    ("choice", "budget", "named"),
    [
        (TWO, "3runs", "budget is 3 runs; 2 seeds of 2 starts take 4 runs"),
        (TWO, "1e3flop", "2 seeds of 2 starts take .* operations"),
        (TWO, "1e-9s", "take about .* seconds"),
        (replace(TWO, rules=replace(TWO.rules, at=(3, 7))), "9runs", "at has 7; expected steps from 1 to 6"),
        (replace(TWO, rules=replace(TWO.rules, at=(4,))), "9runs", "at has 4, and no loss is logged .* log_every is 3"),
        (
            replace(TWO, rules=replace(TWO.rules, by="held-out-loss")),
            "9runs",
            "no pictures are held out; expected --da",
        ),
        (Choice((SCHEMES["adaln-zero"],), Rules(fit=False, by="loss")), "9runs", "adaln-zero alone; expected two"),
        (Choice((SCHEMES["adaln-zero"],), Rules(by="loss")), "9runs", "adaln-zero alone; expected two"),
        (Choice((scheme("adaln-gaussian-blockwise"),), Rules(by="loss")), "9runs", "28"),
    ],
)
def test_a_budget_that_is_too_small_and_a_scheme_that_does_not_fit_are_said_before_training(
    base, tmp_path, choice, budget, named
):
    rare = replace(base, log_every=3, checkpoint_every=6, keep_checkpoints=2)
    with pytest.raises(ValueError, match=named):
        check_choice(asked(rare, tmp_path, choice, budget), starts_of(choice), RATE)


def test_the_plan_is_told_beforehand(base, tmp_path):
    seeds, line = check_choice(asked(base, tmp_path, budget="24runs"), starts_of(TWO), RATE)
    assert seeds == 12 and line.startswith(
        "2 starts (adaln-zero, adaln-gaussian), 24 runs: 12 seeds each; at a noise between seeds of 3%"
    )


def test_a_dry_run_of_a_choice_says_what_its_runs_take_and_makes_nothing(capsys, tmp_path, monkeypatch):
    def makes(*_):
        pytest.fail("a reference is made, which may be a classifier")

    monkeypatch.setattr("adaln.evaluation.checkpoints.reference", makes)
    words = ["--scheme", "adaln-zero", "--scheme", "adaln-gaussian", "--budget", "12runs", "--steps", "40"]
    words += ["--checkpoint-every", "10", "--device", "cpu", "--root", str(tmp_path / "runs"), "--dry-run"]
    main(["choose", "digits", *words])
    said = capsys.readouterr().out
    assert (
        said.startswith("3 starts (adaln-zero, adaln-gaussian, one that is fitted), 12 runs: 4 seeds each")
        and f"\n12 runs in {tmp_path / 'runs'}" in said
    )
    assert "\ntime: about" in said and "\ndisk: " in said and said.endswith("nothing was trained\n")
    assert list(tmp_path.iterdir()) == []
    main(["search", "digits", "--over", "gate", "--trials", "2", "--root", str(tmp_path / "runs"), "--dry-run"])
    assert list(tmp_path.iterdir()) == []


def test_a_job_is_scored_on_its_way_and_keeps_what_is_scored():
    job = job_of(Choice(TWO.schemes), preset("digits"), SCHEMES["adaln-zero"], 2)
    assert job.score_at == (500, 1000, 2000) and job.config.seed == 2
    assert set(job.score_at) <= set(job.config.keep_at)


def test_a_plan_is_read_back(tmp_path):
    (tmp_path / "plan.json").write_text('{"seeds": 7, "seconds": 12.5}')
    assert choose.read_plan(tmp_path / "plan.json") == Plan(7, 12.5)
    for damaged in ("{", "[]", '{"seeds": "a"}', '{"seeds": 1}', '{"seeds": 9000000}', '{"seeds": 3, "seconds": NaN}'):
        (tmp_path / "plan.json").write_text(damaged)
        with pytest.raises(ValueError, match=r"plan\.json"):
            choose.read_plan(tmp_path / "plan.json")


def test_of_starts_that_say_the_same_the_reference_is_kept():
    schemes = (SCHEMES["adaln-gaussian"], scheme("adaln-gaussian:1e-3"), SCHEMES["adaln-zero"])
    for reference in (one.name for one in schemes):
        starts = starts_of(Choice(schemes, Rules(reference=reference, fit=False)))
        assert reference in starts and len(starts) == 2


def test_a_reference_is_named_as_its_scheme_is_given(capsys, tmp_path):
    words = ["--scheme", "adaln-zero", "--scheme", "adaln-gaussian:1e-2", "--budget", "40runs", "--by", "loss"]
    main(["choose", "digits", *words, "--reference", "adaln-gaussian:1e-2", "--root", str(tmp_path), "--dry-run"])
    assert (
        "3 starts (adaln-zero, adaln-gaussian:0.01,0.01,0.01, one that is fitted), 40 runs" in capsys.readouterr().out
    )


@pytest.mark.slow
@pytest.mark.parametrize("which", ["adaln-gaussian", "adaln-zero"])
def test_runs_that_diverge_are_not_asked_for_again_and_the_choice_is_reported(base, tmp_path, which):
    class Diverging(Here):
        def run(self, pieces, watch):
            lost = {name: Failure("NonFinite", "step 1: the loss is not finite") for name in pieces if which in name}
            return super().run({name: piece for name, piece in pieces.items() if name not in lost}, watch) | lost

    choice = replace(TWO, rules=replace(TWO.rules, fit=True))
    first = decided(base, tmp_path, choice, launcher=Diverging())
    assert f"Diverged: {which}." in write_choice(first, tmp_path).verdict
    goes_on = Here()
    second = decided(base, tmp_path, choice, "80runs", goes_on)
    assert not goes_on.done and second.standing.left == first.standing.left
    main(["report", str(first.asked.folder)])
    assert f"Diverged: {which}." in (first.asked.folder / "report" / "index.md").read_text()


@pytest.mark.slow
def test_an_unfinished_choice_says_what_goes_on_with_it_and_a_report_makes_nothing(base, tmp_path, capsys):
    class Stopping:
        def run(self, tasks, watch):
            raise KeyboardInterrupt

    with pytest.raises(Stopped):
        decided(base, tmp_path, launcher=Stopping())
    question, there = asked(base, tmp_path), sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit):
        main(["report", str(question.folder)])
    assert "not all of its runs are there; go on with: adaln choose small" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == there
