"""From matrices to a table of saddles in ten lines: depth 3, a 10 x 10 matrix of rank 3, a small start."""

import numpy as np

import dln


def run(quick=False):
    """The saddles that the flow from a small start visits."""
    U, V = (np.linalg.qr(np.random.default_rng(seed).normal(size=(10, 3)))[0] for seed in (0, 1))
    cost = dln.costs.FullyObserved(U @ np.diag([3.0, 2.0, 1.0]) @ V.T)
    start = dln.inits.gaussian((10, 20, 20, 10), std=1e-2, rng=2)
    trajectory = dln.gradient_flow(cost, start, (0.0, np.inf), until=dln.Until(cost=1e-8))
    print(trajectory)
    saddles = dln.find_saddles(trajectory)
    for s in saddles:
        print(
            f"rank {s.rank}  t = {s.start:6.1f} .. {s.stop:6.1f}  cost {s.cost:.4f}  escapes at {s.escape_speed:.4f}"
        )
    return saddles


if __name__ == "__main__":
    run()
