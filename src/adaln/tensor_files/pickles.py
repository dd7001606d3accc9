"""What `torch.save` wrote, read without running anything: tensors as they are, whatever else lies beside them inert."""

import pickle
import pickletools
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from adaln.tensor_files.content import what_is

ACTING_MODULES = {
    *(
        "os",
        "posix",
        "nt",
        "sys",
        "subprocess",
        "shutil",
        "importlib",
        "runpy",
        "pty",
        "socket",
        "ctypes",
        "webbrowser",
    ),
    *("commands", "code", "codeop", "pdb", "timeit", "pickle", "marshal", "multiprocessing", "asyncio", "urllib"),
}
ACTING_CALLS = {"eval", "exec", "compile", "open", "__import__", "input", "breakpoint", "setattr", "delattr"}
_BUILTINS = ("builtins", "io", "_io")


class Inert:
    """What stands for an object of a class that is neither torch's nor numpy's: its attributes, and nothing that acts.

    >>> vars(Inert.of("omegaconf.DictConfig")())
    {}
    """

    stands_for = ""

    def __new__(cls, *arguments: Any) -> "Inert":
        return super().__new__(cls)

    def __init__(self, *arguments: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        for part in state if isinstance(state, tuple) else (state,):  # with slots a pair
            if isinstance(part, Mapping):
                self.__dict__.update({name: value for name, value in part.items() if isinstance(name, str)})

    @classmethod
    def of(cls, stands_for: str) -> "type[Inert]":
        """A class of its own: torch asks of which one an object is."""
        return type("Inert", (cls,), {"stands_for": stands_for})


def load_pickle(file: Path) -> Mapping[str, Any]:
    """What a file of `torch.save` holds by name, memory-mapped; of a whole pickled network its tensors by name.

    Numbers and arrays of numpy are read, other objects are `Inert`. Raises `ValueError` in one line for a file that is
    damaged, foreign, or would act when it is unpickled.
    """
    if words := what_is(file):
        raise ValueError(f"{str(file)!r} is {words}; expected weights (safetensors, or a file of torch.save)")
    try:
        status = file.stat()
        changed = _changed_part(file, status.st_size, status.st_mtime_ns)
        names = [] if changed else sorted(_globals(file))
    except Exception:  # pickletools and zipfile meet foreign bytes in nearly any way, and so does torch
        raise _damaged(file) from None
    if changed:
        raise ValueError(f"{str(file)!r} is damaged: {changed!r} in it is not what was written (CRC-32); copy it again")
    refuse_acting(file, names)
    try:
        loaded = _load(file, names)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{str(file)!r} cannot be read as weights alone: {_in_our_words(str(error))}") from None
    except Exception:
        raise _damaged(file) from None
    if isinstance(loaded, Inert):
        loaded = dict(module_tensors(loaded))
    if not isinstance(loaded, Mapping) or not loaded:
        raise ValueError(f"{str(file)!r} holds a {type(loaded).__name__}; expected tensors by name")
    return loaded


@cache
def _changed_part(file: Path, size: int, mtime_ns: int) -> str:
    """What in a zip of `torch.save` is not what was written, which torch does not look at; "" if nothing.

    500 MB take 0.5 s. Where no sums were computed (`torch.serialization.set_crc32_options`) they are 0.
    """
    if not zipfile.is_zipfile(file):
        return ""
    with zipfile.ZipFile(file) as archive:
        return (any(entry.CRC for entry in archive.infolist()) and archive.testzip()) or ""


def _damaged(file: Path) -> ValueError:
    return ValueError(f"{str(file)!r} is no file that torch.save wrote, or a damaged one")


def _globals(file: Path) -> Iterator[str]:
    """What the pickle calls, by Python 3's names (protocol 2 writes Python 2's), read without loading any of it."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            [member] = [entry for entry in archive.infolist() if entry.filename.endswith("data.pkl")]
            if not member.CRC:  # its sum was not computed, so there is none to hold it against
                del member.CRC
            yield from _globals_of(pickletools.genops(archive.read(member)))
        return
    with file.open("rb") as opened:
        for _ in range(5):  # of torch before 1.6: magic number, protocol, system, the object, keys of its storages
            yield from _globals_of(pickletools.genops(opened))


def _globals_of(codes: Iterable[tuple[Any, Any, Any]]) -> Iterator[str]:
    strings: list[str] = []
    for code, argument, _ in codes:
        if isinstance(argument, str) and "UNICODE" in code.name:
            strings.append(argument)
        elif code.name == "GLOBAL":
            module, _, word = str(argument).partition(" ")
            yield ".".join(NAME_MAPPING.get((module, word), (IMPORT_MAPPING.get(module, module), word)))
        elif code.name == "STACK_GLOBAL" and len(strings) > 1:
            yield ".".join(strings[-2:])


def refuse_acting(file: Path, names: list[str]) -> None:
    """ValueError naming what of these would run commands or change files."""
    for name in names:
        module, _, word = name.rpartition(".")
        if module.partition(".")[0] in ACTING_MODULES or (module in _BUILTINS and word in ACTING_CALLS):
            raise ValueError(f"{str(file)!r} would call {name!r} when it is unpickled; code is never run from a file")


def _load(file: Path, names: list[str]) -> Any:
    """Inert objects have attributes; where the file fills one like a dictionary or a list, they are that instead."""
    failure = pickle.UnpicklingError("")
    for make in (Inert.of, _container_of):
        stand_ins = {name: make(name) for name in names} | _harmless()
        try:
            with torch.serialization.safe_globals([(stand_in, name) for name, stand_in in stand_ins.items()]):
                return _load_mapped(file)
        except pickle.UnpicklingError as error:
            failure = error
    raise failure


def _container_of(name: str) -> Callable[..., Any]:
    if name.endswith((".deque", "ListConfig", ".UserList")):
        return lambda *arguments: []
    return type("Container", (), {"__new__": lambda cls, *arguments: OrderedDict()})


def _harmless() -> dict[str, Any]:
    """The command line as argparse has it, and what numpy's numbers and arrays are made of, by old and new names."""
    made_by = {"_reconstruct": np.zeros(0).__reduce__()[0], "scalar": np.float64(0).__reduce__()[0]}
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    makers = {f"{module}.{name}": maker for module in modules for name, maker in made_by.items()}
    types = {f"numpy.dtypes.{name}": value for name, value in vars(np.dtypes).items() if isinstance(value, type)}
    return {"argparse.Namespace": Namespace, "numpy.ndarray": np.ndarray, "numpy.dtype": np.dtype, **types, **makers}


def _load_mapped(file: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's are advice to developers
        try:
            return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, SafetensorError):  # of torch before 1.6, not mapped; or by its name taken for safetensors
            with file.open("rb") as opened:
                return torch.load(opened, map_location="cpu", weights_only=True)


def _in_our_words(error: str) -> str:
    """Why torch refused, without its advice to run code and its colours."""
    if "DTensor" in error or "distributed.tensor" in error:
        return "its tensors are spread over processes (DTensor); save them after full_tensor()"
    if "operand" in error:
        return "it was saved with a pickle_protocol above 2; torch.save without one writes what is read safely"
    if "persistent_load" in error:
        return "a network was pickled whole, as torch before 1.6 did it; save its state_dict()"
    if "call reduce" in error:
        return "it calls functions that it looks up itself, and code is never run from a file"
    return "an object in it is built in a way that only its own code knows"


def module_tensors(module: object, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Parameters and buffers of a network that was pickled whole, by the names of its state_dict()."""
    parts = vars(module)
    for name, value in ({**parts.get("_parameters", {}), **parts.get("_buffers", {})}).items():
        yield f"{prefix}{name}", value
    for name, child in parts.get("_modules", {}).items():
        if hasattr(child, "__dict__"):
            yield from module_tensors(child, f"{prefix}{name}.")
