"""One's own integrator in the benchmark: the classical Runge-Kutta method with steps 0.3 rtol^(1/4).

dln bench P1 --also benchmarks/example_rival.py --methods dln,RK4 --quick
"""

import numpy as np
from numba import njit

from dln.bench.rivals import Method, Solution


def rk4(job):
    velocity, data, gaps = job.rhs("y, dy, data"), job.data, np.diff(job.times, prepend=0.0)

    def solve(rtol):
        data[0] = 0.0
        states = _walk(velocity, job.problem.start.copy(), gaps, 0.3 * rtol**0.25, data)
        return Solution(states, int(data[0]), True)

    return solve


@njit
def _walk(velocity, y, gaps, step, data):
    k, states = np.zeros((5, y.size)), np.empty((gaps.size, y.size))
    for i, gap in enumerate(gaps):
        n = int(np.ceil(gap / step))
        for _ in range(n):
            for s, c in enumerate((0.0, 0.5, 0.5, 1.0)):  # row 0 of k stays zero
                velocity(y + c * gap / n * k[s], k[s + 1], data)
            y += gap / n / 6 * (k[1] + 2 * k[2] + 2 * k[3] + k[4])
        states[i] = y
    return states


ALL = [Method("RK4", ("numba",), rk4)]
