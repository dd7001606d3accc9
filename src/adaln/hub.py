"""Models on the hub of Hugging Face by name: `hf:ORG/NAME`, `hf:ORG/NAME/FOLDER-OR-FILE`, each with `@REVISION`.

Of a repository safetensors and JSON files are fetched into the hub's own cache, and nothing else; no code of it is run.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from adaln.progress import note, progress

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoSibling

PREFIX = "hf:"
READ = (".safetensors", ".json", ".jsonl")
"""What files that are fetched end in."""
_NAME = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?P<inside>(?:/[^/@]+)*)/?(?:@(?P<revision>\S+))?")
_REPO = re.compile(r"[\w.-]+/[\w.-]+")
EXPORT = "transformer"
"""The folder of a network in a repository, as diffusers has it."""
FOLDERS = ("checkpoints", "samples", "scores", EXPORT)
"""Folders of a run that a push writes, and what lies in them."""
_HALF = re.compile(r"[._-](?:fp16|bf16|fp8\w*|float8\w*)(?=[._-])")
"""What the name of a variant in fewer bits has in it; it is left out where the plain one lies beside it."""


class NotThere(ValueError):
    """The hub has no model of that name, or cannot be asked for one."""


@dataclass(frozen=True, slots=True)
class HubName:
    """What `hf:ORG/NAME/INSIDE@REVISION` says."""

    repo: str
    inside: str = ""
    revision: str | None = None

    def __str__(self) -> str:
        inside, revision = self.inside and f"/{self.inside}", f"@{self.revision}" if self.revision else ""
        return f"{PREFIX}{self.repo}{inside}{revision}"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A repository, or a part of it, as it lies in the hub's cache."""

    name: HubName
    """With the commit as its revision."""
    path: Path


def hub_name(name: str) -> HubName:
    """The name, read; `ValueError` where it is none."""
    if not (match := _NAME.fullmatch(name)):
        raise ValueError(
            f"{name!r} names nothing on the hub; expected hf:ORG/NAME, hf:ORG/NAME/FOLDER or hf:ORG/NAME@REVISION"
        )
    return HubName(match["repo"], match["inside"].strip("/"), match["revision"])


def fetch(name: HubName) -> Fetched:
    """What the hub has under that name, in its cache: of a network the files that hold it, of a run all of it.

    How much is to be fetched is noted before it is. Where the hub cannot be reached, what was fetched before is taken,
    which is noted as well. Raises `ValueError` in one line for what is missing, gated or not to be read.
    """
    api = client()
    with asking(name):
        try:
            info = api.model_info(name.repo, revision=name.revision, files_metadata=True)
        except Exception as error:
            if isinstance(error, _unreachable()):
                return _kept(name, api, error)
            raise
        assert info.sha is not None
        pinned = HubName(name.repo, name.inside, info.sha)
        wanted = chosen(name, info.siblings or [])
        folder = _download(api, pinned, wanted, name.revision)
    return Fetched(pinned, folder / name.inside)


def chosen(name: HubName, files: Sequence["RepoSibling"]) -> list["RepoSibling"]:
    """The files to be fetched: of a run all, else those in the folder, or in `transformer/` where no weights lie there.

    `ValueError` where nothing is to be read, saying what there is.
    """
    if {_path(file) for file in files} <= {".gitattributes", "README.md"}:
        raise ValueError(f"{name} is empty: nothing was pushed, or a push was stopped before its end")
    root = PurePosixPath(name.inside)
    paths = {PurePosixPath(_path(file)): file for file in files}
    inside = {path: file for path, file in paths.items() if path.is_relative_to(root)}
    if not inside:
        folders = ", ".join(sorted({str(path.parent) for path in paths} - {"."}))
        raise ValueError(f"{name} does not exist; folders of the repository: {folders or 'none'}")
    readable = {path: file for path, file in inside.items() if path.suffix in READ}
    if root / "manifest.json" in readable and any(path.is_relative_to(root / "checkpoints") for path in readable):
        return [file for path, file in readable.items() if not path.is_relative_to(root / EXPORT)]
    for folder in (root, root / EXPORT):
        here = {path: file for path, file in readable.items() if folder in (path, path.parent)}
        weights = {str(path) for path in here if path.suffix == ".safetensors"}
        if weights:
            twins = {path for path in here if (plain := _HALF.sub("", str(path))) != str(path) and plain in weights}
            return [file for path, file in here.items() if path not in twins]
    pickles = sorted({path.suffix for path in inside} & {".bin", ".pt", ".pth", ".ckpt"})
    why = f"; {' and '.join(pickles)} files, which may hold code, are never fetched" if pickles else ""
    raise ValueError(f"{name} holds no .safetensors file, there or in {EXPORT}/{why}")


def check_may_push(name: HubName) -> None:
    """`ValueError` where there is no such name, or no token of the hub on this machine; nothing is asked."""
    client()
    from huggingface_hub import get_token

    if not _REPO.fullmatch(name.repo):
        raise ValueError(f"{name.repo!r} is no name of a repository; expected ORG/NAME")
    if get_token() is None:
        raise ValueError(f"no token to push {name.repo} with; expected that of `hf auth login`, or one in HF_TOKEN")


def push(name: HubName, files: Mapping[str, Path | bytes], message: str, private: bool) -> HubName:
    """Put `files`, by their path there, into a model's repository, in one commit: all or nothing.

    What an earlier push left in the folders of a run and this one lacks is removed. Returns the name with the commit.
    `ValueError` in one line where the token may not write, and where the repository holds something else.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    api = client()
    with asking(name):
        api.create_repo(name.repo, private=private, exist_ok=True)
        info = api.model_info(name.repo)
        there = {*map(_path, info.siblings or [])} - {".gitattributes"}
        if there - {"README.md"} and "manifest.json" not in there:
            raise ValueError(
                f"{name.repo} holds something else ({', '.join(sorted(there)[:3])}); expected a name of its own"
            )
        add = [CommitOperationAdd(path, content) for path, content in files.items()]
        stale = [path for path in sorted(there - {*files}) if path.partition("/")[0] in FOLDERS]
        gone = [CommitOperationDelete(path) for path in stale]
        done = api.create_commit(name.repo, [*add, *gone], commit_message=message, parent_commit=info.sha)
    return HubName(name.repo, revision=done.oid)


def client() -> "HfApi":
    """The hub's own library; `ValueError` where it is not installed."""
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise ValueError("the hub needs its library: pip install 'adaln[hub]'") from error
    return HfApi(library_name="adaln")


@contextmanager
def asking(name: HubName) -> Iterator[None]:
    """In this block what the hub, its library or the network between them raise is a `ValueError` of one line."""
    try:
        yield
    except Exception as error:
        if line := _line(name, error):
            raise (NotThere if isinstance(error, _not_there()) else ValueError)(line) from error
        raise


def _line(name: HubName, error: Exception) -> str:
    """What went wrong with the hub, and the way on; "" where it was not the hub."""
    from huggingface_hub import errors, get_token

    endpoint, repo = client().endpoint, name.repo
    log_in = "expected a token that may: `hf auth login`, or HF_TOKEN"
    if isinstance(error, errors.GatedRepoError):
        return f"{repo} is gated: its terms are accepted at {endpoint}/{repo}; {log_in}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{PREFIX}{repo} has no revision {name.revision!r}; expected a branch, a tag or a commit"
    if isinstance(error, errors.RepositoryNotFoundError):
        who = "the token of this machine may not read it" if get_token() else log_in
        return f"the hub has no model {repo!r}, or it is private: {who}"
    if isinstance(error, errors.LocalEntryNotFoundError | _unreachable()):
        return _unreached(error)
    if isinstance(error, errors.HFValidationError):
        return f"{repo!r} is no name of a repository; expected ORG/NAME"
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        may_not = f"this is not allowed to whoever asks; {log_in}"
        return f"{endpoint} answers {status} for {repo}: {may_not if status in (401, 403) else 'try again later'}"
    if isinstance(error, RuntimeError) or type(error).__module__ == "hf_xet":  # whose errors are mostly bare
        why = " ".join(str(error).split())
        return f"the storage behind {endpoint} fails for {repo} ({why}); try again later, or with HF_HUB_DISABLE_XET=1"
    return ""


def _not_there() -> Any:
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

    return RepositoryNotFoundError | LocalEntryNotFoundError | _unreachable()


def _unreachable() -> Any:
    """The classes of what the library raises where there is no way to the hub."""
    import httpx2
    from huggingface_hub.errors import OfflineModeIsEnabled

    return httpx2.TransportError | OfflineModeIsEnabled


def _unreached(error: BaseException) -> str:
    """In words, with the first cause: the library calls an unreachable hub a missing file."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"the hub cannot be reached ({client().endpoint}: {' '.join(str(error).split()) or type(error).__name__})"


def _kept(name: HubName, api: "HfApi", error: Exception) -> Fetched:
    """What was fetched before, the hub being out of reach."""
    from huggingface_hub import errors

    try:
        folder = Path(api.snapshot_download(name.repo, revision=name.revision, local_files_only=True))
    except (errors.LocalEntryNotFoundError, errors.IncompleteSnapshotError):
        raise NotThere(f"{_unreached(error)}, and of {name} nothing was fetched before") from error
    pinned = HubName(name.repo, name.inside, folder.name)
    note(f"{_unreached(error)}; taken is {pinned}, fetched before")
    return Fetched(pinned, folder / name.inside)


def _download(api: "HfApi", name: HubName, files: Sequence["RepoSibling"], asked: str | None) -> Path:
    """The snapshot's folder, with the files in it; the cache learns which commit `asked` was."""
    from huggingface_hub import try_to_load_from_cache

    kept = {path: try_to_load_from_cache(name.repo, path, revision=name.revision) for path in map(_path, files)}
    lacking = [file for file in files if not isinstance(kept[_path(file)], str)]
    num_bytes = sum(file.size or 0 for file in lacking)
    size = f"fetching {num_bytes / 1e6:,.1f} MB in {len(lacking)} files" if lacking else "fetched before"
    note(f"{name}: {size}")
    bars = _bars(num_bytes)
    if lacking:
        smallest = min(files, key=lambda file: file.size or 0)
        api.hf_hub_download(name.repo, _path(smallest), revision=asked, tqdm_class=bars)
    for file in files:
        path = api.hf_hub_download(name.repo, _path(file), revision=name.revision, tqdm_class=bars)
    return Path(path.removesuffix(_path(file)))


def _path(file: "RepoSibling") -> str:
    return str(file.rfilename)


def _bars(total: int) -> Any:
    """What makes the bar of each download for the hub's library; together they are one progress."""
    context, counted = copy_context(), [0]

    class Bar:
        """What of tqdm's bars the library uses."""

        def __init__(self, **options: Any) -> None:
            self.total, self.n, self.format_dict = options.get("total"), 0, dict[str, Any]()
            self.update(options.get("initial", 0))

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, count: int) -> None:
            counted[0] += count
            context.copy().run(progress, "fetching", counted[0], total, "bytes")  # the library may have threads

        def update_transfer(self, _: int) -> None:
            """Of bytes on their way; those that have arrived are counted."""

        def set_postfix_str(self, *_: object, **__: object) -> None:
            """Of the speed, which the progress shows itself."""

        set_transfer_postfix_str = refresh = close = set_postfix_str

    return Bar
