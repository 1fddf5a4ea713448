"""The ledger: every statement is verified, and no constant in it can change unseen."""

from __future__ import annotations

import ast
import copy
import importlib
import inspect
import math
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

from dln import network, theorems
from dln.theorems import Check, Statement
from dln.theorems.proof import Proof, derivative, hessian, inertia, layers, matrix, rotation
from dln.theorems.trial import Hypothesis, Trial


def module_of(name):
    return importlib.import_module(f"dln.theorems.statements.{name}")


# Every statement holds


@pytest.mark.parametrize("name", theorems.names())
@pytest.mark.parametrize("seed", [0, 20260])
def test_verified(name, seed):
    (verdict,) = theorems.verify(name, rng=seed)
    assert verdict.status == ("supported" if module_of(name).STATEMENT.conjecture else "verified"), verdict
    assert verdict.symbolic.passed
    assert verdict.symbolic.worst == 0
    assert verdict.numeric.passed
    assert verdict.residual == verdict.numeric.worst <= module_of(name).STATEMENT.numeric.tolerance
    assert verdict.certified is None
    assert verdict.seconds > 0


@pytest.mark.parametrize("name", theorems.names())
def test_every_statement_reads_well(name):
    statement = module_of(name).STATEMENT
    assert statement.title
    assert statement.formula
    assert statement.source
    assert statement.symbolic.sizes
    assert statement.numeric.hypotheses
    assert claims(name), "a statement keeps its formulas in functions `claim...`"


# Mutations: one constant, one sign, one transpose, or a factor of 1.001


class OneChange(ast.NodeTransformer):
    """Changes the n-th thing that can be changed; `description` stays None when there are fewer."""

    def __init__(self, n):
        self.left, self.description = n, None

    def visit(self, node):
        replacement = self.replacement(node)
        if replacement is not None:
            self.left -= 1
            if self.left == -1:
                self.description = f"line {node.lineno}: {ast.unparse(node)} -> {ast.unparse(replacement)}"
                return replacement
        return self.generic_visit(node)

    @staticmethod
    def replacement(node):
        match node:
            case ast.Constant(value=int()) if not isinstance(node.value, bool):
                return ast.Constant(node.value + 1)
            case ast.BinOp(op=ast.Add()):
                return ast.BinOp(node.left, ast.Sub(), node.right)
            case ast.BinOp(op=ast.Sub()):
                return ast.BinOp(node.left, ast.Add(), node.right)
            case ast.UnaryOp(op=ast.USub()):
                return node.operand
            case ast.Attribute(attr="T"):
                return node.value
        return None


def scaled(function, factor=1.001):
    def mutant(*arguments):
        result = function(*arguments)
        return [factor * x for x in result] if isinstance(result, list) else factor * result

    return mutant


def mutants(function):
    """Pairs (what was changed, changed function)."""
    yield "factor 1.001", scaled(function)
    tree = ast.parse(inspect.getsource(function))
    for n in range(1000):
        change = OneChange(n)
        mutated = ast.fix_missing_locations(change.visit(copy.deepcopy(tree)))
        if change.description is None:
            return
        scope = dict(function.__globals__)
        exec(compile(mutated, "<mutant>", "exec"), scope)
        yield change.description, scope[function.__name__]


def claims(name):
    return {key: value for key, value in vars(module_of(name)).items() if key.startswith("claim")}


MUTANTS = [
    pytest.param(name, key, mutant, id=f"{name}-{key}-{description}")
    for name in theorems.names()
    for key, claim in claims(name).items()
    for description, mutant in mutants(claim)
]


@pytest.mark.parametrize(("name", "key", "mutant"), MUTANTS)
def test_a_mutated_formula_is_seen_from_both_sides(name, key, mutant, monkeypatch):
    monkeypatch.setattr(module_of(name), key, mutant)
    (verdict,) = theorems.verify(name, rng=1)
    assert verdict.status == "failed"
    assert not verdict.symbolic.passed, verdict.symbolic
    assert not verdict.numeric.passed, verdict.numeric


def one_layer_scaled(weights, G):
    first, *rest = LIBRARY["layer_gradients"](weights, G)
    return [first * 1001 / 1000, *rest]


def drifting(weights, G):
    return [gradient + 1e-3 for gradient in LIBRARY["layer_gradients"](weights, G)]


def sums_of_grams(weights):
    return [V.T @ V + W @ W.T for W, V in pairwise(weights)]


def not_transposed(weights, rotations):
    return LIBRARY["rotate"](weights, [O.T for O in rotations])


def leaking(weights, hidden):
    return [np.where(W == 0, 1e-3, W) for W in LIBRARY["include"](weights, hidden)]


LIBRARY = {name: getattr(network, name) for name in network.__all__}
# Statements about one matrix, or one singular value, alone
WITHOUT_NETWORK = (
    *("batch_gradient", "batch_norm_gradient", "cyclic_sgd", "rank_bound", "rank_bound_as_printed"),
    *("schatten_prox", "sgd_forgetting", "sgd_low_rank", "sgd_momentum", "sgd_noise"),
)
LIBRARY_MUTANTS = [
    ("layer_gradients", one_layer_scaled, ("layer_gradient", "ntk", "balancedness", "balanced_end_to_end")),
    ("layer_gradients", drifting, tuple(name for name in theorems.names() if name not in WITHOUT_NETWORK)),
    ("layer_gradients", scaled(network.layer_gradients), ("layer_gradient", "ntk", "balanced_end_to_end")),
    ("balances", sums_of_grams, ("balancedness", "riccati_flow", "local_minima_correspond")),
    ("rotate", not_transposed, ("rotations",)),
    ("rotate", scaled(network.rotate), ("rotations",)),
    ("include", leaking, ("inclusions",)),
    ("include", scaled(network.include), ("inclusions",)),
    ("end_to_end", scaled(network.end_to_end), ("layer_gradient",)),
]


@pytest.mark.parametrize(("function", "mutant", "red"), LIBRARY_MUTANTS)
def test_a_mutated_library_turns_red(function, mutant, red, monkeypatch):
    monkeypatch.setattr(network, function, mutant)
    assert {verdict.name: verdict.status for verdict in theorems.verify(red, rng=0)} == dict.fromkeys(
        red, "failed"
    )


# The two kinds of check


CIRCLE = Hypothesis(lambda x: abs(x) <= 1, lambda x, rng: x + 3)


def trial(residual, hypotheses):
    return Trial(
        draw=lambda rng, depth: rng.uniform(-1, 1), hypotheses=hypotheses, residual=residual, tolerance=1e-9
    )


def test_trial_reports_the_smallest_violation():
    check = trial(lambda x: 0.0 if abs(x) <= 1 else 0.25, {"in the circle": CIRCLE})(np.random.default_rng(0))
    assert check == Check(
        True, 12, 0.0, "Residuals are at most 0.0e+00, and at least 2.5e-01 without 'in the circle'."
    )


def test_trial_refuses_an_idle_hypothesis():
    check = trial(lambda x: 0.0, {"in the circle": CIRCLE})(np.random.default_rng(0))
    assert not check.passed
    assert check.detail == "At depth 2 it holds without 'in the circle'."


@pytest.mark.parametrize("value", [1e-3, math.nan, math.inf])
def test_trial_refuses_a_large_residual(value):
    assert not trial(lambda x: value, {})(np.random.default_rng(0)).passed


def test_trial_does_not_take_nan_for_a_violation():
    check = trial(lambda x: 0.0 if abs(x) <= 1 else math.nan, {"in the circle": CIRCLE})
    assert not check(np.random.default_rng(0)).passed


def test_trial_insists_that_cases_break_what_they_should():
    idle = Hypothesis(lambda x: abs(x) <= 1, lambda x, rng: x)
    with pytest.raises(
        RuntimeError, match="should break \\['in the circle'\\] of the hypotheses, and breaks"
    ):
        trial(lambda x: 0.0, {"in the circle": idle})(np.random.default_rng(0))


def test_proof_knows_that_rotations_are_orthogonal():
    for determinant in (1, -1):
        O = rotation("phi", determinant)
        det = O[0, 0] * O[1, 1] - O[0, 1] * O[1, 0]
        assert Proof(
            "", lambda O=O, det=det, d=determinant: [("", O.T @ O - np.eye(2, dtype=int)), ("", det - d)]
        )().passed
        assert not Proof("", lambda O=O: [("", O + O.T - np.eye(2, dtype=int))])().passed


SN, CN, DN, M = sp.symbols("sn cn dn m")
JACOBI = {CN**2: 1 - SN**2, DN**2: 1 - M * SN**2}


@pytest.mark.parametrize(
    ("entry", "rules", "passed"),
    [
        (DN**4 - (1 - M * SN**2) ** 2, JACOBI, True),
        (DN**4 - (1 - M * SN**2) ** 2, {}, False),
        (DN**2 - M * CN**2 - 1 + M, JACOBI, True),
        (DN**2 - M * CN**2 - 1 - M, JACOBI, False),
        (1 / CN - CN / (1 - SN**2), JACOBI, True),
        (1 / CN - SN / (1 - SN**2), JACOBI, False),
        (sp.cos(M) / sp.sin(M) - sp.sin(M) / sp.cos(M), {}, False),
        (sp.cos(M) / sp.sin(M) - sp.sin(M) * sp.cos(M) / (1 - sp.cos(M) ** 2), {}, True),
    ],
)
def test_proof_knows_rules_and_fractions(entry, rules, passed):
    assert Proof("", lambda: [("", entry)], rules)().passed is passed


def test_proof_refuses_a_denominator_that_vanishes():
    with pytest.raises(ZeroDivisionError, match=r"a denominator of .* vanishes"):
        Proof("", lambda: [("", SN / (CN**2 + SN**2 - 1))], JACOBI)()


def test_derivatives_are_exact():
    weights = [np.array([[SN]]), np.array([[CN]])]
    (entry,) = derivative(
        lambda W: [W[0][0, 0] ** 2 * W[1][0, 0]], weights, [np.array([[M]]), np.array([[1]])]
    )
    assert Proof("", lambda: [("", entry - 2 * SN * CN * M - SN**2)])().passed


@pytest.mark.parametrize("widths", [(2, 2), (1, 2, 1), (2, 1, 2), (1, 1, 1, 1)])
def test_hessians_are_exact(widths):
    weights, target, decay = layers(widths), matrix("T", widths[-1], widths[0]), sp.Symbol("lambda")
    entries = [w for W in weights for w in np.ravel(W)]
    objective = (
        np.sum((network.end_to_end(weights) - target) ** 2) / 2 + decay * sum(w**2 for w in entries) / 2
    )
    exact = np.array([[sp.diff(objective, v, w) for v in entries] for w in entries])
    assert Proof("", lambda: [("", hessian(weights, target, decay) - exact)])().passed


@pytest.mark.parametrize("seed", range(20))
def test_inertia_counts_eigenvalues(seed):
    rng = np.random.default_rng(seed)
    n, rank = rng.integers(1, 7, size=2)
    S, signs = rng.integers(-2, 3, size=(n, rank)), rng.choice([-1, 0, 1], size=rank)
    M = S * signs @ S.T
    M[0] = M[:, 0] = rng.choice([0, 1], size=n)
    M[0, 0] = 0
    values = np.linalg.eigvalsh(M)
    exact = np.vectorize(Fraction, otypes=[object])(M)
    assert inertia(exact) == (np.sum(values < -1e-9), np.sum(np.abs(values) < 1e-9))


def test_proof_of_nothing_is_no_proof():
    assert not Proof("", lambda: [])().passed


# The ledger


GOOD = Check(True, 1, 0.0, "")
BAD = Check(False, 1, 1.0, "")


def ledger_with(monkeypatch, **changes):
    monkeypatch.setattr(module_of("ntk"), "STATEMENT", replace(module_of("ntk").STATEMENT, **changes))
    return theorems.verify("ntk", rng=0)[0]


@pytest.mark.parametrize(
    ("symbolic", "numeric", "conjecture", "status"),
    [
        (GOOD, GOOD, False, "verified"),
        (GOOD, None, False, "verified"),
        (None, GOOD, False, "verified"),
        (None, GOOD, True, "supported"),
        (GOOD, BAD, False, "failed"),
        (BAD, GOOD, False, "failed"),
        (None, BAD, True, "failed"),
        (None, None, False, "undecided"),
    ],
)
def test_status(symbolic, numeric, conjecture, status, monkeypatch):
    checks = {
        "symbolic": symbolic and (lambda: symbolic),
        "numeric": numeric and (lambda rng: numeric),
    }
    verdict = ledger_with(monkeypatch, **checks, conjecture=conjecture)
    assert verdict.status == status
    assert (verdict.symbolic, verdict.numeric) == (symbolic, numeric)
    assert math.isnan(verdict.residual) if numeric is None else verdict.residual == numeric.worst


def raising(error, *_):
    raise error


def test_an_exception_is_a_failure(monkeypatch):
    verdict = ledger_with(monkeypatch, symbolic=partial(raising, ZeroDivisionError("no inverse")))
    assert verdict.status == "failed"
    assert verdict.symbolic == Check(False, 0, math.inf, "ZeroDivisionError: no inverse")
    assert verdict.numeric.passed


def test_an_interrupt_passes_through(monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        ledger_with(monkeypatch, numeric=partial(raising, KeyboardInterrupt()))


def test_names_are_the_files():
    files = Path(module_of("ntk").__file__).parent.glob("[!_]*.py")
    assert theorems.names() == tuple(sorted(file.stem for file in files))
    assert all(isinstance(module_of(name).STATEMENT, Statement) for name in theorems.names())


def test_selection():
    assert [verdict.name for verdict in theorems.verify(["ntk", "layer_gradient"])] == [
        "ntk",
        "layer_gradient",
    ]
    assert theorems.verify(()) == ()


@pytest.mark.parametrize("selection", ["x", ["ntk", "x"]])
def test_unknown_names(selection):
    first = theorems.names()[0]
    with pytest.raises(ValueError, match=rf"`names` must be among \('{first}', .*\), got 'x'\."):
        theorems.verify(selection)


@pytest.mark.parametrize(
    "rng", [lambda: 7, lambda: np.random.SeedSequence(7), lambda: np.random.default_rng(7)]
)
def test_streams_depend_on_neither_selection_nor_order(rng):
    both = theorems.verify(["ntk", "layer_gradient"], rng=rng())
    (alone,) = theorems.verify("layer_gradient", rng=rng())
    turned = theorems.verify(["layer_gradient", "ntk"], rng=rng())
    assert both[1].numeric == alone.numeric == turned[0].numeric
    assert both[0].numeric == turned[1].numeric


def test_streams_differ_between_statements_seeds_and_spawns():
    roots = [np.random.SeedSequence(1), *np.random.SeedSequence(1).spawn(2), np.random.SeedSequence(2)]
    draws = {theorems._stream(root, name).random() for root in roots for name in theorems.names()}
    assert len(draws) == len(roots) * len(theorems.names())


def test_a_generator_advances():
    rng = np.random.default_rng(0)
    first, second = (theorems.verify("ntk", rng=rng)[0].numeric for _ in range(2))
    assert first != second


def test_import_is_cheap():
    code = (
        "import sys, dln.theorems as t; t.names(); sys.exit(not {'sympy', 'scipy'}.isdisjoint(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
