"""Anyone's weights, opened: what a file is decides its content, never its name."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from adaln.registry import nearest
from adaln.tensor_files.content import what_is
from adaln.tensor_files.contents import Contents, contents
from adaln.tensor_files.declared import are_parts, refuse_fewer
from adaln.tensor_files.folders import (
    Listed,
    averages_beside,
    is_average,
    is_spread,
    join_distributed,
    refuse_less,
    shards_of,
    siblings_of,
    weights_in,
)
from adaln.tensor_files.names import grouped, torn_weights, unwrapped
from adaln.tensor_files.pickles import load_pickle
from adaln.tensor_files.safetensors_files import FLOAT8, TensorFile, is_whole, readable, shapes
from adaln.tensor_files.sets import Chosen, WeightSet, choose, dotted_again

ADAPTED = re.compile(r"\blora_|lora\.(?:up|down)|lora_(?:up|down|[AB])|lokr_|hada_|lora_magnitude|dora_scale|oft_")
"""What names of adapters have in them."""
SCALES = re.compile(
    r"(?:\.weight)?\.(?:scale_weight|weight_q?scales?(?:_inv|_2)?|weight_(?:zero_point|packed)|absmax|quant_map|SCB"
    r"|w?scales|qweight|qzeros|W_q|comfy_quant|input_scale|_amax)$|\.weight\.(?:_?scale|_data)$|quant_state|scaled_fp8$"
)
"""What names of factors of quantised weights have in them."""
_FACTOR = re.compile(r"(?i)scale|scl$|amax|absmax|dequant|inv$")
_STORED = re.compile(r"(?i)[._:]+q?data$")
"""What factors of weights in eight bits have in their names, and what libraries put behind those weights' own."""
PLAIN = {"bias", "running_mean", "running_var", "num_batches_tracked"}
"""What stands beside a weight and is no factor of it."""
FLAT = re.compile(r"(?:^|\.)_?flat_params?(?:_\d+)?$")
"""What FSDP calls the weights of a module that it keeps as one."""
OF_AVERAGES = re.compile(r"decay|num_updates|n_averaged|initted|step")
"""What averages keep of themselves beside the weights."""


@dataclass(frozen=True, slots=True, eq=False)
class OpenedWeights:
    """Weights by the names that their network gives them, without those of wrappers around it."""

    tensors: Mapping[str, Tensor]
    """Memory-mapped: read when used."""
    file: Path
    """Of a folder the one that was chosen; of shards their index."""
    taken: WeightSet | None
    """Which of a training checkpoint's sets; None: the file holds one set only."""
    notes: tuple[str, ...] = field(default=(), kw_only=True)
    """What a reader must know of what was read and what was not, a line each."""


def open_weights(path: Path, wanted: WeightSet | None = None, prefix: str = "") -> OpenedWeights:
    """The weights in safetensors files, in what `torch.save` wrote, or in a diffusers folder, whole or in shards.

    Of a training checkpoint ({"model": ..., "ema": ..., ...}) the set `wanted`, by default the averaged weights if they
    are there; of several networks in one file that under `prefix`, by default the only one with modulation. Raises
    `ValueError` in one line for what is missing, damaged, foreign, less than a network, or holds code.
    """
    listed = _listed(path, wanted)
    whole = _read(listed.file)
    named = listed.taken or ("ema" if path.is_file() and wanted != "model" and is_average(path) else None)
    beside = averages_beside(path) if named != "ema" else ""
    try:
        opened = _opened(whole, listed.file, wanted if named is None else None, prefix)
    except ValueError as error:
        where = f"; averaged weights may lie in {beside}" if beside and wanted == "ema" else ""
        raise ValueError(f"{str(listed.file)!r}: {error}{where}") from None
    notes = [*listed.notes, *opened.notes]
    if beside and opened.taken != "ema":
        notes.append(f"averaged weights may lie beside {path}, not read: {beside} (name them to read them)")
    return OpenedWeights(opened.tensors, listed.file, named or opened.taken, notes=tuple(notes))


def open_adapter(path: Path) -> Mapping[str, Tensor] | None:
    """All tensors of a file or folder by the names there, where they are an adapter; None where they are not."""
    whole = _read(_listed(path).file)
    tensors = whole if isinstance(whole, TensorFile) else whole.tensors
    if not is_adapter([*tensors, *whole.unread]):
        return None
    refuse_unreadable(whole.unread, {})
    return tensors


def _listed(path: Path, wanted: WeightSet | None = None) -> Listed:
    if not path.exists():
        if path.is_symlink():
            raise ValueError(f"weights {str(path)!r} are a link to {str(path.readlink())!r}, which does not exist")
        others = [str(other) for other in path.parent.glob("*")] if path.parent.is_dir() else []
        kinds = "expected a run, a file of weights or a diffusers folder"
        raise ValueError(f"weights {str(path)!r} do not exist{nearest(str(path), others)}; {kinds}")
    if path.suffix == ".distcp":
        raise ValueError(
            f"{str(path)!r} is a part of a checkpoint of torch.distributed: {join_distributed(path.parent)}"
        )
    return weights_in(path, wanted) if path.is_dir() else Listed(path)


def _read(file: Path) -> TensorFile | Contents:
    """All that a file, or the shards that an index lists, hold."""
    shards = shards_of(file)
    if shards is None:
        whole = _read_one(file)
        _refuse_part(file, whole)
        return whole
    parts = {shard: _read_one(shard) for shard in dict.fromkeys(shards.values())}
    for name, shard in shards.items():
        part = parts[shard]
        if name not in part.unread and name not in (part.meta if isinstance(part, TensorFile) else part.tensors):
            raise ValueError(f"{str(file)!r} says that {shard.name} holds {name!r}, which it does not")
    whole = _joined(file, shards, parts)
    if not whole.unread:
        refuse_less(file, whole.meta if isinstance(whole, TensorFile) else whole.tensors)
    return whole


def _joined(
    file: Path, shards: Mapping[str, Path], parts: Mapping[Path, TensorFile | Contents]
) -> TensorFile | Contents:
    """Of a tensor that stands in several shards the one that the index names."""
    if all(isinstance(part, TensorFile) for part in parts.values()):
        return TensorFile(*parts, shards=shards)
    whole = Contents()
    for shard, part in parts.items():
        if isinstance(part, TensorFile):
            raise ValueError(f"{str(file)!r} lists files of torch.save beside safetensors; expected one kind")
        whole.tensors.update({name: each for name, each in part.tensors.items() if shards.get(name, shard) == shard})
        whole.unread.update({name: each for name, each in part.unread.items() if shards.get(name, shard) == shard})
    return whole


def _refuse_part(file: Path, whole: TensorFile | Contents) -> None:
    """`ValueError` where files that are numbered alike hold the rest of the network."""
    for other in siblings_of(file):
        try:
            beside = _read_one(other)
        except (ValueError, OSError):
            continue
        both = [{**each.meta} if isinstance(each, TensorFile) else each.tensors for each in (whole, beside)]
        if (is_spread(file) and not is_adapter([*both[0]])) or are_parts(*both):
            raise ValueError(
                f"{str(file)!r} is a part of the network, as {other.name} beside it is another; expected one file of"
                " all of them, or a folder with an index (.index.json)"
            )


def _read_one(file: Path) -> TensorFile | Contents:
    with file.open("rb") as opened:
        head = opened.read(9)
    if is_whole(file):
        return TensorFile(file)
    if head.startswith(b"PK"):
        return contents(load_pickle(file))
    if file.suffix.lower() == ".safetensors" or (head[8:] == b"{" and int.from_bytes(head[:8], "little") < 1 << 30):
        words = what_is(file)
        raise ValueError(
            f"{str(file)!r} is {words}; expected weights"
            if words
            else f"{str(file)!r} is not a complete safetensors file (truncated, or of another format)"
        )
    return contents(load_pickle(file))


def _opened(whole: TensorFile | Contents, file: Path, wanted: WeightSet | None, prefix: str) -> OpenedWeights:
    meta = whole.meta if isinstance(whole, TensorFile) else whole.tensors
    if is_adapter([*meta]):
        raise ValueError("is an adapter (LoRA), no network; `adaln audit` says what it changes")
    levels, nameless = ([], []) if isinstance(whole, TensorFile) else (whole.levels, whole.nameless)
    stored = dotted_again({**meta, **whole.unread})
    known = {new: meta.get(old, torch.empty(2, device="meta")) for new, old in stored.items()}
    chosen = choose(known, levels, wanted, existing_prefix(prefix, known))
    notes = _notes(chosen)
    if nameless and chosen.taken != "ema":
        if wanted != "model":
            way = "; --weights model takes the raw ones" if known else ""
            raise ValueError(f"the averaged weights are a list without names, {nameless[0]!r}, not readable{way}")
        notes.append(f"the averaged weights are a list without names, {nameless[0]!r}: not read")
    if isinstance(whole, Contents) and chosen.taken != "ema":
        notes += [f"under {name!r} lies {kind}, which is not read" for name, kind in whole.opaque.items()]
    own = chosen.names(known)
    if chosen.taken == "ema":
        own = {name: whole_name for name, whole_name in own.items() if not OF_AVERAGES.fullmatch(name)}
        notes += _lacking(chosen, own, known)
    names = unwrapped(own)
    if adapted := sorted({name[: match.start()].rstrip(".") for name in names if (match := ADAPTED.search(name))}):
        layers = ", ".join(grouped(adapted))
        notes.append(f"an adapter (LoRA) lies beside the weights of {layers}: read are the weights without it")
    names = {clean: stored[chosen.prefix + name] for clean, name in names.items()}
    if not names:
        raise ValueError("holds no tensors by name")
    if isinstance(whole, TensorFile):
        tensors: Mapping[str, Tensor] = whole.under(names)
    else:
        tensors = {new: readable(whole.tensors[old]) for new, old in names.items() if old in whole.tensors}
    refuse_unreadable({new: whole.unread[old] for new, old in names.items() if old in whole.unread}, tensors)
    _refuse_factors(_float8(whole), stored.values(), chosen.prefix)
    refuse_fewer(file, names)
    return OpenedWeights(tensors, file, chosen.taken, notes=tuple(notes))


def _notes(chosen: Chosen) -> list[str]:
    if not chosen.others:
        return []
    what = {"ema": "the averaged weights", "model": "the raw weights", None: "the weights"}[chosen.taken]
    where = f" under {chosen.prefix!r}" if chosen.prefix else ""
    others = ", ".join(repr(other) if other else "names without a prefix" for other in chosen.others)
    return [f"read {what}{where}; the file also holds {others} (--weights and --prefix choose)"]


def _lacking(chosen: Chosen, own: Iterable[str], names: Iterable[str]) -> list[str]:
    """What the averaged weights lack of the raw ones beside them, in words."""
    averaged = set(own)
    for other in filter(None, chosen.others):
        raw = {name.removeprefix(other) for name in names if name.startswith(other)}
        lost = sorted(name for name in raw - averaged if name.endswith((".weight", ".bias")))
        if lost and 2 * len(raw & averaged) > len(averaged):
            return [f"the averaged weights lack {len(lost)} of the tensors under {other!r}, e.g. {lost[0]!r}"]
    return []


def existing_prefix(prefix: str, names: Iterable[str]) -> str:
    """The prefix with its dot; `ValueError` naming the nearest where no name begins with it."""
    if not prefix or (any(name.startswith(prefix) for name in names) and prefix.endswith(".")):
        return prefix
    if any(name.startswith(f"{prefix}.") for name in names):
        return f"{prefix}."
    words = (name.split(".")[:-1] for name in names)
    known = {".".join(head[:depth]) + "." for head in words for depth in range(1, min(len(head), 3) + 1)}
    raise ValueError(f"no name begins with the prefix {prefix!r}{nearest(prefix, sorted(known))}")


def is_adapter(names: Sequence[str]) -> bool:
    """Whether a file holds what LoRA and its like add to a network, and not the network."""
    added = [name for name in names if ADAPTED.search(name)]
    whole = [name for name in names if name.endswith(".weight") and not ADAPTED.search(name)]
    return bool(added) and not any("base_layer" in name for name in names) and len(whole) < len(added)


def _float8(whole: TensorFile | Contents) -> set[str]:
    if isinstance(whole, TensorFile):
        return whole.float8
    return {name for name, tensor in whole.tensors.items() if tensor.dtype in FLOAT8.values()}


def _refuse_factors(float8: set[str], names: Iterable[str], prefix: str) -> None:
    """`ValueError` naming what stands beside a weight in eight bits, or elsewhere under its name, and may scale it."""
    weights = {_STORED.sub("", name) for name in float8}
    layers = {name.removesuffix(".weight") for name in weights if name.endswith(".weight")}
    owners = weights | layers
    inside = {owner.removeprefix(prefix) for owner in owners}
    for name in (name for name in names if name not in float8):
        parent, _, leaf = name.rpartition(".")
        is_beside = parent in owners and leaf not in PLAIN
        heads = (name[: mark.start()] for mark in re.finditer(r"[._:]", name) if mark.start() >= len(parent))
        is_called_so = _FACTOR.search(leaf) and "shift" not in leaf and not owners.isdisjoint(heads)
        tails = (name[word.end() :] for word in re.finditer(r"(?i)\w*scales?\w*\.", name))
        if is_beside or is_called_so or not inside.isdisjoint(tails):
            raise ValueError(
                f"{name!r} stands beside weights in eight bits and may be the factor of one, which would be left out;"
                " expected floating-point weights: the release in bfloat16, or each weight times its factor, saved anew"
            )


def refuse_unreadable(unread: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
    """`ValueError` naming a tensor that is no weight as it stands, and its type."""
    for name, dtype in unread.items():
        raise ValueError(f"tensor {name!r} is of type {dtype}, which is not read; expected floating-point weights")
    known = shapes(tensors)
    if flat := next((name for name in known if FLAT.search(name)), None):
        raise ValueError(
            f"{flat!r} is many weights in one (FSDP's flat parameter); save a full state_dict() of the model"
        )
    if scales := [name for name in known if SCALES.search(name)]:
        weight = re.sub(SCALES, ".weight", scales[0])
        kind = str(known[weight].dtype).removeprefix("torch.") if weight in known else "other numbers"
        raise ValueError(
            f"{scales[0]!r} says that weights are stored quantised ({weight!r} as {kind} times a factor); expected"
            " floating-point weights: the release in bfloat16, or each weight times its factor, saved anew"
        )
    if torn := torn_weights(known):
        raise ValueError(
            f"{torn[0]!r} is a part of a parametrised or pruned weight; remove_parametrizations() before saving"
        )
    for name, tensor in known.items():
        is_packed = tensor.dtype == torch.uint8 and tensor.ndim > 1
        if is_packed or (name.endswith(".weight") and not tensor.is_floating_point()):
            dtype = str(tensor.dtype).removeprefix("torch.")
            raise ValueError(f"tensor {name!r} is of type {dtype}: quantised; expected floating-point weights")
        if name.endswith(".weight") and not tensor.numel():
            raise ValueError(f"tensor {name!r} is empty: a part of what several processes saved (ZeRO 3)")
