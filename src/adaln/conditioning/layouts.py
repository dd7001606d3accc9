"""Which rows of which tensor are gate, scale and shift: a family is a few rows of this table.

Names are those of the published weights, chunk orders those of the published code, each shown by behaviour in
`tests/conditioning/test_behaviour.py`: what looks alike is not. `norm_out.linear` holds scale before shift in SD3,
Flux, AuraFlow and HunyuanDiT, and shift before scale in CogVideoX.
"""

from dataclasses import dataclass
from enum import StrEnum

from adaln.registry import Registry


class Role(StrEnum):
    """What a row of a modulation layer does; the values are the paper's Greek names."""

    GATE = "alpha"
    SCALE = "gamma"
    SHIFT = "beta"


Chunk = tuple[str, Role]
"""(branch, role) of a run of rows; branches are "attn", "mlp", "context_attn", ..., and "final"."""


def chunks(words: str) -> tuple[Chunk, ...]:
    """The chunks of a layer, first row first.

    >>> [(branch, role.name) for branch, role in chunks("attn: shift scale; mlp: gate")]
    [('attn', 'SHIFT'), ('attn', 'SCALE'), ('mlp', 'GATE')]
    """
    branches = (part.strip().split(": ") for part in words.split(";"))
    return tuple((branch, Role[role.upper()]) for branch, roles in branches for role in roles.split())


@dataclass(frozen=True, slots=True)
class Layout:
    """How one kind of modulation layer is named, and how its rows are ordered."""

    pattern: str
    """Full-match regex of a tensor name; group `block` names the block, `stage`, `index` and `unit` place it."""
    chunks: tuple[Chunk, ...]
    """(branch, role) of each run of rows, first row first."""
    table: bool = False
    """True: the tensor is a (chunks, D) table added to a shared modulation, not a matrix."""
    width_from: str | None = None
    """Tensor whose last dimension is D, `{block}` filled in; None: the condition is D wide, so the matrix tells."""


def _in_block(stage: str, rest: str) -> str:
    return rf"(?P<block>(?P<stage>{stage})\.(?P<index>\d+))\.{rest}"


def _at_end(stage: str, rest: str) -> str:
    return rf"(?P<block>(?P<stage>{stage})){rest}"


STAGES = (
    *("t_block", "adaln_single", "time_embed"),
    *("encoder_level_1", "encoder_level_2", "latent", "decoder_level_2", "decoder_level_1"),
    *("noise_refiner", "joint_transformer_blocks", "transformer_blocks", "single_transformer_blocks"),
    *("layers", "blocks", "final_layer", "proj_out_1", "norm_out", "scale_shift_table"),
)
"""The stages of all families, each family's in forward order."""

SIX = chunks("attn: shift scale gate; mlp: shift scale gate")
_CONTEXT_SIX = chunks("context_attn: shift scale gate; context_mlp: shift scale gate")
_SCALE_GATE = chunks("attn: scale gate; mlp: scale gate")
_SHIFT_SCALE = chunks("final: shift scale")
_SCALE_SHIFT = chunks("final: scale shift")

_ADALN = _in_block("blocks", r"adaLN_modulation\.\d+\.weight")
_FINAL_LAYER = Layout(_at_end("final_layer", r"\.adaLN_modulation\.\d+\.weight"), _SHIFT_SCALE)
_NORM_OUT = _at_end("norm_out", r"\.linear\.weight")
_TABLE = r"scale_shift_table"


def _joint_block(stage: str) -> tuple[Layout, ...]:
    """Two streams, image and context, each with the six chunks of its own layer."""
    return (
        Layout(_in_block(stage, r"norm1\.linear\.weight"), SIX),
        Layout(_in_block(stage, r"norm1_context\.linear\.weight"), _CONTEXT_SIX),
    )


def _tables(shared: str) -> tuple[Layout, ...]:
    """One shared map, a table per block, a table at the end that is added to the bare condition."""
    return (
        Layout(_at_end(shared, r"\.linear\.weight"), SIX),
        Layout(_in_block("transformer_blocks", _TABLE), SIX, table=True),
        Layout(_at_end(_TABLE, ""), _SHIFT_SCALE, table=True),
    )


def _cogvideox_unit(norm: int, branch: str) -> Layout:
    words = f"{branch}: shift scale gate; context_{branch}: shift scale gate"
    pattern = _in_block("transformer_blocks", rf"norm{norm}\.linear\.weight")
    return Layout(pattern, chunks(words), width_from="{block}.attn1.to_q.weight")


FAMILIES: Registry[tuple[Layout, ...]] = Registry(
    "family of layouts",
    {
        "DiT": (Layout(_ADALN, SIX), _FINAL_LAYER),  # SiT, DiT-LLaMA and LightningDiT too
        "LightningDiT-no-shift": (Layout(_ADALN, _SCALE_GATE), _FINAL_LAYER),
        "adaLN-no-gate": (Layout(_ADALN, chunks("attn: shift scale; mlp: shift scale")), _FINAL_LAYER),
        "DiT-shared": (
            Layout(_at_end("t_block", r"\.\d+\.weight"), SIX),
            Layout(_in_block("blocks", _TABLE), SIX, table=True),
            _FINAL_LAYER,
        ),
        "U-DiT": (
            *(
                Layout(
                    _in_block(r"(?:en|de)coder_level_\d|latent", rf"adaLN_modulation(?P<unit>{unit})\.\d+\.weight"),
                    chunks(f"attn{unit}: shift scale gate; mlp{unit}: shift scale gate"),
                )
                for unit in (1, 2)
            ),
            _FINAL_LAYER,
        ),
        "diffusers-DiT": (
            Layout(_in_block("transformer_blocks", r"norm1\.linear\.weight"), SIX),
            Layout(_at_end("proj_out_1", r"\.weight"), _SHIFT_SCALE),
        ),
        "SD3": (
            *_joint_block("transformer_blocks"),
            Layout(
                _in_block("transformer_blocks", r"norm1\.linear\.weight"), (*SIX, *chunks("attn2: shift scale gate"))
            ),
            Layout(
                _in_block("transformer_blocks", r"norm1_context\.linear\.weight"), chunks("context_attn: scale shift")
            ),
            Layout(_NORM_OUT, _SCALE_SHIFT),
        ),
        "Flux": (
            *_joint_block("transformer_blocks"),
            Layout(
                _in_block("single_transformer_blocks", r"norm\.linear\.weight"),
                chunks("attn_and_mlp: shift scale gate"),
            ),
            Layout(_NORM_OUT, _SCALE_SHIFT),
        ),
        "AuraFlow": (
            *_joint_block("joint_transformer_blocks"),
            Layout(_in_block("single_transformer_blocks", r"norm1\.linear\.weight"), SIX),
            Layout(_NORM_OUT, _SCALE_SHIFT),
        ),
        "CogVideoX": (
            _cogvideox_unit(1, "attn"),
            _cogvideox_unit(2, "mlp"),
            Layout(_NORM_OUT, _SHIFT_SCALE, width_from="proj_out.weight"),
        ),
        "HunyuanDiT": (
            Layout(_in_block("blocks", r"norm1\.linear\.weight"), chunks("attn: shift")),
            Layout(_NORM_OUT, _SCALE_SHIFT),
        ),
        "Lumina2": (
            Layout(
                _in_block("noise_refiner|layers", r"norm1\.linear\.weight"),
                _SCALE_GATE,
                width_from="{block}.attn.to_q.weight",
            ),
            Layout(
                _at_end("norm_out", r"\.linear_1\.weight"),
                chunks("final: scale"),
                width_from="norm_out.linear_2.weight",
            ),
        ),
        "PixArt": _tables("adaln_single"),
        "Sana": _tables("time_embed"),
    },
)
"""Every family that is known by its names. A mapping belongs to a family whose rows take all its modulation layers."""
