"""docs/extending.md is a package: put together from its blocks, found by its entry points, used by its commands."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from adaln.registry import KINDS, PLUGINS

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
POINTS = tomllib.loads(FILES["pyproject.toml"])["project"]["entry-points"][PLUGINS]
RUN_ALL = """
import shlex, sys
from adaln.cli import main
if __name__ == "__main__":
    for command in sys.argv[1:]:
        print(f"$ {command}", flush=True)
        main(shlex.split(command)[1:])
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder in which all commands of the page were run, one after the other, and what they printed."""
    site, here = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("here")
    for name, text in FILES.items():
        (site / name).parent.mkdir(exist_ok=True)
        (site / name).write_text(text)
    info = site / "tartan-1.0.dist-info"  # what an installer makes of pyproject.toml
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tartan\nVersion: 1.0\n")
    points = "\n".join(f"{name} = {value}" for name, value in POINTS.items())
    (info / "entry_points.txt").write_text(f"[{PLUGINS}]\n{points}\n")
    (here / "run_all.py").write_text(RUN_ALL)
    path = os.pathsep.join([str(site), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    ran = subprocess.run(
        [sys.executable, "run_all.py", *COMMANDS],
        cwd=here,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return here, ran.stdout


def test_the_package_has_one_of_every_kind():
    assert {name.partition(".")[0] for name in POINTS} == set(KINDS)
    assert all(name.partition(".")[2] in "\n".join(COMMANDS) + PAGE for name in POINTS)


@pytest.mark.slow
@pytest.mark.parametrize("listing", ["schemes", "presets"])
def test_what_a_package_adds_is_listed(done: tuple[Path, str], listing: str):
    added = {"schemes": "tartan-narrow", "presets": "logit-normal"}[listing]
    printed = done[1].partition(f"$ adaln {listing}\n")[2].partition("\n$ ")[0]
    assert re.search(rf"\b{added}\b", printed)


@pytest.mark.slow
def test_what_a_package_adds_is_used(done: tuple[Path, str]):
    here, printed = done
    assert "tartan-mixer layout, 3 blocks, modulation trained" in printed
    assert '"kind": "MixerConfig"' in (here / "runs" / "mixer" / "config.json").read_text()
    assert '"kind": "LogitNormalConfig"' in (here / "runs" / "flow" / "config.json").read_text()
    assert '"solver": "ab2"' in (here / "samples.json").read_text()
    assert re.search(r"Mean gap +\d", printed)
    assert '"num_classes": 2' in (here / "runs" / "woven" / "manifest.json").read_text()
    assert len((here / "runs" / "tracked" / "metrics.tsv").read_text().splitlines()) == 2
    assert re.search(r"\$ adaln study tartan .*\n(.*\n)+ *narrow ", printed)
