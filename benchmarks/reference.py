"""The reference: Taylor series of the flow to order 30, judged by an eighth-order Runge-Kutta method.

The velocity is a polynomial of the weights, so the Taylor coefficients of W_l, of P_l = W_l ... W_1 and of
H_l = (W_L ... W_{l+1})^T G follow one from the other by Cauchy products [1]_. Each step is as long as the
series allows: its last two terms stay below 1e-17 of each layer.

.. [1] A. Jorba, M. Zou, "A software package for the numerical integration of ODEs by means of high-order
       Taylor methods", Experimental Mathematics 14(1), 2005.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from problems import end_to_end
from scipy.integrate import solve_ivp
from scipy.optimize import brentq
from velocity import compile_for, new_data

ORDER = 30
LAST_TERM = 1e-17
AGREEMENT = 1e-11


@dataclass(frozen=True)
class Reference:
    """A(t) at times of which half are uniform and half lie at equal arc lengths of A."""

    times: np.ndarray
    end_to_end: np.ndarray
    disagreement: float
    steps: int


def solve(problem, count=64):
    """The `Reference` of a problem at `count` times; RuntimeError if its methods differ by over 1e-11."""
    t, length, steps = _walk(problem)
    uniform = np.linspace(0.0, t[-1], count // 2 + 1)[1:]
    equal_arcs = np.interp((np.arange(count // 2) + 0.5) / (count // 2) * length[-1], length, t)
    times = np.unique(np.concatenate([uniform, equal_arcs]))
    A = _read(problem, times)
    disagreement = error(A, _runge_kutta(problem, times), problem)
    if not disagreement <= AGREEMENT:
        raise RuntimeError(f"{problem.name}: the two reference methods disagree by {disagreement:.1e}.")
    return Reference(times, A, disagreement, steps)


def error(A, A_ref, problem):
    """max over the times of ||A - A_ref||_F / ||target||_F; NaN where A is not finite."""
    return float(np.max(np.linalg.norm(A - A_ref, axis=(-2, -1))) / np.linalg.norm(problem.target))


def taylor_steps(problem):
    """Yield (t, h, coefficients of A on [t, t + h]), without end."""
    t, weights = 0.0, problem.weights
    while True:
        W, A = _coefficients(weights, problem.target, problem.mask)
        h = min(_radius(V) for V in W)
        yield t, h, A
        t, weights = t + h, [_evaluate(V, h) for V in W]


def _coefficients(weights, target, mask):
    """Taylor coefficients of every layer, and of A."""
    L = len(weights)
    W = [np.zeros((ORDER + 1, *V.shape)) for V in weights]
    P = [W[0], *(np.zeros((ORDER + 1, V.shape[0], target.shape[1])) for V in weights[1:])]
    H = [np.zeros_like(V) for V in P]
    for V, V0 in zip(W, weights, strict=True):
        V[0] = V0
    for k in range(ORDER + 1):
        for l in range(1, L):
            P[l][k] = np.tensordot(W[l][: k + 1], P[l - 1][k::-1], axes=([0, 2], [0, 1]))
        H[-1][k] = mask * ((target if k == 0 else 0.0) - P[-1][k])
        for l in range(L - 1, 0, -1):
            H[l - 1][k] = np.tensordot(W[l][: k + 1], H[l][k::-1], axes=([0, 1], [0, 1]))
        if k < ORDER:
            W[0][k + 1] = H[0][k] / (k + 1)
            for l in range(1, L):
                W[l][k + 1] = np.tensordot(H[l][: k + 1], P[l - 1][k::-1], axes=([0, 2], [0, 2])) / (k + 1)
    return W, P[-1]


def _radius(V):
    """Step at which the last two terms of a layer's series are LAST_TERM of the layer."""
    size = np.linalg.norm(V, axis=(1, 2))
    return min((LAST_TERM * size[0] / size[k]) ** (1.0 / k) for k in (ORDER - 1, ORDER))


def _evaluate(V, s):
    """The series at s; the shape of s leads that of what comes back."""
    return np.tensordot(np.asarray(s)[..., None] ** np.arange(len(V)), V, axes=1)


def _walk(problem, samples=16):
    """Times up to the horizon, arc length of A at them, and the number of steps."""
    goal = problem.fraction * problem.cost(end_to_end(problem.start[None], problem.widths)[0])
    t, length = [0.0], [0.0]
    for count, (t0, h, A) in enumerate(taylor_steps(problem), start=1):
        arrived = problem.cost(_evaluate(A, h)) <= goal
        if arrived:
            h = brentq(_excess, 0.0, h, args=(problem, A, goal), xtol=1e-12 * (t0 + h))
        s = np.linspace(0.0, h, samples + 1)
        moved = np.linalg.norm(np.diff(_evaluate(A, s), axis=0), axis=(1, 2))
        t.extend(t0 + s[1:])
        length.extend(length[-1] + np.cumsum(moved))
        if arrived:
            return np.array(t), np.array(length), count


def _excess(s, problem, A, goal):
    return np.log(problem.cost(_evaluate(A, s)) / goal)


def _read(problem, times):
    """A at the given times, shape (T, n_L, n_0)."""
    out, done = [], 0
    for t0, h, A in taylor_steps(problem):
        end = np.searchsorted(times, t0 + h, side="right")
        out.extend(_evaluate(A, times[done:end] - t0))
        done = end
        if done == len(times):
            return np.array(out)


def _runge_kutta(problem, times):
    """The judge: DOP853 at rtol 1e-13, started anew at every output time so that nothing is interpolated."""
    velocity, data = compile_for(problem.widths, "dot", "y, dy, data"), new_data(problem)
    y, dy, states = problem.start, np.empty_like(problem.start), []

    def rhs(t, y):
        velocity(y, dy, data)
        return dy.copy()

    for span in pairwise([0.0, *times]):
        y = solve_ivp(rhs, span, y, "DOP853", rtol=1e-13, atol=1e-14 * problem.scale).y[:, -1]
        states.append(y)
    return end_to_end(np.array(states), problem.widths)
