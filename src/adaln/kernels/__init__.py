"""A small transformer, its loss and its update in C, made by the machine's own compiler when first needed."""

import ctypes
import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adaln.files import atomic_file, default_cache, file_sha256, write_atomically
from adaln.progress import note

SOURCES = [
    Path(__file__).with_name(name) for name in ("step.c", "loss.c", "update.c", "network.c", "block.c", "vectors.h")
]
"""Each takes in the next."""
LANES, MOST = 16, 64
"""What a width is a multiple of; tokens of a sample and channels of a head, at most: as block.c has them."""
IS_X86 = platform.machine() in ("x86_64", "AMD64")
NATIVE = "-march=native -mprefer-vector-width=512" if IS_X86 else "-mcpu=native"
FLAGS = f"-O3 {NATIVE} -fno-math-errno -fno-trapping-math -Wno-psabi -fPIC -shared"

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""
PLAIN = Tensor, nn.Parameter
"""Kinds of tensors whose values lie where they say."""
Argument = Tensor | int | None | Sequence[Tensor | int | None] | ctypes.Array[Any]


def call(name: str, *given: Argument) -> int:
    """A function of the loops, on tensors whose values it reads and writes from their first on, sequences, sizes."""
    return function(name, len(given))(*map(word, given))


def fit(tensors: Sequence[Tensor]) -> bool:
    """Whether the loops can read these tensors: contiguous float32 on the CPU."""
    return all(
        one.is_cpu and one.dtype is torch.float32 and type(one) in PLAIN and one.is_contiguous() for one in tensors
    )


def word(one: Argument) -> Any:
    """An address or a size; of a sequence an array of them, which stands for itself; 0 for nothing."""
    if isinstance(one, Tensor):
        return one.data_ptr()
    if isinstance(one, ctypes.Array):
        return one
    if one is None or isinstance(one, int):
        return one or 0
    return (ctypes.c_size_t * len(one))(*map(word, one))


@cache
def function(name: str, num_arguments: int) -> Callable[..., int]:
    """By name; pointers and sizes are words of one width."""
    loop = getattr(library(), name)
    loop.argtypes, loop.restype = [ctypes.c_void_p] * num_arguments, ctypes.c_ssize_t
    made: Callable[..., int] = loop
    return made


@cache
def have_kernels() -> bool:
    """Whether they can be had here; where not, standard error says why, once."""
    try:
        library()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        words = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[0]
        sys.stderr.write(f"adaln: going on without compiled loops, which cannot be made here: {words}\n")
        return False
    return True


@cache
def library() -> ctypes.PyDLL:
    """The compiled loops; from the cache where source, compiler and processor are those that they were made for."""
    compiler = os.environ.get("CC", "cc")
    known = repr(([file.read_bytes() for file in SOURCES], compiler, FLAGS, processor()))
    path = default_cache() / "kernels" / f"{hashlib.sha256(known.encode()).hexdigest()[:24]}.so"
    digest = path.with_suffix(".sha256")  # a damaged library would end the process that loads it
    if not (path.exists() and digest.exists() and digest.read_text() == file_sha256(path)):
        note("compiling the loops of small networks for this processor, once")
        with atomic_file(path) as made:
            command = [*compiler.split(), *FLAGS.split(), "-o", str(made), str(SOURCES[0]), "-lm"]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        write_atomically(digest, file_sha256(path))
    keep_freed_memory()
    return ctypes.PyDLL(str(path))


def keep_freed_memory() -> None:
    """Let glibc give back no memory below 32 MiB, nor less than 64 MiB at a time: the next step takes it again."""
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 25)
        libc.mallopt(M_TRIM_THRESHOLD, 1 << 26)


def processor() -> str:
    """What `-march=native` depends on: folders of a cache are shared by machines."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else [platform.processor()]
    kinds = {line for line in lines if line.startswith(("vendor_id", "model", "cpu family", "flags", "Features"))}
    return repr((platform.machine(), sorted(kinds or set(lines))))
