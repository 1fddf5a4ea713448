"""Certificates: true of networks written in plain NumPy and of random runs, false of every corrupted step."""

from __future__ import annotations

import numpy as np
import pytest

from dln import rank
from dln.rank import inequalities
from dln.rank.measures import tails

SHAPES = ((9, 7), (9, 9), (8, 9))
LR, WD, B = 0.1, 0.3, 2


class Run:
    """SGD on three matrices with given gradients of rank at most B, in plain NumPy."""

    def __init__(self, seed=0, momentum=0.0, batch=B, shapes=SHAPES, **options):
        self.rng = np.random.default_rng(seed)
        self.momentum, self.batch = momentum, batch
        self.W = [self.rng.normal(size=shape) for shape in shapes]
        self.V = [np.zeros_like(W) for W in self.W]
        self.live = rank.Certificates(self.W, momentum=momentum, **{"every": 4, "stop": False, **options})

    def factors(self):
        return [
            (self.rng.normal(size=(self.batch, W.shape[0])), self.rng.normal(size=(self.batch, W.shape[1])))
            for W in self.W
        ]

    def gradients(self):
        return [left.T @ right for left, right in self.factors()]

    def update(self, G, lr=LR, wd=WD):
        self.V = [self.momentum * V + g + wd * W for V, g, W in zip(self.V, G, self.W, strict=True)]
        self.W = [W - lr * V for W, V in zip(self.W, self.V, strict=True)]

    def report(self, G, lr=LR, wd=WD):
        velocity = self.V if self.momentum else None
        self.live.step(self.W, G, learning_rate=lr, weight_decay=wd, batch_size=self.batch, velocity=velocity)

    def leap(self, steps, lr=LR, wd=WD):
        velocity = self.V if self.momentum else None
        rates = {"learning_rate": lr, "weight_decay": wd}
        self.live.leap(self.W, **rates, batch_size=self.batch, steps=steps, velocity=velocity)

    def broken(self):
        return {violation.name for violation in self.live.violations}


def worst(live):
    return min(slack.min() for slack in live.slack.values() if slack.size)


# What holds


@pytest.mark.parametrize("momentum", [0.0, 0.8])
@pytest.mark.parametrize("window", [1, 2, 4])
def test_every_certificate_holds_on_sgd(momentum, window):
    run = Run(window=window, momentum=momentum, stop=True, epsilon=0.7)
    for _ in range(40):
        G = run.gradients()
        run.update(G)
        run.report(G)
    assert worst(run.live) >= 0
    slack, at = run.live.slack, run.live.at
    np.testing.assert_array_equal(at["window"], np.arange(4, 41, 4))
    np.testing.assert_array_equal(at["recursion"], np.arange(1, 41))
    seen = (at["gradient_rank"] - 1) % 4 >= 4 - window  # in windows the ranks of gradients are measured
    assert (slack["gradient_rank"][seen] == 0).all()
    assert np.isinf(slack["gradient_rank"][~seen]).all()
    for name in ("recursion", "interlacing", "window", "update_rank"):
        assert slack[name].shape == (len(at[name]), 3)
        full = window * B >= 7 and name != "recursion"
        assert np.isfinite(slack[name]).all() or full
    assert np.isinf(slack["noise"]).all() == (momentum > 0)
    assert np.isinf(slack["energy"]).all()
    np.testing.assert_allclose(run.live.share[0], window * B / np.array([7, 9, 8]))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_schedules_flat_vectors_factors_and_offsets_give_the_same_slack(momentum):
    runs = [Run(momentum=momentum, stop=True) for _ in range(4)]
    sizes = [W.size for W in runs[0].W]
    offsets = np.cumsum([3, sizes[0] + 5, sizes[1]])
    flat_run = runs[2]
    flat_run.live = rank.Certificates(flat_run.W, momentum=momentum, every=4, offsets=offsets)

    def flat(matrices):
        vector = np.full(sum(sizes) + 10, 7.0)
        for M, offset in zip(matrices, offsets, strict=True):
            vector[offset : offset + M.size] = M.ravel()
        return vector

    for t in range(24):
        lr, wd = 0.2 / (1 + t), 0.1 + 0.01 * t
        for i, run in enumerate(runs):
            factors = run.factors()
            G = [left.T @ right for left, right in factors]
            run.update(G, lr, wd)
            velocity = run.V if momentum else None
            given = {0: G, 1: factors, 2: flat(G), 3: G}[i]
            W = flat(run.W) if i == 2 else run.W
            if velocity and i == 2:
                velocity = flat(velocity)
            run.live.step(W, given, learning_rate=lr, weight_decay=wd, batch_size=B, velocity=velocity)
    for run in runs[1:]:
        for name, slack in run.live.slack.items():
            np.testing.assert_allclose(slack, runs[0].live.slack[name], atol=1e-13)
    factor, time = rank.forgetting(runs[0].live.learning_rates, runs[0].live.weight_decays)
    assert runs[0].live.tau == pytest.approx(time[-1], rel=1e-13)
    if not momentum:
        assert runs[0].live.factor == pytest.approx(factor[-1], rel=1e-13)


def taken(kind, W, V, G, lr, wd, beta):
    """A step of each kind as its authors write it."""
    if kind == "decoupled":
        V = beta * V + G
        return W - lr * wd * W - lr * V, V
    full = G + wd * W
    V = beta * V + full
    return W - lr * (full + beta * V if kind == "nesterov" else V), V


KINDS = ("heavy_ball", "nesterov", "decoupled")


@pytest.mark.parametrize("momentum", [0.0, 0.7])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_momentum_is_certified_and_taken_for_no_other(kind, momentum):
    rng = np.random.default_rng(8)
    W, V = rng.normal(size=(9, 8)), np.zeros((9, 8))
    live = {
        name: rank.Certificates([W], momentum=momentum, kind=name, every=3, window=2, stop=False)
        for name in KINDS
    }
    leaping = rank.Certificates([W], momentum=momentum, kind=kind, every=4, window=1)
    rates = rng.uniform(0.1, 0.4, 12), rng.uniform(0.1, 0.4, 12)
    for t, (lr, wd) in enumerate(zip(*rates, strict=True)):
        G = np.outer(rng.normal(size=9), rng.normal(size=8))
        W, V = taken(kind, W, V, G, lr, wd, momentum)
        velocity = [V] if momentum else None
        for certificates in live.values():
            certificates.step([W], [G], learning_rate=lr, weight_decay=wd, batch_size=1, velocity=velocity)
        if t % 4 == 3:
            lrs, wds = (rate[t - 3 : t + 1] for rate in rates)
            leaping.leap([W], learning_rate=lrs, weight_decay=wds, batch_size=1, velocity=velocity)
    assert worst(live[kind]) >= 0
    assert worst(leaping) >= 0
    assert np.isfinite(leaping.slack["update_rank"]).all()
    assert leaping.factor == pytest.approx(live[kind].factor, rel=1e-12)
    for other in set(KINDS) - {kind}:
        names = {violation.name for violation in live[other].violations}
        assert names >= {"recursion", "update_rank"} if momentum else not names


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_leaps_are_certified_like_steps(momentum):
    """Windows of three steps seen only at their ends, between others that are watched."""
    run = Run(momentum=momentum, stop=True, every=5, window=1)
    start = [W.copy() for W in run.W]
    gradients = []
    for _ in range(8):
        for _ in range(3):
            G = run.gradients()
            gradients.append(G[0])
            run.update(G)
        run.leap(3)
        G = run.gradients()
        gradients.append(G[0])
        run.update(G)
        run.report(G)
    assert worst(run.live) >= 0
    assert (run.live.slack["update_rank"] < 1).any()
    np.testing.assert_array_equal(run.live.at["window"], [7, 11, 15, 20, 27, 31])  # from 5, 10, .. on
    assert len(run.live.norms) == 33
    np.testing.assert_allclose(run.live.norms[-1], [np.linalg.norm(W) for W in run.W], rtol=1e-14)
    a = rank.propagator(LR, WD, momentum, 32)[0, 0]
    assert run.live.factor == pytest.approx(a, rel=1e-12)
    silent = Run(momentum=momentum)
    silent.W[0] = start[0]
    silent.V[0] = np.zeros_like(start[0])
    for G in gradients:
        silent.update([G, *silent.gradients()[1:]])
    np.testing.assert_allclose(silent.W[0], run.W[0], atol=1e-12)


def test_certified_rank_is_that_of_the_record():
    run = Run(batch=1, epsilon=0.4, every=3, window=1, stop=True)
    for _ in range(60):
        G = run.gradients()
        run.update(G, 0.5, 0.8)
        run.report(G, 0.5, 0.8)
    live = run.live
    found = rank.certificate(live.norms, live.gradient_ranks, live.learning_rates, live.weight_decays, 0.4)
    at, slack = live.at["certified"], live.slack["certified"]
    assert np.isfinite(slack).any()
    W = np.linalg.svd(run.W[1], compute_uv=False)
    expected = 0.4 - tails(W, "frobenius")[int(found.rank[-1, 1])] / np.linalg.norm(run.W[1])
    assert slack[-1, 1] == pytest.approx(expected, abs=1e-11)
    least = np.array([7, 9, 8])
    np.testing.assert_array_equal(np.isinf(slack), found.rank[at] >= least)


def test_certified_rank_reaches_far_back():
    """A gradient in every tenth step alone, which keeps the norm; 90 steps are needed."""
    rng = np.random.default_rng(15)
    W = rng.normal(size=(20, 20))
    live = rank.Certificates([W], every=1, window=1, epsilon=0.4)
    u, v = rng.normal(size=(2, 20))
    for t in range(200):
        G = -np.outer(u, v) * (t % 10 == 0)
        W = W - 0.1 * (G + 0.1 * W)
        live.step([W], [G], learning_rate=0.1, weight_decay=0.1, batch_size=1)
    found = rank.certificate(live.norms, live.gradient_ranks, live.learning_rates, live.weight_decays, 0.4)
    assert found.window[-1, 0] > 64
    assert found.rank[-1, 0] < 20
    told = np.isfinite(live.slack["certified"][:, 0])
    np.testing.assert_array_equal(told, found.rank[1:, 0] < 20)
    expected = (
        0.4 - tails(np.linalg.svd(W, compute_uv=False), "frobenius")[int(found.rank[-1, 0])] / live.norms[-1]
    )
    assert live.slack["certified"][-1, 0] == pytest.approx(expected[0], abs=1e-11)


def test_inequalities_hold_on_ten_thousand_random_cases_and_are_sharp():
    rng = np.random.default_rng(1)
    worst_of, tight = np.full(4, np.inf), np.full(4, np.inf)
    for K in range(5):
        W_0 = rng.normal(size=(2000, 5, 6)) * 10.0 ** rng.uniform(-3, 1, (2000, 5, 1))
        D = rng.uniform(0, 1)
        U = (
            rng.normal(size=(2000, 5, K))
            @ rng.normal(size=(2000, K, 6))
            * 10.0 ** rng.uniform(-4, 1, (2000, 1, 1))
        )
        Q, s, P = np.linalg.svd(W_0, full_matrices=False)
        best = D * (Q[..., :K] * s[..., None, :K]) @ P[..., :K, :]  # takes the head of D W_0 away
        for step in (U, -best, (1 / D - 1) * best):
            W = D * W_0 + step
            after, update = (np.linalg.svd(M, compute_uv=False) for M in (W, step))
            budget = np.full(2000, K)
            slack = (
                inequalities.low_rank(update, np.maximum(after[:, 0], D * s[:, 0]), budget),
                inequalities.interlacing(after, D * s, budget),
                inequalities.within(after, D * s, budget),
                inequalities.shrinking(np.linalg.norm(W - W_0, axis=(1, 2)), s, D, budget),
            )
            worst_of = np.minimum(worst_of, [x.min() for x in slack])
            tight = np.minimum(tight, [np.abs(x).min() for x in slack])
            if K and step is U:  # one rank less is refuted
                less = budget - 1
                assert (inequalities.low_rank(update, after[:, 0], less) < -1e-9).all()
                assert (inequalities.interlacing(after, D * s, less) < -1e-12).any()
    assert (worst_of > -1e-13).all()
    assert (tight < 1e-12).all()


# Networks in plain NumPy


def relu_network(rng, batch, normed, eps=0.0):
    """Gradient of the cross-entropy of a net 8-10-10-3, with or without batch normalisation, by hand."""
    widths = (8, 10, 10, 3)
    W = [rng.normal(size=(n, m)) / np.sqrt(m) for m, n in zip(widths, widths[1:], strict=False)]

    def factors(W, X, labels):
        inputs, cache, h = [], [], X
        for l, layer in enumerate(W):
            inputs.append(h)
            u = h @ layer.T
            if l == len(W) - 1:
                break
            if normed:
                std = np.sqrt(u.var(axis=0) + eps)
                u = (u - u.mean(axis=0)) / std
                cache.append((u, std))
            else:
                cache.append((u, None))
            h = np.maximum(u, 0)
        p = np.exp(u - u.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        p[np.arange(len(X)), labels] -= 1
        delta, result = p / len(X), [None] * len(W)
        for l in range(len(W) - 1, -1, -1):
            result[l] = (delta, inputs[l])
            if l:
                u, std = cache[l - 1]
                delta = (delta @ W[l]) * (u > 0)
                if normed:
                    delta = (delta - delta.mean(axis=0) - u * (delta * u).mean(axis=0)) / std
        return result

    return W, factors


@pytest.mark.parametrize("normed", [False, True])
def test_certificates_hold_on_a_network(normed):
    rng = np.random.default_rng(2)
    W, factors = relu_network(rng, 5, normed)
    X, labels = rng.normal(size=(60, 8)), rng.integers(0, 3, 60)
    live = rank.Certificates(
        W, batch_norm=[normed, normed, False], every=10, window=1, batch_norm_tolerance=1e-11
    )
    for _ in range(200):
        chosen = rng.choice(60, 5, replace=False)
        F = factors(W, X[chosen], labels[chosen])
        W = [layer - 0.1 * (d.T @ u + 0.05 * layer) for layer, (d, u) in zip(W, F, strict=True)]
        live.step(W, F, learning_rate=0.1, weight_decay=0.05, batch_size=5)
    assert worst(live) >= 0
    assert (
        live.slack["gradient_rank"][:, 2] >= 1
    ).all()  # cross-entropy: signals sum to zero over the classes
    if normed:
        assert live.slack["gradient_rank"][:, :2].min() == 0  # B - 1 is reached
        assert np.isfinite(live.slack["energy"][:, :2]).all()


def test_batch_norm_claims_are_refuted_by_a_network_without_it():
    rng = np.random.default_rng(3)
    W, factors = relu_network(rng, 5, False)
    live = rank.Certificates(W, batch_norm=True, every=1, window=1, stop=False)
    F = factors(W, rng.normal(size=(5, 8)), rng.integers(0, 3, 5))
    W = [layer - 0.1 * (d.T @ u + 0.05 * layer) for layer, (d, u) in zip(W, F, strict=True)]
    live.step(W, F, learning_rate=0.1, weight_decay=0.05, batch_size=5)
    assert {violation.name for violation in live.violations} >= {"energy", "gradient_rank"}


# What breaks


def perturbed(run, G):
    run.update(G)
    run.W[1][3, 2] += 1e-9


def other_decay(run, G):
    run.update(G, wd=WD * 1.001)


def other_rate(run, G):
    run.update(G, lr=LR * 1.001)


def adam(run, G):
    run.W = [W - LR * g / (np.abs(g) + 1e-8) - LR * WD * W for W, g in zip(run.W, G, strict=True)]


@pytest.mark.parametrize("corrupt", [perturbed, other_decay, other_rate, adam])
@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_a_corrupted_step_is_seen_at_once(corrupt, momentum):
    run = Run(momentum=momentum, stop=True)
    for _ in range(6):
        G = run.gradients()
        run.update(G)
        run.report(G)
    before = [W.copy() for W in run.W]
    G = run.gradients()
    corrupt(run, G)
    with pytest.raises(rank.Violation, match="recursion") as found:
        run.report(G)
    violation = found.value
    assert violation.name == "recursion"
    assert violation.step == 7
    assert violation.slack < 0
    l = int(violation.layer) - 1
    np.testing.assert_array_equal(violation.evidence["before"], before[l])
    np.testing.assert_array_equal(violation.evidence["after"], run.W[l])
    np.testing.assert_array_equal(violation.evidence["gradient"], G[l])


@pytest.mark.parametrize("corrupt", [perturbed, other_decay, adam])
@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_windows_see_corruption_without_gradients(corrupt, momentum):
    """Weights alone: what was added over the window has too high a rank."""
    run = Run(momentum=momentum, window=2)
    for _ in range(2):
        run.update(run.gradients())
    run.leap(2)
    G = run.gradients()
    corrupt(run, G)
    run.leap(1)
    run.update(run.gradients())
    run.leap(1)
    assert "update_rank" in run.broken()


def test_honest_leaps_are_not_accused():
    run = Run(window=2)
    for _ in range(12):
        run.update(run.gradients())
        run.leap(1)
    assert not run.broken()


def test_weights_that_do_not_forget_break_the_inequalities():
    """A decay that is claimed and not applied: the distance to low rank, the length of the step, the certified rank."""
    run = Run(batch=1, every=4, window=4, epsilon=0.5)
    for _ in range(4):
        run.leap(1, lr=1.0, wd=0.6)
    assert run.broken() == {"update_rank", "interlacing", "window", "noise", "certified"}
    assert all(slack[0].max() < 0 for name, slack in run.live.slack.items() if name in run.broken())


def test_gradients_of_full_rank_break_the_bound_on_their_rank():
    run = Run(every=1, window=1)
    G = [1e3 * run.rng.normal(size=W.shape) for W in run.W]
    run.update(G)
    run.report(G)
    assert run.broken() == {"gradient_rank", "update_rank", "interlacing", "window", "certified"}
    np.testing.assert_array_equal(run.live.slack["gradient_rank"][0], [B - 7, B - 9, B - 8])


def test_patches_raise_the_budget():
    run = Run(every=1, window=1, patches=[4, 1, 1], stop=True)
    G = run.gradients()
    G[0] = run.rng.normal(size=SHAPES[0])
    run.update(G)
    run.report(G)
    assert np.isinf(run.live.slack["gradient_rank"][0, 0])
    assert (run.live.slack["gradient_rank"][0, 1:] == 0).all()
    assert run.live.share[0, 0] == 1.0
    assert np.isinf(run.live.slack["update_rank"][0, 0])


def test_windows_that_can_prove_nothing_cost_nothing(monkeypatch):
    run = Run(batch=9, every=1, window=1, epsilon=1e-9, stop=True)
    monkeypatch.setattr(np.linalg, "svd", None)
    G = run.gradients()
    run.update(G)
    run.report(G)
    assert all(np.isinf(run.live.slack[name]).all() for name in ("gradient_rank", "window", "certified"))


def test_a_run_that_diverged_is_refused():
    for call in ("report", "leap"):
        run = Run(every=1, window=1)
        G = run.gradients()
        run.update(G)
        run.W[0][0, 0] = np.nan
        with pytest.raises(ValueError, match="diverged"):
            getattr(run, call)(G if call == "report" else 1)


def test_long_leaps_forget_everything():
    run = Run(stop=True, batch=1)
    for _ in range(4):
        run.update(run.gradients())
    run.leap(4)
    for _ in range(3):  # D underflows; the weights are one gradient of 10^5 steps ago and rest
        run.W = [1e-300 * W for W in run.W]
        run.leap(10**5)
    assert worst(run.live) >= 0
    assert abs(run.live.factor) < 1e-300


def test_single_precision_has_its_own_tolerance():
    rng = np.random.default_rng(4)
    W = rng.normal(size=(12, 12)).astype(np.float32)
    live = rank.Certificates([W], every=2, window=1)
    for _ in range(20):
        G = np.outer(rng.normal(size=12), rng.normal(size=12)).astype(np.float32)
        W = (W - np.float32(0.1) * (G + np.float32(0.3) * W)).astype(np.float32)
        live.step([W], [G], learning_rate=0.1, weight_decay=0.3, batch_size=1)
    assert worst(live) >= 0
    assert (live.slack["gradient_rank"][1::2] == 0).all()
    with pytest.raises(rank.Violation):
        live.step([W * np.float32(1.001)], [G], learning_rate=0.1, weight_decay=0.3, batch_size=1)


def test_a_first_window_may_come_early():
    run = Run(window=2, first=3, every=10, stop=True)
    for _ in range(24):
        G = run.gradients()
        run.update(G)
        run.report(G)
    np.testing.assert_array_equal(run.live.at["window"], [3, 10, 20])


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_a_watch_sees_what_exact_accounts_see(momentum):
    """|E q|, q normal, has the mean square |E|^2: over many probes, and for one where E is zero."""
    exact, watched = (Run(momentum=momentum, every=100, batch=1) for _ in range(2))
    for t in range(30):
        factors = exact.factors()
        G = [left.T @ right for left, right in factors]
        exact.update(G)
        exact.report(G)
        watch = watched.live.watch(1, learning_rate=LR, weight_decay=WD, batch_size=1)
        watch.look(0, watched.W, G, factors if t % 2 else [None] * 3)
        watched.update(G)
        assert watch.compare(0, watched.W, watched.V if momentum else None)
        watched.live.take(1, watched.W, G, watched.V if momentum else None)
    for name in ("norms", "gradient_ranks", "learning_rates", "weight_decays"):
        np.testing.assert_allclose(getattr(watched.live, name), getattr(exact.live, name), rtol=1e-13)
    assert watched.live.factor == exact.live.factor
    assert (watched.live.slack["gradient_rank"][1::2] == 0).all()  # counted
    assert np.isinf(watched.live.slack["gradient_rank"][::2]).all()  # nothing was seen of the factors
    E, sizes = np.random.default_rng(3).normal(size=SHAPES[0]), []
    for seed in range(400):
        live = rank.Certificates([np.zeros(SHAPES[0])], every=100, stop=False)
        watch = live.watch(1, learning_rate=LR, weight_decay=WD, batch_size=1)
        watch.probes[:] = np.random.default_rng(seed).normal(size=SHAPES[0][1])
        watch.look(0, [E], [np.zeros_like(E)], [None])
        watch.compare(0, [E], None)
        live.take(1, [E], [np.zeros_like(E)])
        sizes.append(1e-12 - live.slack["recursion"][0, 0])
    assert np.mean(np.square(sizes)) == pytest.approx(1.0, rel=0.1)  # in units of |W'| = |E|


def test_states_are_taken_up_again():
    one, other = (Run(every=7, window=3, stop=True) for _ in range(2))
    for t in range(40):
        if t in (10, 19, 20):  # between windows and within
            state = {name: np.array(value) for name, value in other.live.state().items()}
            other.live = rank.Certificates(other.W, every=7, window=3)
            other.live.restore(state)
        if t == 30:
            mark = one.live.mark()
            W = [M.copy() for M in one.W]
            for _ in range(9):
                G = one.gradients()
                one.update(G)
                one.report(G)
            one.live.rewind(mark)
            one.W = W
            one.rng = np.random.default_rng(5)
            other.rng = np.random.default_rng(5)
        for run in (one, other):
            G = run.gradients()
            run.update(G)
            run.report(G)
    for name, slack in one.live.slack.items():
        np.testing.assert_array_equal(slack, other.live.slack[name])
        np.testing.assert_array_equal(one.live.at[name], other.live.at[name])


BAD = [
    (lambda live, W: rank.Certificates(W[0]), "weights"),
    (lambda live, W: rank.Certificates([]), "weights"),
    (lambda live, W: rank.Certificates(W, patches=[1]), "patches"),
    (lambda live, W: rank.Certificates(W, every=2, window=3), "window"),
    (lambda live, W: rank.Certificates(W, momentum=1.0), "momentum"),
    (lambda live, W: rank.Certificates(W, kind="adam"), "kind"),
    (lambda live, W: rank.Certificates(W, offsets=[0, 1, 2]), "offsets"),
    (lambda live, W: live.step(W[:2], W, learning_rate=0.1, weight_decay=0.1, batch_size=1), "weights"),
    (lambda live, W: live.step(W, W[::-1], learning_rate=0.1, weight_decay=0.1, batch_size=1), "gradients"),
    (lambda live, W: live.step(W, W, learning_rate=2.0, weight_decay=0.5, batch_size=1), "learning_rate"),
    (lambda live, W: live.step(W, W, learning_rate=0.1, weight_decay=0.1, batch_size=0), "batch_size"),
    (
        lambda live, W: live.step(W, W, learning_rate=0.1, weight_decay=0.1, batch_size=1, velocity=W),
        "velocity",
    ),
    (
        lambda live, W: live.step(W[0].ravel(), W, learning_rate=0.1, weight_decay=0.1, batch_size=1),
        "weights",
    ),
    (lambda live, W: live.leap(W, learning_rate=0.1, weight_decay=0.1, batch_size=1), "steps"),
    (
        lambda live, W: live.watch(3, learning_rate=0.1, weight_decay=0.1, batch_size=1),
        "steps",
    ),  # a window begins
    (lambda live, W: live.watch(1, learning_rate=0.1, weight_decay=0.1, batch_size=0), "batch_size"),
]


@pytest.mark.parametrize(("call", "name"), BAD)
def test_wrong_input_is_named(call, name):
    run = Run()
    with pytest.raises((ValueError, TypeError), match=f"`{name}"):
        call(run.live, run.W)


# The solvable cases


@pytest.mark.parametrize(
    ("m", "batch", "lr", "wd"), [(12, 1, 0.5, 0.8), (12, 3, 0.2, 0.5), (20, 5, 1.0, 0.3), (8, 8, 0.4, 1.0)]
)
def test_cyclic_sgd_settles_in_its_closed_form(m, batch, lr, wd):
    start = np.random.default_rng(5).normal(size=(m, m))
    steps = m // batch * int(np.ceil(80 / (lr * wd)))
    W = rank.driven(start, rank.cyclic_gradients(m, batch), lr, wd, steps=steps)[-1]
    found = rank.cyclic(m, batch, lr, wd, epsilon=0.05)
    s = np.linalg.svd(W, compute_uv=False)
    np.testing.assert_allclose(
        s, np.repeat(found.singular_values, found.multiplicity), rtol=1e-12, atol=1e-14
    )
    for epsilon in (0.05, 0.3, 0.8):
        expected = rank.numerical(W, epsilon)
        assert rank.cyclic(m, batch, lr, wd, epsilon).rank == expected
        budget = rank.bound(batch, lr, wd, epsilon, form="sharp")
        assert expected <= budget
        assert expected == m or expected >= budget - batch  # attained but for a batch


def test_printed_bound_is_refuted_by_a_run():
    """eta = 0.475, lambda = 2, epsilon = 0.8: the printed budget allows no rank, and the error of rank 0 is 1."""
    lr, wd, epsilon = 0.475, 2.0, 0.8
    W = rank.driven(np.zeros((6, 6)), rank.cyclic_gradients(6, 1), lr, wd, steps=600, every=1)
    norms = np.linalg.norm(W[-12:], 2, axis=(1, 2))
    np.testing.assert_allclose(norms[1:] / norms[:-1], 1.0, rtol=1e-13)
    printed = int(rank.bound(1, lr, wd, epsilon, form="printed"))
    assert printed == 0
    assert rank.tail(W[-1], printed, "spectral") / norms[-1] > epsilon
    for form in ("repaired", "sharp"):
        budget = rank.bound(1, lr, wd, epsilon, form=form)
        assert rank.tail(W[-1], budget, "spectral") / norms[-1] <= epsilon


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_window_bounds_the_rank_of_a_run_with_momentum(momentum):
    """The cyclic SGD: its norm is constant, so that the growth is 1 up to rounding."""
    m, batch, lr, wd, epsilon = 72, 1, 0.5, 0.3, 0.3
    n = rank.window(lr, wd, epsilon, momentum=momentum, growth=1.01)
    W = rank.driven(
        np.zeros((m, m)), rank.cyclic_gradients(m, batch), lr, wd, steps=8 * m, momentum=momentum
    )[-1]
    assert n * batch < m
    distance = rank.tail(W, n * batch, "spectral") / np.linalg.norm(W, 2)
    assert distance <= epsilon
    assert momentum > 0 or distance > 0.9 * epsilon


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_driven_is_the_recursion(momentum):
    rng = np.random.default_rng(6)
    left, right = rank.random_gradients((5, 4), 2, 7, rng=rng)
    lr, wd = rng.uniform(0, 0.3, 20), rng.uniform(0, 0.5, 20)
    W, V, seen = rng.normal(size=(5, 4)), np.zeros((5, 4)), []
    found = rank.driven(W, (left, right), lr, wd, momentum=momentum, every=3)
    for t in range(20):
        V = momentum * V + left[t % 7].T @ right[t % 7] + wd[t] * W
        W = W - lr[t] * V
        seen.append(W)
    np.testing.assert_allclose(found, seen[2::3], rtol=1e-12)


def test_random_gradients_reach_their_stationary_norm_and_keep_the_certificates():
    gradients = rank.random_gradients((10, 8), 2, 20000, rng=7)
    lr, wd = 0.5, 0.9
    W = rank.driven(np.zeros((10, 8)), gradients, lr, wd, steps=20000, every=1)
    squares = np.sum(W[1000:] ** 2, axis=(1, 2))
    assert squares.mean() == pytest.approx(lr**2 / (1 - (1 - lr * wd) ** 2), rel=0.03)
    norms = np.linalg.norm(W[:400], axis=(1, 2))
    certified, _ = rank.certificate(norms, np.full(399, 2), lr, wd, 0.5)
    distance = np.array(
        [rank.tail(M, min(int(r), 8)) if r < 8 else 0.0 for M, r in zip(W, certified, strict=False)]
    )
    assert (distance[:400] <= 0.5 * norms).all()
    assert (certified < 8).sum() > 300
