"""From what a user names to the data: one table of the ways in which data lies somewhere, asked in order."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from adaln.data.cache import decoded
from adaln.data.config import DataConfig
from adaln.data.dataset import Dataset
from adaln.data.extractions import LIGHTNING_SHARDS, open_fast_dit, open_lightning_dit
from adaln.data.held_out import split_of
from adaln.data.hub import HUB, hub_dataset
from adaln.data.labels import by_attribute, labelled, unlabelled
from adaln.data.latents import open_encoded
from adaln.data.listing import Listing, list_folder, list_zip
from adaln.data.pictures import Source
from adaln.data.published_sets import PUBLISHED_SETS, digits, digits_source
from adaln.data.shard_files import PLAN
from adaln.data.tars import is_tar, list_tars, tars_in
from adaln.files import default_cache, expanded
from adaln.registry import Registry, nearest

_warn_once = cache(logging.getLogger(__name__).warning)


@dataclass(frozen=True, slots=True)
class Format:
    """One way in which data lies somewhere."""

    recognises: Callable[[str], bool]
    """Whether it is what lies at that path."""
    pictures: Callable[[str], Source] | None = None
    """The encoded pictures at a path; None: there are none."""
    loads: Callable[[DataConfig], Dataset] | None = None
    """The set as it is; None: the pictures are decoded once, into the cache."""
    files: Callable[[str], Listing] | None = None
    """All files at a path, for those who need no labels; None: `pictures` are read."""


def _files(recognises: Callable[[str], bool], listing: Callable[[Path], Listing]) -> Format:
    """Files of pictures, which their layout labels."""
    return Format(recognises, lambda path: labelled(listing(Path(path))), files=lambda path: listing(Path(path)))


FORMATS: Registry[Format] = Registry(
    "data",
    {
        "images in a zip": _files(lambda path: Path(path).is_file(), list_zip),
        "images in a folder": _files(lambda path: Path(path).is_dir(), list_folder),
        "images in a folder of tars": _files(lambda path: len(tars_in(Path(path))) > 0, list_tars),
        "images in a tar": _files(lambda path: is_tar(Path(path)), list_tars),
        "images in a Hugging Face dataset": Format(
            lambda path: path.startswith(HUB) or matches(path, "state.json", "dataset_dict.json") > 0, hub_dataset
        ),
        "latents of LightningDiT": Format(lambda path: matches(path, LIGHTNING_SHARDS) > 0, loads=open_lightning_dit),
        "latents of fast-DiT": Format(
            lambda path: min(matches(path, "*_features"), matches(path, "*_labels")) > 0, loads=open_fast_dit
        ),
        "shards of adaln": Format(lambda path: matches(path, PLAN, "shard-*.safetensors") > 0, loads=open_encoded),
        "images (embedded)": Format(lambda path: path == "digits", digits_source, digits),
    },
    accepts=Format,
)
"""What data can be, asked from the last to the first: what is added is asked before what is here, and here the
particular before the general."""


def matches(path: str, *patterns: str) -> int:
    """How many things in a folder match one of the patterns."""
    return sum(1 for pattern in patterns for _ in Path(path).glob(pattern))


def load(config: DataConfig, *, cache: Path | None = None) -> Dataset:
    """The data set that `config` names, decoded. Raises ValueError in one line that names the file at fault.

    Pictures are decoded once into `cache` (None: `default_cache()`) and memory-mapped from then on.
    """
    if config.size is not None and config.size < 1:
        raise ValueError(f"size is {config.size}; expected at least 1 pixel, or None for the set's own size")
    kind, path, attribute = recognise(config.path)
    loads, cache = FORMATS[kind].loads, cache or default_cache()
    if loads and not attribute:
        dataset = loads(replace(config, path=path))
    else:
        dataset = decoded(pictures_of(kind, path, attribute), config, cache)
    left = (*dataset.passed_over, *same_name(config.path))
    dataset = replace(dataset, passed_over=left) if left != dataset.passed_over else dataset
    return replace(dataset, split=split_of(dataset, config.held_out, cache)) if config.held_out else dataset


def open_source(path: str | Path) -> Source:
    """The encoded pictures that a user names. Raises ValueError where there are none."""
    return pictures_of(*recognise(str(path)))


def open_pictures(path: str | Path) -> Source:
    """As `open_source`, for those who need no labels: pictures may lie in any folder beneath the path."""
    kind, path, _ = recognise(str(path))
    files = FORMATS[kind].files
    return unlabelled(files(path)) if files else pictures_of(kind, path, "")


def are_files(path: str) -> bool:
    """Whether a path leads to files of pictures: a folder, zip or tar."""
    kind, _, _ = recognise(path)
    return FORMATS[kind].files is not None


def recognise(path: str) -> tuple[str, str, str]:
    """What a user names: its kind, the path alone, and the attribute that makes its classes ("": none)."""
    place, attribute = split_attribute(path)
    if not place.strip():
        raise ValueError(f"no data is named by {path!r}; expected 'digits', a folder, zip or tar")
    for kind in reversed(list(FORMATS)):
        try:
            if FORMATS[kind].recognises(place):
                return kind, place, attribute
        except Exception as error:  # of a plug-in
            _warn_once("data %r is passed over: %s", kind, f"{type(error).__name__}: {error}")
    where = "" if Path(place).is_absolute() else f" (relative to {Path.cwd()})"
    expected = "expected 'digits', a folder, zip or tar (of a training: --data.path PLACE, of a study: --data PLACE)"
    if place in PUBLISHED_SETS:
        expected = f"to make these latents: adaln encode IMAGES {place} --layout {place}; elsewhere: --data.path PLACE"
    raise ValueError(f"no data at {place!r}{where}{nearest(place, ['digits'])}; {expected}")


def split_attribute(path: str) -> tuple[str, str]:
    """`set#Smiling` is the set at `set` by an attribute, unless a file or folder bears the whole name."""
    place, mark, attribute = path.rpartition("#")
    if not mark or expanded(path).exists():
        place, attribute = path, ""
    return (str(expanded(place)) if place.startswith("~") else place), attribute


def absolute_path(path: str) -> str | None:
    """Where data lies, without links; None of what has a name only (`digits`, `hf:NAME`), or where nothing lies."""
    place, attribute = split_attribute(path)
    real = str(Path(place).resolve())
    if not Path(place).exists() or recognise(real)[0] != recognise(place)[0]:
        return None
    return f"{real}#{attribute}" if attribute else real


def same_name(path: str) -> tuple[str, ...]:
    """What bears the name of data that has a name only (`digits`) and lies in the working folder."""
    place, _ = split_attribute(path)
    is_other = Path(place).exists() and absolute_path(path) is None
    return (f"what lies at {str(Path(place).resolve())!r} (give its whole path for it)",) if is_other else ()


def canonical_path(path: str) -> str:
    """The one spelling of where data lies: relative within the working folder, else absolute; names as they are."""
    absolute = absolute_path(path)
    if absolute is None or not Path(absolute).is_relative_to(Path.cwd()):
        return absolute or path
    relative = str(Path(absolute).relative_to(Path.cwd()))
    return relative if relative == path or absolute_path(relative) == absolute else absolute


def pictures_of(kind: str, path: str, attribute: str) -> Source:
    """The pictures of data of that kind, with two classes where there is an attribute."""
    pictures = FORMATS[kind].pictures
    if pictures is None:
        raise ValueError(f"{path}: {kind}; expected images that are still to be decoded")
    return by_attribute(pictures(path), attribute) if attribute else pictures(path)


def is_encoded(path: str) -> bool:
    """Whether nothing at a path is left to be decoded: latents, or images in shards."""
    try:
        kind, _, _ = recognise(path)
    except ValueError:
        return False
    return FORMATS[kind].pictures is None
