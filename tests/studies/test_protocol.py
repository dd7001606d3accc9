"""The scale `paper` is the published protocol or nothing."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from adaln.data import DataConfig
from adaln.data.autoencoder import LatentSpace
from adaln.studies import SCALES, STUDIES, Overrides, Plan, protocol, run_study
from adaln.studies.protocol import check_is_papers
from adaln.types import DataSpec

PLAN = Plan(STUDIES["table3"], SCALES["paper"], (0, 1))
GOOD = {"space": {"autoencoder": "stabilityai/sd-vae-ft-ema", "scaling_factor": 0.18215}}


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Places that are there; what the latents are is said by the test, by default what the paper used."""
    (tmp_path / "latents").mkdir()
    np.savez(tmp_path / "reference.npz", mu=0)
    found = SimpleNamespace(spec=DataSpec(4, 32, 32, 1000), latents=GOOD, length=1_281_167, loads=0)

    class Found:
        spec = property(lambda self: found.spec)

        def __len__(self):
            return found.length

        def describe_latents(self):
            return found.latents

    def load(config):
        found.loads += 1
        return Found()

    monkeypatch.setattr(protocol, "load", load)
    monkeypatch.setattr(protocol, "is_encoded", lambda path: Path(path).name == "latents")
    found.overrides = Overrides(str(tmp_path / "latents"), str(tmp_path / "reference.npz"))
    return found


def test_the_papers_own_protocol_passes(places):
    check_is_papers(replace(PLAN, overrides=places.overrides))
    assert places.loads == 1, "one set of latents is opened once"


@pytest.mark.parametrize(
    ("change", "said"),
    [({"steps": 100}, "steps: 50000 -> 100"), ({"num_images": 5_000}, "num_images: 50000 -> 5000")],
)
def test_other_sizes_are_refused_before_anything_is_opened(places, change, said):
    with pytest.raises(ValueError, match=said) as error:
        check_is_papers(replace(PLAN, overrides=replace(places.overrides, **change)))
    assert places.loads == 0 and "\n" not in str(error.value)
    assert "--scale small or tiny" in str(error.value)


@pytest.mark.parametrize("place", ["data", "reference"])
def test_a_place_that_is_not_there_is_said_with_the_way_to_make_it(places, place):
    missing = replace(PLAN, overrides=replace(places.overrides, **{place: "nowhere"}))
    with pytest.raises(ValueError, match=r"scale paper lacks the .*'nowhere'") as error:
        check_is_papers(missing)
    assert places.loads == 0 and "\n" not in str(error.value)
    assert ("adaln encode IMAGES nowhere --layout imagenet-256" in str(error.value)) == (place == "data")
    assert f"--{place}" in str(error.value)


def test_a_reference_that_adm_does_not_publish_is_made_by_two_commands():
    one_set = [s for s in STUDIES["table10"].settings if s.data == "afhq"]
    plan = replace(PLAN, study=replace(STUDIES["table10"], settings=tuple(one_set)))
    with pytest.raises(ValueError, match="adaln encode IMAGES afhq-256 --layout afhq-256") as error:
        check_is_papers(plan)
    for words in (
        "adaln encode IMAGES afhq-256-pixels --layout afhq-256 --autoencoder none",
        "adaln stats afhq-256-pixels afhq-reference.npz --features inception",
    ):
        assert words in str(error.value)


def test_pictures_are_not_decoded_to_find_out_that_they_are_no_latents(places, tmp_path):
    (tmp_path / "pictures").mkdir()
    overrides = replace(places.overrides, data=str(tmp_path / "pictures"))
    with pytest.raises(ValueError, match="pictures' is no set of latents"):
        check_is_papers(replace(PLAN, overrides=overrides))
    assert places.loads == 0


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("spec", DataSpec(4, 64, 64, 1000), r"latents of shape \(4, 32, 32\) -> \(4, 64, 64\)"),
        ("spec", DataSpec(16, 32, 32, 1000), r"latents of shape \(4, 32, 32\) -> \(16, 32, 32\)"),
        ("spec", DataSpec(4, 32, 32, 10), r"images and classes \(1281167, 1000\) -> \(1281167, 10\)"),
        ("length", 50_000, r"images and classes \(1281167, 1000\) -> \(50000, 1000\)"),
        ("latents", None, "latents of sd-vae-ft-ema -> none"),
        ("latents", {"space": {**GOOD["space"], "autoencoder": "x/sd-vae-ft-mse"}}, "sd-vae-ft-ema -> sd-vae-ft-mse"),
        ("latents", {"space": {**GOOD["space"], "scaling_factor": 1.0}}, r"latents scaled by 0\.18215 -> 1\.0"),
    ],
)
def test_latents_that_are_not_the_papers_are_refused(places, field, value, said):
    setattr(places, field, value)
    with pytest.raises(ValueError, match=said):
        check_is_papers(replace(PLAN, overrides=places.overrides))


def test_the_facts_of_latents_are_those_that_the_data_room_tells():
    """The test's stand-in above has the names of the real thing."""
    assert set(GOOD["space"]) <= set(LatentSpace.__dataclass_fields__)


def test_a_job_of_another_protocol_is_refused_field_by_field():
    def made(change):
        def make(setting, seed, changes):
            job = SCALES["paper"].make(setting, seed, Overrides(changes.data, changes.reference))
            return job if changes == Overrides(changes.data, changes.reference) else change(job)

        return make

    optim = {"lr": 2e-4, "betas": (0.9, 0.95), "weight_decay": 0.1, "ema_decay": 0.999}
    for name, value in optim.items():
        other = made(lambda job, n=name, v=value: _config(job, optim=replace(job.config.optim, **{n: v})))
        _refused(other, f"optim.{name}")
    for name, value in {"batch_size": 128, "data": DataConfig("imagenet-256", 256)}.items():
        _refused(made(lambda job, n=name, v=value: _config(job, **{n: v})), name)


def _config(job, **changes):
    return replace(job, config=replace(job.config, **changes))


def _refused(make, said):
    plan = replace(PLAN, scale=replace(PLAN.scale, make=make), overrides=Overrides(num_images=50_000))
    with pytest.raises(ValueError, match=said):
        check_is_papers(plan)


@pytest.mark.parametrize("scale", ["tiny", "small"])
def test_other_scales_may_be_what_they_like(scale):
    check_is_papers(replace(PLAN, scale=SCALES[scale], overrides=Overrides(steps=1)))


class NoLauncher:
    def run(self, pieces, watch):
        raise AssertionError("nothing may be started")


def test_a_study_is_refused_before_it_writes_anything(tmp_path):
    with pytest.raises(ValueError, match="scale paper is the published protocol"):
        run_study(replace(PLAN, overrides=Overrides(steps=3)), tmp_path / "runs", NoLauncher())
    assert not (tmp_path / "runs").exists()
