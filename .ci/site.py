"""What the documentation's site has beyond docs/: pages made from the code, and links to files that lie elsewhere."""

import io
import os
import re
from contextlib import redirect_stdout, suppress
from functools import cache
from typing import Any

import griffe
from mkdocs.structure.files import File, Files

SOURCE = "https://github.com/adaln/adaln/blob/main/"
OUTSIDE = re.compile(r"\]\((?:\.\./)+((?:benchmarks|examples|findings|tests|src|[A-Z]+\.(?:md|cff))[^)]*)\)")
EXAMPLE = re.compile(r"(?:^|(?<=\n\n))>>> .*?(?=\n\n|\Z)", re.DOTALL)
os.environ["COLUMNS"] = "100"


class Examples(griffe.Extension):
    """Examples in docstrings are shown as programs."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """See griffe."""
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)


def on_files(files: Files, config: Any) -> Files:
    """Adds the references of commands and of Python's names."""
    files.append(File.generated(config, "commands.md", content=commands()))
    files.append(File.generated(config, "reference.md", content=reference()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to files outside docs/ lead to the repository."""
    return OUTSIDE.sub(rf"]({SOURCE}\1)", markdown)


@cache
def commands() -> str:
    """Every command with all that its help says."""
    from adaln.cli.commands import VERBS

    parts = ["# Commands", "Made from the code: what `adaln COMMAND --help-all` prints.", fenced([])]
    for name, verb in VERBS.items():
        parts += [f"## adaln {name}", f"`adaln {f'{name} {verb.words}'.strip()}`: {verb.help}.", fenced([name])]
    return "\n\n".join(parts) + "\n"


def fenced(words: list[str]) -> str:
    """A command's help as a block of text."""
    from adaln.cli import main

    with redirect_stdout(io.StringIO()) as shown, suppress(SystemExit):
        main([*words, "--help-all" if words else "--help"])
    return f"```text\n{shown.getvalue().strip()}\n```"


@cache
def reference() -> str:
    """The docstring of every name of `import adaln`."""
    import adaln

    names = [name for name in adaln.__all__ if not name.startswith("_")]
    head = "# Python reference\n\nThe names of `import adaln`; [From Python](python.md) shows them at work."
    return "\n\n".join([head, *(f"::: adaln.{name}" for name in names)]) + "\n"
