"""Landscapes: every critical point of the loss, its Hessian, spectrum and Morse index; thresholds and bifurcations."""

from __future__ import annotations

from .curvature import Hessian, gauss_newton, hessian
from .points import CriticalPoint, Landscape, critical_points, local_minima
from .spectra import aligned_spectrum, origin_spectrum

__all__ = [
    "CriticalPoint",
    "Hessian",
    "Landscape",
    "aligned_spectrum",
    "critical_points",
    "gauss_newton",
    "hessian",
    "local_minima",
    "origin_spectrum",
]
