"""Tables of words, help, and what is wrong with a command: nobody waits for torch to be told."""

import json
import subprocess
import sys

from adaln.cli.commands import VERBS

TABLES = ["schemes", "presets", "models", "models --json --size 64", "--help", "bench --help", "bench gpu --help"]
MISTYPED = {
    "trian digits": "nearest: 'train'",
    "train digit": "nearest: 'digits'",
    "train digits --model DiT-XL2": "nearest: 'DiT-XL/2'",
    "train digits --process dpm": "nearest: 'ddpm'",
    "train digits --scheme adaln-zro": "nearest: 'adaln-zero'",
    "train digits --optim.lrr 1": "nearest: '--optim.lr'",
    "search digit --over gate": "nearest: 'digits'",
    "study quickstrat": "nearest: 'quickstart'",
    "study table3 --scale smal": "nearest: 'small'",
    "sample run --sampler.solver dim": "nearest: 'ddim'",
    "evaluate samples --reference digits --metrics fdi": "nearest: 'fid'",
    "order DiT-XL2": "nearest: 'DiT-XL/2'",
    "import file --model DiT-XL2": "nearest: 'DiT-XL/2'",
    "audit model --familly dit": "nearest: '--family'",
    "bench trian": "nearest: 'train'",
    "bench train --modle tiny": "nearest: '--model'",
    "bench train --model DiT-S2": "nearest: 'DiT-S/2'",
    "bench study --study quickstrat": "nearest: 'quickstart'",
}
RUN_ALL = """
import json, shlex, sys
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
from adaln.cli import main
said = {}
for command in sys.argv[1:]:
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err, suppress(SystemExit):
        main(shlex.split(command))
    said[command] = [out.getvalue(), err.getvalue(), sorted({"torch", "scipy", "matplotlib"} & set(sys.modules))]
print(json.dumps(said))
"""


def test_tables_help_and_refusals_of_names_import_no_torch(tmp_path):
    helps = [f"{verb} --help" for verb in VERBS if verb != "bench"]
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL, *TABLES, *helps, *MISTYPED], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    for command, (out, err, heavy) in json.loads(done.stdout).items():
        assert not heavy, command
        assert MISTYPED[command] in err if command in MISTYPED else len(out) > 100, (command, out, err)
