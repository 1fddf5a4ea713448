"""What the ledger holds: statements, and the record that a check of one leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from numpy.random import Generator

__all__ = ["Check", "Statement"]


@dataclass(frozen=True)
class Check:
    """Outcome of one check: by algebra, by numbers, or by certified intervals.

    Attributes
    ----------
    passed : bool
        Whether everything examined came out as stated.
    cases : int
        Number of identities proved, or of random cases drawn, up to the first failure.
    worst : float
        Largest residual among the cases that satisfy the hypotheses; 0 for a proof, inf for a refuted one.
    detail : str
        What was examined and what came out, in a sentence.
    """

    passed: bool
    cases: int
    worst: float
    detail: str


@dataclass(frozen=True)
class Statement:
    """A statement with its own checks; one file of ``dln/theorems/statements`` holds one, as ``STATEMENT``.

    The file's name is the statement's name. The formulas are functions of that file whose names begin with
    ``claim``: both checks must use each of them, so that an error in any constant is seen from both sides.

    Attributes
    ----------
    title : str
        A few words.
    formula : str
        The statement itself.
    source : str
        Where it is from.
    symbolic : callable or None
        ``symbolic()`` proves the statement in explicit entries (see `dln.theorems.proof.Proof`).
    numeric : callable or None
        ``numeric(rng)`` tries it on random cases, and on cases that break one hypothesis each
        (see `dln.theorems.trial.Trial`).
    conjecture : bool
        A conjecture whose checks pass is "supported", never "verified".
    """

    title: str
    formula: str
    source: str
    symbolic: Callable[[], Check] | None
    numeric: Callable[[Generator], Check] | None
    conjecture: bool = False
