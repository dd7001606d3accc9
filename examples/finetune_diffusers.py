"""Text to image, trained as diffusers' own script of that name does it, and watched.

A frozen autoencoder and frozen text, a transformer that learns, noise of a scheduler, accumulation, clipping,
checkpoints of everything, training that goes on from the newest. Autoencoder, text and pictures are made here, so that
it runs anywhere; with real ones (`PixArtTransformer2DModel.from_pretrained(...)`) the lines with `watched` stay.

    accelerate launch examples/finetune_diffusers.py
    adaln report finetuned/watched
    adaln audit finetuned/transformer

Needs `pip install 'adaln[diffusers]' accelerate`.
"""

from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL, DDPMScheduler, PixArtTransformer2DModel
from diffusers.optimization import get_scheduler
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import adaln

COLOURS = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, -1]])  # red, green, blue, yellow


def pictures_and_captions(number: int = 256) -> TensorDataset:
    """Squares of one of four colours, and the words for them as numbers: "a", colour, "square"."""
    colours = torch.arange(number) % 4
    pictures = torch.full((number, 3, 16, 16), -1.0)
    pictures[:, :, 4:12, 4:12] = COLOURS[colours].view(-1, 3, 1, 1)
    return TensorDataset(pictures, torch.stack([torch.full_like(colours, 4), colours, torch.full_like(colours, 5)], 1))


def models() -> tuple[AutoencoderKL, nn.Embedding, PixArtTransformer2DModel]:
    """An autoencoder, text, and the transformer that learns: the shapes of real ones, small."""
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        latent_channels=4,
    )
    text_encoder = nn.Embedding(6, 32)
    transformer = PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        cross_attention_dim=32,
        caption_channels=32,
        num_layers=2,
        in_channels=4,
        out_channels=4,
        sample_size=8,
        patch_size=2,
    )
    vae.requires_grad_(False)
    text_encoder.requires_grad_(False)
    return vae, text_encoder, transformer


def main(steps: int = 400, checkpoint_every: int = 200, folder: str = "finetuned") -> None:
    accelerator = Accelerator(gradient_accumulation_steps=2)
    vae, text_encoder, transformer = models()
    noise_scheduler = DDPMScheduler(num_train_timesteps=1000)
    optimizer = torch.optim.AdamW(transformer.parameters(), lr=1e-4, weight_decay=1e-2)
    lr_scheduler = get_scheduler("constant_with_warmup", optimizer, num_warmup_steps=10)
    batches = DataLoader(pictures_and_captions(), batch_size=8, shuffle=True, drop_last=True)
    transformer, optimizer, batches, lr_scheduler = accelerator.prepare(transformer, optimizer, batches, lr_scheduler)
    vae.to(accelerator.device), text_encoder.to(accelerator.device)

    global_step = 0
    if checkpoints := sorted(Path(folder).glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1])):
        accelerator.load_state(str(checkpoints[-1]))
        global_step = int(checkpoints[-1].name.split("-")[1])
    watched = adaln.watch(transformer, optimizer, to=f"{folder}/watched", step=global_step)

    while global_step < steps:
        for pictures, captions in batches:
            with accelerator.accumulate(transformer):
                latents = vae.encode(pictures).latent_dist.sample() * vae.config.scaling_factor
                noise = torch.randn_like(latents)
                times = torch.randint(0, 1000, (len(latents),), device=latents.device)
                noisy = noise_scheduler.add_noise(latents, noise, times)
                prediction = transformer(
                    noisy,
                    encoder_hidden_states=text_encoder(captions),
                    timestep=times,
                    added_cond_kwargs={"resolution": None, "aspect_ratio": None},
                ).sample
                loss = functional.mse_loss(prediction.float(), noise.float())
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(transformer.parameters(), 1.0)
                optimizer.step()
                lr_scheduler.step()
                optimizer.zero_grad()
            if accelerator.sync_gradients:
                global_step += 1
                watched.log(loss)
                if global_step % checkpoint_every == 0:
                    accelerator.save_state(f"{folder}/checkpoint-{global_step}")
            if global_step >= steps:
                break

    watched.close()
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        accelerator.unwrap_model(transformer).save_pretrained(f"{folder}/transformer")


if __name__ == "__main__":
    main()
