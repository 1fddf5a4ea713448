"""Hessians against differences of the gradient, spectra in closed form against dense eigenvalues."""

from __future__ import annotations

import itertools

import numpy as np
import problems as P
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import dln
from dln.landscape import aligned_spectrum, gauss_newton, hessian, origin_spectrum
from dln.landscape.curvature import CHEAP


def shapes(widths):
    return list(zip(widths[1:], widths, strict=False))


def draw(widths, rng, scale=0.7):
    return [scale * rng.standard_normal(shape) for shape in shapes(widths)]


def differences(cost, weights, weight_decay, h):
    """Columns of the Hessian by central differences of the NumPy gradient, extrapolated to the sixth order."""
    y = P.flat(weights)

    def column(e):
        def central(h):
            up, down = (P.velocity(cost, P.unflatten(y + k * e, weights), weight_decay) for k in (h, -h))
            return (down - up) / (2 * h)

        fine, middle, coarse = central(h), central(2 * h), central(4 * h)
        return (64 * fine - 20 * middle + coarse) / 45

    return np.array([column(e) for e in np.eye(y.size)]).T


@given(
    widths=st.lists(st.integers(1, 4), min_size=2, max_size=6),
    kind=st.integers(0, 5),
    weight_decay=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 2**32 - 1),
)
@example(widths=[3, 2, 3], kind=6, weight_decay=0.3, seed=0)  # a cost of one's own, compiled anew each time
@settings(max_examples=60, deadline=None)
def test_dense_hessian_against_differences_of_the_gradient(widths, kind, weight_decay, seed):
    rng = np.random.default_rng(seed)
    widths[-1] = max(widths[-1], 2)
    cost, weights = P.random_costs(widths[-1], widths[0], rng)[kind], draw(widths, rng)
    H = hessian(cost, weights, weight_decay=weight_decay)
    dense = H.to_dense()
    size = np.abs(dense).max() + 1.0
    assert (dense == dense.T).all()
    rounding = 1e-7 if isinstance(cost, dln.costs.Custom) else 1e-9
    assert np.abs(dense - differences(cost, weights, weight_decay, 2e-3)).max() < rounding * size
    d = rng.standard_normal((H.shape[0], 3))
    for product in (H @ d, H.T @ d, np.stack([H @ column for column in d.T], axis=1)):
        assert np.abs(product - dense @ d).max() < rounding * size * 10


@given(
    widths=st.lists(st.integers(1, 4), min_size=2, max_size=5),
    kind=st.integers(0, 5),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_gauss_newton_is_the_second_derivative_of_the_cost_seen_through_the_jacobian(widths, kind, seed):
    rng = np.random.default_rng(seed)
    widths[-1] = max(widths[-1], 2)
    cost, weights = P.random_costs(widths[-1], widths[0], rng)[kind], draw(widths, rng)
    A = dln.network.end_to_end(weights)
    units = np.eye(A.size).reshape(-1, *A.shape)
    # Rows of J are layer gradients of the entries of A.
    J = np.array([P.flat(dln.network.layer_gradients(weights, unit)) for unit in units])
    C = np.array([cost.hessian_vector(A, unit).ravel() for unit in units])
    part = gauss_newton(cost, weights)
    dense = part.to_dense()
    size = np.abs(dense).max() + 1.0
    assert np.abs(dense - J.T @ C @ J).max() < 1e-12 * size
    assert np.linalg.eigvalsh(dense).min() > -1e-12 * size
    # What remains is linear in G: at a cost shifted to have no gradient there is nothing but the decay.
    fitted = dln.costs.FullyObserved(A)
    rest = hessian(fitted, weights, weight_decay=0.4) - gauss_newton(fitted, weights)
    assert np.abs(rest @ np.eye(rest.shape[0]) - 0.4 * np.eye(rest.shape[0])).max() < 1e-12 * size


def test_parameters_are_ordered_layer_by_layer_and_row_by_row():
    rng = np.random.default_rng(0)
    widths = (3, 2, 4, 2)
    cost, weights = P.random_costs(2, 3, rng)[1], draw(widths, rng)
    H = hessian(cost, weights, weight_decay=0.1)
    dense, ends = H.to_dense(), np.cumsum([0, 6, 8, 8])
    assert H.sizes == (6, 8, 8)
    for l, m in itertools.product((1, 2, 3), repeat=2):
        block = H.block(l, m)
        assert block.shape == (H.sizes[l - 1], H.sizes[m - 1])
        assert np.allclose(block, dense[ends[l - 1] : ends[l], ends[m - 1] : ends[m]], rtol=0, atol=1e-13)
    # The entry of W_2[1, 0] and W_3[1, 3], from the objective itself.
    h = 1e-3
    value = np.zeros((2, 2))
    for a, b in itertools.product((0, 1), repeat=2):
        moved = [W.copy() for W in weights]
        moved[1][1, 0] += h * (2 * a - 1)
        moved[2][1, 3] += h * (2 * b - 1)
        value[a, b] = cost.value(dln.network.end_to_end(moved))
    second = (value[1, 1] - value[0, 1] - value[1, 0] + value[0, 0]) / (4 * h * h)
    assert np.isclose(H.block(2, 3)[2, 7], second, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("which", ["SA", "LA", "LM", "BE"])
@pytest.mark.parametrize("k", [1, 2, 5, 12])
def test_lanczos_finds_the_ends_of_the_dense_spectrum(which, k):
    rng = np.random.default_rng(1)
    cost, weights = dln.costs.FullyObserved(rng.standard_normal((4, 4))), draw((4, 24, 16, 4), rng, 0.3)
    H = hessian(cost, weights, weight_decay=0.05)
    assert H.shape[0] > CHEAP
    every = np.linalg.eigvalsh(H.to_dense())
    wanted = {
        "SA": every[:k],
        "LA": every[-k:],
        "LM": np.sort(every[np.argsort(-np.abs(every))[:k]]),
        "BE": np.concatenate([every[: k // 2], every[len(every) - (k - k // 2) :]]),
    }[which]
    found = H.spectrum(k, which)
    assert np.abs(found - wanted).max() < 1e-10 * np.abs(every).max()
    assert (found == hessian(cost, weights, weight_decay=0.05).spectrum(k, which)).all()


def test_few_eigenvalues_of_a_small_matrix_are_those_of_the_whole():
    rng = np.random.default_rng(2)
    H = hessian(dln.costs.FullyObserved(rng.standard_normal((2, 3))), draw((3, 2, 2), rng))
    every = H.spectrum()
    assert np.array_equal(H.spectrum(3), every[:3])
    assert np.array_equal(H.spectrum(3, "LA"), every[-3:])
    assert np.array_equal(H.spectrum(3, "BE"), every[[0, -2, -1]])
    assert np.array_equal(np.sort(np.abs(H.spectrum(4, "LM"))), np.sort(np.abs(every))[-4:])
    assert H.index() == np.sum(every < 0)
    assert H.index(tol=1e9) == 0


def test_the_zero_matrix_and_multiples_of_the_identity():
    cost, origin = dln.costs.FullyObserved(np.eye(8)), [np.zeros(shape) for shape in shapes((8, 20, 20, 8))]
    assert (hessian(cost, origin).spectrum(3) == 0.0).all()
    assert np.allclose(hessian(cost, origin, weight_decay=0.3).spectrum(3, "BE"), 0.3, rtol=1e-13)


def test_a_hessian_too_large_to_form_still_has_its_ends():
    rng = np.random.default_rng(3)
    G = rng.standard_normal((5, 5))
    H = hessian(dln.costs.FullyObserved(-G), [np.zeros((4000, 5)), np.zeros((5, 4000))], weight_decay=0.2)
    s = np.linalg.svd(G, compute_uv=False)
    assert np.allclose(H.spectrum(1), 0.2 - s[0], rtol=1e-12)
    assert np.allclose(H.spectrum(1, "LA"), 0.2 + s[0], rtol=1e-12)
    for wrong in (H.to_dense, H.spectrum, H.index, lambda: H.block(1, 2)):
        with pytest.raises(ValueError, match=r"must .* at most 16384"):
            wrong()


def test_what_is_refused():
    cost = dln.costs.FullyObserved(np.eye(2))
    eye = [np.eye(2), np.eye(2)]
    H = hessian(cost, eye)
    cases = (
        (
            lambda: hessian(cost, eye, weight_decay=-1.0),
            ValueError,
            "`weight_decay` must be zero or positive",
        ),
        (lambda: hessian(cost, [np.eye(2), np.eye(3)]), ValueError, "`weights` must chain"),
        (lambda: hessian(cost, [np.eye(3)]), ValueError, "`weights` must have a product of shape"),
        (lambda: gauss_newton(np.eye(2), eye), TypeError, "`cost` must be a cost"),
        (lambda: H.spectrum(9), ValueError, "`k` must be at most 8"),
        (lambda: H.spectrum(0), ValueError, "`k` must be at least 1"),
        (lambda: H.spectrum(2, "SM"), ValueError, "`which` must be one of"),
        (lambda: H.block(0, 1), ValueError, "`l` must be at least 1"),
        (lambda: H.block(1, 3), ValueError, "`m` must be at most 2"),
        (lambda: H.index(-1.0), ValueError, "`tol` must be zero or positive"),
        (lambda: hessian(cost, [1e200 * np.eye(2)] * 3).to_dense(), ValueError, "float64 can hold"),
        (lambda: aligned_spectrum(np.eye(2), [-1.0, 0.0], (2, 2, 2)), ValueError, "`values` must be zero or"),
        (lambda: aligned_spectrum(np.eye(2), [1.0], (2, 2, 2)), ValueError, "`values` must have shape"),
        (
            lambda: aligned_spectrum(np.eye(2), [1.0, 1.0], (2, 1, 2)),
            ValueError,
            "`values` must have at most 1",
        ),
        (lambda: aligned_spectrum(np.eye(2), [1.0, 1.0], (2, 2, 3)), ValueError, "`widths` must be"),
        (
            lambda: aligned_spectrum(np.eye(2), [1.0, 1.0], (2, 2**27, 2)),
            ValueError,
            "`widths` must give at most",
        ),
        (lambda: origin_spectrum(cost, (2, 2)), ValueError, "`widths` must describe at least two"),
        (lambda: origin_spectrum(cost, (2, 2, 3)), ValueError, "`A` must have shape"),
        (lambda: origin_spectrum("cost", (2, 2, 2)), TypeError, "`cost` must be a cost"),
    )
    for call, error, match in cases:
        with pytest.raises(error, match=match):
            call()


def test_an_error_of_a_custom_cost_reaches_the_caller():
    def gradient(A):
        raise RuntimeError("no gradient today")

    with pytest.warns(UserWarning, match="cannot be compiled"):
        H = hessian(dln.costs.Custom(lambda A: float(np.sum(A)), gradient), [np.eye(2)])
    with pytest.raises(RuntimeError, match="no gradient today"):
        H @ np.ones(4)


def aligned_weights(target, x, widths, rng):
    """Balanced layers with product sum x_i u_i v_i^T, in random hidden bases."""
    U, _, Vt = np.linalg.svd(target, full_matrices=False)
    active = np.flatnonzero(x)
    hidden = [np.linalg.qr(rng.standard_normal((w, w)))[0][:, : len(active)] for w in widths[1:-1]]
    bases = [Vt[active].T, *hidden, U[:, active]]
    return [(b * x[active] ** (1 / (len(widths) - 1))) @ a.T for a, b in zip(bases, bases[1:], strict=False)]


@given(
    widths=st.lists(st.integers(1, 6), min_size=2, max_size=6),
    weight_decay=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None)
def test_spectrum_of_aligned_points_by_blocks_is_that_of_the_dense_hessian(widths, weight_decay, seed):
    rng = np.random.default_rng(seed)
    target = rng.standard_normal((widths[-1], widths[0]))
    K = min(target.shape)
    x = np.zeros(K)
    active = rng.permutation(K)[: rng.integers(0, min(widths) + 1)]
    x[active] = rng.uniform(0.0, 2.0, len(active))
    H = hessian(
        dln.costs.FullyObserved(target), aligned_weights(target, x, widths, rng), weight_decay=weight_decay
    )
    dense = H.spectrum()
    blocks = aligned_spectrum(target, x, widths, weight_decay=weight_decay)
    assert blocks.shape == dense.shape
    assert np.abs(blocks - dense).max() < 1e-10 * np.abs(dense).max() + 1e-14
    both = aligned_spectrum(target, [x, np.zeros(K)], widths, weight_decay=weight_decay)
    assert np.array_equal(both[0], blocks)


def test_spectrum_along_an_aligned_flow():
    target = P.target(3, (2.0, 1.2, 0.5), np.random.default_rng(4))
    cost, weights = dln.costs.FullyObserved(target), dln.inits.aligned(target, 3, scale=1e-2)
    run = dln.gradient_flow(cost, weights, (0.0, 12.0), t_eval=np.linspace(0.0, 12.0, 7), form="weights")
    U, _, Vt = np.linalg.svd(target)
    x = np.einsum("ji,tjk,ik->ti", U, run.end_to_end, Vt)
    blocks = aligned_spectrum(target, x, (3, 3, 3, 3))
    assert blocks.shape == (7, 27)
    for t in range(7):
        dense = hessian(cost, [W[t] for W in run.weights]).spectrum()
        assert np.abs(blocks[t] - dense).max() < 1e-7  # the run is right to 1e-8
    assert blocks[0, 0] < -0.5
    assert blocks[-1, 0] > -1e-3  # at a minimum


@pytest.mark.parametrize("widths", [(3, 5, 2), (2, 1, 3), (3, 2, 4, 2), (2, 3, 3, 3, 2)])
@pytest.mark.parametrize("kind", range(6))
def test_spectrum_at_the_origin_for_any_cost(widths, kind):
    cost = P.random_costs(widths[-1], widths[0], np.random.default_rng(5))[kind]
    origin = [np.zeros(shape) for shape in shapes(widths)]
    dense = hessian(cost, origin, weight_decay=0.3).spectrum()
    exact = origin_spectrum(cost, widths, weight_decay=0.3)
    assert np.abs(exact - dense).max() < 1e-10 * np.abs(dense).max()
    s = np.linalg.svd(cost.gradient(np.zeros((widths[-1], widths[0]))), compute_uv=False)
    lowest = 0.3 - s[0] if len(widths) == 3 else 0.3
    assert np.isclose(exact[0], lowest, rtol=1e-13)


def test_work_of_a_spectrum_does_not_grow_with_the_width():
    """Wide layers: the same blocks with other multiplicities, 2.02 million eigenvalues."""
    s, x = np.array([3.0, 2.0, 1.0]), np.array([2.5, 0.0, 0.7])
    narrow, wide = (aligned_spectrum(np.diag(s), x, (3, w, w, 3), weight_decay=0.1) for w in (4, 1420))
    assert len(wide) == 2 * 3 * 1420 + 1420**2
    assert np.array_equal(np.unique(narrow.round(12)), np.unique(wide.round(12)))


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_a_minimum_of_a_narrow_network_is_a_saddle_of_wide_ones(depth):
    """Padded by zero neurons: for L = 2 the lowest eigenvalue is -s_1(G), for L >= 3 the saddle is flat."""
    rng = np.random.default_rng(9)
    target, mask = rng.standard_normal((4, 3)), rng.random((4, 3)) < 0.8
    cost = dln.costs.MatrixCompletion(target, mask)
    U, s, Vt = np.linalg.svd(mask * target)
    narrow = dln.inits.balanced(
        np.outer(U[:, 0], s[0] * Vt[0]), depth, widths=(3, *[1] * (depth - 1), 4), rng=rng
    )
    for _ in range(60):  # Newton downhill, not along the rescalings of the layers
        values, Q = np.linalg.eigh(hessian(cost, narrow).to_dense())
        inverse = np.where(np.abs(values) > 1e-7 * values[-1], 1 / np.abs(values), 0.0)
        step = Q @ (inverse * (Q.T @ P.velocity(cost, narrow)))
        narrow = P.unflatten(P.flat(narrow) + step / max(1.0, np.linalg.norm(step)), narrow)
    narrow = dln.inits.balanced(
        dln.network.end_to_end(narrow), depth, widths=(3, *[1] * (depth - 1), 4), rng=rng
    )
    assert np.linalg.norm(P.velocity(cost, narrow)) < 1e-12
    assert hessian(cost, narrow).spectrum(1)[0] > -1e-12
    G = cost.gradient(dln.network.end_to_end(narrow))
    lowest = hessian(cost, dln.network.include(narrow, [3] * (depth - 1))).spectrum(1)[0]
    escape = np.linalg.norm(G, 2)
    assert escape > 0.1
    assert np.isclose(lowest, -escape if depth == 2 else 0.0, rtol=0, atol=1e-10)


@pytest.mark.parametrize("width", [3, 5])
def test_lowest_eigenvalue_of_shallow_critical_points(width):
    """L = 2 with weight decay: wd - s_1(G) at every critical point with a free neuron."""
    target = P.target(3, (2.0, 1.2, 0.5), np.random.default_rng(10))
    for point in dln.landscape.critical_points(target, 2, 0.3, width=width):
        free = 0.3 - np.linalg.norm(point.end_to_end - target, 2)
        lowest = hessian(dln.costs.FullyObserved(target), point.weights, weight_decay=0.3).spectrum(1)[0]
        assert np.isclose(lowest, free if point.rank < width else 0.0, rtol=0, atol=1e-12)
