"""How a condition acts on tokens, against formulas."""

import torch
from torch.nn import functional as F

from adaln.models.conditioned import Vectors, add_branch, squeezed_modulation, vectors_of
from adaln.models.mechanism import Chunk, Mechanism
from adaln.rng import generator


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=generator("conditioned", seed))


def test_a_branch_is_what_its_formula_says():
    x, shift, scale, gate, w = (torch.randn(3, 4, 8, generator=generator("branch", i)) for i in range(5))
    normed = {
        "layer": (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + 1e-6).sqrt(),
        "rms": x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt(),
    }
    for norm, entering in normed.items():
        plain, post = Mechanism(norm=norm), Mechanism(norm=norm, post_modulation=True)
        vectors = vectors_of((shift, scale, gate), Mechanism(gate="tanh", scale="sigmoid").chunks)
        torch.testing.assert_close(
            add_branch(x, w.mul, vectors, plain), x + gate.tanh() * w * (entering * scale.sigmoid() + shift)
        )
        torch.testing.assert_close(
            add_branch(x, w.mul, vectors_of((shift, scale), post.chunks), post), x + w * entering * (1 + scale) + shift
        )
        torch.testing.assert_close(
            add_branch(x, F.gelu, vectors_of((scale,), (Chunk("scale", "one_plus"),), gate), plain),
            x + gate * F.gelu(entering * (1 + scale)),
        )
        torch.testing.assert_close(add_branch(x, F.gelu, Vectors(), plain), x + F.gelu(entering))


def test_norms_have_an_epsilon_of_1e_6():
    x, shift, scale, gate = 1e-3 * randn(2, 4, 8), *(randn(2, 1, 8, seed=k) for k in (1, 2, 3))
    centred = x - x.mean(-1, keepdim=True)
    norm = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    vectors = vectors_of((shift, scale, gate), Mechanism().chunks)
    torch.testing.assert_close(add_branch(x, torch.sin, vectors), x + gate * (norm * (1 + scale) + shift).sin())


def test_a_branch_whose_gate_is_one_is_a_plain_residual_bit_for_bit():
    x, zero, one = randn(2, 4, 8), torch.zeros(2, 1, 8), torch.ones(2, 1, 8)
    output = add_branch(x, torch.sin, vectors_of((zero, zero, one), Mechanism().chunks))
    assert torch.equal(output, x + F.layer_norm(x, (8,), eps=1e-6).sin())


def test_the_squeezed_modulation_is_silu_then_a_bottleneck_with_relu():
    path, c = squeezed_modulation(8, 6, ratio=4), randn(3, 8)
    hidden = F.silu(c) @ path[1].weight.T + path[1].bias
    assert hidden.shape == (3, 2)
    torch.testing.assert_close(path(c), hidden.clamp(min=0) @ path[3].weight.T + path[3].bias)
    assert path(c).shape == (3, 48)
