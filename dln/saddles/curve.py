"""The path as a curve: cubic Hermite pieces through points of a segment, and the point nearest to a matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..network import end_to_end, end_to_end_velocity
from ..trajectory import Trajectory
from ..typing import Array

__all__ = ["nearest", "points_of"]

GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
SMOOTH = 1e-9  # error of a piece in the middle, relative to the largest A, above which it is cut there
ROUNDS = 12  # of cutting


def points_of(segment: Trajectory) -> tuple[Array, Array]:
    """Points of a segment as vectors, and the unit tangents of its curve there, zero where it stands still.

    Those saved, and more where a cubic would leave the orbit: at its end, along slow directions after the fast ones,
    steps are too long for one by up to 1e-5 of A.
    """
    if segment.weights is None:
        raise ValueError("`path` must hold the layers of its segments, got none. Keep them.")
    t, (A, tangents) = segment.t, _with_tangents(segment, segment.weights)
    small = SMOOTH * float(np.linalg.norm(A, axis=1).max())
    cut = np.arange(len(t) - 1)
    for _ in range(ROUNDS):
        cut = cut[_bends(A, tangents)[cut] > small]
        middle = (t[cut] + t[cut + 1]) / 2
        layers = segment.weights_at(middle) if len(cut) else None
        if layers is None:
            break
        new = _with_tangents(segment, layers)
        rough = _golden(new[0], A[cut], A[cut + 1], tangents[cut], tangents[cut + 1])[1] > small
        where = cut[rough] + 1
        t = np.insert(t, where, middle[rough])
        A = np.insert(A, where, new[0][rough], axis=0)
        tangents = np.insert(tangents, where, new[1][rough], axis=0)
        left = cut[rough] + np.arange(len(where))
        cut = np.column_stack([left, left + 1]).ravel()
    return A, tangents


def _bends(A: Array, tangents: Array) -> Array:
    """Length times squared turn of pieces, over 4: no cubic was seen to leave the curve by more than a tenth of it."""
    length = np.linalg.norm(np.diff(A, axis=0), axis=1)
    return np.asarray(length * np.sum(np.diff(tangents, axis=0) ** 2, axis=1) / 4)


def _with_tangents(segment: Trajectory, layers: Sequence[Array]) -> tuple[Array, Array]:
    A = end_to_end(layers)
    V = end_to_end_velocity(layers, segment.cost_function.raw_gradient(A)).reshape(len(A), -1)
    speed = np.linalg.norm(V, axis=1, keepdims=True)
    return A.reshape(len(A), -1), np.divide(V, speed, out=np.zeros_like(V), where=speed > 0)


def nearest(points: Array, A: Array, tangents: Array) -> tuple[Array, Array]:
    """Distance of every point to a curve through points A, and the place of the nearest point in [0, 1)."""
    from scipy.spatial.distance import cdist

    sample = np.argmin(cdist(points, A), axis=1)  # of differences: of products it errs by sqrt(eps)
    gap, place = np.linalg.norm(points - A[sample], axis=1), sample.astype(float)
    for left in (sample - 1, sample):
        inside = (left >= 0) & (left < len(A) - 1)
        j = left[inside]
        x, near = _golden(points[inside], A[j], A[j + 1], tangents[j], tangents[j + 1])
        better = near < gap[inside]
        where = np.flatnonzero(inside)[better]
        gap[where], place[where] = near[better], (j + x)[better]
    return gap, place / len(A)


def _golden(points: Array, A: Array, B: Array, at_A: Array, at_B: Array) -> tuple[Array, Array]:
    """Where between A and B the cubic Hermite curve is nearest to each point, and how near, by golden section."""
    length = np.linalg.norm(B - A, axis=1, keepdims=True)

    def gap(x: Array) -> Array:
        y = x[:, None]
        curve = A * (1 + 2 * y) * (1 - y) ** 2 + B * y * y * (3 - 2 * y)
        curve += length * (at_A * y * (1 - y) ** 2 - at_B * y * y * (1 - y))
        return np.linalg.norm(points - curve, axis=1)

    low, high = np.zeros(len(points)), np.ones(len(points))
    for _ in range(45):
        x, y = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        left = gap(x) < gap(y)
        low, high = np.where(left, low, x), np.where(left, y, high)
    middle = (low + high) / 2
    return middle, gap(middle)
