"""What the help of every command says beyond its options: examples, and which options people use."""

from collections.abc import Mapping
from dataclasses import dataclass, field

COMMON = (
    ("--json", "One JSON document on standard output, and nothing else."),
    ("--quiet", "No progress and no notes; what went wrong is said."),
    ("-h, --help, --help-all", "What people use; all there is."),
)
"""Flags of every command."""
OF_PRESETS = {
    "--model NAME": "The network: one of `adaln models`, or anyone's module:factory; its fields are flags --model.*.",
    "--process NAME": "The diffusion process: one of `adaln presets`' list; its fields are the flags --process.*.",
    "--config FILE": "Fields in a JSON or TOML file: a run's config.json in place of PRESET, or some, after it.",
}
"""Flags of every command that takes a PRESET, which decide what others there are."""
OF_RUNS = {"--model MODULE:FACTORY": "The code of anyone's network, where a run or file is of one."}
OPENING = (
    *("sample", "evaluate", "loss", "sweep", "stats", "compare", "report", "audit", "distributions", "fit", "order"),
    *("explain", "export", "push", "study"),
)
"""Commands that open runs or networks, hence take OF_RUNS."""


@dataclass(frozen=True, slots=True)
class Guide:
    """Of one command."""

    examples: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    """What `--help` shows; (): all."""
    takes_preset: bool = False
    extra: Mapping[str, str] = field(default_factory=dict)
    """Further flags that are no fields, and what they mean."""


GUIDES: Mapping[str, Guide] = {
    "train": Guide(
        (
            "adaln train digits",
            "adaln train images-32 --data.path pictures/ --scheme adaln-gaussian --evaluate.every 10000",
            "adaln train digits --model SiT-tiny --process linear-velocity --scheme mine.toml",
        ),
        (
            *("--scheme", "--model", "--process", "--data.path", "--data.held-out", "--steps", "--batch-size"),
            *("--optim.lr", "--seed", "--precision", "--compile", "--device", "--evaluate.every", "--track"),
            *("--config", "--dry-run", "--out"),
        ),
        takes_preset=True,
    ),
    "choose": Guide(
        (
            "adaln choose digits --budget 10min",
            "adaln choose images-32 --data.path pictures/ --budget 8h",
            "adaln choose digits --budget 20runs --by held-out-loss --data.held-out 0.1",
        ),
        (
            *("--budget", "--scheme", "--model", "--process", "--data.path", "--data.held-out", "--steps"),
            *("--batch-size", "--optim.lr", "--by", "--reference", "--dry-run", "--jobs", "--root"),
        ),
        takes_preset=True,
        extra={
            "--scheme NAME|NAME:STD|FILE": "A start to try, once for each; default: adaln-zero, adaln-gaussian,"
            " adaln-step1 and adaln-mix, and that which the network is made with, where it is one's own."
        },
    ),
    "search": Guide(
        (
            "adaln search digits --over gate --over scale --over shift --trials 20",
            "adaln search images-32 --data.path pictures/ --over gate --trials 10 --seeds 3",
            "adaln search digits --model SiT-tiny --process linear-velocity --over gate",
        ),
        (
            *("--over", "--trials", "--seeds", "--scheme", "--model", "--process", "--data.path", "--steps"),
            *("--batch-size", "--optim.lr", "--dry-run", "--jobs", "--root"),
        ),
        takes_preset=True,
    ),
    "study": Guide(
        (
            "adaln study list",
            "adaln study quickstart",
            "adaln study table3 --scale small --data pictures.zip",
            "adaln study figure20 --weights canny.pth depth/",
        ),
        (
            *("--scale", "--seeds", "--data", "--reference", "--steps", "--num-images", "--held-out", "--jobs"),
            *("--weights", "--dry-run", "--device", "--launcher", "--root"),
        ),
    ),
    "sample": Guide(
        (
            "adaln sample runs/digits-0123456789",
            "adaln sample runs/digits-0123456789 --num-images 1000 --guidance.scale 1.5",
            "adaln sample runs/digits-0123456789 --sampler.solver ddim --sampler.steps 20 --labels 3",
        ),
        (
            *("--num-images", "--labels", "--guidance.scale", "--sampler.solver", "--sampler.steps", "--sampler.clip"),
            *("--step", "--weights", "--seed", "--batch-size", "--dtype", "--dry-run", "--out", "--device"),
        ),
    ),
    "sweep": Guide(
        (
            "adaln sweep runs/digits-0123456789 --over.guidance 1 1.25 1.5 2",
            "adaln sweep runs/digits-0123456789 --over.steps 10 20 50 --metric precision",
        ),
        (
            *("--over.guidance", "--over.weights", "--over.steps", "--metric", "--num-images", "--sampler.solver"),
            *("--features", "--reference", "--step", "--dry-run", "--out", "--device"),
        ),
    ),
    "coord-check": Guide(
        ("adaln coord-check digits --scheme dit-mup --widths 64,128,256",),
        ("--widths", "--scheme", "--model", "--process", "--data.path", "--steps", "--optim.lr", "--device", "--out"),
        takes_preset=True,
    ),
    "evaluate": Guide(
        (
            "adaln evaluate runs/digits-0123456789 --reference runs/digits-0123456789",
            "adaln evaluate samples.npz --reference VIRTUAL_imagenet256_labeled.npz --features inception",
        )
    ),
    "stats": Guide(("adaln stats pictures/ pictures.npz --features inception",)),
    "loss": Guide(("adaln loss runs/images-32-*", "adaln loss runs/digits-0123456789 --data other-pictures/")),
    "runs": Guide(("adaln runs", "adaln runs --clean", "adaln runs --clean --delete")),
    "compare": Guide(("adaln compare runs/images-32-*",)),
    "report": Guide(("adaln report runs/digits-0123456789", "adaln report runs/studies/quickstart-0123456789")),
    "encode": Guide(
        (
            "adaln encode pictures/ latents/ --size 256",
            "adaln encode pictures/ bytes/ --size 64 --autoencoder none",
        )
    ),
    "data": Guide(("adaln data inspect pictures/", "adaln data inspect digits --held-out 0.1")),
    "push": Guide(("adaln push runs/digits-0123456789 ORG/NAME --private",)),
    "audit": Guide(
        (
            "adaln audit model.safetensors",
            "adaln audit runs/digits-0123456789 --step 0",
            "adaln audit mymodule:build --discover",
        )
    ),
    "distributions": Guide(("adaln distributions runs/digits-0123456789 --by block",)),
    "fit": Guide(("adaln fit runs/digits-0123456789 --by-block --out next.json",)),
    "order": Guide(("adaln order DiT-S/2 --scheme adaln-zero --versus adaln-mix", "adaln order digits --every-scheme")),
    "explain": Guide(("adaln explain runs/digits-0123456789", "adaln explain runs/a-0123456789 runs/b-0123456789")),
    "import": Guide(
        ("adaln import DiT-XL-2-256x256.pt --model DiT-XL/2 --out runs/released",),
        ("--model", "--process", "--scheme", "--weights", "--prefix", "--size", "--step", "--out"),
        extra={"--model NAME": "The network whose weights they are.", "--process NAME": OF_PRESETS["--process NAME"]},
    ),
    "export": Guide(("adaln export runs/digits-0123456789 --out weights.safetensors",)),
    "bench": Guide(
        ("adaln bench machine", "adaln bench train --out train.json"),
        extra={"--out FILE.json": "Keep the numbers, and a picture of both sides beside them."},
    ),
    "completion": Guide(
        ('eval "$(adaln completion bash)"', "adaln completion fish > ~/.config/fish/completions/adaln.fish"),
    ),
    "families": Guide(("adaln families", "adaln families SD3Transformer2DModel")),
    "schemes": Guide(("adaln schemes --model DiT-XL/2",)),
    "models": Guide(("adaln models --size 64 --channels 3",)),
}


def extra_flags(verb: str) -> dict[str, str]:
    """Those of a command that decide which others there are, and hence are no fields of its options."""
    guide = GUIDES.get(verb, Guide())
    return {**(OF_PRESETS if guide.takes_preset else {}), **(OF_RUNS if verb in OPENING else {}), **guide.extra}
