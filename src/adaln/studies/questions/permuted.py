"""The same histogram is not the same point: trained values shuffled within their role, loss and score taken again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import torch

from adaln.analysis import permute_role
from adaln.codec import decode, json_text, short_hash
from adaln.conditioning import Role
from adaln.evaluation.checkpoints import reference_of, scores_file
from adaln.files import reading, write_atomically
from adaln.metrics import Scores, evaluate
from adaln.report import Axis, Block, Cell, Column, Group, Intervals, Measurement, Section, Table
from adaln.runs import Run
from adaln.sampling import load_sampler, save_samples
from adaln.statistics import Difference, paired_each, t_interval
from adaln.studies.rows import change_cells, final, paired, plain_difference, study_result
from adaln.studies.study import Outcome, Result, Setting, Study
from adaln.views.explain import Probe
from adaln.views.scores import shown_name

TRAINED = "as trained"
SHUFFLES: Mapping[str, tuple[Role, ...]] = {
    **{f"{role.name.lower()} shuffled": (role,) for role in Role},
    "all three shuffled": tuple(Role),
}
TITLE = "The same histogram is not the same point"


@dataclass(frozen=True, slots=True)
class Measured:
    """What a network is worth: its loss with the batches, times and noise of later steps, and its samples' score."""

    loss: float
    scores: Scores

    @property
    def fid(self) -> float:
        """The score by which shuffles are told apart."""
        return self.scores["fid"].value


Values = Mapping[str, Mapping[str, Sequence[Measured]]]
"""Scheme -> what was shuffled -> for each seed what the network is worth."""
Changes = Mapping[tuple[str, str], Difference]
"""(Scheme, what was shuffled) -> change against the same networks as trained."""


def measured(outcome: Outcome, what: str) -> Measured:
    """The run's last averaged network with the values of `SHUFFLES[what]` shuffled; taken once, then read from disk.

    The shuffle depends on the run's seed, so that seeds differ in it as well.
    """
    on_gpu = outcome.run.manifest["sessions"][-1]["device"] != "cpu" and torch.cuda.is_available()  # as it was trained
    run = Run(outcome.run.path, outcome.run.config, "cuda" if on_gpu else "cpu")
    trained = scores_file(run, outcome.job.scoring, outcome.job.config.steps)
    file = run.path / "analysis" / "permuted" / f"{trained.name.partition('.')[0]}-{short_hash({'what': what})}.json"
    if not file.exists():
        write_atomically(file, json_text(_measure(outcome, run, what, file.with_suffix(".npz"))) + "\n")
    with reading(file, "a measurement of a permuted network"):
        return decode(Measured, json.loads(file.read_text(encoding="utf-8")))


def _measure(outcome: Outcome, run: Run, what: str, samples: Path) -> Measured:
    job, probe = outcome.job, Probe.of(run, outcome.job.config.steps)
    for role in SHUFFLES.get(what, ()):
        permute_role(probe.model, role, job.config.seed)
    loss = fmean(probe.losses(probe.model))
    if what == TRAINED:
        return Measured(loss, final(outcome.scores()))
    extractor, theirs = reference_of(run, job.scoring)
    sampler = load_sampler(run, job.sample, probe.step)
    sampler = replace(sampler, model=probe.model, provenance={**sampler.provenance, "shuffled": what})
    save_samples(sampler, samples)
    return Measured(loss, evaluate(samples, theirs, extractor, choices=sampler.record))


def reduce(outcomes: Sequence[Outcome]) -> Result:
    """Every scheme's networks as trained and shuffled, paired over seeds."""
    by_label = paired(outcomes)
    score = shown_name("fid", final(outcomes[0].scores()))
    values = {label: {what: [measured(run, what) for run in runs] for what in (TRAINED, *SHUFFLES)}
              for label, runs in by_label.items()}  # fmt: skip
    changes = {measure: _changes(values, measure) for measure in ("loss", "fid")}
    table = result_table(values, changes, score)
    blocks: list[Block] = [table, figure(changes["fid"], score, len(outcomes) // len(by_label))]
    rows = [
        {"scheme": label, "values": what, "loss": [seed.loss for seed in seeds], "fid": [seed.fid for seed in seeds],
         "changes": {m: plain_difference(changes[m][label, what]) for m in changes if what != TRAINED}}
        for label, of_label in values.items() for what, seeds in of_label.items()
    ]  # fmt: skip
    numbers = {"score": score, "rows": rows}
    return study_result(TITLE, verdict(changes, score), table, [Section("Result", blocks)], by_label, numbers)


def _changes(values: Values, measure: str) -> Changes:
    numbers = {
        (label, what): [float(getattr(one, measure)) for one in seeds]
        for label, rows in values.items()
        for what, seeds in rows.items()
    }
    return paired_each({key: (numbers[key], numbers[key[0], TRAINED]) for key in numbers if key[1] != TRAINED})


def verdict(changes: Mapping[str, Changes], score: str) -> list[str]:
    """For every scheme which shuffles are told from the trained network by score, and which are not."""
    lines = []
    for label in dict.fromkeys(label for label, _ in changes["fid"]):
        by_shuffle = {what: changes["fid"][label, what] for what in SHUFFLES}
        clear = [f"{what} {d.absolute.value:+.1f}" for what, d in by_shuffle.items() if d.distinguishable]
        unclear = [what for what, d in by_shuffle.items() if not d.distinguishable]
        parts = [f"{score} changes by {', '.join(clear)} points"] if clear else []
        parts += [f"not told from the trained networks: {', '.join(unclear)}"] if unclear else []
        lines.append(f"{label}, histograms unchanged: {'; '.join(parts)}.")
    return lines


def result_table(values: Values, changes: Mapping[str, Changes], score: str) -> Table:
    """Loss and score, and what shuffling changes."""
    columns = [
        Column("scheme"),
        Column("values"),
        Column("loss", format=".4f"),
        Column("change", "loss", "+.4f"),
        Column(score, "lower is better", ".1f"),
        Column("change", score, "+.1f"),
        Column("verdict", score),
    ]
    cells: list[list[Cell]] = []
    for label, rows in values.items():
        for what, seeds in rows.items():
            loss, fid = (changes[measure].get((label, what)) for measure in ("loss", "fid"))
            spans = [t_interval([getattr(one, measure) for one in seeds]) for measure in ("loss", "fid")]
            of_loss, of_fid = map(Measurement.of, spans)
            cells.append([label, what, of_loss, change_cells(loss)[0], of_fid, *change_cells(fid)])
    notes = [
        f"Averaged networks at the end of training, over {len(seeds)} seeds, 95 % t intervals. Shuffled: the values of"
        " a role change places within each site of the blocks: every histogram, moment and entropy stays what it was."
        " Changes are paired; intervals and verdicts hold for all shuffles together (Bonferroni)."
        " Loss: on the run's own data with times and noise of later steps."
    ]
    return Table(TITLE, columns, cells, notes)


def figure(changes: Changes, score: str, num_seeds: int) -> Intervals:
    """What every shuffle changes."""
    labels = dict.fromkeys(label for label, _ in changes)
    groups = [Group(label, [Measurement.of(changes[label, what].absolute) for what in SHUFFLES]) for label in labels]
    caption = f"{score} after the shuffle minus before, paired over n = {num_seeds} seeds; right of 0 is worse."
    axis = Axis(f"change in {score}", "points")
    return Intervals("What shuffling changes", caption, axis, list(SHUFFLES), groups)


PERMUTED = Study("permuted", TITLE, tuple(Setting(name, name) for name in ("adaln-zero", "adaln-gaussian")), reduce)
