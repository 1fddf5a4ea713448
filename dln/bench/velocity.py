"""The right-hand side that every rival is given, compiled by Numba.

    dW_l/dt = (W_L ... W_{l+1})^T (mask * (target - A)) (W_{l-1} ... W_1)^T,    A = W_L ... W_1

It counts its calls, allocates nothing, and comes in two makes: explicit loops whose sizes the compiler knows
(a tuple of equal widths folds to one constant), and `np.dot`. `fastest` times both on the problem at hand,
so that no rival is handicapped by the choice. `data` is one vector: number of calls, most calls, target, mask,
working space. Beyond its most calls the velocity is NaN, on which every integrator gives up: this is what keeps
a solve that would run for hours, deep in somebody's compiled code, from doing so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numba import carray, cfunc, njit, types

from ..typing import Array
from .problems import Problem

PRODUCTS = ("loops", "dot")
HEAD = 2  # entries of `data` before the target


@njit(inline="always")
def _velocity(y, dy, data, widths, use_dot):  # type: ignore[no-untyped-def]
    depth, n = len(widths) - 1, widths[0]
    size = widths[depth] * n
    target, mask, work = data[2 : 2 + size], data[2 + size : 2 + 2 * size], data[2 + 2 * size :]
    data[0] += 1.0
    if data[0] > data[1]:
        dy[:] = np.nan
        return
    m = widths[1]
    work[: m * n] = y[: m * n]
    w, p = m * n, 0  # where W_l starts in y, and P_{l-1} = W_{l-1} ... W_1 in work
    for l in range(1, depth):  # P_l = W_l P_{l-1}
        k, m = widths[l], widths[l + 1]
        new = p + k * n
        if use_dot:
            np.dot(_view(y, w, m, k), _view(work, p, k, n), _view(work, new, m, n))
        else:
            _product(work, new, y, w, k, 1, work, p, m, k, n)
        w, p = w + m * k, new
    for i in range(size):  # G = -dC/dA takes the place of A
        work[p + i] = mask[i] * (target[i] - work[p + i])
    h, new = p, p + size  # where H_l = (W_L ... W_{l+1})^T G starts in work, and the free space
    for l in range(depth - 1, 0, -1):  # dW_l = H_l P_{l-1}^T, H_{l-1} = W_l^T H_l
        k, m = widths[l], widths[l + 1]
        w, p = w - m * k, p - k * n
        if use_dot:
            np.dot(_view(work, h, m, n), _view(work, p, k, n).T, _view(dy, w, m, k))
            np.dot(_view(y, w, m, k).T, _view(work, h, m, n), _view(work, new, k, n))
        else:
            for i in range(k):
                for j in range(n):
                    work[new + j * k + i] = work[p + i * n + j]
            _product(dy, w, work, h, n, 1, work, new, m, n, k)
            _product(work, new, y, w, 1, k, work, h, k, m, n)
        h, new = new, new + k * n
    dy[:w] = work[h : h + w]


@njit(inline="always")
def _view(x, start, m, k):  # type: ignore[no-untyped-def]
    return x[start : start + m * k].reshape((m, k))


@njit(inline="always")
def _product(C, c, A, a, row, column, B, b, m, k, n):  # type: ignore[no-untyped-def]
    """C = A B, all of them flat from the offsets c, a, b on; A has the strides `row` and `column`."""
    for i in range(m):
        for j in range(n):
            C[c + i * n + j] = 0.0
        for r in range(k):
            x = A[a + i * row + r * column]
            for j in range(n):
                C[c + i * n + j] += x * B[b + r * n + j]


def new_data(problem: Problem) -> Array:
    """The vector `data` for a problem: no calls yet, and as many allowed as one likes."""
    work = np.zeros(_work(problem.widths))
    return np.concatenate([[0.0, np.inf], problem.target.ravel(), problem.mask.ravel(), work])


def _work(widths: tuple[int, ...]) -> int:
    return 2 * widths[0] * sum(widths)


def compile_for(widths: tuple[int, ...], product: str, order: str) -> Any:
    """The velocity for the given widths.

    `order` is that of the arguments: "y, dy, data" gives an ordinary jitted function, "t, y, dy, data" and
    "dy, t, y, data" give C functions with an `.address`. Only numbers are closed over, so that Numba can keep
    all of it on disk.
    """
    use_dot = {"loops": False, "dot": True}[product]
    n = sum(m * k for k, m in pairwise(widths))
    n_data = HEAD + 2 * widths[0] * widths[-1] + _work(widths)
    pointer = types.CPointer(types.float64)

    def y_dy(y: Any, dy: Any, data: Any) -> None:
        _velocity(y, dy, data, widths, use_dot)

    def t_y_dy(t: Any, y: Any, dy: Any, data: Any) -> None:
        _velocity(carray(y, n), carray(dy, n), carray(data, n_data), widths, use_dot)

    def dy_t_y(dy: Any, t: Any, y: Any, data: Any) -> None:
        _velocity(carray(y, n), carray(dy, n), carray(data, n_data), widths, use_dot)

    arrays = (types.float64[::1],) * 3
    makes: dict[str, tuple[Callable[..., Any], Callable[..., None]]] = {
        "y, dy, data": (njit(types.void(*arrays), cache=True), y_dy),
        "t, y, dy, data": (cfunc(types.void(types.float64, pointer, pointer, pointer), cache=True), t_y_dy),
        "dy, t, y, data": (cfunc(types.void(pointer, types.float64, pointer, pointer), cache=True), dy_t_y),
    }
    decorate, python = makes[order]
    return decorate(python)


def fastest(problem: Problem) -> tuple[str, dict[str, float]]:
    """The faster product for a problem, and the seconds per call of each."""
    seconds = {product: seconds_per_call(problem, product) for product in PRODUCTS}
    return min(seconds, key=lambda product: seconds[product]), seconds


def seconds_per_call(problem: Problem, product: str, budget: float = 0.3, repeats: int = 9) -> float:
    """Best time of one call; takes about `budget` seconds."""
    velocity, data = compile_for(problem.widths, product, "y, dy, data"), new_data(problem)
    dy = np.empty_like(problem.start)

    def seconds(calls: int) -> float:
        start = time.perf_counter()
        _call_often(velocity, problem.start, dy, data, calls)
        return (time.perf_counter() - start) / calls

    seconds(1)  # compiles
    calls = max(1, min(2000, int(budget / repeats / seconds(1))))
    return min(seconds(calls) for _ in range(repeats))


@njit
def _call_often(velocity, y, dy, data, calls):  # type: ignore[no-untyped-def]
    for _ in range(calls):
        velocity(y, dy, data)
