"""Hugging Face's `Trainer`, watched: a small DiT of diffusers learns 8 x 8 digits.

python examples/hugging_face_trainer.py && adaln report trainer/watched

Needs `pip install 'adaln[diffusers,transformers]'`.
"""

import torch
from diffusers import DiTTransformer2DModel
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

import adaln
from adaln.watching import TrainerWatch


class Digits(Dataset):
    def __init__(self) -> None:
        digits = load_digits()
        self.pictures, self.labels = torch.tensor(digits.images).float()[:, None] / 8 - 1, digits.target

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, number: int) -> dict[str, object]:
        return {"clean": self.pictures[number], "labels": self.labels[number]}


class Denoiser(nn.Module):
    """A Trainer calls it with a batch, and takes the loss that it returns."""

    def __init__(self) -> None:
        super().__init__()
        sizes = {"num_attention_heads": 4, "attention_head_dim": 16, "num_layers": 4, "sample_size": 8}
        self.network = DiTTransformer2DModel(**sizes, in_channels=1, num_embeds_ada_norm=10, norm_num_groups=1)
        adaln.initialise(self.network, "adaln-gaussian")

    def forward(self, clean: Tensor, labels: Tensor) -> dict[str, Tensor]:
        noise, t = torch.randn_like(clean), torch.rand(len(clean), device=clean.device)
        mixed = torch.lerp(noise, clean, t.view(-1, 1, 1, 1))
        velocity = self.network(mixed, timestep=1000 * t, class_labels=labels).sample
        return {"loss": (velocity - (clean - noise)).square().mean()}


def main(steps: int = 1000, folder: str = "trainer") -> None:
    arguments = TrainingArguments(
        folder,
        max_steps=steps,
        per_device_train_batch_size=32,
        gradient_accumulation_steps=2,
        learning_rate=1e-3,
        logging_steps=10,
        report_to=[],
    )
    watch = TrainerWatch(f"{folder}/watched")
    Trainer(Denoiser(), arguments, train_dataset=Digits(), callbacks=[watch]).train()


if __name__ == "__main__":
    main()
