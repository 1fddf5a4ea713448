"""Layers and training runs beside PyTorch, where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

from dln.nonlinear import (
    GELU,
    AveragePool,
    BatchNorm,
    Conv2d,
    Dense,
    Flatten,
    LeakyReLU,
    Network,
    ReLU,
    Tanh,
    mlp,
    train,
)

torch = pytest.importorskip("torch")

SHAPE = (2, 8, 8)
LAYERS = [
    *(Conv2d(3, 3, stride=2, padding=1), BatchNorm(), GELU()),
    *(Conv2d(4, 3, padding=1), LeakyReLU(0.1), AveragePool(2), Flatten()),
    *(Dense(6), BatchNorm(momentum=0.3), Tanh(), Dense(5), ReLU(), Dense(3)),
]


def of(layer, shape):
    """The module of PyTorch that a layer of ours stands for."""
    kinds = {
        Dense: lambda: torch.nn.Linear(shape[0], layer.width, bias=layer.bias),
        Conv2d: lambda: torch.nn.Conv2d(
            shape[0], layer.channels, layer.kernel, layer.stride, layer.padding, bias=layer.bias
        ),
        BatchNorm: lambda: (torch.nn.BatchNorm2d if len(shape) == 3 else torch.nn.BatchNorm1d)(
            shape[0], eps=layer.epsilon, momentum=layer.momentum
        ),
        AveragePool: lambda: torch.nn.AvgPool2d(layer.size),
        LeakyReLU: lambda: torch.nn.LeakyReLU(layer.alpha),
        Flatten: torch.nn.Flatten,
        GELU: torch.nn.GELU,
        ReLU: torch.nn.ReLU,
        Tanh: torch.nn.Tanh,
    }
    return kinds[type(layer)]()


def twin(net):
    """The same network in PyTorch with the same parameters."""
    modules, shape = [], net.shape
    for layer in net.body.layers:
        modules.append(of(layer, shape))
        shape = layer.forward(np.zeros((2, *shape)), False).shape[1:]
    model = torch.nn.Sequential(*modules).double()
    with torch.no_grad():
        for p, q in zip(net.body.parameters, model.parameters(), strict=True):
            q.copy_(torch.tensor(p.value.reshape(q.shape)))
    return model


def vector(model):
    return np.concatenate([q.detach().numpy().ravel() for q in model.parameters()])


@pytest.mark.parametrize("loss", ["cross_entropy", "squared"])
def test_loss_gradients_and_statistics(loss):
    net = Network(SHAPE, LAYERS, rng=0)
    model, rng = twin(net), np.random.default_rng(1)
    X, y = rng.normal(size=(7, *SHAPE)), rng.integers(3, size=7)
    F = model(torch.tensor(X))
    one_hot = torch.nn.functional.one_hot(torch.tensor(y), 3).double()
    rule = {
        "cross_entropy": lambda: torch.nn.functional.cross_entropy(F, torch.tensor(y)),
        "squared": lambda: ((F - one_hot) ** 2).sum(axis=1).mean() / 2,
    }
    value = rule[loss]()
    value.backward()
    assert net.loss_and_gradients(X, y, loss)[0] == pytest.approx(value.item(), rel=1e-13)
    gradient = np.concatenate([q.grad.numpy().ravel() for q in model.parameters()])
    np.testing.assert_allclose(net.gradient, gradient, atol=1e-14, rtol=1e-11)
    net.body.forward(X, True)
    statistics = [
        b.numpy() for name, b in model.named_buffers() if "running" in name
    ]  # mean and variance by turns
    np.testing.assert_allclose(net.running, np.concatenate(statistics), rtol=1e-13, atol=1e-15)
    model.eval()
    np.testing.assert_allclose(net(X), model(torch.tensor(X)).detach().numpy(), atol=1e-13)


@pytest.mark.parametrize("heads", [1, 2])
def test_attention(heads):
    from dln.nonlinear import SelfAttention

    net = Network((5, 6), [SelfAttention(heads), Flatten()], rng=0)
    model = torch.nn.MultiheadAttention(6, heads, bias=False, batch_first=True).double()
    with torch.no_grad():
        model.in_proj_weight.copy_(torch.tensor(np.vstack(net.weights[:3])))
        model.out_proj.weight.copy_(torch.tensor(net.weights[3]))
    X = np.random.default_rng(1).normal(size=(4, 5, 6))
    x = torch.tensor(X)
    F = model(x, x, x)[0].reshape(4, -1)
    (F**2).sum(axis=1).mean().div(2).backward()
    _, gradients = net.loss_and_gradients(X, np.zeros((4, 30)), "squared")
    np.testing.assert_allclose(net(X), F.detach().numpy(), atol=1e-14)
    np.testing.assert_allclose(np.vstack(gradients[:3]), model.in_proj_weight.grad.numpy(), atol=1e-14)
    np.testing.assert_allclose(gradients[3], model.out_proj.weight.grad.numpy(), atol=1e-14)


RULES = {
    "sgd": ({}, torch.optim.SGD, {}),
    "momentum": ({"momentum": 0.9}, torch.optim.SGD, {"momentum": 0.9}),
    "nesterov": (
        {"momentum": 0.8, "nesterov": True},
        torch.optim.SGD,
        {"momentum": 0.8, "nesterov": True},
    ),
    "adam": ({"optimizer": "adam", "momentum": 0.9}, torch.optim.Adam, {}),
    "adamw": ({"optimizer": "adam", "momentum": 0.9, "decoupled": True}, torch.optim.AdamW, {}),
}


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("name", RULES)
def test_training(name, batch_norm, engine):
    options, rule, settings = RULES[name]
    net = mlp((6, 8, 7, 3), "tanh", batch_norm, rng=0)
    model, rng = twin(net), np.random.default_rng(1)
    X, y = rng.normal(size=(26, 6)), rng.integers(3, size=26)
    optimizer = rule(model.parameters(), lr=0.02, weight_decay=0.03, **settings)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3], gamma=0.2)
    for _ in range(5):
        for i in range(0, 24, 4):
            optimizer.zero_grad()
            F = model(torch.tensor(X[i : i + 4]))
            torch.nn.functional.cross_entropy(F, torch.tensor(y[i : i + 4])).backward()
            optimizer.step()
        schedule.step()
    arguments = {"learning_rate": 0.02, "batch_size": 4, "epochs": 5, "weight_decay": 0.03}
    train(net, X, y, sampling="cyclic", schedule={2: 0.2, 3: 0.2}, engine=engine, **arguments, **options)
    # Adam divides by gradients, some of which are rounding: the biases before a batch norm
    tolerance = 1e-12 if "adam" not in name else 1e-9
    kept = [not (batch_norm and q.ndim == 1) for q in model.parameters()]
    for p, q, keep in zip(net.body.parameters, model.parameters(), kept, strict=True):
        if keep or "adam" not in name:
            np.testing.assert_allclose(p.value, q.detach().numpy(), atol=tolerance)
