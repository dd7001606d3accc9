"""Outcomes of studies whose scores nobody measured."""

from dataclasses import dataclass, field, replace

from adaln.metrics import Score, Scores
from adaln.sampling import SampleConfig
from adaln.studies.study import Job, Outcome


@dataclass(frozen=True, slots=True)
class MadeUp(Outcome):
    """A finished job with scores that nobody measured."""

    fid: dict[int, float] = field(default_factory=dict)

    def scores(self):
        provenance = {"extractor": {"name": "dataset-classifier"}}
        return {
            step: Scores({"fid": Score("fid", fid, None, None, "none", 40, 1_797, "classes")}, provenance, ())
            for step, fid in self.fid.items()
        }


def made_up(run, label, seed, fid, group="", **changes):
    """The outcome of a run of that seed, with scores by step; its config has `changes`."""
    config = replace(run.config, seed=seed, **changes)
    return MadeUp(Job(label, config, tuple(fid), SampleConfig(num_images=40), group=group), run, fid)
