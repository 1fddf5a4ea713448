"""Saddles: which critical points a trajectory visits, and the path that ever smaller starts follow."""

from .detect import Saddle, find_saddles
from .directions import escape_direction, escape_rates
from .escape import blow_up_time, escape_time, escape_times
from .greedy import greedy_low_rank
from .measure import Escape, measure_escapes
from .path import PathSaddle, SaddlePath, saddle_to_saddle

__all__ = [
    "Escape",
    "PathSaddle",
    "Saddle",
    "SaddlePath",
    "blow_up_time",
    "escape_direction",
    "escape_rates",
    "escape_time",
    "escape_times",
    "find_saddles",
    "greedy_low_rank",
    "measure_escapes",
    "saddle_to_saddle",
]
