"""The dynamics of deep linear networks W_L ... W_1.

    cost + weights -> gradient_flow / gradient_descent / sgd -> Trajectory -> saddles, spectra, pictures, tables

Importing `dln` loads NumPy only; everything else is loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import costs as costs
    from . import data as data
    from . import exact as exact
    from . import infinite as infinite
    from . import inits as inits
    from . import landscape as landscape
    from . import network as network
    from . import nonlinear as nonlinear
    from . import rank as rank
    from . import regimes as regimes
    from . import schatten as schatten
    from . import theorems as theorems
    from .critical import escape_speed as escape_speed
    from .descent import gradient_descent as gradient_descent
    from .descent import sgd as sgd
    from .flow import forms as forms
    from .flow import gradient_flow as gradient_flow
    from .flow import methods as methods
    from .network import ntk as ntk
    from .problem import Until as Until
    from .regimes import Distance as Distance
    from .regimes import distance_to_minimum as distance_to_minimum
    from .regimes import distance_to_saddle as distance_to_saddle
    from .regimes import linearised as linearised
    from .regimes import ntk_change as ntk_change
    from .saddles import Escape as Escape
    from .saddles import Saddle as Saddle
    from .saddles import SaddlePath as SaddlePath
    from .saddles import blow_up_time as blow_up_time
    from .saddles import escape_direction as escape_direction
    from .saddles import escape_rates as escape_rates
    from .saddles import escape_time as escape_time
    from .saddles import escape_times as escape_times
    from .saddles import find_saddles as find_saddles
    from .saddles import greedy_low_rank as greedy_low_rank
    from .saddles import measure_escapes as measure_escapes
    from .saddles import saddle_to_saddle as saddle_to_saddle
    from .scaling import regime as regime
    from .symmetries import include as include
    from .symmetries import rotate as rotate
    from .trajectory import Trajectory as Trajectory

# Public name -> the module that holds it; a module's own name stands for itself.
_HOME = {
    "costs": "costs",
    "data": "data",
    "exact": "exact",
    "infinite": "infinite",
    "inits": "inits",
    "landscape": "landscape",
    "network": "network",
    "nonlinear": "nonlinear",
    "rank": "rank",
    "regimes": "regimes",
    "schatten": "schatten",
    "theorems": "theorems",
    "escape_speed": "critical",
    "gradient_descent": "descent",
    "sgd": "descent",
    "forms": "flow",
    "gradient_flow": "flow",
    "methods": "flow",
    "ntk": "network",
    "Until": "problem",
    "Distance": "regimes",
    "distance_to_minimum": "regimes",
    "distance_to_saddle": "regimes",
    "linearised": "regimes",
    "ntk_change": "regimes",
    "Escape": "saddles",
    "Saddle": "saddles",
    "SaddlePath": "saddles",
    "blow_up_time": "saddles",
    "escape_direction": "saddles",
    "escape_rates": "saddles",
    "escape_time": "saddles",
    "escape_times": "saddles",
    "find_saddles": "saddles",
    "greedy_low_rank": "saddles",
    "measure_escapes": "saddles",
    "saddle_to_saddle": "saddles",
    "regime": "scaling",
    "include": "symmetries",
    "rotate": "symmetries",
    "Trajectory": "trajectory",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'dln' has no attribute {name!r}")
    module = importlib.import_module(f".{_HOME[name]}", __name__)
    value = module if name == _HOME[name] else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
