"""What a layer is, and layers one behind the other.

A layer is one class: `bind` tells it the shape of a sample and makes its parameters, `forward` maps a batch, `backward`
takes the gradient with respect to what it gave back to what it was given, and leaves that of its parameters in them.
`uses` is how often its weight matrices meet a vector in one sample, the m_l of the rank bound.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

__all__ = ["Chain", "Layer", "Parameter", "Shape", "refuse_shape"]

Shape: TypeAlias = tuple[int, ...]


@dataclass(eq=False)
class Parameter:
    """One array of a layer: a part of the network's vector of parameters.

    Attributes
    ----------
    name : str
    shape : tuple of int
    bound, fill : float
        At first it is uniform within `bound` around `fill`.
    uses : int
        For a weight matrix, how often it is used in one sample; 0 for a bias or a scale.
    batch_norm : bool
        Whether a batch norm takes what the matrix gives.
    start : int
        Where it begins in the network's vector.
    value, gradient : ndarray
        Views of the network's vectors.
    factors : pair of ndarray, optional
        Signals Delta (uses, rows) and inputs U (uses, columns) of the latest batch, with gradient Delta^T U. A layer
        that leaves them here has the rank of its gradients certified at every step.
    """

    name: str
    shape: Shape
    bound: float = 0.0
    fill: float = 0.0
    uses: int = 0
    batch_norm: bool = False
    start: int = 0
    value: Any = None
    gradient: Any = None
    factors: Any = None

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __getstate__(self) -> dict[str, Any]:
        return {
            **self.__dict__,
            "value": None,
            "gradient": None,
            "factors": None,
        }  # views: whoever owns the vector makes them again


@dataclass(eq=False)
class Layer:
    """Base class of all layers; itself the identity."""

    affine: ClassVar[bool] = False  # gives W u + b, of which a batch norm behind it removes the mean
    normalises: ClassVar[bool] = False
    parameters: list[Parameter] = field(default_factory=list, init=False, repr=False)
    running: list[Parameter] = field(default_factory=list, init=False, repr=False)  # statistics, not trained
    memory: Any = field(default=None, init=False, repr=False)  # what `forward` leaves for `backward`

    def bind(self, shape: Shape) -> Shape:
        """Shape of a sample behind the layer; makes the parameters. Refuses what it cannot take."""
        return shape

    def uses(self, shape: Shape) -> int:
        """How often a weight matrix of the layer is used in one sample of this shape."""
        return 1

    def forward(self, x: Any, training: bool) -> Any:
        """Batch behind the layer, the samples along the first axis."""
        return x

    def backward(self, d: Any) -> Any:
        """Gradient with respect to the batch before the layer, after the `forward` of the same batch."""
        return d

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "memory": None}


@dataclass(eq=False)
class Chain(Layer):
    """Copies of layers one behind the other: a layer that stands in two places has parameters of its own in each."""

    layers: Sequence[Layer] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.layers, Sequence):
            raise TypeError(
                f"`layers` must be a sequence of layers, got {self.layers!r}. Put them in a list."
            )
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise TypeError(
                    f"`layers` must hold layers of dln.nonlinear, got {layer!r}. For example Dense(10) or ReLU()."
                )
        self.layers = [copy.deepcopy(layer) for layer in self.layers]

    def bind(self, shape: Shape) -> Shape:
        for layer in self.layers:
            shape = layer.bind(shape)
        for layer, after in zip(self.layers, self.layers[1:], strict=False):
            for parameter in layer.parameters:
                parameter.batch_norm |= layer.affine and parameter.uses > 0 and after.normalises
        self.parameters = [parameter for layer in self.layers for parameter in layer.parameters]
        self.running = [parameter for layer in self.layers for parameter in layer.running]
        return shape

    def forward(self, x: Any, training: bool) -> Any:
        for layer in self.layers:
            x = layer.forward(x, training)
        return x

    def backward(self, d: Any) -> Any:
        for layer in reversed(self.layers):
            d = layer.backward(d)
        return d


def refuse_shape(layer: Layer, rule: str, shape: Shape, way_out: str) -> ValueError:
    """The error of a layer that cannot take samples of a shape."""
    return ValueError(f"`layers` must chain: {layer!r} must be given {rule}, got {shape}. {way_out}.")
