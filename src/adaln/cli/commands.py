"""`adaln VERB ...`: finds the verb, runs it, prints its output, turns what a user got wrong into one line."""

import json
import os
import shlex
import shutil
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path

from adaln.cli.help import UNKNOWN_WIDTH
from adaln.cli.output import SILENT, Output
from adaln.cli.progress_bar import show_progress
from adaln.codec import encode
from adaln.folding import folded
from adaln.launchers import refuse_other_launchers
from adaln.registry import Registry
from adaln.version import __version__

INTERNAL = 70
"""Exit code of what should not happen whatever a user gives, as `sysexits.h` has it."""


@dataclass(frozen=True, slots=True)
class Verb:
    """Where a command is: `NAME_verb` in a module of `adaln.cli`, imported when asked for, so that help is quick."""

    module: str
    words: str
    """What follows the command's name."""
    help: str
    kept: str = "nothing is half written"
    """What a stop leaves."""


VERBS: Registry[Verb] = Registry(
    "command",
    {
        "train": Verb(
            "training", "PRESET|RUN", "train a run, or go on with it", "checkpoints and scores that are whole are kept"
        ),
        "encode": Verb(
            "encoding",
            "SOURCE OUT",
            "pictures to a memory-mapped set of latents or bytes",
            "shards that are whole are kept",
        ),
        "data": Verb("encoding", "inspect PATH", "what a data set is, which classes, whether it is intact"),
        "sample": Verb("scoring", "RUN", "draw images: ADM's npz and a grid", "images that were drawn so far are kept"),
        "evaluate": Verb(
            "scoring",
            "SAMPLES --reference REF",
            "FID, sFID, IS, precision and recall with intervals",
            "drawn samples and a trained classifier are kept; scores are written when they are whole",
        ),
        "loss": Verb("losses", "RUN...", "denoising loss on pictures held out of training, runs beside each other"),
        "sweep": Verb(
            "sweeping",
            "RUN",
            "guidance x weights x steps: which way of sampling scores best",
            "scores of ways that are done are kept",
        ),
        "stats": Verb(
            "scoring",
            "SOURCE OUT.npz",
            "statistics of a reference, to score against again and again",
            "a classifier that was trained is kept, statistics are written when they are whole",
        ),
        "runs": Verb(
            "running", "[FOLDER]", "all runs at a glance: scheme, step, loss, score, size; --clean: what can go"
        ),
        "compare": Verb(
            "comparing", "RUN RUN...", "configs, losses and scores side by side, and what makes scores differ"
        ),
        "study": Verb(
            "studying",
            "NAME",
            "all the runs of a question, its table and its page",
            "runs and scores that are finished are kept",
        ),
        "choose": Verb(
            "studying",
            "PRESET --budget 2h",
            "which start serves best: as many seeds as the answer takes",
            "runs and scores that are finished are kept",
        ),
        "search": Verb(
            "studying",
            "PRESET --over ROLE",
            "the std of gate, scale and shift that serves best (Optuna)",
            "trials that are finished are kept",
        ),
        "report": Verb("reporting", "RUN-OR-STUDY", "its page, and every table and picture of it as a file"),
        "audit": Verb("auditing", "MODEL", "where anyone's conditioning lives, how it was started, its pitfalls"),
        "distributions": Verb("analysing", "RUN-OR-FILE...", "moments, fits, entropies and histograms of weights"),
        "fit": Verb("analysing", "RUN-OR-FILE", "a start measured from a pilot run: a file for train --scheme"),
        "order": Verb("ordering", "MODEL --scheme S", "which weights move at which iteration, measured (Table 1)"),
        "coord-check": Verb(
            "coordinates", "PRESET --widths 64,128,256", "sizes of activations and updates over the width: muP's check"
        ),
        "explain": Verb(
            "analysing", "RUN [RUN2]", "gates and residual stream by depth and time, the way to another run"
        ),
        "import": Verb("weights", "FILE --model NAME", "a run out of released weights"),
        "export": Verb("weights", "RUN --out FILE", "the averaged weights of a run for other programs"),
        "push": Verb("pushing", "RUN ORG/NAME", "a run to the hub of Hugging Face: weights, scores and a card"),
        "bench": Verb("benching", "NAME", "speed beside a public peer and the machine's own limits, in one run"),
        "families": Verb("listings", "[NAME]", "how every known network conditions: chunks, functions, starts"),
        "schemes": Verb("listings", "", "the conditioning schemes: how gate, scale and shift start"),
        "models": Verb("listings", "[NAME]", "the networks: parameters and multiply-adds"),
        "presets": Verb("listings", "", "the presets of train, and the processes"),
        "completion": Verb("completion", "bash|zsh|fish", "a script by which a shell completes commands and flags"),
    },
)


EXTRAS = {
    "datasets": "datasets",
    "diffusers": "diffusers",
    "huggingface_hub": "hub",
    "httpx2": "hub",
    "lightning": "lightning",
    "mlflow": "mlflow",
    "optuna": "search",
    "submitit": "cluster",
    "tensorboard": "tensorboard",
    "timm": "features",
    "torchdiffeq": "ode",
    "trackio": "trackio",
    "transformers": "features",
    "wandb": "wandb",
}
"""Libraries that only some of the work needs, and the extra that brings each."""

WITH_MODEL = ("train", "choose", "search", "coord-check", "import", "schemes", "bench")
"""Commands whose --model says what is made; to all others it gives the code of networks that runs name."""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `adaln`.

    Exit codes: 0 done, 2 bad input, damage, a full disk or no memory, 70 a fault of ours, 130 stopped (and saved).
    """
    if isinstance(sys.stdout, TextIOWrapper):  # a name of a file may be no text, and a terminal not know a sign
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _do(list(sys.argv[1:] if argv is None else argv))
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - closed with the process
    except KeyboardInterrupt as stop:  # `Stopped` is one, and says what was saved
        _fail(128 + signal.SIGINT, f"{stop or 'stopped'}; go on with the same command")
    except Exception as error:
        if os.environ.get("ADALN_TRACEBACK"):
            traceback.print_exc()
        _fail(*_code_and_line(error))


def _do(words: list[str]) -> None:
    refuse_empty(words)
    as_json, is_quiet = "--json" in words, "--quiet" in words
    words = [word for word in words if word not in ("--json", "--quiet")]
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    if not words or words[0] in ("-h", "--help", "--help-all"):
        print(_help())
        return
    if words[0] == "--version":
        print(__version__)
        return
    output = _output_of(words, is_quiet)
    if output is SILENT:
        return
    if as_json:
        print(json.dumps(encode(output.data, finite=True), indent=1, allow_nan=False))
    else:
        output.show()
    if output.failure:
        raise ValueError(output.failure)


def refuse_empty(words: Sequence[str]) -> None:
    """ValueError for a word of nothing, which as a path would be the working folder."""
    for before, word in zip(["", *words], words, strict=False):
        flag, equals, value = word.partition("=")
        if not word.strip() or (equals and flag.startswith("--") and not value.strip()):
            option = flag if equals else before if before.startswith("--") else ""
            raise ValueError(
                f"{option} expects a value" if option else "an empty word names nothing; expected a path or a name"
            )


def _output_of(words: Sequence[str], is_quiet: bool = False) -> Output:
    """What a verb gives back; `ValueError` where it would be done by each of several processes."""
    module = VERBS[words[0]].module
    if module != "listings":
        refuse_other_launchers(f"--no-python adaln {shlex.join(words)}")
    if words[0] not in WITH_MODEL and any(word.startswith("--model") for word in words):
        from adaln.cli.options import take_factories

        words = [words[0], *take_factories(words[1:])]
    verb = f"{words[0].replace('-', '_')}_verb"
    with nullcontext() if is_quiet else show_progress() as shown:
        try:
            output: Output = getattr(import_module(f"adaln.cli.{module}"), verb)(words[1:])
        except KeyboardInterrupt as stop:
            so_far = shown.so_far() if shown else ""
            raise stop if str(stop) else KeyboardInterrupt(f"stopped{so_far}; {VERBS[words[0]].kept}") from None
    return output


def _code_and_line(error: Exception) -> tuple[int, str]:
    """What was wrong with what a user gave; all else is a fault of ours, and never called theirs.

    Whoever reads a foreign file makes a `ValueError` with its name of what a library raises (`adaln.files.reading`).
    """
    words = " ".join(str(error).split())
    package = str(getattr(error, "name", "")).partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and package in EXTRAS:
        return 2, f"error: this needs {package}: pip install 'adaln[{EXTRAS[package]}]'"
    if isinstance(error, ValueError | OSError):
        return 2, f"error: {words}"
    kind = type(error).__name__
    if isinstance(error, MemoryError) or kind == "OutOfMemoryError" or "can't allocate memory" in words:  # or torch's
        return 2, f"error: out of memory ({words or kind})"
    at = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{'/'.join(Path(at.filename).parts[-3:])}, line {at.lineno}"
    return INTERNAL, f"internal error, a fault of adaln: {kind}: {words} ({where}); ADALN_TRACEBACK=1 shows all of it"


def _fail(code: int, line: str) -> None:
    printable = (character if character.isprintable() else ascii(character)[1:-1] for character in line)
    print(f"adaln: {''.join(printable)}", file=sys.stderr)
    raise SystemExit(code)


def _help() -> str:
    """All commands, and what holds for each of them."""
    width = shutil.get_terminal_size((UNKNOWN_WIDTH, 0)).columns
    titles = [f"  {name} {verb.words}".rstrip() for name, verb in VERBS.items()]
    beside = max(map(len, titles)) + 2
    lines = [
        folded(verb.help, max(width, 2 * beside), title.ljust(beside), " " * beside)
        for title, verb in zip(titles, VERBS.values(), strict=True)
    ]
    return "\n".join(
        [
            "adaln: train, sample, score, analyse and compare diffusion transformers under every conditioning scheme",
            "",
            "usage: adaln COMMAND [...] [--json] [--quiet]      (adaln help COMMAND: its options and examples)",
            "",
            *lines,
            "",
            "--json prints one JSON document to standard output and nothing else; progress goes to standard error.",
            "--quiet says nothing but what goes wrong. ADALN_TRACEBACK=1 shows where an error came from.",
        ]
    )
