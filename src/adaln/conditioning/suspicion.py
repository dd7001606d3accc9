"""Which tensors may be modulation, by name and shape alone, whoever named them.

Deliberately wide: what is suspicious and claimed by no site is never passed over in silence. What only looks alike
(embedders, routers, norms' own weights) is let go here where every network means the same by it, and in a family's
`no_rows` where only that family does.
"""

import re
from collections.abc import Sequence

_WORDS = (
    r"ada_?(ln|layer|norm|lin|proj|zero|scale|group|gn|rms|ptive_?(layer_?)?norm|_)|(?<![a-z])ada(?![a-z])",
    r"modulat|(?<![a-z])mod(s|_?[xyc]|cx|f|_[a-z]+)?(?![a-z])|(?<![a-z])[a-z]+_mod(?![a-z])",
    r"scale_?(and_?|_)?shift|shift_?(and_?|_)?(scale|gate|table)|scale_?bias|film(?!s)|gate_?(table|msa|mlp|attn|mha)",
    r"(to|fc|linear|proj|lin|mlp|get|_)_?(gamma|beta|alpha)s?(?![a-z])|(gamma|beta|alpha)_?(proj|lin|linear|fc|mlp)",
    r"(attn|mha|msa|mlp|ff|ffn|cross|branch|block|residual|res)_(scale|shift|gate|gamma|beta|alpha)s?(?![a-z])",
    r"(scale|shift|gamma|beta|alpha)s?_(attn|mha|msa|mlp|ff|ffn|cross|branch|block|residual|res|output)(?![a-z])",
    r"layer_?scale|(?<![a-z])ls\d?[._]gamma|guidance_layer|(?<![a-z])t_block(?![a-z])|cond\w*_embeds_mapper|style_?(proj|mlp|affine|lin|fc)",
    r"(?<![a-z])(time|timestep|t|fps|temb|emb)_(mod_)?proj(ection)?(?![a-z])|(time|timestep)_embed\w*\.linear\.|emb_layers\.",
    r"cond\w*_(proj|lin|linear|mlp|fc|affine|norm|scale|shift|gate)(?![a-z])|proj_out_1\.",
)
_SUSPICIOUS = re.compile("|".join(_WORDS), re.IGNORECASE)
_MATRIX_IN_A_NORM = re.compile(r"(^|\.)(\w*norm\w*|ln_?\d*)\.(?!lora_)\w+(\.\d+)*\.(weight|bias)")
"""A norm with a linear layer inside is an adaptive norm."""
_BARE_GATE = re.compile(r"\.\d+\.(.*[._])?(gates?|gamma|beta|alpha)(_?\d|_(attn|msa|mlp|ff))?$")
_INNOCENT = re.compile(
    r"\.emb\.|embedder(?!\.time_proj)(\.[^.]+){0,3}$|lora_|(^|\.)(\w*norm\w*|grn)\.(gamma|beta|scale|bias|weight)$"
    r"|(^|[._])(rope|freqs?|pos_?embed\w*|position\w*|[qk]_?norm|norm_[qk]|\w*token)s?(\.|$)",
    re.IGNORECASE,
)


def is_suspicious(name: str, shape: Sequence[int]) -> bool:
    """Whether a tensor of this name (no wrapper in it) and shape may be modulation."""
    if _INNOCENT.search(name) or (name.endswith("time_proj.weight") and min(shape[1:], default=1) == 1):  # frequencies
        return False
    return bool(_SUSPICIOUS.search(name) or _MATRIX_IN_A_NORM.search(name) or _is_bare(name, shape))


def _is_bare(name: str, shape: Sequence[int]) -> bool:
    """A block's own parameter that is no layer's weight: a table (chunks, D) or (1, chunks, D), or a bare gate."""
    if name.endswith((".weight", ".bias")):
        return False
    if _BARE_GATE.search(name):
        return True
    chunks = shape[-2] if len(shape) >= 2 else 0
    is_table = len(shape) in (2, 3) and (len(shape) == 2 or shape[0] == 1) and 2 <= chunks <= 18
    return is_table and re.search(r"\.\d+\.", name) is not None
