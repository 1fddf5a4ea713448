"""The path as a curve: cubic Hermite pieces through the samples of a segment, and the point nearest to a matrix."""

from __future__ import annotations

import math

import numpy as np

from ..network import end_to_end_velocity
from ..trajectory import Trajectory
from ..typing import Array

__all__ = ["nearest", "samples"]

GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


def samples(segment: Trajectory) -> tuple[Array, Array]:
    """Points of a segment as vectors, and the unit tangents of its curve there, zero where it stands still."""
    A = segment.end_to_end
    if segment.weights is None:
        raise ValueError("`path` must hold the layers of its segments, got none. Keep them.")
    V = end_to_end_velocity(segment.weights, segment.cost_function.raw_gradient(A)).reshape(len(A), -1)
    speed = np.linalg.norm(V, axis=1, keepdims=True)
    return A.reshape(len(A), -1), np.divide(V, speed, out=np.zeros_like(V), where=speed > 0)


def nearest(points: Array, A: Array, tangents: Array) -> tuple[Array, Array]:
    """Distance of every point to a curve through samples, and the place of the nearest point in [0, 1)."""
    sample = np.argmin(np.sum(A**2, axis=1) - 2 * points @ A.T, axis=1)
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
