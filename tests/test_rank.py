"""Rank measures and bounds: against dense operators, brute force over steps, mpmath, and whole runs."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import combinations

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dln
from dln import rank

EPS = np.finfo(float).eps


# Measures


def spectrum(s, rows, columns, rng):
    """A matrix with these singular values."""
    U, V = (np.linalg.qr(rng.normal(size=(n, n)))[0][:, : len(s)] for n in (rows, columns))
    return (U * s) @ V.T


@pytest.mark.parametrize("norm", ["spectral", "frobenius"])
def test_numerical_rank_counts_above_the_share_of_the_norm(norm):
    rng = np.random.default_rng(0)
    for _ in range(50):
        s = 10.0 ** rng.uniform(-5, 0, 6)
        size = s.max() if norm == "spectral" else np.sqrt(np.sum(s**2))
        for factor, counted in ((1 - 1e-9, 1), (1 + 1e-9, 0)):
            i = rng.integers(6)
            epsilon = s[i] / size * factor
            if epsilon < 1:
                W = spectrum(s, 8, 7, rng)
                assert rank.numerical(W, epsilon, norm) == np.sum(s > s[i]) + counted


def test_least_rank_within_epsilon_is_the_spectral_count():
    """Eckart-Young-Mirsky, by truncating the matrix itself."""
    W = spectrum(np.array([1.0, 0.6, 0.3, 0.05]), 5, 4, np.random.default_rng(1))
    U, s, Vt = np.linalg.svd(W)
    for epsilon in (0.01, 0.1, 0.4, 0.9):
        errors = [np.linalg.norm(W - (U[:, :r] * s[:r]) @ Vt[:r], 2) for r in range(5)]
        assert rank.numerical(W, epsilon) == next(r for r, e in enumerate(errors) if e <= epsilon * s[0])


def test_measures_of_equal_singular_values_are_their_number_and_none_exceeds_the_rank():
    rng = np.random.default_rng(2)
    for r in range(1, 6):
        W = 1e-3 * spectrum(np.ones(r), 7, 5, rng)
        found = [float(f(W)) for f in (rank.numerical, rank.stable, rank.effective)]
        np.testing.assert_allclose(found, r, rtol=1e-12)
        V = spectrum(rng.uniform(0.1, 1.0, r), 7, 5, rng)
        assert 1 - 1e-12 <= rank.stable(V) <= rank.effective(V) * (1 + 1e-12) <= r * (1 + 1e-12) ** 2


def test_effective_rank_is_the_entropy_of_the_sum_normalised_values():
    s = [mp.mpf(k) for k in (5, 3, 2)]
    p = [x / 10 for x in s]
    expected = mp.e ** (-sum(x * mp.log(x) for x in p))
    assert float(rank.effective(np.diag([5.0, 3.0, 2.0]))) == pytest.approx(float(expected), rel=1e-14)


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_measures_know_batches_scales_rotations_and_zeros(scale):
    rng = np.random.default_rng(3)
    W = rng.normal(size=(2, 3, 6, 4)) * 10.0 ** -np.arange(4)
    Q = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    for f in (rank.numerical, rank.stable, rank.effective, lambda W: rank.numerical(W, 1e-2, "frobenius")):
        assert f(W).shape == (2, 3)
        np.testing.assert_allclose(f(scale * W), f(W), rtol=1e-10)
        np.testing.assert_allclose(f(Q @ W), f(W), rtol=1e-10)
        np.testing.assert_allclose(f(W), [[f(M) for M in row] for row in W], rtol=1e-12)
        assert f(np.zeros((3, 3))) == 0
    for norm, order in (("spectral", 2), ("frobenius", "fro"), ("nuclear", "nuc")):
        for k in range(6):
            U, s, Vt = np.linalg.svd(W[1, 2], full_matrices=False)
            rest = W[1, 2] - (U[:, :k] * s[:k]) @ Vt[:k]
            value = rank.tail(scale * W[1, 2], k, norm) / scale
            assert value == pytest.approx(np.linalg.norm(rest, order), abs=1e-14)


def dense_convolution(K, h, w, stride):
    """Matrix of the convolution with periodic boundary, one basis image at a time."""
    c_out, c_in, k_1, k_2 = K.shape
    columns = []
    for i in np.ndindex(c_in, h, w):
        x = np.zeros((c_in, h, w))
        x[i] = 1.0
        y = np.zeros((c_out, h // stride, w // stride))
        for o, c, p, q, a, b in np.ndindex(c_out, c_in, *y.shape[1:], k_1, k_2):
            y[o, p, q] += K[o, c, a, b] * x[c, (stride * p + a) % h, (stride * q + b) % w]
        columns.append(y.ravel())
    return np.array(columns).T


@pytest.mark.parametrize(
    ("kernel", "image", "stride"),
    [
        ((3, 2, 3, 3), (4, 6), 1),
        ((2, 2, 2, 3), (4, 4), 2),
        ((5, 1, 3, 3), (4, 6), 2),
        ((1, 2, 5, 3), (3, 3), 3),
    ],
)
def test_convolution_operator_has_the_singular_values_of_its_dense_matrix(kernel, image, stride):
    K = np.random.default_rng(4).normal(size=kernel)
    s = rank.operator_singular_values(K, image, stride=stride)
    dense = np.linalg.svd(dense_convolution(K, *image, stride), compute_uv=False)
    np.testing.assert_allclose(s[: len(dense)], dense[: len(s)], atol=1e-12 * dense[0])
    for epsilon in (0.2, 0.5):
        M = dense_convolution(K, *image, stride)
        for norm in ("spectral", "frobenius"):
            expected = rank.numerical(M, epsilon / 3, norm)
            assert rank.operator(K, image, epsilon / 3, norm, stride=stride) == expected


def test_one_by_one_kernel_repeats_its_matrix_at_every_frequency():
    K = np.random.default_rng(5).normal(size=(4, 3, 1, 1))
    s = np.linalg.svd(rank.flattened(K), compute_uv=False)
    np.testing.assert_allclose(rank.operator_singular_values(K, (2, 5)), np.repeat(s, 10), rtol=1e-12)
    both = np.random.default_rng(6).normal(size=(2, 3, 2, 3, 3, 2))
    for stride in (1, 2):
        values = rank.operator_singular_values(both, (4, 6), stride=stride)
        one = rank.operator_singular_values(both[1, 2], (4, 6), stride=stride)
        np.testing.assert_allclose(values[1, 2], one, rtol=1e-12, atol=1e-14)
        assert rank.operator(both, (4, 6), 0.3, stride=stride).shape == (2, 3)


def test_corrected_rank_sees_what_gradients_added():
    """W_T = D_T W_0 + U_T, with U_T unrolled apart from the recursion; the start is of full rank throughout."""
    rng = np.random.default_rng(6)
    start = rng.normal(size=(8, 8))
    T, lr, wd = 30, 0.1, 0.5
    u, v = rng.normal(size=(2, 3, 8))
    gradients = [u[t % 3, :, None] * v[t % 3] for t in range(T)]
    W = start.copy()
    for G in gradients:
        W = W - lr * (G + wd * W)
    D, tau = rank.forgetting(lr, wd, steps=T)
    np.testing.assert_allclose(D[-1], (1 - lr * wd) ** T, rtol=1e-13)
    assert tau[-1] == pytest.approx(T * lr * wd)
    assert rank.numerical(W) == 8
    assert rank.corrected(W, start, D[-1]) == 3
    assert rank.corrected(W, start, 1.01 * D[-1], 1e-5) == 8
    U = -lr * sum((1 - lr * wd) ** j * G for j, G in enumerate(reversed(gradients)))
    np.testing.assert_allclose(W - D[-1] * start, U, atol=1e-13)
    both = rank.corrected(np.stack([start, W]), start, D[[0, -1]], norm="frobenius")
    np.testing.assert_array_equal(both, [0, 3])


# Bounds


def steps_needed(x, epsilon):
    """Least n with (1 - x)^n < epsilon, counted."""
    n, factor = 0, mp.mpf(1)
    while not factor < epsilon:
        n, factor = n + 1, factor * (1 - mp.mpf(x))
    return n


@given(st.floats(0.01, 0.99), st.floats(1e-4, 0.999), st.integers(1, 7), st.integers(1, 5))
@settings(max_examples=200, deadline=None)
def test_forms_are_the_formulas_and_each_keeps_its_promise(x, epsilon, B, m):
    sharp, repaired, printed = (
        rank.bound(B, x / 2, 2.0, epsilon, patches=m, form=f) for f in ("sharp", "repaired", "printed")
    )
    assert isinstance(sharp, int)
    assert isinstance(repaired, int)
    assert sharp == m * B * steps_needed(x, epsilon)
    assert printed == pytest.approx(m * B * math.log(2 / epsilon) / x, rel=1e-14)
    assert repaired == m * B * math.ceil(math.log(2 / epsilon) / x)
    for form in (sharp, repaired):  # batches that the budget holds: a norm ratio of 1 loses nothing
        assert (1 - x) ** (form // (m * B)) <= epsilon * (1 + 1e-12)
    assert 2 * (1 - x) ** (repaired // (m * B)) <= epsilon * (1 + 1e-12)
    assert (1 - x) ** (sharp // (m * B) - 1) >= epsilon * (1 - 1e-12)


def test_printed_bound_is_false_exactly_beyond_log_two():
    """With m B = 1 the printed budget is refuted on a grid exactly for x > log 2 and 2 e^-x < eps < 1."""
    x, eps = np.meshgrid(np.arange(1, 200) / 200, np.arange(1, 200) / 200, indexing="ij")
    budget = {
        form: np.vectorize(lambda x, eps, form=form: rank.bound(1, x, 1.0, eps, form=form))(x, eps)
        for form in ("printed", "repaired")
    }
    violated = (1 - x) ** np.floor(budget["printed"]) > eps
    np.testing.assert_array_equal(violated, (x > np.log(2)) & (2 * np.exp(-x) < eps))
    assert violated.sum() == 1649
    assert not ((1 - x) ** budget["repaired"] > eps).any()


def test_printed_bound_holds_below_log_two_because_of_its_factor():
    """(1 - x) e^{2x} is largest at x = 1/2, where it is e/2 < 2."""
    x = np.linspace(0, 0.999, 2000)
    assert ((1 - x) * np.exp(2 * x)).max() <= math.e / 2 * (1 + 1e-15) < 2


def test_nothing_is_forgotten_without_decay():
    for form in ("repaired", "sharp", "printed"):
        assert rank.bound(4, 0.1, 0.0, 0.1, form=form) == math.inf
        assert rank.bound(4, 0.1, 0.0, 0.1, form=form, momentum=0.9) == math.inf
    assert rank.window(0.1, 0.0, 0.1) == math.inf
    assert rank.window(np.full(50, 0.1), 0.0, 0.1) == math.inf


def test_momentum_acts_as_a_larger_rate_until_the_roots_are_complex():
    for beta in (0.3, 0.9, 0.99):
        edge = (1 - math.sqrt(beta)) ** 2
        for x in edge * np.array([1e-6, 0.1, 0.9, 0.999]):
            roots = np.roots([1, -(1 + beta - x), beta])
            assert rank.rate(x, 1.0, beta) == pytest.approx(abs(roots).max(), rel=1e-9)
            assert rank.rate(x, 1.0, beta) < 1 - x / (1 - beta)
            for form in ("repaired", "sharp", "printed"):
                assert rank.bound(3, x, 1.0, 0.2, 2, beta, form=form) == pytest.approx(
                    rank.bound(3, x / (1 - beta), 1.0, 0.2, 2, form=form), rel=1e-9
                )
        for x in (1.001 * edge, 2 * edge):
            assert rank.rate(x, 1.0, beta) == pytest.approx(math.sqrt(beta), rel=1e-14)
            found = rank.bound(3, x, 1.0, 0.2, momentum=beta, form="sharp")
            assert found == 3 * steps_needed(1 - math.sqrt(beta), mp.mpf("0.2"))
            assert rank.rate(x, 1.0, beta) <= min(rank.rate(y * edge, 1.0, beta) for y in (0.1, 0.9, 1.0))
    assert rank.rate(2e-4, 1.0, 0.9) == pytest.approx(0.997963, abs=5e-7)
    assert rank.rate(0.3, 5.0) == pytest.approx(0.5)


def heavy_ball(lr, wd, beta, gradients, W, V):
    for G in gradients:
        V = beta * V + G + wd * W
        W = W - lr * V
    return W, V


def nesterov(lr, wd, beta, gradients, W, V):
    for G in gradients:
        full = G + wd * W
        V = beta * V + full
        W = W - lr * (full + beta * V)
    return W, V


def decoupled(lr, wd, beta, gradients, W, V):
    for G in gradients:
        V = beta * V + G
        W = (1 - lr * wd) * W - lr * V
    return W, V


@pytest.mark.parametrize("step", [heavy_ball, nesterov, decoupled])
def test_propagator_is_the_run_without_gradients_and_the_rest_has_low_rank(step):
    rng = np.random.default_rng(7)
    lr, wd, beta, n = 0.1, 0.7, 0.8, 5
    W, V = rng.normal(size=(2, 12, 12))
    P = rank.propagator(lr, wd, beta, n, kind=step.__name__)
    for row, found in zip(P, step(lr, wd, beta, np.zeros((n, 12, 12)), W, V), strict=True):
        np.testing.assert_allclose(found, row[0] * W + row[1] * V, atol=1e-13)
    gradients = rng.normal(size=(n, 12, 1)) * rng.normal(size=(n, 1, 12))
    after, _ = step(lr, wd, beta, gradients, W, V)
    rest = np.linalg.svd(after - P[0, 0] * W - P[0, 1] * V, compute_uv=False)
    assert rest[n] < 1e-13 < 1e-3 < rest[n - 1]


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("x", [1e-4, 1e-2, 0.3])
def test_window_is_the_least_that_forgets(beta, x):
    lr, epsilon = 0.3, 0.05
    n = rank.window(lr, x / lr, epsilon, momentum=beta, growth=2.0)
    A = np.array([[1 - x, -lr * beta], [x / lr, beta]])
    row, sizes = np.array([1.0, 0.0]), []
    for _ in range(n):
        row = row @ A
        sizes.append(2 * (abs(row[0]) + 2 * abs(row[1]) / lr))
    assert sizes[-1] <= epsilon * (1 + 1e-9)
    if x <= (1 - math.sqrt(beta)) ** 2:
        assert n == 1 or sizes[-2] > epsilon


@given(st.integers(0, 2**32), st.floats(0.02, 0.9))
@settings(max_examples=100, deadline=None)
def test_schedules_count_backwards_from_the_end(seed, epsilon):
    rng = np.random.default_rng(seed)
    lr, wd = rng.uniform(0, 1, 60), rng.uniform(0, 0.5, 60)
    kept = np.array([np.prod(1 - (lr * wd)[60 - n :]) for n in range(1, 61)])
    weight = np.array([np.sum((lr * wd)[60 - n :]) for n in range(1, 61)])

    def first(condition):
        return int(np.argmax(condition)) + 1 if condition.any() else math.inf

    assert rank.window(lr, wd, epsilon) == first(kept <= epsilon)
    assert rank.bound(3, lr, wd, epsilon, form="sharp") == 3 * first(kept < epsilon)
    assert rank.bound(3, lr, wd, epsilon) == 3 * first(weight >= math.log(2 / epsilon))


@pytest.mark.parametrize("form", ["repaired", "sharp"])
def test_constant_schedule_is_the_constant_rate(form):
    for x, epsilon in ((0.013, 0.21), (0.4, 0.03), (0.002, 0.5)):
        constant = rank.bound(2, x, 1.0, epsilon, 3, form=form)
        assert rank.bound(2, np.full(3000, x), 1.0, epsilon, 3, form=form) == constant
        assert rank.window(np.full(3000, x), 1.0, epsilon) == rank.window(x, 1.0, epsilon)


def test_gradient_bound_and_patches_are_those_of_a_layer():
    rng = np.random.default_rng(8)
    K, image = np.zeros((3, 2, 3, 3)), rng.normal(size=(2, 8, 8))
    for stride, padding in ((1, 0), (2, 1), (3, 2)):
        padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
        seen = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::stride, ::stride]
        count = rank.patches((8, 8), (3, 3), stride=stride, padding=padding)
        assert count == seen.shape[1] * seen.shape[2]
    assert rank.flattened(K).shape == (3, 18)
    for B in (2, 3, 5):
        signals = rng.normal(size=(B, 9))
        inputs = rng.normal(size=(B, 7))
        assert np.linalg.matrix_rank(signals.T @ inputs) == rank.gradient_bound(B, shape=(9, 7))
        centred = signals - signals.mean(axis=0)
        assert np.linalg.matrix_rank(centred.T @ inputs) == rank.gradient_bound(B, batch_norm=True)
        signals[0] = 0
        assert np.linalg.matrix_rank(signals.T @ inputs) == rank.gradient_bound(B, active=B - 1)


def run(rng, T, shape, rank_of_batch, x, lr):
    """Weights of a run on gradients of low rank, and the ranks."""
    W, weights, ranks = rng.normal(size=shape), [], []
    weights.append(W)
    for t in range(T):
        r = int(rng.integers(0, rank_of_batch + 1))
        W = (1 - x[t]) * W - lr[t] * rng.normal(size=(shape[0], r)) @ rng.normal(size=(r, shape[1]))
        weights.append(W)
        ranks.append(r)
    return np.array(weights), np.array(ranks)


@pytest.mark.parametrize("order", ["fro", 2, "nuc"])
def test_certificate_is_what_a_search_finds_and_is_true(order):
    rng = np.random.default_rng(9)
    kind = {"fro": "frobenius", 2: "spectral", "nuc": "nuclear"}[order]
    finite = 0
    for _ in range(20):
        T, epsilon = 40, rng.uniform(0.1, 0.9)
        lr = rng.uniform(0.05, 0.5, T)
        wd = rng.uniform(0.1, 1.5, T)
        weights, ranks = run(rng, T, (9, 8), 1, lr * wd, lr)
        norms = np.linalg.norm(weights, order, axis=(1, 2))
        found = rank.certificate(norms, ranks, lr, wd, epsilon)
        for t in range(T + 1):
            good = [
                n
                for n in range(1, t + 1)
                if np.prod(1 - (lr * wd)[t - n : t]) * norms[t - n] <= epsilon * norms[t]
            ]
            assert found.window[t] == (good[0] if good else math.inf)
            if good:
                assert found.rank[t] == ranks[t - good[0] : t].sum()
                assert rank.tail(weights[t], int(found.rank[t]), kind) <= epsilon * norms[t] * (1 + 1e-12)
                finite += found.rank[t] < 8
    assert finite > 50  # the claim was not empty


def test_certificate_treats_layers_apart_and_skips_what_was_not_seen():
    rng = np.random.default_rng(10)
    norms, ranks = rng.uniform(0.5, 2, size=(30, 2)), rng.integers(0, 3, size=(29, 2))
    both = rank.certificate(norms, ranks, 0.3, 1.0, 0.2)
    for l in range(2):
        one = rank.certificate(norms[:, l], ranks[:, l], 0.3, 1.0, 0.2)
        np.testing.assert_array_equal(both.rank[:, l], one.rank)
    seen = norms[:, 0].copy()
    seen[[4, 7, 20]] = np.nan
    partial = rank.certificate(seen, ranks[:, 0], 0.3, 1.0, 0.2)
    assert np.isinf(partial.rank[[4, 7, 20]]).all()
    rest = np.delete(np.arange(30), [4, 7, 20])
    assert (partial.window[rest] >= both.window[rest, 0]).all()


def test_no_step_is_shorter_than_its_bound_and_a_wrong_one_is_seen():
    rng = np.random.default_rng(11)
    tightest = np.inf
    for _ in range(300):
        lr, wd, r = rng.uniform(0.01, 0.5), rng.uniform(0.1, 1), int(rng.integers(1, 4))
        W = rng.normal(size=(6, 5))
        U, s, Vt = np.linalg.svd(W, full_matrices=False)
        best = -wd * (U[:, :r] * s[:r]) @ Vt[:r]
        for G in (best, rng.normal(size=(6, r)) @ rng.normal(size=(r, 5))):
            step = np.linalg.norm(lr * (G + wd * W))
            least = rank.least_step(W, lr, wd, r)
            assert step >= least * (1 - 1e-12)
            tightest = min(tightest, step / least)
        assert np.linalg.norm(lr * (best + wd * W)) < rank.least_step(W, lr, wd, r - 1)
    assert tightest < 1 + 1e-10


def test_bounds_hold_on_ten_thousand_cases_and_not_with_one_rank_less():
    rng = np.random.default_rng(12)
    T, runs, epsilon = 40, 250, 0.4
    lr, wd = rng.uniform(0.2, 0.8, T), rng.uniform(0.4, 1.2, T)
    W = [rng.normal(size=(runs, 9, 8))]
    for t in range(T):
        G = rng.normal(size=(runs, 9, 2)) @ rng.normal(size=(runs, 2, 8))
        W.append((1 - lr[t] * wd[t]) * W[-1] - lr[t] * G)
    weights = np.array(W)
    norms = np.linalg.norm(weights, axis=(2, 3))
    s = np.linalg.svd(weights, compute_uv=False)
    distances = np.sqrt(np.maximum(np.sum(s**2, axis=-1)[..., None] - np.cumsum(s**2, axis=-1), 0))
    for claimed, true in ((2, True), (1, False)):
        found = rank.certificate(norms, np.full((T, runs), claimed), lr, wd, epsilon).rank
        told = found <= 8
        index = np.where(told, found, 1).astype(int)[..., None] - 1
        kept = np.take_along_axis(distances, index, axis=-1)[..., 0] <= epsilon * norms * (1 + 1e-9)
        assert told.sum() > 9000
        assert kept[told].all() == true
    x = lr[-1] * wd[-1]
    steps = np.linalg.norm(weights[1:] - weights[:-1], axis=(2, 3))
    for r, true in ((2, True), (1, False)):  # at one rank less the shortest steps are too short
        head = spectral_head(weights[:-1], 2)
        shortest = x * np.linalg.norm(weights[:-1] - head, axis=(2, 3))
        least = rank.least_step(weights[:-1], lr[-1], wd[-1], r)
        assert (shortest >= least * (1 - 1e-12)).all() == true
    own = (lr * wd)[:, None] * rank.least_step(weights[:-1], 1.0, 1.0, 2)
    assert (steps >= own).all()


def spectral_head(W, r):
    U, s, Vt = np.linalg.svd(W, full_matrices=False)
    return (U[..., :r] * s[..., None, :r]) @ Vt[..., :r, :]


def test_gradients_of_ten_thousand_batches_have_their_rank():
    rng = np.random.default_rng(13)
    for B in (1, 2, 3, 5):
        signals, inputs = rng.normal(size=(2500, B, 7)), rng.normal(size=(2500, B, 6))
        ranks = np.linalg.matrix_rank(np.swapaxes(signals, 1, 2) @ inputs)
        assert (ranks == rank.gradient_bound(B, shape=(7, 6))).all()
        centred = signals - signals.mean(axis=1, keepdims=True)
        if B > 1:
            ranks = np.linalg.matrix_rank(np.swapaxes(centred, 1, 2) @ inputs, rtol=1e-12)
            assert (ranks == rank.gradient_bound(B, batch_norm=True)).all()


def test_some_batch_has_at_least_the_least_noise():
    rng = np.random.default_rng(14)
    tightest = np.inf
    for _ in range(200):
        N, B = 5, int(rng.integers(1, 5))
        Phi, W = rng.normal(size=(N, 3, 2)), rng.normal(size=(3, 2))
        if rng.uniform() < 0.5:  # two gradients that W balances
            Phi = np.stack([Phi[0] * (1 if i == 0 else -1 / (2 * B - 1)) for i in range(N)])
            W = -(Phi[0] / 2 + Phi[1] / 2 + (B - 1) * Phi[1]) / B
        largest = max(np.linalg.norm(Phi[list(c)].mean(axis=0) + W) for c in combinations(range(N), B))
        least = rank.least_noise(Phi, B)
        assert largest >= least * (1 - 1e-12)
        tightest = min(tightest, largest / least)
    assert tightest < 1 + 1e-9


BAD = [
    (lambda: rank.least_noise(np.ones((3, 2, 2)), 3), "batch_size"),
    (lambda: rank.numerical([1.0, 2.0]), "W"),
    (lambda: rank.numerical([[np.nan]]), "W"),
    (lambda: rank.numerical([[1.0]], 0.0), "epsilon"),
    (lambda: rank.numerical([[1.0]], 1.0), "epsilon"),
    (lambda: rank.numerical([[1.0]], norm="nuclear"), "norm"),
    (lambda: rank.tail([[1.0]], -1), "rank"),
    (lambda: rank.flattened(np.ones((2, 2))), "kernel"),
    (lambda: rank.operator(np.ones((1, 1, 2, 2)), (3, 4), stride=2), "stride"),
    (lambda: rank.operator(np.ones((1, 1, 2, 2)), 4), "image"),
    (lambda: rank.corrected(np.eye(2), np.eye(3), 0.5), "start"),
    (lambda: rank.corrected(np.eye(2), np.eye(2), [0.5, 0.5]), "factor"),
    (lambda: rank.forgetting(0.1, 0.1), "steps"),
    (lambda: rank.forgetting([0.1, 0.1], 0.1, steps=3), "steps"),
    (lambda: rank.forgetting([-0.1, 0.1], 0.1), "learning_rate"),
    (lambda: rank.bound(0, 0.1, 0.1, 0.1), "batch_size"),
    (lambda: rank.bound(1, 0.1, -0.1, 0.1), "weight_decay"),
    (lambda: rank.bound(1, 1.0, 1.0, 0.1), "learning_rate"),
    (lambda: rank.bound(1, 0.1, 0.1, 1.5), "epsilon"),
    (lambda: rank.bound(1, 0.1, 0.1, 0.1, patches=0), "patches"),
    (lambda: rank.bound(1, 0.1, 0.1, 0.1, momentum=1.0), "momentum"),
    (lambda: rank.bound(1, 0.1, 0.1, 0.1, form="exact"), "form"),
    (lambda: rank.bound(1, [0.1], 0.1, 0.1, form="printed"), "learning_rate"),
    (lambda: rank.bound(1, [0.1], 0.1, 0.1, momentum=0.5), "learning_rate"),
    (lambda: rank.window(0.1, 0.1, 0.1, growth=0.0), "growth"),
    (lambda: rank.patches((2, 2), (3, 3)), "kernel"),
    (lambda: rank.propagator(0.1, 0.1, 0.5, kind="adam"), "kind"),
    (lambda: rank.certificate([1.0, 1.0], [1, 1], 0.1, 0.1), "gradient_ranks"),
    (lambda: rank.certificate([1.0, -1.0], [1], 0.1, 0.1), "norms"),
    (lambda: rank.certificate([1.0, 1.0], [1], 2.0, 1.0), "learning_rate"),
]


@pytest.mark.parametrize(("call", "name"), BAD)
def test_wrong_input_is_named(call, name):
    with pytest.raises((ValueError, TypeError), match=f"`{name}`"):
        call()


def test_measures_and_bounds_load_numpy_alone():
    code = (
        "import sys, dln; dln.rank.bound(4, 0.1, 0.1, 0.1); dln.rank.numerical([[1.0]]); "
        "sys.exit(not {'numba', 'scipy', 'sympy'}.isdisjoint(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_room_is_public():
    assert dln.rank is rank
    assert set(rank.__all__) <= set(dir(rank))


def test_the_repaired_bound_holds_on_ten_thousand_random_runs_and_the_printed_one_does_not():
    """Steady states of the solvable SGD, and the last steps of any run whose norm has not doubled."""
    rng, refuted = np.random.default_rng(11), 0
    for _ in range(10_000):
        x, eps = rng.uniform(0.005, 0.995), rng.uniform(0.001, 0.999)
        B, m = int(rng.integers(1, 5)), int(rng.integers(1, 40))
        s = np.repeat((1.0 - x) ** np.arange(m), B)  # spectrum of the steady state, in units of the largest
        for form in ("repaired", "sharp"):
            budget = rank.bound(B, 1.0, x, eps, form=form)
            assert budget >= s.size or s[budget] <= eps
        assert 2 * (1 - x) ** (rank.bound(B, 1.0, x, eps) // B) <= eps * (1 + 1e-12)
        printed = int(rank.bound(B, 1.0, x, eps, form="printed"))
        wrong = printed < s.size and s[printed] > eps
        assert not wrong or (x > np.log(2) and 2 * np.exp(-x) < eps)  # the set where it can fail
        refuted += wrong
    assert refuted > 100
