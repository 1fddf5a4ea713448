"""Training: the recursion by hand, a solvable case, forgetting, resuming to the same bits, certificates, divergence."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import dln
from dln.nonlinear import (
    BatchNorm,
    Conv2d,
    Dense,
    Flatten,
    Network,
    ReLU,
    SelfAttention,
    Tanh,
    batches,
    engines,
    losses,
    mlp,
    optimizers,
    run,
    train,
)

training = importlib.import_module("dln.nonlinear.train")  # the name is that of the function too
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(30, 5)), RNG.integers(3, size=30)
BASIC = {"learning_rate": 0.1, "batch_size": 4, "epochs": 3, "weight_decay": 0.01, "rng": 0}


def trained(net=None, data=(X, Y), **options):
    net = mlp((5, 8, 3), "tanh", rng=0) if net is None else net
    return net, train(net, *data, **{**BASIC, **options})


# ----------------------------------------------------------------------------------------------------------
# The compiled loop beside NumPy
# ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", losses.ALL)
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("activation", dln.nonlinear.activations.ALL)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
def test_compiled_steps_are_those_of_numpy(activation, batch_norm, loss, dtype, tolerance):
    for options in (
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True, "decoupled": True},
        {"optimizer": "adam", "momentum": 0.5},
    ):
        if batch_norm and "optimizer" in options:
            continue  # biases before it have gradients of mere rounding, and Adam divides by them
        nets = []
        for engine in ("numpy", "compiled"):
            net = mlp((5, 9, 4, 3), activation, batch_norm, bias="momentum" in options, rng=1, dtype=dtype)
            trained(net, loss=loss, engine=engine, learning_rate=0.02, batch_size=5, **options)
            nets.append(net)
        plain, fast = nets
        slack = 1e3 if "optimizer" in options else 1.0  # small gradients are among the divisors too
        np.testing.assert_allclose(fast.theta, plain.theta, atol=tolerance * slack)
        np.testing.assert_allclose(fast.running, plain.running, atol=tolerance)


@pytest.mark.parametrize("batch_size", [1, 2, 7, 30])
def test_compiled_gradients_at_every_batch_size(batch_size):
    net = mlp((5, 17, 3), rng=0)
    rule = losses.ALL["cross_entropy"]
    targets = rule.targets(Y, 30, 3)
    engine = engines.Compiled(net, X, targets, rule, optimizers.SGD(0.0), np.zeros((1, net.theta.size)))
    value = engine.evaluate(np.arange(batch_size))
    gradient = net.gradient.copy()
    assert value == pytest.approx(net.loss_and_gradients(X[:batch_size], Y[:batch_size])[0], rel=1e-14)
    np.testing.assert_allclose(gradient, net.gradient, atol=1e-15)


FRESH = """
import numpy as np
from numba.core.event import install_recorder
from dln.nonlinear import mlp, train

X, y = np.random.default_rng(0).normal(size=(20, 4)), np.arange(20) % 3
with install_recorder("numba:compile") as recorder:
    for widths, activation in (((4, 3), "relu"), ((4, 7, 9, 3), "gelu"), ((4, 5, 3), "tanh")):
        net = mlp(widths, activation, batch_norm=True, rng=0)
        train(net, X, y, learning_rate=0.1, batch_size=4, epochs=2, weight_decay=0.1, momentum=0.5, rng=0)
        print(*net.theta)
print(len(recorder.buffer))
"""


def fresh(**environment):
    """Parameters after short runs in a fresh process, and how much was compiled there."""
    env = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, env=env, check=True)
    *theta, compiled = done.stdout.split()
    return np.array(theta, dtype=float), int(compiled)


def test_nothing_is_compiled_twice_and_other_modes_agree():
    fresh()  # the cache is there now
    theta, compiled = fresh()
    assert compiled == 0
    for mode in ("NUMBA_BOUNDSCHECK", "NUMBA_DISABLE_JIT"):
        np.testing.assert_allclose(fresh(**{mode: "1"})[0], theta, atol=1e-13)


def test_the_compiled_loop_takes_only_what_it_knows(monkeypatch):
    class Shifted(losses.Squared):
        def gradient(self, F, Y):
            return super().gradient(F, Y) + 1.0

    class Sine(dln.nonlinear.Activation):
        def value(self, z):
            return np.sin(z)

        def slope(self, z):
            return np.cos(z)

    known = losses.ALL["squared"]
    assert engines.compiles(mlp((5, 8, 3)), known)
    assert not engines.compiles(mlp((5, 8, 3)), Shifted())
    for layers in ([Dense(3), Sine()], [BatchNorm(), Dense(3)], [Dense(3), ReLU(), Tanh()]):
        net = Network(5, layers, rng=0)
        assert not engines.compiles(net, known)
        assert trained(net)[1].success
        with pytest.raises(ValueError, match="`engine` must be 'numpy'"):
            trained(net, engine="compiled")


# ----------------------------------------------------------------------------------------------------------
# What a step is
# ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.8, False), (0.8, True)])
def test_the_recursion_by_hand(momentum, nesterov, decoupled, engine):
    net = mlp((5, 2), "linear", bias=False, rng=3)
    W, V, T = net.weights[0].copy(), 0.0, RNG.normal(size=(30, 2))
    lr, wd = 0.1, 0.05
    for epoch in range(3):
        for i in range(0, 28, 4):
            x, t = X[i : i + 4], T[i : i + 4]
            g = (x @ W.T - t).T @ x / 4
            if decoupled:
                V = momentum * V + g
                W = (1 - lr * wd) * W - lr * (g + momentum * V if nesterov else V)
            else:
                V = momentum * V + g + wd * W
                W = W - lr * (g + wd * W + momentum * V if nesterov else V)
        lr *= 0.5 if epoch == 0 else 1.0
    options = {"momentum": momentum, "nesterov": nesterov, "decoupled": decoupled, "engine": engine}
    rates = {"learning_rate": 0.1, "weight_decay": wd, "schedule": {1: 0.5}}
    _, history = trained(net, (X, T), loss="squared", sampling="cyclic", **rates, **options)
    np.testing.assert_allclose(net.weights[0], W, atol=1e-14)
    assert history.loss[-1] == pytest.approx(0.5 * ((X @ W.T - T) ** 2).sum(axis=1).mean(), rel=1e-13)
    assert np.isnan(history.train_accuracy).all()


class Linear(losses.Loss):
    """l(f) = <y, f>: its gradients do not depend on the weights, so that SGD can be solved."""

    def values(self, F, Y):
        return (F * Y).sum(axis=1)

    def gradient(self, F, Y):
        return Y / len(F)


@pytest.mark.parametrize(("batch", "lr", "wd"), [(1, 0.3, 0.5), (2, 0.3, 0.5), (4, 0.1, 0.2), (8, 0.2, 0.1)])
def test_a_solvable_case_attains_the_rank_bound(monkeypatch, batch, lr, wd):
    """f = W z on the unit vectors, l_i = f_i, cyclic batches: singular values (lr / B) (1-x)^j / (1 - (1-x)^(m/B))."""
    monkeypatch.setitem(losses.ALL, "linear", Linear())
    m, x = 8, lr * wd
    net = mlp((m, m), "linear", bias=False, rng=0)
    arguments = {"learning_rate": lr, "weight_decay": wd, "batch_size": batch, "loss": "linear", "rng": 0}
    history = train(
        net, np.eye(m), np.eye(m), epochs=int(40 / x * batch / m) + 1, sampling="cyclic", **arguments
    )
    j = np.arange(m // batch).repeat(batch)
    theory = lr / batch * (1 - x) ** j / (1 - (1 - x) ** (m // batch))
    np.testing.assert_allclose(history.singular_values[0][-1], theory, rtol=1e-12)
    for epsilon in (0.5, 0.7):
        attained = min(m, batch * int(np.ceil(np.log(1 / epsilon) / -np.log1p(-x))))
        assert history.rank(epsilon)[-1, 0] == attained


def test_forgetting_is_the_propagator_of_the_theory():
    lr, wd, b = 0.2, 0.3, 0.7
    x = lr * wd
    heavy = optimizers.SGD(wd, momentum=b).forgetting(lr)
    np.testing.assert_allclose(heavy, [[1 - x, -lr * b], [wd, b]], atol=1e-16)
    nesterov = optimizers.SGD(wd, momentum=b, nesterov=True).forgetting(lr)
    np.testing.assert_allclose(nesterov, [[1 - x * (1 + b), -lr * b**2], [wd, b]], atol=1e-16)
    decoupled = optimizers.SGD(wd, momentum=b, decoupled=True).forgetting(lr)
    np.testing.assert_allclose(np.sort(np.linalg.eigvals(decoupled)), [b, 1 - x], atol=1e-15)


@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": 0.9}, {"momentum": 0.6, "nesterov": True}, {"momentum": 0.6, "decoupled": True}],
)
def test_the_start_is_taken_out_exactly(monkeypatch, options):
    """With gradients that ignore the weights, W_T - D_T W_0 is the same for every start."""
    monkeypatch.setitem(losses.ALL, "linear", Linear())
    found = []
    for seed in (1, 2):
        net = mlp((5, 3), "linear", bias=False, rng=seed)
        start = net.weights[0].copy()
        _, history = trained(net, (X, np.eye(3)[Y]), loss="linear", schedule=[1.0, 0.5, 2.0], **options)
        U = net.weights[0] - history.retained[-1] * start
        found.append(U)
        np.testing.assert_allclose(
            history.update_singular_values[0][-1], np.linalg.svd(U, compute_uv=False), rtol=1e-12, atol=1e-15
        )
    np.testing.assert_allclose(*found, atol=1e-14)


# ----------------------------------------------------------------------------------------------------------
# The history
# ----------------------------------------------------------------------------------------------------------


def test_a_history_holds_what_it_says():
    net = mlp((5, 8, 3), rng=0)
    start = net.copy()
    _, history = trained(net, test=(X[:10], Y[:10]))
    assert (history.status, history.success, history.epochs, history.steps) == ("finished", True, 3, 21)
    assert history.ranks.shape == history.corrected_ranks.shape == history.norms.shape == (4, 2)
    for row, model in ((0, start), (-1, net)):
        F = model(X)
        assert history.train_accuracy[row] == (F.argmax(axis=1) == Y).mean()
        assert history.test_accuracy[row] == (F.argmax(axis=1) == Y)[:10].mean()
        assert history.loss[row] == pytest.approx(losses.ALL["cross_entropy"].values(F, np.eye(3)[Y]).mean())
        np.testing.assert_allclose(history.norms[row], [np.linalg.norm(W) for W in model.weights], rtol=1e-14)
        for norm in ("spectral", "frobenius"):
            for epsilon in (1e-3, 0.3):
                ranks = [int(dln.rank.numerical(W, epsilon, norm)) for W in model.weights]
                assert history.rank(epsilon, norm)[row].tolist() == ranks
    np.testing.assert_allclose(history.tau, 0.1 * 0.01 * 7 * np.arange(4), rtol=1e-14)
    np.testing.assert_allclose(history.retained, 0.999 ** (7 * np.arange(4)), rtol=1e-13)
    assert history.corrected_ranks[0].tolist() == [0, 0]
    own = [
        int(dln.rank.corrected(W, W_0, history.retained[-1], 0.2))
        for W, W_0 in zip(net.weights, start.weights, strict=True)
    ]
    assert history.rank(0.2, corrected=True)[-1].tolist() == own
    assert repr(history).startswith("History(finished: 3 epochs, 21 steps, loss ")
    with pytest.raises(ValueError, match="read-only"):
        history.loss[0] = 0.0


def test_the_source_of_an_order_is_its_seed():
    same = [trained(rng=1)[0].theta for _ in range(2)]
    np.testing.assert_array_equal(*same)
    assert not np.array_equal(same[0], trained(rng=2)[0].theta)
    assert not np.array_equal(same[0], trained(rng=None)[0].theta)
    cyclic = [trained(rng=seed, sampling="cyclic")[0].theta for seed in (1, 2)]
    np.testing.assert_array_equal(*cyclic)


@pytest.mark.parametrize("name", batches.ALL)
def test_orders_of_the_samples(name):
    first, again, other = (batches.ALL[name](23, 5, 7, epoch) for epoch in (0, 0, 1))
    assert first.shape == (4, 5)
    assert first.min() >= 0
    assert first.max() < 23
    np.testing.assert_array_equal(first, again)
    assert np.array_equal(first, other) == (name == "cyclic")
    assert (len(np.unique(first)) == 20) == (name != "replacement")


def test_schedules_say_the_same_in_three_ways():
    rates = [1.0, 0.5, 0.5, 0.1]
    ways = ({1: 0.5, 3: 0.2}, rates, lambda epoch: rates[epoch])
    found = [trained(epochs=4, schedule=way)[1] for way in ways]
    for history in found:
        np.testing.assert_allclose(history.learning_rates, 0.1 * np.array(rates), rtol=1e-14)
        np.testing.assert_allclose(history.loss, found[0].loss, rtol=1e-12)
    assert found[0].tau[-1] == pytest.approx(7 * 0.01 * 0.1 * sum(rates))


@pytest.mark.parametrize("shape", [(1, 8, 8), (8, 8)])
def test_general_layers_learn(shape):
    data = dln.data.digits()
    layers = [Conv2d(8, 3, stride=2, padding=1)] if len(shape) == 3 else [SelfAttention(2)]
    net = Network(shape, [*layers, ReLU(), Flatten(), Dense(10)], rng=0)
    history = train(
        net,
        data.X[:400].reshape(-1, *shape),
        data.y[:400],
        test=(data.X_test.reshape(-1, *shape), data.y_test),
        **{**BASIC, "epochs": 12},
    )
    assert history.train_accuracy[-1] > 0.95
    assert history.test_accuracy[-1] > 0.85


def test_ranks_of_the_digits():
    """Another implementation found the mean ranks 16.4 and 59.6 of the hidden matrices, 3 from seed to seed."""
    data = dln.data.digits()
    for decay, rank, spread in ((4e-3, 16.4, 3.0), (0.0, 59.6, 0.6)):
        net = mlp((64, 64, 64, 64, 64, 10), rng=1)
        options = {"learning_rate": 0.1, "batch_size": 16, "epochs": 150, "weight_decay": decay, "rng": 1}
        history = train(net, data.X, data.y, test=data.test, **options)
        assert history.rank(1e-2, "frobenius")[-1, :4].mean() == pytest.approx(rank, abs=spread)
        assert history.train_accuracy[-1] == 1.0
        assert history.test_accuracy[-1] > 0.96
        assert history.tau[-1] == pytest.approx(0.1 * decay * 150 * 89)


# ----------------------------------------------------------------------------------------------------------
# Ends of a run
# ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
def test_divergence_is_said_and_the_last_whole_epoch_kept(engine):
    net, history = trained(learning_rate=1e6, epochs=200, loss="squared", weight_decay=1.0, engine=engine)
    assert (history.status, history.success) == ("diverged", False)
    assert "smaller learning_rate" in history.message
    assert f"epoch {history.epochs + 1};" in history.message
    assert len(history.loss) == len(history.ranks) == history.epochs + 1
    assert history.steps == 7 * history.epochs
    assert np.isfinite(net.theta).all()
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(history.norms[-1], [np.linalg.norm(W) for W in net.weights])


@pytest.mark.parametrize("every", [1, 10**4])
@pytest.mark.parametrize("engine", ["numpy", "compiled"])
def test_a_certified_run_diverges_like_any_other(engine, every):
    """Weights may be finite while their squares are not: then certificates have nothing to say."""
    for activation, rate in (("relu", 10.0), ("linear", 1000.0)):
        options = {"loss": "squared", "weight_decay": 1e-7, "certify": {"every": every}, "engine": engine}
        net, history = trained(mlp((5, 8, 8, 8, 8, 3), activation, rng=0), learning_rate=rate, **options)
        assert (history.status, history.violation) == ("diverged", None)
        assert np.isfinite(net.theta).all()
        assert len(history.certificates["recursion"]) == history.steps


def test_a_start_that_overflows_has_a_history_of_one_row():
    net = mlp((5, 8, 8, 3), "linear", rng=0)
    net.weights = [1e150 * W for W in net.weights]
    _, history = trained(net)
    assert (history.status, history.epochs, history.steps) == ("diverged", 0, 0)
    assert not np.isfinite(history.loss[0])
    assert history.ranks.shape == (1, 3)


def test_nan_passes_the_activations():
    for activation in dln.nonlinear.activations.ALL:
        net = mlp((5, 8, 3), activation, rng=0)
        rule = losses.ALL["cross_entropy"]
        data = (X, rule.targets(Y, 30, 3), rule, optimizers.SGD(0.0), np.zeros((1, net.theta.size)))
        net.weights[0][:] = np.nan
        for engine in (engines.Plain, engines.Compiled):
            assert len(engine(net, *data).run(np.arange(8).reshape(2, 4), 0.1, 0)) == 0


def interrupting(monkeypatch, at):
    """Ctrl-C in the step number `at`."""
    original, taken = engines.Plain.evaluate, []

    def evaluate(self, batch):
        taken.append(1)
        if len(taken) == at:
            raise KeyboardInterrupt
        return original(self, batch)

    monkeypatch.setattr(engines.Plain, "evaluate", evaluate)


RESUMED = {
    "momentum": {"momentum": 0.9},
    "adam": {"optimizer": "adam", "momentum": 0.9, "decoupled": True},
    "replacement": {"sampling": "replacement"},
    "schedule": {"schedule": lambda epoch: 1 / (1 + epoch)},
}


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("name", RESUMED)
def test_an_interrupted_run_goes_on_to_the_same_bits(monkeypatch, tmp_path, name, batch_norm):
    options = {"engine": "numpy", "epochs": 5, "test": (X, Y), **RESUMED[name]}
    whole, expected = trained(mlp((5, 8, 3), batch_norm=batch_norm, rng=0), **options)
    path = tmp_path / "run.npz"
    with monkeypatch.context() as patch:
        interrupting(patch, 7 * 2 + 4)
        net, history = trained(mlp((5, 8, 3), batch_norm=batch_norm, rng=0), checkpoint=path, **options)
    assert (history.status, history.epochs) == ("interrupted", 2)
    np.testing.assert_array_equal(history.loss, expected.loss[:3])
    with monkeypatch.context() as patch:
        interrupting(patch, 3)
        net, history = trained(mlp((5, 8, 3), batch_norm=batch_norm, rng=0), checkpoint=path, **options)
    assert history.epochs == 2
    net, history = trained(net, checkpoint=path, **options)  # the net where the run left it will do as well
    for other in (net, trained(mlp((5, 8, 3), batch_norm=batch_norm, rng=0), checkpoint=path, **options)[0]):
        np.testing.assert_array_equal(other.theta, whole.theta)
        np.testing.assert_array_equal(other.running, whole.running)
    for found, value in vars(history).items():
        other = vars(expected)[found]
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, other, err_msg=found)
        elif isinstance(value, tuple):
            for a, b in zip(value, other, strict=True):
                np.testing.assert_array_equal(a, b, err_msg=found)
        else:
            assert value == other, found


SCRIPT = """
import sys, numpy as np
from dln.nonlinear import mlp, run, train
run.SAVE_SECONDS = 0.0
data = np.random.default_rng(0)
X, y = data.normal(size=(2000, 20)), data.integers(4, size=2000)
net = mlp((20, 30, 4), rng=0)
options = dict(learning_rate=0.05, batch_size=5, weight_decay=1e-3, momentum=0.5, rng=3, certify={"every": 300})
history = train(net, X, y, epochs=int(sys.argv[2]), checkpoint=sys.argv[1] or None, **options)
found = [np.ravel(slack) for slack in history.certificates.values()]
np.save(sys.argv[3], np.concatenate([net.theta, history.loss, *found]))
"""


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path):
    checkpoint, killed, whole = tmp_path / "run.npz", tmp_path / "a.npy", tmp_path / "b.npy"
    command = [sys.executable, "-c", SCRIPT, str(checkpoint)]
    process = subprocess.Popen(
        [*command, "100000", str(killed)], env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    )
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not killed.exists()
    done = len(np.load(checkpoint)["rates"])
    assert 0 < done < 100000
    for path, target in ((str(checkpoint), killed), ("", whole)):
        subprocess.run([*command[:3], path, str(done + 3), str(target)], check=True, timeout=120)
    np.testing.assert_array_equal(np.load(killed), np.load(whole))


def test_a_checkpoint_serves_one_run_alone(tmp_path):
    path = tmp_path / "run.npz"
    trained(checkpoint=path)
    refused = {
        "batch_size 4 where": {"batch_size": 5},
        "certify": {"certify": True},
        "every": {"every": 2},
        "optimizer": {"momentum": 0.5},
        "sampling": {"sampling": "cyclic"},
        "seed": {"rng": 1},
        "loss": {"loss": "squared"},
        "learning rates": {"learning_rate": 0.2},
        "at least as many epochs": {"epochs": 2},
        "data": {"data": (X + 1, Y)},
        "net": {"net": mlp((5, 7, 3), rng=0)},
        "started elsewhere": {"net": mlp((5, 8, 3), "tanh", rng=5)},
    }
    for message, options in refused.items():
        with pytest.raises(ValueError, match=f"`checkpoint` must belong to this run.*{message}"):
            trained(checkpoint=path, **options)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cannot be read"):
        trained(checkpoint=path)
    with pytest.raises(ValueError, match="a folder that exists"):
        trained(checkpoint=tmp_path / "nowhere" / "run.npz")
    assert os.listdir(tmp_path) == ["run.npz"]


def test_an_unseeded_run_is_resumed_with_its_own_order(tmp_path):
    path = tmp_path / "run.npz"
    net, _ = trained(checkpoint=path, rng=None)
    again, _ = trained(net.copy(), checkpoint=path, rng=None)
    np.testing.assert_array_equal(net.theta, again.theta)
    trained(net, checkpoint=path, rng=None, epochs=5)
    assert len(np.load(path)["rates"]) == 5


def test_the_bar_shows_loss_accuracy_and_ranks(monkeypatch):
    shown = []

    @contextlib.contextmanager
    def bar(visible, title, total):
        assert visible
        assert total == 2
        yield lambda completed, text: shown.append((completed, text))

    monkeypatch.setattr(run, "bar", bar)
    _, history = trained(progress=True, epochs=2)
    assert [completed for completed, _ in shown] == [1.0, 2.0]
    loss, accuracy = history.loss[1], history.train_accuracy[1]
    assert shown[1][1] == f"epoch 1 of 2  loss {loss:.3g}  accuracy {accuracy:.3f}  ranks 5 3"


# ----------------------------------------------------------------------------------------------------------
# Certificates
# ----------------------------------------------------------------------------------------------------------

CERTIFIED = {
    "dense": (lambda: mlp((5, 8, 3), rng=0), (5,), {}),
    "momentum": (lambda: mlp((5, 8, 3), rng=0), (5,), {"momentum": 0.8}),
    "nesterov": (lambda: mlp((5, 8, 3), rng=0), (5,), {"momentum": 0.8, "nesterov": True}),
    "decoupled": (lambda: mlp((5, 8, 3), rng=0), (5,), {"momentum": 0.8, "decoupled": True}),
    "decoupled alone": (lambda: mlp((5, 8, 3), rng=0), (5,), {"decoupled": True}),
    "batch norm": (lambda: mlp((5, 8, 3), batch_norm=True, rng=0), (5,), {"batch_size": 2}),
    "float32": (lambda: mlp((5, 8, 3), rng=0, dtype="float32"), (5,), {}),
    "convolution": (
        lambda: Network((1, 6, 6), [Conv2d(9, 3, stride=3), BatchNorm(), ReLU(), Flatten(), Dense(3)], rng=0),
        (1, 6, 6),
        {"batch_size": 2},
    ),
    "attention": (
        lambda: Network((2, 6), [SelfAttention(), Flatten(), Dense(3)], rng=0),
        (2, 6),
        {"batch_size": 1},
    ),
    "schedule": (lambda: mlp((5, 8, 3), rng=0), (5,), {"schedule": {1: 0.3}}),
}


@pytest.mark.parametrize("name", CERTIFIED)
def test_certificates_hold(name):
    net, shape, options = CERTIFIED[name]
    data = np.random.default_rng(4).normal(size=(30, *shape)), Y
    certify = {"every": 3, "window": 2}
    plain, _ = trained(net(), data, **options)
    net, history = trained(net(), data, certify=certify, **options)
    assert history.success, history.message
    np.testing.assert_array_equal(net.theta, plain.theta)  # looking changes nothing
    assert history.certificates["recursion"].shape == (history.steps, len(net.weights))
    assert len(history.certificates["interlacing"]) == history.steps // 3
    assert min(slack.min() for slack in history.certificates.values()) >= 0
    assert history.violation is None


@pytest.mark.parametrize("engine", [engines.Plain, engines.Compiled])
def test_batch_norm_of_two_samples_leaves_rank_one_to_rounding(engine):
    net, rule = mlp((12, 10, 10, 3), "tanh", batch_norm=True, rng=0), losses.ALL["cross_entropy"]
    samples = np.random.default_rng(1).normal(size=(30, 12))
    memory = np.zeros((1, net.theta.size))
    steps = engine(net, samples, rule.targets(Y, 30, 3), rule, optimizers.SGD(0.0), memory)
    for i in range(0, 30, 2):
        steps.evaluate(np.array([i, i + 1]))
        for p in net.matrices[:2]:
            s = np.linalg.svd(p.gradient, compute_uv=False)
            assert s[1] < 1e-14 * s[0]


def test_every_step_is_certified_and_every_run_has_a_window():
    for engine in ("numpy", "compiled"):
        _, history = trained(certify=True, engine=engine)
        for name in ("recursion", "energy", "gradient_rank"):
            assert history.certificate_steps[name].tolist() == list(range(1, 22))
            assert history.certificates[name].shape == (21, 2)
        assert history.certificate_steps["window"].tolist() == [7]  # at the end of the first epoch
    _, history = trained(certify=True, batch_size=30)
    assert history.certificate_steps["window"].tolist() == [1]
    _, history = trained(certify={"every": 5, "window": 3})
    assert history.certificate_steps["window"].tolist() == [5, 10, 15, 20]


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"batch_norm": True}, {"dtype": "float32"}])
def test_compiled_probes_are_those_of_numpy(options):
    """Steps between windows are watched without their gradients; both loops see the same."""
    made = {"dtype": "float64", "batch_norm": False, **options}
    momentum, found = made.pop("momentum", 0.0), []
    for engine in ("numpy", "compiled"):
        live = []
        net = mlp((5, 8, 7, 3), rng=0, **made)

        class Kept(dln.rank.Certificates):
            def __init__(self, *arguments, live=live, **named):
                super().__init__(*arguments, **named)
                live.append(self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "Certificates", Kept)
            options = {"momentum": momentum, "batch_size": 4, "engine": engine}
            trained(net, certify={"every": 100, "tolerance": 1e-5}, **options)
        found.append(live[0])
    tolerance = 1e-6 if made["dtype"] == "float32" else 1e-12
    for name in ("norms", "gradient_ranks", "learning_rates"):
        np.testing.assert_allclose(*(getattr(live, name) for live in found), rtol=tolerance)
    for name in ("recursion", "energy", "gradient_rank"):
        np.testing.assert_allclose(*(live.slack[name] for live in found), atol=tolerance)
    assert len(found[0].norms) == 22
    assert (
        found[0].gradient_ranks == np.minimum([[4, 4, 3]], 4 - np.array(mlp((5, 8, 7, 3), **made).batch_norm))
    ).all()


def test_rows_of_dead_units_do_not_count():
    """A sample that no unit of the layer sees, or whose signal is zero, adds no rank."""
    net = mlp((5, 8, 3), rng=0)
    net.body.parameters[1].value[:] = -100.0  # every unit of the first layer is off, for every sample
    _, history = trained(net, certify={"every": 100}, epochs=1, engine="compiled", weight_decay=0.0)
    assert (history.certificates["gradient_rank"][:, 0] == 4).all()
    again = mlp((5, 8, 3), rng=0)
    again.body.parameters[1].value[:] = -100.0
    _, plain = trained(again, certify={"every": 100}, epochs=1, engine="numpy", weight_decay=0.0)
    np.testing.assert_array_equal(plain.certificates["gradient_rank"], history.certificates["gradient_rank"])


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
@pytest.mark.parametrize("other", [{"weight_decay": 0.0101}, {"momentum": 0.81}, {"nesterov": True}])
def test_steps_that_are_not_what_was_claimed_are_seen_by_probes(monkeypatch, engine, other):
    """The loop takes steps of one rule, the certificates are told of another."""
    claimed = optimizers.SGD(0.01, 0.8)
    taken = optimizers.SGD(**{"weight_decay": 0.01, "momentum": 0.8, **other})
    original = engines.Plain.__init__

    def swapped(self, net, X, Y, loss, optimizer, memory):
        original(self, net, X, Y, loss, taken if optimizer == claimed else optimizer, memory)

    monkeypatch.setattr(engines.Plain, "__init__", swapped)
    _, history = trained(certify={"every": 100}, momentum=0.8, engine=engine)
    assert (history.status, history.violation.name) == ("violated", "recursion")
    assert history.violation.step <= 2  # in the first, the velocities agree
    assert set(history.violation.evidence) == {"after", "gradient"}
    assert (history.certificates["recursion"][-1] < 0).any()
    assert len(history.certificates["recursion"]) == history.violation.step


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
def test_gradients_that_are_no_product_of_their_factors_are_seen(monkeypatch, engine):
    """A gradient with something added that no sample has given; the step itself is right."""
    original = optimizers.SGD.step

    def step(self, p, gradient, memory, learning_rate, t):
        gradient[3] += 1e-9 * (t == 5)
        original(self, p, gradient, memory, learning_rate, t)

    if engine == "numpy":
        monkeypatch.setattr(optimizers.SGD, "step", step)
        _, history = trained(certify={"every": 100}, engine=engine)
        assert (history.violation.name, history.violation.step, history.violation.layer) == (
            "recursion",
            5,
            "1",
        )
    else:  # X changes between the steps that are watched: the weights do not
        net = mlp((5, 8, 3), "tanh", rng=0)
        live = dln.rank.Certificates(net.weights, offsets=[p.start for p in net.matrices], every=100)
        rule = losses.ALL["cross_entropy"]
        loop = engines.Compiled(
            net, X, rule.targets(Y, 30, 3), rule, optimizers.SGD(0.01), np.zeros((1, net.theta.size))
        )
        drawn = np.arange(8).reshape(2, 4)
        watch = live.watch(2, learning_rate=0.1, weight_decay=0.01, batch_size=4)
        net.theta[3] += 1e-9
        loop.run(drawn, 0.1, 0, watch)
        with pytest.raises(dln.rank.Violation, match="recursion"):
            live.take(1, net.theta, net.gradient)


def test_a_batch_norm_that_does_not_centre_is_seen(monkeypatch):
    original = BatchNorm.backward
    monkeypatch.setattr(BatchNorm, "backward", lambda self, d: original(self, d) + 1e-6)
    _, history = trained(mlp((5, 8, 3), batch_norm=True, rng=0), certify={"every": 100}, engine="numpy")
    assert (history.violation.name, history.violation.step, history.violation.slack) == (
        "gradient_rank",
        1,
        -1.0,
    )


def test_the_energy_of_a_batch_norm_is_seen_at_every_step():
    layers = [Dense(8), BatchNorm(epsilon=0.0), ReLU(), Dense(3)]
    for engine in ("numpy", "compiled"):
        certify = {"every": 100, "batch_norm_tolerance": 1e-12}
        _, history = trained(Network(5, layers, rng=0), certify=certify, engine=engine, batch_size=6)
        assert history.success, history.message
        assert np.isfinite(history.certificates["energy"][:, 0]).all()
        blurred = [Dense(8), BatchNorm(epsilon=1e-3), ReLU(), Dense(3)]
        _, history = trained(Network(5, blurred, rng=0), certify=certify, engine=engine, batch_size=6)
        assert (history.status, history.violation.name) == ("violated", "energy")


@pytest.mark.parametrize("name", [*CERTIFIED, "every"])
def test_a_certified_run_goes_on_to_the_same_bits(monkeypatch, tmp_path, name):
    net, shape, options = CERTIFIED.get(name, (CERTIFIED["dense"][0], (5,), {"every": 2}))
    data = np.random.default_rng(4).normal(size=(30, *shape)), Y
    options = {**options, "epochs": 5, "certify": {"every": 4, "window": 3}}
    whole, expected = trained(net(), data, **options)
    steps, path = expected.steps // 5, tmp_path / "run.npz"
    for at in (2 * steps + 4, 3):  # within windows, and between them
        with monkeypatch.context() as patch:
            interrupting_runs(patch, at)
            _, history = trained(net(), data, checkpoint=path, **options)
        assert history.status == "interrupted"
        assert len(history.certificates["recursion"]) == history.steps
    found, history = trained(net(), data, checkpoint=path, **options)
    np.testing.assert_array_equal(found.theta, whole.theta)
    for certificate, slack in expected.certificates.items():
        np.testing.assert_array_equal(history.certificates[certificate], slack)
        np.testing.assert_array_equal(
            history.certificate_steps[certificate], expected.certificate_steps[certificate]
        )
    np.testing.assert_array_equal(history.measured, expected.measured)
    np.testing.assert_array_equal(history.loss, expected.loss)


def interrupting_runs(monkeypatch, at):
    """Ctrl-C before the step number `at` of the engines, whose pieces are short."""
    taken = []
    for kind in (engines.Plain, engines.Compiled):

        def shortly(self, drawn, *arguments, original=kind.run):
            taken.append(len(drawn))
            if sum(taken) >= at:
                raise KeyboardInterrupt
            return original(self, drawn, *arguments)

        monkeypatch.setattr(kind, "run", shortly)


def test_rows_may_be_rare():
    whole, dense = trained(epochs=7)
    net, rare = trained(epochs=7, every=3)
    np.testing.assert_array_equal(net.theta, whole.theta)
    assert rare.measured.tolist() == [0, 3, 6, 7]
    assert (rare.epochs, rare.steps, len(rare.learning_rates)) == (7, 49, 7)
    for name in ("loss", "train_accuracy", "norms", "tau", "retained", "ranks", "corrected_ranks"):
        np.testing.assert_array_equal(getattr(rare, name), getattr(dense, name)[[0, 3, 6, 7]])


def test_a_longer_run_forgets_the_end_of_the_shorter(tmp_path):
    path = tmp_path / "run.npz"
    _, short = trained(epochs=5, every=3, checkpoint=path)
    assert short.measured.tolist() == [0, 3, 5]
    net, history = trained(epochs=7, every=3, checkpoint=path)
    whole, expected = trained(epochs=7, every=3)
    assert history.measured.tolist() == [0, 3, 6, 7]
    np.testing.assert_array_equal(net.theta, whole.theta)
    np.testing.assert_array_equal(history.loss, expected.loss)


def test_a_violation_stops_the_run_with_its_evidence(monkeypatch):
    original = optimizers.SGD.step

    def step(self, p, gradient, memory, learning_rate, t):
        original(self, p, gradient, memory, learning_rate, t)
        if t == 10:
            p *= 1 + 1e-9

    monkeypatch.setattr(optimizers.SGD, "step", step)
    _, history = trained(certify=True, engine="numpy")
    assert (history.status, history.epochs) == ("violated", 1)
    assert history.violation.name == "recursion"
    assert history.violation.step == 10
    assert history.violation.evidence
    assert "step 10" in history.message
    assert any((slack < 0).any() for slack in history.certificates.values())


@pytest.mark.parametrize(
    "options", [{"optimizer": "adam"}, {"decoupled": True, "nesterov": True, "momentum": 0.5}]
)
def test_certificates_end_where_the_theorem_does(options):
    with pytest.raises(ValueError, match="`certify` must be False for"):
        trained(certify=True, **options)


def test_adam_adds_more_rank_than_its_gradients_have():
    ranks = {}
    for optimizer in ("sgd", "adam"):
        net = mlp((24, 24), "linear", bias=False, rng=0)
        start = net.weights[0].copy()
        samples, targets = np.random.default_rng(0).normal(size=(2, 2, 24))
        train(
            net, samples, targets, loss="squared", optimizer=optimizer, momentum=0.9, decoupled=True,
            sampling="cyclic", **{**BASIC, "batch_size": 1, "epochs": 1, "weight_decay": 0.0},
        )  # fmt: skip
        ranks[optimizer] = np.linalg.matrix_rank(net.weights[0] - start, tol=1e-10)
    assert ranks["sgd"] == 2
    assert ranks["adam"] > 2


# ----------------------------------------------------------------------------------------------------------
# Bad input
# ----------------------------------------------------------------------------------------------------------

BAD = {
    "`learning_rate` must be positive": {"learning_rate": 0.0},
    "`learning_rate` must be positive, got nan": {"learning_rate": np.nan},
    "`batch_size` must be at least 1": {"batch_size": 0},
    "`batch_size` must be at most the number of samples, 30": {"batch_size": 31},
    "`batch_size` must be at least 2 with batch norm": {
        "batch_size": 1,
        "net": mlp((5, 4, 3), batch_norm=True, rng=0),
    },
    "`epochs` must be at least 1": {"epochs": 0},
    "`weight_decay` must be zero or positive": {"weight_decay": -1.0},
    r"`momentum` must be in \[0, 1\)": {"momentum": 1.0},
    "`nesterov` must come with momentum": {"nesterov": True},
    "`nesterov` must be False with Adam": {"nesterov": True, "momentum": 0.5, "optimizer": "adam"},
    "`decoupled` must be True or False": {"decoupled": 1},
    "`optimizer` must be one of": {"optimizer": "lion"},
    "`sampling` must be one of": {"sampling": "random"},
    "`loss` must be one of": {"loss": "hinge"},
    "`engine` must be one of": {"engine": "cuda"},
    r"`schedule\[1\]` must be positive": {"schedule": [1.0, 0.0, 1.0]},
    "`schedule` must be a function, a mapping or a factor for each of 3": {"schedule": [1.0]},
    "`schedule` must be a function": {"schedule": 0.5},
    "`schedule` must be an integer": {"schedule": {"later": 0.5}},
    "`test` must be a pair": {"test": X},
    r"`test\[1\]` must hold labels": {"test": (X, Y + 1)},
    "`y` must hold labels 0 .. 2": {"data": (X, Y - 1)},
    "`X` must be finite": {"data": (np.where(X.max() - 1e-9 < X, np.inf, X), Y)},
    "`X` must have samples of shape": {"data": (X[:, :4], Y)},
    "`rng` must be": {"rng": "seed"},
    "`certify` must be True or False": {"certify": "yes"},
    "`certify` must be one of": {"certify": {"often": 3}},
    "`learning_rate` times `weight_decay` must be below 1": {
        "certify": True,
        "schedule": {2: 100.0},
        "weight_decay": 0.2,
    },
    "`window` must be at most 3": {"certify": {"every": 3, "window": 4}},
    "`every` must be at least 1": {"every": 0},
    "`progress` must be True or False": {"progress": 1},
    "`net` must be a Network": {"net": [X]},
    "`net` must have a weight matrix": {"net": Network(5, [ReLU()])},
    r"`y` must fit float32": {
        "net": mlp((5, 3), dtype="float32"),
        "data": (X, 1e100 * X[:, :3]),
        "loss": "squared",
    },
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_refused(message, monkeypatch):
    monkeypatch.setattr(run.Run, "history", lambda *_: pytest.fail("something was computed"))
    with pytest.raises((ValueError, TypeError), match=message):
        trained(**BAD[message])


def test_weights_that_are_not_finite_are_refused():
    net = mlp((5, 3), rng=0)
    net.theta[0] = np.inf
    with pytest.raises(ValueError, match="`net` must have finite parameters"):
        trained(net)


def test_every_option_is_documented():
    text = train.__doc__
    for name in inspect.signature(train).parameters:
        assert f"    {name} : " in text or f"{name}, " in text, name
