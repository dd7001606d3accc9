"""A step of a small DiT up to its gradients, in compiled loops and without autograd (`kernels/step.c`).

Of such a step torch spends a fifth on small operations, on recording and on walking back; and what the forward pass of
a whole batch keeps has left the cache when the backward pass asks for it.
"""

# mypy: disable-error-code="no-untyped-call"
# torch leaves `_unflatten_dense_tensors` untyped.

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch._utils import _unflatten_dense_tensors

from adaln.kernels import call, have_kernels
from adaln.models.dit import DiT
from adaln.models.fused import have_loops, is_watched, values
from adaln.models.layers import timestep_features
from adaln.processes.gaussian import GaussianDiffusion
from adaln.runs import Run
from adaln.training.loss import Inputs, bound_scale, is_small, moments


def small_step(run: Run, network: nn.Module) -> "SmallStep | None":
    """For a network that `prepare_blocks` lets go the short way; None where the loops are not for it or its process, or
    cannot be had. They are compiled here, not in the first step, whose time is shown."""
    process = run.process
    if not (isinstance(network, DiT) and network.forward == network.fused and isinstance(process, GaussianDiffusion)):
        return None
    is_meant = network.is_plain and process.config.outputs_per_channel == 2 and run.config.precision != "bfloat16"
    is_trained = all(parameter.requires_grad for parameter in network.parameters())
    can = is_meant and is_trained and run.device.type == "cpu" and have_kernels()
    return SmallStep(network, process) if can else None


class SmallStep:
    """Losses of a batch; the gradients of their mean are left in the network, in the same memory in every step."""

    def __init__(self, network: DiT, process: GaussianDiffusion) -> None:
        self.network, self.process, self.modules = network, process, [*network.modules()]
        self.weights = network.weights()
        self.values = torch.empty(sum(map(Tensor.numel, self.weights)))
        self.gradients = _unflatten_dense_tensors(self.values, self.weights)
        self.times = timestep_features(process.model_steps(torch.arange(process.num_steps)))
        spec = network.spec
        image = spec.channels, spec.height, spec.width, network.config.patch_size
        self.images = *image, network.num_labels, int(process.config.prediction == "x_start")

    def __call__(self, batch: Inputs) -> Float[Tensor, "B"] | None:
        """None, with nothing done, for all that is to go the longer way, which says what is wrong with a batch."""
        x, y, t, noise = batch
        sizes = self.network.sizes(len(x))
        is_meant = x.shape[1:] == self.images[:3] and (y is None) == (not self.network.num_labels)
        if not (is_meant and sizes.fit and is_small(self.process, batch) and self.is_free(x)):
            return None
        memory, losses = x.new_empty(values("step_memory", sizes)), x.new_empty(len(x))
        labels = None if y is None else y.long().contiguous()
        data = x, noise, labels, t.contiguous(), moments(self.process), self.times, self.network.pos_embed
        self.values.zero_()
        given = *data, self.weights, memory, self.gradients, losses, bound_scale(self.process)
        if not call("step", *given, sizes, self.images):
            return None
        for weight, gradient in zip(self.weights, self.gradients, strict=True):
            if weight.requires_grad:
                weight.grad = gradient
        return losses

    def is_free(self, x: Tensor) -> bool:
        """Whether nobody waits for what happens inside, and the loops can read all weights."""
        waits = any(one._backward_hooks or one._post_accumulate_grad_hooks for one in self.weights)
        return not waits and not is_watched(self.modules) and have_loops(x, self.network.pos_embed, *self.weights)
