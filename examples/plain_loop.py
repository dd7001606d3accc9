"""A training loop of your own, watched: a small DiT of diffusers learns 8 x 8 digits.

python examples/plain_loop.py && adaln report watched
"""

import torch
from diffusers import DiTTransformer2DModel
from sklearn.datasets import load_digits

import adaln


def main(steps: int = 1000, folder: str = "watched") -> None:
    digits = load_digits()
    pictures, labels = torch.tensor(digits.images).float()[:, None] / 8 - 1, torch.tensor(digits.target)
    sizes = {"num_attention_heads": 4, "attention_head_dim": 16, "num_layers": 4, "sample_size": 8, "in_channels": 1}
    network = DiTTransformer2DModel(**sizes, num_embeds_ada_norm=10, norm_num_groups=1)
    adaln.initialise(network, "adaln-gaussian")
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    watched = adaln.watch(network, optimizer, to=folder)
    for _ in range(steps):
        at = torch.randint(len(pictures), (64,))
        clean, noise, t = pictures[at], torch.randn(64, 1, 8, 8), torch.rand(64)
        mixed = torch.lerp(noise, clean, t.view(-1, 1, 1, 1))
        velocity = network(mixed, timestep=1000 * t, class_labels=labels[at]).sample
        loss = (velocity - (clean - noise)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        watched.log(loss)
    watched.close()


if __name__ == "__main__":
    main()
