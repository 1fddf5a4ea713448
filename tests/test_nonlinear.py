"""Layers, losses and networks: finite differences, other implementations, ranks of gradients, bad input."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate2d

import dln
from dln.nonlinear import (
    GELU,
    AveragePool,
    BatchNorm,
    Conv2d,
    Dense,
    Flatten,
    Identity,
    Layer,
    LeakyReLU,
    Network,
    Parameter,
    ReLU,
    Residual,
    SelfAttention,
    Tanh,
    activations,
    conv,
    losses,
    mlp,
    residual,
    train,
)

# name -> (shape of a sample, layers); every layer of the package is in one of them
NETS = {
    "dense": ((4,), [Dense(5), ReLU(), Dense(3)]),
    "no bias": ((4,), [Dense(5, bias=False), LeakyReLU(0.2), Dense(3, bias=False)]),
    "smooth": ((4,), [Dense(4), Tanh(), Dense(4), GELU(), Dense(3), Identity()]),
    "batch norm": ((4,), [Dense(5), BatchNorm(), ReLU(), Dense(3)]),
    "convolution": ((2, 6, 5), [Conv2d(3, 3, stride=2, padding=1), Tanh(), Flatten(), Dense(3)]),
    "two convolutions": (
        (1, 7, 7),
        [Conv2d(2, 3, padding=1), BatchNorm(), GELU(), Conv2d(2, 2, stride=3), Flatten(), Dense(3)],
    ),
    "pooling": ((2, 4, 6), [Conv2d(2, 1, bias=False), AveragePool(2), Flatten(), Dense(3)]),
    "residual": (
        (4,),
        [Residual([Dense(4), Tanh(), Dense(4)]), Residual([Dense(3)], [Dense(3, bias=False)])],
    ),
    "attention": ((3, 4), [SelfAttention(), Dense(2), Flatten(), Dense(3)]),
    "two heads": ((3, 4), [Residual([SelfAttention(heads=2)]), Flatten(), Dense(3)]),
}


def made(name, dtype="float64"):
    shape, layers = NETS[name]
    return Network(shape, layers, rng=0, dtype=dtype)


def batch(net, samples=6, seed=1, loss="cross_entropy"):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(samples, *net.shape))
    q = net.outputs
    return X, rng.integers(q, size=samples) if loss == "cross_entropy" else rng.normal(size=(samples, q))


def test_every_layer_is_tested():
    classes = {getattr(dln.nonlinear, name) for name in dln.nonlinear.__all__}
    layers = {thing for thing in classes if isinstance(thing, type) and issubclass(thing, Layer)}
    used, waiting = set(), [layer for _, layers in NETS.values() for layer in layers]
    while waiting:
        layer = waiting.pop()
        used.add(type(layer))
        waiting += [*getattr(layer, "body", ()), *getattr(layer, "shortcut", ())]
    assert layers - used == {Layer, dln.nonlinear.Activation}
    assert {type(phi()) for phi in activations.ALL.values()} <= used


@pytest.mark.parametrize("loss", losses.ALL)
@pytest.mark.parametrize("name", NETS)
def test_gradients_agree_with_finite_differences(name, loss):
    net = made(name)
    X, y = batch(net, loss=loss)
    value, gradients = net.loss_and_gradients(X, y, loss)
    gradient, h = net.gradient.copy(), 1e-3
    assert np.concatenate([G.ravel() for G in gradients]).size == sum(W.size for W in net.weights)
    for i in range(len(net.theta)):
        start, found = net.theta[i], []
        for k in (-2, -1, 1, 2):
            net.theta[i] = start + k * h
            found.append(net.loss_and_gradients(X, y, loss)[0])
        net.theta[i] = start
        slope = (found[0] - 8 * found[1] + 8 * found[2] - found[3]) / (12 * h)
        assert gradient[i] == pytest.approx(slope, abs=2e-10, rel=1e-8), i
    assert value == net.loss_and_gradients(X, y, loss)[0]


@pytest.mark.parametrize("name", [name for name, (_, layers) in NETS.items() if "norm" not in name])
def test_a_sample_gives_a_gradient_of_rank_at_most_its_uses(name):
    net = made(name)
    if len(net.running):
        with pytest.raises(ValueError, match="per_sample"):
            net.loss_and_gradients(*batch(net), per_sample=True)
        return
    X, y = batch(net)
    values, each = net.loss_and_gradients(X, y, per_sample=True)
    value, mean = net.loss_and_gradients(X, y)
    assert values.mean() == pytest.approx(value, rel=1e-14)
    for m, G_i, G in zip(net.uses, each, mean, strict=True):
        np.testing.assert_allclose(G_i.mean(axis=0), G, atol=1e-15)
        s = np.linalg.svd(G_i, compute_uv=False)
        ranks = (s > 1e-13 * s[:, :1]).sum(axis=1)
        assert ranks.max() <= min(m, *G.shape)


class Twice(Layer):
    """W a + tanh(W b) of samples (a, b): a layer of one's own, whose matrix is used twice."""

    def bind(self, shape):
        n = shape[1]
        self.parameters = [Parameter("weight", (n, n), bound=1.0, uses=self.uses(shape))]
        return (n,)

    def uses(self, shape):
        return 2

    def forward(self, x, training):
        z = x @ self.parameters[0].value.T
        self.memory = x, np.tanh(z[:, 1])
        return z[:, 0] + self.memory[1]

    def backward(self, d):
        x, t = self.memory
        delta = np.stack([d, d * (1 - t**2)], axis=1)
        self.parameters[0].gradient[:] = np.einsum("bui,buj->ij", delta, x)
        return delta @ self.parameters[0].value


def test_a_layer_of_ones_own_is_one_class():
    net = Network((2, 6), [Twice(), ReLU(), Dense(3)], rng=0)
    X, y = batch(net, 9)
    assert net.uses == [2, 1]
    net.loss_and_gradients(X, y)
    gradient, theta = net.gradient.copy(), net.theta.copy()
    D, values = np.random.default_rng(0).normal(size=theta.shape) / 10, []
    for h in (-2e-3, -1e-3, 1e-3, 2e-3):
        net.theta[:] = theta + h * D
        values.append(net.loss_and_gradients(X, y)[0])
    assert gradient @ D == pytest.approx(
        (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / 12e-3, rel=1e-9
    )
    net.theta[:] = theta
    _, (each, _) = net.loss_and_gradients(X, y, per_sample=True)
    assert [np.linalg.matrix_rank(G) for G in each] == [2] * 9
    options = {"learning_rate": 0.1, "batch_size": 2, "epochs": 5, "weight_decay": 0.1, "rng": 0}
    history = train(net, X, y, certify={"every": 2}, **options)
    assert history.success, history.message
    assert history.certificates["gradient_rank"].min() >= 0


def test_uses_are_counted():
    assert made("convolution").uses == [9, 1]
    assert made("two convolutions").uses == [49, 4, 1]
    assert made("attention").uses == [3] * 5 + [1]
    for size in range(3, 9):
        for stride in (1, 2, 3):
            for padding in (0, 1):
                windows = len(range(0, size + 2 * padding - 3 + 1, stride))
                assert Conv2d(1, 3, stride, padding).uses((1, size, size)) == windows**2
    assert made("batch norm").batch_norm == [True, False]
    assert made("two convolutions").batch_norm == [True, False, False]


def test_convolution_is_that_of_scipy():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2, 3, 7, 8))
    net = Network((3, 7, 8), [Conv2d(4, 3, stride=2, padding=1), Flatten()], rng=1)
    kernels, bias = net.weights[0].reshape(4, 3, 3, 3), net.body.parameters[1].value
    padded = np.pad(X, ((0, 0), (0, 0), (1, 1), (1, 1)))
    for sample, found in zip(padded, net(X).reshape(2, 4, 4, 4), strict=True):
        for kernel, b, image in zip(kernels, bias, found, strict=True):
            whole = sum(correlate2d(x, k, mode="valid") for x, k in zip(sample, kernel, strict=True)) + b
            np.testing.assert_allclose(image, whole[::2, ::2], atol=1e-14)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_convolution_has_the_gradients_and_ranks_of_its_patches(data):
    kernel = data.draw(st.integers(1, 4))
    layer = Conv2d(
        data.draw(st.integers(1, 3)), kernel, data.draw(st.integers(1, 3)), data.draw(st.integers(0, 2))
    )
    shape = (data.draw(st.integers(1, 3)), *(data.draw(st.integers(kernel, 7)) for _ in range(2)))
    net = Network(shape, [layer, Tanh(), Flatten()], rng=0)
    X, y = batch(net, 2, loss="squared")
    _, (G,) = net.loss_and_gradients(X, y, "squared")
    _, (each,) = net.loss_and_gradients(X, y, "squared", per_sample=True)
    assert np.linalg.matrix_rank(each[0]) <= min(net.uses[0], *G.shape)
    D, W = np.random.default_rng(2).normal(size=G.shape), net.weights[0].copy()
    D, values = D / np.linalg.norm(D), []
    for h in (-1e-3, -5e-4, 5e-4, 1e-3):
        net.weights = [W + h * D]
        values.append(net.loss_and_gradients(X, y, "squared")[0])
    slope = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / 6e-3
    assert np.sum(G * D) == pytest.approx(slope, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_by_its_definition_and_the_ranks_of_its_gradients(heads):
    net = Network((5, 8), [SelfAttention(heads), Flatten()], rng=0)
    (x,) = X = np.random.default_rng(1).normal(size=(1, 5, 8))
    Q, K, V, O = net.weights
    mixed = []
    for h in np.split(np.arange(8), heads):
        scores = np.exp((x @ Q[h].T) @ (x @ K[h].T).T / np.sqrt(8 / heads))
        mixed.append(scores / scores.sum(axis=1, keepdims=True) @ x @ V[h].T)
    np.testing.assert_allclose(net(X).reshape(5, 8), np.hstack(mixed) @ O.T, atol=1e-14)
    _, gradients = net.loss_and_gradients(X, np.ones((1, 40)), "squared")
    ranks = [np.linalg.matrix_rank(G, tol=1e-12 * np.linalg.norm(G)) for G in gradients]
    # softmax does not see constants: one token is lost for the keys, and with one head for the queries
    assert ranks[1] == 4
    assert ranks[0] == (4 if heads == 1 else 5)
    assert max(ranks) <= 5


def test_batch_norm_takes_one_rank_and_the_scale():
    net = Network(8, [Dense(9), BatchNorm(epsilon=0.0), Tanh(), Dense(3)], rng=0)
    X, y = batch(net, 5)
    value, (G, _) = net.loss_and_gradients(X, y)
    s = np.linalg.svd(G, compute_uv=False)
    assert (s > 1e-13 * s[0]).sum() == 4
    assert abs(np.sum(G * net.weights[0])) < 1e-14 * np.linalg.norm(G) * np.linalg.norm(net.weights[0])
    net.weights[0][:] *= 3.0
    assert net.loss_and_gradients(X, y)[0] == pytest.approx(value, rel=1e-13)


def test_batch_norm_keeps_running_statistics_for_evaluation():
    net = Network(3, [BatchNorm(momentum=0.25)])
    X = np.random.default_rng(0).normal(2.0, 3.0, size=(10, 3))
    net.loss_and_gradients(X, X, "squared")
    np.testing.assert_array_equal(net.running, [0, 0, 0, 1, 1, 1])  # asking for a gradient changes nothing
    net.body.forward(X, True)
    mean, variance = 0.25 * X.mean(axis=0), 0.75 + 0.25 * X.var(axis=0, ddof=1)
    np.testing.assert_allclose(net.running, [*mean, *variance], rtol=1e-14)
    np.testing.assert_allclose(net(X), (X - mean) / np.sqrt(variance + 1e-5), rtol=1e-13)


@pytest.mark.parametrize("loss", losses.ALL)
def test_losses_by_their_definitions(loss):
    net, (X, y) = made("dense"), batch(made("dense"))
    F = net(X)
    P = np.exp(F) / np.exp(F).sum(axis=1, keepdims=True)
    by_hand = {
        "cross_entropy": -np.log(P[np.arange(6), y]).mean(),
        "squared": 0.5 * ((F - np.eye(3)[y]) ** 2).sum(axis=1).mean(),
    }
    assert net.loss_and_gradients(X, y, loss)[0] == pytest.approx(by_hand[loss], rel=1e-14)
    shift = losses.ALL["cross_entropy"].values(F + 1e4, np.eye(3)[y])
    np.testing.assert_allclose(shift, -np.log(P[np.arange(6), y]), rtol=1e-8)


def test_the_last_layer_of_cross_entropy_loses_one_rank():
    net, (X, y) = mlp((9, 8, 6), rng=0), batch(mlp((9, 8, 6), rng=0), 20)
    G = net.loss_and_gradients(X, y)[1][-1]
    assert np.abs(G.sum(axis=0)).max() < 1e-16
    assert np.linalg.matrix_rank(G) == 5


def test_a_linear_net_is_the_product_of_its_matrices():
    net = mlp((4, 6, 5, 3), "linear", bias=False, rng=0)
    X = np.random.default_rng(0).normal(size=(7, 4))
    np.testing.assert_allclose(net(X), X @ dln.network.end_to_end(net.weights).T, atol=1e-15)


def test_hidden_units_may_be_permuted_and_rescaled():
    net, (X, y) = mlp((4, 6, 3), bias=False, rng=0), batch(mlp((4, 6, 3), rng=0))
    value, (G_1, G_2) = net.loss_and_gradients(X, y)
    order, c = np.random.default_rng(2).permutation(6), 2.0 ** np.arange(6)
    W_1, W_2 = net.weights
    net.weights = [W_1[order] * c[:, None], W_2[:, order] / c]
    again, (H_1, H_2) = net.loss_and_gradients(X, y)
    assert again == pytest.approx(value, rel=1e-14)
    np.testing.assert_allclose(H_1, G_1[order] / c[:, None], atol=1e-16)
    np.testing.assert_allclose(H_2, G_2[:, order] * c, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", NETS)
def test_float32_is_float64_rounded(name):
    double, single = made(name), made(name, "float32")
    X, y = batch(double)
    a, G = double.loss_and_gradients(X, y)
    b, H = single.loss_and_gradients(X, y)
    assert single(X).dtype == single.gradient.dtype == H[0].dtype == np.float32
    assert b == pytest.approx(a, rel=1e-5)
    for g, h in zip(G, H, strict=True):
        np.testing.assert_allclose(h, g, atol=2e-6 * max(1.0, np.abs(g).max()))


def test_weights_are_views_and_copies_are_not():
    net, layers = made("batch norm"), NETS["batch norm"][1]
    assert not layers[0].parameters  # the caller's layers are left alone
    X, y = batch(net)
    before = net(X)
    other, thawed = net.copy(), pickle.loads(pickle.dumps(net))
    net.weights[0][:] = 0.0
    assert (net.theta[:20] == 0).all()
    for same in (other, thawed, copy.deepcopy(other)):
        np.testing.assert_array_equal(same(X), before)
        same.weights[0][:] *= 2.0
        assert not np.array_equal(same(X), before)
        same.loss_and_gradients(X, y)
        np.testing.assert_array_equal(same.gradient[:20].reshape(5, 4), same.body.parameters[0].gradient)
    net.weights = other.weights
    np.testing.assert_array_equal(net.weights[0], other.weights[0])
    assert [net.theta[p.start] for p in net.matrices] == [W[0, 0] for W in net.weights]


def test_one_layer_in_two_places_is_two_layers():
    phi, dense = Tanh(), Dense(4)
    net = Network(4, [dense, phi, Residual([dense, phi, dense, phi]), phi], rng=0)
    apart = Network(4, [Dense(4), Tanh(), Residual([Dense(4), Tanh(), Dense(4), Tanh()]), Tanh()], rng=0)
    X, y = batch(net)
    net.loss_and_gradients(X, y)
    apart.loss_and_gradients(X, y)
    np.testing.assert_array_equal(net.gradient, apart.gradient)


def test_the_start_is_that_of_pytorch():
    net = mlp((100, 400, 10), rng=0)
    for p, fan_in in zip(net.body.parameters, (100, 100, 400, 400), strict=True):
        bound = fan_in**-0.5
        assert abs(p.value).max() <= bound
        assert p.value.std() == pytest.approx(bound / 3**0.5, rel=0.4 if p.size < 100 else 0.1)
    np.testing.assert_array_equal(net.theta, mlp((100, 400, 10), rng=0).theta)
    assert not np.array_equal(net.theta, mlp((100, 400, 10), rng=1).theta)


def test_builders_put_the_layers_in_order():
    kinds = [type(layer).__name__ for layer in conv((1, 8, 8), (4, 8), 10, batch_norm=True).body.layers]
    assert kinds == ["Conv2d", "BatchNorm", "ReLU"] * 2 + ["Flatten", "Dense"]
    net = residual(6, 5, 2, 3, activation="tanh", batch_norm=True, rng=0)
    assert [W.shape for W in net.weights] == [(5, 6)] + [(5, 5)] * 4 + [(3, 5)]
    assert net.batch_norm == [True, True, False, True, False, False]
    X, y = batch(net)
    assert np.isfinite(net.loss_and_gradients(X, y)[0])


BAD = {
    "layers chain": (lambda: Network(4, [AveragePool(2)]), "`layers` must chain: AveragePool"),
    "kernel too large": (
        lambda: Network((1, 2, 2), [Conv2d(1, 3), Flatten()]),
        "not smaller than the kernel",
    ),
    "heads": (lambda: Network((3, 4), [SelfAttention(3), Flatten()]), "multiple of the heads"),
    "shortcut": (lambda: Network(4, [Residual([Dense(3)])]), "both branches"),
    "norm of tokens": (lambda: Network((3, 4), [BatchNorm(), Flatten()]), "BatchNorm"),
    "no vector": (lambda: Network((3, 4), [Dense(2)]), "Put Flatten"),
    "layers": (lambda: Network(4, None), "must be a sequence of layers"),
    "channels": (lambda: conv((1, 8, 8), 8, 10), "`channels` must be a sequence"),
    "no layer": (lambda: Network(4, [np.tanh]), "must hold layers"),
    "shape": (lambda: Network(0, [Dense(2)]), "`shape` must be at least 1"),
    "width": (lambda: Dense(0), "`width` must be at least 1"),
    "stride": (lambda: Conv2d(2, 3, stride=0), "`stride` must be at least 1"),
    "slope": (lambda: LeakyReLU(-1.0), "`alpha` must be zero or positive"),
    "activation": (lambda: mlp((2, 2), "swish"), "`activation` must be one of"),
    "dtype": (lambda: mlp((2, 2), dtype="float16"), "`dtype` must be one of"),
    "rng": (lambda: mlp((2, 2), rng=-1), "`rng` must be at least 0"),
    "samples": (lambda: mlp((3, 2))([[1.0, 2.0]]), "samples of shape"),
    "nan": (lambda: mlp((2, 2))([[1.0, np.nan]]), "`X` must be finite"),
    "float32": (lambda: mlp((2, 2), dtype="float32")([[1.0, 1e300]]), "`X` must fit float32, got 1e.300"),
    "momentum": (lambda: BatchNorm(momentum=1.5), "`momentum` must be at most 1"),
    "label": (lambda: mlp((2, 2)).loss_and_gradients([[1.0, 2.0]], [2]), "labels 0 .. 1, got 2 at index 0"),
    "half a label": (lambda: mlp((2, 2)).loss_and_gradients([[1.0, 2.0]], [0.5]), "labels 0 .. 1, got 0.5"),
    "how many labels": (lambda: mlp((2, 2)).loss_and_gradients([[1.0, 2.0]], [0, 1]), "must have 1 labels"),
    "targets": (lambda: mlp((2, 3)).loss_and_gradients([[1.0, 2.0]], [[1.0]], "squared"), r"shape \(1, 3\)"),
    "loss": (lambda: mlp((2, 2)).loss_and_gradients([[1.0, 2.0]], [1], "hinge"), "`loss` must be one of"),
    "one sample": (
        lambda: mlp((2, 2, 2), batch_norm=True).loss_and_gradients([[1.0, 2.0]], [1]),
        "`batch_size` must be at least 2",
    ),
    "how many weights": (lambda: setattr(mlp((2, 2)), "weights", []), "must hold 1 matrices, got 0"),
    "weights": (lambda: setattr(mlp((2, 2)), "weights", [np.eye(3)]), r"`weights\[0\]` must have shape"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name):
    call, message = BAD[name]
    with pytest.raises((ValueError, TypeError), match=message):
        call()
