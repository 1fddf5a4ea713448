"""SGD with weight decay: the account of a step for live certificates, and one matrix under given gradients."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from numba import float64, int64, void

from .compile import compiled, helper, integers, matrix, summing, vector
from .views import vector_at

__all__ = ["ENTRIES", "compiled_account", "compiled_driven", "compiled_pass"]

ENTRIES = 4  # of an account: |W| after, |G|, |<G, W>| / (|G| |W|), relative residual of the recursion


@summing
def _sums(before: Any, after: Any, gradient: Any, learning_rate: float, weight_decay: float) -> Any:
    """Sums of one layer, without momentum."""
    norm = square = product = residual = 0.0
    for i in range(after.size):
        W, G = before[i], gradient[i]
        norm += after[i] * after[i]
        square += G * G
        product += G * W
        rest = after[i] - W + learning_rate * (G + weight_decay * W)
        residual += rest * rest
    return norm, square, product, residual


@summing
def _velocity_residual(
    before: Any,
    after: Any,
    velocity_before: Any,
    velocity_after: Any,
    gradient: Any,
    learning_rate: float,
    weight_decay: float,
    momentum: float,
) -> float:
    """Residual of both recursions of the heavy ball, in units of the weights."""
    residual = 0.0
    for i in range(after.size):
        V = velocity_after[i]
        step = after[i] - before[i] + learning_rate * V
        rest = learning_rate * (V - momentum * velocity_before[i] - gradient[i] - weight_decay * before[i])
        residual += step * step + rest * rest
    return residual


@helper
def _forget(learning_rate, weight_decay, momentum, left, row, watched):  # type: ignore[no-untyped-def]
    """One step of (W, V) without a gradient, before the matrices in `left`; rates and sums so far into `row`."""
    x = learning_rate * weight_decay
    for k in range(2):
        for column in range(2):
            W, V = left[4 * k + column], left[4 * k + 2 + column]
            left[4 * k + column] = (1.0 - x) * W - learning_rate * momentum * V
            left[4 * k + 2 + column] = weight_decay * W + momentum * V
    left[8] += x
    left[9] += math.log1p(-x)
    row[0], row[1], row[2], row[3] = learning_rate, weight_decay, left[9], watched


def account(  # type: ignore[no-untyped-def]
    before, after, velocity_before, velocity_after, gradient, offsets, sizes,
    learning_rate, weight_decay, momentum, tolerance, energy, last, out, left, row,
):  # fmt: skip
    """Account of a step into `out`, ENTRIES times a number for each layer; `last` is that of the step before.

    Returns how many layers break the recursion or, by more than `energy`, the law of batch normalisation. If none does,
    the weights and the velocity before become those after. `left` and `row`: what is left of the start and of a window.
    """
    layers, wrong = sizes.size, 0
    for l in range(layers):
        W, W_after = vector_at(before, offsets[l], sizes[l]), vector_at(after, offsets[l], sizes[l])
        G = vector_at(gradient, offsets[l], sizes[l])
        square, gradient_square, product, residual = _sums(W, W_after, G, learning_rate, weight_decay)
        if momentum > 0.0:
            V = vector_at(velocity_before, offsets[l], sizes[l])
            V_after = vector_at(velocity_after, offsets[l], sizes[l])
            residual = _velocity_residual(W, W_after, V, V_after, G, learning_rate, weight_decay, momentum)
        norm, size = math.sqrt(square), math.sqrt(gradient_square)
        angle, scale = size * last[l], max(norm, last[l])
        out[l], out[layers + l] = norm, size
        out[2 * layers + l] = abs(product) / angle if angle > 0.0 else 0.0
        out[3 * layers + l] = math.sqrt(residual) / scale if scale > 0.0 else math.sqrt(residual)
        if not (out[3 * layers + l] <= tolerance and out[2 * layers + l] <= energy[l]):
            wrong += 1
    _forget(learning_rate, weight_decay, momentum, left, row, 1.0)
    if wrong == 0:
        for i in range(before.size):
            before[i] = after[i]
        for i in range(velocity_before.size):
            velocity_before[i] = velocity_after[i]
    return wrong


def pass_over(learning_rate: Any, weight_decay: Any, momentum: float, left: Any, rows: Any) -> None:
    """Steps that were not watched."""
    for step in range(learning_rate.size):
        row = vector_at(rows, step * rows.shape[1], rows.shape[1])
        _forget(learning_rate[step], weight_decay[step], momentum, left, row, 0.0)


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
    return compiled(account, int64(*(vector,) * 5, integers, integers, *(float64,) * 4, *(vector,) * 5))


@functools.cache
def compiled_pass() -> Callable[..., None]:
    """Steps that were not watched, as machine code."""
    return compiled(pass_over, void(vector, vector, float64, vector, matrix))


@functools.cache
def compiled_driven() -> Callable[..., None]:
    """The toy as machine code."""
    signature = void(*(vector,) * 4, *(int64,) * 3, vector, vector, float64, int64, matrix)
    return compiled(driven, signature)
