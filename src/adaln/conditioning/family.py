r"""What a family of networks is: one row of words for all that is found by names, from modulation layers to inputs.

A modulation layer is a line of two strings, its name and what its rows are, first row first:

    Layer("transformer_blocks.N.norm1.linear", "attn: shift scale gate; mlp: shift scale gate")

In names `N` is the number of a block, `*` any number (a place in an nn.Sequential) and `#` the number of a unit within
the block; `(a|b)` is one of two names. All that stands before `.N`, without one the first component, is the stage:
stages run in the order in which a family's lines name them, alternatives of one line in theirs.
A role's name may be followed by what its value goes through first: `gate(tanh)`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import torch


class Role(StrEnum):
    """What a row of a modulation layer does; the values are the paper's Greek names."""

    GATE = "alpha"
    SCALE = "gamma"
    SHIFT = "beta"


VALUE_FUNCTIONS: Mapping[str, Callable[["torch.Tensor"], "torch.Tensor"]] = {
    "": lambda value: value,
    "plain": lambda value: value,
    "tanh": lambda value: value.tanh(),
    "clamped_tanh": lambda value: value.clamp(-2, 2).tanh(),
    "sigmoid": lambda value: value.sigmoid(),
    "sigmoid_of_one_minus": lambda value: (1 - value).sigmoid(),
    "exp": lambda value: value.exp(),
}
"""What a network does to the value that rows give, before it gates, scales or shifts; "": nothing, but that a scale is
1 + value, which under every other name is the function's value itself (`scale(plain)`: the value)."""


def effect(role: Role, function: str) -> Callable[["torch.Tensor"], "torch.Tensor"]:
    """From the value that rows give to what multiplies (gate, scale) or is added (shift): 1 + value of DiT's scale."""
    of_value = VALUE_FUNCTIONS[function]
    return (lambda value: 1 + value) if role is Role.SCALE and not function else of_value


class Chunk(NamedTuple):
    """A run of rows."""

    branch: str
    """"attn", "mlp", "context_attn", ..., and "final"; "attn+context_attn" of a matrix that adds to tables of both."""
    role: Role
    function: str = ""
    """One of `VALUE_FUNCTIONS`."""


@cache
def parts(rows: str) -> tuple[tuple[Chunk, ...], ...]:
    """The chunks of a layer branch by branch, as its rows are written, first row first."""
    parsed = []
    for part in rows.split(";"):
        branch, _, roles = part.strip().partition(": ")
        words = [word.rstrip(")").partition("(") for word in roles.split()]
        if not words or any(
            role.upper() not in Role.__members__ or name not in VALUE_FUNCTIONS for role, _, name in words
        ):
            raise ValueError(
                f"rows {rows!r}: expected 'branch: roles; branch: roles', roles out of gate, scale and shift, each with"
                f" what its value goes through if anything: ({', '.join(filter(None, VALUE_FUNCTIONS))})"
            )
        parsed.append(tuple(Chunk(branch, Role[role.upper()], function) for role, _, function in words))
    return tuple(parsed)


def chunks(rows: str) -> tuple[Chunk, ...]:
    """The chunks of a layer, first row first.

    >>> [tuple(chunk) for chunk in chunks("attn: shift scale; mlp: gate(tanh)")][1:]
    [('attn', <Role.SCALE: 'gamma'>, ''), ('mlp', <Role.GATE: 'alpha'>, 'tanh')]
    """
    return tuple(chunk for part in parts(rows) for chunk in part)


def any_of(words: str) -> str:
    """Pattern of any of these names, themselves patterns in which dots are dots and `N` is a number; "" is none."""
    return re.sub(r"\bN\b", r"\\d+", "|".join(words.split()).replace(".", r"\.")) or "(?!)"


@dataclass(frozen=True, slots=True)
class Layer:
    """One kind of modulation layer: how it is named, and what its rows are."""

    name: str
    """Name of the module (of the parameter, where it is a table), with `N`, `*` and `#` for numbers."""
    rows: str
    """Branch and roles of the chunks; `#` in a branch is the number of the unit."""
    path: Literal["matrix", "low_rank", "table", "static"] = "matrix"
    """matrix: condition -> chunks x D, a block's own or shared by all; low_rank: the last of two such matrices; table:
    (chunks, D), (1, chunks, D) or (chunks * D), added to what shared matrices give; static: as a table, and all there
    is: no condition moves it."""
    width_of: str | tuple[str, ...] = ""
    """Module whose input is D wide, of several words the first that is there, inside the block if it begins with a dot;
    a tuple: one for each part of `rows`, where their widths differ. "": the condition is D wide, of a table its columns
    are. "rows": whatever an even share of the rows is, for names that no other chunk count bears."""
    shared_by: str = ""
    """Stages, in words, in whose every block the rows act, of a matrix without tables that is no block's own."""

    @property
    def is_matrix(self) -> bool:
        """Whether its rows multiply a condition."""
        return self.path in ("matrix", "low_rank")

    @property
    def stages(self) -> list[str]:
        """The stages that its name stands for, in forward order."""
        return alternatives(_stage(self.name)[0])


def alternatives(name: str) -> list[str]:
    """All names that a name with `(a|b)` stands for.

    >>> alternatives("(text|visual)_blocks")
    ['text_blocks', 'visual_blocks']
    """
    match = re.search(r"\(([^()]*)\)", name)
    if not match:
        return [name]
    return [
        each
        for part in match[1].split("|")
        for each in alternatives(name[: match.start()] + part + name[match.end() :])
    ]


def _stage(name: str) -> tuple[str, str, str]:
    """Stage, ".N" if its blocks are numbered, and what follows."""
    stage, number, inner = name.partition(".N")
    if number:
        return stage, number, inner.removeprefix(".")
    stage, _, inner = name.partition(".")
    return stage, "", inner


@cache
def name_pattern(layer: Layer) -> re.Pattern[str]:
    """Of the tensor's name: group `block` is the name of the block, `stage`, `index` and `unit` place it."""
    stage, number, inner = (part.replace("(", "(?:").replace(".", r"\.") for part in _stage(layer.name))
    block = rf"(?P<block>(?P<stage>{stage})" + r"\.(?P<index>\d+)" * bool(number) + ")"
    parts = [part.replace("*", r"\d+").replace("#", r"(?P<unit>\d+)") for part in [inner] if part]
    return re.compile(r"\.".join([block, *parts, *["weight"] * layer.is_matrix]))


BACKBONE = r"attn\d? mlp\d? ff ff_context feed_forward proj_mlp proj_out"
"""The modules that hold a block's attention and MLP, by the names that most use."""
_MLP = r"(\w+_)?(mlp|ffn?)\d?(_context|_[it])?"
GROUPS: Mapping[str, str] = {
    "attention": (
        r".*\.\d+\.(\w+\.)?(\w+_)?att(n\d?|ention)\.((img|txt)_(attn_)?)?(to_|add_|w)?"
        r"(qkv|kv|q|k|v|o|query|key|value|out|add_out|proj)(_linear|_proj|_t|_layer)?(\.0)?\.weight"
    ),
    "MLP fc1": (
        rf".*\.\d+\.(\w+\.)?({_MLP}\.(fc1|c_fc[12]|w12|project_in\.\d|(net\.|ff\.)?0(\.proj)?|(gate|up)(_proj)?"
        r"|(proj|linear)_in|conv_inverted|inverted_conv\.conv)|proj_mlp"
        r"|feed_forward\.(w[13]|linear_[13]|in_layer|net\.0\.proj))\.weight"
    ),
    "MLP fc2": (
        rf".*\.\d+\.(\w+\.)?({_MLP}\.(fc2|c_proj|w3|project_out\.\d|(net\.|ff\.)?[23]|down(_proj)?|(proj|linear)_out"
        r"|conv_point|point_conv\.conv)|feed_forward\.(w2|linear_2|out_layer|net\.2))\.weight"
    ),
    "patch embedder": r"(x_embedder|pos_embed)\.proj\.weight",
    "label embedder": r"(.*\.)?(y_embedder(_\d)?|class_embedder)\.embedding_table\.weight",
    "timestep embedder": r"(.*\.)?(t_embedder(_\d)?\.mlp\.[02]|timestep_embedder\.linear_[12])\.weight",
    "ControlNet zero convolution": (
        r"(.*\.)?(controlnet_((down_|single_)?blocks\.\d+|mid_block|cond_embedding\.conv_out)"
        r"|zero_convs\.\d+\.0|middle_block_out\.0|input_hint_block\.14)\.weight"
    ),
}
"""Matrices whose distributions the paper shows besides the roles (Figures 15 to 20), by the names that most use."""
EMBEDDERS = "patch embedder", "timestep embedder"
"""Those of the groups that embed by matrices."""
PAPER_NAMES: Mapping[str, str] = {
    "W_att": r".*\.\d+\.(\w+[._])?att(n\d?|ention)[._].*",
    "W_ffm": rf".*\.\d+\.(\w+\.)?({_MLP}|feed_forward)\..*",
    "W_pat": r"(x_embedder|pos_embed)\..*",
    "timestep embedder": r".*(t_embedder|timestep_embedder).*",
    "label embedder": r".*(y_embedder|class_embedder).*",
}
"""What Table 1 calls all else than roles and head, by the names that most use; the embedders are ours."""


@dataclass(frozen=True, slots=True)
class Family:
    """One row: all that is known of networks whose modulation layers have these names."""

    layers: tuple[Layer, ...] = ()
    """Its modulation layers; of two that fit one tensor the first that has the right number of rows. None at all: such
    networks have no rows of one role, see `generated_by`, or no modulation."""
    head: str = ""
    """The last projection, which every scheme of the paper starts at zero; of several words those that are there."""
    classes: str = ""
    """The networks' classes, where no inputs name them: they decide between families of the same names and shapes."""
    inputs: Mapping[str, Callable[..., dict[str, Any]]] = field(default_factory=dict)
    """By the name of the network's class: `adaln.conditioning.inputs.MakeInputs`."""
    signs: str = ""
    """Pattern of names of which one must be there, where modulation layers alone do not make the family."""
    no_rows: str = ""
    """Modules and parameters whose names look like modulation and that hold no rows of one role, in words of patterns:
    embedders, squeezes before the last matrix, norms of the condition."""
    static_gates: str = ""
    """Learned gates that no condition moves, in words of patterns: named, and left as they are."""
    generated_by: str = ""
    """Network that makes every block's roles, no row of any tensor being one role's (Chroma)."""
    interleaved: bool = False
    """Whether its stages take turns, block by block (Latte)."""
    backbone: str = BACKBONE
    """Modules of a block that hold its attention and MLP matrices (Table 6)."""
    branch_ends: str = ""
    """Modules of a block that end an attention or an MLP: at zero, its branch adds nothing."""
    ungated_ends: str = ""
    """Modules of a block that end a branch without a gate (cross-attention): a closed block needs them at zero."""
    groups: Mapping[str, str] = field(default_factory=lambda: GROUPS)
    """Pattern of names by the name of the group that their values form."""
    paper_names: Mapping[str, str] = field(default_factory=lambda: PAPER_NAMES)
    """Pattern of names by what the paper's Table 1 calls them."""
    start: str = ""
    """How its code starts the modulation, in a few words for `adaln families`; "": as torch starts any linear layer."""
    frequencies: str = "cos, sin"
    """Order and spacing of its time frequencies, in a few words; the usual spacing is 10000^(-i/half)."""
    surprise: str = ""
    """What a reader of DiT would not expect, in a sentence."""

    @property
    def class_names(self) -> set[str]:
        """Of the networks that are known to be of it."""
        return {*self.inputs, *self.classes.split()}

    @property
    def stages(self) -> list[str]:
        """In forward order."""
        return list(dict.fromkeys(stage for layer in self.layers for stage in layer.stages))
