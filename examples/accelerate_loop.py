"""A loop under accelerate, watched: a small DiT of diffusers learns 8 x 8 digits, and goes on where it was.

accelerate launch examples/accelerate_loop.py && adaln report accelerated/watched

Needs `pip install 'adaln[diffusers]' accelerate`.
"""

from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import DiTTransformer2DModel
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

import adaln


def main(steps: int = 1000, folder: str = "accelerated") -> None:
    digits = load_digits()
    pictures, labels = torch.tensor(digits.images).float()[:, None] / 8 - 1, torch.tensor(digits.target)
    sizes = {"num_attention_heads": 4, "attention_head_dim": 16, "num_layers": 4, "sample_size": 8, "in_channels": 1}
    network = DiTTransformer2DModel(**sizes, num_embeds_ada_norm=10, norm_num_groups=1)
    adaln.initialise(network, "adaln-gaussian")
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    batches = DataLoader(TensorDataset(pictures, labels), batch_size=32, shuffle=True)

    accelerator = Accelerator(gradient_accumulation_steps=2)
    network, optimizer, batches = accelerator.prepare(network, optimizer, batches)
    if (state := Path(folder, "state")).exists():
        accelerator.load_state(str(state))
    # after both: the optimiser's state says how many updates are behind the weights
    watched = adaln.watch(network, optimizer, to=f"{folder}/watched")
    while watched.updates < steps:
        for clean, classes in batches:
            with accelerator.accumulate(network):
                noise, t = torch.randn_like(clean), torch.rand(len(clean), device=clean.device)
                mixed = torch.lerp(noise, clean, t.view(-1, 1, 1, 1))
                velocity = network(mixed, timestep=1000 * t, class_labels=classes).sample
                loss = (velocity - (clean - noise)).square().mean()
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
            if accelerator.sync_gradients:
                watched.log(loss)
                if watched.updates == steps:
                    break
    watched.close()
    accelerator.save_state(str(state))


if __name__ == "__main__":
    main()
