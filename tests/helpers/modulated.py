"""Small networks, one for every way in which conditioning reaches tokens."""

import torch
from torch import nn
from torch.nn import functional as F

from adaln.rng import generator

D, C, TOKENS, BATCH = 8, 6, 5, 3


def norm(x):
    return F.layer_norm(x, x.shape[-1:])


def inputs(**more):
    rng = generator("probe", "inputs")
    return {"x": torch.randn(BATCH, TOKENS, D, generator=rng), "t": torch.rand(BATCH, generator=rng), **more}


class TimeEmbedder(nn.Module):
    def __init__(self, width=C):
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(4, C), nn.Linear(C, width)

    def forward(self, t):
        frequencies = torch.arange(4, dtype=t.dtype)
        return self.linear_2(F.silu(self.linear_1(torch.cos(t[..., None] * frequencies))))


class Network(nn.Module):
    """Blocks of a class between an embedding of the tokens and a head."""

    def __init__(self, block, *args, num_blocks=2):
        super().__init__()
        self.embedder = nn.Linear(D, D)
        self.t_embedder = TimeEmbedder()
        self.blocks = nn.ModuleList(block(*args) for _ in range(num_blocks))
        self.head = nn.Linear(D, D)

    def forward(self, x, t):
        x, c = self.embedder(x), self.t_embedder(t)
        for block in self.blocks:
            x = block(x, c)
        return self.head(norm(x))


class Mlp(nn.Module):
    def __init__(self, width=D):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Attention(nn.Module):
    def __init__(self, width=D):
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return self.out(F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0])


FORMS = {
    "products and sums": (lambda x, b, s: norm(x) * (1 + s) + b, lambda x, g, f: x + g * f),
    "fused": (lambda x, b, s: torch.addcmul(b, norm(x), 1 + s), lambda x, g, f: torch.addcmul(x, g, f)),
    "in place": (lambda x, b, s: norm(x).mul_(1 + s).add_(b), lambda x, g, f: x.clone().add_(f.mul_(g))),
    "x + x s": (lambda x, b, s: b + (n := norm(x)) + n * s, lambda x, g, f: f * g + x),
    "cast": (lambda x, b, s: norm(x.double()) * (1 + s) + b, lambda x, g, f: (x + (f.double() * g)).float()),
    "masked": (lambda x, b, s: (norm(x) * (1 + s) + b) * 1.0, lambda x, g, f: x + (g * f) * (x[..., :1] > -9)),
    "on a part": (
        lambda x, b, s: torch.cat([norm(x)[:, :2] * (1 + s), norm(x)[:, 2:]], 1) + b,
        lambda x, g, f: x + torch.cat([g * f[:, :2], torch.zeros_like(f[:, 2:])], 1),
    ),
    "without a norm": (lambda x, b, s: x * (1 + s) + b, lambda x, g, f: x + g * f),
    "sandwich": (lambda x, b, s: norm(x) * (1 + s) + b, lambda x, g, f: x + g * norm(f)),
}


class Block(nn.Module):
    """Attention and MLP in one of the forms; `order` says which sixth of the rows is what."""

    def __init__(self, form="products and sums", order=(0, 1, 2, 3, 4, 5)):
        super().__init__()
        self.modulation = nn.Linear(C, 6 * D)
        self.attn, self.mlp = Attention(), Mlp()
        self.form, self.order = FORMS[form], order

    def forward(self, x, c):
        chunks = self.modulation(F.silu(c)).float() if c.dtype is torch.double else self.modulation(F.silu(c))
        parts = chunks.unsqueeze(-2).chunk(6, dim=-1)
        b1, s1, g1, b2, s2, g2 = (parts[i] for i in self.order)
        modulate, gate = self.form
        attn = self.attn(modulate(x, b1, s1).to(x.dtype))
        x = gate(x, g1, attn)
        return gate(x, g2, self.mlp(modulate(x, b2, s2).to(x.dtype)))


class OfFunctions(nn.Module):
    """A scale and a gate through functions."""

    def __init__(self, scale, gate):
        super().__init__()
        self.modulation, self.mlp = nn.Linear(C, 2 * D), Mlp()
        self.functions = scale, gate

    def forward(self, x, c):
        scale, gate = (f(v)[:, None] for f, v in zip(self.functions, self.modulation(c).chunk(2, -1), strict=True))
        return x + gate * self.mlp(norm(x) * scale)


class Joint(nn.Module):
    """Two streams that attend together; the rows of both in turn, as CogView4 has them."""

    def __init__(self, order=(0, 1, 2, 3, 4, 5)):
        super().__init__()
        self.modulation = nn.Linear(C, 6 * D)
        self.attn = Attention()

    def forward(self, x, text, c):
        b, b_text, s, s_text, g, g_text = self.modulation(c)[:, None].chunk(6, -1)
        joined = torch.cat([norm(text) * (1 + s_text) + b_text, norm(x) * (1 + s) + b], 1)
        of_text, of_x = self.attn(joined).split([text.shape[1], x.shape[1]], 1)
        return x + g * of_x, text + g_text * of_text


class JointNetwork(Network):
    def forward(self, x, t, text):
        c = self.t_embedder(t)
        for block in self.blocks:
            x, text = block(x, text=text, c=c)
        return self.head(x), text


class Uneven(nn.Module):
    """Two widths; the gate of each stream stands in the other's rows."""

    def __init__(self):
        super().__init__()
        self.modulation = nn.Linear(C, 3 * D + 2 * 3 * D)
        self.mlp, self.wide_mlp = Mlp(), Mlp(3 * D)

    def forward(self, x, text, c):
        b, g_wide, s, b_wide, g = self.modulation(c)[:, None].split([D, 3 * D, D, 3 * D, D], -1)
        return x + g * self.mlp(norm(x) * (1 + s) + b), text + g_wide * self.wide_mlp(norm(text) + b_wide)


class Tabled(nn.Module):
    """A table of one of the shapes, added to what the shared maps give."""

    def __init__(self, shape):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(shape))
        self.mlp, self.attn = Mlp(), Attention()

    def forward(self, x, six):
        b1, s1, g1, b2, s2, g2 = (self.table.reshape(1, 6, D) + six).chunk(6, dim=1)
        x = x + g1 * self.attn(norm(x) * (1 + s1) + b1)
        return x + g2 * self.mlp(norm(x) * (1 + s2) + b2)


class TabledNetwork(Network):
    def __init__(self, shape, num_maps):
        super().__init__(Tabled, shape)
        self.maps = nn.ModuleList(nn.Linear(C, 6 * D) for _ in range(num_maps))
        self.last_table = nn.Parameter(torch.zeros(2, C))
        self.last = nn.Linear(D, C)

    def forward(self, x, t):
        x, c = self.embedder(x), self.t_embedder(t)
        six = sum(each(F.silu(c)) for each in self.maps).unflatten(-1, (6, D))
        for block in self.blocks:
            x = block(x, six)
        shift, scale = (self.last_table + c[:, None]).chunk(2, dim=1)
        return norm(self.last(x)) * (1 + scale) + shift


class PerToken(Network):
    """A condition and a kind for each token, which chooses rows; a batch twice as large, half of it at t = 0."""

    def __init__(self):
        super().__init__(Mlp)
        self.modulation = nn.Linear(C, 2 * 2 * D)

    def forward(self, x, t, kinds):
        c = self.t_embedder(torch.cat([t[:, None].expand(-1, TOKENS), torch.zeros(BATCH, TOKENS)]))
        values = self.modulation(c).unflatten(-1, (2, 2, D))
        chosen = torch.where(kinds[..., None, None] > 0, values[..., 0, :, :], values[..., 1, :, :])
        scale, gate = chosen[:BATCH].unbind(-2)
        return x + gate * self.blocks[0](norm(x) * (1 + scale))


class NoModulation(Network):
    """All that looks like it: time added to tokens and as a token, a position table, a static gate, learned queries."""

    def __init__(self):
        super().__init__(Mlp)
        self.time_token, self.to_tokens = nn.Linear(C, D), nn.Linear(C, D)
        self.positions, self.layer_scale = nn.Parameter(torch.ones(1, TOKENS, D)), nn.Parameter(torch.ones(D))
        self.queries = nn.Parameter(torch.ones(2, D))

    def forward(self, x, t):
        c = self.t_embedder(t)
        x = self.embedder(x) + self.positions + self.to_tokens(c)[:, None]
        x = torch.cat([x, self.time_token(c)[:, None], self.queries.expand(len(x), -1, -1)], 1)
        return self.head(x + self.layer_scale * self.blocks[0](norm(x)))


class Pooled(Network):
    """A condition that has seen the text: its mean goes into it."""

    def __init__(self):
        super().__init__(Block)
        self.pool = nn.Linear(D, C)

    def forward(self, x, t, text):
        c = self.t_embedder(t) + self.pool(text.mean(1))
        return self.head(self.blocks[0](x, c))


class Odd(nn.Module):
    """A squeezed path, experts that see as many tokens as chance wants, a gate for each head, channels before space."""

    def __init__(self):
        super().__init__()
        self.modulation = nn.Sequential(nn.Linear(C, 2), nn.Linear(2, 2 * D))
        self.head_gate = nn.Linear(C, 2)
        self.experts = nn.ModuleList(Mlp() for _ in range(2))
        self.conv = nn.Conv1d(D, D, 1)
        self.conv_scale = nn.Linear(C, D)

    def forward(self, x, c):
        scale, gate = self.modulation(c)[:, None].chunk(2, -1)
        h, out = norm(x) * (1 + scale), torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            chosen = (h[..., 0] > 0) == bool(i)
            out[chosen] = expert(h[chosen])
        x = x + gate * out
        heads = (x @ x.mT @ x).unflatten(-1, (2, -1)) * self.head_gate(c)[:, None, :, None]
        x = x + heads.flatten(-2)
        return x + self.conv(norm(x).mT * (1 + self.conv_scale(c))[..., None]).mT


class Lerped(nn.Module):
    """A gate between x and F(x), by an operation of which nothing is known."""

    def __init__(self):
        super().__init__()
        self.modulation, self.mlp = nn.Linear(C, D), Mlp()

    def forward(self, x, c):
        return torch.lerp(x, self.mlp(norm(x)), self.modulation(c)[:, None])


class Scalars(nn.Module):
    """One number for a whole branch."""

    def __init__(self):
        super().__init__()
        self.modulation, self.mlp = nn.Linear(C, 2), Mlp()

    def forward(self, x, c):
        scale, gate = self.modulation(c)[:, None].chunk(2, -1)
        return x + gate * self.mlp(norm(x) * (1 + scale))


class BiasedScores(nn.Module):
    """Attention whose scores depend on the time: no modulation, nor is the temperature that it learns."""

    def __init__(self):
        super().__init__()
        self.bias, self.temperature = nn.Linear(C, TOKENS), nn.Parameter(torch.ones(TOKENS))

    def forward(self, x, c):
        scores = norm(x) @ norm(x).mT * self.temperature + self.bias(c)[:, None]
        return x + scores.softmax(-1) @ x


class PerFrame(nn.Module):
    """A condition for each token."""

    def __init__(self):
        super().__init__()
        self.modulation, self.mlp = nn.Linear(C, 2 * D), Mlp()

    def forward(self, x, c):
        scale, gate = self.modulation(c).chunk(2, -1)
        return x + gate * self.mlp(norm(x) * (1 + scale))
