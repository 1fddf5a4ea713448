"""A network: layers, and one vector that holds all their parameters."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import checks
from ..typing import RNG, ArrayLike
from . import losses
from .layer import Chain, Layer, Parameter, Shape

__all__ = ["DTYPES", "Network"]

DTYPES = ("float64", "float32")
ROWS = 512  # samples that `__call__` handles at a time


class Network:
    """A network of layers from samples of one shape to vectors.

    Parameters
    ----------
    shape : int or sequence of int
        Shape of one sample: the number of inputs, (channels, height, width) of an image, or (tokens, d).
    layers : sequence of Layer
        From the input on; they are copied. The last must give a vector.
    rng : None, int, SeedSequence or Generator
        Source of the start, which is uniform within 1/sqrt(fan in) for matrices and biases, as in PyTorch.
    dtype : str
        "float64" or "float32".

    Attributes
    ----------
    theta, gradient : ndarray
        All parameters, and their latest gradient, each as one vector in the order of the layers.
    running : ndarray
        Running means and variances of the batch norms.
    outputs : int
        Length q of what comes out.

    Raises
    ------
    ValueError, TypeError
        If the layers do not chain; the message says which shape met which layer.

    Examples
    --------
    >>> from dln.nonlinear import Conv2d, Dense, Flatten, ReLU
    >>> net = Network((1, 8, 8), [Conv2d(4, 3, stride=2, padding=1), ReLU(), Flatten(), Dense(10)], rng=0)
    >>> [W.shape for W in net.weights], net.uses
    ([(4, 9), (10, 64)], [16, 1])
    """

    def __init__(
        self, shape: int | Sequence[int], layers: Sequence[Layer], *, rng: RNG = None, dtype: str = "float64"
    ) -> None:
        sides = (shape,) if np.ndim(shape) == 0 else tuple(shape)  # type: ignore[arg-type]
        self.shape: Shape = tuple(checks.integer(n, "shape", least=1, most=checks.MOST) for n in sides)
        self.dtype = np.dtype(checks.one_of(dtype, "dtype", DTYPES))
        self.body = Chain(layers)
        behind = self.body.bind(self.shape)
        if len(behind) != 1:
            raise ValueError(f"`layers` must end in a vector, got samples {behind}. Put Flatten() behind.")
        self.outputs = behind[0]
        self.theta, self.running = (
            np.zeros(sum(p.size for p in part), dtype=self.dtype)
            for part in (self.body.parameters, self.body.running)
        )
        self._attach()
        random = checks.generator(rng)
        for p in (*self.body.parameters, *self.body.running):
            p.value[...] = p.fill + (random.uniform(-p.bound, p.bound, p.shape) if p.bound else 0.0)

    def _attach(self) -> None:
        """Make the arrays of the parameters views of the vectors."""
        self.gradient = np.zeros_like(self.theta)
        for parameters, values, gradients in (
            (self.body.parameters, self.theta, self.gradient),
            (self.body.running, self.running, self.running),
        ):
            end = 0
            for p in parameters:
                p.start, end = end, end + p.size
                p.value = values[p.start : end].reshape(p.shape)
                p.gradient = gradients[p.start : end].reshape(p.shape)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "gradient"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._attach()

    def copy(self) -> Network:
        """The same network with parameters of its own."""
        return copy.deepcopy(self)

    def __repr__(self) -> str:
        return f"Network({self.shape}, {list(self.body.layers)!r}, dtype={self.dtype.name!r})"

    @property
    def matrices(self) -> list[Parameter]:
        """The parameters that are weight matrices."""
        return [p for p in self.body.parameters if p.uses]

    @property
    def weights(self) -> list[Any]:
        """The weight matrices [W_1, ..]: views, so that writing into them changes the net. Biases are not among them.

        A convolution's is (c_out, c_in * kernel^2), its kernels flattened. Assigning a list sets all of them.
        """
        return [p.value for p in self.matrices]

    @weights.setter
    def weights(self, values: Sequence[ArrayLike]) -> None:
        matrices = self.matrices
        if len(values) != len(matrices):
            raise ValueError(
                f"`weights` must hold {len(matrices)} matrices, got {len(values)}. One for each of net.weights."
            )
        new = [
            self.cast(checks.array(W, f"weights[{l}]", shape=p.shape), f"weights[{l}]")
            for l, (W, p) in enumerate(zip(values, matrices, strict=True))
        ]
        for p, W in zip(matrices, new, strict=True):
            p.value[...] = W

    @property
    def uses(self) -> list[int]:
        """How often each weight matrix is used in one sample: the m_l of the rank bound."""
        return [p.uses for p in self.matrices]

    @property
    def batch_norm(self) -> list[bool]:
        """For each weight matrix, whether a batch norm takes what it gives."""
        return [p.batch_norm for p in self.matrices]

    def __call__(self, X: ArrayLike) -> Any:
        """Outputs (N, q) of samples (N, ..), in evaluation: batch norms use their running statistics.

        Raises
        ------
        ValueError, TypeError
            If `X` does not hold finite samples of the net's shape.
        """
        return self.outputs_of(self.samples(X))

    def samples(self, X: ArrayLike, name: str = "X") -> Any:
        """Checked samples in the numbers of the net."""
        values = checks.array(X, name)
        if values.shape[1:] != self.shape:
            raise ValueError(
                f"`{name}` must have samples of shape {self.shape}, got {values.shape}. "
                "The samples stand along the first axis; reshape them."
            )
        return self.cast(values, name)

    def cast(self, values: Any, name: str) -> Any:
        """Finite values in the numbers of the net, which they must fit."""
        with np.errstate(over="ignore"):
            cast = values.astype(self.dtype, copy=False)
        if not np.isfinite(cast).all():
            raise ValueError(
                f"`{name}` must fit {self.dtype}, got {np.abs(values).max():g}. Rescale it, or take float64."
            )
        return cast

    def outputs_of(self, X: Any) -> Any:
        """Outputs of checked samples."""
        parts = [self.body.forward(X[i : i + ROWS], False) for i in range(0, len(X), ROWS)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def backpropagate(self, X: Any, Y: Any, loss: losses.Loss) -> float:
        """Loss of a checked batch in training; its gradient is left in `gradient`."""
        F = self.body.forward(X, True)
        self.body.backward(loss.gradient(F, Y))
        return float(loss.values(F, Y).mean())

    def loss_and_gradients(
        self, X: ArrayLike, y: ArrayLike, loss: str = "cross_entropy", *, per_sample: bool = False
    ) -> tuple[Any, list[Any]]:
        """Loss of a batch in training, and its gradients with respect to the weight matrices.

        Without weight decay. `gradient` then holds those of all parameters as one vector.

        Parameters
        ----------
        X : array_like, shape (N, ...)
            Samples.
        y : array_like
            Labels (N,), or targets (N, q) for the squared loss.
        loss : str
            "cross_entropy" or "squared", both the mean over the batch.
        per_sample : bool
            Give the loss and the gradients of every sample alone.

        Returns
        -------
        loss : float, or ndarray of shape (N,)
        gradients : list of ndarray, each of the shape of its weight matrix, or (N, ...) with `per_sample`

        Raises
        ------
        ValueError, TypeError
            If the data do not fit the net, or `per_sample` is asked of a net with batch norm, where a sample alone has
            no loss.

        Examples
        --------
        >>> from dln.nonlinear import mlp
        >>> net = mlp((2, 3, 2), rng=0)
        >>> value, gradients = net.loss_and_gradients([[1.0, 2.0]], [0])
        >>> [G.shape for G in gradients]
        [(3, 2), (2, 3)]
        """
        rule = losses.ALL[checks.one_of(loss, "loss", losses.ALL)]
        samples = self.samples(X)
        targets = self.cast(rule.targets(y, len(samples), self.outputs), "y")
        if checks.flag(per_sample, "per_sample"):
            if len(self.running):
                raise ValueError(
                    "`per_sample` must be False with batch norm, got True. Its batch has one loss, not one a sample."
                )
            parts = [self.try_out(samples[i : i + 1], targets[i : i + 1], rule) for i in range(len(samples))]
            values, gradients = zip(*parts, strict=True)
            return np.array(values), [np.stack(G) for G in zip(*gradients, strict=True)]
        return self.try_out(samples, targets, rule)

    def try_out(self, X: Any, Y: Any, rule: losses.Loss) -> tuple[float, list[Any]]:
        """Loss of a checked batch in training and gradients of the matrices; running statistics stay."""
        before = self.running.copy()
        value = self.backpropagate(X, Y, rule)
        self.running[:] = before
        return value, [p.gradient.copy() for p in self.matrices]
