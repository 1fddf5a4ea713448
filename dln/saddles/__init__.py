"""Saddles: which critical points a trajectory visits, when, and how fast it leaves them."""

from .detect import Saddle, find_saddles

__all__ = ["Saddle", "find_saddles"]
