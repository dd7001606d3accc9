"""Images <-> latents through a pre-trained autoencoder of the diffusers library (imported only when one is opened)."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from inspect import signature
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from adaln.data.dataset import to_uint8
from adaln.data.endpoint import asking_hub
from adaln.files import expanded
from adaln.progress import note
from adaln.tensor_files import read_header

EXPECTED = "a folder with config.json and safetensors weights of an AutoencoderKL, or a hub id"
DECODED_AT_ONCE = 16
"""Latents that are decoded together: 512-pixel images take a few GB."""


@dataclass(frozen=True, slots=True)
class LatentSpace:
    """Which numbers a set of latents is made of; sets and decoders of different spaces do not mix."""

    autoencoder: str
    """Name, for people."""
    autoencoder_sha256: str
    """Over the weights: what counts."""
    scaling_factor: float
    """z = (latent - shift_factor) * scaling_factor is what a model sees."""
    shift_factor: float


@dataclass(frozen=True, slots=True, eq=False)
class Autoencoder:
    """A frozen AutoencoderKL with the space that its latents live in."""

    network: Any
    space: LatentSpace
    origin: str
    """Absolute path, or id at the hub, to open it from again."""
    device: torch.device

    @property
    def latent_channels(self) -> int:
        return int(self.network.config.latent_channels)

    @property
    def downsampling(self) -> int:
        """Image pixels per latent pixel and side."""
        return int(2 ** (len(self.network.config.block_out_channels) - 1))

    @torch.inference_mode()
    def moments(self, x: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B C h w"], Float[Tensor, "B C h w"]]:
        """Mean and standard deviation of the posterior of images in [-1, 1], not yet scaled."""
        posterior = self.network.encode(x.to(self.device)).latent_dist
        return posterior.mean.float().cpu(), posterior.std.float().cpu()

    @torch.inference_mode()
    def decode(self, z: Float[Tensor, "B C h w"], space: LatentSpace) -> UInt8[Tensor, "B 3 H W"]:
        """Images of scaled latents. Raises ValueError if `space`, where they come from, is not this one's."""
        check_same(space, self.space)
        latents = z.to(self.device) / self.space.scaling_factor + self.space.shift_factor
        parts = torch.split(latents, DECODED_AT_ONCE)
        return torch.cat([to_uint8(self.network.decode(part).sample.float()).cpu() for part in parts])


def check_same(space: LatentSpace, expected: LatentSpace) -> None:
    """Raise ValueError naming the first difference that changes a number."""
    for name in ("autoencoder_sha256", "scaling_factor", "shift_factor"):
        got, want = getattr(space, name), getattr(expected, name)
        if got != want:
            raise ValueError(f"latents of {space.autoencoder!r} have {name} {got}; {expected.autoencoder!r} has {want}")


def open_autoencoder(path: str, device: torch.device | str = "cpu") -> Autoencoder:
    """An AutoencoderKL from a local folder or the hub, e.g. `stabilityai/sd-vae-ft-ema`; safetensors weights only."""
    if find_spec("diffusers") is None:
        raise ValueError("an autoencoder needs the diffusers library; install it with: pip install 'adaln[diffusers]'")
    if not path:
        raise ValueError(f"the autoencoder is {path!r}; expected {EXPECTED}")
    folder = expanded(path)
    if not (folder / "config.json").exists() and (folder / "vae/config.json").exists():
        folder = folder / "vae"  # of a pipeline
    with nullcontext("") if folder.exists() else asking_hub() as unreachable:
        try:
            network = load_kl(folder if folder.is_dir() else path)
        except Exception as error:  # whatever the library raises on a foreign config
            reason = f"no such folder, and {unreachable}" if unreachable else why_not(folder, error)
            raise ValueError(f"no autoencoder at {path!r} ({reason}); expected {EXPECTED}") from error
    network = network.eval().requires_grad_(False).to(device)
    scaling, shift = factors(path, network.config)
    space = LatentSpace(Path(path).name, weights_sha256(network.state_dict()), scaling, shift)
    origin = str(folder.resolve()) if folder.is_dir() else path
    return Autoencoder(network, space, origin, torch.device(device))


def factors(path: str, config: Mapping[str, Any]) -> tuple[float, float]:
    """What latents are multiplied by, and what is taken from them before; `ValueError` for what is neither."""
    scaling, shift = config.get("scaling_factor"), config.get("shift_factor")
    shift = 0.0 if shift is None else shift
    for name, value in (("scaling_factor", scaling), ("shift_factor", shift)):
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
        if not is_number or (name == "scaling_factor" and not value):
            raise ValueError(f"the config.json of {path!r} has the {name} {value!r}; expected a finite number")
    if any(config.get(name) for name in ("latents_mean", "latents_std")):
        raise ValueError(f"the config.json of {path!r} has a latents_mean or latents_std by channel, which is not read")
    return float(scaling or 0.0), float(shift)


def load_kl(where: Path | str) -> Any:
    """Exactly an AutoencoderKL with exactly its weights; `ValueError` says what else was found."""
    from diffusers import AutoencoderKL

    with _silenced():
        config = AutoencoderKL.load_config(where)
        if not isinstance(config, dict):
            raise ValueError(f"its config.json holds a {type(config).__name__}, expected names and values")
        if (made_as := config.get("_class_name", "AutoencoderKL")) != "AutoencoderKL":
            raise ValueError(f"it is of the class {made_as}, expected AutoencoderKL")
        network, loading = AutoencoderKL.from_pretrained(
            where, use_safetensors=True, low_cpu_mem_usage=False, output_loading_info=True
        )
    wrong = [f"{kind} {names[0]!r}" for kind, names in loading.items() if names]
    if wrong:
        raise ValueError(f"its weights do not fit its config: {', '.join(wrong)}")
    refuse_numbers(where, network.state_dict())
    known = signature(AutoencoderKL).parameters
    if unknown := sorted(name for name in config if name not in known and not name.startswith("_")):
        note(f"the config.json of {str(where)!r} has {', '.join(unknown)}, which AutoencoderKL does not know")
    return network


def refuse_numbers(where: Path | str, weights: Mapping[str, Tensor]) -> None:
    """`ValueError` naming a weight that is not finite, or whole numbers in its file: the library reads both."""
    from huggingface_hub import try_to_load_from_cache

    for name, weight in weights.items():
        if not torch.isfinite(weight).all():
            raise ValueError(f"its weight {name!r} is not finite")
    config = where / "config.json" if isinstance(where, Path) else try_to_load_from_cache(where, "config.json")
    files = Path(config).parent.glob("diffusion_pytorch_model*.safetensors") if isinstance(config, str | Path) else ()
    for file in sorted(files):
        for name, entry in read_header(file)[0].items():
            if not entry["dtype"].startswith(("F", "BF")):
                raise ValueError(f"its weight {name!r} in {file.name} is of type {entry['dtype']}, quantised")


@contextmanager
def _silenced() -> Iterator[None]:
    """In this block diffusers prints nothing: what it would say comes back, and is said by whoever called."""
    from diffusers.utils import logging as of_diffusers

    verbosity = of_diffusers.get_verbosity()
    of_diffusers.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        of_diffusers.set_verbosity(verbosity)


def why_not(path: Path, error: Exception) -> str:
    """Why a path holds no autoencoder that can be opened."""
    if path.is_file():
        return "it is a file"
    if any(path.glob("*.bin")) and not any(path.glob("*.safetensors")):
        return "its weights are .bin files alone; save them as safetensors"
    return " ".join(str(error).split())[:200]


def weights_sha256(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of all weights, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        weight = weights[name].detach().cpu().contiguous()
        digest.update(repr((name, str(weight.dtype), tuple(weight.shape))).encode())
        digest.update(weight.view(torch.uint8).numpy().tobytes() if weight.ndim else repr(weight.item()).encode())
    return digest.hexdigest()


Render = Callable[[Float[Tensor, "B C h w"]], UInt8[Tensor, "B K H W"]]
"""How samples become images."""


def renderer(
    latents: Mapping[str, Any] | None, channels: int, path: str | None, device: torch.device
) -> tuple[Render, LatentSpace | None]:
    """How to render samples of `channels` channels, drawn by a run that noted `latents` (`Dataset.describe_latents`).

    And whose latents they are; None for pixels.
    `path`: folder or hub id of the autoencoder; None: where the data was encoded with it. Raises ValueError where that
    is not the autoencoder that made the latents, or where nobody knows which one did.
    """
    if path is None and not latents and channels in (1, 3):
        return to_uint8, None
    if latents and latents.get("is_normalised"):
        raise ValueError("the run learned latents normalised by channel statistics, which no AutoencoderKL decodes")
    path = path or (latents["autoencoder"] if latents else None)
    if path is None:
        raise ValueError(f"samples are latents of {channels} channels, of an autoencoder that is not recorded; name it")
    autoencoder = open_autoencoder(path, device)
    space = LatentSpace(**latents["space"]) if latents and latents["space"] else autoencoder.space
    check_same(space, autoencoder.space)
    if channels != autoencoder.latent_channels:
        raise ValueError(f"samples have {channels} channels; {path!r} decodes {autoencoder.latent_channels}")
    return partial(autoencoder.decode, space=space), space
