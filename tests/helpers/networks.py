"""Small networks and images that the attribution tests share."""

from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional

from hsiutils.data.classes import CLASSES
from hsiutils.models.unet import UNet, UNetConfig

SMALL = UNetConfig(channels=4, depth=2, filters=4, class_names=CLASSES)
PLAIN = UNet(SMALL)
"""What targets are made for: they ask a network for its classes alone."""


def image(config=SMALL, height=13, width=18, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(config.channels, height, width, generator=generator, dtype=torch.float64).to(dtype)


def random_like(tensor, n=3, seed=1):
    return torch.randn(n, *tensor.shape, generator=torch.Generator().manual_seed(seed), dtype=tensor.dtype)


X = image()
MASK = torch.zeros(13, 18, dtype=torch.bool)
MASK[3:7, 5:11] = True
"""Some pixels of X."""


def shaken(config=SMALL, dtype=torch.float64, seed=0):
    """A network with random weights whose normalisation and biases are far from trivial."""
    model = UNet(config, generator := torch.Generator().manual_seed(seed))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 2.0, generator=generator)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(generator=generator)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.bias.data.normal_(std=0.3, generator=generator)
    return model.eval().to(dtype)


def trained(config=SMALL, dtype=torch.float64, steps=15, seed=0):
    """A network fitted for a moment to find the brightest band: weights and statistics as training leaves them."""
    generator = torch.Generator().manual_seed(seed)
    model = UNet(config, generator).double().train()  # in single precision, a processor's rounding shows
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of dropout
        for _ in range(steps):
            batch = torch.randn(2, config.channels, 16, 16, generator=generator).double().cumsum(3) / 4
            optimiser.zero_grad()
            functional.cross_entropy(model(batch), batch.argmax(1) % config.classes).backward()
            optimiser.step()
    model.zero_grad()
    return model.eval().to(dtype)


def hooks(model):
    """How many hooks hang on a network."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules())


def state(model):
    """All that a look into a network must leave as it was, to be compared by ==."""
    values = [*model.state_dict().values(), *(p.grad for p in model.parameters())]
    kept = [value if value is None else value.detach().numpy().tobytes() for value in values]
    modules = [(module.training, sorted(vars(module))) for module in model.modules()]
    return kept, [p.requires_grad for p in model.parameters()], modules


def used():
    """A network as it may come: in training mode but for a part, with gradients, one parameter frozen."""
    model = shaken().train()
    model.encoder[0].eval()
    model.encoder[1].conv1.weight.requires_grad_(False)
    model.head.weight.grad = torch.ones_like(model.head.weight)
    return model


@contextmanager
def untouched(model):
    """What is done inside leaves the network and torch's random numbers as they were, and no hook behind."""
    before, rng = state(model), torch.random.get_rng_state()
    yield
    assert hooks(model) == 0
    assert before == state(model)
    assert torch.equal(rng, torch.random.get_rng_state())
