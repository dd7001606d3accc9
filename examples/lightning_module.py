"""Lightning, watched: a small DiT of diffusers learns 8 x 8 digits.

python examples/lightning_module.py && adaln report lightning/watched

Needs `pip install 'adaln[diffusers,lightning]'`.
"""

import torch
from diffusers import DiTTransformer2DModel
from lightning import LightningModule, Trainer
from sklearn.datasets import load_digits
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import adaln
from adaln.watching import LightningWatch


class Denoiser(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        sizes = {"num_attention_heads": 4, "attention_head_dim": 16, "num_layers": 4, "sample_size": 8}
        self.network = DiTTransformer2DModel(**sizes, in_channels=1, num_embeds_ada_norm=10, norm_num_groups=1)
        adaln.initialise(self.network, "adaln-gaussian")

    def training_step(self, batch: list[Tensor], number: int) -> Tensor:
        clean, labels = batch
        noise, t = torch.randn_like(clean), torch.rand(len(clean), device=clean.device)
        mixed = torch.lerp(noise, clean, t.view(-1, 1, 1, 1))
        velocity = self.network(mixed, timestep=1000 * t, class_labels=labels).sample
        return (velocity - (clean - noise)).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def main(steps: int = 1000, folder: str = "lightning") -> None:
    digits = load_digits()
    pictures, labels = torch.tensor(digits.images).float()[:, None] / 8 - 1, torch.tensor(digits.target)
    batches = DataLoader(TensorDataset(pictures, labels), batch_size=32, shuffle=True)
    trainer = Trainer(
        max_steps=steps,
        accumulate_grad_batches=2,
        callbacks=[LightningWatch(f"{folder}/watched")],
        default_root_dir=folder,
        logger=False,
    )
    trainer.fit(Denoiser(), batches)


if __name__ == "__main__":
    main()
