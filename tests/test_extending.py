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
    install(site, "tartan", POINTS)
    (here / "run_all.py").write_text(RUN_ALL)
    ran = run([sys.executable, "run_all.py", *COMMANDS], here, site)
    assert ran.returncode == 0, ran.stderr
    return here, ran.stdout


def install(site: Path, name: str, points: dict[str, str]) -> None:
    """What an installer makes of a pyproject.toml."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = "\n".join(f"{point} = {value}" for point, value in points.items())
    (info / "entry_points.txt").write_text(f"[{PLUGINS}]\n{lines}\n")


def run(command: list[str], here: Path, site: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True)


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
    assert "tartan-mixer layout, 3 blocks, modulation at no known start, so trained" in printed
    assert '"kind": "MixerConfig"' in (here / "runs" / "mixer" / "config.json").read_text()
    assert '"kind": "LogitNormalConfig"' in (here / "runs" / "flow" / "config.json").read_text()
    assert '"solver": "ab2"' in (here / "samples.json").read_text()
    assert re.search(r"Mean gap +\d", printed)
    assert '"num_classes": 2' in (here / "runs" / "woven" / "manifest.json").read_text()
    tracked = [line.split("\t") for line in (here / "runs" / "tracked" / "metrics.tsv").read_text().splitlines()]
    assert [int(step) for step, name, _ in tracked if name == "loss"] == list(range(2, 41, 2))
    assert "gate/std" in {name for _, name, _ in tracked}
    assert re.search(r"\$ adaln study tartan .*\n(.*\n)+ *narrow ", printed)


@pytest.mark.slow
def test_a_broken_package_is_a_line_and_stops_only_who_asks_for_it(tmp_path: Path):
    (tmp_path / "torn.py").write_text("1 / 0\n")
    install(tmp_path, "torn", {"scheme.torn": "torn:start", "scheme.adaln": "torn:start"})
    taken = "plug-in 'scheme.adaln' of torn is left out: the scheme 'adaln' is taken"
    broken = "plug-in 'scheme.torn' of torn cannot be used: ZeroDivisionError: division by zero"
    listed = run([sys.executable, "-m", "adaln", "schemes"], tmp_path, tmp_path)
    assert listed.returncode == 0
    assert listed.stderr.splitlines() == [taken, broken]
    asked = run([sys.executable, "-m", "adaln", "train", "digits", "--scheme", "torn"], tmp_path, tmp_path)
    assert asked.returncode == 2
    line = f"adaln: error: {broken}; see adaln train --help"
    assert asked.stderr.splitlines() == [taken, line]
