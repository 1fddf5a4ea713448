"""SGD with weight decay: the account of a step for live certificates, and one matrix under given gradients."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from numba import float64, int64, void

from .compile import compiled, helper, integers, matrix, summing, vector
from .views import vector_at

__all__ = ["compiled_account", "compiled_driven", "compiled_pass"]

# A step is six numbers (a, b, c, d, e, f): W <- a W + b V + c G, V <- d W + e V + f G.


@summing
def _sums(before: Any, after: Any, gradient: Any, a: float, c: float) -> Any:
    """Sums of one layer, without velocity."""
    norm = square = product = residual = 0.0
    for i in range(after.size):
        W, G = before[i], gradient[i]
        norm += after[i] * after[i]
        square += G * G
        product += G * W
        rest = after[i] - a * W - c * G
        residual += rest * rest
    return norm, square, product, residual


@summing
def _residual(before: Any, after: Any, V: Any, gradient: Any, a: float, b: float, c: float) -> float:
    """Squared distance of what came after from a W + b V + c G."""
    residual = 0.0
    for i in range(after.size):
        rest = after[i] - a * before[i] - b * V[i] - c * gradient[i]
        residual += rest * rest
    return residual


@helper
def _forget(step, left, row):  # type: ignore[no-untyped-def]
    """A step without a gradient, before the two matrices in `left`; the log of 1 - x so far into `row`."""
    for k in range(2):
        for column in range(2):
            W, V = left[4 * k + column], left[4 * k + 2 + column]
            left[4 * k + column] = step[0] * W + step[1] * V
            left[4 * k + 2 + column] = step[3] * W + step[4] * V
    x = row[0] * row[1]
    left[8] += x
    left[9] += math.log1p(-x)
    row[2] = left[9]


def account(  # type: ignore[no-untyped-def]
    before, after, velocity_before, velocity_after, gradient, offsets, sizes,
    step, tolerance, energy, last, out, left, row,
):  # fmt: skip
    """Account of a step into `out`: |W| after, the relative residual and |<G, W>| / (|G| |W|), of each layer.

    `last` is the account of the step before; `left` and `row` what is left of the start and of a window.
    Returns how many layers break the recursion or, by more than `energy`, the law of batch normalisation. If none does,
    the weights and the velocity before become those after.
    """
    layers, wrong = sizes.size, 0
    for l in range(layers):
        W, W_after = vector_at(before, offsets[l], sizes[l]), vector_at(after, offsets[l], sizes[l])
        G = vector_at(gradient, offsets[l], sizes[l])
        square, gradient_square, product, residual = _sums(W, W_after, G, step[0], step[2])
        if velocity_before.size > 0:
            V = vector_at(velocity_before, offsets[l], sizes[l])
            V_after = vector_at(velocity_after, offsets[l], sizes[l])
            residual = _residual(W, W_after, V, G, step[0], step[1], step[2])
            residual += step[2] ** 2 * _residual(W, V_after, V, G, step[3], step[4], step[5])
        norm, size = math.sqrt(square), math.sqrt(gradient_square)
        angle, scale = size * last[l], max(norm, last[l])
        out[l] = norm
        out[layers + l] = math.sqrt(residual) / scale if scale > 0.0 else math.sqrt(residual)
        out[2 * layers + l] = abs(product) / angle if angle > 0.0 else 0.0
        if not (out[layers + l] <= tolerance and out[2 * layers + l] <= energy[l]):
            wrong += 1
    _forget(step, left, row)
    if wrong == 0:
        for i in range(before.size):
            before[i] = after[i]
        for i in range(velocity_before.size):
            velocity_before[i] = velocity_after[i]
    return wrong


def pass_over(steps: Any, left: Any, rows: Any) -> None:
    """Steps that were not watched."""
    for k in range(steps.shape[0]):
        step, row = (
            vector_at(steps, k * steps.shape[1], steps.shape[1]),
            vector_at(rows, k * rows.shape[1], 4),
        )
        _forget(step, left, row)


def driven(  # type: ignore[no-untyped-def]
    W, V, left, right, rank, rows, columns, learning_rate, weight_decay, momentum, every, out,
):  # fmt: skip
    """Heavy ball with decay on one matrix, one step for each rate, with gradients left^T right of `rank` rows in turn.

    `left` and `right` hold one gradient after the other, read in a cycle; every k-th W goes to `out`.
    """
    period = left.size // (rank * rows)
    for step in range(learning_rate.size):
        t = step % period
        for i in range(W.size):
            V[i] = momentum * V[i] + weight_decay[step] * W[i]
        for k in range(t * rank, (t + 1) * rank):
            for i in range(rows):
                factor = left[k * rows + i]
                if factor != 0.0:
                    for j in range(columns):
                        V[i * columns + j] += factor * right[k * columns + j]
        for i in range(W.size):
            W[i] -= learning_rate[step] * V[i]
        if (step + 1) % every == 0:
            out[(step + 1) // every - 1] = W


@functools.cache
def compiled_account() -> Callable[..., int]:
    """The account as machine code."""
    return compiled(account, int64(*(vector,) * 5, integers, integers, vector, float64, *(vector,) * 5))


@functools.cache
def compiled_pass() -> Callable[..., None]:
    """Steps that were not watched, as machine code."""
    return compiled(pass_over, void(matrix, vector, matrix))


@functools.cache
def compiled_driven() -> Callable[..., None]:
    """The toy as machine code."""
    signature = void(*(vector,) * 4, *(int64,) * 3, vector, vector, float64, int64, matrix)
    return compiled(driven, signature)
