"""Section 4 of the paper, field by field, against every setting of every study of its tables; and the stand-ins."""

from dataclasses import asdict, replace

import pytest

from adaln.conditioning import SCHEMES
from adaln.data import DataConfig
from adaln.models import MODELS, num_parameters
from adaln.processes import GaussianConfig, InterpolantConfig
from adaln.sequential import detectable
from adaln.studies import SCALES, STUDIES, Overrides, Plan, Setting
from adaln.studies.scales import (
    IMAGES_32,
    PAPER_KEPT,
    RATIO,
    SMALL,
    TINY,
    kept,
    quarters,
)
from adaln.types import DataSpec

TABLES = [f"table{i}" for i in range(2, 11)]
STEPS = {"table4": {200_000, 400_000, 800_000}, "table8": {400_000}, "figure1": {400_000}}
SIDES = {"imagenet-256": 32, "imagenet-512": 64, "tiny-imagenet": 32, "afhq": 32, "celeba-hq": 32}
SIZES = {
    "XL/2": (1152, 28, 16, 2),
    "XL/4": (1152, 28, 16, 4),
    "L/2": (1024, 24, 16, 2),
    "L/4": (1024, 24, 16, 4),
    "B/2": (768, 12, 12, 2),
}
"""Width, blocks, heads and patch as DiT publishes them."""


def paper_jobs(name):
    study = STUDIES[name]
    return [(setting, SCALES["paper"].make(setting, 0, Overrides())) for setting in study.settings]


@pytest.mark.parametrize("name", [*TABLES, "figure1"])
def test_the_papers_training_is_that_of_section_4(name):
    for setting, job in paper_jobs(name):
        config = job.config
        assert (config.optim.lr, config.optim.betas, config.optim.weight_decay) == (1e-4, (0.9, 0.999), 0.0)
        assert (config.optim.ema_decay, config.optim.grad_clip, config.batch_size) == (0.9999, None, 256)
        assert (config.model.class_dropout_prob, config.precision) == (0.1, "bfloat16")
        assert config.steps == setting.steps and config.steps in STEPS.get(name, {50_000})
        assert config.data.flip
        side = int(config.data.path.rpartition("-")[2])
        assert config.data.size == side == 8 * SIDES[setting.data]


@pytest.mark.parametrize("name", [*TABLES, "figure1"])
def test_the_papers_process_is_that_of_section_4(name):
    for setting, job in paper_jobs(name):
        process = job.config.process
        if setting.model == "SiT-XL/2":
            assert process == InterpolantConfig(path="linear", prediction="velocity")
            continue
        assert isinstance(process, GaussianConfig)
        assert (process.num_steps, process.schedule) == (1000, "linear")
        assert (process.variance, process.prediction, process.objective) == ("learned-range", "noise", "mse")
        assert job.config.model.outputs_per_channel == 2


@pytest.mark.parametrize("name", [*TABLES, "figure1"])
def test_the_papers_scores_are_those_of_section_4(name):
    for setting, job in paper_jobs(name):
        sample = job.sample
        assert (sample.num_images, sample.labels, sample.sampler.steps) == (50_000, "random", 250)
        assert sample.sampler.solver == ("sde-euler" if setting.model == "SiT-XL/2" else "ddpm")
        assert not sample.sampler.clip and sample.dtype == "float32"
        assert sample.guidance.scale == setting.guidance in (1.0, 1.5)
        assert sample.guidance.channels == "3" and sample.guidance.interval is None
        assert job.features == "inception"
        assert job.score_at == tuple(s for s in (50_000, 100_000, 200_000, 400_000, 800_000) if s <= job.config.steps)
    references = {setting.data: job.reference for setting, job in paper_jobs(name)}
    adm = {"imagenet-256": "VIRTUAL_imagenet256_labeled.npz", "imagenet-512": "VIRTUAL_imagenet512.npz"}
    assert all(reference == adm.get(data, f"{data}-reference.npz") for data, reference in references.items())


@pytest.mark.parametrize("name", [*TABLES, "figure1"])
def test_the_papers_networks_have_their_published_sizes(name):
    for setting, job in paper_jobs(name):
        model = job.config.model
        assert model == MODELS[setting.model]
        if setting.model == "U-DiT-L":
            assert model.hidden_size == 384
            continue
        assert SIZES[setting.model.partition("-LLaMA")[2].removeprefix("-") or setting.model.partition("-")[2]] == (
            *(model.hidden_size, model.depth, model.num_heads, model.patch_size),
        )


def test_the_largest_network_has_the_papers_parameters():
    (_, job), *_ = paper_jobs("table2")
    latents = DataSpec(4, 32, 32, 1000)
    assert round(num_parameters(job.config.model, latents) / 1e6) == 675  # without the frozen position table


def test_table_4_is_trained_and_sampled_as_its_rows_say():
    found = {(s.model, s.data, s.steps, s.guidance) for s in STUDIES["table4"].settings}
    assert found == {
        *(("DiT-XL/2", "imagenet-256", steps, 1.0) for steps in (400_000, 800_000)),
        *((f"DiT-{size}", "imagenet-256", 400_000, 1.0) for size in ("B/2", "L/2", "L/4")),
        ("DiT-XL/2", "imagenet-256", 400_000, 1.5),
        ("DiT-XL/4", "imagenet-512", 400_000, 1.0),
        ("DiT-LLaMA-XL/2", "imagenet-256", 400_000, 1.0),
        ("U-DiT-L", "imagenet-256", 200_000, 1.0),
    }


def test_table_10_has_four_sets_at_50k():
    found = {(s.model, s.data, s.steps, s.guidance) for s in STUDIES["table10"].settings}
    sets = [("DiT-XL/2", data) for data in ("tiny-imagenet", "afhq", "celeba-hq")]
    assert found == {(*one, 50_000, 1.0) for one in [*sets, ("SiT-XL/2", "imagenet-256")]}


@pytest.mark.parametrize("scale", ["tiny", "small"])
def test_block_wise_rows_keep_the_papers_28_blocks(scale):
    for setting in STUDIES["table9"].settings:
        assert SCALES[scale].make(setting, 0, Overrides()).config.model.depth == 28


@pytest.mark.parametrize("scale", SCALES.values(), ids=lambda scale: scale.name)
@pytest.mark.parametrize("asked", [None, 2, 300, 3_000])
def test_every_scored_checkpoint_is_kept(scale, asked):
    for name in (*TABLES, "figure1", "quickstart"):
        for job in Plan(STUDIES[name], scale, (0,), Overrides(steps=asked)).jobs():
            assert {*job.score_at, job.config.steps} <= set(job.config.keep_at)
            assert all(0 < step <= job.config.steps for step in job.score_at)
            assert job.config.steps in job.score_at


def test_runs_of_the_papers_steps_are_the_first_part_of_longer_ones():
    for made in (TINY, RATIO, IMAGES_32, SMALL):
        jobs = [made(Setting("x", "adaln-zero", steps=steps), 0, Overrides()) for steps in made.steps]
        assert len({job.run_key for job in jobs}) == 1
        assert {job.config.keep_at for job in jobs} == {made.kept}
        assert [job.config.steps for job in jobs] == sorted({job.config.steps for job in jobs}), "longer stays longer"
    jobs = [SCALES["paper"].make(Setting("x", "adaln-zero", steps=s), 0, Overrides()) for s in PAPER_KEPT]
    assert len({job.run_key for job in jobs}) == 1


def test_other_steps_have_a_run_of_their_own():
    """Else a longer run, found on disk, would lack the checkpoint that the shorter one is scored at."""
    keys = [SCALES["tiny"].make(Setting("x", "adaln-zero"), 0, Overrides(steps=s)).run_key for s in (300, 1_000, 3_000)]
    assert len(set(keys)) == 2  # 3,000 is a multiple of 250


def test_quarters_are_whole_checkpoints():
    assert quarters(20_000, 1_250) == (5_000, 10_000, 20_000)
    assert quarters(10_000, 1_250) == (2_500, 5_000, 10_000)
    assert quarters(999, 250) == (999,)


def test_keeping_adds_nothing_to_the_scales_own_steps():
    job = SCALES["tiny"].make(Setting("x", "adaln-zero"), 0, Overrides())
    assert kept(job, (5, 1_000)).config.keep_at == (5, 250, 500, 1_000)


def test_changes_reach_the_job():
    job = SCALES["small"].make(Setting("x", "adaln-zero"), 3, Overrides("elsewhere.zip", "ref.npz", 40, 7))
    plain = SCALES["small"].make(Setting("x", "adaln-zero"), 3, Overrides())
    assert job.config.data == replace(plain.config.data, path="elsewhere.zip")
    assert (job.reference, job.config.steps, job.sample.num_images, job.sample.batch_size) == ("ref.npz", 40, 7, 7)
    assert job.config.seed == 3


def test_two_cores_compute_in_float32_and_a_gpu_in_mixed_precision():
    jobs = {name: SCALES[name].make(Setting("x", "adaln-zero"), 0, Overrides()) for name in SCALES}
    assert {name: job.config.precision for name, job in jobs.items()} == {
        "tiny": "float32",
        "ratio": "float32",
        "images-32": "float32",
        "small": "bfloat16",
        "paper": "bfloat16",
    }


def test_the_stand_ins_keep_family_patch_and_order_of_sizes():
    widths = {}
    for model in ("DiT-XL/2", "DiT-L/2", "DiT-L/4", "DiT-B/2", "DiT-XL/4", "SiT-XL/2", "DiT-LLaMA-XL/2"):
        for scale in ("tiny", "small"):
            ours = SCALES[scale].make(Setting("x", "adaln-zero", model=model), 0, Overrides()).config.model
            theirs = MODELS[model]
            assert type(ours) is type(theirs)
            assert (ours.patch_size, ours.drop_variance) == (theirs.patch_size, theirs.drop_variance)
            widths[scale, model] = ours.hidden_size
    for scale in ("tiny", "small"):
        assert widths[scale, "DiT-XL/2"] > widths[scale, "DiT-L/2"] > widths[scale, "DiT-B/2"]


def test_factors_of_a_setting_multiply_the_scales_own():
    plain, other = (
        SCALES["tiny"]
        .make(Setting("x", "adaln-zero", lr_factor=f, width_factor=f, batch_factor=f), 0, Overrides())
        .config
        for f in (1, 0.5)
    )
    assert (other.optim.lr, other.batch_size) == (plain.optim.lr / 2, plain.batch_size / 2)
    assert other.model.hidden_size == plain.model.hidden_size / 2
    same = replace(other, model=plain.model, optim=plain.optim, batch_size=plain.batch_size)
    assert asdict(same) == asdict(plain)


@pytest.mark.parametrize("scale", ["ratio", "images-32"])
@pytest.mark.parametrize("name", ["adaln-gaussian:8e-4,1.2e-3,5e-4", "adaln-gaussian-blockwise", "adaln-final-shift"])
def test_at_the_papers_ratio_every_std_over_the_learning_rate_is_the_papers(name, scale):
    ours, theirs = (SCALES[of].make(Setting("x", name), 0, Overrides()).config for of in (scale, "paper"))
    for role in ("gate", "scale", "shift", "final_shift"):
        of_blocks = [getattr(config.scheme, role) for config in (ours, theirs)]
        pairs = zip(*(starts if isinstance(starts, tuple) else (starts,) for starts in of_blocks), strict=True)
        for here, there in pairs:
            stds = [getattr(start.weight, "std", 0.0) for start in (here, there)]
            assert stds[0] / ours.optim.lr == pytest.approx(stds[1] / theirs.optim.lr)


def test_at_the_papers_ratio_starts_without_a_std_are_as_they_are():
    for name in ("adaln-zero", "adaln-step1", "dit-mup", "torch-default", "gpt2-residual"):
        assert SCALES["ratio"].make(Setting("x", name), 0, Overrides()).config.scheme == SCHEMES[name]


def test_colour_pictures_on_two_cores_have_as_many_tokens_as_the_papers_latents():
    plan = Plan(STUDIES["three-starts"], SCALES["images-32"], (0, 1, 2), Overrides(data="pictures.zip"))
    jobs = plan.jobs()
    assert len({job.run_key for job in jobs}) == 9 and {job.config.data.path for job in jobs} == {"pictures.zip"}
    for config in (jobs[0].config, SCALES["paper"].make(Setting("x", "adaln-zero"), 0, Overrides()).config):
        side = config.data.size if config.data.path == "pictures.zip" else config.data.size // 8
        assert (side // config.model.patch_size) ** 2 == 256


def test_table_10s_stand_ins_differ_from_each_other():
    for scale in ("tiny", "images-32", "small"):
        found = [SCALES[scale].make(s, 0, Overrides()).config for s in STUDIES["table10"].settings]
        assert len({(c.data, c.model) for c in found}) == 4
    assert SCALES["tiny"].make(STUDIES["table10"].settings[4], 0, Overrides()).config.data == DataConfig(
        conditional=False
    )


def test_the_quickstart_takes_as_many_seeds_as_its_question_and_other_studies_those_of_the_scale():
    """Eight see less than twice the noise four times in five; seven do not."""
    seeds = {name: study.default_seeds(SCALES["tiny"]) for name, study in STUDIES.items()}
    quickstart, starts = len(seeds.pop("quickstart")), len(STUDIES["quickstart"].settings)
    assert seeds.pop("released") == tuple(range(8)), "a hundred steps of each are cheap"
    assert set(seeds.values()) == {(0, 1, 2)}
    assert detectable(quickstart, starts) < 2 < detectable(quickstart - 1, starts)
