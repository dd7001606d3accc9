"""What a forward pass keeps in memory for the backward one, of ours and of the peer: counted, so no GPU is needed."""

from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from adaln.benchmarks.machine import machine
from adaln.benchmarks.peer import called_like_ours, peer_of
from adaln.benchmarks.sides import LATENTS, SIDES, busy_model
from adaln.benchmarks.training import drawn_batch
from adaln.execution import Execution, autocast, prepare_blocks, recompute
from adaln.models import MODELS, DiTConfig, num_parameters
from adaln.types import Model

CPU = torch.device("cpu")
HEADS = 4
"""Times as many as the model has: of narrow heads our attention is torch's fused kernel on a CPU, too, as on a GPU."""


@dataclass(frozen=True, slots=True)
class MemoryOptions:
    """Whose blocks to count."""

    model: str = "DiT-S/2"
    """A DiT of `adaln models`; only its width and patch size count."""


class Kept(NamedTuple):
    """What one more block keeps, in bytes."""

    per_token_and_channel: float
    per_weight: float
    """Copies of the weights, whatever the batch."""


def kept_for_backward(options: MemoryOptions) -> dict[str, Any]:
    """What a block of both sides keeps under bfloat16 autocast, as it comes and compiled."""
    config = MODELS[options.model]
    if not isinstance(config, DiTConfig):
        raise ValueError(f"model is {options.model!r}; expected a DiT: diffusers has no other network like ours")
    row: dict[str, Any] = {"machine": machine(CPU), "options": asdict(options)}
    for how in ("as it comes", "compiled"):
        kept = {side: of_one_block(side, config, how == "compiled") for side in SIDES}
        ratio = kept["ours"].per_token_and_channel / kept["diffusers"].per_token_and_channel
        row[how] = {**{side: bytes_kept._asdict() for side, bytes_kept in kept.items()}, "ours of diffusers": ratio}
    return row


def of_one_block(side: str, config: DiTConfig, is_compiled: bool) -> Kept:
    """From what one more block and one more sample add, and what they add to each other."""
    kept = {
        (depth, batch): kept_bytes(*network(side, replace(config, depth=depth), is_compiled), batch)
        for depth in (1, 2)
        for batch in (1, 2)
    }
    tokens = LATENTS.height * LATENTS.width // config.patch_size**2
    of_block = kept[2, 1] - kept[1, 1]
    of_sample = kept[2, 2] - kept[1, 2] - of_block
    weights = num_parameters(replace(config, depth=2), LATENTS) - num_parameters(replace(config, depth=1), LATENTS)
    return Kept(of_sample / (tokens * config.hidden_size), (of_block - of_sample) / weights)


def network(side: str, config: DiTConfig, is_compiled: bool) -> tuple[nn.Module, Model]:
    """One side's network, and how it is called."""
    torch.compiler.reset()
    config = replace(config, num_heads=HEADS * config.num_heads)
    model = busy_model(config, CPU)
    if side == "ours":
        prepare_blocks(model, Execution(compile=is_compiled), recompute)  # as on a GPU
        return model, model
    peer = peer_of(model, config, LATENTS)
    if is_compiled:
        peer.compile()
    return peer, called_like_ours(peer)


def kept_bytes(network: nn.Module, model: Model, batch: int) -> int:
    """Memory that a forward pass leaves to the backward one, the network's own weights apart; shared memory once."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        memory = tensor.untyped_storage()
        if memory.data_ptr() not in weights:
            kept[memory.data_ptr()] = memory
        return tensor

    x, y, t, _ = drawn_batch(batch, CPU)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast("bfloat16", CPU):
        model(x, t, y)
    return sum(memory.nbytes() for memory in kept.values())
