"""The networks that draw: weights of a checkpoint, in the precision and by the means asked for."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from adaln.execution import Execution, Precision, check_precision, prepare_blocks, under_autocast, usable
from adaln.models.layers import fuse_for_inference
from adaln.parallel import from_first
from adaln.runs import Run
from adaln.sampling.config import SampleExecution
from adaln.specs import WeightSet
from adaln.types import Labels, Latents, Model, Times

WARM_UP_CALLS = 3
"""Forwards before a capture: libraries choose their kernels and compiled blocks compile, which no graph may record."""


class Weak(NamedTuple):
    """Whose worse prediction guides: autoguidance by a smaller, or a less trained, run."""

    run: Run
    step: int | None = None
    """Checkpoint; None: the newest."""


def network(
    run: Run,
    step: int | None,
    dtype: Precision,
    execution: SampleExecution,
    weights: WeightSet = "ema",
    width: float | None = None,
) -> tuple[Model, int]:
    """The network of a checkpoint, computing in `dtype` and answering in its input's, and its step; `width`: with the
    power-function average of that width."""
    if execution.cuda_graph and run.device.type != "cuda":
        raise ValueError(f"cuda_graph is True on device {str(run.device)!r}; expected a cuda device, or no graph")
    check_precision(dtype, run.device)
    if step is None:  # one for all processes, while the run may go on
        step = from_first(lambda: max(run.steps_saved(), default=None))
    model, step = run.load_model(step, weights, width)
    prepared = usable(Execution(execution.compile), run.device)
    return computing(model, dtype, replace(execution, compile=prepared.compile)), step


def computing(model: nn.Module, dtype: Precision, execution: SampleExecution) -> Model:
    """A network that is not trained any more, made to compute in `dtype` and to answer in its input's.

    In bfloat16 the weights of linear maps are rounded once, here, as autocast would in every call.
    """
    for module in model.modules() if dtype == "bfloat16" else ():
        if isinstance(module, nn.Linear):
            module.to(torch.bfloat16)
    fuse_for_inference(model)
    prepare_blocks(model, Execution(execution.compile))
    computed = under_autocast(model, dtype)
    return Graphed(computed) if execution.cuda_graph else computed


class Graphed:
    """A network replayed as one CUDA graph per shape of its inputs."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.replays: dict[tuple[torch.Size, torch.dtype], Model] = {}

    def __call__(self, x: Latents, t: Times, y: Labels | None) -> Tensor:
        shape = (x.shape, t.dtype)
        if shape not in self.replays:
            self.replays[shape] = captured(self.model, x, t, y)
        return self.replays[shape](x, t, y)


def captured(model: Model, x: Latents, t: Times, y: Labels | None) -> Model:
    """A forward recorded once, then replayed: the graph reads and writes where tensors lay when it was recorded."""
    inputs = x.clone(), t.clone(), None if y is None else y.clone()
    aside = torch.cuda.Stream(x.device)  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream(x.device))
    with torch.cuda.stream(aside):
        for _ in range(WARM_UP_CALLS):
            model(*inputs)
    torch.cuda.current_stream(x.device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=aside):  # its own stream would be one of the current device
        output = model(*inputs)

    def replay(x: Latents, t: Times, y: Labels | None) -> Tensor:
        for kept, given in zip(inputs, (x, t, y), strict=True):
            if kept is not None and given is not None:
                kept.copy_(given)
        graph.replay()
        return output.clone()

    return replay
