"""The forms of `dln` that "auto" does without where it can, beside it.

dln bench P4 P8 --also benchmarks/forms.py --methods "dln auto,dln weights,dln wide,CyRK,diffrax"
"""

from functools import partial

import dln
from dln.bench.rivals import Method, Solution


def run(job, form):
    p = job.problem
    options = {"t_eval": job.times, "max_steps": job.limit() // 4, "form": form, "keep_weights": False}

    def solve(rtol):
        found = dln.gradient_flow(
            dln.costs.FullyObserved(p.target), p.weights, job.span, rtol=rtol, **options
        )
        return Solution(found.end_to_end, found.nfev, found.success)

    return solve


ALL = [
    Method(f"dln {form}", ("dln",), partial(run, form=form), explicit=True) for form in ("weights", "wide")
]
