"""The checkpoints of a run: folders of safetensors files, whole or not there, written beside the training.

Processes that share the rows of tensors write one file together, the very same as one process would. A safetensors file
is a header and the tensors' bytes one after the other, so the rows that a process holds are one stretch of it: the
first process lays the file out, then each writes its stretches. Nothing is gathered, nothing is pickled, and any number
of processes reads the file again.
"""

import json
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import torch
from torch import Tensor, nn

from adaln.files import atomic_folder, remove_folder
from adaln.parallel import barrier, fill, from_first, is_sharded, own, own_rows, rank
from adaln.tensor_files import DTYPES, is_whole, load_tensors, misfit, save_tensors

FILES = ("model.safetensors", "ema.safetensors", "training.safetensors")
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Shard(NamedTuple):
    """The rows of a tensor that one process writes."""

    rows: Tensor
    start: int
    shape: torch.Size
    """Of the whole."""


Save = Callable[[Path, Mapping[str, Mapping[str, Shard]], Mapping[str, str]], None]
"""Writes a folder of files, each with the metadata."""


class Checkpoints:
    """Folders of `FILES` by step under `root`; the newest `keep` (0: all) and those of the steps `keep_at` stay.

    A thread writes one checkpoint at a time from a copy in host memory, which stays allocated for the next one. Nothing
    that was written is touched until what is newer is whole.
    """

    def __init__(self, root: Path, keep: int, keep_at: Collection[int]) -> None:
        self.root, self.keep, self.keep_at = root, keep, keep_at
        self._copies: dict[tuple[str, str], Tensor] = {}
        self._thread: Thread | None = None
        self._failure: Exception | None = None

    def folder(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.root / f"{step:09d}"

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, ascending; waits for the one that is being written."""
        self.settle()
        return self._whole()

    def load(self, step: int) -> dict[str, dict[str, Tensor]]:
        """The tensors of a checkpoint by file and name."""
        return {Path(name).stem: load_tensors(self.folder(step) / name) for name in FILES}

    def save(self, step: int, files: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Copy `files` and begin to write them; what an interrupted save left at that step is replaced.

        Waits for the save before this one and raises what went wrong with it. Sharded tensors are written by all
        processes, each its own rows.
        """
        self.settle()
        shards = {file: self._copied(file, tensors) for file, tensors in files.items()}
        all_tensors = [tensor for tensors in files.values() for tensor in tensors.values()]
        for device in {tensor.device for tensor in all_tensors if tensor.is_cuda}:
            torch.cuda.synchronize(device)  # so far the copies are only queued
        save = save_sharded if any(map(is_sharded, all_tensors)) else save_whole
        self._thread = Thread(target=self._write, args=(step, save, shards), name="checkpoint")
        self._thread.start()

    def raise_failure(self) -> None:
        """Raise what went wrong with a save, once: `OSError` where the disk is full. Waits for nothing."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def wait(self) -> None:
        """Wait until nothing is being written."""
        if self._thread is not None:
            self._thread.join()

    def settle(self) -> None:
        """Wait until nothing is being written, then raise what went wrong."""
        self.wait()
        self.raise_failure()

    def _copied(self, file: str, tensors: Mapping[str, Tensor]) -> dict[str, Shard]:
        """What this process writes of a file: of tensors that all have whole the first process all, the others nothing.

        Copied to the host memory of the save before: new pages cost more than the copying.
        """
        shards = {}
        for name, tensor in tensors.items():
            rows = own(tensor)
            if (file, name) not in self._copies:
                self._copies[file, name] = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=rows.is_cuda)
            copy = self._copies[file, name].copy_(rows, non_blocking=rows.is_cuda)
            written = copy[:0] if rank() and copy.ndim and not is_sharded(tensor) else copy
            shards[name] = Shard(written, own_rows(tensor).start, tensor.shape)
        return shards

    def _write(self, step: int, save: Save, files: Mapping[str, Mapping[str, Shard]]) -> None:
        try:
            folder = self.folder(step)
            if rank() == 0:
                remove_folder(folder)  # there only if it was found incomplete
            save(folder, files, {"format": "pt", "step": str(step)})
            if rank() == 0:
                self._drop_old()
        except Exception as error:  # raised where the run can hear of it
            self._failure = error

    def _whole(self) -> list[int]:
        folders = [path for path in self.root.iterdir() if path.name.isdigit()] if self.root.is_dir() else []
        return sorted(int(path.name) for path in folders if all(is_whole(path / file) for file in FILES))

    def _drop_old(self) -> None:
        for step in self._whole()[: -self.keep] if self.keep else ():
            if step not in self.keep_at:
                remove_folder(self.folder(step))


def save_whole(folder: Path, files: Mapping[str, Mapping[str, Shard]], metadata: Mapping[str, str]) -> None:
    """Write `folder` with a safetensors file per entry of `files`, whole or not at all, by this process."""
    with atomic_folder(folder) as temporary:
        for name, shards in files.items():
            tensors = {key: shard.rows for key, shard in shards.items()}
            save_tensors(temporary / f"{name}.safetensors", tensors, metadata)


def save_sharded(folder: Path, files: Mapping[str, Mapping[str, Shard]], metadata: Mapping[str, str]) -> None:
    """Write `folder` with a safetensors file per entry of `files`, whole or not at all; every process calls it.

    Raises `OSError` where this process's disk is full; the others then wait until torchrun ends them.
    """
    with shared_folder(folder) as temporary:
        layouts = {temporary / f"{name}.safetensors": lay_out(shards, metadata) for name, shards in files.items()}
        if rank() == 0:
            for path, (header, _, num_bytes) in layouts.items():
                path.write_bytes(header)
                os.truncate(path, num_bytes)
        barrier()
        for (path, (_, begins, _)), shards in zip(layouts.items(), files.values(), strict=True):
            write_shards(path, begins, shards)


@contextmanager
def shared_folder(path: Path) -> Iterator[Path]:
    """A temporary folder for all processes, which becomes `path` when the block ends well in each of them."""
    if rank() == 0:
        with atomic_folder(path) as temporary:
            yield from_first(lambda: temporary)
            barrier()
    else:
        yield from_first(lambda: path)
        barrier()
    barrier()  # whoever returns finds it


def lay_out(shards: Mapping[str, Shard], metadata: Mapping[str, str]) -> tuple[bytes, dict[str, int], int]:
    """The header of a file of the whole tensors, where in the file each of them begins, and where the file ends.

    Wider types come first, then by name, as the format's own writer has it.
    Source: https://huggingface.co/docs/safetensors, section "Format".
    """
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    begins, end = {}, 0
    for name in sorted(shards, key=lambda name: (-shards[name].rows.element_size(), name)):
        rows, _, shape = shards[name]
        begins[name], end = end, end + rows.element_size() * math.prod(shape)
        entries[name] = {"dtype": DTYPE_NAMES[rows.dtype], "shape": list(shape), "data_offsets": [begins[name], end]}
    content = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    content += b" " * (-len(content) % 8)
    header = len(content).to_bytes(8, "little") + content
    return header, {name: len(header) + begin for name, begin in begins.items()}, len(header) + end


def write_shards(path: Path, begins: Mapping[str, int], shards: Mapping[str, Shard]) -> None:
    """Write this process's rows where they begin in the file."""
    with path.open("r+b") as file:
        for name, (rows, start, shape) in shards.items():
            if rows.ndim or rank() == 0:
                file.seek(begins[name] + start * rows.element_size() * math.prod(shape[1:]))
                file.write(rows.contiguous().flatten().view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Load a state dict strictly; `ValueError` lists what is missing, unexpected or of another shape."""
    own = module.state_dict()
    wrong = misfit(own, tensors)
    if wrong:
        raise ValueError(f"{origin} does not fit the model: {wrong}")
    for name, tensor in own.items():
        fill(tensor, tensors[name])
