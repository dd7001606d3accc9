"""A run trained to its end: recorded, tracked and scored on the way.

Its checkpoints are scored while it trains or afterwards, and never twice: a file per (run, step, way of scoring).
"""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import nn

from adaln import training
from adaln.analysis.recorder import Recorder
from adaln.analysis.tracked import send_records
from adaln.codec import decode, encode, short_hash
from adaln.config import RunConfig
from adaln.data import DataConfig, are_files, load, open_pictures
from adaln.data.cache import content_of
from adaln.evaluation.held_out import check_held_out, has_losses, take_losses
from adaln.evaluation.samples import Reference, named_reference
from adaln.evaluation.scoring import Scoring
from adaln.evaluation.steps import loss_steps, scored_steps, unscored_line
from adaln.evaluation.tracking import check_trackers, followed, send_losses, send_scores
from adaln.execution import DEFAULT_EXECUTION, Execution
from adaln.files import expanded, file_sha256, reading, remove_folder, write_atomically
from adaln.metrics import Extractor, Scores, Statistics, evaluate, statistics
from adaln.parallel import find_device, first_goes_first, from_first, group_of_torchrun, rank
from adaln.processes import count_updates, guided
from adaln.runs import Run, is_run
from adaln.sampling import SampleConfig, choose_labels, load_sampler, save_samples
from adaln.trackers import Beside
from adaln.types import Hook, NonFinite, OnLog


def scores_file(run: Run, scoring: Scoring, step: int) -> Path:
    """Where the scores of a checkpoint lie: those against a reference by what it holds, not by what it is called."""
    row = encode(scoring)
    del row["sample"]["batch_size"]  # no influence on the images
    if scoring.reference is not None:
        row["reference"] = fingerprint_of(scoring.reference)
    return run.path / "scores" / f"{step:09d}-{short_hash(row)}.scores.json"


def samples_file(run: Run, scoring: Scoring, step: int) -> Path:
    """Where the samples behind these scores lie."""
    return samples_beside(scores_file(run, scoring, step))


def samples_beside(scores: Path) -> Path:
    """Where the samples lie whose scores that file holds."""
    return scores.with_name(scores.name.replace(".scores.json", ".npz"))


def write_score_file(file: Path, scores: Scores) -> None:
    """Scores as JSON, for `read_score_file`."""
    write_atomically(file, json.dumps(encode(scores, finite=True), indent=1) + "\n")


def read_scores(run: Run, scoring: Scoring, step: int) -> Scores:
    """The scores kept by `score`."""
    return read_score_file(scores_file(run, scoring, step))


PARTS: Mapping[str, Sequence[str]] = {
    "choices": (),
    "settings": (),
    "dtypes": (),
    "samples": ("name", "num_images", "sha256"),
    "reference": ("name", "num_images", "sha256"),
    "extractor": ("name", "label", "fingerprint"),
}
"""What is recorded of scores, and what of it is read again."""


def read_score_file(file: Path) -> Scores:
    """The scores in a file of `adaln evaluate`; `ValueError` where it holds something else."""
    with reading(file, "a file of scores"):
        scores = decode(Scores, json.loads(file.read_text(encoding="utf-8")))
        parts = {part: dict(scores.provenance[part]) for part in PARTS}
        absent = [f"{part}.{name}" for part, names in PARTS.items() for name in names if name not in parts[part]]
        if absent or not scores.scores:
            raise ValueError(f"it has no {absent[0] if absent else 'scores'}")
    return scores


def score(run: Run, scoring: Scoring, step: int) -> Scores:
    """Sample a checkpoint, score the samples, and keep both in the run.

    The processes of torchrun share sampling and features.
    """
    return score_into(scores_file(run, scoring, step), run, scoring, step)


def score_into(file: Path, run: Run, scoring: Scoring, step: int) -> Scores:
    """As `score`, with the scores in that file and the samples beside it."""
    extractor, theirs = reference_of(run, scoring)
    sampler, samples = load_sampler(run, scoring.sample, step), samples_beside(file)
    save_samples(sampler, samples)
    scores = evaluate(samples, theirs, extractor, further=scoring.further, choices=sampler.record)
    if rank() == 0:
        write_score_file(file, scores)
    return scores


def reference_of(run: Run, scoring: Scoring) -> tuple[Extractor, Statistics]:
    """As `reference`, for the checkpoints of a run; `ValueError` where its data is not what it began with."""
    state = run.dataset.fingerprint if scoring.reference is None else fingerprint_of(scoring.reference)
    return reference(run.data, scoring.features, scoring.reference, str(run.device), state)


def fingerprint_of(name: str) -> str:
    """What a reference holds: a run its data, a file its bytes, a folder the names and bytes of its pictures."""
    if is_run(name):
        return Run.open(name).dataset.fingerprint
    path = expanded(name)
    if path.is_file():
        return _file_sha256(path, path.stat().st_size, path.stat().st_mtime_ns)
    if path.exists() and are_files(name):
        source = open_pictures(name)
        return hashlib.sha256(repr((source.names, content_of(source))).encode()).hexdigest()
    return load(DataConfig(path=name)).fingerprint


@lru_cache(maxsize=16)
def _file_sha256(path: Path, size: int, time: int) -> str:
    return file_sha256(path)


@lru_cache(maxsize=4)
def reference(
    data: DataConfig, features: str | None = None, name: str | None = None, device: str = "cpu", state: str = ""
) -> tuple[Extractor, Statistics]:
    """The feature network (a classifier is trained once, then cached) and the statistics of what samples are held to.

    That is the data a run learns from, or what `name` stands for; `state` tells apart what lay there at different
    times. Raises ValueError where it cannot be scored against: latents, no labels for a classifier, no Inception
    weights.
    """
    held_against = Reference.of(load(data)) if name is None else named_reference(name, features)
    with first_goes_first():  # a classifier is trained by one process
        extractor = held_against.extractor(features, device=device)
    return extractor, statistics(held_against.source, extractor)


def unmade(config: RunConfig, device: str = "cpu") -> Run:
    """A run without a folder, of which nothing is read, whatever lies in the working folder."""
    return Run(Path(os.devnull), config, device)


def check_scoring(run: Run, scoring: Scoring, makes_reference: bool = True) -> None:
    """ValueError for what would else be found out at the first score: solver, guidance, labels, sizes, features.

    A dry run makes no reference: it may be a classifier that is trained.
    """
    if scoring.sample.num_images < 2:
        raise ValueError(f"num_images is {scoring.sample.num_images}; expected at least 2 to score")
    num_classes = run.dataset.spec.num_classes
    count_updates(run.process, scoring.sample.sampler)
    choose_labels(scoring.sample, num_classes)
    labels = torch.zeros(1, dtype=torch.long) if num_classes else None
    guided(lambda x, t, y: x, labels, run.null_label, scoring.sample.guidance)
    if run.dataset.describe_latents() is None and scoring.reference is not None:
        pixels = (run.spec.channels, run.spec.height, run.spec.width)
        named_reference(scoring.reference, scoring.features).check_shape(pixels, scoring.features)
    if makes_reference:
        reference_of(run, scoring)


def is_scored(run: Run, scoring: Scoring, step: int) -> bool:
    """Whether that checkpoint's scores are on disk."""
    return scores_file(run, scoring, step).exists()


def score_saved(run: Run, scoring: Scoring, steps: Collection[int]) -> list[int]:
    """Score what is not yet scored of the `steps` whose checkpoints are on disk; returns the steps that lack both.

    Before training goes on, since it drops old checkpoints; and after it, for the last one.
    """
    return take_saved(run, steps, partial(is_scored, run, scoring), partial(score, run, scoring))


def take_saved(
    run: Run, steps: Collection[int], is_taken: Callable[[int], bool], take: Callable[[int], object]
) -> list[int]:
    """As `score_saved`, for whatever is taken of a checkpoint and kept."""

    def lacking() -> tuple[list[int], list[int]]:
        saved = run.steps_saved()
        missing = [step for step in steps if not is_taken(step)]
        return sorted(set(missing) & set(saved)), [step for step in missing if step not in saved]

    to_take, missing = from_first(lacking)
    for step in to_take:
        take(step)
    return missing


def save_losses(run: Run, steps: Collection[int]) -> list[int]:
    """As `score_saved`, for held-out losses."""
    return take_saved(run, steps, partial(has_losses, run), partial(take_losses, run)) if steps else []


def scoring_hook(
    run: Run,
    scoring: Scoring,
    steps: Collection[int],
    loss_steps: Collection[int] = (),
    trackers: Sequence[Beside] = (),
) -> Hook:
    """Scores each of `steps`, and takes the held-out losses of each of `loss_steps`, from the checkpoint that was just
    saved, before the next update; trackers get them, and the first samples.

    Nothing of it reaches the weights. Killed meanwhile, the run resumes at this very checkpoint and scores it then.
    """

    def hook(step: int, model: nn.Module) -> None:
        if step in loss_steps:
            save_losses(run, [step])
        if step in steps:
            score_saved(run, scoring, [step])
        if trackers and step in {*steps, *loss_steps}:
            send_taken(trackers, run, scoring, step)

    return hook


def send_taken(trackers: Sequence[Beside], run: Run, scoring: Scoring, step: int) -> None:
    """To trackers, what was taken of a checkpoint."""
    if run.config.data.held_out and has_losses(run, step):
        send_losses(trackers, step, take_losses(run, step))
    if is_scored(run, scoring, step):
        send_scores(trackers, step, read_scores(run, scoring, step), samples_file(run, scoring, step))


@contextmanager
def gone_if_refused(path: Path) -> Iterator[None]:
    """In this block a folder that is made is gone again where what is raised refuses a run before its first step."""
    is_new = not path.exists()
    try:
        yield
    except NonFinite:
        raise
    except ValueError:
        has_begun = (path / "metrics.jsonl").exists() or any(path.glob("checkpoints/[0-9]*"))
        if is_new and rank() == 0 and not has_begun:
            remove_folder(path)
        raise


def train(
    config: RunConfig,
    out: Path | str | None = None,
    device: str = "auto",
    hooks: Sequence[Hook] = (),
    on_log: Sequence[OnLog] = (),
    *,
    root: Path | str = "runs",
    execution: Execution = DEFAULT_EXECUTION,
    track: Sequence[str] = (),
    score_at: Sequence[int] = (),
    scoring: Scoring | None = None,
    loss_at: Sequence[int] = (),
    page: Callable[[Run], Path] | None = None,
) -> Run:
    """Train a run to its end, or go on with it: what `adaln train` does, in the folder `out` or ROOT/NAME-HASH.

    `hooks` are called as `hook(step, model)` in every step, after the backward pass and before the optimiser, `on_log`
    as `on_log(step, metrics)` with every line of metrics.jsonl: the mean loss since the line before, the norm of the
    gradient. `track` names registered trackers; those that show a page get the one that `page` writes of the finished
    run. At the steps `score_at`, which need a checkpoint, the averaged weights are scored as `scoring` says; at these
    and at `loss_at` held-out losses are taken, where data is held out. A checkpoint that is gone is a warning.
    Distributions of gate, scale and shift are recorded at steps evenly spaced in their logarithm. Under torchrun all
    processes train one run. Ctrl-C saves and raises `KeyboardInterrupt`; the same call goes on.

    Raises `ValueError` before anything is written for data, network, process and scheme that do not fit each other and
    for a folder that holds another run, and `NonFinite` for a loss or gradient that is not finite.

    >>> import adaln
    >>> from tempfile import mkdtemp
    >>> run = adaln.train(adaln.preset("digits", scheme="adaln-gaussian", steps=2), mkdtemp())
    >>> run.steps_saved()
    [2]
    """
    score_at = scored_steps(config, score_at, None)
    loss_at = loss_steps(config, scored_steps(config, loss_at, None), score_at)
    check_trackers(track)
    scoring, computing = scoring or Scoring(SampleConfig()), find_device(device)
    if score_at and scoring.sample.ema is not None and not config.optim.ema_widths:
        raise ValueError(f"evaluate.ema is {scoring.sample.ema:g}, which needs averages: --optim.ema-widths 0.05 0.1")
    where = Path(root), None if out is None else Path(out)
    with group_of_torchrun():
        planned = Run.planned(config, *where, computing)
        if score_at:  # what cannot be scored against is said before anything is written
            check_scoring(planned, scoring)
        if loss_at:
            check_held_out(planned)
        with gone_if_refused(planned.path):
            run = Run.create(config, *where, computing)
            score_saved(run, scoring, score_at)  # first, since training drops old checkpoints
            save_losses(run, loss_at)
            with followed(run, track, page) as trackers:
                recorder = Recorder(run.path / "analysis" / "roles.jsonl", on_records=partial(send_records, trackers))
                scorer = scoring_hook(run, scoring, score_at, loss_at, trackers)
                training.train(
                    run, [recorder, *hooks, scorer], execution, [*on_log, *[tracker.on_log for tracker in trackers]]
                )
                gone = sorted({*score_saved(run, scoring, score_at), *save_losses(run, loss_at)})
                if trackers:
                    send_taken(trackers, run, scoring, config.steps)
        if gone and rank() == 0:
            warnings.warn(unscored_line(gone), stacklevel=2)
    return run
