"""Every tableau against the order conditions over rooted trees and against a flow solved in closed form."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from scipy.integrate import DOP853, RK23, RK45

from dln.method.explicit import ALL, Tableau
from dln.typing import Array

EVERY = pytest.mark.parametrize("method", ALL.values(), ids=list(ALL))
EVERY_PAIR = pytest.mark.parametrize(
    "method", [m for m in ALL.values() if m.adaptive], ids=[name for name, m in ALL.items() if m.adaptive]
)

# Residuals are measured in units of the rounding of one entry of A seen through the largest weight,
# eps max(1, |A|) max(1, |weights|); a condition adds a few of those. Seen: at most 1.3.
TOLERANCE = 8.0
# A condition that is really violated leaves at least the error constant of the method; the smallest one
# here is 2.7e-5 (DOP853, order 9), while the largest tolerance above amounts to 4e-11.
VIOLATED = 1e-6


class Trees(NamedTuple):
    """Rooted trees by ascending order; tree i is tree ``left[i]`` with tree ``right[i]`` hung on its root."""

    rho: Array
    gamma: Array
    left: Array
    right: Array


@cache
def rooted_trees(order: int) -> Trees:
    """All rooted trees with up to `order` vertices, as sorted tuples of the trees that hang on the root."""
    rows = {(): (1, 1, -1, -1)}  # tree -> rho, gamma, left, right
    for n in range(2, order + 1):
        known = [(tree, i, *row[:2]) for i, (tree, row) in enumerate(rows.items())]
        for s, i, rho_s, gamma_s in known:
            for t, j, rho_t, gamma_t in known:
                if rho_s + rho_t == n:
                    rows.setdefault(tuple(sorted((*s, t))), (n, n * (gamma_s // rho_s) * gamma_t, i, j))
    return Trees(*np.array(list(rows.values())).T)


def elementary_weights(A: Array, order: int) -> Array:
    """Phi_i(t) for stage i and tree t, shape (S, trees): the product over branches of sum_j A_ij Phi_j."""
    trees = rooted_trees(order)
    phi = np.ones((len(A), len(trees.rho)))
    for n in range(2, order + 1):
        new = trees.rho == n
        phi[:, new] = phi[:, trees.left[new]] * (A @ phi[:, trees.right[new]])
    return phi


def step_defects(method: Tableau, order: int) -> Array:
    """``sum_i b_i Phi_i(t) - 1 / gamma(t)``, shape (trees,)."""
    return method.A[method.stages] @ elementary_weights(method.A, order) - 1 / rooted_trees(order).gamma


def error_defects(method: Tableau, order: int) -> Array:
    """``sum_i error_i Phi_i(t)``, shape (rows, trees)."""
    return method.error @ elementary_weights(method.A, order)[: method.stages + 1]


def dense_defects(method: Tableau, order: int) -> Array:
    """Coefficients of ``sum_i b_i(theta) Phi_i(t) - theta**rho(t) / gamma(t)``, shape (powers, trees)."""
    trees = rooted_trees(order)
    powers = 1 + np.arange(max(order, method.dense.shape[1]))[:, None]
    defects = np.where(powers == trees.rho, -1 / trees.gamma, 0.0)
    defects[: method.dense.shape[1]] += method.dense.T @ elementary_weights(method.A, order)
    return defects


def end_defects(method: Tableau) -> Array:
    """Dense output against the step: value at theta = 1 and, unless it is linear, slopes at 0 and 1."""
    S, s = len(method.A), method.stages
    defects = [method.dense.sum(1) - method.A[s]]
    if method.dense_order > 1:
        powers = 1 + np.arange(method.dense.shape[1])
        defects += [method.dense[:, 0] - np.eye(S)[0], method.dense @ powers - np.eye(S)[s]]
    return np.array(defects)


@cache
def embedded_orders(method: Tableau) -> tuple[int, ...]:
    """Order of the embedded solution of each error row: one below that of the first tree it sees."""
    order = method.order + 1
    seen = abs(error_defects(method, order)) > VIOLATED
    return tuple(int(rooted_trees(order).rho[row.argmax()]) - 1 for row in seen)


def worst_residual(method: Tableau, embedded: tuple[int, ...]) -> float:
    """Largest residual of all conditions that the method claims, in units of the rounding of its entries."""
    groups = [
        (method.b, step_defects(method, method.order)),
        *((method.error[i], error_defects(method, p)[i]) for i, p in enumerate(embedded)),
        (method.dense, dense_defects(method, method.dense_order)),
        (method.dense, end_defects(method)),
    ]
    unit = np.finfo(float).eps * max(1.0, abs(method.A).max())
    return max(float(abs(defects).max() / max(1.0, abs(weights).max()) / unit) for weights, defects in groups)


def test_rooted_trees_are_complete():
    trees = rooted_trees(9)
    assert np.bincount(trees.rho)[1:].tolist() == [1, 1, 2, 4, 9, 20, 48, 115, 286]  # OEIS A000081
    assert sum(trees.rho <= 8) == 200
    # order 4: bush, two hanging, cherry on a stem, chain (Hairer, Norsett, Wanner I, table II.2.1)
    assert sorted(trees.gamma[trees.rho == 4]) == [4, 8, 12, 24]


@EVERY
def test_tables_are_well_formed(method):
    S, s = len(method.A), method.stages
    assert not np.triu(method.A).any()
    assert method.error.shape[1] == s + 1
    assert len(method.dense) == S
    for table in (method.A, method.error, method.dense):
        assert table.dtype == np.float64
        assert table.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            table[...] = 0.0
    assert np.array_equal(method.b, method.A[s, :s])
    assert method.c[0] == 0.0
    assert method.c[s] == pytest.approx(1.0, abs=4e-15)
    assert method.adaptive == (method.error_exponent > 0)
    assert ALL[method.name] is method


@EVERY
def test_conditions_hold(method):
    assert worst_residual(method, embedded_orders(method)) < TOLERANCE


@EVERY
def test_orders_are_not_understated(method):
    assert abs(step_defects(method, method.order + 1)).max() > VIOLATED
    assert abs(dense_defects(method, method.dense_order + 1)).max() > VIOLATED


@EVERY_PAIR
def test_error_exponent_follows_from_embedded_orders(method):
    exponents = [p + 1 for p in embedded_orders(method)]
    combined = exponents[0] if len(exponents) == 1 else 2 * exponents[0] - exponents[1]
    assert method.error_exponent == combined


@EVERY
def test_every_wrong_entry_is_noticed(method):
    """An error of one part in a thousand in any single number breaks some condition."""
    embedded = embedded_orders(method)
    unnoticed = []
    for name in ("A", "error", "dense"):
        table = getattr(method, name)
        for entry in np.argwhere(table):
            wrong = table.copy()
            wrong[tuple(entry)] *= 1.001
            if worst_residual(dataclasses.replace(method, **{name: wrong}), embedded) < TOLERANCE:
                unnoticed.append((name, *entry.tolist()))
    assert not unnoticed


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("A", np.eye(4), "strictly lower triangular"),
        ("A", np.zeros((3, 3)), "rows for 3 stages and b"),
        ("A", np.full((4, 4), np.nan), "finite matrix"),
        ("error", np.zeros((1, 3)), "at most 2 rows of 4 weights"),
        ("dense", np.zeros((3, 3)), "4 rows, one for each row of `A`"),
    ],
)
def test_tables_that_do_not_fit_are_refused(name, wrong, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(ALL["bs3"], **{name: wrong})


# --- What the sources print ---------------------------------------------------------------------------------


def test_orders_as_published():
    orders = {name: (m.order, *embedded_orders(m), m.dense_order) for name, m in ALL.items()}
    assert orders == {
        "euler": (1, 1),
        "rk4": (4, 3),
        "bs3": (3, 2, 3),
        "tsit5": (5, 4, 4),
        "dopri5": (5, 4, 4),
        "dop853": (8, 5, 3, 7),
    }


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("rk4", [0, 1 / 2, 1 / 2, 1, 1]),
        ("bs3", [0, 1 / 2, 3 / 4, 1]),
        ("tsit5", [0, 0.161, 0.327, 0.9, 0.9800255409045097, 1, 1]),
        ("dopri5", [0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1]),
        (
            "dop853",
            [
                *[0, (12 - 2 * 6**0.5) / 135, (6 - 6**0.5) / 45, (6 - 6**0.5) / 30, (6 + 6**0.5) / 30],
                *[1 / 3, 1 / 4, 4 / 13, 127 / 195, 3 / 5, 6 / 7, 1, 1, 1 / 10, 1 / 5, 7 / 9],
            ],
        ),
    ],
)
def test_nodes_as_published(name, nodes):
    # A row of DOP853 sums entries up to 43 and so loses 1e-14.
    np.testing.assert_allclose(ALL[name].c, nodes, rtol=0, atol=2e-14)


def test_tsit5_satisfies_only_the_column_assumption():
    """``sum_i b_i A_ij = b_j (1 - c_j)`` but not ``sum_j A_ij c_j = c_i^2 / 2``: the title of the paper."""
    A, b, c, s = ALL["tsit5"].A, ALL["tsit5"].b, ALL["tsit5"].c, ALL["tsit5"].stages
    np.testing.assert_allclose(b @ A[:s, :s], b * (1 - c[:s]), rtol=0, atol=2e-14)  # A reaches 13
    assert (abs(A @ c - c**2 / 2)[1:s] > 1e-4).all()


def test_tsit5_interpolant_as_published():
    """Ch. Tsitouras 2011, the seven polynomials of the free interpolant as printed, in factors."""
    x = np.linspace(0, 1, 11)
    # fmt: off
    published = [
        -1.0530884977290216 * x * (x - 1.3299890189751412)
            * (x**2 - 1.4364028541716351 * x + 0.7139816917074209),
        0.1017 * x**2 * (x**2 - 2.1966568338249754 * x + 1.2949852507374631),
        2.490627285651252793 * x**2 * (x**2 - 2.38535645472061657 * x + 1.57803468208092486),
        -16.54810288924490272 * (x - 1.21712927295533244) * (x - 0.61620406037800089) * x**2,
        47.37952196281928122 * (x - 1.203071208372362603) * (x - 0.658047292653547382) * x**2,
        -34.87065786149660974 * (x - 1.2) * (x - 2 / 3) * x**2,
        2.5 * (x - 1) * (x - 0.6) * x**2,
    ]
    # fmt: on
    dense = ALL["tsit5"].dense
    # entries up to 88 in single powers of theta, each rounded to 16 digits
    np.testing.assert_allclose(dense @ x ** np.arange(1, 5)[:, None], published, rtol=0, atol=5e-14)


# --- Steps --------------------------------------------------------------------------------------------------


def stages_of(method: Tableau, f, y, h: float) -> Array:
    """All S velocities of a step from y, shape (S, ...): the slow and clear version."""
    k = np.zeros((len(method.A), *np.shape(y)))
    for i, row in enumerate(method.A):
        k[i] = f(y + h * np.tensordot(row[:i], k[:i], 1))
    return k


def within(method: Tableau, k: Array, y, h: float, theta: float) -> Array:
    """Dense output at t + theta h."""
    powers = theta ** np.arange(1, method.dense.shape[1] + 1)
    return y + h * np.tensordot(method.dense @ powers, k, 1)


@pytest.mark.parametrize(("name", "solver"), [("bs3", RK23), ("dopri5", RK45), ("dop853", DOP853)])
def test_step_agrees_with_scipy(name, solver):
    """One step of the Lorenz system, which depends on every coefficient."""

    def lorenz(y):
        return np.array([10 * (y[1] - y[0]), y[0] * (28 - y[2]) - y[1], y[0] * y[1] - 8 / 3 * y[2]])

    y, h, method = np.array([1.0, 2.0, 20.0]), 0.05, ALL[name]
    rival = solver(lambda t, y: lorenz(y), 0.0, y, 1.0, first_step=h, max_step=h, rtol=1.0, atol=1e3)
    rival.step()
    k = stages_of(method, lorenz, y, h)
    dense = rival.dense_output()
    # |y| <= 20 and the dense output of DOP853 cancels entries up to 545: some hundred roundings of 20
    np.testing.assert_allclose(y + h * method.b @ k[: method.stages], rival.y, rtol=0, atol=1e-13)
    for theta in (0.1, 0.5, 0.9, 1.0):
        np.testing.assert_allclose(within(method, k, y, h, theta), dense(theta * h), rtol=0, atol=1e-12)


def velocity(u):
    """``u' = u^2 (1 - u^3)``: the singular value of each of three balanced layers on its way to 1."""
    return u**2 * (1 - u**3)


def time_of(u):
    """Time at which the flow of `velocity` is at u, up to a constant: the integral of 1 / velocity."""
    root = np.sqrt(3.0)
    return -1 / u + np.log((1 + u + u**2) / (1 - u) ** 2) / 6 - np.arctan((2 * u + 1) / root) / root


def global_errors(method: Tableau, n: int, u0: float = 0.45, duration: float = 3.0) -> Array:
    """Largest error over n equal steps, at their ends and inside: the error in time times the velocity."""
    h, u, worst = duration / n, u0, np.zeros(2)
    theta = np.array([1.0, 0.2, 0.5, 0.7])
    for i in range(n):
        k = stages_of(method, velocity, u, h)
        inside = [within(method, k, u, h, x) for x in theta[1:]]
        u = u + h * method.b @ k[: method.stages]
        v = np.array([u, *inside])
        errors = abs(velocity(v) * (time_of(v) - time_of(u0) - h * (i + theta)))
        worst = np.maximum(worst, [errors[0], errors[1:].max()])
    return worst


def slope(h: Array, errors: Array) -> float:
    """Slope of log(error) over log(h) through the four finest steps whose error is above rounding."""
    clear = errors > 1e-13  # u is about 1 and its rounding, summed over the steps, about 1e-15
    h, errors = h[clear][-4:], errors[clear][-4:]
    assert len(h) == 4
    return float(np.polyfit(np.log(h), np.log(errors), 1)[0])


@EVERY
def test_global_order(method):
    n = np.array([8, 12, 16, 24, 32, 48, 64, 96, 128, 192])
    ends, inside = np.array([global_errors(method, steps) for steps in n]).T
    assert slope(1 / n, ends) >= method.order - 0.2
    assert slope(1 / n, inside) >= min(method.order, method.dense_order + 1) - 0.2


@EVERY_PAIR
def test_error_estimate_shrinks_with_the_step(method):
    h = 2.0 ** -np.arange(0, 6, 0.5)
    k = [stages_of(method, velocity, 0.4, step)[: method.stages + 1] for step in h]
    estimates = [step * method.error @ k_step for step, k_step in zip(h, k, strict=True)]
    slopes = [slope(h, row) for row in abs(np.array(estimates)).T]
    # half a power of two between steps: the next term of the expansion still shows as 0.2
    np.testing.assert_allclose(slopes, 1 + np.array(embedded_orders(method)), rtol=0, atol=0.3)


def test_time_of_is_the_integral_of_one_over_the_velocity():
    u, d = np.linspace(0.4, 0.9, 6), 1e-5
    np.testing.assert_allclose((time_of(u + d) - time_of(u - d)) / (2 * d), 1 / velocity(u), rtol=1e-7)
