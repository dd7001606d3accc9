"""DiT, SiT, DiT-LLaMA and SiT-LLaMA: one network.

SiT is DiT that does not return the variance half of its prediction. The LLaMA kind has rotary positions on q and k and
a SwiGLU MLP, while its norms stay LayerNorm; its released weights store `final_layer` before `blocks`, which only
matters to optimiser states matched by index.

Source: Peebles and Xie, "Scalable Diffusion Models with Transformers" (arXiv 2212.09748); Ma et al., "SiT: Exploring
Flow and Diffusion-based Generative Models with Scalable Interpolant Transformers" (arXiv 2401.08740); Chu et al.,
"VisionLLaMA: A Unified LLaMA Backbone for Vision Tasks" (arXiv 2403.00522).
"""

# mypy: disable-error-code="no-any-return,no-untyped-call"
# torch types the call of a module as Any and leaves `unflatten` untyped.

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from adaln.models.conditioned import (
    LAST,
    Vectors,
    add_branch,
    modulated,
    modulation,
    normed,
    own_modulation,
    vectors_of,
)
from adaln.models.config import NUM_TIME_FEATURES, num_labels
from adaln.models.dit_config import TransformerConfig
from adaln.models.fused import Given, Sizes, fused_network, have_loops, is_watched
from adaln.models.layers import (
    Attention,
    LabelEmbedder,
    Mlp,
    PatchEmbedder,
    Rotation,
    TimestepEmbedder,
    patchify,
    rotation,
    sincos_table,
    timestep_features,
    unpatchify,
    unturned,
)
from adaln.models.network import STARTS, STARTS_OF, Network, check_inputs
from adaln.types import DataSpec, Labels, Latents, Times, Tokens

Condition = Float[Tensor, "B 1 D"]
Embedding = Float[Tensor, "B D"]


def together(time: Embedding | None, label: Embedding | None) -> Embedding:
    """Their sum, of what there is."""
    if time is None or label is None:
        one = label if time is None else time
        assert one is not None  # `TransformerConfig.check_condition`
        return one
    return time + label


class SwiGLU(nn.Module):
    """down(SiLU(c_fc1 x) * c_fc2 x), without biases."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.c_fc1 = nn.Linear(dim, hidden, bias=False)
        self.c_fc2 = nn.Linear(dim, hidden, bias=False)
        self.c_proj = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tokens) -> Tokens:
        return self.c_proj(F.silu(self.c_fc1(x)) * self.c_fc2(x))


class DiTBlock(nn.Module):
    """Attention and MLP, each with its shift, scale and gate."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config, dim = config, config.hidden_size
        self.attn = Attention(dim, config.num_heads)
        self.mlp = (SwiGLU if config.rotary else Mlp)(dim, config.mlp_width)
        if (own := own_modulation(config, dim)) is not None:
            setattr(self, config.own_name, own)
        if config.gate == "static":
            self.attn_scale = nn.Parameter(torch.empty(dim))
            self.mlp_scale = nn.Parameter(torch.empty(dim))

    def forward(self, x: Tokens, c: Condition | None, shared: Tensor | None, positions: Rotation | None) -> Tokens:
        """`c` is None where nothing is modulated; `shared` is what the one map of all blocks gives, if there is one."""
        config, num_chunks = self.config, len(self.config.chunks)
        values = () if c is None else self.values(c, shared).chunk(2 * num_chunks, dim=-1)
        attn_gate, mlp_gate = (self.attn_scale, self.mlp_scale) if config.gate == "static" else (None, None)
        of_attn = vectors_of(values[:num_chunks], config.chunks, attn_gate)
        of_mlp = vectors_of(values[num_chunks:], config.chunks, mlp_gate)
        x = add_branch(x, partial(self.attn, rotation=positions), of_attn, config)
        return add_branch(x, self.mlp, of_mlp, config)

    def values(self, c: Condition, shared: Tensor | None) -> Float[Tensor, "B 1 C"]:
        """The numbers of all chunks, those of the attention first."""
        own: Any = getattr(self, self.config.own_name, None)
        if shared is None:
            return own(c)
        if own is None:
            return shared
        return shared + (own.flatten() if isinstance(own, nn.Parameter) else own(c))


class FinalLayer(nn.Module):
    """Modulated norm, then the linear head."""

    def __init__(self, config: TransformerConfig, num_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(config.hidden_size, num_features)
        if config.modulation != "in-context":
            self.adaLN_modulation = modulation(config.hidden_size, 2)
        self.norm = config.norm

    def forward(self, x: Tokens, c: Condition | None) -> Float[Tensor, "B N F"]:
        vectors = Vectors() if c is None else vectors_of(self.adaLN_modulation(c).chunk(2, dim=-1), LAST)
        return self.linear(modulated(normed(x, self.norm), vectors))


class DiT(Network):
    """(noisy latents, times, labels) -> prediction: DiT, SiT, DiT-LLaMA or SiT-LLaMA, as the config says.

    `pos_embed` is a buffer: part of the state dict, never trained, never averaged. Rotary families store it unused,
    as their released weights do.
    """

    pos_embed: Tensor

    def __init__(self, config: TransformerConfig, spec: DataSpec) -> None:
        super().__init__()
        config.check_condition(spec)
        self.config, self.spec = config, spec
        self.starts = STARTS_OF.get(config.modulation, STARTS)
        dim = config.hidden_size
        self.grid = config.grid(spec)
        self.num_labels = num_labels(spec, config.class_dropout_prob)
        self.x_embedder = PatchEmbedder(spec.channels, dim, config.patch_size)
        if config.time == "embedded":
            self.t_embedder = TimestepEmbedder(dim)
        if self.num_labels:
            self.y_embedder = LabelEmbedder(self.num_labels, dim)
        if config.time_tokens:
            self.time_tokens = nn.Parameter(torch.empty(config.time_tokens, dim))
        if config.class_tokens and self.num_labels:
            self.class_tokens = nn.Parameter(torch.empty(config.class_tokens, dim))
        self.register_buffer("pos_embed", torch.empty(1, self.grid[0] * self.grid[1], dim))
        if config.shares:
            setattr(self, config.shared_name, modulation(dim, 2 * len(config.chunks)))
        self.blocks = nn.ModuleList(DiTBlock(config) for _ in range(config.depth))
        self.final_layer = FinalLayer(config, config.head_features(spec))

    def forward(self, x: Latents, t: Times, y: Labels | None) -> Float[Tensor, "B Cout H W"]:
        check_inputs(x, t, y, self.spec, self.num_labels)
        tokens, positions = self.place(self.x_embedder(x))
        time, label = self.embedded(t, y)
        c = None if self.config.modulation == "in-context" else together(time, label).unsqueeze(1)
        shared = getattr(self, self.config.shared_name)(c) if self.config.shares else None
        more = self.condition_tokens(time, label)
        for depth, block in enumerate(self.blocks):
            if depth == self.config.tokens_from and more is not None:
                tokens = torch.cat([more, tokens], dim=1)
                positions = positions and unturned(positions, more.shape[1])
            tokens = block(tokens, c, shared, positions)
        return self.image(self.final_layer(tokens[:, -self.pos_embed.shape[1] :], c))

    def fused(self, x: Latents, t: Times, y: Labels | None) -> Float[Tensor, "B Cout H W"]:
        """`forward`, computed at once where it is small enough for that (`adaln.models.fused`)."""
        check_inputs(x, t, y, self.spec, self.num_labels)
        if self.is_plain and (sizes := self.sizes(len(x))).fit and not is_watched(self.modules()):
            weights = self.weights()
            if have_loops(x, self.pos_embed, *weights):
                patches, times = patchify(x, self.config.patch_size), self.time_features(t).expand(len(t), -1)
                labels = None if y is None else y.long()
                return self.image(fused_network(Given(patches, times, labels, self.pos_embed), sizes, weights))
        return DiT.forward(self, x, t, y)

    @property
    def is_plain(self) -> bool:
        """Whether the loops are for networks of this kind."""
        return not self.config.rotary and self.config.is_plain

    def sizes(self, batch: int) -> Sizes:
        """What the loops ask for."""
        config, (height, width) = self.config, self.grid
        patch = self.spec.channels * config.patch_size**2
        inner = config.hidden_size, config.num_heads, config.mlp_width, config.depth
        return Sizes(batch, height * width, *inner, patch, config.head_features(self.spec), NUM_TIME_FEATURES)

    def weights(self) -> list[Tensor]:
        """Weights and biases in the order of `maps` in network.c."""
        first, _, second = self.t_embedder.mlp
        head = self.final_layer
        maps: list[Any] = [self.x_embedder.proj, first, second, head.adaLN_modulation[1], head.linear]
        blocks: Any = self.blocks
        for block in blocks:
            maps += block.adaLN_modulation[1], block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2
        table = self.y_embedder.embedding_table.weight if self.num_labels else self.pos_embed.new_empty(0)
        return [table, *(tensor for map in maps for tensor in (map.weight, map.bias))]

    def time_features(self, t: Times) -> Float[Tensor, "T 256"]:
        """Of each sample; of the time that a whole batch is sampled at once, on a CPU."""
        is_sampled = t.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()
        return timestep_features(t[:1] if is_sampled and torch.equal(t, t[:1].expand_as(t)) else t)

    def condition(self, t: Times, y: Labels | None) -> Condition:
        """c = time embedding + label embedding, of what there is."""
        return together(*self.embedded(t, y)).unsqueeze(1)

    def embedded(self, t: Times, y: Labels | None) -> tuple[Embedding | None, Embedding | None]:
        """Time and label; None of what the network has no embedding of."""
        knows_time = self.config.time == "embedded"
        time = self.t_embedder(self.time_features(t)).expand(len(t), -1) if knows_time else None
        return time, None if y is None else self.y_embedder(y)

    def condition_tokens(self, time: Embedding | None, label: Embedding | None) -> Float[Tensor, "B M D"] | None:
        """Those of time, then of the class."""
        vectors = (getattr(self, "time_tokens", None), time), (getattr(self, "class_tokens", None), label)
        tokens = [own + of.unsqueeze(1) for own, of in vectors if own is not None and of is not None]
        return torch.cat(tokens, dim=1) if tokens else None

    def image(self, tokens: Float[Tensor, "B N F"]) -> Float[Tensor, "B Cout H W"]:
        """Of the head's output."""
        channels = self.spec.channels * self.config.outputs_per_channel
        return unpatchify(tokens, self.grid, self.config.patch_size, channels)

    def place(self, tokens: Tokens) -> tuple[Tokens, Rotation | None]:
        """Tokens that know their place, by an added table or by the rotation that their attention is to use."""
        if not self.config.rotary:
            return tokens + self.pos_embed, None
        return tokens, rotation(*self.grid, self.config.hidden_size // self.config.num_heads, tokens.device)

    def fixed(self) -> dict[str, Tensor]:
        return {"pos_embed": sincos_table(*self.grid, self.config.hidden_size)}
