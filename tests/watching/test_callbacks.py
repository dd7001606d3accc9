"""A transformer of diffusers, trained by Hugging Face's Trainer, by Lightning and through accelerate, and watched."""

import json
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import adaln
from adaln.analysis.groups import Group
from adaln.analysis.recorder import read_recording
from adaln.analysis.watch_handle import TrainingWarning
from adaln.rng import generator

pytestmark = pytest.mark.slow
SIZES = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "sample_size": 8, "norm_num_groups": 1}


class Pictures(Dataset):
    """Noise with labels."""

    def __len__(self):
        return 32

    def __getitem__(self, number):
        rng = generator("callbacks", number)
        return {"pictures": torch.randn(4, 8, 8, generator=rng), "labels": number % 10}


class Denoiser(nn.Module):
    """What a Trainer calls, and gets the loss from."""

    def __init__(self):
        super().__init__()
        from diffusers import DiTTransformer2DModel

        torch.manual_seed(0)
        self.network = DiTTransformer2DModel(**SIZES, in_channels=4, num_embeds_ada_norm=10)
        adaln.initialise(self.network, "adaln-step1")

    def forward(self, pictures, labels):
        times = torch.arange(len(labels), device=pictures.device)
        output = self.network(pictures, times, class_labels=labels).sample
        return {"loss": (output[:, :4] - pictures).square().mean()}


def first_batches(number):
    return [batch for batch, _ in zip(DataLoader(Pictures(), batch_size=4), range(number), strict=False)]


def steps_in(folder):
    """Recorded, in the order of the file."""
    return list(dict.fromkeys(record.step for record in read_recording(folder / "analysis" / "roles.jsonl")))


def losses(folder):
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def trainer(folder, steps, callback, model=None, lr=1e-3):
    transformers = pytest.importorskip("transformers")
    arguments = transformers.TrainingArguments(
        str(folder),
        max_steps=steps,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        logging_steps=2,
        save_steps=3,
        learning_rate=lr,
        lr_scheduler_type="constant",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=0,
    )
    return transformers.Trainer(model or Denoiser(), arguments, train_dataset=Pictures(), callbacks=[callback])


@pytest.fixture(autouse=True)
def others_warn_as_they_like():
    """Of these libraries only what `watch` warns of is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", TrainingWarning)
        yield


def test_hugging_faces_trainer_counts_updates_and_goes_on_in_the_same_folder(tmp_path):
    from adaln.watching import TrainerWatch

    whole = TrainerWatch(tmp_path / "whole", every=1)
    trainer(tmp_path / "a", 6, whole).train()
    assert steps_in(tmp_path / "whole") == [0, 1, 2, 3, 4, 5, 6] and whole.watched.updates == 6
    assert losses(tmp_path / "whole") == [2, 4, 6]
    records = read_recording(tmp_path / "whole" / "analysis" / "roles.jsonl")
    gates = [record for record in records if record.group == Group("gate")]
    assert all(record.gradient_norm and record.update_ratio for record in gates[3:])
    trainer(tmp_path / "b", 3, TrainerWatch(tmp_path / "w", every=1)).train()
    trainer(tmp_path / "b", 6, TrainerWatch(tmp_path / "w", every=1, network="network")).train(
        resume_from_checkpoint=str(tmp_path / "b" / "checkpoint-3")
    )
    assert steps_in(tmp_path / "w") == [0, 1, 2, 3, 4, 5, 6]
    stds = [[r.moments.std for r in read_recording(tmp_path / f / "analysis" / "roles.jsonl")] for f in ("whole", "w")]
    assert stds[0] == pytest.approx(stds[1], rel=1e-6)


def test_lightning_counts_updates_and_goes_on_in_the_same_folder(tmp_path):
    lightning = pytest.importorskip("lightning")
    from adaln.watching import LightningWatch

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.denoiser, self.other = Denoiser(), nn.Linear(2, 2)

        def training_step(self, batch, number):
            return self.denoiser(**batch)["loss"]

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=1e-3)

    def fit(folder, steps, checkpoint=None, save=None):
        watch = LightningWatch(folder, every=1, network="denoiser.network")
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        runner = lightning.Trainer(
            max_steps=steps,
            accelerator="cpu",
            accumulate_grad_batches=2,
            callbacks=[watch],
            enable_checkpointing=False,
            **quiet,
        )
        runner.fit(Module(), DataLoader(Pictures(), batch_size=4), ckpt_path=checkpoint)
        if save:
            runner.save_checkpoint(save)
        return watch

    watch = fit(tmp_path / "whole", 6)
    assert watch.watched.updates == 6 and watch._losses == []
    logged = [json.loads(line)["loss"] for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert logged[0] == pytest.approx(float(sum(Denoiser()(**batch)["loss"] for batch in first_batches(2))) / 2)
    assert steps_in(tmp_path / "whole") == [0, 1, 2, 3, 4, 5, 6] and losses(tmp_path / "whole") == [1, 2, 3, 4, 5, 6]
    fit(tmp_path / "w", 3, save=tmp_path / "w.ckpt")
    fit(tmp_path / "w", 6, checkpoint=tmp_path / "w.ckpt")
    assert steps_in(tmp_path / "w") == [0, 1, 2, 3, 4, 5, 6] and losses(tmp_path / "w") == [1, 2, 3, 4, 5, 6]


def test_lightning_with_several_optimisers_counts_the_one_that_holds_the_modulation(tmp_path):
    lightning = pytest.importorskip("lightning")
    from adaln.watching import LightningWatch

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False
            self.denoiser, self.other = Denoiser(), nn.Linear(2, 1)

        def training_step(self, batch, number):
            first, second = self.optimizers()
            self.manual_backward(self.other(torch.ones(1, 2)).sum())
            first.step()
            if number % 2:
                self.manual_backward(self.denoiser(**batch)["loss"])
                second.step()
                second.zero_grad()

        def configure_optimizers(self):
            return [torch.optim.SGD(self.other.parameters(), 1e-3), torch.optim.AdamW(self.denoiser.parameters(), 1e-3)]

    def fit(callbacks, epochs, checkpoint=None):
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        quiet |= {"accelerator": "cpu", "enable_checkpointing": False}
        runner = lightning.Trainer(max_epochs=epochs, callbacks=callbacks, **quiet)
        runner.fit(Module(), DataLoader(Pictures(), batch_size=4), ckpt_path=checkpoint)
        return runner

    watch = LightningWatch(tmp_path / "w", every=1)
    fit([watch], 1)
    assert watch.watched.updates == 4 and steps_in(tmp_path / "w") == [0, 1, 2, 3, 4]
    fit([], 1).save_checkpoint(tmp_path / "unwatched.ckpt")
    fit([LightningWatch(tmp_path / "late", every=1)], 2, tmp_path / "unwatched.ckpt")
    assert steps_in(tmp_path / "late") == [5, 6, 7, 8]


def test_accelerate_needs_no_more_than_watch(tmp_path):
    accelerate = pytest.importorskip("accelerate")

    def fit(folder, updates, state=None, save=None):
        accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
        model = Denoiser()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        model, optimizer, batches = accelerator.prepare(model, optimizer, DataLoader(Pictures(), batch_size=4))
        if state:
            accelerator.load_state(state)
        watched = adaln.watch(model, optimizer, to=folder, every=1)
        batches = [batch for _ in range(4) for batch in batches][2 * watched.updates : 2 * updates]
        for batch in batches:
            with accelerator.accumulate(model):
                loss = model(**batch)["loss"]
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
        watched.close()
        if save:
            accelerator.save_state(save)
        return watched.updates

    assert fit(tmp_path / "whole", 6) == 6
    assert fit(tmp_path / "w", 4, save=tmp_path / "state") == 4
    assert fit(tmp_path / "w", 6, state=tmp_path / "state") == 6
    assert steps_in(tmp_path / "w") == [0, 1, 2, 3, 4, 5, 6]


def test_alarms_are_warnings_in_the_middle_of_somebodys_training_and_refusals_come_before_it(tmp_path):
    from adaln.watching import TrainerWatch

    class Breaking(TrainerWatch):
        """Something else breaks the weights."""

        def on_optimizer_step(self, args, state, control, *, model, **_):
            with torch.no_grad():
                model.network.transformer_blocks[1].norm1.linear.weight.fill_(torch.nan)
            super().on_optimizer_step(args, state, control)

    model = Denoiser()
    with pytest.warns(TrainingWarning, match=r"transformer_blocks\.1\.norm1\.linear\.weight is not finite"):
        trainer(tmp_path / "a", 3, Breaking(tmp_path / "w", every=1), model).train()
    with pytest.raises(ValueError, match="Denoiser has no part 'netwrk' \\(nearest: 'network'\\)"):
        trainer(tmp_path / "b", 3, TrainerWatch(tmp_path / "other", network="netwrk"), model).train()


@pytest.mark.parametrize(("name", "package"), [("TrainerWatch", "transformers"), ("LightningWatch", "lightning")])
def test_a_package_that_is_missing_is_one_line(name, package):
    code = f"import sys; sys.modules['{package}'] = None; from adaln.watching import {name}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip().splitlines()[-1].endswith(f"{package} is not installed; pip install 'adaln[{package}]'")


def test_another_training_does_not_take_the_folder_of_one(tmp_path):
    from adaln.watching import TrainerWatch

    trainer(tmp_path / "out", 2, TrainerWatch(tmp_path / "w", network="network")).train()
    before = (tmp_path / "w" / "analysis" / "roles.jsonl").read_bytes()
    with pytest.raises(ValueError, match="holds records up to step 2; expected step=N"):
        trainer(tmp_path / "out", 2, TrainerWatch(tmp_path / "w", network="network")).train()
    assert (tmp_path / "w" / "analysis" / "roles.jsonl").read_bytes() == before


def test_what_an_exception_left_open_is_closed_when_training_begins_anew(tmp_path):
    from adaln.watching import TrainerWatch

    class Stops(TrainerWatch):
        def on_step_end(self, args, state, control, **_):
            raise RuntimeError("out of memory")

    closed = []
    tracker = SimpleNamespace(on_log=lambda step, metrics: None, close=lambda: closed.append(True))
    callback = Stops(tmp_path / "w", every=1, track=[tracker])
    training = trainer(tmp_path / "a", 3, callback)
    for already in ([], [True]):
        with pytest.raises(RuntimeError, match="out of memory"):
            training.train()
        assert closed == already


def test_a_callback_of_lightning_goes_on_with_its_trainer_and_does_not_take_another_ones_folder(tmp_path):
    lightning = pytest.importorskip("lightning")
    from adaln.watching import LightningWatch

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.denoiser = Denoiser()

        def training_step(self, batch, number):
            return self.denoiser(**batch)["loss"]

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1e-3)

    watch, module = LightningWatch(tmp_path / "w", every=1), Module()
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    first, second = (lightning.Trainer(max_steps=2, accelerator="cpu", callbacks=[watch], **quiet) for _ in range(2))
    first.fit(module, DataLoader(Pictures(), batch_size=4))
    first.fit_loop.epoch_loop.max_steps = 3
    first.fit(module, DataLoader(Pictures(), batch_size=4))
    assert steps_in(tmp_path / "w") == [0, 1, 2, 3] and watch.watched.updates == 3
    with pytest.raises(ValueError, match="holds records up to step 3; expected step=N"):
        second.fit(Module(), DataLoader(Pictures(), batch_size=4))
