"""The enumeration against a search that knows nothing of it: Newton on all weights from random starts."""

from __future__ import annotations

import numpy as np
import problems as P
import pytest

import dln
from dln.landscape import critical_points


def derivatives(theta, target, widths, weight_decay):
    """Gradients (B, P) and Hessians (B, P, P) of the objective at a batch of weights, in NumPy."""
    B, L = len(theta), len(widths) - 1
    shapes = list(zip(widths[1:], widths, strict=False))
    ends = np.cumsum([0, *(rows * columns for rows, columns in shapes)])
    part = [slice(a, b) for a, b in zip(ends, ends[1:], strict=False)]
    W = [theta[:, where].reshape(B, *shape) for where, shape in zip(part, shapes, strict=True)]
    forward = [np.broadcast_to(np.eye(widths[0]), (B, widths[0], widths[0]))]
    for layer in W:
        forward.append(layer @ forward[-1])
    back = [np.broadcast_to(np.eye(widths[-1]), (B, widths[-1], widths[-1]))]  # transposed
    for layer in reversed(W):
        back.insert(0, np.swapaxes(layer, 1, 2) @ back[0])
    G = forward[L] - target
    gradient = weight_decay * theta
    J = np.zeros((B, target.size, ends[-1]))
    for l in range(L):
        gradient[:, part[l]] += (back[l + 1] @ G @ np.swapaxes(forward[l], 1, 2)).reshape(B, -1)
        J[:, :, part[l]] = np.einsum("zia,zjb->zabij", back[l + 1], forward[l]).reshape(B, target.size, -1)
    H = np.swapaxes(J, 1, 2) @ J + weight_decay * np.eye(ends[-1])
    for l in range(L):
        between = np.broadcast_to(np.eye(widths[l + 1]), (B, widths[l + 1], widths[l + 1]))
        for m in range(l + 1, L):
            outer = back[m + 1] @ G @ np.swapaxes(forward[l], 1, 2)
            block = np.einsum("ziq,zjk->zkqij", outer, between).reshape(B, W[l][0].size, W[m][0].size)
            H[:, part[l], part[m]] += block
            H[:, part[m], part[l]] += np.swapaxes(block, 1, 2)
            between = W[m] @ between
    return gradient, H


def shaped(widths):
    return [np.empty(shape) for shape in zip(widths[1:], widths, strict=False)]


def start(widths, size, rng):
    """Gaussian layers, or balanced factors of a random matrix of random rank, some of them disturbed."""
    if rng.random() < 0.3:
        return P.flat(P.small_start(widths, size * 10 ** rng.uniform(-1.0, 0.3), rng))
    r = rng.integers(0, min(widths) + 1)
    u = size * (rng.uniform(0.05, 1.1, r) if rng.random() < 0.5 else 10 ** rng.uniform(-1.6, 0.05, r))
    bases = [np.linalg.qr(rng.standard_normal((n, n)))[0][:, :r] for n in widths]
    weights = [(b * u) @ a.T for a, b in zip(bases, bases[1:], strict=False)]
    noise = 1e-2 * size * rng.integers(2)
    return P.flat([W + noise * rng.standard_normal(W.shape) for W in weights])


def newton(theta, target, widths, weight_decay, size, rng):
    """Critical points that Newton reaches: half of the starts plainly, half climbing a given number of directions."""
    theta, K = theta.copy(), min(widths)
    most = K * (K + 1) // 2 + 1 + 4 * (len(widths) == 3)
    climbs = np.where(rng.random(len(theta)) < 0.5, -1, rng.integers(0, most, len(theta)))
    going, found = np.arange(len(theta)), []
    for _ in range(40):
        if not len(going):
            break
        gradient, H = derivatives(theta[going], target, widths, weight_decay)
        tame = np.abs(H).max(axis=(1, 2)) < 1e6
        going, gradient, H = going[tame], gradient[tame], H[tame]
        values, Q = np.linalg.eigh(H)
        curved = np.abs(values) > 1e-7 * np.abs(values).max(axis=1, keepdims=True)  # not along the orbit
        inverse = np.divide(1.0, values, where=curved, out=np.zeros_like(values))
        followed = climbs[going][:, None]
        signs = np.where(np.arange(values.shape[1]) < followed, -1.0, 1.0)
        inverse = np.where(followed >= 0, signs * np.abs(inverse), inverse)
        step = np.einsum("zij,zj->zi", Q, inverse * np.einsum("zji,zj->zi", Q, gradient))
        length = np.linalg.norm(step, axis=1, keepdims=True)
        theta[going] -= step * np.minimum(1.0, 0.5 * size / np.maximum(length, 1e-300))
        done = (np.linalg.norm(gradient, axis=1) < 1e-11) & (length[:, 0] < 1e-7 * size)
        found += list(theta[going[done]])
        going = going[~done]
    return found


def signature(theta, target, widths, weight_decay):
    """What all points of one orbit share: the objective and the singular values of the first layer."""
    weights = P.unflatten(theta, shaped(widths))
    cost = dln.costs.FullyObserved(target).value(dln.network.end_to_end(weights))
    s = np.linalg.svd(weights[0], compute_uv=False)
    return np.append(s[: min(widths)], cost + weight_decay / 2 * np.sum(theta**2))


def search(target, widths, weight_decay, rng, *, expected, batch=160):
    """Orbits of critical points as (signature, Morse index), until rounds in a row bring none that is new.

    Two of them will do when as many are found as are expected; otherwise twenty.
    """
    size = np.linalg.norm(target, 2) ** (1 / (len(widths) - 1))
    found, silent = [], 0
    while silent < (2 if len(found) >= expected else 20):
        silent += 1
        starts = np.array([start(widths, size, rng) for _ in range(batch)])
        for theta in newton(starts, target, widths, weight_decay, size, rng):
            key = signature(theta, target, widths, weight_decay)
            if not any(np.abs(key - other).max() < 1e-6 for other, _ in found):
                H = derivatives(theta[None], target, widths, weight_decay)[1][0]
                found.append((key, int(np.sum(np.linalg.eigvalsh(H) < -1e-7))))
                silent = 0
    return found


def problem(seed):
    """Random target, depth 2 to 6, weight decay and width, narrow ones too; every third with equal or zero modes."""
    rng = np.random.default_rng([7, seed])
    depth = 2 + seed % 5
    most = 3 if depth < 4 else 2
    n_L, n_0 = rng.integers(1, most + 1, 2)
    K, weight_decay = min(n_L, n_0), float(np.exp(rng.uniform(np.log(0.03), np.log(0.5))))
    width = int(rng.integers(1, K + 2))
    born = float(dln.schatten.saddle_node(weight_decay, depth)[1])
    while True:
        s = np.sort(rng.uniform(0.3, 2.5, K))[::-1]
        if np.abs(s - born).min() > 0.03 and np.abs(np.diff(s)).min(initial=1.0) > 0.1:
            break
    if seed % 3 == 0 and K > 1:
        s[-1] = rng.choice([0.0, s[-2]])
    U, V = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (n_L, n_0))
    target = (U[:, :K] * s) @ V[:, :K].T
    return target, depth, weight_decay, width, rng


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_newton_finds_what_the_enumeration_lists_and_nothing_else(first):
    for seed in range(first, first + 10):
        target, depth, weight_decay, width, rng = problem(seed)
        widths = (target.shape[1], *[width] * (depth - 1), target.shape[0])
        listed = [
            (signature(P.flat(point.weights), target, widths, weight_decay), point)
            for point in critical_points(target, depth, weight_decay, width=width)
        ]
        found = search(target, widths, weight_decay, rng, expected=len(listed))
        assert len(found) == len(listed), f"problem {seed}"
        for key, index in found:
            distance, point = min(
                ((np.abs(key - other).max(), point) for other, point in listed), key=lambda pair: pair[0]
            )
            assert distance < 1e-6, f"problem {seed}: not listed"
            assert index == point.morse_index, f"problem {seed}: {point}"
            assert (index == 0) == point.kind.endswith("minimum")
