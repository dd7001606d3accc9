"""How a transformer's blocks are conditioned, as data: its chunks, what they go through, and where they come from.

Source: gates through a tanh and no shift as in Lumina (arXiv 2405.05945); gates and scales through a sigmoid as in
AlphaFold 3; static gates as in improved MeanFlow (arXiv 2512.02012); one map beside low-rank maps as in W.A.L.T (arXiv
2312.06662); outputs that are modulated, without a gate, as in PixelDiT (arXiv 2511.20645);
tokens in improved MeanFlow and, beside modulation, in JiT (arXiv 2511.13720).
"""

from dataclasses import dataclass, field, fields
from typing import Literal, NamedTuple

from adaln.codec import LEFT_OUT_AT_DEFAULT
from adaln.models.config import MOST, Counts, check_sizes, linear
from adaln.specs import DataSpec

ModulationKind = Literal["linear", "se", "low-rank", "shared", "shared-alone", "in-context"]
Function = Literal["identity", "one_plus", "tanh", "sigmoid"]


class Chunk(NamedTuple):
    """D of the numbers that modulate a branch."""

    role: Literal["shift", "scale", "gate"]
    function: Function
    """What they go through first."""

    @property
    def word(self) -> str:
        """Of names: the role, after the function unless that is DiT's."""
        is_usual = self.function == ("one_plus" if self.role == "scale" else "identity")
        return self.role if is_usual else f"{self.function}_{self.role}"


@dataclass(frozen=True, kw_only=True)
class Mechanism:
    """Shift, scale and gate of the blocks' branches; the last layer has a shift and a scale of its own."""

    modulation: ModulationKind = "linear"
    """Of the blocks: a linear map each, the same through an SE bottleneck, one map for all beside low-rank maps, beside
    PixArt's tables, or alone; in-context: none, nor of the last layer, and the condition is tokens."""
    se_ratio: int = 2
    """Width over bottleneck width, where modulation is "se"."""
    rank: int = field(default=32, metadata=LEFT_OUT_AT_DEFAULT)
    """Of a block's own map, where modulation is "low-rank"."""
    gate: Literal["identity", "tanh", "sigmoid", "static"] = field(default="identity", metadata=LEFT_OUT_AT_DEFAULT)
    """What gates go through; static: a vector of each branch, learned, that no condition moves."""
    scale: Literal["one_plus", "sigmoid"] = field(default="one_plus", metadata=LEFT_OUT_AT_DEFAULT)
    """What multiplies a norm for a value s: 1 + s, or its sigmoid."""
    shift: bool = field(default=True, metadata=LEFT_OUT_AT_DEFAULT)
    """Whether a shift is added to what enters a branch."""
    norm: Literal["layer", "rms"] = field(default="layer", metadata=LEFT_OUT_AT_DEFAULT)
    """LayerNorm or RMSNorm, both without weights, in the blocks and before the head."""
    post_modulation: bool = field(default=False, metadata=LEFT_OUT_AT_DEFAULT)
    """Whether scale and shift are those of a branch's output, which has no gate: x + F(norm(x)) (1 + s) + b."""

    class_tokens: int = field(default=0, metadata=LEFT_OUT_AT_DEFAULT)
    """Tokens before those of the image that are the class's embedding, each plus a vector of its own."""
    time_tokens: int = field(default=0, metadata=LEFT_OUT_AT_DEFAULT)
    """The same of the time's."""
    tokens_from: int = field(default=0, metadata=LEFT_OUT_AT_DEFAULT)
    """The block before which they join."""
    time: Literal["embedded", "none"] = field(default="embedded", metadata=LEFT_OUT_AT_DEFAULT)
    """none: the network is not told what time it is."""

    def check_mechanism(self, hidden_size: int, depth: int) -> None:
        """`ValueError` for choices that do not go together."""
        check_sizes(0.0, se_ratio=self.se_ratio, rank=self.rank)
        if self.modulation == "se" and hidden_size % self.se_ratio:
            raise ValueError(f"got se_ratio {self.se_ratio}, expected a divisor of hidden_size {hidden_size}")
        if self.post_modulation and (self.gate != "identity" or self.scale != "one_plus" or not self.shift):
            raise ValueError(
                f"got gate {self.gate}, scale {self.scale}, shift {self.shift}, expected identity, one_plus and True"
                " beside post_modulation: outputs are multiplied by 1 + s and shifted, and there is no gate"
            )
        self._check_tokens(depth)

    def _check_tokens(self, depth: int) -> None:
        for name, most in (("class_tokens", MOST), ("time_tokens", MOST), ("tokens_from", depth - 1)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"got {name} {getattr(self, name)}, expected 0..{most}")
        if self.time == "none" and self.time_tokens:
            raise ValueError(f"got time_tokens {self.time_tokens}, expected 0 where time is none")
        if self.modulation != "in-context":
            return
        if self.gate != "static" or self.scale != "one_plus" or not self.shift or self.post_modulation:
            raise ValueError(
                f"got gate {self.gate}, scale {self.scale}, shift {self.shift}, post_modulation {self.post_modulation},"
                " expected static, one_plus, True and False where modulation is in-context: no condition moves a block"
            )
        if not self.class_tokens or (not self.time_tokens and self.time != "none"):
            raise ValueError(
                f"got class_tokens {self.class_tokens}, time_tokens {self.time_tokens}, expected at least 1 where"
                " modulation is in-context (improved MeanFlow: 8 and 4), or time none"
            )

    def check_condition(self, spec: DataSpec) -> None:
        """`ValueError` where modulation is left without anything to depend on."""
        if self.time == "none" and not spec.num_classes and self.modulation != "in-context":
            raise ValueError(
                f"got time none for {spec}, expected data with classes: of nothing else could modulation be made"
            )

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """Of a branch, in the order of their rows."""
        if self.modulation == "in-context":
            return ()
        shift = (Chunk("shift", "identity"),) if self.shift else ()
        gate = () if self.gate == "static" or self.post_modulation else (Chunk("gate", self.gate),)
        return (*shift, Chunk("scale", self.scale), *gate)

    @property
    def suffix(self) -> str:
        """What the names of modulation layers end in, so that weights say what their rows are; "" of DiT's six."""
        words = "_".join(chunk.word for chunk in self.chunks)
        return "" if words == "shift_scale_gate" else f"{'_post' * self.post_modulation}_{words}"

    @property
    def own_name(self) -> str:
        """Of the map, or the table, that each block has."""
        return ("scale_shift_table" if self.modulation == "shared" else "adaLN_modulation") + self.suffix

    @property
    def shares(self) -> bool:
        """Whether one map gives numbers to all blocks."""
        return self.modulation in ("low-rank", "shared", "shared-alone")

    @property
    def shared_name(self) -> str:
        """Of that map."""
        return f"t_block{self.suffix}"

    @property
    def is_plain(self) -> bool:
        """Whether blocks are conditioned as DiT's are."""
        return all(getattr(self, one.name) == one.default for one in fields(Mechanism) if one.name not in _SIZES)

    def describe_mechanism(self) -> str:
        """What is other than in DiT, in words that follow a comma; "" if nothing is."""
        sizes = {"se": {"modulation", "se_ratio"}, "low-rank": {"modulation", "rank"}}.get(self.modulation, set())
        said = (
            f", {one.name} {getattr(self, one.name)}"
            for one in fields(Mechanism)
            if one.name in sizes or (one.name not in _SIZES and getattr(self, one.name) != one.default)
        )
        return "".join(said)

    def num_tokens(self, has_classes: bool) -> int:
        """That are the condition's, of data with classes or without."""
        return self.time_tokens + self.class_tokens * has_classes

    def count_modulation(self, dim: int, depth: int) -> Counts:
        """Of what gives all blocks their chunks."""
        rows, inner = 2 * len(self.chunks) * dim, dim // self.se_ratio
        low_rank = linear(dim, self.rank, bias=False) + linear(self.rank, rows, bias=False)
        own, shared = {
            "linear": (linear(dim, rows), Counts()),
            "se": (linear(dim, inner) + linear(inner, rows), Counts()),
            "low-rank": (low_rank, linear(dim, rows)),
            "shared": (Counts(rows), linear(dim, rows)),
            "shared-alone": (Counts(), linear(dim, rows)),
            "in-context": (Counts(), Counts()),
        }[self.modulation]
        return depth * (own + Counts(2 * dim * (self.gate == "static"))) + shared


_SIZES = {"se_ratio", "rank"}
