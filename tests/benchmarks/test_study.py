"""The parts of a study's runs: every second is of one part, and what was measured is not measured again."""

import pytest

from adaln.benchmarks import study
from adaln.benchmarks.options import StudyBenchOptions
from adaln.benchmarks.study import Parts, study_parts


def test_a_second_is_of_the_innermost_part(monkeypatch: pytest.MonkeyPatch):
    clock = iter([0.0, 1.0, 3.0, 7.0, 15.0, 31.0])
    monkeypatch.setattr(study.time, "process_time", lambda: next(clock))
    parts = Parts({"rest": 0.0, "train": 0.0})
    with parts.part("rest"), parts.part("train"):
        pass
    with parts.part("train"):
        pass
    assert parts.seconds == {"rest": 1.0 + 4.0, "train": 2.0 + 16.0}


def test_a_killed_benchmark_keeps_what_it_measured(tmp_path, monkeypatch: pytest.MonkeyPatch):
    measured = []

    def run_parts(jobs, root):
        measured.append(jobs[0].label)
        if len(measured) == 3:
            raise KeyboardInterrupt
        return dict.fromkeys(study.PARTS, float(len(measured)))

    monkeypatch.setattr(study, "run_parts", run_parts)
    monkeypatch.setattr(study, "study_once", lambda plan, root: {"page": 1.0})
    options = StudyBenchOptions(steps=20, folder=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        study_parts(options)
    row = study_parts(options)
    assert measured == ["adaln", "adaln-step1", "adaln-mix", "adaln-mix", "adaln-zero", "adaln-gaussian"]
    assert row["processor_seconds_per_run"] == {**dict.fromkeys(study.PARTS, 4.0), "whole": 28.0}
    assert row["processor_seconds_per_score"] == 12.0 and row["processor_milliseconds_per_step"] == 200.0
