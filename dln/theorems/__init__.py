"""The ledger: statements of the theory, each checked by algebra and by numbers.

A statement is a file of ``dln/theorems/statements``; a new file is a new entry. SymPy and SciPy are loaded
when a statement is verified, not before.
"""

from __future__ import annotations

import math
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from time import perf_counter
from typing import Any

import numpy as np

from .. import checks
from ..typing import RNG
from . import statements
from .statement import Check, Statement

__all__ = ["Check", "Statement", "Verdict", "names", "verify"]


@dataclass(frozen=True)
class Verdict:
    """What the checks say of one statement.

    Attributes
    ----------
    name, title, source : str
        The statement, and where it is from.
    status : str
        "verified": every check passed; "supported": so it is, but the statement is a conjecture;
        "failed": a check did not pass, or raised; "undecided": there is no check.
    symbolic, numeric, certified : Check or None
        The checks by algebra, by random cases and by intervals; None where there is none.
    residual : float
        Largest residual of the numeric check, nan without one.
    seconds : float
        Time the checks took.
    """

    name: str
    title: str
    source: str
    status: str
    symbolic: Check | None
    numeric: Check | None
    certified: Check | None
    residual: float
    seconds: float


def names() -> tuple[str, ...]:
    """Names of all statements in the ledger, in alphabetical order.

    Returns
    -------
    names : tuple of str

    Examples
    --------
    >>> "balancedness" in names()
    True
    """
    return tuple(sorted(module.name for module in pkgutil.iter_modules(statements.__path__)))


def verify(names: str | Sequence[str] | None = None, *, rng: RNG = None) -> tuple[Verdict, ...]:
    """Verdicts on statements of the ledger, each proved by algebra and tried on random cases.

    Parameters
    ----------
    names : str or sequence of str, optional
        Statements to verify, see `dln.theorems.names`; all by default.
    rng : None, int, SeedSequence or Generator, optional
        Randomness of the cases. Each statement draws from a stream of its own, keyed by its name: neither the
        selection nor the order changes a verdict.

    Returns
    -------
    verdicts : tuple of Verdict
        In the order of `names`. A check that raises has failed, and has the exception as its detail.

    Raises
    ------
    ValueError
        If a name is not in the ledger.

    Examples
    --------
    >>> (verdict,) = verify("layer_gradient", rng=0)
    >>> verdict.status
    'verified'
    >>> print(verdict.symbolic.detail)
    18 identities hold exactly, for any cost; L = 2, 3, 4 with widths 2-3-2, 3-2-2-3, 2-2-2-2-2.
    """
    chosen = _chosen(names)
    root = _root(rng)
    return tuple(_verdict(name, _load(name), _stream(root, name)) for name in chosen)


def _chosen(selection: str | Sequence[str] | None) -> tuple[str, ...]:
    known = names()
    if selection is None:
        return known
    if not isinstance(selection, (str, Sequence)):
        raise TypeError(f"`names` must be a name or a list of names, got {selection!r}. Choose from {known}.")
    chosen = (selection,) if isinstance(selection, str) else tuple(selection)
    for name in chosen:
        if name not in known:
            raise ValueError(f"`names` must be among {known}, got {name!r}. Choose known names.")
    return chosen


def _load(name: str) -> Statement:
    statement: Statement = import_module(f"{statements.__name__}.{name}").STATEMENT
    return statement


def _root(rng: RNG) -> np.random.SeedSequence:
    """Seed from which the streams of all statements descend; a Generator is advanced."""
    if isinstance(rng, np.random.SeedSequence):
        return rng
    if isinstance(rng, np.random.Generator):
        return np.random.SeedSequence([int(word) for word in rng.integers(2**32, size=4)])
    checks.generator(rng)
    return np.random.SeedSequence(rng)


def _stream(root: np.random.SeedSequence, name: str) -> np.random.Generator:
    key = (*root.spawn_key, *name.encode())
    return np.random.default_rng(np.random.SeedSequence(root.entropy, spawn_key=key))


def _verdict(name: str, statement: Statement, rng: np.random.Generator) -> Verdict:
    start = perf_counter()
    symbolic = _outcome(statement.symbolic)
    numeric = _outcome(statement.numeric, rng)
    seconds = perf_counter() - start
    return Verdict(
        name=name,
        title=statement.title,
        source=statement.source,
        status=_status(statement, [check for check in (symbolic, numeric) if check]),
        symbolic=symbolic,
        numeric=numeric,
        certified=None,
        residual=numeric.worst if numeric else math.nan,
        seconds=seconds,
    )


def _outcome(check: Callable[..., Check] | None, *arguments: Any) -> Check | None:
    if check is None:
        return None
    try:
        return check(*arguments)
    except Exception as error:
        return Check(False, 0, math.inf, f"{type(error).__name__}: {error}")


def _status(statement: Statement, outcomes: list[Check]) -> str:
    if not outcomes:
        return "undecided"
    if not all(check.passed for check in outcomes):
        return "failed"
    return "supported" if statement.conjecture else "verified"
