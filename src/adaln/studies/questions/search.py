"""Looks for the standard deviations of gate, scale and shift that serve best: Optuna proposes, runs answer.

The state of a search is its runs and nothing else. Trial n is a function of the trials before it and of a seed that
follows from n, so a search that was killed and is started again proposes the same trials, whose runs it finds done.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from adaln.codec import short_hash
from adaln.conditioning import Normal, Scheme, Start
from adaln.config import RunConfig, to_dict
from adaln.evaluation.checkpoints import check_scoring, unmade
from adaln.progress import titled
from adaln.rng import generator
from adaln.runs import Run
from adaln.studies.choices import Search
from adaln.studies.rows import final_loss
from adaln.studies.run.run_study import complete
from adaln.studies.run.workers import Launcher
from adaln.studies.scales import run_name
from adaln.studies.study import Job, Outcome

if TYPE_CHECKING:
    import optuna

Stds = dict[str, float]
"""By the names of roles."""
PROPOSAL_STD = 1e-3
"""adaLN-Gaussian's own: the first trial, where the bounds hold it."""
DIGITS = 3
"""Significant digits of a proposed std: what is tried is what is printed."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One proposal, and what its runs gave."""

    number: int
    stds: Stds
    end: Literal["finished", "pruned", "diverged"]
    step: int
    """The last step that was judged."""
    values: tuple[float, ...]
    """The objective there, a value per seed; none where a run diverged."""
    runs: tuple[str, ...]

    @property
    def value(self) -> float:
        """Mean over seeds; infinite where a run diverged."""
        return fmean(self.values) if self.values else math.inf


def candidate(base: Scheme, stds: Stds) -> Scheme:
    """The base scheme with normal starts of these standard deviations."""
    name = "+".join([base.name, *(f"{role}={std:g}" for role, std in stds.items())])
    starts: dict[str, Any] = {role: Start(Normal(std)) for role, std in stds.items()}
    return replace(base, name=name, note="proposed by adaln search", **starts)


def run_search(search: Search, base: RunConfig, num_trials: int, root: Path, launcher: Launcher) -> list[Trial]:
    """Judge `num_trials` trials, doing what is missing of their runs; a run that diverges ends its trial only.

    Raises `ValueError` before anything is trained for what does not fit, `Unfinished` naming runs that failed: what
    comes after a trial depends on it.
    """
    study = _study()
    check_search(search, base, num_trials)
    trials: list[Trial] = []
    while len(trials) < num_trials:
        numbers = range(len(trials), min(len(trials) + search.at_once, num_trials))
        asked = [_ask(study, search, number) for number in numbers]
        with titled(f"trials {numbers[0]} to {numbers[-1]} of {num_trials}"):
            judged = judge(search, base, root, asked, launcher)
        for trial in judged:
            _record(study, trial)
        trials += judged
    return trials


def check_search(search: Search, base: RunConfig, num_trials: int, makes_reference: bool = True) -> None:
    """`ValueError` for what would otherwise be found out in the middle of the search."""
    if num_trials < 1:
        raise ValueError(f"trials is {num_trials}; expected an integer >= 1")
    if not search.over or len(set(search.over)) < len(search.over):
        raise ValueError(f"over is {', '.join(search.over) or 'empty'}; expected gate, scale, shift, each once at most")
    wrong = [step for step in search.prune_at if not 0 < step < base.steps]
    if wrong:
        raise ValueError(f"prune_at is {wrong[0]}; expected a step before the last, {base.steps}")
    if search.objective == "score":
        check_scoring(unmade(base), jobs_of(search, base, 0, {}, base.steps)[0].scoring, makes_reference)


def jobs_of(search: Search, base: RunConfig, number: int, stds: Stds, step: int) -> list[Job]:
    """A trial's runs up to a step, one per seed."""
    scheme = candidate(base.scheme, stds)
    configs = [
        replace(
            base,
            name=run_name(base, scheme, base.seed + k),
            scheme=scheme,
            seed=base.seed + k,
            steps=step,
            keep_at=tuple(sorted({*base.keep_at, *search.prune_at})),
        )
        for k in range(search.seeds)
    ]
    score_at = (step,) if search.objective == "score" else ()
    return [
        Job(f"trial {number}", config, score_at, search.sample, search.features, search.reference) for config in configs
    ]


def search_folder(search: Search, base: RunConfig, root: Path) -> Path:
    """Where the results lie; a longer search goes on in the folder of a shorter one."""
    return root / "searches" / f"{base.name}-{short_hash({'search': asdict(search), 'base': to_dict(base)})}"


def judge(
    search: Search, base: RunConfig, root: Path, asked: "Sequence[tuple[optuna.Trial, Stds]]", launcher: Launcher
) -> list[Trial]:
    """Trials that were proposed together, all run to each step at which trials are given up, then on to the end."""
    ended: dict[int, Trial] = {}
    for step in (*sorted(search.prune_at), base.steps):
        left = [(proposal, stds) for proposal, stds in asked if proposal.number not in ended]
        jobs = [jobs_of(search, base, proposal.number, stds, step) for proposal, stds in left]
        diverged = complete([job for of_trial in jobs for job in of_trial], root, launcher, tolerated="NonFinite")
        for (proposal, stds), of_trial in zip(left, jobs, strict=True):
            names = tuple("-".join(job.run_key) for job in of_trial)
            if diverged & set(names):
                ended[proposal.number] = Trial(proposal.number, stds, "diverged", step, (), names)
                continue
            values = tuple(objective(search, Outcome(job, Run.create(job.config, root))) for job in of_trial)
            trial = Trial(proposal.number, stds, "finished", step, values, names)
            if step == base.steps:
                ended[trial.number] = trial
                continue
            proposal.report(trial.value, step)
            if proposal.should_prune():
                ended[trial.number] = replace(trial, end="pruned")
    return [ended[proposal.number] for proposal, _ in asked]


def objective(search: Search, outcome: Outcome) -> float:
    """What is to be made small."""
    if search.objective == "loss":
        return final_loss(outcome)
    return outcome.scores()[outcome.job.config.steps].scores["fid"].value


def _study() -> "optuna.Study":
    """An Optuna study in memory: nothing of it needs to be kept."""
    try:
        import optuna
    except ImportError:
        raise ValueError("adaln search needs Optuna: pip install 'adaln[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(pruner=optuna.pruners.MedianPruner())


def _ask(study: "optuna.Study", search: Search, number: int) -> "tuple[optuna.Trial, Stds]":
    """Trial `number`; the first is the paper's own proposal."""
    import optuna

    seed = generator("search", number).initial_seed() % 2**32
    study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)  # keeps away from trials without an end
    if number == 0 and search.low <= PROPOSAL_STD <= search.high:
        study.enqueue_trial(dict.fromkeys(search.over, PROPOSAL_STD))
    trial = study.ask()
    stds = {role: trial.suggest_float(role, search.low, search.high, log=True) for role in search.over}
    return trial, {role: float(f"{std:.{DIGITS}g}") for role, std in stds.items()}


def _record(study: "optuna.Study", trial: Trial) -> None:
    """Give a trial's end to the sampler and the pruner; one that diverged is the worst there is."""
    import optuna

    if trial.end == "pruned":
        study.tell(trial.number, state=optuna.trial.TrialState.PRUNED)
    else:
        study.tell(trial.number, trial.value)
