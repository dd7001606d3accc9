"""A small random autoencoder, saved as the published ones are."""

from pathlib import Path

import torch


def save_autoencoder(folder: Path, seed: int = 0, scaling_factor: float = 0.5) -> Path:
    """Halves each side and gives 4 channels."""
    from diffusers import AutoencoderKL

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = AutoencoderKL(
            block_out_channels=(4, 4),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=2,
            latent_channels=4,
            scaling_factor=scaling_factor,
        )
    network.save_pretrained(folder)
    return folder
