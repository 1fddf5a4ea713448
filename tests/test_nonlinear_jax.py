"""Gradients of layers beside those that JAX differentiates, where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

from dln.nonlinear import (
    AveragePool,
    BatchNorm,
    Conv2d,
    Dense,
    Flatten,
    Network,
    Residual,
    SelfAttention,
    Tanh,
    activations,
)

jax = pytest.importorskip("jax")
jnp = pytest.importorskip("jax.numpy")
jax.config.update("jax_enable_x64", True)

ACTIVATIONS = {
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "tanh": jnp.tanh,
    "gelu": lambda z: jax.nn.gelu(z, approximate=False),
    "linear": lambda z: z,
}


def affine(x, W, b):
    return x @ W.T + b


def convolved(x, W, b, stride, padding):
    kernels = W.reshape(len(W), x.shape[1], 3, 3)
    pads = [(padding, padding)] * 2
    return jax.lax.conv_general_dilated(x, kernels, (stride, stride), pads) + b[:, None, None]


def normed(x, gamma, beta):
    axes = (0, *range(2, x.ndim))
    along = (-1, *[1] * (x.ndim - 2))
    z = (x - x.mean(axes, keepdims=True)) / jnp.sqrt(x.var(axes, keepdims=True) + 1e-5)
    return gamma.reshape(along) * z + beta.reshape(along)


def pooled(x):
    return x.reshape(*x.shape[:2], x.shape[2] // 2, 2, x.shape[3] // 2, 2).mean((3, 5))


def attended(x, W_Q, W_K, W_V, W_O, heads):
    Q, K, V = (jnp.moveaxis((x @ W.T).reshape(*x.shape[:2], heads, -1), 2, 1) for W in (W_Q, W_K, W_V))
    P = jax.nn.softmax(Q @ jnp.swapaxes(K, -1, -2) / jnp.sqrt(Q.shape[-1]), axis=-1)
    return jnp.moveaxis(P @ V, 1, 2).reshape(x.shape) @ W_O.T


def images(p, x):
    z = pooled(jnp.tanh(normed(convolved(x, *p[:2], 2, 1), *p[2:4])))
    return affine(z.reshape(len(x), -1), *p[4:])


def tokens(p, x):
    z = attended(x, *p[:4], 2) + x
    return affine(jnp.tanh(affine(z, *p[4:6])).reshape(len(x), -1), *p[6:])


NETS = {
    "images": (
        (2, 8, 8),
        [Conv2d(3, 3, stride=2, padding=1), BatchNorm(), Tanh(), AveragePool(2), Flatten(), Dense(4)],
        images,
    ),
    "tokens": (
        (5, 6),
        [Residual([SelfAttention(heads=2)]), Dense(3), Tanh(), Flatten(), Dense(4)],
        tokens,
    ),
} | {
    name: (
        (6,),
        [Dense(5), phi(), Dense(4)],
        lambda p, x, f=ACTIVATIONS[name]: affine(f(affine(x, *p[:2])), *p[2:]),
    )
    for name, phi in activations.ALL.items()
}


@pytest.mark.parametrize("name", NETS)
def test_gradients(name):
    shape, layers, outputs = NETS[name]
    net, rng = Network(shape, layers, rng=0), np.random.default_rng(1)
    X, y = rng.normal(size=(7, *shape)), rng.integers(4, size=7)

    def loss(parameters):
        F = outputs(parameters, jnp.asarray(X))
        return -jax.nn.log_softmax(F)[jnp.arange(7), y].mean()

    value, gradients = jax.value_and_grad(loss)([jnp.asarray(p.value) for p in net.body.parameters])
    assert net.loss_and_gradients(X, y)[0] == pytest.approx(float(value), rel=1e-13)
    for p, G in zip(net.body.parameters, gradients, strict=True):
        np.testing.assert_allclose(p.gradient, G, atol=1e-14, rtol=1e-10)
