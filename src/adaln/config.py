"""One run as data: frozen dataclasses from the rooms below, canonical JSON, a hash, and presets by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

from adaln.codec import LEFT_OUT_AT_DEFAULT, changed, decode, encode, kinds_of, leaves
from adaln.conditioning import SCHEMES, Scheme, by_role, ordered_roles, scheme
from adaln.data import DataConfig
from adaln.models import MODELS, ModelConfig, OwnConfig, model_named
from adaln.processes import PROCESSES, ProcessConfig
from adaln.registry import Registry
from adaln.specs import Precision, StoredType, check_width

POINTS = 20
"""Of the loss, at least, over a run that is shorter than its preset has it."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How the learning rate changes over the steps, whatever the length of the run; the default is constant."""

    warmup_steps: int = 0
    """Steps over which it rises linearly to its full value."""
    decay: Literal["none", "linear", "cosine"] = "none"
    """How it falls from `decay_start` to `decay_end`; before it is constant, so that linear makes a trapezoid."""
    decay_start: int = 0
    """Step at which it begins to fall."""
    decay_end: int = 0
    """Step from which on it stays low; a run may be shorter or longer."""
    end_factor: float = 0.0
    """What it falls to, as a share of its full value."""

    def __post_init__(self) -> None:
        start, end = self.decay_start, self.decay_end
        if self.warmup_steps < 0:
            raise ValueError(f"optim.schedule.warmup_steps is {self.warmup_steps}; expected an integer >= 0")
        if self.decay == "none":
            if (start, end, self.end_factor) != (0, 0, 0.0):
                raise ValueError(
                    "optim.schedule.decay is 'none'; expected 'linear' or 'cosine' with decay_start, decay_end or"
                    " end_factor"
                )
            return
        if start < self.warmup_steps:
            raise ValueError(
                f"optim.schedule.decay_start is {start}; expected at least warmup_steps, {self.warmup_steps}"
            )
        if end <= start:
            raise ValueError(f"optim.schedule.decay_end is {end}; expected a step after decay_start, {start}")
        if not 0 <= self.end_factor < 1:
            raise ValueError(f"optim.schedule.end_factor is {self.end_factor}; expected 0 <= factor < 1")


@dataclass(frozen=True, slots=True)
class OptimConfig:
    """AdamW and the moving average of the weights; the defaults are DiT's."""

    lr: float = 1e-4
    """Learning rate, which `schedule` changes over the steps."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of Adam's two moments."""
    weight_decay: float = 0.0
    """Decoupled weight decay; the paper uses none."""
    grad_clip: float | None = None
    """Largest Euclidean norm of the whole gradient; none: unclipped."""
    ema_decay: float = 0.9999
    """Decay per step of the averaged weights, which are what is sampled from."""
    schedule: Schedule = field(default=Schedule(), metadata=LEFT_OUT_AT_DEFAULT)
    """Warm-up and decay of the learning rate; the paper uses none."""
    ema_widths: tuple[float, ...] = field(default=(), metadata=LEFT_OUT_AT_DEFAULT)
    """Widths of power-function averages that checkpoints keep as well, e.g. 0.05 0.1: `adaln sample --ema W` makes that
    of any width from them."""
    lr_of: tuple[str, ...] = field(default=(), metadata=LEFT_OUT_AT_DEFAULT)
    """Learning rates by role, e.g. gate=3e-4 head=1e-3. Roles: gate, scale, shift, final_scale, final_shift, head,
    backbone (the blocks' attention and MLP), embedding (all else)."""
    betas_of: tuple[str, ...] = field(default=(), metadata=LEFT_OUT_AT_DEFAULT)
    """Adam's decay rates by role, e.g. gate=0.9,0.99."""
    weight_decay_of: tuple[str, ...] = field(default=(), metadata=LEFT_OUT_AT_DEFAULT)
    """Weight decay by role, e.g. backbone=0.1."""
    mup: int | None = field(default=None, metadata=LEFT_OUT_AT_DEFAULT)
    """Width at which the learning rates are meant, by muP: of a matrix whose inputs grow with the width they fall as
    these grow. None: the same at every width."""
    muon: tuple[str, ...] = field(default=(), metadata=LEFT_OUT_AT_DEFAULT)
    """Roles whose matrices Muon moves, AdamW all else, e.g. backbone; the rows of one role in a layer are a matrix."""

    def __post_init__(self) -> None:
        for name, fits, expected in (
            ("lr", 0 < self.lr < inf, "a number > 0"),
            ("betas", all(0 <= beta < 1 for beta in self.betas), "0 <= beta < 1"),
            ("weight_decay", 0 <= self.weight_decay < inf, "a number >= 0"),
            ("grad_clip", self.grad_clip is None or 0 < self.grad_clip < inf, "a number > 0 or none"),
            ("ema_decay", 0 <= self.ema_decay < 1, "0 <= decay < 1"),
            ("ema_widths", len(set(self.ema_widths)) == len(self.ema_widths), "each width once"),
            ("mup", self.mup is None or 0 < self.mup < inf, "a width > 0 or none"),
        ):
            if not fits:
                raise ValueError(f"optim.{name} is {getattr(self, name)}; expected {expected}")
        for width in self.ema_widths:
            check_width("optim.ema_widths", width)
        for setting in ("lr", "betas", "weight_decay"):  # one spelling of one setting, hence one hash
            numbers = by_role(setting, getattr(self, f"{setting}_of"))
            words = tuple(f"{role}={','.join(map(repr, values))}" for role, values in numbers.items())
            object.__setattr__(self, f"{setting}_of", words)
        object.__setattr__(self, "muon", ordered_roles("optim.muon", self.muon))

    @property
    def roles(self) -> set[str]:
        """The roles that have settings of their own."""
        words = (*self.lr_of, *self.betas_of, *self.weight_decay_of, *self.muon)
        return {word.partition("=")[0] for word in words}


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Everything that decides the weights of a run.

    >>> config = digits()
    >>> config.scheme.name, config.optim.lr
    ('adaln-zero', 0.004)
    """

    name: str
    """What the run is called; its folder is NAME-HASH."""
    model: ModelConfig
    """The network; `--model NAME` chooses one of `adaln models`, or anyone's `module:factory`; its fields are flags."""
    scheme: Scheme
    """How the conditioning starts and when it may move; `adaln schemes` lists the names."""
    process: ProcessConfig
    """The diffusion process; `--process NAME` chooses one of `adaln presets`' list."""
    data: DataConfig = field(default_factory=DataConfig)
    """What is learned from."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """How it is learned."""
    batch_size: int = 256
    """Images per optimiser step, over all ranks."""
    steps: int = 400_000
    """Optimiser steps in all."""
    precision: Precision = "float32"
    """Of the network's matrix products: tf32 needs CUDA, bfloat16 is autocast. All else is float32 whatever it says."""
    param_dtype: StoredType = field(default="float32", metadata=LEFT_OUT_AT_DEFAULT)
    """Type that the weights are stored in: bfloat16 rounds them to it at the start and after every update, and small
    updates are lost. Moments, gradients and averages are float32 whatever it says."""
    seed: int = 0
    """Weights, data order, times, noise and label dropout all follow from it."""
    log_every: int = 100
    """Steps between lines of metrics.jsonl; a line holds the mean loss since the line before."""
    checkpoint_every: int = 10_000
    """Steps between checkpoints."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints stay on disk; 0 keeps all."""
    keep_at: tuple[int, ...] = ()
    """Steps that are saved whatever `checkpoint_every` says, and kept whatever `keep_checkpoints` says."""

    def __post_init__(self) -> None:
        limits = {"batch_size": 1, "steps": 1, "log_every": 1, "checkpoint_every": 1, "keep_checkpoints": 0, "seed": 0}
        for name, least in limits.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; expected an integer >= {least}")
        if any(step < 0 for step in self.keep_at):
            raise ValueError(f"keep_at is {self.keep_at}; expected steps, 0 or more")
        if not self.name or "/" in self.name:
            raise ValueError(f"name is {self.name!r}; expected a word without '/'")


def to_dict(config: RunConfig) -> dict[str, Any]:
    """A complete JSON-able form: nothing is left to a default that may change."""
    for name, choice, base in (("model", config.model, ModelConfig), ("process", config.process, ProcessConfig)):
        if type(choice) not in kinds_of(base).values():
            raise ValueError(f"{name} is a {type(choice).__name__}; expected one of a kind that is registered")
    row: dict[str, Any] = encode(config)
    return row


def from_dict(row: Mapping[str, Any]) -> RunConfig:
    """The inverse of `to_dict`; `ValueError` names a field that does not belong or is of another type."""
    for name, plugins, base in (("model", MODELS, ModelConfig), ("process", PROCESSES, ProcessConfig)):
        if (
            isinstance(row, Mapping)
            and isinstance(row.get(name), Mapping)
            and row[name].get("kind") not in kinds_of(base)
        ):
            list(plugins)  # one of them may be of that kind
    return decode(RunConfig, row)


def differing_fields(a: RunConfig, b: RunConfig) -> list[str]:
    """`"optim.lr: 0.0001 -> 0.001"` for each leaf in which two configs differ."""
    left, right = dict(leaves(to_dict(a))), dict(leaves(to_dict(b)))
    if a.scheme.name != b.scheme.name:  # then its rows differ as well, which says nothing more
        left, right = (
            {k: v for k, v in side.items() if k == "scheme.name" or not k.startswith("scheme.")}
            for side in (left, right)
        )
    return [
        f"{key}: {left.get(key, 'absent')} -> {right.get(key, 'absent')}"
        for key in sorted(left.keys() | right.keys())
        if left.get(key) != right.get(key)
    ]


def model_name(config: ModelConfig) -> str:
    """The registered name of a network, or its family with "custom"; of anyone's `module:factory`."""
    other = config.factory if isinstance(config, OwnConfig) else f"custom {type(config).__name__}"
    return next((name for name, entry in MODELS.items() if entry == config), other)


def log_interval(every: int, steps: int) -> int:
    """Steps between lines of a loss that a preset logs `every` so many, in a run of so few that it had hardly a curve.

    >>> log_interval(100, 60), log_interval(100, 10_000)
    (3, 100)
    """
    return max(1, min(every, steps // POINTS))


def digits() -> RunConfig:
    """A tiny DiT on scikit-learn's digits: minutes on a laptop's CPU."""
    return RunConfig(
        name="digits",
        model=MODELS["tiny"],
        scheme=SCHEMES["adaln-zero"],
        process=PROCESSES["ddpm"],
        optim=OptimConfig(lr=4e-3, ema_decay=0.99),
        batch_size=32,
        steps=2_000,
        log_every=20,
        checkpoint_every=500,
    )


def images_32() -> RunConfig:
    """DiT-S/2 on 32-pixel images (256 tokens) from a folder or zip: one GPU, an hour or so."""
    return RunConfig(
        name="images-32",
        model=MODELS["DiT-S/2"],
        scheme=SCHEMES["adaln-zero"],
        process=PROCESSES["ddpm"],
        data=DataConfig(path="images", size=32, flip=True),
        optim=OptimConfig(ema_decay=0.9995),
        batch_size=128,
        steps=50_000,
        checkpoint_every=2_000,
    )


def imagenet_256() -> RunConfig:
    """The paper's main runs: DiT-XL/2 on latents of ImageNet at 256 pixels, 400K steps."""
    return _on_latents("imagenet-256", 256, 400_000)


def imagenet_512() -> RunConfig:
    """The same at 512 pixels; the paper's own row (Table 4) is --model DiT-XL/4."""
    return _on_latents("imagenet-512", 512, 400_000)


def tiny_imagenet() -> RunConfig:
    """Table 10: DiT-XL/2 on latents of Tiny ImageNet grown to 256 pixels, 50K steps."""
    return _on_latents("tiny-imagenet-256", 256, 50_000)


def afhq() -> RunConfig:
    """Table 10: DiT-XL/2 on latents of AFHQ at 256 pixels, 50K steps."""
    return _on_latents("afhq-256", 256, 50_000)


def celeba_hq() -> RunConfig:
    """Table 10: DiT-XL/2 on latents of CelebA-HQ at 256 pixels, 50K steps; no classes unless encoded by attribute."""
    return _on_latents("celeba-hq-256", 256, 50_000)


def _on_latents(name: str, size: int, steps: int) -> RunConfig:
    """The paper's protocol (its section 4) on the folder that `adaln encode SOURCE NAME --layout NAME` makes."""
    return RunConfig(
        name=name,
        model=MODELS["DiT-XL/2"],
        scheme=SCHEMES["adaln-zero"],
        process=PROCESSES["ddpm"],
        data=DataConfig(path=name, size=size, flip=True),
        optim=OptimConfig(lr=1e-4, betas=(0.9, 0.999), weight_decay=0.0, grad_clip=None, ema_decay=0.9999),
        batch_size=256,
        steps=steps,
    )


PRESETS: Registry[Callable[[], RunConfig]] = Registry(
    "preset",
    {
        "digits": digits,
        "images-32": images_32,
        "imagenet-256": imagenet_256,
        "imagenet-512": imagenet_512,
        "tiny-imagenet": tiny_imagenet,
        "afhq": afhq,
        "celeba-hq": celeba_hq,
    },
)


def preset(name: str, /, **changes: Any) -> RunConfig:
    """A preset of `adaln presets` with other values of some fields, by dotted names as the flags of `adaln train` have.

    `model`, `process` and `scheme` may be names, `model` also `module:factory` (docs/own-network.md). Raises
    `ValueError` in one line with the nearest name for one that is unknown, or for a value of another type.

    >>> import adaln
    >>> config = adaln.preset("digits", scheme="adaln-gaussian", steps=100, **{"optim.lr": 1e-3})
    >>> config.scheme.name, config.steps, config.optim.lr
    ('adaln-gaussian', 100, 0.001)
    >>> adaln.preset("digits", **{"optim.lrr": 1e-3})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: unknown field 'lrr' of optim (nearest: 'lr'); known: lr, betas, ...
    """
    for field_name, entry_of in (("model", model_named), ("process", PROCESSES.__getitem__), ("scheme", scheme)):
        if isinstance(changes.get(field_name), str):
            changes[field_name] = entry_of(changes[field_name])
    return changed(PRESETS[name](), changes)
