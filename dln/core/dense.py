"""Mini-batch SGD of a stack of dense layers, with biases, batch norms and activations.

A batch stands feature by feature, (width, B), so that a layer is a product W Z and a bias is a row's.
One table describes the stack, one row a layer, so a new depth or width compiles nothing.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import float32, float64, int64, types
from numba.extending import overload

from .compile import compiled, helper, integers, summing
from .compile import vector as doubles
from .probe import ANGLE, ENTRIES, NORM, RANK, RESIDUAL, SPARE, TOTAL, angle, compare, probe, signals
from .vectors import multiply, multiply_plain, multiply_tn, multiply_tn_plain, transpose, transpose_plain
from .views import matrix_at, vector_at

__all__ = ["COLUMNS", "PLACES", "REALS", "compiled_descend"]

# Columns of the table, one row a layer; -1 where there is none. beta stands behind gamma, the variance behind the mean.
PLACES = (
    "S",
    "Z",
    "turned",
    "normal",
    "inverse",
)  # in work: before phi, behind it, its transpose; of a batch norm
COLUMNS = ("n_in", "n_out", "activation", "weight", "bias", "gamma", "mean", "probe", "kept", *PLACES)
N_IN, N_OUT, ACTIVATION, WEIGHT, BIAS, GAMMA, MEAN, PROBE, KEPT, S, Z, TURNED, NORMAL, INVERSE = range(
    len(COLUMNS)
)
REALS = ("alpha", "epsilon", "momentum")  # of the activation and of the batch norm, one row a layer
ALPHA, EPSILON, MOMENTUM = range(len(REALS))

IDENTITY, RELU, LEAKY, TANH, GELU = range(5)
CROSS_ENTROPY, SQUARED = range(2)
BATCH_SIZE, LOSS, UPDATE, VELOCITY, NESTEROV = range(5)  # flags of `descend`


# ----------------------------------------------------------------------------------------------------------
# Products in either precision: vector code in float64, BLAS in float32
# ----------------------------------------------------------------------------------------------------------


def product(A: Any, a: Any, B: Any, b: Any, out: Any, o: Any, m: Any, k: Any, n: Any) -> None:
    """A B, for matrices that begin at an index of a flat array."""
    multiply_plain(A, a, B, b, out, o, m, k, n)


def product_tn(A: Any, a: Any, B: Any, b: Any, out: Any, o: Any, m: Any, k: Any, n: Any) -> None:
    """A^T B, where A is k x m."""
    multiply_tn_plain(A, a, B, b, out, o, m, k, n)


def turn(A: Any, a: Any, out: Any, o: Any, m: Any, n: Any) -> None:
    """The transpose of the m x n matrix A."""
    transpose_plain(A, a, out, o, m, n)


@overload(product)
def _product(A, a, B, b, out, o, m, k, n):  # type: ignore[no-untyped-def]
    def double(A, a, B, b, out, o, m, k, n):  # type: ignore[no-untyped-def]
        multiply(A, a, B, b, out, o, m, k, n)

    def single(A, a, B, b, out, o, m, k, n):  # type: ignore[no-untyped-def]
        np.dot(matrix_at(A, a, m, k), matrix_at(B, b, k, n), matrix_at(out, o, m, n))

    return double if A.dtype == float64 else single


@overload(product_tn)
def _product_tn(A, a, B, b, out, o, m, k, n):  # type: ignore[no-untyped-def]
    def double(A, a, B, b, out, o, m, k, n):  # type: ignore[no-untyped-def]
        multiply_tn(A, a, B, b, out, o, m, k, n)

    def single(A, a, B, b, out, o, m, k, n):  # type: ignore[no-untyped-def]
        np.dot(matrix_at(A, a, k, m).T, matrix_at(B, b, k, n), matrix_at(out, o, m, n))

    return double if A.dtype == float64 else single


@overload(turn)
def _turn(A, a, out, o, m, n):  # type: ignore[no-untyped-def]
    def double(A, a, out, o, m, n):  # type: ignore[no-untyped-def]
        transpose(A, a, out, o, m, n)

    def single(A, a, out, o, m, n):  # type: ignore[no-untyped-def]
        for i in range(m):
            for j in range(n):
                out[o + j * m + i] = A[a + i * n + j]

    return double if A.dtype == float64 else single


# ----------------------------------------------------------------------------------------------------------
# One layer, forward and back
# ----------------------------------------------------------------------------------------------------------


@summing
def _sum(x, start, size):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(start, start + size):
        total += x[i]
    return total


@summing
def _sum_of_products(x, a, y, b, size):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(size):
        total += x[a + i] * y[b + i]
    return total


@summing
def _squares_about(x, start, size, mean):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(start, start + size):
        total += (x[i] - mean) ** 2
    return total


@helper
def _normalise(row, epsilon, momentum, B, theta, running, work):  # type: ignore[no-untyped-def]
    """Batch norm of S, in training."""
    n = row[N_OUT]
    for i in range(n):
        at, normal = row[S] + i * B, row[NORMAL] + i * B
        mean = _sum(work, at, B) / B
        variance = _squares_about(work, at, B, mean) / B
        m, v = row[MEAN] + i, row[MEAN] + n + i
        running[m] = (1 - momentum) * running[m] + momentum * mean
        running[v] = (1 - momentum) * running[v] + momentum * (variance * (B / (B - 1)))
        inverse = 1 / math.sqrt(variance + epsilon)
        work[row[INVERSE] + i] = inverse
        gamma, beta = theta[row[GAMMA] + i], theta[row[GAMMA] + n + i]
        for j in range(B):
            work[normal + j] = (work[at + j] - mean) * inverse
            work[at + j] = gamma * work[normal + j] + beta


@helper
def _normalise_back(row, B, theta, gradient, work, D):  # type: ignore[no-untyped-def]
    n = row[N_OUT]
    for i in range(n):
        at, normal = D + i * B, row[NORMAL] + i * B
        along = _sum_of_products(work, at, work, normal, B)
        total = _sum(work, at, B)
        gradient[row[GAMMA] + i] = along
        gradient[row[GAMMA] + n + i] = total
        scale, mean, tilt = theta[row[GAMMA] + i] * work[row[INVERSE] + i], total / B, along / B
        for j in range(B):
            work[at + j] -= mean + work[normal + j] * tilt
        mean = _sum(work, at, B) / B  # as the layer does, once more
        for j in range(B):
            work[at + j] = scale * (work[at + j] - mean)


@helper
def _activate(code, alpha, work, S, Z, size):  # type: ignore[no-untyped-def]
    """phi(S) into Z; NaN stays NaN."""
    if code == RELU:
        for i in range(size):
            s = work[S + i]
            work[Z + i] = 0 if s <= 0 else s
    elif code == LEAKY:
        for i in range(size):
            s = work[S + i]
            work[Z + i] = s if s > 0 else alpha * s
    elif code == TANH:
        for i in range(size):
            work[Z + i] = math.tanh(work[S + i])
    elif code == GELU:
        for i in range(size):
            s = work[S + i]
            work[Z + i] = s * (0.5 * (1 + math.erf(s * math.sqrt(0.5))))
    else:
        for i in range(size):
            work[Z + i] = work[S + i]


@helper
def _activate_back(code, alpha, work, S, Z, D, size):  # type: ignore[no-untyped-def]
    """D times phi'(S)."""
    if code == RELU:
        for i in range(size):
            work[D + i] = work[D + i] if work[S + i] > 0 else work[D + i] * 0
    elif code == LEAKY:
        for i in range(size):
            work[D + i] = work[D + i] if work[S + i] > 0 else alpha * work[D + i]
    elif code == TANH:
        for i in range(size):
            work[D + i] *= 1 - work[Z + i] * work[Z + i]
    elif code == GELU:
        for i in range(size):
            s = work[S + i]
            bell = math.exp(-s * s / 2) * math.sqrt(0.5 / math.pi)
            work[D + i] *= 0.5 * (1 + math.erf(s * math.sqrt(0.5))) + s * bell


@helper
def _forward(table, reals, B, theta, running, work, Z_0):  # type: ignore[no-untyped-def]
    """Every layer from the batch in Z_0; the outputs are the Z of the last."""
    before = Z_0
    for l in range(len(table)):
        row = table[l]
        n = row[N_OUT]
        product(theta, row[WEIGHT], work, before, work, row[S], n, row[N_IN], B)
        if row[BIAS] >= 0:
            for i in range(n):
                b = theta[row[BIAS] + i]
                for j in range(row[S] + i * B, row[S] + (i + 1) * B):
                    work[j] += b
        if row[GAMMA] >= 0:
            _normalise(row, reals[l, EPSILON], reals[l, MOMENTUM], B, theta, running, work)
        _activate(row[ACTIVATION], reals[l, ALPHA], work, row[S], row[Z], n * B)
        if l < len(table) - 1:
            turn(work, row[Z], work, row[TURNED], n, B)
        before = row[Z]


@helper
def _backward(table, reals, B, theta, gradient, work, D, other, turned_0, probes, kept, limits, rows, at):  # type: ignore[no-untyped-def]
    """Gradients of every layer from that of the outputs in D; what probes see of them into `rows`, where there are."""
    for l in range(len(table) - 1, -1, -1):
        row = table[l]
        n = row[N_OUT]
        _activate_back(row[ACTIVATION], reals[l, ALPHA], work, row[S], row[Z], D, n * B)
        if row[GAMMA] >= 0:
            _normalise_back(row, B, theta, gradient, work, D)
        if row[BIAS] >= 0:
            for i in range(n):
                gradient[row[BIAS] + i] = _sum(work, D + i * B, B)
        turned = turned_0 if l == 0 else table[l - 1, TURNED]
        product(work, D, work, turned, gradient, row[WEIGHT], n, B, row[N_IN])
        if rows.size > 0:
            m, entry, normed = row[N_IN], at + l, row[GAMMA] >= 0
            q, made = vector_at(probes, row[PROBE], m), vector_at(kept, row[KEPT] + 2 * n, n)
            along = vector_at(kept, kept.size - B, B)
            rows[entry + RANK * len(table)] = signals(work, D, turned, q, made, along, normed, limits[6])
            if normed:
                W, G = vector_at(theta, row[WEIGHT], n * m), vector_at(gradient, row[WEIGHT], n * m)
                rows[entry + ANGLE * len(table)] = angle(W, G)
        if l > 0:
            product_tn(theta, row[WEIGHT], work, D, work, other, row[N_IN], n, B)
            D, other = other, D


# ----------------------------------------------------------------------------------------------------------
# The loss and the step
# ----------------------------------------------------------------------------------------------------------


@helper
def _cross_entropy(work, F, q, B, targets, drawn, D):  # type: ignore[no-untyped-def]
    """Loss of outputs F (q, B); its gradient into D."""
    loss = 0.0
    for b in range(B):
        top = work[F + b]
        for i in range(1, q):
            f = work[F + i * B + b]
            top = f if f > top or f != f else top
        total, along = 0.0, 0.0
        for i in range(q):
            shifted = work[F + i * B + b] - top
            e = math.exp(shifted)
            work[D + i * B + b] = e
            total += e
            along += shifted * targets[drawn[b] * q + i]
        loss += math.log(total) - along
        for i in range(q):
            at = D + i * B + b
            work[at] = (work[at] / total - targets[drawn[b] * q + i]) / B
    return loss / B


@helper
def _squared(work, F, q, B, targets, drawn, D):  # type: ignore[no-untyped-def]
    loss = 0.0
    for b in range(B):
        for i in range(q):
            error = work[F + i * B + b] - targets[drawn[b] * q + i]
            loss += error * error / 2
            work[D + i * B + b] = error / B
    return loss / B


@helper
def _step(theta, gradient, velocity, hyper, flags):  # type: ignore[no-untyped-def]
    """v <- momentum v + gradient + coupled theta, theta <- shrink theta - rate v, as `torch.optim.SGD`."""
    rate, momentum, coupled, shrink = hyper[0], hyper[1], hyper[2], hyper[3]
    if flags[VELOCITY] == 0:
        for i in range(theta.size):
            theta[i] = shrink * theta[i] - rate * (gradient[i] + coupled * theta[i])
    elif flags[NESTEROV] == 0:
        for i in range(theta.size):
            velocity[i] = momentum * velocity[i] + (gradient[i] + coupled * theta[i])
            theta[i] = shrink * theta[i] - rate * velocity[i]
    else:
        for i in range(theta.size):
            d = gradient[i] + coupled * theta[i]
            velocity[i] = momentum * velocity[i] + d
            theta[i] = shrink * theta[i] - rate * (d + momentum * velocity[i])


@helper
def _compared(table, B, theta, velocity, momentum, probes, kept, limits, rows, at):  # type: ignore[no-untyped-def]
    """Hold the weights behind a step against what probes saw of those before it; how many layers are wrong."""
    layers, wrong, tolerance = len(table), 0, limits[6]
    room = table[layers - 1, KEPT] + 3 * table[layers - 1, N_OUT]
    for l in range(layers):
        row, norms, totals = table[l], 7 + layers + l, 7 + 2 * layers + l
        n, m = row[N_OUT], row[N_IN]
        q, found, seen = (
            vector_at(probes, row[PROBE], m),
            vector_at(kept, room, n),
            vector_at(kept, row[KEPT], 3 * n),
        )
        norm = math.sqrt(probe(theta, row[WEIGHT], q, found))
        residual = compare(found, seen, limits[0], limits[1], limits[2])
        if momentum:
            after = vector_at(kept, room + n, n)
            probe(velocity, row[WEIGHT], q, after)
            residual += limits[2] ** 2 * compare(after, seen, limits[3], limits[4], limits[5])
            seen[n : 2 * n] = after
        seen[:n] = found
        scale, entry = max(norm, limits[norms]), at + l
        residual = math.sqrt(residual) / scale if scale > 0.0 else math.sqrt(residual)
        bound, least = B - 1 if row[GAMMA] >= 0 else B, min(n, m)
        spare = bound - rows[entry + RANK * layers] if bound < least else math.inf
        rank = min(rows[entry + RANK * layers], least)
        limits[norms], limits[totals] = norm, limits[totals] + rank
        rows[entry + NORM * layers], rows[entry + RESIDUAL * layers] = norm, residual
        rows[entry + SPARE * layers], rows[entry + RANK * layers] = spare, rank
        rows[entry + TOTAL * layers] = limits[totals]
        if not (residual <= tolerance and rows[entry + ANGLE * layers] <= limits[7 + l] and spare >= 0.0):
            wrong += 1
    return wrong


def descend(  # type: ignore[no-untyped-def]
    table, reals, hyper, flags, theta, velocity, gradient, running, X, targets, drawn, losses, work,
    probes, kept, limits, rows,
):  # fmt: skip
    """A step for each batch in `drawn`, with its loss before the step; how many steps were taken before it overflowed.

    `gradient` holds that of the last batch, without decay. With the flag `update` 0 it is all that is computed.

    Where `rows` is not empty, every step is watched by probes, and the first that is wrong is the last. `limits` are
    the six numbers of a step, the tolerance, and of each layer the largest angle of G and W, the norm of W, and the sum
    of ranks so far; `kept` is W q, V q and G q of each layer, q the layer's part of `probes`, and room.
    """
    B, n_0, q = flags[BATCH_SIZE], table[0, N_IN], table[len(table) - 1, N_OUT]
    F = table[len(table) - 1, Z]
    turned, Z_0 = 0, n_0 * B
    D = 2 * n_0 * B
    other = D + B * _widest(table)
    for step in range(losses.size):
        batch = drawn[step * B : (step + 1) * B]
        for b in range(B):
            for i in range(n_0):
                work[turned + b * n_0 + i] = X[batch[b] * n_0 + i]
        turn(work, turned, work, Z_0, B, n_0)
        _forward(table, reals, B, theta, running, work, Z_0)
        if flags[LOSS] == CROSS_ENTROPY:
            losses[step] = _cross_entropy(work, F, q, B, targets, batch, D)
        else:
            losses[step] = _squared(work, F, q, B, targets, batch, D)
        if not np.isfinite(losses[step]):
            return step
        at = step * len(table) * len(ENTRIES)
        _backward(table, reals, B, theta, gradient, work, D, other, turned, probes, kept, limits, rows, at)
        if flags[UPDATE] == 1:
            _step(theta, gradient, velocity, hyper, flags)
        if rows.size > 0:
            watched = _compared(
                table, B, theta, velocity, flags[VELOCITY] == 1, probes, kept, limits, rows, at
            )
            if watched > 0:
                return step + 1
    return losses.size


@helper
def _widest(table):  # type: ignore[no-untyped-def]
    widest = table[0, N_IN]
    for l in range(len(table)):
        widest = max(widest, table[l, N_OUT])
    return widest


@functools.cache
def compiled_descend(dtype: str) -> Callable[..., int]:
    """The loop as machine code, in float64 or float32."""
    real = {"float64": float64, "float32": float32}[dtype]
    vector, matrix = types.Array(real, 1, "C"), types.Array(real, 2, "C")
    table = types.Array(int64, 2, "C")
    losses = types.Array(float64, 1, "C")
    signature = int64(
        *(table, matrix, vector, integers),  # table, reals, hyper, flags
        *(vector, vector, vector, vector),  # theta, velocity, gradient, running
        *(vector, vector, integers, losses, vector),  # X, targets, drawn, losses, work
        *(doubles, doubles, doubles, doubles),  # probes, kept, limits, rows
    )
    return compiled(descend, signature)
