"""What a document says a program prints is what it prints."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRINTING = re.compile(r"```python\n(.*?)```\n```text\n(.*?)```", re.DOTALL)
EXAMPLES = [
    pytest.param(code, printed, id=f"{file.stem}-{number}")
    for file in sorted(ROOT.glob("docs/**/*.md"))
    for number, (code, printed) in enumerate(PRINTING.findall(file.read_text(encoding="utf-8")))
]


@pytest.mark.parametrize(("code", "printed"), EXAMPLES)
def test_a_program_in_a_document_prints_what_stands_under_it(code: str, printed: str):
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert [line.rstrip() for line in finished.stdout.strip().splitlines()] == printed.strip().splitlines()


def test_documents_have_such_programs():
    assert len(EXAMPLES) >= 3
