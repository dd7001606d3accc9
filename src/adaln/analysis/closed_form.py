"""The gradients of a diffusion transformer's block, by hand: one equation, one line.

The model is the simplified block of the paper: linear layers in place of attention and MLP, no normalisation, no
biases, the conditioning `c` given per token, so that every product is a matrix product (`@`) or elementwise (`*`).

    x_p    = x W_pat
    x_m1   = x_p * (1 + g1) + b1          x_att  = x_m1 W_att        x_out1 = x_att * a1 + x_p
    x_m2   = x_out1 * (1 + g2) + b2       x_ffm  = x_m2 W_ffm        x_out2 = x_ffm * a2 + x_out1
    x_f    = x_out2 * (1 + gf) + bf       eps_hat = x_f W_f          L = sum (eps_hat - eps)^2 / C

Gate a_k, scale g_k and shift b_k are S W_*, with S = silu(c); C is the number of elements of eps.
Each W_* that starts at zero blocks the gradients of all that lies behind it, and that alone is the update order of
adaLN-Zero (`order_table`).

Source: "Unveiling the Secret of adaLN-Zero in Diffusion Transformer", section 3.2, Table 1 and appendix A.3.
"""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

from adaln.analysis.paper_names import UpdateOrder
from adaln.registry import Registry
from adaln.rng import generator


@dataclass(frozen=True, slots=True)
class Weights:
    """The twelve matrices W_*. Axes: P width of a patch, D of the model. Gates of `None`: a1 = a2 = 1, as in adaLN."""

    f: Float[Tensor, "D P"]
    ffm: Float[Tensor, "D D"]
    att: Float[Tensor, "D D"]
    pat: Float[Tensor, "P D"]
    gf: Float[Tensor, "D D"]
    bf: Float[Tensor, "D D"]
    a2: Float[Tensor, "D D"] | None
    g2: Float[Tensor, "D D"]
    b2: Float[Tensor, "D D"]
    a1: Float[Tensor, "D D"] | None
    g1: Float[Tensor, "D D"]
    b1: Float[Tensor, "D D"]

    def named(self) -> dict[str, Tensor]:
        """The matrices that exist, by the paper's names without the "W_"."""
        every = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: matrix for name, matrix in every if matrix is not None}


@dataclass(frozen=True, slots=True)
class Signals:
    """Everything that one pass computes on its way forward, by the paper's names."""

    W: Weights
    x: Float[Tensor, "N P"]
    S: Float[Tensor, "N D"]
    a1: Float[Tensor, "N D"]
    g1: Float[Tensor, "N D"]
    a2: Float[Tensor, "N D"]
    g2: Float[Tensor, "N D"]
    gf: Float[Tensor, "N D"]
    x_p: Float[Tensor, "N D"]
    x_m1: Float[Tensor, "N D"]
    x_att: Float[Tensor, "N D"]
    x_out1: Float[Tensor, "N D"]
    x_m2: Float[Tensor, "N D"]
    x_ffm: Float[Tensor, "N D"]
    x_out2: Float[Tensor, "N D"]
    x_f: Float[Tensor, "N D"]
    eps_hat: Float[Tensor, "N P"]
    eps: Float[Tensor, "N P"]

    @property
    def loss(self) -> Float[Tensor, ""]:
        """L, the mean squared error of the noise prediction."""
        return (self.eps_hat - self.eps).square().mean()


def forward(W: Weights, x: Float[Tensor, "N P"], c: Float[Tensor, "N D"], eps: Float[Tensor, "N P"]) -> Signals:
    """All signals of the block for noisy patches `x`, conditioning `c` and the noise `eps` to predict."""
    S = c * torch.sigmoid(c)
    a1 = torch.ones_like(S) if W.a1 is None else S @ W.a1
    a2 = torch.ones_like(S) if W.a2 is None else S @ W.a2
    g1, g2, gf = S @ W.g1, S @ W.g2, S @ W.gf
    x_p = x @ W.pat
    x_m1 = x_p * (1 + g1) + S @ W.b1
    x_att = x_m1 @ W.att
    x_out1 = x_att * a1 + x_p
    x_m2 = x_out1 * (1 + g2) + S @ W.b2
    x_ffm = x_m2 @ W.ffm
    x_out2 = x_ffm * a2 + x_out1
    x_f = x_out2 * (1 + gf) + S @ W.bf
    return Signals(
        W, x, S, a1, g1, a2, g2, gf, x_p, x_m1, x_att, x_out1, x_m2, x_ffm, x_out2, x_f, eps_hat=x_f @ W.f, eps=eps
    )


def gradients(s: Signals) -> dict[str, Tensor]:
    """dL/dW for every matrix that exists, by the names of `Weights`, in the order of Table 1.

    At a zero start W_f is the only weight that moves at once; every other gradient needs it, through E W_f^T or T1.
    """
    E = (2 / s.eps.numel()) * (s.eps_hat - s.eps)  # dL/d eps_hat
    from_final = E @ s.W.f.T
    T1 = from_final * (1 + s.gf)  # dL/d x_out2: the error that leaves the final layer
    from_mlp = (T1 * s.a2) @ s.W.ffm.T
    T2 = from_mlp * (1 + s.g2)  # the part of dL/d x_out1 that comes through the MLP branch
    from_attention = ((T1 + T2) * s.a1) @ s.W.att.T
    every = {
        "f": s.x_f.T @ E,
        "ffm": s.x_m2.T @ (T1 * s.a2),  # needs the gate a2 as well
        "att": s.x_m1.T @ (T2 * s.a1 + T1 * s.a1),  # needs the gate a1 as well
        "pat": s.x.T @ (from_attention * (1 + s.g1) + T1 + T2),  # needs no gate: the residual path is open
        "gf": s.S.T @ (from_final * s.x_out2),
        "bf": s.S.T @ from_final,
        "a2": s.S.T @ (T1 * s.x_ffm),  # a zero gate does not block itself
        "g2": s.S.T @ (from_mlp * s.x_out1),  # needs the gate a2 as well
        "b2": s.S.T @ from_mlp,
        "a1": s.S.T @ ((T1 + T2) * s.x_att),
        "g1": s.S.T @ (from_attention * s.x_p),  # needs the gate a1 as well
        "b1": s.S.T @ from_attention,
    }
    return {name: every[name] for name in s.W.named()}


@dataclass(frozen=True, slots=True)
class BlockStart:
    """How the simplified block starts: a standard deviation per role. `gate=None`: no gate, the constant 1."""

    gate: float | None = 0.0
    scale: float = 0.0
    shift: float = 0.0
    final: float = 0.0
    """W_f, W_gf and W_bf."""

    def weights(self, width: int, patch: int, rng: torch.Generator) -> Weights:
        """float64 matrices; the backbone (W_pat, W_att, W_ffm) is N(0, 1 / fan-in), as any usual start is not zero."""

        def normal(rows: int, columns: int, std: float) -> Tensor:
            return std * torch.randn(rows, columns, generator=rng, dtype=torch.float64)

        def square(std: float) -> Tensor:
            return normal(width, width, std)

        gates = (None, None) if self.gate is None else (square(self.gate), square(self.gate))
        return Weights(
            f=normal(width, patch, self.final), ffm=square(width**-0.5), att=square(width**-0.5),
            pat=normal(patch, width, patch**-0.5), gf=square(self.final), bf=square(self.final),
            a2=gates[1], g2=square(self.scale), b2=square(self.shift),
            a1=gates[0], g1=square(self.scale), b1=square(self.shift),
        )  # fmt: skip


BLOCK_STARTS: Registry[BlockStart] = Registry(
    "start of the simplified block",
    {
        "adaln": BlockStart(gate=None),
        "adaln-step1": BlockStart(gate=0.02),
        "adaln-zero": BlockStart(),
        "adaln-gaussian": BlockStart(gate=1e-3, scale=1e-3, shift=1e-3),
    },
)
"""The paper's schemes as far as this block can tell them apart: the order depends on what is zero, not on the std."""


def order_table(start: BlockStart, iterations: int = 3, *, seed: int = 0) -> UpdateOrder:
    """Which of the twelve weights have a non-zero gradient, at each iteration of plain gradient descent from `start`.

    >>> print(order_table(BLOCK_STARTS["adaln-zero"]))
    iteration  W_f  W_ffm  W_att  W_pat  W_gf  W_bf  W_a2  W_g2  W_b2  W_a1  W_g1  W_b1
    1          yes  -      -      -      -     -     -     -     -     -     -     -
    2          yes  -      -      yes    yes   yes   yes   -     -     yes   -     -
    3          yes  yes    yes    yes    yes   yes   yes   yes   yes   yes   yes   yes

    Source: Table 1.
    """
    rng = generator("closed form", seed)
    width, patch, num_tokens = 8, 4, 16
    W = start.weights(width, patch, rng)
    rows = []
    for _ in range(iterations):
        x, eps = torch.randn(2, num_tokens, patch, generator=rng, dtype=torch.float64)
        c = torch.randn(num_tokens, width, generator=rng, dtype=torch.float64)
        moves = gradients(forward(W, x, c, eps))
        rows.append(tuple(bool(gradient.any()) for gradient in moves.values()))
        W = replace(W, **{name: matrix - 0.1 * moves[name] for name, matrix in W.named().items()})
    return UpdateOrder(tuple(f"W_{name}" for name in W.named()), tuple(rows))


def excitation(
    attended: Float[Tensor, "N K"], squeeze: Float[Tensor, "N K"], excite: Float[Tensor, "K D"]
) -> Float[Tensor, "N D"]:
    """(attended * squeeze) W: what a gate path and a squeeze-and-excitation block have in common (Eq. 1 and 2).

    The gate path attends c to its own sigmoid, F(c) = (c * sigmoid(I c)) W_a, and is SiLU followed by a linear layer;
    squeeze-and-excitation attends a constant, SE(c) = (1 * relu(c W1)) W2. The gate path is an SE block that attends to
    its own input and has no bottleneck.

    >>> from torch.nn.functional import linear, relu, silu
    >>> rng = generator("squeeze and excitation")
    >>> c, w_alpha = torch.randn(5, 8, generator=rng), torch.randn(8, 8, generator=rng)
    >>> w_1, w_2 = torch.randn(8, 4, generator=rng), torch.randn(4, 8, generator=rng)
    >>> gate = excitation(c, torch.sigmoid(c @ torch.eye(8)), w_alpha)
    >>> bool(torch.allclose(gate, linear(silu(c), w_alpha.T)))
    True
    >>> se = excitation(torch.ones(5, 4), relu(c @ w_1), w_2)
    >>> bool(torch.allclose(se, linear(relu(linear(c, w_1.T)), w_2.T)))
    True
    """
    return (attended * squeeze) @ excite
