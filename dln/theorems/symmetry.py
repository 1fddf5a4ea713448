"""Linear maps of the layers that keep the end-to-end matrix and commute with every linear update."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.random import Generator

from .. import network
from ..typing import Array
from .runs import R, Run, gap
from .trial import Hypothesis

__all__ = ["claim_action", "commutation", "commutator", "linear_update"]


def claim_action(frames: Sequence[Any], weights: Sequence[Any]) -> list[Any]:
    """Layers ``P_l W_l P_{l-1}^T`` for frames ``P_1 .. P_{L-1}`` of the hidden layers, ``P_0 = P_L = I``."""
    inner, outer = (np.eye(n, dtype=int) for n in (weights[0].shape[1], weights[-1].shape[0]))
    return [P @ W @ Q.T for P, W, Q in zip([*frames, outer], weights, [inner, *frames], strict=True)]


def commutation(
    weights: Sequence[Any], G: Any, transform: Callable[[Sequence[Any]], list[Any]]
) -> Iterator[tuple[str, Any]]:
    """Identities: transformed layers have the same A, and their gradients are the transformed gradients."""
    image = transform(weights)
    yield "the end-to-end matrix is kept", network.end_to_end(image) - network.end_to_end(weights)
    moved, expected = network.layer_gradients(image, G), transform(network.layer_gradients(weights, G))
    for l, (V, U) in enumerate(zip(moved, expected, strict=True), start=1):
        yield f"the gradient of layer {l} is transformed with the layer", V - U


def commutator(run: Run, image: list[Array], transform: Callable[[Sequence[Array]], list[Array]]) -> float:
    """Largest gap of the run from `image` and the transformed run: start, A, flow, descent with momentum."""
    other = replace(run, weights=image)
    gaps = [
        gap(image, transform(run.weights)),
        gap(network.end_to_end(image), network.end_to_end(run.weights)),
        gap(other.flow(0.3), transform(run.flow(0.3))),
        gap(other.descend(0.002, 20, 0.9), transform(run.descend(0.002, 20, 0.9))),
    ]
    return float(np.max(gaps))


def linear_update(nonlinear: Callable[[Array], Array]) -> Hypothesis[Any]:
    """Hypothesis that the update is linear in the layer gradients; it is broken by the update given."""

    def holds(run: Run) -> bool:
        return bool(np.isclose(np.sum(run.update(np.array([1.0, 2.0]))), run.update(np.array([3.0]))[0]))

    def broken(run: R, _: Generator) -> R:
        return replace(run, update=nonlinear)

    return Hypothesis(holds, broken)
