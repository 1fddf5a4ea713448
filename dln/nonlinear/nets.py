"""Networks by name: fully connected, convolutional, residual."""

from __future__ import annotations

from collections.abc import Sequence

from .. import checks
from ..typing import RNG
from . import activations
from .layer import Layer
from .layers import BatchNorm, Conv2d, Dense, Flatten, Residual
from .network import Network

__all__ = ["conv", "mlp", "residual"]


def mlp(
    widths: Sequence[int],
    activation: str = "relu",
    batch_norm: bool = False,
    *,
    bias: bool = True,
    rng: RNG = None,
    dtype: str = "float64",
) -> Network:
    r"""A fully connected network, :math:`W_L \phi(\cdots \phi(W_1 x + b_1) \cdots) + b_L`.

    Parameters
    ----------
    widths : sequence of int
        (n_0, .., n_L).
    activation : str
        "relu", "leaky_relu", "tanh", "gelu" or "linear".
    batch_norm : bool
        Put a batch norm between each hidden matrix and its activation.
    bias : bool
        Whether the layers have biases.
    rng : None, int, SeedSequence or Generator
        Source of the start: uniform within 1/sqrt(n_in), as in PyTorch. Set ``net.weights`` for another.
    dtype : str
        "float64" or "float32".

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong.

    Examples
    --------
    >>> net = mlp((64, 32, 10), rng=0)
    >>> [W.shape for W in net.weights], net.uses
    ([(32, 64), (10, 32)], [1, 1])
    """
    n = checks.widths(widths)
    behind = _behind(activation, batch_norm)
    layers = [layer for width in n[1:-1] for layer in (Dense(width, bias), *behind)]
    return Network(n[0], [*layers, Dense(n[-1], bias)], rng=rng, dtype=dtype)


def conv(
    shape: Sequence[int],
    channels: Sequence[int],
    outputs: int,
    *,
    kernel: int = 3,
    stride: int = 2,
    padding: int = 1,
    activation: str = "relu",
    batch_norm: bool = False,
    rng: RNG = None,
    dtype: str = "float64",
) -> Network:
    """A convolutional network: one convolution for each entry of `channels`, then a dense layer.

    Parameters
    ----------
    shape : sequence of int
        (channels, height, width) of a sample.
    channels : sequence of int
        Channels behind each convolution.
    outputs : int
        Length of what comes out.
    kernel, stride, padding : int
        Of every convolution.
    activation, batch_norm, rng, dtype
        As in `mlp`.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong, or an image becomes smaller than the kernel.

    Examples
    --------
    >>> conv((1, 8, 8), (8, 16), 10, rng=0).uses
    [16, 4, 1]
    """
    if not isinstance(channels, Sequence):
        raise TypeError(f"`channels` must be a sequence of integers, got {channels!r}. For example (8, 16).")
    behind = _behind(activation, batch_norm)
    layers = [layer for c in channels for layer in (Conv2d(c, kernel, stride, padding), *behind)]
    return Network(shape, [*layers, Flatten(), Dense(outputs)], rng=rng, dtype=dtype)


def residual(
    inputs: int,
    width: int,
    blocks: int,
    outputs: int,
    *,
    activation: str = "relu",
    batch_norm: bool = False,
    rng: RNG = None,
    dtype: str = "float64",
) -> Network:
    """A residual network: a dense layer, `blocks` times x + W' phi(W x), a dense layer.

    Parameters
    ----------
    inputs, width, blocks, outputs : int
    activation, batch_norm, rng, dtype
        As in `mlp`.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong.

    Examples
    --------
    >>> len(residual(64, 32, 2, 10, rng=0).weights)
    6
    """
    behind = _behind(activation, batch_norm)
    block = [Residual([Dense(width), *behind, Dense(width)]), *behind]
    layers = [Dense(width), *behind, *block * checks.integer(blocks, "blocks", least=0), Dense(outputs)]
    return Network(inputs, layers, rng=rng, dtype=dtype)


def _behind(activation: str, batch_norm: bool) -> list[Layer]:
    """What stands behind a matrix."""
    phi = activations.ALL[checks.one_of(activation, "activation", activations.ALL)]()
    return [BatchNorm(), phi] if checks.flag(batch_norm, "batch_norm") else [phi]
