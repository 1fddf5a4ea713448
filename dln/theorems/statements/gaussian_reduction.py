r"""A Gaussian layer on directions that it has not seen: what it makes of them is as random as can be, and all new.

With m directions of the space behind already known, the part of the image of new ones outside these is
:math:`Q R`, Q without consequence, and R triangular with independent entries,

.. math:: R_{ij} \sim \mathcal N(0, 1) \; (i < j), \qquad R_{ii}^2 \sim \chi^2_{w - m - i} \; (i = 0, 1, \dots)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator
from scipy.special import gammaln, roots_genlaguerre, roots_hermitenorm, roots_legendre

from ... import network
from ...typing import Array
from ..proof import Proof, expectation, layers
from ..statement import Statement
from ..trial import Hypothesis, Trial

NODES = 60


def claim(width: Any, known: Any) -> Any:
    """Degrees of freedom of the square of the length of what is new, in a space with so many known directions."""
    return width - known


def _words(net: Sequence[Any]) -> dict[str, Any]:
    """Invariants of three layers with one input and one output, by which a flow begins."""
    A, G = network.end_to_end(net)[0, 0], np.ones((1, 1), dtype=int)
    first, _, last = network.layer_gradients(net, G)
    ahead, back = np.sum(last**2), np.sum(first**2)
    twice = (first.T @ net[1].T @ last.T)[0, 0]
    return {"A^2": A**2, "|F|^2 |B|^2": ahead * back, "A B W^T F": A * twice, "(B W^T F)^2": twice**2}


def identities() -> Iterator[tuple[str, Any]]:
    """Moments of all entries of wide layers against those of the few entries that stand for them."""
    c, d, g = sp.symbols("c d g")
    R = np.array([[c, g], [0, d]])
    for w in (2, 3):
        X = np.array(sp.symbols(f"x_:{2 * w}"), dtype=object).reshape(w, 2)
        known = {c: claim(sp.Integer(w), 0), d: claim(sp.Integer(w), 1)}
        for i, j, k in (
            (1, 0, 0),
            (0, 1, 0),
            (0, 0, 1),
            (1, 1, 0),
            (0, 2, 0),
            (2, 0, 1),
            (1, 2, 0),
            (0, 2, 1),
            (0, 0, 3),
        ):
            whole, few = (sp.expand(M[0, 0] ** i * M[0, 1] ** j * M[1, 1] ** k) for M in (X.T @ X, R.T @ R))
            yield f"M_11^{i} M_12^{j} M_22^{k} at width {w}", expectation(whole, {}) - expectation(few, known)
    a, b, h = sp.symbols("a b h")
    small = [np.array([[a], [0]]), np.array([[g, d], [c, h]]), np.array([[b, 0]])]
    w = sp.Integer(2)
    known = {a: claim(w, 0), b: claim(w, 0), c: claim(w, 1), d: claim(w, 1)}
    few = _words(small)
    for name, word in _words(layers((1, 2, 2, 1))).items():
        yield (
            f"{name} of three layers",
            expectation(sp.expand(word), {}) - expectation(sp.expand(few[name]), known),
        )


@dataclass(frozen=True)
class Case:
    """Two columns of the entries of `width` neurons, taken for `claimed`, and S at which to transform the law."""

    width: int
    claimed: int
    S: Array
    gaussian: bool = True


def residual(case: Case) -> float:
    """E exp(-tr S X^T X) for w x 2 entries, one neuron to the power w, against the same of R: by quadrature."""
    x, p = _normal() if case.gaussian else _uniform()
    pairs = np.stack(np.meshgrid(x, x, indexing="ij"), axis=-1)
    neuron = np.einsum("i,j,ij->", p, p, np.exp(-np.einsum("ija,ab,ijb->ij", pairs, case.S, pairs)))
    (r, q), (square, u) = _normal(), _squared(claim(case.claimed, 0))
    c, r = np.sqrt(square)[:, None], r[None]
    S = case.S
    first = u @ np.exp(-S[0, 0] * c**2 - 2 * S[0, 1] * c * r - S[1, 1] * r**2) @ q
    square, u = _squared(claim(case.claimed, 1))
    found = np.log(first) + np.log(u @ np.exp(-S[1, 1] * square))
    return float(abs(found / (case.width * np.log(neuron)) - 1))


def _normal() -> tuple[Array, Array]:
    x, p = roots_hermitenorm(NODES)
    return x, p / p.sum()


def _uniform() -> tuple[Array, Array]:
    """Uniform numbers of variance 1."""
    x, p = roots_legendre(NODES)
    return np.sqrt(3.0) * x, p / p.sum()


def _squared(degrees: float) -> tuple[Array, Array]:
    """Nodes and probabilities of a chi-squared variable."""
    x, p = roots_genlaguerre(NODES, degrees / 2 - 1)
    return 2 * x, p / np.exp(gammaln(degrees / 2))


def _draw(rng: Generator, _: int) -> Case:
    width = int(rng.integers(3, 30))
    T = rng.uniform(0.2, 0.4, size=(2, 2))
    return Case(width, width, T.T @ T)


STATEMENT = Statement(
    title="a Gaussian layer on new directions is a triangle of normal and chi variables",
    formula="W X = Q R for a layer W of independent normal entries and orthonormal X it has not seen, in a space of "
    "width w of which m directions are known and orthogonal to Q: R_ij ~ N(0, 1) above the diagonal, R_ii^2 ~ chi^2 "
    "with w - m - i degrees of freedom, i = 0, 1, ..; W stays normal on the rest. So the Krylov form needs no W",
    source="M. S. Bartlett, Proc. R. Soc. Edinburgh 53, 1933; derived for networks",
    symbolic=Proof(
        "moments up to order 3 at widths 2 and 3; four invariants of three layers of width 2, up to order 10",
        identities,
    ),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the width is that of the layer": Hypothesis(
                lambda case: case.width == case.claimed, lambda case, _: replace(case, claimed=case.width + 1)
            ),
            "the entries are Gaussian": Hypothesis(
                lambda case: case.gaussian, lambda case, _: replace(case, gaussian=False)
            ),
        },
        residual=residual,
        tolerance=1e-11,
        depths=(2,),
        repeats=4,
    ),
)
