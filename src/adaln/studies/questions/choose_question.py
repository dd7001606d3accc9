"""What is asked when starts are chosen from: which, of what network, judged how, and what may be spent on it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from adaln.analysis.audit import audit
from adaln.codec import decode, encode, json_text, short_hash
from adaln.conditioning import SCHEMES, Normal, Scheme, Start
from adaln.config import RunConfig, from_dict, model_name, to_dict
from adaln.evaluation.checkpoints import check_scoring, reference_of, unmade
from adaln.evaluation.held_out import check_held_out
from adaln.files import reading, write_atomically
from adaln.metrics import METRICS
from adaln.models import OwnConfig, build
from adaln.progress import note
from adaln.rng import generator
from adaln.sequential import FEWEST, detectable
from adaln.studies.choices import Budget, Choice, Rules
from adaln.studies.questions.fitted import pilot_steps
from adaln.studies.rows import LOSS_TAIL
from adaln.studies.run.costs import work
from adaln.studies.scales import quarters, run_name
from adaln.studies.study import Job

USUAL_NOISE = 0.03
"""Of paired differences of FID-like on the digits, relative to the score, over the three seeds of an early quickstart;
over 4 to 11 seeds of docs/results/quickstart it is 0.03 to 0.08, so that what is said beforehand is hopeful."""
SAVED = "choice.json"
MOST_SEEDS = 40
"""Planned at most: a change that takes more is smaller than any margin that matters."""


@dataclass(frozen=True, slots=True)
class Question:
    """Which of some starts serves a network best, and what may be spent on it."""

    title: str
    choice: Choice
    base: RunConfig
    """What every run is, but for its scheme and its seed."""
    budget: Budget
    job: Callable[[Scheme, int], Job]
    """(start, number of the seed) -> one run of it, and when it is judged."""
    folder: Path
    """Where the plan and the results lie."""
    command: str = ""
    """What a reader types to have the same."""

    @classmethod
    def of(cls, choice: Choice, base: RunConfig, budget: Budget, root: Path, command: str = "") -> "Question":
        """Of any run; its folder is the same whatever the budget."""
        key = short_hash({"choice": encode(choice), "base": to_dict(base)})
        folder = root / "choices" / f"{base.name}-{key}"
        return cls(
            f"Which start for {base.name}?", choice, base, budget, partial(job_of, choice, base), folder, command
        )

    @classmethod
    def read(cls, folder: Path) -> "Question":
        """What `save` wrote."""
        with reading(folder / SAVED, "a choice"):
            row = json.loads((folder / SAVED).read_text(encoding="utf-8"))
            choice, base = decode(Choice, row["choice"], "choice"), from_dict(row["base"])
            budget, command = decode(Budget, row["budget"], "budget"), decode(str, row["command"], "command")
            return cls.of(choice, base, budget, folder.parent.parent, command)

    def save(self) -> None:
        """Keep it beside its results."""
        row = {"choice": encode(self.choice), "base": to_dict(self.base), "budget": encode(self.budget)}
        write_atomically(self.folder / SAVED, json_text({**row, "command": self.command}) + "\n")


def job_of(choice: Choice, base: RunConfig, scheme: Scheme, seed: int) -> Job:
    """One run of a start, judged at a quarter, half and all of its steps, and where it is asked for."""
    rules = choice.rules
    steps = tuple(sorted({*quarters(base.steps, base.checkpoint_every), *rules.at}))
    config = replace(
        base,
        name=run_name(base, scheme, base.seed + seed),
        scheme=scheme,
        seed=base.seed + seed,
        keep_at=tuple(sorted({*base.keep_at, *steps})),
    )
    return Job(
        label=scheme.name,
        config=config,
        score_at=steps if rules.takes_samples else (),
        sample=rules.sample,
        features=rules.features,
        reference=rules.score_against,
        further=(rules.by,) if rules.takes_samples and not METRICS[rules.by].in_adm else (),
        loss_at=steps if rules.by == "held-out-loss" else (),
    )


def starts_of(choice: Choice) -> dict[str, Scheme]:
    """What is trained, by name; of several that say the same one is left, the reference if it is among them."""
    by_content: dict[str, Scheme] = {}
    for scheme in (*choice.schemes, *grid(choice)):
        content = short_hash(encode(replace(scheme, name="", note="")))
        if content in by_content:
            note(f"{scheme.name} starts as {by_content[content].name} does: counted once")
        if content not in by_content or scheme is choice.base:
            by_content[content] = scheme
    return {scheme.name: scheme for scheme in by_content.values()}


def made_as(base: RunConfig) -> Scheme | None:
    """The scheme at which the factory of anyone's network leaves its conditioning, if it is one of ours."""
    if not isinstance(base.model, OwnConfig):
        return None
    network = build(base.model, unmade(base).spec, generator("init", base.seed))
    try:
        start = audit(network).start
    except ValueError:  # what cannot be read is refused by whoever trains it, with a way on
        return None
    return SCHEMES[start.name] if start and start.is_start and start.name in SCHEMES else None


def fits(asked: Question) -> bool:
    """Whether a start is to be fitted, which takes a checkpoint before the end of the reference's first run."""
    return asked.choice.rules.fit and pilot_steps(asked.job(asked.choice.base, 0).config) is not None


def grid(choice: Choice) -> list[Scheme]:
    """The reference with each std of the grid in each role that it is over, one role at a time."""

    def with_std(role: str, std: float) -> Scheme:
        start: dict[str, Any] = {role: Start(Normal(std))}
        return replace(choice.base, name=f"{choice.base.name}+{role}={std:g}", note="of a grid", **start)

    return [with_std(role, std) for role in choice.rules.over for std in choice.rules.stds]


def check_choice(
    asked: Question, starts: Mapping[str, Scheme], rate: float, makes_reference: bool = True
) -> tuple[int, str]:
    """Seeds that the budget is good for at `rate` operations per second, and what they can tell.

    `ValueError` for what would otherwise be found out after training has begun.
    """
    choice, budget = asked.choice, asked.budget
    layouts = [unmade(asked.job(scheme, 0).config).check_fits() for scheme in starts.values()]
    if caveat := layouts[0].caveat:
        note(caveat)
    job, num_starts = asked.job(choice.base, 0), len(starts) + fits(asked)
    if choice.rules.fit and not fits(asked):
        every = max(1, asked.base.steps // 4)
        kept = (
            f"runs of {asked.base.steps:,} steps keep no checkpoint before the end (--checkpoint-every {every:,} would)"
        )
        note(f"no start is fitted: {kept}")
    if num_starts < 2:
        raise ValueError(f"{' and '.join(starts)} alone; expected two or more starts to choose from")
    check_judge(choice.rules, job, makes_reference)
    one = work([job], unmade(asked.base).spec)
    takes = num_starts * {"runs": 1.0, "operations": one, "seconds": one / rate}[budget.unit]
    most, about = int(budget.amount / takes), "about " * (budget.unit == "seconds")
    if most < FEWEST:
        least = f"{about}{Budget(FEWEST * takes, budget.unit)}"
        steps = int(asked.base.steps * budget.amount / (FEWEST * takes))
        fewer = f"--steps {steps}" if 10 * steps >= asked.base.steps else "far fewer steps"
        ways = (
            f"a longer budget, {fewer} instead of {asked.base.steps:,}, batches of less than {asked.base.batch_size},"
            f" or a smaller network than {model_name(asked.base.model)}"
        )
        ways = "as many runs, or fewer starts" if budget.unit == "runs" else ways
        raise ValueError(f"budget is {budget}; {FEWEST} seeds of {num_starts} starts take {least}; expected {ways}")
    seeds = min(MOST_SEEDS, most)
    change = USUAL_NOISE * detectable(seeds, num_starts)
    names = ", ".join([*starts, *["one that is fitted"] * fits(asked)])
    return seeds, (
        f"{num_starts} starts ({names}), {budget}: {about}{seeds} seeds each; at a noise between seeds of"
        f" {USUAL_NOISE:.0%}, as on the digits, that shows changes of {change:.0%} and more (four times in five)"
    )


def is_logged(config: RunConfig, step: int) -> bool:
    """Whether the last tenth of the steps up to `step` has a loss."""
    return step == config.steps or step // config.log_every * config.log_every > (1 - LOSS_TAIL) * step


def check_judge(rules: Rules, job: Job, makes_reference: bool) -> None:
    """`ValueError` for what cannot be scored, or not in the features that are seen, or at steps that no run has."""
    run, steps = unmade(job.config), job.config.steps
    if beyond := [step for step in rules.at if not 0 < step <= steps]:
        raise ValueError(f"at has {beyond[0]:,}; expected steps from 1 to {steps:,}, the end of every run")
    if rules.by == "loss" and (lacking := [step for step in rules.at if not is_logged(job.config, step)]):
        raise ValueError(
            f"at has {lacking[0]:,}, and no loss is logged in the tenth of the steps before it: log_every is"
            f" {job.config.log_every:,}; expected fewer, or a multiple of it"
        )
    if rules.by == "held-out-loss":
        if not job.config.data.held_out:
            raise ValueError("by is 'held-out-loss', and no pictures are held out; expected --data.held-out, e.g. 0.1")
        check_held_out(run)
    if not rules.takes_samples:
        return
    check_scoring(run, job.scoring, makes_reference)
    if not makes_reference:
        return
    extractor, reference = reference_of(run, job.scoring)
    if METRICS[rules.by].needs != "probs" and getattr(reference, METRICS[rules.by].needs) is None:
        raise ValueError(f"{extractor.name} features give no {rules.by}; expected --by fid, or --features inception")
