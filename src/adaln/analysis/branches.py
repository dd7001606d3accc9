"""Where the branches of each family run, seen from outside: the modules that a modulated stream enters and leaves.

The layouts (`adaln.conditioning.layouts`) say what rows are; these rows say where their effect shows. `trace` watches
the modules of one forward pass by hooks that are gone afterwards; no network is changed.
"""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from adaln.conditioning import Site, UnknownLayout, find_family, find_sites, wrapper_prefix


@dataclass(frozen=True, slots=True)
class Branch:
    """One branch of a block; module names are relative to the block."""

    enters: str
    """Module whose input is norm(x) * (1 + scale) + shift."""
    leaves: str
    """Module whose output the gate multiplies."""
    context: bool = False
    """Of the context's stream, not the image's."""
    joined: bool = False
    """The modules see both streams in one sequence, context first."""
    squashed: bool = False
    """The gate is tanh of the modulation."""
    channels_first: bool = False
    residual: str | None = None
    """Module whose input is the stream x; None: the block itself."""


def _both(attn: str) -> dict[str, Branch]:
    """Image and context attend together, then each goes through its own MLP."""
    return {
        "attn": Branch(attn, attn),
        "context_attn": Branch(attn, attn, context=True),
        "mlp": Branch("ff", "ff"),
        "context_mlp": Branch("ff_context", "ff_context", context=True),
    }


_OWN = {"attn": Branch("attn", "attn"), "mlp": Branch("mlp", "mlp")}
_LUMINA = {
    "attn": Branch("attn", "norm2", squashed=True),
    "mlp": Branch("feed_forward", "ffn_norm2", squashed=True),
}
BRANCHES: Mapping[str, Mapping[str, Branch]] = {
    **dict.fromkeys(("DiT", "LightningDiT-no-shift", "adaLN-no-gate", "DiT-shared"), _OWN),
    "U-DiT": {name: Branch(name, name) for name in ("attn1", "mlp1", "attn2", "mlp2")},
    "diffusers-DiT": {"attn": Branch("attn1", "attn1"), "mlp": Branch("ff", "ff")},
    "SD3": {**_both("attn"), "attn2": Branch("attn2", "attn2")},
    "Flux": {**_both("attn"), "attn_and_mlp": Branch("attn", "proj_out", residual="norm")},
    "AuraFlow": _both("attn"),
    "CogVideoX": {
        "attn": Branch("attn1", "attn1"),
        "context_attn": Branch("attn1", "attn1", context=True),
        "mlp": Branch("ff", "ff", joined=True),
        "context_mlp": Branch("ff", "ff", context=True, joined=True),
    },
    "HunyuanDiT": {"attn": Branch("attn1", "attn1")},
    "Lumina2": _LUMINA,
    "PixArt": {"attn": Branch("attn1", "attn1"), "mlp": Branch("ff", "ff")},
    "Sana": {"attn": Branch("attn1", "attn1"), "mlp": Branch("ff", "ff", channels_first=True)},
}
"""Branch by family and name; the branch "final" of every family enters the head."""


@dataclass(frozen=True, slots=True)
class Call:
    """What went into a module and what came out."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Any

    def stream(self, context: bool) -> Tensor:
        """The tokens of one stream that went in."""
        of_context = context and "encoder_hidden_states" in self.kwargs
        named = "encoder_hidden_states" if of_context else "hidden_states"
        tokens: Tensor = self.kwargs[named] if of_context or not self.args else self.args[0]
        return tokens

    def outputs(self) -> tuple[Tensor, ...]:
        """All that came out."""
        outputs = self.output if isinstance(self.output, tuple) else (self.output,)
        return tuple(output for output in outputs if isinstance(output, Tensor))


@torch.no_grad()
def trace(model: nn.Module, modules: Iterable[str], inputs: Mapping[str, Any]) -> dict[str, Call]:
    """What each of these modules saw and gave, in its last call, in one forward pass in evaluation mode."""
    calls: dict[str, Call] = {}
    training = [module for module in model.modules() if module.training]
    with ExitStack() as stack:
        for name in dict.fromkeys(modules):
            hook = partial(_keep, calls, name)
            stack.callback(model.get_submodule(name).register_forward_hook(hook, with_kwargs=True).remove)
        for module in training:
            stack.callback(setattr, module, "training", True)
        model.eval()(**inputs)
    return calls


def _keep(
    calls: dict[str, Call], name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
) -> None:
    calls[name] = Call(args, kwargs, output)


class Live:
    """A network with its sites, the places where their branches run, and a batch.

    Raises `UnknownLayout` for a network without known sites.
    """

    def __init__(self, model: nn.Module, inputs: Mapping[str, Any], family: str | None = None) -> None:
        self.model, self.inputs = model, inputs
        self.tensors = dict(model.named_parameters())
        self.sites = find_sites(self.tensors, family)
        found = find_family(self.tensors, family)
        if found is None:
            raise UnknownLayout(f"no modulation layer of a known layout in {type(model).__name__}")
        self.branches = BRANCHES[found]
        self.prefix = wrapper_prefix(self.tensors)
        of_blocks = [site for site in self.sites if site.branch != "final"]
        self.tables = [site for site in of_blocks if site.weight is None]
        self.shared = {(s.branch, s.role): s for s in of_blocks if self.tables and s.weight}

    def place(self, site: Site) -> tuple[str, Branch]:
        """The block and the branch in which a site shows; a shared modulation shows in the first block."""
        block = self.tables[0].block if site in self.shared.values() else site.block
        return self.prefix + block, self.branches[site.branch]

    def modules(self, sites: Iterable[Site]) -> list[str]:
        """All modules where these sites show."""
        places = [self.place(site) for site in sites]
        inner = [f"{block}.{name}" for block, b in places for name in (b.enters, b.leaves, b.residual) if name]
        return [block for block, _ in places] + inner

    def modulation(self, site: Site, calls: Mapping[str, Call]) -> Tensor:
        """What the rows of a site give for each sample: (samples, D), a table's sum with the shared modulation's."""
        if site.weight:
            given: Tensor = calls[module_of(site)].output[..., site.rows]
        else:
            shared = self.shared[site.branch, site.role]
            given = self.tensors[site.bias or ""][site.rows] + calls[module_of(shared)].output[..., shared.rows]
        return given.detach().reshape(-1, given.shape[-1])


def module_of(site: Site) -> str:
    """Name of the module that holds the matrix of a site."""
    return (site.weight or "").removesuffix(".weight")


def entered(branch: Branch, block: str, calls: Mapping[str, Call]) -> Tensor:
    """The modulated stream that enters a branch."""
    return _half(branch, calls[f"{block}.{branch.enters}"].stream(branch.context), calls[block])


def left(branch: Branch, block: str, calls: Mapping[str, Call]) -> Tensor:
    """What leaves a branch, before its gate, channels last."""
    outputs = calls[f"{block}.{branch.leaves}"].outputs()
    tokens = _half(branch, outputs[branch.context] if len(outputs) > 1 else outputs[0], calls[block])
    return tokens.flatten(2).mT if branch.channels_first else tokens


def residual(branch: Branch, block: str, calls: Mapping[str, Call]) -> Tensor:
    """The stream that enters the block."""
    return calls[f"{block}.{branch.residual}" if branch.residual else block].stream(branch.context)


def _half(branch: Branch, tokens: Tensor, block: Call) -> Tensor:
    if not branch.joined:
        return tokens
    num_context = block.stream(context=True).shape[1]
    return tokens[:, :num_context] if branch.context else tokens[:, num_context:]
