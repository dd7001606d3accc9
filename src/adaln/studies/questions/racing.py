"""A study as a choice: its rows race over the seeds of its scale, by the rounds and with the page of `adaln choose`."""

from pathlib import Path

from adaln.codec import json_text
from adaln.conditioning import Scheme
from adaln.files import remove_temporaries, write_atomically
from adaln.studies.choices import Budget, Choice, Rules
from adaln.studies.protocol import check_is_papers
from adaln.studies.questions.choose import again, run_choice
from adaln.studies.questions.choose_page import reduce_choice, write_choice
from adaln.studies.questions.choose_question import Question
from adaln.studies.run.run_study import reduce_study, run_study
from adaln.studies.run.workers import Launcher
from adaln.studies.study import Job, Plan, Result


def question_of(plan: Plan, root: Path) -> Question:
    """What a plan whose study races asks; it may take as many runs as all of its seeds in every row."""
    jobs = plan.jobs()[: len(plan.study.settings)]
    settings = {job.config.scheme: setting for job, setting in zip(jobs, plan.study.settings, strict=True)}

    def job(scheme: Scheme, seed: int) -> Job:
        return plan.scale.make(settings[scheme], seed, plan.overrides)

    first = jobs[0]
    rules = Rules(
        plan.study.races or "", False, sample=first.sample, features=first.features, score_against=first.reference
    )
    budget = Budget(len(settings) * len(plan.seeds), "runs")
    return Question(
        plan.study.title, Choice(tuple(settings), rules), first.config, budget, job, plan.folder(root), plan.command()
    )


def finish(plan: Plan, root: Path, launcher: Launcher) -> tuple[Path, Result]:
    """`run_study`, or the rounds of a study that races."""
    if not plan.study.races:
        return run_study(plan, root, launcher)
    check_is_papers(plan)
    asked = question_of(plan, root)
    about = json_text(plan.to_json()) + "\n"
    chosen = run_choice(asked, root, launcher, 1.0, lambda: write_atomically(asked.folder / "study.json", about))
    remove_temporaries(asked.folder)
    return asked.folder, write_choice(chosen, root)


def reduced(plan: Plan, root: Path) -> Result:
    """The result of a plan that is done."""
    return reduce_choice(again(question_of(plan, root), root), root) if plan.study.races else reduce_study(plan, root)
