"""The sizes and choices of DiT, SiT, DiT-LLaMA and SiT-LLaMA."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from adaln.models.config import NUM_TIME_FEATURES, Counts, ModelConfig, check_sizes, linear, mlp_width, num_labels
from adaln.models.mechanism import Mechanism
from adaln.specs import DataSpec

if TYPE_CHECKING:
    import torch

    import adaln.models.network


@dataclass(frozen=True)
class TransformerConfig(Mechanism, ModelConfig):
    """What DiT and DiT-LLaMA have in common."""

    hidden_size: int
    """Width D of the tokens; a multiple of 4 and of num_heads."""
    depth: int
    """Number of blocks."""
    num_heads: int
    """Attention heads per block."""
    patch_size: int
    """Side of the square patch that becomes one token."""
    learn_sigma: bool = True
    """Predict a variance beside each channel: twice the data's channels."""
    drop_variance: bool = False
    """SiT: the variance half is in the weights but not in the output."""
    class_dropout_prob: float = 0.1
    """How often training replaces a label by the null class; 0: there is no null class, hence no guidance."""

    is_isotropic: ClassVar[bool] = True
    rotary: ClassVar[bool]
    """Whether positions rotate q and k and the MLP is a SwiGLU without biases."""
    published_as: ClassVar[tuple[str, str]]
    """Names of the network, without and with `drop_variance`."""

    def __post_init__(self) -> None:
        """Raise ValueError for counts below 1 and for widths that do not divide."""
        counts = ("hidden_size", "depth", "num_heads", "patch_size")
        check_sizes(self.class_dropout_prob, **{name: getattr(self, name) for name in counts})
        if self.hidden_size % 4 or self.hidden_size % self.num_heads:
            raise ValueError(
                f"got hidden_size {self.hidden_size}, expected a multiple of 4 and of {self.num_heads} heads"
            )
        if self.rotary and (self.hidden_size // self.num_heads) % 4:
            raise ValueError(f"got head width {self.hidden_size // self.num_heads}, expected a multiple of 4 (rotary)")
        self.check_mechanism(self.hidden_size, self.depth)

    @property
    def outputs_per_channel(self) -> int:
        return 2 if self.learn_sigma and not self.drop_variance else 1

    @property
    @abstractmethod
    def mlp_width(self) -> int:
        """Width of a block's hidden layer."""

    def grid(self, spec: DataSpec) -> tuple[int, int]:
        """Rows and columns of tokens; ValueError for data that the patches do not divide."""
        patch = self.patch_size
        if spec.height % patch or spec.width % patch:
            raise ValueError(f"got {spec.height} x {spec.width}, expected multiples of the patch size {patch}")
        return spec.height // patch, spec.width // patch

    def head_features(self, spec: DataSpec) -> int:
        """Numbers that the head gives for each token."""
        return self.patch_size**2 * spec.channels * (2 if self.learn_sigma else 1)

    def network(self, spec: DataSpec) -> "adaln.models.network.Network":
        from adaln.models.dit import DiT

        return DiT(self, spec)

    def counts(self, spec: DataSpec) -> Counts:
        dim, (rows, columns) = self.hidden_size, self.grid(spec)
        self.check_condition(spec)
        tokens, more = rows * columns, self.num_tokens(spec.num_classes > 0)
        embedders = linear(self.patch_size**2 * spec.channels, dim, tokens) + Counts(more * dim)
        embedders += Counts(num_labels(spec, self.class_dropout_prob) * dim)
        if self.time == "embedded":
            embedders += linear(NUM_TIME_FEATURES, dim) + linear(dim, dim)
        before = self.tokens_from if more else self.depth
        blocks = before * self._block(tokens) + (self.depth - before) * self._block(tokens + more)
        last = Counts() if self.modulation == "in-context" else linear(dim, 2 * dim)
        head = last + linear(dim, self.head_features(spec), tokens)
        return embedders + self.count_modulation(dim, self.depth) + blocks + head

    def _block(self, tokens: int) -> Counts:
        """Attention and MLP of so many tokens; all have the same parameters."""
        dim = self.hidden_size
        attention = linear(dim, 3 * dim, tokens) + linear(dim, dim, tokens) + Counts(0, 4 * tokens**2 * dim)
        ways_in, bias = (2, False) if self.rotary else (1, True)
        mlp = ways_in * linear(dim, self.mlp_width, tokens, bias=bias) + linear(self.mlp_width, dim, tokens, bias=bias)
        return attention + mlp

    def describe(self) -> str:
        family = self.published_as[self.drop_variance]
        sizes = f"width {self.hidden_size}, {self.depth} blocks and patch {self.patch_size}"
        return f"a {family} of {sizes}{self.describe_mechanism()}"

    def data_size(self, tensors: "Mapping[str, torch.Tensor]") -> tuple[int, int] | None:
        from adaln.models.layers import grid_of_table

        if "pos_embed" not in tensors:
            return None
        rows, columns = grid_of_table(tensors["pos_embed"])
        return rows * self.patch_size, columns * self.patch_size


@dataclass(frozen=True)
class DiTConfig(TransformerConfig):
    """DiT, or SiT where `drop_variance` is set."""

    mlp_ratio: float = 4.0
    """Width of the MLP over width of the tokens."""

    rotary: ClassVar[bool] = False
    published_as: ClassVar[tuple[str, str]] = "DiT", "SiT"

    def __post_init__(self) -> None:
        super().__post_init__()
        mlp_width(self.hidden_size, self.mlp_ratio)

    @property
    def mlp_width(self) -> int:
        return mlp_width(self.hidden_size, self.mlp_ratio)


@dataclass(frozen=True)
class LLaMAConfig(TransformerConfig):
    """DiT-LLaMA, or SiT-LLaMA where `drop_variance` is set."""

    rotary: ClassVar[bool] = True
    published_as: ClassVar[tuple[str, str]] = "DiT-LLaMA", "DiT-LLaMA"

    @property
    def mlp_width(self) -> int:
        """Two thirds of 4 D, rounded up to a multiple of 256."""
        return -(8 * self.hidden_size // 3 // -256) * 256
