"""Problems shared by the tests: seeded starts, targets, and references from other methods."""

from __future__ import annotations

import numpy as np
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

import dln
from dln import network


def small_start(widths, alpha, rng):
    """Layers alpha N(0,1) / sqrt(max(n_l, n_{l-1}))."""
    return [
        alpha * rng.standard_normal((a, b)) / np.sqrt(max(a, b))
        for a, b in zip(widths[1:], widths, strict=False)
    ]


def target(n, singular_values, rng):
    """n x n matrix U diag(singular_values) V^T with random orthogonal U, V."""
    U, V = (np.linalg.qr(rng.standard_normal((n, n)))[0] for _ in range(2))
    k = len(singular_values)
    return (U[:, :k] * singular_values) @ V[:, :k].T


# The work-precision problems: widths, singular values, alpha, share of the first cost at the end, share observed.
NAMED = {
    "P1": ((10, 10, 10), (5.0, 4.0, 3.0, 2.0, 1.0), 1e-3, 1e-8, 1.0),
    "P2": ((10, 20, 20, 10), (3.0, 2.0, 1.0), 1e-2, 1e-8, 1.0),
    "P3": ((5, 5, 5, 5, 5), (2.0, 1.0), 3e-2, 1e-8, 1.0),
    "P6": ((30, 30, 30, 30), (30.0, 20.0, 10.0), 1e-1, 1e-6, 0.5),
}


def named(name, seed=0):
    """Cost, start and final share of the cost of a named problem."""
    widths, singular_values, alpha, share, observed = NAMED[name]
    rng = np.random.default_rng(seed)
    A = target(widths[0], singular_values, rng)
    mask = rng.random(A.shape) < observed
    cost = dln.costs.FullyObserved(A) if observed == 1.0 else dln.costs.MatrixCompletion(A, mask)
    return cost, small_start(widths, alpha, rng), share


def random_costs(n_L, n_0, rng):
    """One cost of every kind, of the given shape, some of them scaled."""
    draw = rng.standard_normal
    mask = rng.random((n_L, n_0)) < 0.6
    mask[0, 0] = True
    return [
        dln.costs.FullyObserved(draw((n_L, n_0))),
        2.0 * dln.costs.MatrixCompletion(draw((n_L, n_0)), mask),
        dln.costs.MatrixSensing(draw((5, n_L, n_0)), draw(5)),
        1.5 * dln.costs.SquareLoss(draw((n_0, 9)), draw((n_L, 9))),
        dln.costs.SquareLoss(draw((n_0, 2)), draw((n_L, 2))),
        3.0 * dln.costs.CrossEntropy(draw((n_0, 9)), rng.integers(0, n_L, 9), classes=max(n_L, 2)),
        dln.costs.Custom(quartic_value, quartic_gradient),
    ]


def quartic_value(A):
    return 0.25 * np.sum(A**4) - np.sum(A) + 2.0 * A.size


def quartic_gradient(A):
    return A**3 - 1.0


def flat(weights):
    return np.concatenate([np.ravel(W) for W in weights])


def velocity(cost, weights, weight_decay=0.0):
    """Flat velocity in NumPy."""
    gradients = network.layer_gradients(weights, cost.gradient(network.end_to_end(weights)))
    return -flat(gradients) - weight_decay * flat(weights)


def unflatten(y, weights):
    parts = np.split(y, np.cumsum([W.size for W in weights])[:-1])
    return [part.reshape(W.shape) for part, W in zip(parts, weights, strict=True)]


def reference(cost, weights, times, weight_decay=0.0, rtol=3e-14):
    """A at the times by SciPy's DOP853 on the NumPy velocity."""
    weights = [np.asarray(W, dtype=float) for W in weights]
    solution = solve_ivp(
        lambda t, y: velocity(cost, unflatten(y, weights), weight_decay),
        (0.0, times[-1]),
        flat(weights),
        t_eval=times,
        method="DOP853",
        rtol=rtol,
        atol=1e-3 * rtol,
    )
    return np.array([network.end_to_end(unflatten(y, weights)) for y in solution.y.T])


def mode_time(a, s):
    """Time law of an aligned mode of depth 3, up to a constant (a < s)."""
    c, u = s ** (1 / 3), a ** (1 / 3)
    logarithm = np.log((c * c + c * u + u * u) / (c - u) ** 2) / (6 * c)
    return (-1 / u + logarithm - np.arctan((2 * u + c) / (np.sqrt(3) * c)) / (np.sqrt(3) * c)) / s


def mode_value(t, a0, s):
    """Value at time t of an aligned mode of depth 3 that starts at a0."""
    return brentq(
        lambda a: mode_time(a, s) - mode_time(a0, s) - t, a0, s * (1 - 1e-12), xtol=1e-15, rtol=1e-15
    )


def error(trajectory, exact):
    """Largest Frobenius distance over the saved times."""
    return np.linalg.norm(trajectory.end_to_end - exact, axis=(1, 2)).max()


def slope(x, y):
    """Slope of log y against log x."""
    return np.polyfit(np.log(x), np.log(y), 1)[0]
