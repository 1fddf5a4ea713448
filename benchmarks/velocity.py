"""The right-hand side that every rival is given, compiled by Numba.

    dW_l/dt = (W_L ... W_{l+1})^T (mask * (target - A)) (W_{l-1} ... W_1)^T,    A = W_L ... W_1

It counts its calls, allocates nothing, and comes in two makes: explicit loops whose sizes the compiler knows
(a tuple of equal widths folds to one constant), and `np.dot`. `fastest` times both on the problem at hand,
so that no rival is handicapped by the choice. `data` is one vector: number of calls, target, mask, working
space.
"""

import time
from itertools import pairwise

import numpy as np
from numba import carray, cfunc, njit, types

PRODUCTS = ("loops", "dot")


@njit(inline="always")
def _velocity(y, dy, data, widths, use_dot):
    depth, n = len(widths) - 1, widths[0]
    size = widths[depth] * n
    target, mask, work = data[1 : 1 + size], data[1 + size : 1 + 2 * size], data[1 + 2 * size :]
    data[0] += 1.0
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
def _view(x, start, m, k):
    return x[start : start + m * k].reshape((m, k))


@njit(inline="always")
def _product(C, c, A, a, row, column, B, b, m, k, n):
    """C = A B, all of them flat from the offsets c, a, b on; A has the strides `row` and `column`."""
    for i in range(m):
        for j in range(n):
            C[c + i * n + j] = 0.0
        for r in range(k):
            x = A[a + i * row + r * column]
            for j in range(n):
                C[c + i * n + j] += x * B[b + r * n + j]


def new_data(problem):
    """The vector `data` for a problem, its count of calls at zero."""
    work = np.zeros(_work(problem.widths))
    return np.concatenate([[0.0], problem.target.ravel(), problem.mask.ravel(), work])


def _work(widths):
    return 2 * widths[0] * sum(widths)


def compile_for(widths, product, order):
    """The velocity for the given widths.

    `order` is that of the arguments: "y, dy, data" gives an ordinary jitted function, "t, y, dy, data" and
    "dy, t, y, data" give C functions with an `.address`. Only numbers are closed over, so that Numba can keep
    all of it on disk.
    """
    use_dot = {"loops": False, "dot": True}[product]
    n = sum(m * k for k, m in pairwise(widths))
    n_data = 1 + 2 * widths[0] * widths[-1] + _work(widths)
    pointer = types.CPointer(types.float64)

    def y_dy(y, dy, data):
        _velocity(y, dy, data, widths, use_dot)

    def t_y_dy(t, y, dy, data):
        _velocity(carray(y, n), carray(dy, n), carray(data, n_data), widths, use_dot)

    def dy_t_y(dy, t, y, data):
        _velocity(carray(y, n), carray(dy, n), carray(data, n_data), widths, use_dot)

    arrays = (types.float64[::1],) * 3
    decorate, python = {
        "y, dy, data": (njit(types.void(*arrays), cache=True), y_dy),
        "t, y, dy, data": (cfunc(types.void(types.float64, pointer, pointer, pointer), cache=True), t_y_dy),
        "dy, t, y, data": (cfunc(types.void(pointer, types.float64, pointer, pointer), cache=True), dy_t_y),
    }[order]
    return decorate(python)


def fastest(problem):
    """The faster product for a problem, and the seconds per call of each."""
    seconds = {product: seconds_per_call(problem, product) for product in PRODUCTS}
    return min(seconds, key=seconds.get), seconds


def seconds_per_call(problem, product, calls=2000, repeats=9):
    """Best time of one call."""
    velocity, data = compile_for(problem.widths, product, "y, dy, data"), new_data(problem)
    dy, best = np.empty_like(problem.start), np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        _call_often(velocity, problem.start, dy, data, calls)
        best = min(best, (time.perf_counter() - start) / calls)
    return best


@njit
def _call_often(velocity, y, dy, data, calls):
    for _ in range(calls):
        velocity(y, dy, data)
