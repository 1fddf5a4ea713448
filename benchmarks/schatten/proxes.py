"""The proximal operators alone: what they cost, and how right they and their rivals are."""

from __future__ import annotations

import importlib.util
import time
import warnings
from functools import partial

import numpy as np

import dln

SIZE, VALUES, REPEATS = 200, 10**6, 15
POINTS = 2000  # values whose proximal point is found by bisection in extended precision
WRONG = 1e-6  # relative error from which a value counts as wrong
DEPTHS, DECAYS = (3, 4, 10), (1e-3, 1.0, 1e3)


def matrix(seed=0):
    """Seconds of the SVD of a matrix and of its proximal point, by depth, taken in turn."""
    A = np.random.default_rng(seed).normal(size=(SIZE, SIZE))
    middle = np.median(np.linalg.svd(A, compute_uv=False))
    found = {}
    for depth in (2, 3, 4):
        decay = float(
            (middle / dln.schatten.threshold(1.0, depth)) ** (2 - 2 / depth)
        )  # half of the modes survive
        tasks = {
            "svd": lambda: np.linalg.svd(A, full_matrices=False),
            "prox": lambda decay=decay, depth=depth: dln.schatten.prox(A, decay, depth),
        }
        found[f"L = {depth}"] = _in_turn(tasks)
    return found


def scalar(seed=0):
    """Seconds of a million values by package and power, and errors beside bisection."""
    return {f"p = {2 / depth:.3g}": _scalar(depth, np.random.default_rng([seed, depth])) for depth in DEPTHS}


def _scalar(depth, rng):
    p, operators = 2 / depth, _operators(depth)
    many = 2 * float(dln.schatten.threshold(1.0, depth)) * rng.normal(size=VALUES)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        seconds = _in_turn({name: partial(f, many, depth / 2, p) for name, f in operators.items()}, 5)
        errors = {name: [] for name in operators}
        for decay in DECAYS:
            mu, jump = decay * depth / 2, float(dln.schatten.threshold(decay, depth))
            points = _points(rng, jump)
            exact = bisection(points, mu, p)
            for name, f in operators.items():
                errors[name].append(_relative(f(points, mu, p), exact, jump))
    close = np.abs(points / jump - 1) < 0.1
    return {name: {"seconds": seconds[name], **_errors(np.array(errors[name]), close)} for name in operators}


def bisection(s, mu, p):
    """Minimiser over x >= 0 of (x - s)^2/2 + mu x^p for s >= 0, in extended precision."""
    s, mu, p = s.astype(np.longdouble), np.longdouble(mu), np.longdouble(p)
    least = (mu * p * (1 - p)) ** (1 / (2 - p))  # where the derivative is least
    low, high = np.full_like(s, least), np.maximum(s, least)
    for _ in range(80):
        middle = (low + high) / 2
        above = middle + mu * p * middle ** (p - 1) > s
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    pays = (high - s) ** 2 / 2 + mu * high**p < s**2 / 2
    return np.where(pays, high, 0)


def _points(rng, jump):
    """Points from far below to far above the jump, then as many close to it."""
    spread = 10.0 ** np.linspace(-1, 4, POINTS)
    close = 1 + rng.choice([-1, 1], POINTS) * 10.0 ** rng.uniform(-9, -1, POINTS)
    return jump * np.concatenate([spread, close])


def _relative(x, exact, jump):
    """Errors relative to the proximal point, to the jump where that is 0."""
    error = np.abs(x - exact) / np.where(exact > 0, exact, jump)
    return np.where(np.isfinite(error), error, np.inf).astype(float)


def _errors(error, close):
    """Largest error and share of wrong values, far from the jump and close to it."""
    return {
        "worst": float(error[:, ~close].max()),
        "wrong": float(np.mean(error[:, ~close] > WRONG)),
        "worst near the jump": float(error[:, close].max()),
        "wrong near the jump": float(np.mean(error[:, close] > WRONG)),
    }


def _operators(depth):
    """Functions (s, mu, p) of the packages that are installed."""
    found = {"dln": dln.schatten.prox_power}
    if importlib.util.find_spec("skglm") and depth in (3, 4):
        found["skglm"] = _skglm(depth)
    if importlib.util.find_spec("proxop"):
        from proxop.nonconvex.Root import Root

        found["proxop"] = lambda s, mu, p: Root(p).prox(s, mu)
    return found


def _skglm(depth):
    """Its scalar function, compiled, in a compiled loop, which is the fastest that it offers."""
    from numba import njit
    from skglm.utils import prox_funcs

    one = {3: prox_funcs.prox_2_3, 4: prox_funcs.prox_05}[depth]

    @njit
    def loop(s, mu):
        out = np.empty_like(s)
        for i in range(s.size):
            out[i] = one(s[i], mu)
        return out

    return lambda s, mu, p: loop(s, mu)


def _in_turn(tasks, repeats=REPEATS):
    """Least seconds of every task, called one after the other so that they share the machine's moods."""
    best = dict.fromkeys(tasks, np.inf)
    for _ in range(repeats + 1):  # the first round compiles
        for name, task in tasks.items():
            start = time.process_time()
            task()
            best[name] = min(best[name], time.process_time() - start)
    return best
