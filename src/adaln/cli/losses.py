"""`adaln loss`: the denoising loss on pictures that were not learned from."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from adaln.cli.options import Device, OpenedFrom, named, parse
from adaln.cli.output import SILENT, Output
from adaln.specs import WeightSet


@dataclass(frozen=True, slots=True)
class LossOptions:
    """Of which runs and pictures."""

    runs: Annotated[OpenedFrom[tuple[Path, ...]], named("RUN...")]
    """A run, or several to be held against the first."""
    data: str | None = None
    """A data set, of which what a run learned from is left out; default: what each run holds out (--data.held-out)."""
    step: int | None = None
    """Checkpoint of each; default: the newest."""
    weights: tuple[WeightSet, ...] = ("ema", "model")
    """ema: the averaged ones; model: the raw ones."""
    num_images: int = 1024
    """So many pictures at most, the first by the hashes of their content."""
    device: Device = "auto"


def loss_verb(words: list[str]) -> Output:
    """RUN [RUN...] [--data SET]: the denoising loss on pictures that were not learned from, with paired differences."""
    options = parse(LossOptions, "loss", words)
    if options.num_images < 2:
        raise ValueError(f"num_images is {options.num_images}; expected at least 2 pictures")
    if not options.runs or not options.weights:
        raise ValueError(f"no {'weights are' if options.runs else 'run is'} named; expected one or more")

    from adaln.evaluation.held_out import held_out_loss, other_pictures, own_pictures
    from adaln.parallel import find_device, from_first, group_of_torchrun, rank
    from adaln.runs import Run
    from adaln.views.losses import as_data, loss_tables

    device = find_device(options.device)
    with group_of_torchrun():
        runs = {str(path): Run.open(path, device) for path in options.runs}
        pictures = {
            name: other_pictures(run, options.data) if options.data else own_pictures(run) for name, run in runs.items()
        }
        steps = {name: from_first(partial(run.step_saved, options.step)) for name, run in runs.items()}
        losses = {
            weights: {
                name: held_out_loss(run, steps[name], weights, pictures[name].first(options.num_images))
                for name, run in runs.items()
            }
            for weights in options.weights
        }
        if rank():
            return SILENT
    left_out = {name: of.num_learned for name, of in pictures.items() if of.num_learned}
    lines = [
        f"{count:,} pictures of {options.data} are left out: {name} learned from them"
        for name, count in left_out.items()
    ]
    data = {**as_data(losses), "left_out": left_out}
    return Output(data, [*loss_tables(losses), *lines])
