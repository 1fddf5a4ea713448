"""Landscapes: every critical point of the loss, its Hessian, spectrum and Morse index; thresholds and bifurcations."""

from __future__ import annotations

from .curvature import Hessian, gauss_newton, hessian
from .diagram import Bifurcation, Thresholds, bifurcation, thresholds
from .point import CriticalPoint
from .points import Landscape, critical_points, local_minima
from .projections import Projection, is_tightened, unregularised
from .spectra import aligned_spectrum, origin_spectrum

__all__ = [
    "Bifurcation",
    "CriticalPoint",
    "Hessian",
    "Landscape",
    "Projection",
    "Thresholds",
    "aligned_spectrum",
    "bifurcation",
    "critical_points",
    "gauss_newton",
    "hessian",
    "is_tightened",
    "local_minima",
    "origin_spectrum",
    "thresholds",
    "unregularised",
]
