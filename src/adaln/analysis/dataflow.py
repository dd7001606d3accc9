"""Where a network's conditioning meets its tokens: one forward pass, followed operation by operation.

A `Trace` follows two kinds of tensors through all operations, whoever calls them: *tokens*, which depend on the noisy
input, the text, or whatever else comes as a sequence, and *values*, which hold what candidate layers gave and no
tokens. Where a value is multiplied with tokens or added to them, rows of a modulation layer are used: as a shift if
added; as a gate if the product is added to other tokens, the residual stream; else as a scale.
"""

# mypy: disallow-untyped-calls=False
import re
from collections import Counter
from collections.abc import Collection, Container, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torch.utils.weak import WeakIdKeyDictionary

from adaln.analysis.operations import ARITHMETIC, Counted, Place, Stack, block_of, is_matrix, tensors_of
from adaln.conditioning import Role

_MIXING = re.compile(
    r"(^|_|b|add)(mm|mv)$|addmm|(^|_)(linear|matmul)$|convolution|conv\d|attention|attn|transformer|rnn|lstm|gru|_fft_"
)
"""Names of products of matrices, torch's or anyone's, also of those that do more at once: of nn.MultiheadAttention the
whole in evaluation."""
_NORMS = {"native_layer_norm", "native_group_norm", "native_batch_norm", "_fused_rms_norm", "rms_norm"}
_NORMS |= {"pow", "square", "mean", "var", "var_mean", "std", "linalg_vector_norm", "_softmax", "_safe_softmax"}
"""What is only added before one of these is an embedding or a bias of scores, no modulation."""
_COPIES = {"clone", "_to_copy", "cat", "stack", "index", "index_select", "gather", "index_put", "copy", "where"}
_COPIES |= {"constant_pad_nd", "repeat", "repeat_interleave", "roll", "flip", "slice_scatter", "select_scatter"}
_COPIES |= {"scatter", "masked_fill", "masked_scatter", "masked_select", "index_add", "scatter_add", "_unsafe_view"}


@dataclass(slots=True, eq=False)
class Use:
    """One operation that brings a value and tokens together."""

    place: Place
    stack: Stack
    layers: frozenset[str]
    """Whose rows the value holds; of several, the sum."""
    role: Role | None
    """None: a product whose way is not yet known."""
    root: object
    """Of the tokens."""
    stream: str = ""
    """Argument of the block as which its residual stream enters it."""
    mixed_before: Stack = ()
    """The modules that ran where the tokens were last mixed: whose output a gate multiplies."""
    mixed_after: Stack = ()
    """The modules that run where they are mixed next: what a scale's or a shift's tokens enter."""
    of_itself: bool = False
    """A scale as x + x * s."""
    embedding: bool = False
    """A shift of a stream that is normed only afterwards: an embedding that is added, no modulation."""
    squares: dict[str, float] = field(default_factory=dict)
    """Sums of squares of a product's "tokens", of the "product", and of what it is added to, the "residual"."""

    def settle(self, role: Role) -> None:
        """Say its role, unless that is known."""
        self.role = self.role or role


@dataclass(slots=True, eq=False)
class Flow:
    """What is known of where a tensor comes from."""

    tokens: bool = False
    noisy: bool = False
    """Depends on the noisy input."""
    layers: frozenset[str] = frozenset()
    """Candidates whose values it holds; none where it depends on tokens."""
    uses: tuple[Use, ...] = ()
    """Whose result it is, not mixed since."""
    stream: str = ""
    mixed: tuple[int, Stack] = (-1, ())
    """When and where its tokens were last mixed."""
    root: object = field(default_factory=object)
    """The same for a tensor, its views, its copies, and what a shift made of it."""


Operand = tuple[int, Any, Flow | None]
"""Which argument, itself, and where it comes from."""


def _merged(flows: Sequence[Flow]) -> Flow:
    tokens = any(flow.tokens for flow in flows)
    streams = dict.fromkeys(flow.stream for flow in flows if flow.stream)
    return Flow(
        tokens=tokens,
        noisy=any(flow.noisy for flow in flows),
        layers=frozenset() if tokens else frozenset().union(*(flow.layers for flow in flows)),
        uses=tuple(dict.fromkeys(use for flow in flows for use in flow.uses)),
        stream="+".join(streams),
        mixed=max((flow.mixed for flow in flows), key=lambda mixed: mixed[0]),
    )


def _is_view(func: Any) -> bool:
    returns = getattr(getattr(func, "_schema", None), "returns", ())
    return any(value.alias_info is not None and not value.alias_info.is_write for value in returns)


def _squares(tensor: Tensor) -> float:
    return float(tensor.detach().float().norm()) ** 2


class Trace(Counted):
    """Follows the tokens and the values of candidate layers through one forward pass, all values being as they are."""

    def __init__(
        self, tables: Mapping[str, Tensor], matrices: Container[str] | None = None, static: Collection[str] = ()
    ) -> None:
        super().__init__()
        self.uses: list[Use] = []
        self.flows: MutableMapping[Tensor, Flow] = WeakIdKeyDictionary()
        self.never_alone, self.matrices = frozenset(tables).difference(static), matrices
        self.batch_size = 1
        self.time = 0
        self.of_tokens: set[str] = set()
        """Matrices that tokens go through."""
        self.of_values: dict[str, int] = {}
        """Others, which may be modulation layers, and how many rows they have."""
        for name, table in tables.items():
            self.flows[table] = Flow(layers=frozenset({name}))

    def marked(self, model: nn.Module, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs, tokens among them known from now on; of these what forward() names first is noisy."""
        self.batch_size = _batch_size(inputs)
        order = list(signature(model.forward).parameters)
        noisy = True
        aliases: dict[str, Any] = {}
        for key in sorted(inputs, key=lambda key: order.index(key) if key in order else len(order)):
            aliases[key] = tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, inputs[key])
            sequences = [leaf for leaf in tensors_of(aliases[key]) if self._is_sequence(leaf)]
            self.flows.update({leaf: Flow(tokens=True, noisy=noisy) for leaf in sequences})
            noisy = noisy and not sequences
        return aliases

    def _is_sequence(self, leaf: Tensor) -> bool:
        """Vectors or images, more than one for a sample: no times, masks, labels or one vector for each sample."""
        sizes = [size for size in leaf.shape[1:] if size > 1]
        one_each = leaf.ndim > 0 and leaf.shape[0] in (1, self.batch_size)
        return leaf.is_floating_point() and len(sizes) > one_each

    def enter(self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """At a block, its streams have names."""
        super().enter(name, module, args, kwargs)
        if name and block_of(name) == name:
            names = [*signature(module.forward).parameters]
            for key, value in [*zip(names, args, strict=False), *kwargs.items()]:
                for flow in filter(None, map(self.flows.get, tensors_of(value))):
                    flow.stream = key if flow.tokens else ""

    def leave(self, name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Of a matrix that no tokens go through, or only one vector for each sample: a value."""
        super().leave(name, module, args, output)
        if not is_matrix(module, output) or (self.matrices is not None and name not in self.matrices):
            return
        flow = self.flows.get(output)
        pooled = 0 < output.numel() <= self.batch_size * output.shape[-1] and not (flow and flow.noisy)
        if flow and flow.tokens and not pooled and self.matrices is None:
            self.of_tokens.add(name)
        else:
            self.of_values[name] = output.shape[-1]
            self.flows[output] = Flow(layers=frozenset({name}))

    def operate(self, name: str, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run one operation and say where its result comes from."""
        operands = [*tensors_of((args, kwargs))]
        flow = self._result(name, func, args, operands)
        output = func(*args, **kwargs)
        if flow:
            for tensor in tensors_of(output):
                if tensor.dtype != torch.bool:  # a mask decides which tokens, not what they are
                    self._assign(tensor, flow, written=any(tensor is operand for operand in operands))
        return output

    def _assign(self, tensor: Tensor, flow: Flow, written: bool) -> None:
        self.flows[tensor] = replace(flow)
        if written and tensor._base is not None:
            base = self.flows.get(tensor._base)
            self.flows[tensor._base] = _merged([base, flow]) if base else replace(flow)

    def _result(self, name: str, func: Any, args: tuple[Any, ...], operands: Sequence[Tensor]) -> Flow | None:
        if name == "embedding" and args[1].numel() > args[1].shape[:1].numel():
            return Flow(tokens=True)
        flows = [flow for flow in map(self.flows.get, operands) if flow]
        if not flows:
            return None
        if name in ARITHMETIC:
            return self._arithmetic(name, args)
        merged = _merged(flows)
        if _MIXING.search(name):
            return self._mix(merged)
        if _is_view(func) or name in _COPIES:
            return replace(merged, root=flows[0].root) if len(flows) == 1 else merged
        if merged.tokens:
            for known in filter(self._is_value, flows):
                self._use(-1, known, merged, None)
        for use in merged.uses:
            use.embedding |= name in _NORMS and not use.mixed_after and all(u.role is Role.SHIFT for u in merged.uses)
            use.settle(Role.SCALE)
        return merged

    def _mix(self, merged: Flow) -> Flow:
        for use in merged.uses:
            use.settle(Role.SCALE)
            use.mixed_after = use.mixed_after or tuple(self.stack)
        self.time += 1
        return replace(merged, uses=(), stream="", mixed=(self.time, tuple(self.stack)))

    def _arithmetic(self, name: str, args: tuple[Any, ...]) -> Flow:
        a, b, *rest = ((i, arg, self.flows.get(arg) if isinstance(arg, Tensor) else None) for i, arg in enumerate(args))
        if name == "mul":
            return self._product(a, b)
        if name == "add":
            return self._sum(a, b)
        product = self._product(b, rest[0]) if b[2] or rest[0][2] else None
        return self._sum(a, (-1, b[1], product))

    def _is_value(self, flow: Flow | None) -> bool:
        return flow is not None and not flow.tokens and not flow.layers <= self.never_alone

    def _product(self, a: Operand, b: Operand) -> Flow:
        for (i, value, known), (_, tokens, flow) in ((a, b), (b, a)):
            if flow and flow.tokens and known and self._is_value(known):
                for earlier in flow.uses:
                    earlier.settle(Role.SCALE)
                use = self._use(i, known, flow, None)
                use.squares = {"tokens": _squares(tokens), "product": _squares(value * tokens)}
                return replace(flow, uses=(use, *flow.uses), root=object())
        merged = _merged([flow for _, _, flow in (a, b) if flow])
        if a[2] and b[2] and a[2].tokens and b[2].tokens:
            for use in merged.uses:
                use.settle(Role.SCALE)
        return merged

    def _sum(self, a: Operand, b: Operand) -> Flow:
        for (i, _, known), (_, _, flow) in ((a, b), (b, a)):
            if flow and flow.tokens and known and self._is_value(known):
                for earlier in flow.uses:
                    earlier.settle(Role.SCALE)
                return replace(flow, uses=(self._use(i, known, flow, Role.SHIFT), *flow.uses))
        merged = _merged([flow for _, _, flow in (a, b) if flow])
        pending = [{use for use in (flow.uses if flow else ()) if use.role is None} for _, _, flow in (a, b)]
        if all(pending) or not (a[2] and b[2] and a[2].tokens and b[2].tokens):
            return merged
        for products, (_, residual, flow) in ((pending[0], b), (pending[1], a)):
            for use in products:
                assert flow is not None  # both hold tokens
                use.of_itself = use.root is flow.root
                use.role = Role.SCALE if use.of_itself else Role.GATE
                if use.role is Role.GATE:
                    use.stream, use.squares["residual"] = flow.stream, _squares(residual)
        return replace(merged, uses=tuple(use for use in merged.uses if use.role is not Role.GATE))

    def _use(self, operand: int, value: Flow, tokens: Flow, role: Role | None) -> Use:
        use = Use(
            self.place(operand), tuple(self.stack), value.layers, role, tokens.root, tokens.stream, tokens.mixed[1]
        )
        self.uses.append(use)
        return use


def _batch_size(inputs: Any) -> int:
    """The first size of most tensors."""
    sizes = Counter(leaf.shape[0] for leaf in tensors_of(inputs) if leaf.ndim)
    return sizes.most_common(1)[0][0] if sizes else 1
