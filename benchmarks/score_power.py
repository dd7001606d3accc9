"""Which score tells starts apart? t of the paired differences from adaln-zero, for every score, over a study's runs.

    adaln study quickstart --seeds 6 --steps 800 --held-out 0.1 --root runs
    python benchmarks/score_power.py runs

Positive: worse than adaln-zero, by the direction of the score. `seconds`: processor time of the score of one run.
"""

import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import fmean, stdev

from adaln.evaluation.checkpoints import reference
from adaln.evaluation.held_out import held_out_loss, own_pictures
from adaln.metrics import METRICS, compare, statistics
from adaln.runs import Run, is_run

REFERENCE = "adaln-zero"
LEFT_OUT = ("sfid", "precision-half", "recall-half")
"""What the features of a classifier have not."""


def values_of(run: Run) -> tuple[dict[str, float], dict[str, float]]:
    """Each score of a run's last samples, less of which is better, and its processor time."""
    extractor, theirs = reference(run.data)
    [samples] = run.path.glob("scores/*.npz")
    ours, values, seconds = statistics(samples, extractor), {}, {}
    for name in (name for name in METRICS if name not in LEFT_OUT):
        start = time.process_time()
        value = compare(ours, theirs, [name], replicates=0)[name].value
        values[name] = value if METRICS[name].better == "lower" else -value
        seconds[name] = time.process_time() - start
    for weights in ("ema", "model"):
        start = time.process_time()
        loss = held_out_loss(run, run.config.steps, weights, own_pictures(run).first(1024))
        values[f"held-out loss, {weights}"] = loss.mean.value
        seconds[f"held-out loss, {weights}"] = time.process_time() - start
    return values, seconds


def main(root: Path) -> None:
    """The table as Markdown."""
    table: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    cost = defaultdict(list)
    for path in sorted(path for path in root.iterdir() if is_run(path)):
        run = Run.open(path)
        values, seconds = values_of(run)
        for name, value in values.items():
            table[name][run.config.scheme.name][run.config.seed] = value
            cost[name].append(seconds[name])
    schemes = [scheme for scheme in next(iter(table.values())) if scheme != REFERENCE]
    print(f"| score | {' | '.join(schemes)} | seconds |\n|---|{'---:|' * (len(schemes) + 1)}")
    for name, by_scheme in table.items():
        cells = []
        for scheme in schemes:
            differences = [value - by_scheme[REFERENCE][seed] for seed, value in by_scheme[scheme].items()]
            cells.append(f"{fmean(differences) / (stdev(differences) / len(differences) ** 0.5):+.1f}")
        print(f"| {name} | {' | '.join(cells)} | {fmean(cost[name]):.2f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
