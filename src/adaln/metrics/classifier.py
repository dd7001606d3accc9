"""A small classifier trained once on the data set itself: features for data that Inception knows nothing of."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from safetensors.torch import save
from torch import Tensor, nn

from adaln.files import filling, reason, write_atomically
from adaln.metrics.features import Extractor, Features
from adaln.progress import note, progress
from adaln.rng import generator
from adaln.tensor_files import load_tensors, misfit, read_header

NAME = "dataset-classifier"
LABEL = "dataset-classifier features, not comparable with Inception FID"
DIM = 64
"""Penultimate features."""
SIDE = 32
"""Larger images are averaged down to at most this side: the classifier judges shapes, at a cost any CPU affords."""
EPOCHS, FEWEST_STEPS, MOST_STEPS = 30, 400, 4000
BATCH, PEAK_LR = 128, 4e-3
HELD_OUT = 0.1
GRID = 4
"""The last feature map is averaged to GRID x GRID and flattened: where a stroke is matters."""
VERSION = 1
"""Part of every cache key: raise it when training changes."""
Weights = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImages:
    """What the classifier learns from."""

    images: UInt8[np.ndarray, "N C H W"]
    labels: Int64[np.ndarray, "N"]

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or min(self.images.shape[2:]) < 8:
            got = f"{self.images.dtype} {self.images.shape}"
            raise ValueError(f"dataset-classifier: got images {got}, expected uint8 (N, C, H, W) of side 8 or more")
        if len(self.labels) != len(self.images):
            raise ValueError(f"dataset-classifier: got {len(self.labels)} labels for {len(self.images)} images")
        if len(np.unique(self.labels)) < 2:
            raise ValueError(
                "dataset-classifier needs labels of at least 2 classes and the data has none; use features 'inception'"
            )

    def fingerprint(self) -> str:
        """SHA-256 over pixels, labels and everything in this file that shapes the result."""
        batch = batch_size(len(self.labels))
        recipe = (VERSION, DIM, SIDE, GRID, EPOCHS, FEWEST_STEPS, MOST_STEPS, batch, PEAK_LR, HELD_OUT)
        digest = hashlib.sha256(repr((recipe, self.images.shape)).encode())
        digest.update(np.ascontiguousarray(self.labels.astype("<i8")).data)
        for start in range(0, len(self.images), 1024):  # in pieces: the set may be memory-mapped
            digest.update(np.ascontiguousarray(self.images[start : start + 1024]).data)
        return digest.hexdigest()


def classifier_extractor(data: LabelledImages, cache: Path) -> Extractor:
    """The extractor for `data`: read from `cache`, else trained (seconds on one core for the digits) and put there.

    Pool features are the 64 penultimate activations, probabilities the softmax. The result is a function of the data
    alone, up to the rounding of the machine that trained it; the fingerprint is that of the weights.
    """
    fingerprint = data.fingerprint()
    path = _path(cache, fingerprint)
    if not path.is_file():
        weights, accuracy = train(data)
        with filling(cache):
            write_atomically(path, save(weights, metadata={"accuracy": repr(accuracy)}))
    shape = "x".join(map(str, data.images.shape[1:]))
    return _extractor(path, {"data": fingerprint, "num_training_images": len(data.images), "image_shape": shape})


def unlearned(data: LabelledImages, cache: Path) -> tuple[Callable[[UInt8[Tensor, "B C H W"]], Features], int]:
    """The network of `classifier_extractor` before it learns, which takes as long for an image; and the steps that it
    is still to be trained: 0 where `cache` has it."""
    shape = data.images.shape[1:]
    weights = initial_weights(shape[0], shape[1:], len(np.unique(data.labels)))
    is_kept = _path(cache, data.fingerprint()).is_file()
    return partial(_features, weights, shape), 0 if is_kept else num_steps(len(data.labels))


def recorded_classifier(recorded: Mapping[str, Any], cache: Path) -> Extractor:
    """The extractor that statistics describe; ValueError where `cache` no longer has its weights."""
    details = recorded["details"]
    path = _path(cache, str(details.get("data")))
    if not path.is_file():
        raise ValueError(
            "the dataset-classifier of these statistics is not in the cache here; make the statistics anew from their"
            " images, or name the data set itself"
        )
    extractor = _extractor(path, {key: details[key] for key in ("data", "num_training_images", "image_shape")})
    if extractor.fingerprint != recorded["fingerprint"]:
        raise ValueError(
            f"{path}: not the classifier that these statistics were made with; make them anew from their images"
        )
    return extractor


def _path(cache: Path, fingerprint: str) -> Path:
    return cache / f"classifier-{fingerprint[:32]}.safetensors"


def _extractor(path: Path, about: Mapping[str, Any]) -> Extractor:
    try:
        weights, accuracy = load_tensors(path), float(read_header(path)[1]["accuracy"])
        shape = tuple(int(side) for side in str(about["image_shape"]).split("x"))
        of_shape = initial_weights(weights["stem.weight"].shape[1], shape[1:], len(weights["head.weight"]))
        if len(shape) != 3 or shape[0] != weights["stem.weight"].shape[1] or misfit(of_shape, weights):
            raise ValueError(f"its weights are not for images of {about['image_shape']}")
    except (ValueError, KeyError, IndexError) as error:
        raise ValueError(
            f"{path}: not a cached classifier ({reason(error)}); delete it and it is trained again"
        ) from error
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].contiguous().numpy().data)
    details = {"held_out_accuracy": accuracy, "dim": DIM, **about}
    return Extractor(NAME, LABEL, digest.hexdigest(), partial(_features, weights, shape), details)


def train(data: LabelledImages) -> tuple[dict[str, Tensor], float]:
    """Weights after 30 epochs, at least 400 and at most 4,000 steps (AdamW, one cycle); accuracy on a held-out tenth.

    Training images are shifted by up to one pixel in each direction.
    """
    classes, labels = np.unique(data.labels, return_inverse=True)
    y = torch.from_numpy(labels).long()
    order = torch.randperm(len(y), generator=generator(NAME, "split"))
    held_out, training = order[: num_held_out(len(y))], order[num_held_out(len(y)) :]
    total, batch = num_steps(len(y)), batch_size(len(y))
    note(
        f"scores are in features of a classifier of these {len(y):,} images, trained once ({total:,} steps of"
        f" {batch} images) and kept; --features takes others, a loss (adaln loss, --by loss) none"
    )
    weights = initial_weights(data.images.shape[1], data.images.shape[2:], len(classes))
    optimiser = torch.optim.AdamW(weights.values(), lr=PEAK_LR, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_LR, total_steps=total)
    for step in range(total):
        rng = generator(NAME, "step", step)
        chosen = training[torch.randint(len(training), (batch,), generator=rng)]
        x = _shifted(_pixels(torch.from_numpy(data.images[chosen.numpy()])), rng)
        loss = F.cross_entropy(forward(weights, x)[1], y[chosen])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        progress("training the classifier", step + 1, total, "steps")
    weights = {name: tensor.detach() for name, tensor in weights.items()}
    return weights, _accuracy(weights, data.images, y, held_out)


def num_held_out(num_images: int) -> int:
    """Of so many images, those that only the accuracy is taken on."""
    return max(1, round(HELD_OUT * num_images))


def batch_size(num_images: int) -> int:
    """Of training on so many images: BATCH, but no more than there are to learn from."""
    return min(BATCH, num_images - num_held_out(num_images))


def num_steps(num_images: int) -> int:
    """Of training on so many images."""
    return min(max(EPOCHS * (num_images - num_held_out(num_images)) // BATCH, FEWEST_STEPS), MOST_STEPS)


def initial_weights(channels: int, side: tuple[int, ...], num_classes: int) -> dict[str, Tensor]:
    """A stem and one strided stage per halving until the grid is about GRID wide, then two linear layers."""
    rng = generator(NAME, "weights")
    stages = max(1, (min(*side, SIDE) - 1).bit_length() - 2)
    widths = [32, *(min(32 * 2 ** (i + 1), 128) for i in range(stages))]
    shapes: dict[str, tuple[int, ...]] = {"stem": (widths[0], channels, 3, 3)}
    shapes |= {f"stage.{i}": (widths[i + 1], widths[i], 3, 3) for i in range(stages)}
    shapes |= {"pool": (DIM, widths[-1] * GRID**2), "head": (num_classes, DIM)}
    weights = {}
    for name, shape in shapes.items():
        weight = torch.empty(shape)
        nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=rng)
        weights[f"{name}.weight"] = weight.requires_grad_()
        weights[f"{name}.bias"] = torch.zeros(shape[0]).requires_grad_()
    return weights


def forward(weights: Weights, x: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B 64"], Float[Tensor, "B K"]]:
    """Penultimate features and logits."""
    x = F.conv2d(x, weights["stem.weight"], weights["stem.bias"], padding=1)
    for i in range(sum(name.startswith("stage") for name in weights) // 2):
        x = F.relu(F.group_norm(x, 8))
        x = F.conv2d(x, weights[f"stage.{i}.weight"], weights[f"stage.{i}.bias"], stride=2, padding=1)
    x = F.adaptive_avg_pool2d(F.relu(F.group_norm(x, 8)), GRID)
    features = F.relu(F.linear(x.flatten(1), weights["pool.weight"], weights["pool.bias"]))
    return features, F.linear(features, weights["head.weight"], weights["head.bias"])


def _features(weights: Weights, shape: tuple[int, ...], images: UInt8[Tensor, "B C H W"]) -> Features:
    if images.shape[1:] != shape:
        raise ValueError(f"got images (C, H, W) {tuple(images.shape[1:])}, expected {shape} as the classifier learnt")
    pool, logits = forward(weights, _pixels(images))
    return Features(pool, probs=logits.softmax(dim=1))


def _pixels(images: UInt8[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
    """Float pixels in [-1, 1] of a side of at most SIDE."""
    x = images.to(torch.float32) / 127.5 - 1
    largest = max(x.shape[2:])
    size = [max(8, round(side * SIDE / largest)) for side in x.shape[2:]]
    return F.interpolate(x, size=size, mode="area") if largest > SIDE else x


def _shifted(x: Float[Tensor, "B C H W"], rng: torch.Generator) -> Float[Tensor, "B C H W"]:
    """Each image moved by -1, 0 or 1 pixels along both axes, its border repeated."""
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    height, width = x.shape[2:]
    top, left = torch.randint(3, (2, len(x)), generator=rng)
    rows, columns = top[:, None] + torch.arange(height), left[:, None] + torch.arange(width)
    batch = torch.arange(len(x))[:, None, None]
    return padded.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _accuracy(weights: Weights, images: np.ndarray, y: Int64[Tensor, "N"], chosen: Int64[Tensor, "M"]) -> float:
    right = 0
    with torch.inference_mode():
        for part in torch.split(chosen, 256):
            logits = forward(weights, _pixels(torch.from_numpy(images[part.numpy()])))[1]
            right += int((logits.argmax(dim=1) == y[part]).sum())
    return right / len(chosen)
