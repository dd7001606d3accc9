"""The reviewers' experiments on runs and scores whose answers are known."""

from collections import defaultdict
from dataclasses import replace
from math import log

import pytest
import torch

from adaln.analysis import Recorder
from adaln.analysis.live import branch_energies
from adaln.codec import encode, json_text
from adaln.conditioning import (
    SCHEMES,
    Constant,
    Normal,
    Role,
    Start,
    find_sites,
    initialise,
    measure_order,
    standard_inputs,
    std_of,
)
from adaln.conditioning.distributions import Quantiles
from adaln.models import MODELS, DiTConfig, build
from adaln.report.tables import unmarked
from adaln.rng import generator
from adaln.runs import Run
from adaln.sampling import SampleConfig
from adaln.statistics import Difference, Interval, factorial_effects, paired_differences, paired_each
from adaln.studies import STUDIES
from adaln.studies.questions import (
    catch_up,
    equal_std,
    factorial,
    lr_std,
    permuted,
    std_sweep,
    width_transfer,
)
from adaln.studies.questions import other_backbones as backbones
from adaln.studies.registry import REVIEWERS
from adaln.studies.rows import plain, read_responses, room
from adaln.studies.study import Job, Outcome
from adaln.training import train
from adaln.views.snapshots import snapshot
from helpers.made_up import made_up
from helpers.networks import DIGITS

SEEDS = (0, 1, 2)
WOBBLE = (0.3, -0.2, -0.1)


def test_every_question_of_the_reviewers_is_a_study():
    asked = ("equal-std", "factorial", "std-sweep", "permuted", "width-transfer", "catch-up", "lr-std")
    assert set(asked) | {"other-backbones"} == set(REVIEWERS) <= set(STUDIES)


# The factorial


def opened(scheme):
    """First iteration, from 1, at which attention and MLP matrices, scale and shift of the blocks have a gradient."""
    model = build(MODELS["tiny"], DIGITS, generator("test"))
    initialise(model, scheme, generator("scheme"))

    def loss(network, iteration):
        rng = generator("noise", iteration)
        x, y = torch.randn(8, 1, 8, 8, generator=rng), torch.randint(0, 10, (8,), generator=rng)
        return (network(x, torch.full((8,), 500), y) - torch.randn(8, 2, 8, 8, generator=rng)).square().mean()

    roles = {rows: site.role for site in find_sites(dict(model.named_parameters()))
             for rows in [(site.weight, site.rows.start)] if site.branch != "final"}  # fmt: skip
    found = defaultdict(set)
    for part, first in measure_order(model, scheme, loss).items():
        role = roles.get((part.tensor, part.start))
        inside = part.tensor.startswith("blocks.") and part.tensor.endswith("weight")
        name = role.name if role else "branch" if inside else "other"
        found[name].add(None if first is None else first + 1)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("setup", factorial.CELLS, ids=lambda setup: factorial.CELLS[setup].name)
def test_a_cell_has_the_parts_that_its_factors_say(setup):
    gate, shut, order = setup
    scheme = factorial.CELLS[setup]
    moves = opened(scheme)
    assert moves["branch"] == moves["SCALE"] == moves["SHIFT"] == ({3} if order else {2})
    assert moves["GATE"] == ({2} if gate else {None})
    model = build(MODELS["tiny"], DIGITS, generator("test"))
    initialise(model, scheme, generator("scheme"))
    most = max(energy.ratio for energy in branch_energies(model, standard_inputs(model)))
    assert most < 1e-4 if shut else most > 3e-3


def test_the_papers_own_four_are_cells_and_share_its_runs():
    named = {setup: scheme for setup, scheme in factorial.CELLS.items() if scheme.name in SCHEMES}
    assert named == {
        (False, False, False): SCHEMES["adaln"],
        (True, False, False): SCHEMES["adaln-step1"],
        (True, False, True): SCHEMES["adaln-mix"],
        (True, True, True): SCHEMES["adaln-zero"],
    }


def test_effects_are_told_with_what_they_hold_and_the_rest_with_what_they_leave_room_for():
    fid = {setup: [20 - 5 * setup[0] + 2 * (setup[1] and setup[2]) + w * (1 + setup[1]) / 100 for w in WOBBLE]
           for setup in factorial.CELLS}  # fmt: skip
    lines = factorial.verdict(factorial_effects(fid, factorial.FACTORS), "FID")
    assert lines[0] == "gate: -5.00 points of FID, averaged over the others it helps."
    assert lines[1:3] == [
        f"{name}: +1.00 points of FID, averaged over the others it hurts." for name in factorial.FACTORS[1:]
    ]
    assert lines[3].startswith("zero start x order: +1.00 points of FID, so none of them can be read")
    assert lines[4].startswith("Not told from zero, each at most 0.0") and len(lines) == 5


# Equal std


def test_every_family_has_the_common_std():
    for setting in equal_std.EQUAL_STD.settings[2:]:
        for role in ("gate", "scale", "shift"):
            assert std_of(getattr(setting.scheme, role).weight, 64, (384, 64)) == equal_std.STD


def test_shuffled_weights_keep_their_shape_role_by_role_and_take_the_common_std():
    model = build(MODELS["tiny"], DIGITS, generator("test"))
    tensors = dict(model.named_parameters())
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for site in find_sites(tensors):
            rows = tensors[site.weight][site.rows]
            if site.role is Role.GATE:
                rows.exponential_(10.0, generator=rng)  # skewness 2
            elif site.role is Role.SCALE:
                rows.normal_(0.3, 0.2, generator=rng)
    found = equal_std.shuffled(tensors)
    assert found.shift == Start()  # never moved
    drawn = {}
    for role in ("gate", "scale"):
        assert isinstance(getattr(found, role).weight, Quantiles)
        drawn[role] = torch.empty(400, 500)
        getattr(found, role).weight.fill_(drawn[role], generator("test"), (400, 500))
        assert drawn[role].std().item() == pytest.approx(1e-3, rel=0.01)
        assert drawn[role].mean().item() == pytest.approx(0, abs=1e-5)  # four standard errors
    skewness = {role: ((t / t.std()) ** 3).mean().item() for role, t in drawn.items()}
    assert skewness["gate"] == pytest.approx(2, abs=0.3) and skewness["scale"] == pytest.approx(0, abs=0.1)


@pytest.mark.slow
def test_the_shuffled_start_trains_after_the_zero_run_of_its_seed(trained):
    pilot = made_up(trained, "adaln-zero", 3, {10: 1.0})
    (job,) = equal_std.shuffled_starts([pilot, made_up(trained, "normal", 3, {10: 1.0})])
    assert (job.label, job.config.seed, job.score_at) == ("shuffled trained", 3, (10,))
    assert job.config.scheme == equal_std.shuffled(dict(trained_weights(trained)))
    assert replace(job.config, scheme=trained.config.scheme) == pilot.job.config
    assert Run.create(replace(job.config, steps=1), trained.path.parent).new_model()


def trained_weights(run):
    from adaln.tensor_files import load_tensors

    return load_tensors(run.folder(run.config.steps) / "model.safetensors")


def test_unlike_shapes_are_named_and_alike_ones_leave_room():
    change = Difference(Interval(1.0, -2.0, 4.0), Interval(0.05, -0.1, 0.2), noise=1.0, p_value=0.5)
    line = equal_std.verdict_line({"uniform": change}, 20.0, "FID")
    assert "differences of up to 4.00 points of FID (20.0 %)" in line
    line = equal_std.verdict_line({"uniform": replace(change, p_value=0.01), "Laplace": change}, 20.0, "FID")
    assert line == "At std 0.001 the shape matters: uniform differ from the normal start by FID."


# The sweep of stds


@pytest.mark.slow
def test_the_residual_energy_is_zero_at_zero_and_doubles_with_the_std(small_config, tmp_path):
    def energies(scheme):
        run = Run.create(small_config(scheme=scheme, name=scheme.name), tmp_path)
        return [energy.ratio for energy in std_sweep.energies_at_start(run)]

    one, two = (energies(replace(SCHEMES["adaln-zero"], name=f"gate-{std}", gate=Start(Normal(std)))) for std in (1, 2))
    assert energies(SCHEMES["adaln-zero"]) == [0.0] * 4
    assert two[0] == pytest.approx(2 * one[0], rel=1e-5)
    assert energies(replace(SCHEMES["adaln"], gate=Start(bias=Constant(0.0)))) == [0.0] * 4


# Permuted


def test_shuffles_are_held_against_the_same_network_and_measured_once(trained, monkeypatch):
    worth = {"as trained": 10.0, "gate shuffled": 30.0}
    asked = []

    def measure_once(outcome, run, what, samples):
        asked.append(what)
        seed = outcome.job.config.seed
        fid = worth.get(what, 10.0 + 0.1 * WOBBLE[seed]) + seed + (WOBBLE[seed] if "gate" in what else 0)
        scores = made_up(trained, "", seed, {10: fid}).scores()[10]
        return {"loss": fid / 10, "scores": encode(scores)}

    monkeypatch.setattr(permuted, "_measure", measure_once)
    runs = [made_up(seeded(trained, seed), "adaln-zero", seed, {10: 10.0 + seed}) for seed in SEEDS]
    result = permuted.reduce(runs)
    assert "FID-like changes by gate shuffled +20.0 points" in result.data["verdict"][0]
    assert [unmarked(row[-1]) for row in result.table.rows] == [None, "worse", *["not distinguishable"] * 3]
    assert len(asked) == 5 * len(SEEDS)
    assert permuted.reduce(runs).data == result.data and len(asked) == 5 * len(SEEDS)


def seeded(run, seed):
    """The same weights in a folder of their own."""
    import shutil

    path = run.path.with_name(f"seed-{seed}")
    shutil.copytree(run.path, path)
    return Run(path, run.config)


@pytest.mark.slow
def test_a_shuffle_changes_the_loss_but_not_the_weights_on_disk(trained, monkeypatch):
    scores = made_up(trained, "", 0, {10: 1.0}).scores()[10]
    monkeypatch.setattr(permuted, "reference_of", lambda *a: (None, None))
    monkeypatch.setattr(permuted, "save_samples", lambda sampler, file: seen.append(sampler))
    monkeypatch.setattr(permuted, "evaluate", lambda *a, **k: scores)
    seen = []
    outcome = made_up(trained, "adaln-zero", 0, {10: 1.0})
    found = {what: permuted.measured(outcome, what).loss for what in ("as trained", "all three shuffled")}
    assert found["as trained"] != found["all three shuffled"]
    (sampler,) = seen
    kept, _ = trained.averaged_model()
    name = "blocks.0.adaLN_modulation.1.weight"
    moved, still = sampler.model.get_parameter(name), kept.get_parameter(name)
    assert not torch.equal(moved, still)
    assert torch.equal(moved.flatten().sort().values, still.flatten().sort().values)
    assert sampler.provenance["shuffled"] == "all three shuffled"


# Width


@pytest.mark.parametrize(("power", "rule"), [(0.0, "std fixed"), (0.5, "std ~ 1/√width"), (1.0, "std ~ 1/width")])
def test_the_rule_that_the_best_std_follows_is_found(trained, power, rule):
    outcomes = []
    for setting in width_transfer.settings():
        width, std = setting.width_factor, float(setting.label.rpartition(" ")[2])
        valley = 20 + 10 * abs(log(std * width**power / 1e-3))
        outcomes += [made_up(trained, setting.label, s, {10: valley + WOBBLE[s] * (1 + std)}) for s in SEEDS]
    result = width_transfer.reduce(outcomes)
    assert result.data["best_base_std"] == 1e-3
    assert f"it scores lowest by {rule}" in result.data["verdict"][0]
    verdicts = {row[0]: unmarked(row[-1]) for row in result.table.rows}
    if power:
        assert verdicts[rule] == "better"
    else:
        assert set(list(verdicts.values())[1:]) == {"worse"}


def test_all_rules_agree_at_the_usual_width():
    assert {width_transfer.std_at(rule, 1e-3, 1.0) for rule in width_transfer.RULES} == {1e-3}
    assert [width_transfer.std_at(rule, 1e-3, 2.0) for rule in width_transfer.RULES] == [1e-3, 7.07e-4, 5e-4]


# Catching up


@pytest.mark.parametrize(
    ("leads", "change", "said"),
    [
        ([(0.3, 0.2, 0.4), (0.2, 0.1, 0.3)], (-0.1, -0.2, -0.05), ["No: adaln-gaussian is still ahead", "shrinks"]),
        ([(0.3, 0.2, 0.4), (0.0, -0.1, 0.1)], (-0.3, -0.5, -0.1), ["was ahead at step 250", "shrinks"]),
        ([(0.3, 0.2, 0.4), (-0.2, -0.3, -0.1)], (-0.5, -0.6, -0.4), ["adaln-zero is ahead at the end", "shrinks"]),
        ([(0.0, -0.1, 0.1), (0.1, -0.1, 0.3)], (0.1, -0.1, 0.3), ["no lead to catch up with", "not told to change"]),
    ],
)
def test_catching_up_is_said_in_words(leads, change, said):
    found = {step: Interval(*lead) for step, lead in zip((250, 1_000), leads, strict=True)}
    lines = catch_up.verdict(found, Interval(*change))
    assert all(words in line for words, line in zip(said, lines, strict=True))


def test_the_lead_is_the_log_ratio_seed_by_seed(trained):
    fid = {"adaln-zero": {5: 40.0, 10: 20.0}, "adaln-gaussian": {5: 20.0, 10: 20.0}}
    outcomes = [made_up(trained, label, seed, curve) for label, curve in fid.items() for seed in SEEDS]
    assert catch_up.log_leads(read_responses(outcomes)) == {5: [log(2)] * 3, 10: [0.0] * 3}


# Learning rate x std


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lr", "after_2", "after_10"), [(1e-3, (0.3, 0.9), (0, 0.2)), (1e-6, (0.999, 1.001), (0.999, 1.001))]
)
def test_a_small_start_is_forgotten_at_a_large_learning_rate_only(small_config, tmp_path, lr, after_2, after_10):
    config = small_config(scheme=SCHEMES["adaln-gaussian"], optim=replace(small_config().optim, lr=lr))
    run = Run.create(config, tmp_path)
    train(run, [Recorder(run.path / "analysis" / "roles.jsonl")])
    left = lr_std.share_left([Outcome(Job("", config, (), SampleConfig()), run)])
    assert left[1] == 1
    assert after_2[0] < left[2] < after_2[1] and after_10[0] < left[10] < after_10[1]


def test_what_was_not_recorded_is_not_told(trained):
    short = replace(trained.config, steps=5)
    assert lr_std.share_left([Outcome(Job("", short, (), SampleConfig()), trained)])[10] is None


# Other backbones


@pytest.mark.slow
def test_shapes_are_told_apart_whatever_their_spread():
    def network(seed, width, flat):
        model = build(DiTConfig(32, 1, 2, 2), DIGITS, generator("test"))
        tensors = {name: p for name, p in model.named_parameters() if "adaLN" in name}
        rng = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for site in find_sites(tensors):
                rows = tensors[site.weight][site.rows]
                rows.normal_(0, width, generator=rng)
                if flat and site.role is Role.GATE:
                    rows.uniform_(-width, width, generator=rng)
        return snapshot("made up", 1, tensors)

    seeds = {"DiT": (1e-2, False), "SiT": (1e-3, False), "DiT-LLaMA": (1e-2, True), "U-DiT": (1e-2, False)}
    found = {
        (label, role): backbones.measured([network(10 * i + s, *how) for s in SEEDS], role)
        for i, (label, how) in enumerate(seeds.items())
        for role in ("gate", "scale", "shift")
    }
    changes = backbones.kurtosis_changes(found)
    assert len(changes) == 9
    assert [shape for shape, change in changes.items() if change.distinguishable] == [("DiT-LLaMA", "gate")]
    lines = backbones.verdict(found, changes)
    assert lines[0].endswith("told from DiT's: DiT-LLaMA.") and lines[1].endswith("none is told from DiT's.")


def test_weights_that_have_not_moved_have_no_shape():
    fresh = snapshot("fresh", 0, dict(build(MODELS["tiny"], DIGITS, generator("test")).named_parameters()))
    found = {(label, "gate"): backbones.measured([fresh], "gate") for label in backbones.BACKBONES}
    assert found["DiT", "gate"]["excess kurtosis"] is None
    assert backbones.kurtosis_changes(found) == {}


# What they share


def test_rows_with_one_reference_are_compared_as_in_any_table():
    values, reference = {"a": [1.0, 2.0, 4.0], "b": [3.0, 3.0, 3.5]}, [2.0, 2.5, 2.0]
    assert paired_each({n: (v, reference) for n, v in values.items()}) == paired_differences(
        {**values, "zero": reference}, "zero"
    )


def test_an_open_interval_leaves_room_for_anything_and_is_open_in_json():
    assert room([Interval(1.0, -3.0, 2.0), Interval(0.0, -1.0, 1.0)]) == 3
    assert json_text(plain(Interval(1.0, float("-inf"), 2.0))) == '{"value":1.0,"low":"-inf","high":2.0}'
