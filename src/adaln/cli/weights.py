"""`adaln import` and `adaln export`: other people's weights become a run, a run's become a file for other people."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from adaln.cli.options import OpenedFrom, check_suffix, named, parse, take_option, usual_process
from adaln.cli.output import Output
from adaln.codec import canonical_json
from adaln.conditioning import SCHEMES, Scheme
from adaln.config import RunConfig, model_name, to_dict
from adaln.data import DataConfig
from adaln.files import about, atomic_file, atomic_folder, file_sha256, write_atomically
from adaln.models import MODELS, ModelConfig
from adaln.processes import PROCESSES, ProcessConfig
from adaln.specs import DataSpec, WeightSet

if TYPE_CHECKING:
    import torch

    import adaln.models.weights
    import adaln.runs

UNKNOWN = "unknown"
"""Data of an imported run: nothing says what it learned from."""


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What the file holds, and where the run goes. --model NAME says which network, --process NAME which process."""

    model: ModelConfig
    process: ProcessConfig
    file: Annotated[OpenedFrom[Path | None], named("FILE")] = None
    """A file of weights or a diffusers folder."""
    scheme: Scheme = SCHEMES["adaln-zero"]
    """How the weights once started, for the record; the published networks are adaln-zero."""
    weights: WeightSet | None = None
    """Which set of a training checkpoint; default: ema if the file has it, else model."""
    prefix: str = ""
    """Of several networks in one file the one whose names begin so; default: the only one with modulation."""
    size: tuple[int, ...] = ()
    """Side, or height and width, of the latents or images, where the weights do not tell (U-DiT)."""
    step: int = 0
    """Optimiser step that the run is said to have reached."""
    out: Path | None = None
    """Folder of the run; default: runs/NAME-OF-THE-FILE."""


def import_verb(words: list[str]) -> Output:
    """FILE --model NAME [--process NAME] [--out RUN]: a run out of released weights (.pt, .safetensors, diffusers)."""
    model, words = take_option(words, "--model")
    process, words = take_option(words, "--process")
    config = MODELS[model or "DiT-XL/2"]
    default = ImportOptions(config, PROCESSES[process] if process else usual_process(config))
    options = parse(ImportOptions, "import", words, default)
    if options.file is None:
        raise ValueError("expected a file of weights or a diffusers folder; see adaln import --help")
    check_is_no_run(options.file)
    if model is None:
        raise ValueError("expected --model NAME: which network the weights are for (adaln models lists them)")
    path = options.out or Path("runs") / options.file.stem
    if (path / "config.json").exists():
        raise ValueError(f"{str(path)!r} is a run already; expected another folder as --out")

    from adaln.models.weights import load_weights, read_weights, spec_of

    with about(options.file):
        weights = read_weights(options.file, options.weights, options.prefix)
        spec = spec_of(weights, options.model, options.size)
        network = load_weights(weights, options.model, spec)
    run = imported_run(path, weights, network, spec, options)
    data = {"run": str(run.path), "step": options.step, **run.manifest["imported"], "spec": asdict(spec)}
    what = f"{model_name(options.model)} for {spec.channels} x {spec.height} x {spec.width}, {spec.num_classes} classes"
    kind = f", its {weights.taken} weights" if weights.taken else ""
    lines = [f"imported {weights.file} ({weights.layout} layout{kind}) as {what}, into {run.path}", *weights.notes]
    if weights.layout == "official" and (computed := sorted(network.fixed().keys() - weights.tensors.keys())):
        lines.append(f"computed, for the file does not hold it: {', '.join(computed)}")
    return Output(data, lines)


def check_is_no_run(path: Path) -> None:
    """`ValueError` for a run, or a checkpoint's folder in one, with the verbs that take it as it is."""
    from adaln.runs import is_run

    folders = (path, *path.parents) if path.is_dir() else ()
    if run := next((folder for folder in folders if is_run(folder)), None):
        raise ValueError(
            f"{str(path)!r} is {'' if run == path else 'of '}a run of ours, which needs no import: adaln sample {run}"
            f" draws from it, adaln train {run} --steps N goes on, adaln export {run} --out FILE writes its weights"
        )


def imported_run(
    path: Path,
    weights: "adaln.models.weights.Weights",
    network: "torch.nn.Module",
    spec: DataSpec,
    options: ImportOptions,
) -> "adaln.runs.Run":
    """A new run with one checkpoint, whose averaged weights are its weights.

    config.json is written last: what has one is whole.
    """
    from adaln.runs import Run
    from adaln.training import TrainState, save

    if options.step < 0:
        raise ValueError(f"step is {options.step}; expected at least 0")
    config = RunConfig(
        path.name, options.model, options.scheme, options.process, DataConfig(UNKNOWN), steps=max(options.step, 1)
    )
    run = Run(path, config)
    write_atomically(path / "manifest.json", canonical_json(_manifest(weights, network, spec, options)))
    run.check_fits()
    state = TrainState(network, config.optim)
    state.step = options.step
    save(run, state)
    write_atomically(path / "config.json", canonical_json(to_dict(config)))
    return run


def _manifest(
    weights: "adaln.models.weights.Weights", network: "torch.nn.Module", spec: DataSpec, options: ImportOptions
) -> dict[str, Any]:
    import torch

    from adaln.runs.manifest import describe_parameters, environment

    return {
        "provenance": "imported",
        "imported": {
            "file": weights.file.name,
            "file_sha256": file_sha256(weights.file),
            "layout": weights.layout,
            "weights": weights.taken or "the only set",
            "notes": list(weights.notes),
        },
        "data": {
            "name": UNKNOWN,
            "fingerprint": UNKNOWN,
            "num_images": 0,
            "class_names": [],
            "skipped": [],
            "spec": asdict(spec),
        },
        "parameters": describe_parameters(network, options.scheme),
        "sessions": [{"from_step": options.step, **environment(torch.device("cpu"))}],
    }


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Where the weights go, and under which names."""

    run: Annotated[OpenedFrom[Path], named("RUN")]
    """A run."""
    out: Path
    """A .safetensors file; for diffusers' layout a folder."""
    layout: Literal["official", "diffusers"] = "official"
    """official: the published parameter names. diffusers: a folder for DiTTransformer2DModel.from_pretrained."""
    step: int | None = None
    """Checkpoint to export; default: the newest."""


def export_verb(words: list[str]) -> Output:
    """RUN --out FILE [--layout official|diffusers]: the averaged weights of a run as safetensors for other programs."""
    options = parse(ExportOptions, "export", words)

    from adaln.runs import Run

    run = Run.open(options.run)
    model, step = run.averaged_model(options.step)
    write = export_official if options.layout == "official" else export_diffusers
    write(run, model, step, options.out)
    data = {"run": str(run.path), "step": step, "layout": options.layout, "out": str(options.out)}
    lines = [f"exported the averaged weights of {run.path} at step {step} to {options.out}"]
    return Output(data, lines + [DIFFUSERS_NOTE] * (options.layout == "diffusers"))


DIFFUSERS_NOTE = (
    "diffusers spaces DiT's time frequencies otherwise than DiT does; for DiT's own outputs, after loading:"
    " for block in model.transformer_blocks: block.norm1.emb.time_proj.downscale_freq_shift = 0"
)


def export_official(run: "adaln.runs.Run", model: "torch.nn.Module", step: int, out: Path) -> None:
    """One safetensors file with the published names."""
    from adaln.tensor_files import save_tensors

    check_suffix(out, ".safetensors")
    metadata = {"format": "pt", "model": model_name(run.config.model), "run": run.path.name, "step": str(step)}
    with atomic_file(out) as temporary:
        save_tensors(temporary, model.state_dict(), metadata)


def export_diffusers(run: "adaln.runs.Run", model: "torch.nn.Module", step: int, out: Path) -> None:
    """A folder that diffusers loads; ValueError for a network that diffusers does not have."""
    from adaln.models.weights import diffusers_config, to_diffusers
    from adaln.tensor_files import save_tensors

    settings = diffusers_config(run.config.model, run.spec)
    if out.exists():
        raise ValueError(f"{str(out)!r} exists; expected a new folder for diffusers' layout")
    tensors = to_diffusers(model.state_dict(), int(settings["num_layers"]))
    with atomic_folder(out) as folder:
        save_tensors(folder / "diffusion_pytorch_model.safetensors", tensors, {"format": "pt"})
        (folder / "config.json").write_text(canonical_json(settings), encoding="utf-8")
