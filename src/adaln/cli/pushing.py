"""`adaln push`: a run to the hub of Hugging Face, with a card that says what it is."""

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

from adaln.cli.options import Positional, named, parse
from adaln.cli.output import Output
from adaln.files import oldest_first, reading
from adaln.hub import EXPORT, HubName, check_may_push, push
from adaln.progress import note

if TYPE_CHECKING:
    import adaln.runs


@dataclass(frozen=True, slots=True)
class PushOptions:
    """What is pushed, and where it goes; the token is that of `hf auth login`, or HF_TOKEN."""

    run: Annotated[Positional[Path], named("RUN")]
    """A run."""
    repo: Annotated[Positional[str], named("ORG/NAME")]
    """A model's repository, which is made if there is none."""
    step: int | None = None
    """Checkpoint; default: the newest."""
    private: bool = False
    """Make a repository that others cannot see."""


def push_verb(words: list[str]) -> Output:
    """RUN ORG/NAME [--private]: weights, config, scores and a card of a run to the hub, in one commit."""
    options = parse(PushOptions, "push", words)
    name = HubName(options.repo)
    check_may_push(name)

    from adaln.runs import Run
    from adaln.views.model_card import model_card

    run = Run.open(options.run)
    step = run.step_saved(options.step)
    with TemporaryDirectory() as temporary:
        exported = _export(run, step, Path(temporary) / EXPORT)
        files = {**_files(run, step), **{f"{EXPORT}/{file.name}": file for file in exported}}
        files["README.md"] = model_card(run, step, name.repo, EXPORT if exported else "").encode()
        num_bytes = sum(len(each) if isinstance(each, bytes) else each.stat().st_size for each in files.values())
        note(f"pushing {len(files)} files, {num_bytes / 1e6:,.1f} MB, to {name}")
        pushed = push(name, files, f"{run.path.name} at step {step}", options.private)
    data = {"hub": str(pushed), "repo": pushed.repo, "commit": pushed.revision, "step": step, "files": sorted(files)}
    return Output(
        data, [f"pushed {run.path} at step {step} as {pushed}", f"anyone reads it with: adaln audit {pushed}"]
    )


def _export(run: "adaln.runs.Run", step: int, folder: Path) -> list[Path]:
    """What diffusers loads, where it has such a network."""
    from adaln.cli.weights import export_diffusers
    from adaln.models.weights import diffusers_config

    try:
        diffusers_config(run.config.model, run.spec)
    except ValueError:
        return []
    export_diffusers(run, run.averaged_model(step)[0], step, folder)
    return sorted(folder.iterdir())


def _files(run: "adaln.runs.Run", step: int) -> dict[str, Path | bytes]:
    """Of a run what others need of a checkpoint, by its path; where things lie on this machine is left out."""
    folder, root = run.folder(step), run.path
    rows = [root / "config.json", root / "manifest.json", root / "order.json", *sorted(root.glob("s*/*.scores.json"))]
    grids = oldest_first(root.glob(f"samples/{step:09d}-*.png"))[-1:]
    weights = [folder / "model.safetensors", folder / "ema.safetensors"]
    return {
        **{str(file.relative_to(root)): _without_folders(file) for file in rows if file.exists()},
        "metrics.jsonl": "".join(f"{json.dumps(row)}\n" for row in run.metrics() if row["step"] <= step).encode(),
        **{str(file.relative_to(root)): file for file in (*weights, *grids)},
    }


def _without_folders(file: Path) -> bytes:
    """A JSON file whose paths from the root are names alone."""

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: walk(each) for key, each in value.items()}
        if isinstance(value, list):
            return [walk(each) for each in value]
        return Path(value).name if isinstance(value, str) and value.startswith("/") else value

    with reading(file, "JSON"):
        return (json.dumps(walk(json.loads(file.read_text(encoding="utf-8"))), indent=1) + "\n").encode()
