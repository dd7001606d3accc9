"""What `pip install adaln` gives: the wheel in an environment of its own, without the libraries of any extra."""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from adaln.cli.commands import EXTRAS, VERBS
from adaln.version import __version__
from helpers.command_line import SMALL

ROOT = Path(__file__).parents[1]
BLOCKED = f"""
import sys
class Refuse:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {sorted(EXTRAS)}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refuse())
"""
"""A `sitecustomize` under which the libraries of extras are not there."""
ONE_PROCESS = """
import shlex, sys
from contextlib import redirect_stdout
from io import StringIO
import adaln
from adaln.cli import main
codes = []
for command in sys.argv[1:]:
    with redirect_stdout(StringIO()):
        try:
            main(shlex.split(command))
            codes.append(0)
        except SystemExit as stop:
            codes.append(stop.code)
print(adaln.__file__, *codes, sep="\\n")
"""
"""Every command in one process, which imports torch once; then where the package lies, and the exit codes."""
SIZES = " ".join(SMALL)
WALK = [
    "schemes",
    "models",
    "presets",
    "completion bash",
    "runs .",
    "families",
    "data inspect digits",
    f"train digits --out run {SIZES} --checkpoint-every 2 --scheme adaln-gaussian --data.held-out 0.1",
    f"train digits --out other {SIZES} --data.held-out 0.1",
    "sample run --num-images 8 --sampler.steps 2 --device cpu",
    "stats digits reference.npz --num-images 40 --device cpu",
    "evaluate run --reference digits --replicates 0 --device cpu",
    "loss run other --device cpu",
    "compare run other",
    "audit run",
    "distributions run",
    "order run --scheme adaln-zero --device cpu",
    "fit run --out next.json",
    "export run --out weights.safetensors",
    "audit weights.safetensors",
    "explain run --num-batches 2 --device cpu",
    "report run",
    "study list",
    "study table1 --steps 2 --seeds 2 --device cpu",
]
"""The README's commands in tiny sizes, in an order in which each finds what it needs."""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Folder of the wheel and the sdist."""
    pytest.importorskip("hatch_fancy_pypi_readme", reason="needs hatchling and its hook, of the extra dev")
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", out], cwd=ROOT, check=True, capture_output=True)
    return out


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """Python of an environment that has the wheel and the libraries it depends on, of this environment."""
    place = tmp_path_factory.mktemp("fresh")
    venv.create(place, with_pip=False)
    python = place / "bin" / "python"
    wheel = next(built.glob("*.whl"))
    words = ["--python", python, "install", "--quiet", "--no-deps", "--no-index", "--no-compile", wheel]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    site = next((place / "lib").glob("python*/site-packages"))
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib"))  # a .pth there is not read: no editable install
    (site / "sitecustomize.py").write_text(BLOCKED)
    assert (place / "bin" / "adaln").exists()
    return python


@pytest.mark.slow
def test_the_wheel_alone_does_what_the_readme_says(installed, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [installed, "-c", ONE_PROCESS, *WALK, "audit hf:org/name"]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    place, *codes = done.stdout.splitlines()[-len(WALK) - 2 :]
    assert Path(place).is_relative_to(installed.parents[1])
    assert codes == ["0"] * len(WALK) + ["2"], done.stderr
    assert done.stderr.endswith("adaln: error: the hub needs its library: pip install 'adaln[hub]'\n")


def test_the_walk_has_every_verb_that_needs_no_extra_and_ends_by_itself():
    left_out = {"bench", "choose", "coord-check", "encode", "import", "push", "search", "sweep"}
    assert VERBS.keys() - left_out <= {words.split()[0] for words in WALK}


@pytest.mark.slow
def test_what_is_shipped_names_its_version_its_extras_and_links_that_lead_somewhere(built):
    wheel = zipfile.ZipFile(next(built.glob("*.whl")))
    metadata = Parser().parsestr(wheel.read(f"adaln-{__version__}.dist-info/METADATA").decode())
    assert metadata["Version"] == __version__
    assert set(EXTRAS.values()) <= set(metadata.get_all("Provides-Extra"))
    targets = re.findall(r"\]\(([^)]+)\)", metadata.get_payload())
    assert len(targets) > 20 and all(target.startswith(("https://", "#")) for target in targets)
    for target in targets:
        if "/adaln/adaln/" in target:
            assert (ROOT / target.partition("/main/")[2].partition("#")[0]).exists(), target
    names = set(wheel.namelist())
    ours = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*") if path.is_file()}
    assert {name for name in ours if "__pycache__" not in name} <= names
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        files = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "SECURITY.md", "pyproject.toml"} <= files


def test_citation_and_changelog_are_of_this_version():
    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
