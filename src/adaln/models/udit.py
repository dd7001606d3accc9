"""U-DiT: a convolutional U-Net of conditioned units whose attention looks at four interleaved sub-grids.

Source: Tian et al., "U-DiTs: Downsample Tokens in U-Shaped Diffusion Transformers" (arXiv 2405.02730). Inside a stage
images are channels-last (B, H, W, D), which is what norms, modulation and linear maps want.
"""

# mypy: disable-error-code="no-any-return,no-untyped-call"
# torch types the call of a module as Any and leaves `unflatten` untyped.

from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from adaln.models.conditioned import LAST, add_branch, modulated, modulation, normed, own_modulation, vectors_of
from adaln.models.config import num_labels
from adaln.models.layers import LabelEmbedder, Rotation, TimestepEmbedder, rotate, rotation, timestep_features
from adaln.models.network import STARTS, STARTS_OF, Network, check_inputs
from adaln.models.udit_config import UDiTConfig
from adaln.types import DataSpec, Labels, Latents, Times

Image = Float[Tensor, "B H W D"]
Condition = Float[Tensor, "B 1 1 D"]
MAX_LOGIT_SCALE = 4.6052
"""ln 100 as the released networks round it."""


def convolved(conv: nn.Conv2d, x: Image) -> Float[Tensor, "B H W E"]:
    """A convolution of a channels-last image."""
    return conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class PointwisePair(nn.Sequential):
    """Two 1x1 convolutions with nothing in between, hence one linear map.

    Without gradients the two matrices are multiplied first wherever that is less work. Nothing is stored, so
    `eval()`, `train()` and saving see the same weights; only rounding differs (about 1e-6).
    """

    def __init__(self, inputs: int, middle: int, outputs: int) -> None:
        super().__init__(nn.Conv2d(inputs, middle, 1), nn.Conv2d(middle, outputs, 1))

    def forward(self, x: Image) -> Float[Tensor, "B H W E"]:
        kernel_1, first_bias, kernel_2, second_bias = self.parameters()
        first, second = kernel_1.flatten(1), kernel_2.flatten(1)
        if torch.is_grad_enabled() or not merging_pays(x.numel() // x.shape[-1], first, second):
            return F.linear(F.linear(x, first, first_bias), second, second_bias)
        return F.linear(x, second @ first, torch.addmv(second_bias, second, first_bias))


def merging_pays(num_positions: int, first: Float[Tensor, "M I"], second: Float[Tensor, "O M"]) -> bool:
    """Are there fewer multiplications in (second first) x, that product included, than in second (first x)?"""
    (middle, inputs), outputs = first.shape, len(second)
    return num_positions * (middle * (inputs + outputs) - inputs * outputs) > outputs * middle * inputs


class DepthwiseSum(nn.ModuleList):
    """x + dw5(x) + dw3(x) + dw1(x), computed as x plus ONE depthwise convolution whose kernel is the sum of the three.

    Gradients flow through the sum of kernels. The identity stays outside of it: in bfloat16, 1 + w would round small w
    away.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(nn.Conv2d(dim, dim, size, padding=size // 2, groups=dim) for size in (5, 3, 1))

    def forward(self, x: Image) -> Image:
        weight_5, bias_5, weight_3, bias_3, weight_1, bias_1 = self.parameters()
        weight = weight_5 + F.pad(weight_3, (1,) * 4) + F.pad(weight_1, (2,) * 4)
        bias = bias_5 + bias_3 + bias_1
        summed = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=2, groups=x.shape[-1])
        return x + summed.permute(0, 2, 3, 1)


class FeedForward(nn.Module):
    """Pointwise pair -> GELU (exact form) -> sum of depthwise convolutions -> pointwise pair."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.project_in = PointwisePair(dim, hidden // 2, hidden)
        self.dwconv = DepthwiseSum(hidden)
        self.project_out = PointwisePair(hidden, hidden // 2, dim)

    def forward(self, x: Image) -> Image:
        return self.project_out(self.dwconv(F.gelu(self.project_in(x))))


class Downsampler(nn.Module):
    """x + depthwise 5x5 convolution of x, what each sub-grid sees of the others."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)

    def forward(self, x: Image) -> Image:
        return x + convolved(self.layer, x)


class DownsampledAttention(nn.Module):
    """Cosine attention with rotary positions inside each of four interleaved sub-grids; no position is discarded."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.downsampler = Downsampler(dim)
        self.logit_scale = nn.Parameter(torch.empty(num_heads, 1, 1))
        self.to_qkv = nn.Linear(dim, 3 * dim)
        self.to_out = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Image, positions: Rotation) -> Image:
        groups = (
            self.downsampler(x).unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).permute(0, 2, 4, 1, 3, 5)
        )  # B a b h w D
        mixed = self.attend(groups.flatten(3, 4).flatten(0, 2), positions)
        mixed = F.linear(mixed, self.to_out.weight.flatten(1), self.to_out.bias)
        return mixed.view(groups.shape).permute(0, 3, 1, 4, 2, 5).flatten(3, 4).flatten(1, 2)

    def attend(self, tokens: Float[Tensor, "G N D"], positions: Rotation) -> Float[Tensor, "G N D"]:
        """softmax(q.k exp(min(logit_scale, ln 100))) v, with q and k of length 1."""
        qkv = self.to_qkv(tokens).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = F.normalize(rotate(qkv[:2], positions), dim=-1, eps=1e-12).unbind(0)
        q = q * self.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp().to(q.dtype)
        return F.scaled_dot_product_attention(q, k, qkv[2], scale=1.0).transpose(1, 2).flatten(2)


class UDiTBlock(nn.Module):
    """Two conditioned units one after the other, each with its own modulation."""

    def __init__(self, dim: int, config: UDiTConfig) -> None:
        super().__init__()
        self.config = config
        for unit in (1, 2):
            setattr(self, f"attn{unit}", DownsampledAttention(dim, config.num_heads))
            setattr(self, f"mlp{unit}", FeedForward(dim, int(config.mlp_ratio * dim)))
            setattr(self, f"adaLN_modulation{unit}{config.suffix}", own_modulation(config, dim))
            for branch in (f"attn{unit}", f"mlp{unit}") if config.gate == "static" else ():
                setattr(self, f"{branch}_scale", nn.Parameter(torch.empty(dim)))

    def forward(self, x: Image, c: Condition, positions: Rotation) -> Image:
        chunks = self.config.chunks
        for unit in (1, 2):
            attn, mlp = f"attn{unit}", f"mlp{unit}"
            values = getattr(self, f"adaLN_modulation{unit}{self.config.suffix}")(c).chunk(2 * len(chunks), dim=-1)
            of_attn = vectors_of(values[: len(chunks)], chunks, getattr(self, f"{attn}_scale", None))
            of_mlp = vectors_of(values[len(chunks) :], chunks, getattr(self, f"{mlp}_scale", None))
            x = add_branch(x, partial(getattr(self, attn), positions=positions), of_attn, self.config)
            x = add_branch(x, getattr(self, mlp), of_mlp, self.config)
        return x


class Stage(nn.ModuleList):
    """Blocks at one resolution and width."""

    def __init__(self, depth: int, dim: int, config: UDiTConfig) -> None:
        super().__init__(UDiTBlock(dim, config) for _ in range(depth))
        self.head_dim = dim // config.num_heads

    def forward(self, x: Image, c: Condition) -> Image:
        positions = rotation(x.shape[1] // 2, x.shape[2] // 2, self.head_dim, x.device)
        for block in self:
            x = block(x, c, positions)
        return x


class Resample(nn.Module):
    """3x3 convolution without bias, then pixels into channels (`down`) or channels into pixels."""

    def __init__(self, dim: int, *, down: bool) -> None:
        super().__init__()
        conv = nn.Conv2d(dim, dim // 2 if down else 2 * dim, 3, padding=1, bias=False)
        self.body = nn.Sequential(conv, nn.PixelUnshuffle(2) if down else nn.PixelShuffle(2))

    def forward(self, x: Image) -> Float[Tensor, "B H2 W2 D2"]:
        return self.body(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class InputConvolution(nn.Module):
    """3x3 convolution of the latents to the first width: U-DiT has no patches."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, 3, padding=1)

    def forward(self, x: Latents) -> Image:
        return self.proj(x).permute(0, 2, 3, 1)


class FinalLayer(nn.Module):
    """Modulated norm, then a 3x3 convolution as the head."""

    def __init__(self, dim: int, channels: int, norm: str) -> None:
        super().__init__()
        self.out_proj = nn.Conv2d(dim, channels, 3, padding=1)
        self.adaLN_modulation = modulation(dim, 2)
        self.norm = norm

    def forward(self, x: Image, c: Condition) -> Float[Tensor, "B Cout H W"]:
        vectors = vectors_of(self.adaLN_modulation(c).chunk(2, dim=-1), LAST)
        return self.out_proj(modulated(normed(x, self.norm), vectors).permute(0, 3, 1, 2))


class UDiT(Network):
    """(noisy latents, times, labels) -> prediction. The last decoder stage stays at width 2h and is driven by c2."""

    def __init__(self, config: UDiTConfig, spec: DataSpec) -> None:
        super().__init__()
        config.check_data(spec)
        self.config, self.spec = config, spec
        self.num_labels = num_labels(spec, config.class_dropout_prob)
        h, depth = config.hidden_size, config.depth
        self.x_embedder = InputConvolution(spec.channels, h)
        self.starts = STARTS_OF.get(config.modulation, STARTS)
        for level in (1, 2, 3) if config.time == "embedded" else ():
            self.add_module(f"t_embedder_{level}", TimestepEmbedder(h << (level - 1)))
        for level in (1, 2, 3) if self.num_labels else ():
            self.add_module(f"y_embedder_{level}", LabelEmbedder(self.num_labels, h << (level - 1)))
        self.encoder_level_1 = Stage(depth[0], h, config)
        self.down1_2 = Resample(h, down=True)
        self.encoder_level_2 = Stage(depth[1], 2 * h, config)
        self.down2_3 = Resample(2 * h, down=True)
        self.latent = Stage(depth[2], 4 * h, config)
        self.up3_2 = Resample(4 * h, down=False)
        self.reduce_chan_level2 = nn.Conv2d(4 * h, 2 * h, 1)
        self.decoder_level_2 = Stage(depth[3], 2 * h, config)
        self.up2_1 = Resample(2 * h, down=False)
        self.reduce_chan_level1 = nn.Conv2d(2 * h, 2 * h, 1)
        self.decoder_level_1 = Stage(depth[4], 2 * h, config)
        self.output = nn.Conv2d(2 * h, 2 * h, 3, padding=1)
        self.final_layer = FinalLayer(2 * h, spec.channels * config.outputs_per_channel, config.norm)

    def forward(self, x: Latents, t: Times, y: Labels | None) -> Float[Tensor, "B Cout H W"]:
        check_inputs(x, t, y, self.spec, self.num_labels)
        c1, c2, c3 = self.conditions(t, y)
        level_1 = self.encoder_level_1(self.x_embedder(x), c1)
        level_2 = self.encoder_level_2(self.down1_2(level_1), c2)
        latent = self.latent(self.down2_3(level_2), c3)
        joined = torch.cat([self.up3_2(latent), level_2], dim=-1)
        level_2 = self.decoder_level_2(convolved(self.reduce_chan_level2, joined), c2)
        joined = torch.cat([self.up2_1(level_2), level_1], dim=-1)
        level_1 = self.decoder_level_1(convolved(self.reduce_chan_level1, joined), c2)
        return self.final_layer(convolved(self.output, level_1), c2)

    def conditions(self, t: Times, y: Labels | None) -> list[Condition]:
        """c_k = time embedding + label embedding of widths h, 2h, 4h, of what there is; all see the same label."""
        features = timestep_features(t) if self.config.time == "embedded" else None
        given = [pair for pair in (("t", features), ("y", y)) if pair[1] is not None]
        levels = [[self.get_submodule(f"{kind}_embedder_{level}")(of) for kind, of in given] for level in (1, 2, 3)]
        return [torch.stack(of_level).sum(0)[:, None, None] for of_level in levels]
