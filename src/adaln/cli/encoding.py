"""`adaln encode` and `adaln data`."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from adaln.cli.options import Device, Positional, named, parse
from adaln.cli.output import Output
from adaln.cli.progress_bar import span
from adaln.data import DataConfig
from adaln.files import expanded, write_atomically
from adaln.report import Column, ImageGrid, Table, picture

if TYPE_CHECKING:
    import adaln.data

MOST_CLASSES, MOST_PROBLEMS = 50, 20
"""What of them is shown to people; `--json` has all."""


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """What becomes of the pictures."""

    source: Annotated[Positional[str], named("SOURCE")]
    """A source (folder, zip, tar, hf:NAME or digits)."""
    out: Annotated[Positional[Path], named("OUT")]
    """The folder to write."""
    autoencoder: str = "stabilityai/sd-vae-ft-ema"
    """Folder or hub id of an AutoencoderKL of diffusers, or `none`: keep the cropped pictures in bytes."""
    layout: str | None = None
    """A published set that was unpacked to SOURCE (imagenet-256, afhq-256, ...): finds its training part, crops to its
    size, and checks that all its images and classes are there."""
    attribute: str | None = None
    """Two classes by this attribute of CelebA or CelebA-HQ, e.g. Smiling, from the file of attributes beside them."""
    size: int | None = None
    """Side in pixels after ADM's centre crop; default: that of the layout, else the pictures' own."""
    flips: bool = True
    """Encode the mirror images too, so that training can flip: an autoencoder does not commute with mirroring."""
    on_bad_image: Literal["stop", "skip"] = "stop"
    """At an image that cannot be decoded: stop with its name, or go on without it and report it."""
    batch_size: int = 32
    """Images per forward of the autoencoder."""
    shard_rows: int | None = None
    """Images per shard, which is what a kill can cost; default: 32 MiB."""
    verify: bool = False
    """Decode some of the latents, write them beside their pictures (round-trip.png) and report the error."""
    device: Device = "auto"
    dry_run: bool = False
    """Say what would be encoded, how long it takes and how much it is; nothing is written."""


def encode_verb(words: list[str]) -> Output:
    """SOURCE OUT [--autoencoder PATH|ID|none] [--layout NAME] [--size S] [...]: pictures to a memory-mapped set."""
    options = parse(EncodeOptions, "encode", words)
    config, has_latents = source_config(options), options.autoencoder != "none"
    if options.verify and not has_latents:
        raise ValueError("verify decodes latents; with --autoencoder none the pictures themselves are kept")

    from adaln.data import encode, foreseen, open_autoencoder, round_trip
    from adaln.parallel import find_device, group_of_torchrun, rank, world

    with group_of_torchrun():
        network = open_autoencoder(options.autoencoder, find_device(options.device)) if has_latents else None
        how: Any = {"flips": options.flips, "batch_size": options.batch_size, "shard_rows": options.shard_rows}
        if options.dry_run:
            return dry_encode(options.out, foreseen(config, options.out, network, **how))
        index = encode(config, options.out, network, rank=rank(), world=world(), **how)
        if index is None:
            return Output({"out": str(options.out), "rank": rank(), "complete": False}, [])
        checked = round_trip(config, options.out, network) if options.verify and network else None
    return encoded(options.out, index, checked)


def dry_encode(out: Path, left: "adaln.data.Foreseen") -> Output:
    """What an encoding would do."""
    return Output(
        asdict(left),
        [
            f"{out}: {left.num_images:,} files, {left.missing:,} of them to be decoded and encoded",
            f"time: about {span(left.seconds)} in one process, as the first pictures took just now",
            f"disk: {left.disk_bytes / 1e6:,.1f} MB in all",
            "nothing was written",
        ],
    )


def source_config(options: EncodeOptions) -> DataConfig:
    """What to encode; `ValueError` where a published set is not all there."""
    from adaln.data import check_published, open_source, published_config

    config = DataConfig(options.source)
    if options.layout:
        config = published_config(options.layout, expanded(options.source))
        source = open_source(config.path)
        check_published(options.layout, len(source.names), source.class_names)
    path = f"{config.path}#{options.attribute}" if options.attribute else config.path
    return replace(
        config, path=path, size=config.size if options.size is None else options.size, on_bad_image=options.on_bad_image
    )


def encoded(out: Path, index: "adaln.data.Index", checked: "adaln.data.RoundTrip | None") -> Output:
    """What was made, and how well it decodes."""
    import numpy as np

    from adaln.data.shard_files import ROUND_TRIP

    plan = index.plan
    of = f"latents of {plan.space.autoencoder}" if plan.space else "pictures"
    data: dict[str, Any] = {
        "out": str(out),
        "complete": True,
        "num_images": index.num_rows,
        "shards": len(index.shards),
        "skipped": index.skipped,
        "passed_over": index.passed_over,
        "fingerprint": index.fingerprint,
        "space": asdict(plan.space) if plan.space else None,
        "channel_mean": index.channel_mean,
        "channel_std": index.channel_std,
    }
    shown = [f"{out}: {of}, {index.num_rows:,} images in {len(index.shards):,} shards; train with --data.path {out}"]
    if index.skipped:
        shown.append(f"left out {len(index.skipped)}, first: {index.skipped[0]}")
    if index.passed_over:
        shown.append(f"passed over: {', '.join(index.passed_over)}")
    if checked:
        rows = np.stack([checked.originals, checked.decoded]).transpose(0, 1, 3, 4, 2)
        caption = f"Evenly spread pictures above their posterior means decoded; RMSE {checked.rmse:.2f} of 255."
        side_by_side = ImageGrid(f"Round trip: {of}", caption, rows, ["picture", "decoded"])
        grid = write_atomically(out / ROUND_TRIP, picture(side_by_side))
        data["round_trip"] = {"grid": str(grid), "rmse": checked.rmse, "psnr_db": checked.psnr_db}
        shown.append(
            f"round trip of {len(checked.originals)} images: RMSE {checked.rmse:.2f} of 255, PSNR {checked.psnr_db:.1f}"
            f" dB; grid in {grid}"
        )
    return Output(data, shown)


@dataclass(frozen=True, slots=True)
class InspectOptions:
    """What a data set is, how many pictures, which classes, and whether it is intact."""

    action: Annotated[Positional[str], named("inspect")]
    """The word inspect."""
    path: Annotated[Positional[str], named("PATH")]
    """A path (of a folder, zip or tar of pictures, or what adaln encode made), digits, or hf:NAME."""
    held_out: float = 0.0
    """As --data.held-out of a training: how many pictures it would hold out."""
    size: int | None = None
    """As --data.size of a training, which decides the content of a picture."""


def data_verb(words: list[str]) -> Output:
    """inspect PATH [--held-out SHARE]: what a data set is, how many, which classes, whether it is intact."""
    options = parse(InspectOptions, "data", words)
    if options.action != "inspect":
        raise ValueError(f"unknown action {options.action!r} of data; expected: adaln data inspect PATH")

    from adaln.data import DataConfig, inspect, load

    config = DataConfig(options.path, options.size, held_out=options.held_out)
    inspection = inspect(options.path)
    if options.held_out and inspection.is_intact:
        inspection = replace(inspection, notes=inspection.notes | {"holds": load(config).summary()})
    data = {**asdict(inspection), "is_intact": inspection.is_intact}
    return Output(data, inspected(inspection), "" if inspection.is_intact else verdict(inspection))


def inspected(inspection: "adaln.data.Inspection") -> list[str | Table]:
    """An inspection as people read it."""
    shapes = ", ".join(f"{count:,} of {shape}" for shape, count in inspection.shapes.items())
    shown: list[str | Table] = [
        f"{inspection.path}: {inspection.kind}; {inspection.num_items:,} items ({shapes or 'none readable'})"
    ]
    shown += [f"{name}: {note}" for name, note in inspection.notes.items()]
    counts = sorted(inspection.class_counts.items(), key=lambda item: item[1])
    if len(counts) > MOST_CLASSES:
        (fewest, low), (most, high) = counts[0], counts[-1]
        shown.append(f"{len(counts):,} classes, from {low:,} items ({fewest!r}) to {high:,} ({most!r})")
    elif counts:
        columns = [Column("class"), Column("items", format=",d")]
        shown.append(Table("Classes", columns, [list(item) for item in inspection.class_counts.items()]))
    shown += [f"PROBLEM {line}" for line in inspection.problems[:MOST_PROBLEMS]]
    if len(inspection.problems) > MOST_PROBLEMS:
        shown.append(f"and {len(inspection.problems) - MOST_PROBLEMS:,} more problems (--json lists all)")
    return [*shown, *(["intact"] if inspection.is_intact else ())]


def verdict(inspection: "adaln.data.Inspection") -> str:
    """What is wrong with a set that is not intact, as one line."""
    count, first = len(inspection.problems), inspection.problems[0]
    return f"{inspection.path}: NOT intact: {count:,} problem{'s' * (count > 1)}, the first: {first}"
