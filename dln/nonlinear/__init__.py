"""Nonlinear networks trained by mini-batch SGD with weight decay: layers, losses, `train`, and the ranks it leaves.

Layers chain into a `Network`, whose parameters are one vector; `mlp`, `conv` and `residual` build the usual ones.
"""

from .activations import GELU, Activation, Identity, LeakyReLU, ReLU, Tanh
from .history import History
from .layer import Layer, Parameter
from .layers import AveragePool, BatchNorm, Conv2d, Dense, Flatten, Residual, SelfAttention
from .nets import conv, mlp, residual
from .network import Network
from .train import train

__all__ = [
    "Activation",
    "AveragePool",
    "BatchNorm",
    "Conv2d",
    "Dense",
    "Flatten",
    "GELU",
    "History",
    "Identity",
    "Layer",
    "LeakyReLU",
    "Network",
    "Parameter",
    "ReLU",
    "Residual",
    "SelfAttention",
    "Tanh",
    "conv",
    "mlp",
    "residual",
    "train",
]
