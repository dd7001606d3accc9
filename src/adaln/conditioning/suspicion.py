"""Which tensors may be modulation, by name and shape alone, whoever named them.

Deliberately wide: what is suspicious and claimed by no site is never passed over in silence. What only looks alike
(embedders, routers, norms' own weights) is let go here where every network means the same by it, and in a family's
`no_rows` where only that family does.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

_WORDS = (
    r"ada_?(ln|layer|norm|lin|proj|zero|scale|group|gn|in(?![a-z])|rms|ptive_?(layer_?)?norm|_)|(?<![a-z])ada(?![a-z])",
    r"modulat|(?<![a-z])mod(s|_?[xyc]|cx|f|_[a-z]+)?(?![a-z])|(?<![a-z])[a-z]+_mod(?![a-z])",
    r"scale_?(and_?|_)?shift|shift_?(and_?|_)?(scale|gate|table)|scale_?bias|film(?!s)|gate_?(table|msa|mlp|attn|mha)",
    r"(to|fc|linear|proj|lin|mlp|get|_)_?(gamma|beta|alpha)s?(?![a-z])|(gamma|beta|alpha)_?(proj|lin|linear|fc|mlp)",
    r"(attn|mha|msa|mlp|ff|ffn|cross|branch|block|skip|residual|res)_(scale|shift|gate|gamma|beta|alpha)s?(?![a-z])",
    r"(scale|shift|gamma|beta|alpha)s?_(attn|mha|msa|mlp|ff|ffn|cross|branch|block|residual|res|output)(?![a-z])",
    r"layer_?scale|(?<![a-z])ls\d?[._]gamma|guidance_layer|(?<![a-z])t_block(?![a-z])|cond\w*_embeds_mapper",
    r"(?<![a-z])style(_\w+)?(?![a-z])|(?<![a-z_])(affine|hyper|mapper)(?=\.)",
    r"(?<![a-z])(time|timestep|t|fps|temb|emb)_(mod_)?proj(ection)?(?![a-z])|(time|timestep)_embed\w*\.linear\.",
    r"emb_layers\.|\.\d+\.(\w+\.)*((t|time|temb|emb|cond)_(mlp|lin|linear|net|fc)|c_(mlp|lin))(?![a-z])|proj_out_1\.",
    r"(?<![a-z_])(to_)?cond(ition)?(er|ing)?(_?(proj|lin|linear|mlp|fc|affine|norm|scale|shift|gate|net))?(?=\.(\d|w|b))",
    r"\.\d+\.((?!attn)\w+\.)*(shift|scale|gamma|beta|alpha)s?\.weight$",
)
_SUSPICIOUS = re.compile("|".join(_WORDS), re.IGNORECASE)
_MATRIX_IN_A_NORM = re.compile(r"(^|\.)(\w*norm\w*|ln_?\d*)(\.(?!lora_)\w+)+\.(weight|bias)")
"""A norm with a linear layer inside is an adaptive norm."""
_BARE_GATE = re.compile(r"\.\d+\.(.*[._])?(gates?|gamma|beta|alpha)(_?\d|_(attn|msa|mlp|ff))?$")
_INNOCENT = re.compile(
    r"\.emb\.|\w*embedder(?!\.time_proj)(?=(\.[^.]+){1,3}$)|lora_|(^|\.)(\w*norm\w*|grn)\.(gamma|beta|scale|bias|weight)$"
    r"|(^|[._])(rope|freqs?|pos_?embed(ding)?|positional_embedding|position_(ids|embeddings?)|[qk]_?norm|norm_[qk]"
    r"|\w*token|\w*kernel|register)s?(?=\.|$)",
    re.IGNORECASE,
)
_OF_A_BRANCH = re.compile(
    r"(^|[._])(\w*attn\w*|\w*attention\w*|w?qkv\w*|w?[qkvo]|to|to_[a-z]|wo|key|query|value|kv\w*|\w*mlp\w*|\w*ff\w*|\w*feed_?forward\w*"
    r"|ffn\w*|fc\d?|w\d+|proj\w*|\w+_proj|\w*conv\w*|experts?|router|moe|linear_?(in|out|\d)|in|out|up|down|lora_\w+"
    r"|\w*token\w*|shortcut|skip\w*|c_\w+|resampler|layers?|net|transition|block_sparse_moe)(\.|$)",
    re.IGNORECASE,
)
"""What attention, MLPs and convolutions are called: their matrices have several times D rows, too."""
_MOST_CHUNKS = 18


def suspects(shapes: Mapping[str, Sequence[int]]) -> list[str]:
    """The tensors, by names without wrappers, that may be modulation."""
    widths = _widths_of_stages(shapes)
    return [name for name, shape in shapes.items() if is_suspicious(name, shape) or _is_shaped_so(name, shape, widths)]


def is_suspicious(name: str, shape: Sequence[int]) -> bool:
    """Whether a tensor of this name (no wrapper in it) may be modulation, whatever else is in its network."""
    rest = name
    for match in _INNOCENT.finditer(name):  # what stands behind an embedder may still be modulation
        rest = name[match.end() :]
    if name.endswith("time_proj.weight") and min(shape[1:], default=1) == 1:  # frequencies
        return False
    if rest is not name:
        return bool(_SUSPICIOUS.search(rest))
    return bool(_SUSPICIOUS.search(name) or _MATRIX_IN_A_NORM.search(name) or _is_bare(name, shape))


def _is_bare(name: str, shape: Sequence[int]) -> bool:
    """A block's own parameter that is no layer's weight: a table (chunks, D) or (1, chunks, D), or a bare gate."""
    if name.endswith((".weight", ".bias")):
        return False
    if _BARE_GATE.search(name):
        return True
    num_rows = shape[-2] if len(shape) >= 2 else 0
    is_table = len(shape) in (2, 3) and (len(shape) == 2 or shape[0] == 1) and 2 <= num_rows <= _MOST_CHUNKS
    return is_table and re.search(r"\.\d+\.", name) is not None


def _stage(name: str) -> str:
    """What stands before the first number of a name, if something of the block follows it."""
    match = re.match(r"(.*?)\.\d+\.(?=.*\.)", name)
    return match[1] if match else ""


def _widths_of_stages(shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """What most matrices of a stage's blocks take: the width of its stream."""
    columns: dict[str, Counter[int]] = defaultdict(Counter)
    for name, shape in shapes.items():
        if len(shape) == 2 and name.endswith(".weight") and (stage := _stage(name)):
            columns[stage][shape[1]] += 1
    return {stage: max(counts, key=lambda width: (counts[width], width)) for stage, counts in columns.items()}


def _is_shaped_so(name: str, shape: Sequence[int], widths: Mapping[str, int]) -> bool:
    """A block's matrix of several times as many rows as its stream is wide, and of no attention or MLP."""
    width = widths.get(_stage(name), 0)
    if len(shape) != 2 or not width or not name.endswith(".weight") or _INNOCENT.search(name):
        return False
    num_chunks, rest = divmod(shape[0], width)
    inner = name.removeprefix(_stage(name)).removesuffix(".weight").lstrip(".0123456789")
    is_named = any(letter.isalpha() for letter in inner)  # else a layer of an nn.Sequential
    return is_named and rest == 0 and 2 <= num_chunks <= _MOST_CHUNKS and not _OF_A_BRANCH.search(inner)
