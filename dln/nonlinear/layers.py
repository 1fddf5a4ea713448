"""The layers: dense, convolution, batch norm, residual, average pooling, flatten, self-attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .. import checks
from .layer import Chain, Layer, Parameter, Shape, refuse_shape

__all__ = ["AveragePool", "BatchNorm", "Conv2d", "Dense", "Flatten", "Residual", "SelfAttention"]


@dataclass(eq=False)
class Dense(Layer):
    """W u + b along the last axis of a sample: one use of W for each vector, so one for a plain sample.

    The start is uniform within 1/sqrt(n_in), that of ``torch.nn.Linear``.
    """

    affine: ClassVar[bool] = True
    width: int
    bias: bool = True

    def __post_init__(self) -> None:
        self.width = checks.integer(self.width, "width", least=1)
        self.bias = checks.flag(self.bias, "bias")

    def bind(self, shape: Shape) -> Shape:
        self.parameters = _affine(self.width, shape[-1], self.uses(shape), self.bias)
        return (*shape[:-1], self.width)

    def uses(self, shape: Shape) -> int:
        return math.prod(shape[:-1])

    def forward(self, x: Any, training: bool) -> Any:
        self.memory = x
        return _apply(self.parameters, x)

    def backward(self, d: Any) -> Any:
        return _pull_back(self.parameters, self.memory, d)


@dataclass(eq=False)
class Conv2d(Layer):
    """Convolution of images (channels, height, width) with a square kernel; W is (c_out, c_in * kernel * kernel).

    W is used once for every patch: ``(floor((height + 2 padding - kernel) / stride) + 1)`` of them down, and likewise
    across.
    """

    affine: ClassVar[bool] = True
    channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    bias: bool = True

    def __post_init__(self) -> None:
        for name, least in (("channels", 1), ("kernel", 1), ("stride", 1), ("padding", 0)):
            setattr(self, name, checks.integer(getattr(self, name), name, least=least))
        self.bias = checks.flag(self.bias, "bias")

    def bind(self, shape: Shape) -> Shape:
        if len(shape) != 3 or min(shape[1:]) + 2 * self.padding < self.kernel:
            raise refuse_shape(
                self, "images (channels, height, width) not smaller than the kernel", shape, "Pad or reshape"
            )
        self.parameters = _affine(self.channels, shape[0] * self.kernel**2, self.uses(shape), self.bias)
        return (self.channels, *self._places(shape))

    def uses(self, shape: Shape) -> int:
        return math.prod(self._places(shape))

    def _places(self, shape: Shape) -> Shape:
        return tuple((n + 2 * self.padding - self.kernel) // self.stride + 1 for n in shape[1:])

    def forward(self, x: Any, training: bool) -> Any:
        places, p = self._places(x.shape[1:]), self.padding
        padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (self.kernel, self.kernel), axis=(2, 3))
        patches = windows[:, :, :: self.stride, :: self.stride].transpose(0, 2, 3, 1, 4, 5)
        u = patches.reshape(len(x), math.prod(places), -1)
        self.memory = u, padded.shape, places
        y = _apply(self.parameters, u)
        return np.ascontiguousarray(y.transpose(0, 2, 1)).reshape(len(x), self.channels, *places)

    def backward(self, d: Any) -> Any:
        u, shape, (rows, columns) = self.memory
        delta = np.ascontiguousarray(d.reshape(len(d), self.channels, -1).transpose(0, 2, 1))
        k, s, p = self.kernel, self.stride, self.padding
        du = _pull_back(self.parameters, u, delta).reshape(len(d), rows, columns, shape[1], k, k)
        dx = np.zeros(shape, dtype=d.dtype)
        for i in range(k):
            for j in range(k):
                hit = (..., slice(i, i + s * rows, s), slice(j, j + s * columns, s))
                dx[hit] += du[..., i, j].transpose(0, 3, 1, 2)
        return dx[:, :, p : shape[2] - p, p : shape[3] - p]


@dataclass(eq=False)
class SelfAttention(Layer):
    r"""Self-attention of T tokens in R^d: W_O applied to softmax(Q K^T / sqrt(d / heads)) V, head by head.

    The four matrices W_Q, W_K, W_V, W_O are square, without biases; each is used once for every token.
    """

    heads: int = 1

    def __post_init__(self) -> None:
        self.heads = checks.integer(self.heads, "heads", least=1)

    def bind(self, shape: Shape) -> Shape:
        if len(shape) != 2 or shape[1] % self.heads:
            raise refuse_shape(
                self,
                "samples (tokens, d) with d a multiple of the heads",
                shape,
                "Reshape, or change the heads",
            )
        d, uses = shape[1], self.uses(shape)
        self.parameters = [
            Parameter(name, (d, d), bound=1 / math.sqrt(d), uses=uses)
            for name in ("query", "key", "value", "output")
        ]
        return shape

    def uses(self, shape: Shape) -> int:
        return shape[0]

    def forward(self, x: Any, training: bool) -> Any:
        Q, K, V = (self._split(x @ p.value.T) for p in self.parameters[:3])
        P = self._scale(x) * (Q @ K.swapaxes(-1, -2))
        P = np.exp(P - P.max(axis=-1, keepdims=True))
        P /= P.sum(axis=-1, keepdims=True)
        mixed = self._join(P @ V)
        self.memory = x, Q, K, V, P, mixed
        return mixed @ self.parameters[3].value.T

    def backward(self, d: Any) -> Any:
        x, Q, K, V, P, mixed = self.memory
        d_mixed = self._split(_pull_back(self.parameters[3:], mixed, d))
        dP = d_mixed @ V.swapaxes(-1, -2)
        dS = self._scale(x) * P * (dP - (P * dP).sum(axis=-1, keepdims=True))
        deltas = (dS @ K, dS.swapaxes(-1, -2) @ Q, P.swapaxes(-1, -2) @ d_mixed)
        parts = [
            _pull_back([p], x, self._join(delta))
            for p, delta in zip(self.parameters[:3], deltas, strict=True)
        ]
        return parts[0] + parts[1] + parts[2]

    def _scale(self, x: Any) -> float:
        return math.sqrt(self.heads / x.shape[-1])

    def _split(self, x: Any) -> Any:
        """(samples, heads, tokens, d / heads)"""
        return x.reshape(*x.shape[:2], self.heads, -1).swapaxes(1, 2)

    def _join(self, x: Any) -> Any:
        return np.ascontiguousarray(x.swapaxes(1, 2)).reshape(len(x), x.shape[2], -1)


@dataclass(eq=False)
class BatchNorm(Layer):
    """gamma (z - mean) / sqrt(variance + epsilon) + beta for each unit, or each channel of an image.

    In training, mean and variance are those of the batch, and running averages are kept for evaluation, as in
    ``torch.nn.BatchNorm1d`` and ``2d``.
    """

    normalises: ClassVar[bool] = True
    epsilon: float = 1e-5
    momentum: float = 0.1

    def __post_init__(self) -> None:
        self.epsilon = checks.nonnegative(self.epsilon, "epsilon")
        self.momentum = checks.positive(self.momentum, "momentum")
        if self.momentum > 1:
            raise ValueError(
                f"`momentum` must be at most 1, got {self.momentum}. It is the share of the latest batch."
            )

    def bind(self, shape: Shape) -> Shape:
        if len(shape) not in (1, 3):
            raise refuse_shape(self, "vectors or images (channels, height, width)", shape, "Put it elsewhere")
        self.parameters = [Parameter("gamma", shape[:1], fill=1.0), Parameter("beta", shape[:1])]
        self.running = [Parameter("mean", shape[:1]), Parameter("variance", shape[:1], fill=1.0)]
        return shape

    def forward(self, x: Any, training: bool) -> Any:
        axes = (0, *range(2, x.ndim))
        gamma, beta, mean, variance = (_along(p.value, x) for p in (*self.parameters, *self.running))
        if training:
            count = x.size // x.shape[1]
            if count < 2:
                raise ValueError(
                    "`batch_size` must be at least 2 with batch norm, got 1. One value has no variance."
                )
            mean, variance = (f(x, axis=axes, keepdims=True) for f in (np.mean, np.var))
            for p, now in zip(self.running, (mean, variance * (count / (count - 1))), strict=True):
                p.value[:] = (1 - self.momentum) * p.value + self.momentum * now.ravel()
        inverse = 1 / np.sqrt(variance + self.epsilon)
        normal = (x - mean) * inverse
        self.memory = normal, gamma * inverse, axes
        return gamma * normal + beta

    def backward(self, d: Any) -> Any:
        normal, scale, axes = self.memory
        gamma, beta = self.parameters
        gamma.gradient[:] = (d * normal).sum(axis=axes)
        beta.gradient[:] = d.sum(axis=axes)
        count = d.size // d.shape[1]
        d = d - (_along(beta.gradient, d) + normal * _along(gamma.gradient, d)) / count
        # In a batch of two nearly all of it cancels: only a second centring is one to the rounding of what is left.
        return scale * (d - d.mean(axis=axes, keepdims=True))


@dataclass(eq=False)
class AveragePool(Layer):
    """Means of disjoint squares of an image, `size` to a side."""

    size: int

    def __post_init__(self) -> None:
        self.size = checks.integer(self.size, "size", least=1)

    def bind(self, shape: Shape) -> Shape:
        if len(shape) != 3 or shape[1] % self.size or shape[2] % self.size:
            raise refuse_shape(
                self, "images whose sides are multiples of its size", shape, "Choose another size"
            )
        return (shape[0], shape[1] // self.size, shape[2] // self.size)

    def forward(self, x: Any, training: bool) -> Any:
        n, c, h, w = x.shape
        return x.reshape(n, c, h // self.size, self.size, w // self.size, self.size).mean(axis=(3, 5))

    def backward(self, d: Any) -> Any:
        return d.repeat(self.size, axis=2).repeat(self.size, axis=3) / self.size**2


@dataclass(eq=False)
class Flatten(Layer):
    """A sample as one vector."""

    def bind(self, shape: Shape) -> Shape:
        return (math.prod(shape),)

    def forward(self, x: Any, training: bool) -> Any:
        self.memory = x.shape
        return x.reshape(len(x), -1)

    def backward(self, d: Any) -> Any:
        return d.reshape(self.memory)


@dataclass(eq=False)
class Residual(Layer):
    """body(x) + shortcut(x), each a sequence of layers; without a shortcut, body(x) + x."""

    body: Sequence[Layer]
    shortcut: Sequence[Layer] = ()

    def __post_init__(self) -> None:
        self.branches = Chain(self.body), Chain(self.shortcut)

    def bind(self, shape: Shape) -> Shape:
        after, direct = (branch.bind(shape) for branch in self.branches)
        if after != direct:
            raise refuse_shape(self, f"a shortcut to {after}", direct, "Let both branches end in one shape")
        self.parameters = [p for branch in self.branches for p in branch.parameters]
        self.running = [p for branch in self.branches for p in branch.running]
        return after

    def forward(self, x: Any, training: bool) -> Any:
        body, shortcut = self.branches
        return body.forward(x, training) + shortcut.forward(x, training)

    def backward(self, d: Any) -> Any:
        body, shortcut = self.branches
        return body.backward(d) + shortcut.backward(d)


def _affine(rows: int, columns: int, uses: int, bias: bool) -> list[Parameter]:
    bound = 1 / math.sqrt(columns)
    weight = Parameter("weight", (rows, columns), bound=bound, uses=uses)
    return [weight, Parameter("bias", (rows,), bound=bound)] if bias else [weight]


def _apply(parameters: Sequence[Parameter], u: Any) -> Any:
    """W u + b for the vectors along the last axis."""
    y = u.reshape(-1, u.shape[-1]) @ parameters[0].value.T
    for b in parameters[1:]:
        y += b.value
    return y.reshape(*u.shape[:-1], -1)


def _pull_back(parameters: Sequence[Parameter], u: Any, delta: Any) -> Any:
    """W^T delta; leaves sum delta u^T and sum delta in the parameters."""
    rows, inputs = delta.reshape(-1, delta.shape[-1]), u.reshape(-1, u.shape[-1])
    np.matmul(rows.T, inputs, out=parameters[0].gradient)
    parameters[0].factors = rows, inputs
    for b in parameters[1:]:
        b.gradient[:] = rows.sum(axis=0)
    return (rows @ parameters[0].value).reshape(u.shape)


def _along(values: Any, x: Any) -> Any:
    """One value a channel, in the shape that meets the batch x."""
    return values.reshape(-1, *[1] * (x.ndim - 2))
