"""Saddles: which critical points a trajectory visits, and the path that ever smaller starts follow."""

from .detect import Saddle, find_saddles
from .escape import blow_up_time, escape_time
from .greedy import greedy_low_rank
from .path import PathSaddle, SaddlePath, saddle_to_saddle

__all__ = [
    "PathSaddle",
    "Saddle",
    "SaddlePath",
    "blow_up_time",
    "escape_time",
    "find_saddles",
    "greedy_low_rank",
    "saddle_to_saddle",
]
