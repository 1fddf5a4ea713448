"""The limit of small starts beside a real run: the saddles of both, and how far the run is from the path."""

import numpy as np

import dln


def run(quick=False):
    """Saddles of the limit path, and distances of runs from ever smaller starts."""
    cost = dln.costs.FullyObserved(np.diag([3.0, 1.0, 0.3]))
    path = dln.saddle_to_saddle(cost, depth=3)
    for saddle in path.saddles:
        print(saddle)
    distances = {}
    for alpha in (1e-2, 1e-3) if quick else (1e-2, 1e-3, 1e-4):
        start = dln.inits.gaussian((3, 8, 8, 3), std=alpha, rng=1)
        trajectory = dln.gradient_flow(cost, start, (0.0, np.inf), until=dln.Until(cost=1e-8))
        distances[alpha] = path.distance(trajectory)
        print(
            f"alpha {alpha:g}: escapes at {dln.escape_time(cost, start):.4g}, distance {distances[alpha]:.2g}"
        )
    return distances


if __name__ == "__main__":
    run()
