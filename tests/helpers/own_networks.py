"""Networks of a user, as factories that `--model helpers.own_networks:NAME` names."""

import torch
from torch import nn

from adaln.specs import DataSpec

DIGITS = DataSpec(1, 8, 8, 10)
NUMBER = 3


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.attn, self.mlp = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x, c):
        shift, scale, gate, shift_2, scale_2, gate_2 = self.adaLN_modulation(c)[:, None].chunk(6, dim=-1)
        x = x + gate * self.attn((1 + scale) * self.norm(x) + shift)
        return x + gate_2 * self.mlp((1 + scale_2) * self.norm(x) + shift_2)


class Small(nn.Module):
    """One token a pixel; a layer that nothing uses, as released networks have them."""

    def __init__(self, spec, width=8, num_labels=None):
        super().__init__()
        self.size = spec.height, spec.width
        self.x_embedder, self.t_embedder = nn.Linear(spec.channels, width), nn.Linear(1, width)
        self.y_embedder = nn.Embedding(num_labels or spec.num_classes + 1, width)
        self.position = nn.Parameter(0.02 * torch.randn(1, spec.height * spec.width, width))
        self.unused = nn.Linear(width, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(2))
        self.head = nn.Linear(width, spec.channels)

    def forward(self, x, t, y):
        c = self.t_embedder(t[:, None].to(x.dtype))
        c = c if y is None else c + self.y_embedder(y)
        x = self.x_embedder(x.flatten(2).mT) + self.position
        for block in self.blocks:
            x = block(x, c)
        return self.head(x).mT.unflatten(2, self.size)


def small(spec=DIGITS):
    return Small(spec)


def for_any_data(spec=None):
    return Small(spec or DIGITS)


def of_two(width, spec):
    return Small(spec, width)


def with_variance(spec):
    network = Small(spec)
    network.head = nn.Linear(8, 2 * spec.channels)
    return network


def without_null_class(spec):
    return Small(spec, num_labels=spec.num_classes)


def with_batch_norm(spec):
    network = Small(spec)
    network.blocks[0].attn = nn.Sequential(nn.Flatten(1), nn.BatchNorm1d(8 * 64), nn.Unflatten(1, (64, 8)))
    return network


class Described(nn.Module):
    """Modulated by layers that no family knows."""

    def __init__(self, spec):
        super().__init__()
        self.inner = Small(spec)
        for block in self.inner.blocks:
            block.squish = block.adaLN_modulation
            del block.adaLN_modulation

    def forward(self, x, t, y):
        return self.inner.head(self.inner.x_embedder(x.flatten(2).mT)).mT.unflatten(2, self.inner.size)


def of_unknown_names(spec):
    return Described(spec)


def of_no_modulation(spec):
    return Flat()


class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(1, 1, 1)

    def forward(self, x, t, y):
        return self.mix(x)


def silent():
    return Flat()


def no_module(spec):
    return spec


def fails(spec):
    raise RuntimeError("no weights")


def in_pairs(spec):
    network = Small(spec)
    network.register_forward_hook(lambda module, inputs, output: (output, None))
    return network
