"""Records of gate, scale and shift as trackers show them: numbers and histograms of every role over all blocks."""

from collections.abc import Sequence
from statistics import fmean

from adaln.analysis.branches import BranchRecord
from adaln.analysis.recorder import RoleRecord
from adaln.trackers import Beside, Counts


def send_records(trackers: Sequence[Beside], step: int, records: Sequence[RoleRecord]) -> None:
    """To all of them."""
    for tracker in trackers:
        tracker.on_log(step, numbers_of(records))
        tracker.send("on_histograms", step, histograms_of(records))


def numbers_of(records: Sequence[RoleRecord]) -> dict[str, float]:
    """By names like `gate/std`."""
    numbers: dict[str, float | None] = {}
    for name, record in by_role(records).items():
        numbers |= {
            f"{name}/mean": record.moments.mean,
            f"{name}/std": record.moments.std,
            f"{name}/gradient_norm": record.gradient_norm,
            f"{name}/update_ratio": record.update_ratio,
            f"{name}/moved": record.moved,
            f"{name}/cosine": record.cosine,
        }
    return {name: value for name, value in numbers.items() if value is not None}


def numbers_of_branches(records: Sequence[BranchRecord]) -> dict[str, float]:
    """The mean energy of each kind of branch over blocks, and its largest |1 + scale|, by names like `attn/energy`."""
    numbers = {}
    for branch in dict.fromkeys(record.branch for record in records):
        those = [record for record in records if record.branch == branch]
        if energies := [record.energy for record in those if record.energy is not None]:
            numbers[f"{branch}/energy"] = fmean(energies)
        if scales := [record.largest_scale for record in those if record.largest_scale is not None]:
            numbers[f"{branch}/largest_scale"] = max(scales)
    return numbers


def histograms_of(records: Sequence[RoleRecord]) -> dict[str, Counts]:
    """By names like `gate/values`, of roles that have a width."""
    histograms = {f"{name}/values": record.histogram for name, record in by_role(records).items()}
    return {name: (one.counts, one.edges) for name, one in histograms.items() if one.counts}


def by_role(records: Sequence[RoleRecord]) -> dict[str, RoleRecord]:
    """Those over all blocks."""
    return {record.group.name.replace(" ", "_"): record for record in records if record.group.block is None}
