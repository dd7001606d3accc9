"""The page of a single run: what it is, how it went, what its conditioning looks like, what commands found in it.

RUN/analysis/NAME/   what one command found: section.json, beside it tables and figures as files, and a page of its own
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from adaln.analysis import RoleRecord, read_recording
from adaln.analysis.recorder import observe
from adaln.analysis.spikes import DEVIATIONS, WINDOW, spike_score
from adaln.codec import decode, json_text, leaves
from adaln.config import PRESETS, RunConfig, differing_fields, model_name, to_dict
from adaln.evaluation.held_out import losses_in
from adaln.evaluation.samples import WEIGHTS, first_images, record_beside, samples_of, step_beside
from adaln.files import reading, write_atomically
from adaln.metrics import Scores, start_left
from adaln.report import Axis, Block, Facts, ImageGrid, Lines, Page, Section, Series, write_report
from adaln.report.figures import Scale
from adaln.runs import Run
from adaln.sampling import start_in_average
from adaln.tensor_files import TensorFile
from adaln.views.figures import role_histograms
from adaln.views.losses import loss_blocks
from adaln.views.scores import score_blocks, scores_of, shown_name, step_of
from adaln.views.snapshots import recording_file, spread_evenly

SECTION_FILE = "section.json"
MOST_RIDGES = 10
GRID = (40, 10)
"""Samples shown, at most, and how many of them in a row."""


def run_page(run: Run) -> Page:
    """Whatever the run has: loss, scores, samples, distributions, provenance."""
    config, records = run.config, run.metrics()
    step, scores = max(run.steps_saved(), default=0), scores_of(run)
    samples = samples_of(run.path, "s*/*.npz")
    shown = [of.provenance["choices"] for of in newest(scores)] + [record_beside(file) for file in samples[-1:]]
    whole = {"step": step, "start_in_average": start_in_average(run, step) if step else None}
    left = dict.fromkeys(start_left(choices) for choices in shown or [whole])
    summary = [headline(run, step, records, scores), *(f"{line}." for line in left if line)]
    sections = []
    if samples:
        sections.append(Section("Samples", [_samples(samples[-1])]))
    if scores:
        sections.append(Section("Scores", score_blocks(scores)))
    if losses := losses_in(run):
        sections.append(Section("Held-out loss", loss_blocks(losses)))
    sections.append(Section("Loss", training_curves(records) if records else ["Nothing logged yet."]))
    recording = read_recording(recording_file(run))
    if recording:
        if step > max(record.step for record in recording):
            recording += observe(step, TensorFile(run.folder(step) / "model.safetensors"))
        sections.append(Section("Gate, scale and shift over training", recorded_blocks(run, recording)))
    sections.append(Section("What is unlike the preset", [unlike_preset(config)]))
    provenance: list[Block] = [_facts("config", to_dict(config)), _facts("manifest", run.manifest)]
    sections.append(Section("Config and manifest", provenance, folded=True))
    return Page(run.path.name, summary, sections)


def headline(run: Run, step: int, records: Sequence[dict[str, Any]], scores: Sequence[Scores]) -> str:
    """What it came to, and of which network under which scheme."""
    config, results = run.config, []
    for shown in newest(scores):
        name, at = next(iter(shown.scores)), step_of(shown)
        value = f"{shown_name(name, shown)} {shown[name].value:.4g}{of_weights(shown.provenance['choices'])}"
        results.append(value + (f" at step {at:,}" if at is not None else ""))
    if records:
        results.append(f"loss {records[-1]['loss']:.4g}")
    subject = f"{model_name(config.model)} under {config.scheme.name}, {step:,} of {config.steps:,} steps"
    return f"{', '.join(results)}: {subject}." if results else f"{subject}."


def newest(scores: Sequence[Scores]) -> list[Scores]:
    """The scores that a page begins with, if there are any: of the last step those that were written last."""
    return sorted(scores, key=lambda one: step_of(one) or 0)[-1:]


def of_weights(choices: Mapping[str, Any]) -> str:
    """Which weights drew the samples, where that is recorded."""
    return f" of {WEIGHTS[choices['weights']]}" if choices.get("weights") in WEIGHTS else ""


def unlike_preset(config: RunConfig) -> Facts:
    """How a config differs from the preset that is nearest to it."""
    unlike = {name: differing_fields(make(), config) for name, make in PRESETS.items()}
    name = min(unlike, key=lambda one: len(unlike[one]))
    return Facts(f"Against {name}", dict(field.split(": ", 1) for field in unlike[name]))


def training_curves(records: Sequence[dict[str, Any]]) -> list[Block]:
    """Loss and gradient norm at the log steps."""
    steps = [row["step"] for row in records]
    what = {
        "Training loss": ("loss", "Mean loss between log steps"),
        "Gradient norm": ("grad_norm", "Euclidean norm of the whole gradient at the log step, before clipping"),
    }
    return [
        Lines(
            title,
            f"{caption} (n = {len(steps)} points).{spike_sentence([row[key] for row in records])}",
            Axis("step", "optimiser updates", "log"),
            Axis(title.lower(), "", "log"),
            [Series(key, steps, [row[key] or None for row in records])],
        )
        for title, (key, caption) in what.items()
    ]


def spike_sentence(values: Sequence[float]) -> str:
    """How often they leap, as the end of a caption; nothing of fewer points than it takes to say."""
    score = spike_score(values)
    if score is None:
        return ""
    return f" SpikeScore {score:.2g}: the share more than {DEVIATIONS:g} std above the mean of the {WINDOW} before."


def recorded_blocks(run: Run, recording: Sequence[RoleRecord]) -> list[Block]:
    """What one run recorded: histograms at some of the steps, std and gradient norm at all of them."""
    steps = sorted({record.step for record in recording})
    shown = spread_evenly(steps, MOST_RIDGES)
    figures = role_histograms({run.config.scheme.name: recording}, shown, run.config.seed)
    std = over_record_steps("Std of each role", recording, lambda record: record.moments.std)
    gradient = over_record_steps("Gradient norm of each role", recording, lambda record: record.gradient_norm)
    return [*figures, std, gradient]


def over_record_steps(
    title: str, recording: Sequence[RoleRecord], read: Callable[[RoleRecord], float | None], scale: Scale = "log"
) -> Lines:
    """One number of each role over all blocks, against the recorded steps."""
    names = dict.fromkeys(record.group.name for record in recording)
    series = []
    for name in names:
        records = [record for record in recording if record.group.name == name and record.group.block is None]
        values = [read(record) for record in records]
        series.append(
            Series(name, [record.step for record in records], [v or None for v in values] if scale == "log" else values)
        )
    caption = f"All blocks together, recorded while training at n = {len(series[0].x)} steps"
    caption += "; gaps where it is exactly 0." if scale == "log" else "."
    return Lines(
        title, caption, Axis("step", "updates", "symlog", 1), Axis(title.split(" of ")[0].lower(), "", scale), series
    )


def _samples(file: Path) -> ImageGrid:
    images, count = first_images(file, *GRID)
    shown, step = images.shape[0] * images.shape[1], step_beside(file)
    which = f"{count} samples{of_weights(record_beside(file))}{f' of step {step:,}' if step else ''} in {file.name}"
    return ImageGrid("Samples", f"The first n = {shown} of {which}, not chosen by eye.", images)


def _facts(title: str, row: dict[str, Any]) -> Facts:
    return Facts(title, {path: str(value) for path, value in leaves(row)})


def save_section(section: Section, folder: Path) -> Path:
    """Write the section, its tables and figures as files, and a page of it alone; returns the page's path."""
    write_atomically(folder / SECTION_FILE, json_text(section) + "\n")
    return write_report(Page(section.heading, section.answer or [], [replace(section, answer="")]), folder)


def write_run_page(run: Run) -> Path:
    """Into RUN/report, with every table and picture as a file; returns the path of the page."""
    return write_report(with_saved(run_page(run), run.path / "analysis"), run.path / "report")


def with_saved(page: Page, folder: Path) -> Page:
    """The page with the sections saved in the folders inside `folder`, by name, before its last section."""
    saved = [read_section(file) for file in sorted(folder.glob(f"*/{SECTION_FILE}"))]
    return replace(page, sections=[*page.sections[:-1], *saved, *page.sections[-1:]])


def read_section(file: Path) -> Section:
    """The section that `save_section` wrote."""
    with reading(file, "a section of a report"):
        return decode(Section, json.loads(file.read_text(encoding="utf-8")))
