"""Gaussian networks drawn in their Krylov form: the same law as that of whole networks, at any width."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import dln
from dln import inits, network
from dln.form.subspaces import krylov

S = np.array([2.0, 1.0])


def widths(depth, width, ends=(2, 2)):
    return (ends[0], *[width] * (depth - 1), ends[1])


def halves(layers):
    """Half-times of both modes of a target diag(2, 1)."""
    goal = dln.Until(cost=0.1 * S[-1] ** 2 / 4)
    cost = dln.costs.FullyObserved(np.diag(S))
    run = dln.gradient_flow(
        cost, layers, (0.0, math.inf), form="weights", rtol=1e-5, until=goal, keep_weights=False
    )
    a, times = run.singular_values, []
    for values, level in zip(a.T, S / 2, strict=True):
        i = int(np.argmax(values >= level))
        times.append(np.interp(level, values[i - 1 : i + 1], run.t[i - 1 : i + 1]))
    return times


# The law


@pytest.fixture(scope="module")
def whole():
    random = np.random.default_rng([1, 0])
    return np.array([halves(inits.gaussian(widths(3, 60), rho=0.1, rng=random)) for _ in range(400)])


@pytest.mark.parametrize(("width", "agrees"), [(60, True), (10, False)])
def test_half_times_have_the_law_of_those_of_whole_networks_of_this_width(whole, width, agrees):
    random = np.random.default_rng([2, 0])
    drawn = [inits.reduced_gaussian(widths(3, width), order=4, rho=0.1, rng=random) for _ in range(400)]
    found = np.array([halves(layers) for layers in drawn])
    for mode in (0, 1):
        p = stats.ks_2samp(whole[:, mode], found[:, mode]).pvalue
        assert p > 0.01 if agrees else p < 1e-4


def invariants(networks):
    """Numbers that a rotation of the hidden layers does not change, and that order 1 knows, for every network."""
    layers = [np.array(Ws) for Ws in zip(*networks, strict=True)]
    A = network.end_to_end(layers)
    gradients = network.layer_gradients(layers, np.ones_like(A))
    velocity = network.end_to_end_velocity(layers, np.ones_like(A))
    again = network.layer_gradients(layers, velocity)
    moved = network.end_to_end([W - V for W, V in zip(layers, gradients, strict=True)])
    products = [(velocity, velocity), *((V, V) for V in gradients), *zip(again, gradients, strict=True)]
    return np.array([A[:, 0, 0], moved[:, 0, 0], *(np.sum(V * W, axis=(1, 2)) for V, W in products)])


SHAPES = [
    (2, 5, 3),
    (1, 6, 7, 2),
    (2, 4, 9, 1),
    (1, 5, 6, 7, 1),
    (2, 7, 5, 9, 2),
    (1, 6, 5, 7, 6, 1),
    (3, 2, 2, 4),
]


@pytest.mark.parametrize("n", SHAPES)
def test_invariants_have_the_same_law_at_every_depth_and_shape(n):
    random = np.random.default_rng(5)

    def drawn(start, widths, **options):
        return invariants([start(widths, std=0.7, rng=random, **options) for _ in range(600)])

    whole, reduced = drawn(inits.gaussian, n), drawn(inits.reduced_gaussian, n, order=1)
    wider = drawn(inits.reduced_gaussian, (n[0], *(m + 3 for m in n[1:-1]), n[-1]), order=1)
    assert min(stats.ks_2samp(a, b).pvalue for a, b in zip(whole, reduced, strict=True)) > 1e-3
    assert min(stats.ks_2samp(a, b).pvalue for a, b in zip(whole, wider, strict=True)) < 1e-6


def canonical(networks):
    """Sizes of all entries of their Krylov forms of order 1, which are found in one way whatever the bases."""
    forms = [krylov(layers, 1).layers for layers in networks]
    return np.abs([np.concatenate([W.ravel() for W in layers]) for layers in forms]).T


@pytest.mark.parametrize("n", [(1, 9, 1), (2, 9, 10, 1), (1, 8, 9, 8, 1), (1, 9, 9, 9, 9, 1), (3, 2, 2, 4)])
def test_every_entry_has_the_law_of_that_of_the_krylov_form_of_whole_networks(n):
    random = np.random.default_rng(6)
    whole = canonical([inits.gaussian(n, std=0.7, rng=random) for _ in range(300)])
    reduced = canonical([inits.reduced_gaussian(n, order=1, std=0.7, rng=random) for _ in range(300)])
    kept = whole.max(axis=1) > 1e-8
    assert np.array_equal(kept, reduced.max(axis=1) > 1e-8)
    p = [stats.ks_2samp(a, b).pvalue for a, b in zip(whole[kept], reduced[kept], strict=True)]
    assert min(p) > 1e-2 / len(p)


@given(
    depth=st.integers(2, 5), n_0=st.integers(1, 4), n_L=st.integers(1, 4), order=st.integers(0, 4),
    width=st.integers(1, 60), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_dimensions_are_those_of_the_krylov_subspaces_of_a_whole_network(depth, n_0, n_L, order, width, seed):
    n = widths(depth, width, (n_0, n_L))
    drawn = inits.reduced_gaussian(n, order=order, std=1.0, rng=seed)
    frames = krylov(inits.gaussian(n, std=1.0, rng=seed), order)
    assert [W.shape for W in drawn] == [W.shape for W in frames.layers]
    again = krylov(drawn, order)  # the small network is its own Krylov form
    assert [W.shape for W in again.layers] == [W.shape for W in drawn]


def test_where_the_width_is_reached_the_network_is_the_whole_one():
    layers = inits.reduced_gaussian((2, 6, 6, 2), order=9, std=0.5, rng=0)
    assert [W.shape for W in layers] == [(6, 2), (6, 6), (2, 6)]


def test_two_layers_are_exact_at_order_0_and_one_has_nothing_to_reduce():
    for order in (0, 3):
        W_1, W_2 = inits.reduced_gaussian((3, 10**6, 2), order=order, std=1.0, rng=1)
        assert (W_1.shape, W_2.shape) == ((5, 3), (2, 5))
    assert inits.reduced_gaussian((3, 2), order=2, std=1.0, rng=1)[0].shape == (2, 3)


# Width


@pytest.mark.parametrize("order", [0, 4, 6])
def test_a_billion_neurons_are_drawn_at_once(order):
    seconds = []
    for seed in range(5):
        start = time.perf_counter()
        inits.reduced_gaussian((4, 10**9, 10**9, 4), order=order, rho=0.1, rng=seed)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.05


@pytest.mark.parametrize("depth", [2, 3, 4, 5])
def test_wide_networks_tend_to_infinite_width_like_one_over_its_root(depth):
    random = np.random.default_rng(depth)

    def drawn(width, count):
        n = widths(depth, width, (1, 2))
        return invariants([inits.reduced_gaussian(n, order=3, rho=0.4, rng=random) for _ in range(count)])

    near, far = (np.abs(drawn(w, 100) - drawn(math.inf, 1)).mean(axis=1) for w in (10**8, 10**4))
    assert near == pytest.approx(far / 100, rel=0.5)


def test_the_scale_is_that_of_the_wide_network():
    n = (2, 10**8, 10**8, 2)
    for scale, rho in (
        ({"rho": 0.3}, 0.3),
        ({"std": 3e-5}, 0.3),
        ({"gamma": 1.25}, 0.1),
        ({"rho": 3.0, "alpha": 0.1}, 0.3),
    ):
        layers = inits.reduced_gaussian(n, order=2, **scale, rng=0)
        limit = inits.reduced_gaussian((2, math.inf, math.inf, 2), order=2, rho=rho)
        for W, M in zip(layers, limit, strict=True):
            assert np.linalg.svd(W)[1] == pytest.approx(np.linalg.svd(M)[1], abs=2e-3)


def test_infinite_width_has_entries_rho_alone():
    for depth in (2, 3, 4, 5):
        for W in inits.reduced_gaussian(widths(depth, math.inf), order=3, rho=0.3, alpha=0.5):
            assert set(np.unique(W)) <= {0.0, 0.15}
    chain = inits.reduced_gaussian((1, math.inf, math.inf, 1), order=5, rho=1.0)[1]
    assert np.sort(np.linalg.svd(chain)[1]) == pytest.approx(  # that of a path of 7 vertices
        np.sort(np.abs(2 * np.cos(np.pi * np.arange(1, 8) / 8))), abs=1e-12
    )


# Wrong use


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"order": -1, "std": 1.0}, "`order` must be at least 0"),
        ({"order": 1}, "exactly one must be given"),
        ({"order": 1, "std": -1.0}, "`std` must be positive"),
        ({"order": 1, "widths": (2, math.inf, 5, 2), "rho": 1.0}, "finite or infinite in all hidden layers"),
        ({"order": 1, "widths": (2, math.inf, math.inf, 2), "std": 1.0}, "`rho` must be given at infinite width"),
        ({"order": 1, "widths": (2, math.inf, math.inf, 2), "rho": 1.0, "std": 1.0}, "exactly one must be given"),
        ({"order": 1, "widths": (2, 0, 5, 2), "rho": 1.0}, r"`widths\[1\]` must be at least 1"),
        ({"order": 1, "widths": (2, 5, 2**53 + 1, 2), "rho": 1.0}, r"`widths\[2\]` must be at most"),
        ({"order": 1, "widths": (2,), "std": 1.0}, "`widths` must have at least two entries"),
        ({"order": 1, "widths": (3, 2), "rho": 1.0}, "must come with a hidden layer"),
        ({"order": 60, "widths": (2, *[math.inf] * 4, 2), "rho": 1.0}, r"at most 2\^26 entries"),
    ],
)  # fmt: skip
def test_wrong_values_are_refused(arguments, words):
    arguments = {"widths": (2, 9, 9, 2), **arguments}
    with pytest.raises(ValueError, match=words):
        inits.reduced_gaussian(arguments.pop("widths"), **arguments)


@pytest.mark.parametrize(
    "n", [(2, math.nan, 3), (2, 5.5, 3), (math.inf, 5, 2), (2, "5", 2), (2, -math.inf, 3), 7, "22"]
)
def test_wrong_widths_are_refused(n):
    with pytest.raises((ValueError, TypeError), match="`widths"):
        inits.reduced_gaussian(n, order=1, rho=1.0)
