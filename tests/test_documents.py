"""What a document says a program prints is what it prints."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRINTING = re.compile(r"```python\n(.*?)```\n```text\n(.*?)```", re.DOTALL)
ONE_PROGRAM = ("python", "README")
"""Documents whose blocks go on from each other."""


def programs(file: Path) -> list[tuple[str, str]]:
    blocks = PRINTING.findall(file.read_text(encoding="utf-8"))
    return [tuple(map("".join, zip(*blocks, strict=True)))] if file.stem in ONE_PROGRAM and blocks else blocks


EXAMPLES = [
    pytest.param(code, printed, id=f"{file.stem}-{number}")
    for file in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")))
    for number, (code, printed) in enumerate(programs(file))
]


@pytest.mark.slow
@pytest.mark.parametrize(("code", "printed"), EXAMPLES)
def test_a_program_in_a_document_prints_what_stands_under_it(
    code: str, printed: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    exec(code, {"__name__": "document"})
    assert [line.rstrip() for line in capsys.readouterr().out.strip().splitlines()] == printed.strip().splitlines()


def test_documents_have_such_programs():
    assert len(EXAMPLES) >= 3
