"""Which of a file's tensors are the network that is asked for: averaged or raw, and apart from what lies beside it."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from torch import Tensor

from adaln.specs import WeightSet as WeightSet
from adaln.tensor_files.names import WRAPPERS

Kind = Literal["ema", "model", "part", "state"]
"""Averaged weights, raw weights, another network beside them, the state of a training."""
_AVERAGE = r"(?:emas?|ewm?a|swa|avg|averag(?:e[ds]?|ing)|shadows?|polyak)"
_WEIGHTS = r"(?:model|net|network|state_dict|module|params|weights)"
_NETWORK = r"(?:transformer|dit|unet|generator|student)"
KINDS: Mapping[Kind, str] = {
    "ema": r"(?!.*exp_avg|(?:.*_)?(?:non?|not|without|before)_)"
    rf"(?:\w+_)?(?:{_AVERAGE}(?:{_WEIGHTS}|{_NETWORK})?|(?:{_WEIGHTS}|{_NETWORK}){_AVERAGE})(?:_\w*)?",
    "part": r"(?:first_stage|cond_stage)_model|vae|autoencoder|pretransform|vocoder|text_(?:encoders?(?:_\d)?|model)"
    r"|conditioner|clip|discriminator|teacher|lpips",
    "state": r".*opt(?:im|imizers?|imizer_states?)?|.*sched(?:ulers?)?|.*scaler|.*rng.*|callbacks|loops|.*loss(?:es)?",
    "model": rf"(?:\w+_)?{_WEIGHTS}|model_\w+|{_NETWORK}|online|denoiser|backbone|non_ema|{'|'.join(WRAPPERS)}",
}
"""What trainers call them: whole words between dots as `kind_of` spells them, the first kind that fits."""
_HUMPS = re.compile(r"(?<=[a-z\d])(?=[A-Z])|(?<=[A-Za-z])(?=\d)|(?<=[A-Z])(?=[A-Z][a-z])")
MODULATION = re.compile(
    r"(?i)ada_?(?:ln|layer_?norm)|modulation|scale_shift_table|[._](?:lin_)?mod(?:_lin|ulator)?[._]|t_block|\bnorm\w*\.linear"
)
"""What names of modulation layers have in them; of several networks in one file it shows which is meant."""


@lru_cache
def kind_of(word: str) -> Kind | None:
    """What a word at the beginning of names, or the key of a dictionary, says that these tensors are.

    However it is written: `EMA model`, `netEMA`, `model-ema`, `ema_0.9999` and `emamodel` are averages; `gemma`,
    `schema` and `exp_avg` are none.

    >>> [kind_of(word) for word in ("netEMA", "moving average", "model", "schema", "AdamOptim")]
    ['ema', 'ema', 'model', None, 'state']
    """
    snake = re.sub(r"\W+", "_", word)
    spellings = {snake.lower(), _HUMPS.sub("_", snake).lower()}
    return next((kind for kind, pattern in KINDS.items() if any(re.fullmatch(pattern, s) for s in spellings)), None)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The names that begin with `prefix` and with none of `without`."""

    prefix: str
    taken: WeightSet | None
    """Which of a training checkpoint's sets; None: there is one only."""
    without: tuple[str, ...]
    others: tuple[str, ...]
    """Prefixes of other weights in the file."""

    def names(self, names: Iterable[str]) -> dict[str, str]:
        """Those names by what follows the prefix."""
        inside = (name for name in names if name.startswith(self.prefix) and not name.startswith(self.without))
        return {name.removeprefix(self.prefix): name for name in inside}


def choose(tensors: Mapping[str, Tensor], levels: Sequence[str], wanted: WeightSet | None, prefix: str = "") -> Chosen:
    """The averaged weights if there are any, or those `wanted`, however deep they stand.

    Raises `ValueError` naming the prefixes where two networks could be meant, and where there is no set `wanted`.
    """
    known: tuple[WeightSet, ...] = ("ema", "model")
    words = [kind_of(word) for word in prefix.split(".")]
    taken: WeightSet | None = next((kind for kind in known if kind in words), None)
    seen, others, without = {taken}, list[str](), list[str]()
    while True:
        node = _node(tensors, levels, prefix)
        averaged = [] if wanted == "model" and node.raw else node.averaged
        pick = _one_of(averaged or node.raw, tensors)
        if not averaged and wanted is None:
            _one_of([pick, *_twins(pick, node, tensors)], tensors)
        if pick in averaged and len(node.raw) == 1:
            _refuse_partial(pick, node.raw[0], tensors, (*averaged, *node.parts, *node.state))
        seen |= {kind for kind, there in zip(known, (node.averaged, node.raw), strict=True) if there and node.has_sets}
        if node.has_sets:
            is_raw = node.averaged and pick in node.raw
            taken = "ema" if pick in node.averaged or node.is_average else "model" if is_raw else taken or "model"
        without += node.beside(pick)
        others += [other for other in node.beside(pick) if other not in node.state]
        others += [prefix] if pick in node.averaged and prefix in node.raw else []
        if pick == prefix:
            break
        prefix = pick
    _refuse_merged(prefix, levels, [n for n in tensors if n.startswith(prefix) and not n.startswith(tuple(without))])
    if wanted is not None and wanted != taken:
        has = " and ".join(kind for kind in known if kind in seen) or "one set only"
        if others:
            has += f", under {prefix!r}, and beside it {', '.join(map(repr, others))}: --prefix chooses"
        raise ValueError(f"has no set of weights {wanted!r}; it has {has}")
    return Chosen(prefix, taken, tuple(without), tuple(others))


@dataclass(frozen=True, slots=True)
class _Node:
    """What stands directly behind a prefix: prefixes by what they are; one's own tensors are at the prefix itself."""

    averaged: list[str]
    raw: list[str]
    parts: list[str]
    state: list[str]
    has_sets: bool
    """Whether words or dictionaries tell sets apart here."""
    is_average: bool
    """Whether this is torch's AveragedModel, or the like: it counts what it has averaged."""

    def beside(self, pick: str) -> list[str]:
        """All but that one; a prefix that holds it is not beside it."""
        return [p for p in (*self.averaged, *self.raw, *self.parts, *self.state) if not pick.startswith(p)]


def _node(tensors: Mapping[str, Tensor], levels: Sequence[str], prefix: str) -> _Node:
    inside = [name for name in tensors if name.startswith(prefix)]
    levels = [level for level in levels if level.startswith(prefix) and level != prefix]
    children: dict[str, list[str]] = defaultdict(list)
    bare = []
    for name in inside:
        level = next((level for level in levels if name.startswith(level)), None)  # the outermost comes first
        head, dot, _ = name.removeprefix(prefix).partition(".")
        if level or dot:
            children[level or f"{prefix}{head}."].append(name)
        elif tensors[name].numel() > 1:
            bare.append(name)
    kinds: dict[Kind | None, list[str]] = defaultdict(list)
    for child in children:
        kind = kind_of(child.removeprefix(prefix).rstrip("."))
        kinds[None if kind == "ema" and not _is_set(child, levels, tensors) else kind].append(child)
    loose = [child for child in kinds["state"] if child not in levels and (kinds[None] or not kinds["model"])]
    state, unknown = (
        [child for child in kinds["state"] if child not in loose],
        kinds[None] + loose,
    )  # modules, called so
    averaged = kinds["ema"] + _averages_in(state, levels, tensors)
    raw, rest = _raw(kinds["model"], unknown, children, levels, prefix, bool(bare))
    if not raw and not averaged:
        return _Node([], [prefix], [], [], False, False)
    has_sets = bool(averaged) or any(child in levels for child in raw)
    is_average = f"{prefix}n_averaged" in tensors
    return _Node(averaged, raw, kinds["part"] + rest, state, has_sets or is_average, is_average)


def _is_set(child: str, levels: Sequence[str], tensors: Mapping[str, Tensor]) -> bool:
    """Whether what is called an average is one of a network: neither a decay alone nor a module that takes averages."""
    inside = [name for name in tensors if name.startswith(child)]
    listed = child in levels or _num_modulated(child, tensors) or re.search(r"\.\d+\.", "".join(inside))
    return bool(listed) and any(tensors[name].numel() > 1 for name in inside)


def _twins(pick: str, node: _Node, tensors: Mapping[str, Tensor]) -> list[str]:
    """What no word explains, and has as much modulation as what was picked: it may be its average."""
    unknown = [part for part in node.parts if kind_of(_last_word(part)) != "part"]
    count = _num_modulated(pick, tensors)
    return [part for part in unknown if count and _num_modulated(part, tensors) == count]


def _averages_in(state: Sequence[str], levels: Sequence[str], tensors: Mapping[str, Tensor]) -> list[str]:
    """Averaged weights that callbacks and optimisers keep."""
    inner = [level for level in levels if level.startswith(tuple(state)) and kind_of(_last_word(level)) == "ema"]
    modulated = [level for level in inner if _num_modulated(level, tensors)]
    return [level for level in modulated if not any(o != level and level.startswith(o) for o in modulated)]


def _last_word(level: str) -> str:
    return re.split(r"\.(?!\d+$)", level.rstrip("."))[-1]


def _num_modulated(prefix: str, tensors: Mapping[str, Tensor]) -> int:
    return sum(1 for name in tensors if name.startswith(prefix) and MODULATION.search(name, len(prefix)))


def _raw(
    models: Sequence[str],
    unknown: Sequence[str],
    children: Mapping[str, list[str]],
    levels: Sequence[str],
    prefix: str,
    has_bare: bool,
) -> tuple[list[str], list[str]]:
    """Prefixes of the raw weights, and of what no word tells apart from them and is not one of their modules."""
    if any(child in levels for child in models):
        return [*models], [*unknown]
    if not unknown and not has_bare:
        return [*models], []
    if len(unknown) == 1 and not models and not has_bare:
        return [_only(children, unknown[0], prefix, levels)], []
    networks = [child for child in unknown if child in levels and _has_blocks(children[child], child)]
    if not models and not any(_is_list(children[child], child) for child in unknown) and networks:
        return networks, [child for child in unknown if child not in networks]
    return [prefix], []


def _is_list(names: Sequence[str], prefix: str) -> bool:
    return all(name.removeprefix(prefix).partition(".")[0].isdigit() for name in names)


def _has_blocks(names: Sequence[str], prefix: str) -> bool:
    return any(re.match(r"\w+\.\d+\.", name.removeprefix(prefix)) for name in names)


def _only(children: Mapping[str, list[str]], child: str, prefix: str, levels: Sequence[str]) -> str:
    """The only child, or what stands alone in it, where that is a network: modules, a list of blocks among them.

    Otherwise the prefix: a list of blocks is no network of its own.
    """
    names, inner = children[child], child
    while inner not in levels:
        words = {name.removeprefix(inner).partition(".")[0] for name in names}
        if len(words) > 1:
            is_network = _has_blocks(names, inner) or all(kind_of(word) for word in words)
            return inner if is_network and not _is_list(names, inner) else prefix
        inner += f"{words.pop()}."
        if inner.rstrip(".") in names or inner.rstrip(".").rpartition(".")[2].isdigit():
            return prefix
    return inner


def _refuse_partial(averaged: str, raw: str, tensors: Mapping[str, Tensor], beside: Sequence[str]) -> None:
    """`ValueError` where an average is one of a part of the network."""
    own = {name: t for name, t in tensors.items() if not name.startswith(tuple(p for p in beside if p != raw))}
    few, all_of_them = _num_modulated(averaged, tensors), _num_modulated(raw, own)
    if few < all_of_them:
        what = f"the averaged weights {averaged!r} hold {few} modulation tensors of {all_of_them}"
        raise ValueError(f"{what}: a part of the network; --weights model takes the raw ones")


def _refuse_merged(prefix: str, levels: Sequence[str], names: Sequence[str]) -> None:
    """`ValueError` where dictionaries within the prefix hold the same modulation, and nothing else holds any: states.

    Blocks that are dictionaries of their own have other tensors of the network beside them.
    """
    marks = [name for name in names if MODULATION.search(name)] or names
    alike: dict[frozenset[str], list[str]] = defaultdict(list)
    for level in levels:
        if level.startswith(prefix) and level != prefix:
            alike[frozenset(name.removeprefix(level) for name in marks if name.startswith(level))].append(level)
    for inner, group in alike.items():
        are_items = all(level.split(".")[-2].isdigit() for level in group)
        beside = [name for name in (names if are_items else marks) if not name.startswith(tuple(group))]
        if inner and len(group) > 1 and not beside:
            raise ValueError(f"networks stand under {' and '.join(map(repr, group))}; expected one of them as --prefix")


def _one_of(prefixes: Sequence[str], tensors: Mapping[str, Tensor]) -> str:
    if len(prefixes) == 1:
        return prefixes[0]
    modulated = [p for p in prefixes if any(n.startswith(p) and MODULATION.search(n, len(p)) for n in tensors)]
    if len(modulated) != 1:
        listed = " and ".join(map(repr, modulated or prefixes))
        raise ValueError(f"networks stand under {listed}; expected one of them as --prefix")
    return modulated[0]


def dotted_again(names: Iterable[str]) -> dict[str, str]:
    """Names by themselves, but those of an average that was kept as buffers, so without dots, as the raw weights' are.

    >>> list(dotted_again(["net.a.weight", "net_ema.aweight", "net_ema.decay"]))
    ['net.a.weight', 'net_ema.a.weight', 'net_ema.decay']
    """
    names = list(names)
    heads = {head for head in (name.rpartition(".")[0] for name in names) if kind_of(head.rpartition(".")[2]) == "ema"}
    dots: dict[str, str] = {}
    for head in heads:
        outer = head.removesuffix(head.rpartition(".")[2])
        raw = [name.removeprefix(outer) for name in names if name.startswith(outer) and not name.startswith(f"{head}.")]
        inner_names = {_squeezed(inner): inner for name in raw for inner in (name, name.partition(".")[2])}
        bare = [name for name in names if name.rpartition(".")[0] == head]
        squeezed = {name: inner_names.get(_squeezed(name.removeprefix(f"{head}."))) for name in bare}
        dots |= {name: f"{head}.{inner}" for name, inner in squeezed.items() if inner}
    return {dots.get(name, name): name for name in names}


def _squeezed(name: str) -> str:
    return re.sub(r"\W|_", "", name)
