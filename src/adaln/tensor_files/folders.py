"""Folders and indexes of weights: which of the files in a diffusers folder is the network, and which shards are."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from adaln.files import reading
from adaln.tensor_files.contents import WEIGHT_SUFFIXES
from adaln.tensor_files.sets import WeightSet, kind_of

STEM = "diffusion_pytorch_model"
STEMS = (STEM, "model", "pytorch_model")
"""What libraries call weights, diffusers' before those of transformers."""
_OTHERS = re.compile(r"transformer_\w+|unet\w*|controlnet\w*|prior\w*|dit\w*")
"""Folders of other networks in a pipeline, beside its `transformer`."""
ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin", "pytorch_lora_weights.safetensors")
_SHARD = re.compile(r"(.+?)[-._]?(\d+)[-_]?of[-_]?(\d+)(\..*)?\.(safetensors|bin|pt|pth|ckpt)", re.IGNORECASE)
_INDEX = re.compile(r"([^.]+)\.(safetensors|bin)\.index(?:\.(.+))?\.json")
_COUNTED = re.compile(r"\d+|(?<=[-_.])[a-z](?=[-_.])")
_SPREAD = re.compile(r"(?:rank|consolidated|shard|part)s?[-_.]?\d+", re.IGNORECASE)
"""What stands in names of files that are one of several for certain."""
_WHOLE = re.compile(r"([^.]+)(?:\.(.+))?\.(safetensors|bin)")
_WORDS = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Listed:
    """The file of a folder that holds the weights, or lists those that do."""

    file: Path
    taken: WeightSet | None = None
    """Which set, where the file's variant says so."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Candidate:
    file: Path
    stem: str
    variant: str | None
    ending: str
    is_index: bool

    @property
    def taken(self) -> WeightSet | None:
        if self.variant is None:
            return None
        return "model" if self.variant == "non_ema" else "ema" if kind_of(self.variant) == "ema" else None


def weights_in(folder: Path, wanted: WeightSet | None = None) -> Listed:
    """Of a diffusers folder, or of its `transformer`: diffusers' names before those of transformers, the plain variant
    before others, safetensors before pickles.

    `wanted` may choose a variant ("ema", "non_ema"). Raises `ValueError` in one line for other folders.
    """
    refuse_distributed(folder)
    for inside in (folder, folder / "transformer"):
        candidates = _candidates(inside)
        if candidates:
            candidates.sort(key=lambda c: _rank(c, wanted))
            first, *others = candidates
            stems = {candidate.stem for candidate in candidates}
            if first.stem not in STEMS and len(stems) > 1:
                raise ValueError(
                    f"folder {str(inside)!r} holds {_listed(candidates)}; expected one of them by its name"
                )
            return Listed(first.file, first.taken, tuple(_beside(first, others, folder, inside)))
        if shards := [file for file in _files(inside) if _SHARD.fullmatch(file.name)]:
            raise ValueError(f"folder {str(inside)!r} has shards like {shards[0].name}, but no index (.index.json)")
        if adapter := next((inside / name for name in ADAPTERS if (inside / name).is_file()), None):
            return Listed(adapter)
    raise ValueError(
        f"folder {str(folder)!r} is no run and no diffusers model: no config.json with .safetensors files, no"
        " diffusion_pytorch_model.safetensors or .bin, there or in transformer/"
    )


def _beside(first: _Candidate, others: Sequence[_Candidate], folder: Path, inside: Path) -> list[str]:
    """What a reader must know of that lies beside the file that is read: variants, other networks, averages."""
    notes = [f"read {first.file.name} of {inside}; beside it and not read: {_listed(others)}"] if others else []
    entries = sorted(each for place in {folder, inside} for each in place.iterdir())
    known = {first.file, *(other.file for other in others)}
    averages = [each for each in entries if each not in known and is_average(each)]
    if inside != folder:
        more = [each for each in entries if each.is_dir() and _OTHERS.fullmatch(each.name) and each not in averages]
        notes += [f"{other} is another network, which this one leaves out: name its folder" for other in more]
    if averages and first.taken != "ema" and kind_of(first.stem) != "ema":
        listed = ", ".join(map(str, averages))
        notes.append(
            f"read {first.file}; averaged weights may lie beside it, not read: {listed} (name them to read them)"
        )
    return notes


def averages_beside(path: Path) -> str:
    """What lies beside a file or folder of weights, or under its name beside its folder, and is called its average; ""
    if nothing.
    """
    path = path.absolute()
    beside = [each for each in _files(path.parent) if each != path and is_average(each)] if path.is_file() else []
    folders = [path.parent / name for name in ("ema", "swa") if path.is_file()]
    inside = [each / path.name for each in _averaged_twins(path.parent)]
    averages = [*beside, *folders, *inside, *([] if path.is_file() else _averaged_twins(path))]
    return ", ".join(sorted(str(each) for each in averages if each.exists())[:3])


def _averaged_twins(folder: Path) -> list[Path]:
    """Folders beside one that have its name, but for a word that says that they are averages."""
    own = set(_WORDS.findall(folder.name))
    others = folder.parent.iterdir() if os.access(folder.parent, os.R_OK) else ()
    more = ((each, [word for word in _WORDS.findall(each.name) if word not in own]) for each in others)
    return [each for each, words in more if len(words) == 1 and kind_of(*words) == "ema" and each.is_dir()]


def is_average(path: Path) -> bool:
    """Whether a file or folder of weights is called an average."""
    return (path.is_dir() or path.suffix in WEIGHT_SUFFIXES) and kind_of(path.name.removesuffix(path.suffix)) == "ema"


def refuse_distributed(folder: Path) -> None:
    """ValueError that says how to put together what several processes saved."""
    if any(folder.glob("*.distcp")):
        raise ValueError(f"folder {str(folder)!r} is a checkpoint of torch.distributed: {join_distributed(folder)}")
    if any(folder.glob("**/*_model_states.pt")):
        whole = next(iter(sorted(folder.glob("**/mp_rank_00_model_states.pt"))), None)
        raise ValueError(
            f"folder {str(folder)!r} is a checkpoint of DeepSpeed: run the zero_to_fp32.py that lies in it"
            + (f", or name {str(whole)!r} (up to ZeRO 2 it holds the whole network)" if whole else "")
        )


def join_distributed(folder: Path) -> str:
    """How torch itself makes one file of the parts."""
    return f"run `python -m torch.distributed.checkpoint.format_utils dcp_to_torch {folder} weights.pt`"


def _listed(candidates: Sequence[_Candidate]) -> str:
    return ", ".join(candidate.file.name for candidate in candidates)


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*") if file.is_file()) if folder.is_dir() else []


def _candidates(folder: Path) -> list[_Candidate]:
    has_config = (folder / "config.json").is_file()
    found = []
    for file in _files(folder):
        if _SHARD.fullmatch(file.name):
            continue
        if match := _INDEX.fullmatch(file.name):
            candidate = _Candidate(file, match[1], match[3], match[2], is_index=True)
        elif match := _WHOLE.fullmatch(file.name):
            candidate = _Candidate(file, match[1], match[2], match[3], is_index=False)
        else:
            continue
        pickled_stems = (STEM, "pytorch_model") if has_config else (STEM,)
        named_so = candidate.stem in pickled_stems or (has_config and candidate.ending == "safetensors")
        if named_so and file.name not in ADAPTERS:
            found.append(candidate)
    return found


def _rank(candidate: _Candidate, wanted: WeightSet | None) -> tuple[object, ...]:
    asked = wanted is not None and candidate.taken == wanted
    plain = candidate.variant is None
    name, is_pickle = candidate.file.name, candidate.ending != "safetensors"
    stem = STEMS.index(candidate.stem) if candidate.stem in STEMS else len(STEMS)
    return stem, not asked, not plain, is_pickle, not candidate.is_index, len(name), name


def siblings_of(file: Path) -> list[Path]:
    """Files beside this one whose names differ from its own in one number, or letter, by one."""
    names = set[str]()
    for token in _COUNTED.finditer(file.name):
        for step in (-1, 1):
            if token[0].isdigit():
                other = str(int(token[0]) + step)
                counted = {other, other.zfill(len(token[0]))}
            else:
                counted = {chr(ord(token[0]) + step)}
            names |= {file.name[: token.start()] + each + file.name[token.end() :] for each in counted}
    return [file.with_name(name) for name in sorted(names) if file.with_name(name).is_file()]


def is_spread(file: Path) -> bool:
    """Whether a file's name says that it is one process's, or one part, of several."""
    return _SPREAD.search(file.name) is not None


def shards_of(file: Path) -> dict[str, Path] | None:
    """The shard of every tensor where the file is an index; None where it is not.

    Raises `ValueError` for an index whose shards are not all there, and for one shard of several given alone.
    """
    if (part := _SHARD.fullmatch(file.name)) and int(part[3]) > 1:
        index = next((each for each in _files(file.parent) if _INDEX.fullmatch(each.name)), None)
        whole = f"the index {str(index)!r}, or the folder" if index else "its index (.index.json), or the folder"
        raise ValueError(f"{str(file)!r} is one of {int(part[3])} shards, not the whole; expected {whole}")
    with file.open("rb") as opened:
        if not opened.read(64).lstrip().startswith(b"{"):
            return None
    with reading(file, "the index of a sharded model"):
        index_of = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(index_of, dict) or "weight_map" not in index_of:
            return None
        shards = {str(name): file.with_name(Path(shard).name) for name, shard in index_of["weight_map"].items()}
        lost = sorted({shard.name for shard in shards.values() if not shard.is_file()})
    if not shards:
        raise ValueError(f"{str(file)!r} is an index that lists no tensor")
    listed = {shard.name: _SHARD.fullmatch(shard.name) for shard in shards.values()}
    if few := next((int(part[3]) for part in listed.values() if part and int(part[3]) > len(listed)), None):
        raise ValueError(f"{str(file)!r} lists {len(listed)} of {few} shards: a part of the network")
    if lost:
        raise ValueError(f"{str(file)!r} lists shards that are missing beside it: {', '.join(lost)}")
    return shards


def refuse_less(index: Path, tensors: Mapping[str, Tensor]) -> None:
    """`ValueError` where an index counts more bytes than its tensors have, and is not one of the same at full width."""
    said = json.loads(index.read_text(encoding="utf-8")).get("metadata")
    total = said.get("total_size") if isinstance(said, dict) else None
    num_bytes = sum(tensor.nbytes for tensor in tensors.values())
    if isinstance(total, int | float) and num_bytes < total and total not in (2 * num_bytes, 4 * num_bytes):
        raise ValueError(
            f"{str(index)!r} counts {total:,.0f} bytes, and its tensors have {num_bytes:,}: a part of the network"
        )
