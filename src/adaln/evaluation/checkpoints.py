"""A run's checkpoints scored against the run's own data: while it trains or afterwards, and never twice."""

from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

from adaln.config import RunConfig
from adaln.data import DataConfig, load
from adaln.evaluation.files import Scoring, samples_file, scores_file, write_scores
from adaln.evaluation.images import extractor_for, named_reference
from adaln.metrics import Extractor, Scores, Statistics, evaluate, statistics
from adaln.parallel import first_goes_first, from_first, rank
from adaln.processes import count_updates, guided
from adaln.runs import Run
from adaln.sampling import choose_labels, load_sampler, save_samples
from adaln.types import Hook


def score(run: Run, scoring: Scoring, step: int) -> Scores:
    """Sample a checkpoint (averaged weights), score the samples, and keep both in the run.

    The processes of torchrun share sampling and features.
    """
    extractor, theirs = reference(run.config.data, scoring.features, scoring.reference, str(run.device))
    sampler, file = load_sampler(run, scoring.sample, step), samples_file(run, scoring, step)
    save_samples(sampler, file)
    found = evaluate(file, theirs, extractor, choices=sampler.provenance)
    if rank() == 0:
        write_scores(run, scoring, step, found)
    return found


@lru_cache(maxsize=4)
def reference(
    data: DataConfig, features: str | None = None, name: str | None = None, device: str = "cpu"
) -> tuple[Extractor, Statistics]:
    """The feature network (a classifier is trained once, then cached) and the statistics of what samples are held to.

    That is the data a run learns from, or what `name` stands for. Raises ValueError where it cannot be scored against:
    latents, no labels for a classifier, no Inception weights.
    """
    source = load(data) if name is None else named_reference(name, features)
    with first_goes_first():  # a classifier is trained by one process
        extractor = extractor_for(source, features, device=device)
    return extractor, statistics(source, extractor)


def check(config: RunConfig, scoring: Scoring, device: str = "cpu") -> None:
    """ValueError for what would otherwise be found out at the first score: solver, guidance, labels, features."""
    run = Run(Path(), config, device)
    num_classes = run.dataset.spec.num_classes
    count_updates(run.process, scoring.sample.sampler)
    choose_labels(scoring.sample, num_classes)
    labels = torch.zeros(1, dtype=torch.long) if num_classes else None
    guided(lambda x, t, y: x, labels, run.null_label, scoring.sample.guidance)
    reference(config.data, scoring.features, scoring.reference, device)


def is_scored(run: Run, scoring: Scoring, step: int) -> bool:
    """Whether that checkpoint's scores are on disk."""
    return scores_file(run, scoring, step).exists()


def score_saved(run: Run, scoring: Scoring, steps: Collection[int]) -> list[int]:
    """Score what is not yet scored of the `steps` whose checkpoints are on disk; returns the steps that lack both.

    Before training goes on, since it drops old checkpoints; and after it, for the last one.
    """

    def unscored() -> tuple[list[int], list[int]]:
        saved = run.steps_saved()
        missing = [step for step in steps if not is_scored(run, scoring, step)]
        return sorted(set(missing) & set(saved)), [step for step in missing if step not in saved]

    to_score, lost = from_first(unscored)
    for step in to_score:
        score(run, scoring, step)
    return lost


def scoring_hook(run: Run, scoring: Scoring, steps: Collection[int]) -> Hook:
    """Scores each of `steps` from the checkpoint that was just saved, before the next update.

    Nothing of it reaches the weights. Killed meanwhile, the run resumes at this very checkpoint and scores it then.
    """

    def hook(step: int, model: nn.Module) -> None:
        if step in steps:
            score_saved(run, scoring, [step])

    return hook


def scored_steps(config: RunConfig, at: Sequence[int], every: int | None) -> tuple[int, ...]:
    """The steps asked for, ascending: `at`, and with `every` all multiples of it and the last step.

    Raises ValueError for a step that leaves no checkpoint, naming the nearest that does.
    """
    if every is not None and every < 1:
        raise ValueError(f"evaluate.every is {every}; expected an integer >= 1")
    regular = (*range(every, config.steps, every), config.steps) if every else ()
    kept = (*range(config.checkpoint_every, config.steps, config.checkpoint_every), config.steps)
    for name, steps in (("at", at), ("every", regular)):
        for step in steps:
            if step not in kept:
                near = min(kept, key=lambda one: abs(one - step))
                raise ValueError(
                    f"evaluate.{name} asks for step {step}, which leaves no checkpoint (checkpoint_every is"
                    f" {config.checkpoint_every}, the last step {config.steps}); the nearest that does is {near}"
                )
    return tuple(sorted({*at, *regular}))
