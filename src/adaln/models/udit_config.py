"""The sizes and choices of U-DiT."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from adaln.codec import LEFT_OUT_AT_DEFAULT
from adaln.models.config import NUM_TIME_FEATURES, Counts, ModelConfig, check_sizes, linear, mlp_width, num_labels
from adaln.models.mechanism import Mechanism, ModulationKind
from adaln.specs import DataSpec

if TYPE_CHECKING:
    import adaln.models.network


@dataclass(frozen=True)
class UDiTConfig(Mechanism, ModelConfig):
    """U-DiT: two units per block, width doubling per level."""

    hidden_size: int
    """Width at full resolution; doubles at each of the two lower ones."""
    num_heads: int
    """Attention heads, the same at every level."""
    depth: tuple[int, int, int, int, int] = (2, 5, 8, 5, 2)
    """Blocks of encoder 1, encoder 2, latent, decoder 2, decoder 1."""
    mlp_ratio: float = 2.0
    """Width of the feed-forward part over width of the stage."""
    learn_sigma: bool = True
    """Predict a variance beside each channel: twice the data's channels."""
    class_dropout_prob: float = 0.1
    """How often training replaces a label by the null class; 0: there is no null class, hence no guidance."""
    modulation: ModulationKind = field(default="linear", metadata=LEFT_OUT_AT_DEFAULT, kw_only=True)
    """Of each unit: a linear map, or the same through an SE bottleneck; there is no map for blocks of three widths."""
    se_ratio: int = field(default=2, metadata=LEFT_OUT_AT_DEFAULT, kw_only=True)
    """Width over bottleneck width, where modulation is "se"."""

    is_isotropic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Raise ValueError for counts below 1 and for a width that the heads do not divide into multiples of 4."""
        depth = min(self.depth)
        check_sizes(self.class_dropout_prob, hidden_size=self.hidden_size, num_heads=self.num_heads, depth=depth)
        mlp_width(self.hidden_size, self.mlp_ratio)
        if self.hidden_size % (4 * self.num_heads):
            raise ValueError(f"got hidden_size {self.hidden_size}, expected a multiple of 4 x {self.num_heads} heads")
        if self.modulation not in ("linear", "se"):
            raise ValueError(
                f"got modulation {self.modulation}, expected linear or se: the blocks of a U-DiT have three widths, for"
                " which there is no one map"
            )
        for name in ("class_tokens", "time_tokens", "tokens_from"):
            if getattr(self, name):
                raise ValueError(f"got {name} {getattr(self, name)}, expected 0: the blocks of a U-DiT take images")
        self.check_mechanism(self.hidden_size, sum(self.depth))

    @property
    def outputs_per_channel(self) -> int:
        return 2 if self.learn_sigma else 1

    def check_data(self, spec: DataSpec) -> None:
        """ValueError for data of a size that the network does not take."""
        if spec.height % 8 or spec.width % 8:
            raise ValueError(f"got {spec.height} x {spec.width}, expected multiples of 8 (two halvings and sub-grids)")
        self.check_condition(spec)

    def network(self, spec: DataSpec) -> "adaln.models.network.Network":
        from adaln.models.udit import UDiT

        return UDiT(self, spec)

    def depth_of(self, blocks: int) -> tuple[int, ...]:
        return (blocks,) * 5

    def counts(self, spec: DataSpec) -> Counts:
        """Of one more sample in a large batch: kernels are multiplied with each other once per batch."""
        self.check_data(spec)
        h, labels = self.hidden_size, num_labels(spec, self.class_dropout_prob)
        full, half, quarter = (spec.height * spec.width // 4**level for level in range(3))
        total = linear(9 * spec.channels, h, full)
        for width in (h, 2 * h, 4 * h):
            total += Counts(labels * width)
            if self.time == "embedded":
                total += linear(NUM_TIME_FEATURES, width) + linear(width, width)
        stages = ((h, full), (2 * h, half), (4 * h, quarter), (2 * h, half), (2 * h, full))
        for blocks, (width, positions) in zip(self.depth, stages, strict=True):
            total += 2 * blocks * self._unit(width, positions)
        for inputs, outputs, positions in (
            *((h, h // 2, full), (2 * h, h, half)),  # down
            *((4 * h, 8 * h, quarter), (2 * h, 4 * h, half)),  # up
        ):
            total += linear(9 * inputs, outputs, positions, bias=False)
        total += linear(4 * h, 2 * h, half) + linear(2 * h, 2 * h, full)  # after joining
        total += linear(9 * 2 * h, 2 * h, full) + linear(2 * h, 4 * h)
        return total + linear(9 * 2 * h, spec.channels * self.outputs_per_channel, full)

    def _unit(self, dim: int, positions: int) -> Counts:
        """Attention inside four sub-grids and feed-forward part, with their modulation."""
        attention = linear(25, dim, positions) + linear(dim, 3 * dim, positions) + linear(dim, dim, positions)
        attention += Counts(self.num_heads, positions**2 * dim)
        hidden = int(self.mlp_ratio * dim)
        depthwise = Counts((25 + 9 + 1 + 3) * hidden, 2 * 25 * hidden * positions)
        mlp = _pointwise_pair(dim, hidden // 2, hidden, positions) + depthwise
        mlp += _pointwise_pair(hidden, hidden // 2, dim, positions)
        return self.count_modulation(dim, 1) + attention + mlp

    def describe(self) -> str:
        sizes = f"width {self.hidden_size} and {sum(self.depth)} blocks"
        return f"a U-DiT of {sizes}{self.describe_mechanism()}"


def _pointwise_pair(inputs: int, middle: int, outputs: int, positions: int) -> Counts:
    """Two linear maps with nothing in between, multiplied with each other first where that is less work."""
    apart = linear(inputs, middle, positions) + linear(middle, outputs, positions)
    return Counts(apart.parameters, min(apart.flops, 2 * inputs * outputs * positions))
