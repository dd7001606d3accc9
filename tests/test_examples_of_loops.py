"""The training loops in examples/ run, are watched, and go on where they were; the notebook prints what it shows."""

import runpy
import warnings
from pathlib import Path

import pytest

from adaln.analysis.recorder import read_recording

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name, **sizes):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of these libraries
        runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](**sizes)


def steps_in(folder):
    return sorted({record.step for record in read_recording(Path(folder) / "analysis" / "roles.jsonl")})


@pytest.mark.parametrize(
    ("name", "package", "folder"),
    [
        ("plain_loop", "diffusers", "watched"),
        ("hugging_face_trainer", "transformers", "trainer/watched"),
        ("lightning_module", "lightning", "lightning/watched"),
    ],
)
def test_a_loop_is_watched(tmp_path, monkeypatch, name, package, folder):
    pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    run(name, steps=3)
    assert steps_in(folder) == [0, 1, 2, 3]  # the last at the end


@pytest.mark.parametrize(
    ("name", "folder", "sizes"),
    [("accelerate_loop", "accelerated", {}), ("finetune_diffusers", "finetuned", {"checkpoint_every": 1})],
)
def test_a_loop_under_accelerate_goes_on_in_its_folder(tmp_path, monkeypatch, name, folder, sizes):
    pytest.importorskip("accelerate")
    monkeypatch.chdir(tmp_path)
    run(name, steps=1, **sizes)
    assert steps_in(f"{folder}/watched") == [0, 1]
    run(name, steps=5, **sizes)
    assert steps_in(f"{folder}/watched") == [0, 1, 2, 5]


def test_the_notebook_runs_and_shows_what_is_saved_in_it(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    saved = nbformat.read(EXAMPLES / "first_look.ipynb", 4)
    again = nbformat.read(EXAMPLES / "first_look.ipynb", 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nbclient.NotebookClient(again, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()

    def shown(notebook):
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        return [[sorted(output.get("data", {})) for output in cell.outputs if output.get("data")] for cell in cells]

    assert shown(again) == shown(saved)
    assert all(cell.execution_count for cell in saved.cells if cell.cell_type == "code")
    text = (EXAMPLES / "first_look.ipynb").read_text(encoding="utf-8")
    assert "adaln-gaussian" in text and "<progress" in text and "<svg" in text and "Traceback" not in text
