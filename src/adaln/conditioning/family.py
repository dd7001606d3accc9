r"""What a family of networks is: one row of words for all that is found by names, from modulation layers to inputs.

A modulation layer is a line of two strings, its name and what its rows are, first row first:

    Layer("transformer_blocks.N.norm1.linear", "attn: shift scale gate; mlp: shift scale gate")

In names `N` is the number of a block, `*` any number (a place in an nn.Sequential) and `#` the number of a unit within
the block; `(a|b)` is one of two names and `(a)?` one that may be missing. The first component, up to the first dot, is
the stage: stages run in the order in which a family's lines name them, alternatives of one line in theirs.
A role's name may be followed by what its value goes through first: `gate(tanh)`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from adaln.rng import generator


class Role(StrEnum):
    """What a row of a modulation layer does; the values are the paper's Greek names."""

    GATE = "alpha"
    SCALE = "gamma"
    SHIFT = "beta"


VALUE_FUNCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"": lambda value: value, "tanh": torch.tanh}
"""What a network does to the value that rows give, before it is a gate, a scale or a shift; "": nothing."""


class Chunk(NamedTuple):
    """A run of rows."""

    branch: str
    """"attn", "mlp", "context_attn", ..., and "final"."""
    role: Role
    function: str = ""
    """One of `VALUE_FUNCTIONS`."""


@cache
def chunks(rows: str) -> tuple[Chunk, ...]:
    """The chunks of a layer, first row first.

    >>> [tuple(chunk) for chunk in chunks("attn: shift scale; mlp: gate(tanh)")][1:]
    [('attn', <Role.SCALE: 'gamma'>, ''), ('mlp', <Role.GATE: 'alpha'>, 'tanh')]
    """
    parsed = []
    for part in rows.split(";"):
        branch, _, roles = part.strip().partition(": ")
        for role, _, function in (word.rstrip(")").partition("(") for word in roles.split()):
            parsed.append(Chunk(branch, Role[role.upper()], function))
    return tuple(parsed)


@dataclass(frozen=True, slots=True)
class Layer:
    """One kind of modulation layer: how it is named, and what its rows are."""

    name: str
    """Name of the module (of the parameter, where it is a table), with `N`, `*` and `#` for numbers."""
    rows: str
    """Branch and roles of the chunks; `#` in a branch is the number of the unit."""
    path: Literal["matrix", "table"] = "matrix"
    """matrix: condition -> chunks x D, a block's own or shared by all; table: (chunks, D), added to the shared one."""
    width_of: str | None = None
    """Module whose input is D wide, inside the block if it begins with a dot; None: the condition is D wide."""

    @property
    def stages(self) -> list[str]:
        """The stages that its name stands for, in forward order."""
        return self.name.partition(".")[0].strip("()").split("|")


@cache
def name_pattern(layer: Layer) -> re.Pattern[str]:
    """Of the tensor's name: group `block` is the name of the block, `stage`, `index` and `unit` place it."""
    stage, *inner = layer.name.replace("(", "(?:").split(".")
    numbered = inner[:1] == ["N"]
    block = rf"(?P<block>(?P<stage>{stage})" + r"\.(?P<index>\d+)" * numbered + ")"
    parts = [r"\d+" if part == "*" else part.replace("#", r"(?P<unit>\d+)") for part in inner[numbered:]]
    return re.compile(r"\.".join([block, *parts, *["weight"] * (layer.path == "matrix")]))


Stream = Literal["image", "context"]


@dataclass(frozen=True, slots=True)
class Branch:
    """Where a branch of a block runs; names of modules are relative to the block."""

    enters: str
    """Module whose input is norm(x) * (1 + scale) + shift."""
    leaves: str | None = None
    """Module whose output the gate multiplies; None: the one that it enters."""
    stream: Stream = "image"
    """Whose tokens it sees and changes."""
    both_streams: bool = False
    """The modules see the tokens of both streams in one sequence, context first."""
    channels_first: bool = False
    """What leaves is (B, D, H, W)."""
    residual: str | None = None
    """Module whose input is the stream x; None: the block itself."""


class InputDraw:
    """Draws for the inputs of one forward pass, by a seed alone: a batch of 4, images of 4 x 4 tokens, 4 of text."""

    batch_size = 4
    tokens_per_side = 4
    text_tokens = 4

    def __init__(self, seed: int) -> None:
        self.rng = generator("standard inputs", seed)

    def normal(self, *shape: int) -> Tensor:
        """A batch of standard normal values."""
        return torch.randn(self.batch_size, *shape, generator=self.rng)

    def image(self, config: Any) -> Tensor:
        """Latents of the channels and patches of a network's config."""
        side = self.tokens_per_side * config.patch_size
        return self.normal(config.in_channels, side, side)

    def text(self, width: int) -> Tensor:
        """Encoded text."""
        return self.normal(self.text_tokens, width)

    def times(self, last: float) -> Tensor:
        """From early to late, 0 and `last` left out."""
        return last * (torch.arange(self.batch_size) + 1) / (self.batch_size + 1)

    def labels(self, num_classes: int) -> Tensor:
        """Classes."""
        return torch.randint(num_classes, (self.batch_size,), generator=self.rng)


MakeInputs = Callable[[Any, InputDraw], dict[str, Any]]
"""(the network's config, draws) -> keyword arguments of its forward pass."""

BACKBONE = r"attn\d? mlp\d? ff ff_context feed_forward proj_mlp proj_out"
"""The modules that hold a block's attention and MLP, by the names that most use."""
GROUPS: Mapping[str, str] = {
    "final head": r"final_layer\.(linear|out_proj)\.weight|proj_out_2\.weight",
    "attention": r".*\.attn\d?\.(qkv|proj|(to_|add_)(qkv|q|k|v|out|add_out)(_proj)?(\.0)?)\.weight",
    "MLP fc1": r".*\.(mlp\d?\.(fc1|c_fc[12]|w12|project_in\.\d)|ff(_context)?\.net\.0\.proj)\.weight",
    "MLP fc2": r".*\.(mlp\d?\.(fc2|c_proj|w3|project_out\.\d)|ff(_context)?\.net\.2)\.weight",
    "patch embedder": r"(x_embedder|pos_embed)\.proj\.weight",
    "label embedder": r"(.*\.)?(y_embedder(_\d)?|class_embedder)\.embedding_table\.weight",
    "timestep embedder": r"(.*\.)?(t_embedder(_\d)?\.mlp\.[02]|timestep_embedder\.linear_[12])\.weight",
    "ControlNet zero convolution": (
        r"controlnet_(down_blocks\.\d+|mid_block|cond_embedding\.conv_out)\.weight"
        r"|(.*\.)?(zero_convs\.\d+\.0|middle_block_out\.0|input_hint_block\.14)\.weight"
    ),
}
"""Matrices whose distributions the paper shows besides the roles (Figures 15 to 20), by the names that most use."""
PAPER_NAMES: Mapping[str, str] = {
    "W_att": r".*\.\d+\.attn\d?\..*",
    "W_ffm": r".*\.\d+\.(mlp\d?|ff(_context)?)\..*",
    "W_pat": r"(x_embedder|pos_embed)\..*",
    "timestep embedder": r".*(t_embedder|timestep_embedder).*",
    "label embedder": r".*(y_embedder|class_embedder).*",
}
"""What Table 1 calls all else than roles and head, by the names that most use; the embedders are ours."""


@dataclass(frozen=True, slots=True)
class Family:
    """One row: all that is known of networks whose modulation layers have these names."""

    layers: tuple[Layer, ...] = ()
    """Its modulation layers; of two that fit one tensor the first that has the right number of rows."""
    branches: Mapping[str, Branch] = field(default_factory=dict)
    """Where each branch runs; "final" of every family enters the head."""
    head: str = ""
    """The last projection, which every scheme of the paper starts at zero."""
    inputs: Mapping[str, MakeInputs] = field(default_factory=dict)
    """By the name of the network's class."""
    backbone: str = BACKBONE
    """Modules of a block that hold its attention and MLP matrices (Table 6)."""
    branch_ends: str = ""
    """Modules of a block that end an attention or an MLP: at zero, its branch adds nothing."""
    groups: Mapping[str, str] = field(default_factory=lambda: GROUPS)
    """Pattern of names by the name of the group that their values form."""
    paper_names: Mapping[str, str] = field(default_factory=lambda: PAPER_NAMES)
    """Pattern of names by what the paper's Table 1 calls them."""

    @property
    def stages(self) -> list[str]:
        """In forward order."""
        return list(dict.fromkeys(stage for layer in self.layers for stage in layer.stages))
