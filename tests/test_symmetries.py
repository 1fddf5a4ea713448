"""Rotations and inclusions: what they keep, how they compose, and which dynamics commute with them."""

from __future__ import annotations

from functools import partial

import numpy as np
import problems as P
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dln
from dln import network
from dln.symmetries import grow

WIDTHS = st.lists(st.integers(1, 5), min_size=2, max_size=6)
SEEDS = st.integers(0, 2**32 - 1)


def draw(widths, rng, size=0.6):
    return [size * rng.standard_normal(shape) for shape in zip(widths[1:], widths, strict=False)]


def haar(widths, rng):
    return [np.linalg.qr(rng.standard_normal((n, n)))[0] for n in widths[1:-1]]


def gap(left, right):
    x, y = P.flat(left), P.flat(right)
    return np.abs(x - y).max() / np.abs(y).max()


# What they keep


@given(widths=WIDTHS, seed=SEEDS)
@settings(max_examples=50, deadline=None)
def test_rotations_keep_the_product_and_the_size_of_every_layer(widths, seed):
    rng = np.random.default_rng(seed)
    weights = draw(widths, rng)
    turned = dln.rotate(weights, rng=seed)
    assert np.allclose(network.end_to_end(turned), network.end_to_end(weights), rtol=0, atol=1e-13)
    for V, W in zip(turned, weights, strict=True):
        assert np.allclose(*(np.linalg.svd(M, compute_uv=False) for M in (V, W)), rtol=1e-12, atol=1e-14)
    for D, E in zip(network.balances(turned), network.balances(weights), strict=True):
        assert np.allclose(np.linalg.eigvalsh(D), np.linalg.eigvalsh(E), atol=1e-12)


@given(widths=WIDTHS, seed=SEEDS)
@settings(max_examples=50, deadline=None)
def test_rotations_compose_as_a_group_does(widths, seed):
    rng = np.random.default_rng(seed)
    weights, first, second = draw(widths, rng), haar(widths, rng), haar(widths, rng)
    both = [R @ O for R, O in zip(second, first, strict=True)]
    assert gap(dln.rotate(dln.rotate(weights, first), second), dln.rotate(weights, both)) < 1e-13
    assert gap(dln.rotate(dln.rotate(weights, first), [O.T for O in first]), weights) < 1e-13


def test_random_rotations_are_uniform_and_reproducible():
    """O has mean 0 and E O_ij O_kl = delta delta / n; W_2 = I, W_1 = e_1 shows its first column."""
    columns = np.array([dln.rotate([[[1.0], [0.0], [0.0]], np.eye(3)], rng=k)[0][:, 0] for k in range(4000)])
    assert np.abs(columns.mean(axis=0)).max() < 5 / np.sqrt(3 * 4000)
    assert np.abs(columns.T @ columns / 4000 - np.eye(3) / 3).max() < 5 / np.sqrt(4000)
    weights = draw((2, 3, 2), np.random.default_rng(0))
    assert gap(dln.rotate(weights, rng=7), dln.rotate(weights, rng=7)) == 0.0
    assert gap(dln.rotate(weights, rng=7), dln.rotate(weights, rng=8)) > 0.1


@given(widths=WIDTHS, seed=SEEDS)
@settings(max_examples=50, deadline=None)
def test_inclusions_keep_everything_and_compose(widths, seed):
    rng = np.random.default_rng(seed)
    weights = draw(widths, rng)
    wide = [n + int(rng.integers(0, 3)) for n in widths[1:-1]]
    wider = [n + int(rng.integers(0, 3)) for n in wide]
    once = dln.include(weights, wide)
    assert np.allclose(network.end_to_end(once), network.end_to_end(weights), rtol=0, atol=1e-14)
    assert np.linalg.norm(P.flat(once)) == pytest.approx(np.linalg.norm(P.flat(weights)), rel=1e-14)
    assert gap(dln.include(once, wider), dln.include(weights, wider)) == 0.0
    assert gap(dln.include(weights, max(widths)), dln.include(weights, [max(widths)] * len(wide))) == 0.0


# What commutes with them


def moves(widths, rng):
    """Rotation, inclusion, and both, as maps of layers with any leading axes."""
    wide = [n + 2 for n in widths[1:-1]]
    turn = partial(network.rotate, rotations=haar(widths, rng))
    pad = partial(network.include, hidden=wide)
    return turn, pad, lambda W: network.rotate(pad(W), haar((0, *wide, 0), np.random.default_rng(5)))


def descent(cost, weights, **options):
    return dln.gradient_descent(cost, weights, 0.02, 60, every=20, **options)


def stochastic(cost, weights, **options):
    return dln.sgd(cost, weights, 0.02, 60, every=20, batch_size=2, rng=3, **options)


def flow(cost, weights, *, weight_decay=0.0, momentum=0.0):
    times = [0.0, 0.4, 1.2]
    return dln.gradient_flow(
        cost, weights, (0.0, 1.2), t_eval=times, rtol=1e-13, method="dop853", weight_decay=weight_decay
    )


@pytest.mark.parametrize(("run", "tolerance"), [(flow, 1e-12), (descent, 5e-15), (stochastic, 2e-14)])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.3}, {"weight_decay": 0.3, "momentum": 0.8}])
@pytest.mark.parametrize("widths", [(3, 4, 2), (3, 3, 4, 3), (2, 3, 2, 3, 2)])
def test_linear_updates_commute_with_the_symmetries(run, tolerance, options, widths):
    rng = np.random.default_rng(sum(widths))
    mask = np.ones((widths[-1], widths[0]))
    mask[0, 0] = 0.0
    cost = dln.costs.MatrixCompletion(rng.standard_normal(mask.shape), mask)
    weights = draw(widths, rng)
    straight = run(cost, weights, **options).weights
    assert gap([W[-1] for W in straight], weights) > 0.01  # it does move
    for move in moves(widths, rng):
        moved = run(cost, move(weights), **options).weights
        assert gap(moved, move(straight)) < tolerance


def optimised(rule, cost, weights, steps=60, rate=0.02):
    """Layers after some full-gradient steps of an update rule of `dln.nonlinear`."""
    p, memory = P.flat(weights), np.zeros((rule.remembers, len(P.flat(weights))))
    for t in range(1, steps + 1):
        rule.step(p, -P.velocity(cost, P.unflatten(p, weights)), memory, rate, t)
    return P.unflatten(p, weights)


@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_does_not_commute_with_rotations(decoupled):
    rng = np.random.default_rng(0)
    widths = (3, 3, 4, 3)
    cost, weights = dln.costs.FullyObserved(rng.standard_normal((3, 3))), draw(widths, rng)
    turn, pad, _ = moves(widths, rng)
    adam, sgd = (
        partial(optimised, rule(0.1, 0.9, decoupled=decoupled), cost)
        for rule in (dln.nonlinear.optimizers.Adam, dln.nonlinear.optimizers.SGD)
    )
    assert gap(sgd(turn(weights)), turn(sgd(weights))) < 5e-14
    assert gap(adam(turn(weights)), turn(adam(weights))) > 0.1
    assert gap(*([network.end_to_end(adam(W))] for W in (turn(weights), weights))) > 1e-3
    assert gap(adam(pad(weights)), pad(adam(weights))) < 1e-14  # entry by entry, and 0 stays 0


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_critical_points_and_their_spectra_go_along(depth):
    """Rotation keeps the spectrum of the Hessian; inclusion adds the eigenvalues of the new neurons to it."""
    cost = dln.costs.FullyObserved(np.diag([3.0, 2.0, 1.0]))
    narrow = dln.inits.balanced(np.diag([3.0, 2.0, 0.0]), depth, widths=[3, *[2] * (depth - 1), 3], rng=0)
    spectrum = dln.landscape.hessian(cost, narrow).spectrum()
    turned = dln.landscape.hessian(cost, dln.rotate(narrow, rng=1)).spectrum()
    assert np.abs(spectrum - turned).max() < 1e-12
    wide = dln.landscape.hessian(cost, dln.include(narrow, 3)).spectrum()
    if depth == 2:  # the new neuron is decoupled, with eigenvalues +-s_i(G)
        assert np.abs(wide - np.sort([*spectrum, 1.0, -1.0, 0, 0, 0, 0])).max() < 1e-12
    assert wide[0] == pytest.approx(-1.0 if depth == 2 else 0.0, abs=1e-12)


# The way out of an included minimum


@given(widths=st.lists(st.integers(2, 4), min_size=3, max_size=5), seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_no_new_neuron_of_that_size_lowers_the_cost_more(widths, seed):
    """The first-order change <G, dA> is -eps^L s_1(G), and above it for random neurons of the same norms."""
    rng = np.random.default_rng(seed)
    weights, depth, size = draw(widths, rng), len(widths) - 1, 0.3
    G = rng.standard_normal((widths[-1], widths[0]))
    grown = grow(weights, G, size)
    assert gap([W[:n, :m] for W, n, m in zip(grown, widths[1:], widths, strict=False)], weights) == 0.0
    A = network.end_to_end(weights)
    best = np.sum(G * (network.end_to_end(grown) - A))
    assert best == pytest.approx(-(size**depth) * np.linalg.norm(G, 2), rel=1e-12)
    for _ in range(5):
        u, v = rng.standard_normal(widths[-1]), rng.standard_normal(widths[0])
        other = size**depth * np.outer(u / np.linalg.norm(u), v / np.linalg.norm(v))
        assert np.sum(G * other) >= best * (1 + 1e-12)
    new = [grown[0][-1], grown[-1][:, -1], *(W[-1] for W in grown[1:-1]), *(W[:, -1] for W in grown[1:-1])]
    assert [np.linalg.norm(w) for w in new] == pytest.approx([size] * len(new), rel=1e-12)


# The door


HALVES = [0.5 * np.eye(2), 0.5 * np.eye(2)]


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: dln.rotate(HALVES, []), ValueError, "`rotations` must be one for each of the 1 hidden"),
        (lambda: dln.rotate(HALVES, [np.eye(3)]), ValueError, r"`rotations\[0\]` must have shape \(2, 2\)"),
        (lambda: dln.rotate(HALVES, [2 * np.eye(2)]), ValueError, r"`rotations\[0\]` must be orthogonal"),
        (lambda: dln.rotate(HALVES, 3), TypeError, "`rotations` must be a sequence of matrices, got int"),
        (lambda: dln.rotate(HALVES, [np.eye(2)], rng=0), ValueError, "`rng` must be left out"),
        (lambda: dln.rotate([np.eye(2), np.eye(3)]), ValueError, "`weights` must chain"),
        (lambda: dln.include(HALVES, 1), ValueError, r"`hidden` must be at least \[2\], got \[1\]"),
        (lambda: dln.include(HALVES, [3, 3]), ValueError, r"`hidden` must be at least \[2\], got \[3, 3\]"),
        (lambda: dln.include(HALVES, 2.5), TypeError, "`hidden` must be an integer"),
        (lambda: grow(HALVES, np.eye(3), 0.1), ValueError, r"`G` must have shape \(2, 2\)"),
        (lambda: grow(HALVES, np.eye(2), 0.0), ValueError, "`size` must be positive"),
        (lambda: grow([np.eye(2)], np.eye(2), 0.1), ValueError, "`weights` must have a hidden layer"),
        (lambda: dln.include(HALVES, "3"), TypeError, r"`hidden\[0\]` must be an integer"),
    ],
)
def test_mistakes_are_refused(call, error, says):
    with pytest.raises(error, match=says):
        call()
