import pytest
import torch

from adaln.models import MODELS, build
from adaln.rng import generator
from helpers.networks import DIGITS

SMALL = [name for name in MODELS if "tiny" in name]


@pytest.fixture(params=SMALL)
def any_model(request):
    """Every family and every modulation path, small."""
    return build(MODELS[request.param], DIGITS, generator("test", 0))


@pytest.fixture
def model():
    return build(MODELS["tiny"], DIGITS, generator("test", 0))


@pytest.fixture
def noise_loss():
    """Predict the noise of a fixed batch: enough to see who moves when."""

    def loss(model, iteration):
        rng = generator("noise-loss", iteration)
        x = torch.randn(16, 1, 8, 8, generator=rng)
        t = torch.randint(0, 1000, (16,), generator=rng)
        y = torch.randint(0, 11, (16,), generator=rng)
        output = model(x, t, y)
        return (output - torch.randn(output.shape, generator=rng)).square().mean()

    return loss
