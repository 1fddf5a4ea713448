"""Probes of a step of SGD: products with a fixed random vector, for little more than one reading of the weights.

With E = W' - a W - b V - c Delta^T U and q standard normal, |E q|^2 has the mean |E|_F^2. So what a step added to
a W + b V is seen to be c Delta^T U, of rank at most the rows of Delta and U, without forming either.
"""

from __future__ import annotations

import math

from .compile import helper, summing
from .views import vector_at

__all__ = [
    "ANGLE",
    "ENTRIES",
    "NORM",
    "RANK",
    "RESIDUAL",
    "SPARE",
    "TOTAL",
    "angle",
    "compare",
    "probe",
    "signals",
]

# Of each step, layer by layer: |W'|; |E q| / |W|; |<G, W>| / (|G| |W|); by how much the rank of G is below its bound;
# that rank; the sum of the ranks so far.
ENTRIES = ("norm", "residual", "angle", "spare", "rank", "total")
NORM, RESIDUAL, ANGLE, SPARE, RANK, TOTAL = range(len(ENTRIES))


@summing
def _with(x, q):  # type: ignore[no-untyped-def]
    """<x, q> and |x|^2."""
    product = square = 0.0
    for j in range(x.size):
        product += x[j] * q[j]
        square += x[j] * x[j]
    return product, square


@summing
def _sum(x):  # type: ignore[no-untyped-def]
    total = 0.0
    for j in range(x.size):
        total += x[j]
    return total


@helper
def probe(W, start, q, out):  # type: ignore[no-untyped-def]
    """W q into `out`; |W|^2."""
    total = 0.0
    for i in range(out.size):
        out[i], square = _with(vector_at(W, start + i * q.size, q.size), q)
        total += square
    return total


@helper
def signals(work, D, U, q, out, along, normed, tolerance):  # type: ignore[no-untyped-def]
    """D U q into `out`, for D (rows, B) and U (B, columns) in `work`; a bound on the rank of D U.

    It is the number of samples in which neither factor is zero, and one less than B where a batch norm makes D sum to
    zero over the batch.
    """
    rows, B, active = out.size, along.size, 0
    for b in range(B):
        along[b], square = _with(vector_at(work, U + b * q.size, q.size), q)
        if square != 0.0:
            for i in range(rows):
                if work[D + i * B + b] != 0:
                    active += 1
                    break
    off = size = 0.0
    for i in range(rows):
        row = vector_at(work, D + i * B, B)
        out[i], square = _with(row, along)
        size += square
        if normed:
            off += _sum(row) ** 2
    centred = normed and off <= tolerance * tolerance * B * size
    return min(active, B - 1 if centred else B)


@summing
def angle(W, G):  # type: ignore[no-untyped-def]
    """|<G, W>| / (|G| |W|)."""
    product = first = second = 0.0
    for i in range(W.size):
        product += W[i] * G[i]
        first += W[i] * W[i]
        second += G[i] * G[i]
    size = math.sqrt(first) * math.sqrt(second)
    return abs(product) / size if size > 0.0 else 0.0


@summing
def compare(found, kept, first, second, third):  # type: ignore[no-untyped-def]
    """Squared distance of what was found from a combination of the W q, V q and G q that were kept."""
    total, n = 0.0, found.size
    for i in range(n):
        rest = found[i] - first * kept[i] - second * kept[n + i] - third * kept[2 * n + i]
        total += rest * rest
    return total
