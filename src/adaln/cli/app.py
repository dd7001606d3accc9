"""`adaln VERB ...`: finds the verb, runs it, prints its answer, turns what a user got wrong into one line."""

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence

import adaln
from adaln.cli.answer import Answer
from adaln.cli.catalogue import models_verb, presets_verb, schemes_verb
from adaln.cli.scoring import compare_verb, evaluate_verb
from adaln.cli.studying import report_verb, study_verb
from adaln.cli.training import sample_verb, train_verb
from adaln.cli.weights import export_verb, import_verb
from adaln.registry import Registry
from adaln.training import Stopped

Verb = Callable[[list[str]], Answer]
"""From the words after the verb to an answer; its docstring's first line is the verb's help."""

VERBS: Registry[Verb] = Registry(
    "command",
    {
        "train": train_verb,
        "sample": sample_verb,
        "evaluate": evaluate_verb,
        "compare": compare_verb,
        "study": study_verb,
        "report": report_verb,
        "import": import_verb,
        "export": export_verb,
        "schemes": schemes_verb,
        "models": models_verb,
        "presets": presets_verb,
    },
)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `adaln`. Exit codes: 0 done, 2 bad input or a full disk, 130 stopped (and saved)."""
    words = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in words
    words = [word for word in words if word != "--json"]
    try:
        if not words or words[0] in ("-h", "--help"):
            print(_help())
            return
        if words[0] == "--version":
            print(adaln.__version__)
            return
        answer = VERBS[words[0]](words[1:])
        if as_json:
            print(json.dumps(answer.data, indent=1, allow_nan=False))
        else:
            answer.show()
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - closed with the process
    except Stopped as stopped:
        _fail(130, f"{stopped}; go on with the same command")
    except KeyboardInterrupt:
        _fail(128 + signal.SIGINT, "interrupted; go on with the same command")
    except (ValueError, OSError) as error:
        if os.environ.get("ADALN_TRACEBACK"):
            traceback.print_exc()
        _fail(2, f"error: {' '.join(str(error).split())}")


def _fail(code: int, line: str) -> None:
    print(f"adaln: {line}", file=sys.stderr)
    raise SystemExit(code)


def _help() -> str:
    lines = [f"  {name:<10} {(verb.__doc__ or '').splitlines()[0]}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            "adaln: train, sample, score, analyse and compare diffusion transformers under every conditioning scheme",
            "",
            "usage: adaln COMMAND [...] [--json]      (adaln COMMAND --help tells its options)",
            "",
            *lines,
            "",
            "--json prints one JSON document to standard output and nothing else; progress goes to standard error.",
            "ADALN_TRACEBACK=1 shows where an error came from.",
        ]
    )
