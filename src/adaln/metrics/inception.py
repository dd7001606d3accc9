"""ADM's Inception network of 2015 (TensorFlow), in plain PyTorch, under the names of its public weight port.

The graph is data: each mixed block is a table of convolutions with the node that each one reads. It differs from
later Inception v3 networks: average pools leave the padding out of the mean, the last block pools by maximum, there
are 1008 classes, and images are resized by TensorFlow's first bilinear kernel.

Source: Szegedy et al., "Rethinking the Inception architecture for computer vision" (2016); the graph of
`inception-2015-12-05`, as ADM's evaluator and `pytorch-fid` document it.
"""

import urllib.request
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from adaln.files import atomic_file, file_sha256, filling
from adaln.metrics.features import Extractor, Features
from adaln.metrics.preprocessing import resize_legacy
from adaln.progress import progress
from adaln.tensor_files import load_pickle

FILE = "pt_inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{FILE}"
"""The public port of the weights: fetched once, checked by hash, loaded without running code."""
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
MEGABYTES = 96
"""Of the file."""
TIMEOUT_SECONDS = 30
PIECE_BYTES = 1 << 20
SIDE = 299
SPATIAL_BLOCK, SPATIAL_CHANNELS = "Mixed_6d", 7
"""ADM's sFID takes the first seven channels of `mixed_6/conv`: 17 x 17 x 7 = 2023. TensorFlow counts from mixed_0 =
Mixed_5b, so `mixed_6` is Mixed_6d, whose first 192 channels are the 1x1 branch."""
NUM_CLASSES = 1008


class Node(NamedTuple):
    """A convolution of a mixed block: what it reads, how many channels it makes, its kernel and stride."""

    source: str
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    """2: without padding, as everywhere in this network; 1: padded to keep the size."""


class Block(NamedTuple):
    """A mixed block: its convolutions, its pool and what is concatenated, in order."""

    nodes: dict[str, Node]
    pool: str
    """`average`, `max` (both keep the size) or `reduce` (maximum, stride 2)."""
    outputs: tuple[str, ...]


def _block_a(pool: int) -> Block:
    nodes = {
        "branch1x1": Node("x", 64),
        "branch5x5_1": Node("x", 48),
        "branch5x5_2": Node("branch5x5_1", 64, (5, 5)),
        "branch3x3dbl_1": Node("x", 64),
        "branch3x3dbl_2": Node("branch3x3dbl_1", 96, (3, 3)),
        "branch3x3dbl_3": Node("branch3x3dbl_2", 96, (3, 3)),
        "branch_pool": Node("pool", pool),
    }
    return Block(nodes, "average", ("branch1x1", "branch5x5_2", "branch3x3dbl_3", "branch_pool"))


def _block_b() -> Block:
    nodes = {
        "branch3x3": Node("x", 384, (3, 3), 2),
        "branch3x3dbl_1": Node("x", 64),
        "branch3x3dbl_2": Node("branch3x3dbl_1", 96, (3, 3)),
        "branch3x3dbl_3": Node("branch3x3dbl_2", 96, (3, 3), 2),
    }
    return Block(nodes, "reduce", ("branch3x3", "branch3x3dbl_3", "pool"))


def _block_c(width: int) -> Block:
    nodes = {
        "branch1x1": Node("x", 192),
        "branch7x7_1": Node("x", width),
        "branch7x7_2": Node("branch7x7_1", width, (1, 7)),
        "branch7x7_3": Node("branch7x7_2", 192, (7, 1)),
        "branch7x7dbl_1": Node("x", width),
        "branch7x7dbl_2": Node("branch7x7dbl_1", width, (7, 1)),
        "branch7x7dbl_3": Node("branch7x7dbl_2", width, (1, 7)),
        "branch7x7dbl_4": Node("branch7x7dbl_3", width, (7, 1)),
        "branch7x7dbl_5": Node("branch7x7dbl_4", 192, (1, 7)),
        "branch_pool": Node("pool", 192),
    }
    return Block(nodes, "average", ("branch1x1", "branch7x7_3", "branch7x7dbl_5", "branch_pool"))


def _block_d() -> Block:
    nodes = {
        "branch3x3_1": Node("x", 192),
        "branch3x3_2": Node("branch3x3_1", 320, (3, 3), 2),
        "branch7x7x3_1": Node("x", 192),
        "branch7x7x3_2": Node("branch7x7x3_1", 192, (1, 7)),
        "branch7x7x3_3": Node("branch7x7x3_2", 192, (7, 1)),
        "branch7x7x3_4": Node("branch7x7x3_3", 192, (3, 3), 2),
    }
    return Block(nodes, "reduce", ("branch3x3_2", "branch7x7x3_4", "pool"))


def _block_e(pool: str) -> Block:
    nodes = {
        "branch1x1": Node("x", 320),
        "branch3x3_1": Node("x", 384),
        "branch3x3_2a": Node("branch3x3_1", 384, (1, 3)),
        "branch3x3_2b": Node("branch3x3_1", 384, (3, 1)),
        "branch3x3dbl_1": Node("x", 448),
        "branch3x3dbl_2": Node("branch3x3dbl_1", 384, (3, 3)),
        "branch3x3dbl_3a": Node("branch3x3dbl_2", 384, (1, 3)),
        "branch3x3dbl_3b": Node("branch3x3dbl_2", 384, (3, 1)),
        "branch_pool": Node("pool", 192),
    }
    outputs = ("branch1x1", "branch3x3_2a", "branch3x3_2b", "branch3x3dbl_3a", "branch3x3dbl_3b", "branch_pool")
    return Block(nodes, pool, outputs)


BLOCKS = {
    "Mixed_5b": _block_a(32),
    "Mixed_5c": _block_a(64),
    "Mixed_5d": _block_a(64),
    "Mixed_6a": _block_b(),
    "Mixed_6b": _block_c(128),
    "Mixed_6c": _block_c(160),
    "Mixed_6d": _block_c(160),
    "Mixed_6e": _block_c(192),
    "Mixed_7a": _block_d(),
    "Mixed_7b": _block_e("average"),
    "Mixed_7c": _block_e("max"),
}


class Convolution(nn.Module):
    """Convolution without bias, batch norm, ReLU: one `conv` node of the graph."""

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int], stride: int = 1, padded: bool = True
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2) if padded else (0, 0)
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Float[Tensor, "B Cin H W"]) -> Float[Tensor, "B Cout h w"]:
        """The node's activation."""
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Mixed(nn.Module):
    """A mixed block as its table says."""

    def __init__(self, inputs: int, block: Block) -> None:
        super().__init__()
        self.block = block
        channels = {"x": inputs, "pool": inputs}
        for name, node in block.nodes.items():
            inputs = channels[node.source]
            self.add_module(name, Convolution(inputs, node.outputs, node.kernel, node.stride, node.stride == 1))
            channels[name] = node.outputs
        self.outputs = sum(channels[name] for name in block.outputs)

    def forward(self, x: Float[Tensor, "B Cin H W"]) -> Float[Tensor, "B Cout h w"]:
        """The branches, concatenated."""
        values = {"x": x, "pool": _pool(x, self.block.pool)}
        for name, node in self.block.nodes.items():
            values[name] = self.get_submodule(name)(values[node.source])
        return torch.cat([values[name] for name in self.block.outputs], dim=1)


def _pool(x: Float[Tensor, "B C H W"], kind: str) -> Float[Tensor, "B C h w"]:
    if kind == "average":
        return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    return F.max_pool2d(x, 3, stride=2) if kind == "reduce" else F.max_pool2d(x, 3, stride=1, padding=1)


class Inception(nn.Module):
    """uint8 images -> pool (2048), spatial (2023), probabilities (1008).

    The features of an image do not depend on the rest of its batch beyond a relative 1e-5.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, (3, 3), stride=2, padded=False)
        self.Conv2d_2a_3x3 = Convolution(32, 32, (3, 3), padded=False)
        self.Conv2d_2b_3x3 = Convolution(32, 64, (3, 3))
        self.Conv2d_3b_1x1 = Convolution(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = Convolution(80, 192, (3, 3), padded=False)
        channels = 192
        for name, block in BLOCKS.items():
            mixed = Mixed(channels, block)
            self.add_module(name, mixed)
            channels = mixed.outputs
        self.fc = nn.Linear(channels, NUM_CLASSES)
        """Its bias is in the weights file and, as in ADM's evaluator, never used."""

    def forward(self, images: UInt8[Tensor, "B C H W"]) -> Features:
        """Features of images of any size, grey ones as RGB, in float32 even where a GPU would round to TF32."""
        x = resize_legacy(images.expand(-1, 3, -1, -1).to(self.fc.weight.dtype), SIDE)
        x = x.contiguous(memory_format=torch.channels_last)  # a third faster, on CPUs too
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            pool, spatial = self._pool_and_spatial((x - 128) * (1 / 128))
        return Features(pool, spatial, (pool @ self.fc.weight.T).softmax(dim=1))

    def _pool_and_spatial(self, x: Float32[Tensor, "B 3 299 299"]) -> tuple[Tensor, Tensor]:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, stride=2)))
        x = F.max_pool2d(x, 3, stride=2)
        spatial = x[:, :0]
        for name in BLOCKS:
            x = self.get_submodule(name)(x)
            if name == SPATIAL_BLOCK:
                spatial = x[:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)  # ADM's (h, w, c) order
        return x.mean(dim=(2, 3)), spatial


def inception_extractor(weights: Path | None, cache: Path, *, device: torch.device | str = "cpu") -> Extractor:
    """ADM's features. `weights` is the port's file; None reads it from `cache`, fetching it there once."""
    tensors, digest = read_weights(weights, cache)
    network = load_inception(tensors).to(device)

    def features(images: UInt8[Tensor, "B C H W"]) -> Features:
        seen = network(images.to(device))
        return Features(seen.pool.cpu(), seen.spatial.cpu(), seen.probs.cpu())

    details = {"resize": f"{SIDE}x{SIDE}, bilinear as TensorFlow's first kernel, not antialiased"}
    return Extractor("inception", "Inception-2015 features (ADM's evaluation suite)", digest, features, details)


def load_inception(weights: dict[str, Tensor]) -> Inception:
    """The network with these weights, each norm folded into its convolution (equal to rounding, a tenth faster).

    ValueError names the first tensor that the graph does not have so.
    """
    with torch.device("meta"):
        network = Inception().eval().requires_grad_(False)
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    counters = {name: torch.zeros((), dtype=torch.long) for name in expected if name.endswith("num_batches_tracked")}
    weights = counters | weights
    for name in sorted(expected.keys() | weights.keys()):
        got = tuple(weights[name].shape) if name in weights else "nothing"
        if got != expected.get(name, "nothing"):
            raise ValueError(f"Inception weights: got {got} for {name!r}, expected {expected.get(name, 'nothing')}")
    network.load_state_dict(weights, assign=True)
    for part in network.modules():
        if isinstance(part, Convolution):
            part.add_module("conv", fuse_conv_bn_eval(part.conv, part.bn))
            part.add_module("bn", nn.Identity())
    return network.requires_grad_(False)


def read_weights(path: Path | None, cache: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors and their file's SHA-256, which must be the published one.

    Raises ValueError where the file is missing, damaged or another one, saying what to do.
    """
    if path is None:
        path = cache / FILE
        if not is_kept(cache):
            _fetch(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file, expected {FILE} from {URL}")
    digest = file_sha256(path)
    if digest != SHA256:
        raise ValueError(f"{path}: damaged or another file, got SHA-256 {digest[:12]}..., expected {SHA256[:12]}...")
    return dict(load_pickle(path)), digest


def is_kept(cache: Path) -> bool:
    """Whether the weights need not be fetched."""
    return (cache / FILE).is_file()


def _fetch(path: Path) -> None:
    """Download to a temporary name beside `path`; it takes its name only when its hash is right."""
    try:
        with filling(path.parent), atomic_file(path) as temporary:
            with urllib.request.urlopen(URL, timeout=TIMEOUT_SECONDS) as response, temporary.open("wb") as file:
                total = int(response.headers.get("Content-Length", 0))
                while piece := response.read(PIECE_BYTES):
                    file.write(piece)
                    progress("fetching Inception weights", file.tell(), total, "bytes")
            if file_sha256(temporary) != SHA256:
                raise ValueError(f"{URL}: what came is not the published file (SHA-256 {SHA256[:12]}...); try again")
    except OSError as error:  # URLError, time-outs and broken connections are all OSErrors
        raise ValueError(f"cannot fetch Inception weights ({error}); put {FILE} from {URL} at {path}") from error
