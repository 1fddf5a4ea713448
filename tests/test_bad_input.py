"""Bad input is refused with a way out, good input is read exactly, and no run hangs or loses its results."""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dln
from dln import costs, inits, network

nan, inf = np.nan, np.inf
EYE = np.eye(2)
HALVES = [0.5 * EYE, 0.5 * EYE]


@cache
def cost():
    return costs.FullyObserved(EYE)


@cache
def flow_run():
    return dln.gradient_flow(cost(), HALVES, (0.0, 5.0))


def flow(weights=HALVES, t_span=(0.0, 1.0), **options):
    return dln.gradient_flow(options.pop("of", cost()), weights, t_span, **options)


def descent(weights=HALVES, learning_rate=0.1, steps=10, **options):
    return dln.gradient_descent(options.pop("of", cost()), weights, learning_rate, steps, **options)


def sgd(weights=HALVES, learning_rate=0.1, steps=10, **options):
    return dln.sgd(cost(), weights, learning_rate, steps, **{"batch_size": 1, "rng": 0, **options})


def evaluate(expression):
    return eval(expression, {**globals(), "run": flow_run(), "Until": dln.Until})


def assert_refused(expression, error, *says):
    """The error has the type, the fragments, a rule, and a second sentence: the way out."""
    with pytest.raises(error) as caught:
        evaluate(expression)
    message = str(caught.value)
    for fragment in says:
        assert fragment in message
    assert re.search(r"must .+\. [A-Z`].*\.$", message, re.DOTALL), message


def refusals(*rows):
    """Parametrisation over rows (expression, error, fragments of the message)."""
    table = [pytest.param(expression, error, says, id=expression) for expression, error, *says in rows]
    return pytest.mark.parametrize(("expression", "error", "says"), table)


def crossed(places, values):
    """Rows of every value in every place."""
    return [
        (place.format(value), error, f"`{name}`", *says)
        for place, name in places.items()
        for value, (error, *says) in values.items()
    ]


# Arrays: what no array may be, as a row of two entries, in every place that takes an array.

BAD_ROWS = {
    "[nan, 1.0]": (ValueError, "nan"),
    "[1.0, -inf]": (ValueError, "-inf"),
    "[1.0, [2.0]]": (ValueError, "ragged"),
    "[1j, 1.0]": (TypeError, "complex128"),
    "[None, 1.0]": (TypeError, "object"),
    "['a', 'b']": (TypeError, "<U1"),
    "[]": (ValueError, "empty"),
}
ARRAYS = {
    "costs.FullyObserved([{}])": "target",
    "costs.MatrixCompletion([{}], [[1, 1]])": "target",
    "costs.MatrixCompletion([[1.0, 2.0]], [{}])": "mask",
    "costs.MatrixSensing([[{}]], [1.0])": "measurements",
    "costs.MatrixSensing(np.ones((2, 1, 1)), {})": "values",
    "costs.SquareLoss([{}], [[1.0, 2.0]])": "X",
    "costs.SquareLoss([[1.0, 2.0]], [{}])": "Y",
    "costs.CrossEntropy([{}], [0, 1])": "X",
    "costs.CrossEntropy([[1.0, 2.0]], {})": "labels",
    "cost().value([{0}, {0}])": "A",
    "cost().gradient([{0}, {0}])": "A",
    "cost().hessian_vector([{0}, {0}], EYE)": "A",
    "cost().hessian_vector(EYE, [{0}, {0}])": "D",
    "inits.balanced([{}], 2)": "A",
    "inits.aligned([{}], 2, scale=0.1)": "target",
    "flow([[{}], [[1.0], [1.0]]])": "weights[0]",
    "flow([[[1.0, 1.0]], [{}]])": "weights[1]",
    "flow(t_eval={})": "t_eval",
    "descent([[{}], [[1.0], [1.0]]])": "weights[0]",
    "sgd([[{}], [[1.0], [1.0]]])": "weights[0]",
    "dln.escape_speed([{}], 2)": "gradient",
    "run.at({})": "t",
    "run.weights_at({})": "t",
}


@refusals(*crossed(ARRAYS, BAD_ROWS))
def test_array_is_refused(expression, error, says):
    assert_refused(expression, error, *says)


# Numbers, by what they must be.

NO_NUMBER = {
    "nan": (ValueError, "nan"),
    "-inf": (ValueError, "-inf"),
    "10**400": (ValueError,),
    "'1'": (TypeError, "'1'"),
    "1j": (TypeError, "1j"),
    "True": (TypeError, "True"),
    "[1.0]": (TypeError, "1.0"),
    "np.ones(1)": (TypeError, "(1,)"),
}
NEGATIVE = {**NO_NUMBER, "-1": (ValueError, "-1")}
NOT_POSITIVE = {**NEGATIVE, "0": (ValueError, "0"), "inf": (ValueError, "inf")}
NO_INTEGER = {
    "1.0": (TypeError, "1.0"),
    "nan": (TypeError, "nan"),
    "'1'": (TypeError, "'1'"),
    "True": (TypeError, "True"),
    "[1]": (TypeError, "[1]"),
    "-1": (ValueError, "-1"),
}
NUMBERS = {
    "inits.gaussian((2, 3, 2), gamma={})": "gamma",
    "inits.lambda_balanced((2, 2, 2), {}, scale=1.0)": "balance",
    "Until(cost={})": "until.cost",
    "flow(t_span=({}, 1.0))": "t_span[0]",
}
NONNEGATIVE_NUMBERS = {
    "flow(weight_decay={})": "weight_decay",
    "flow(atol={})": "atol",
    "descent(weight_decay={})": "weight_decay",
    "descent(momentum={})": "momentum",
    "sgd(momentum={})": "momentum",
}
POSITIVE_NUMBERS = {
    "flow(rtol={})": "rtol",
    "flow(method='rk4', step={})": "step",
    "descent(learning_rate={})": "learning_rate",
    "sgd(learning_rate={})": "learning_rate",
    "inits.gaussian((2, 2), std={})": "std",
    "inits.gaussian((2, 3, 2), rho={})": "rho",
    "inits.gaussian((2, 2), std=1.0, alpha={})": "alpha",
    "inits.orthogonal((2, 2), scale={})": "scale",
    "inits.lambda_balanced((2, 2, 2), 1.0, scale={})": "scale",
    "inits.aligned(EYE, 2, scale={})": "scale",
    "Until(gradient_norm={})": "until.gradient_norm",
    "dln.find_saddles(run, resolution={})": "resolution",
    "run.rank({})": "tol",
    "cost() * {}": "factor",
    "{} * cost()": "factor",
}
INTEGERS = {
    "flow(max_steps={})": "max_steps",
    "descent(steps={})": "steps",
    "descent(every={})": "every",
    "sgd(batch_size={})": "batch_size",
    "sgd(rng={})": "rng",
    "inits.gaussian((2, 2), std=1.0, rng={})": "rng",
    "inits.orthogonal((2, 2), scale=1.0, rng={})": "rng",
    "inits.balanced(EYE, 2, rng={})": "rng",
    "inits.lambda_balanced((2, 2, 2), 1.0, scale=1.0, rng={})": "rng",
    "dln.theorems.verify('rotations', rng={})": "rng",
    "inits.balanced(EYE, {})": "depth",
    "inits.aligned(EYE, {}, scale=0.1)": "depth",
    "inits.gaussian((2, {}, 2), std=1.0)": "widths[1]",
    "costs.CrossEntropy(EYE, [0, 1], classes={})": "classes",
    "dln.escape_speed(EYE, {})": "depth",
    "dln.escape_speed(EYE, 2, modes=({},))": "modes",
    "Until(rank={})": "until.rank",
    "Until(saddle={})": "until.saddle",
}
ZERO = {"0": (ValueError, "0")}
COUNTS = {place: name for place, name in INTEGERS.items() if name not in ("rng", "modes")}


@refusals(
    *crossed(NUMBERS, NO_NUMBER),
    *crossed(NONNEGATIVE_NUMBERS, NEGATIVE),
    *crossed(POSITIVE_NUMBERS, NOT_POSITIVE),
    *crossed(INTEGERS, NO_INTEGER),
    *crossed(COUNTS, ZERO),
)
def test_number_is_refused(expression, error, says):
    assert_refused(expression, error, *says)


# Names: the known ones are listed.

NAMES = {
    "flow(method={})": ("method", "dop853"),
    "flow(form={})": ("form", "weights"),
    "sgd(sampling={})": ("sampling", "shuffle"),
    "dln.theorems.verify({})": ("names", "rotations"),
}


@pytest.mark.parametrize("value", ["'nope'", "''", "3", "['nope']"])
@pytest.mark.parametrize("place", NAMES)
def test_unknown_name_is_refused(place, value):
    argument, known = NAMES[place]
    assert_refused(place.format(value), (ValueError, TypeError), f"`{argument}`", known, value.strip("[]"))


# Everything else: one row a mistake.

MISTAKES = [
    # shapes that do not fit
    ("costs.FullyObserved(1.0)", ValueError, "`target`", "()"),
    ("costs.FullyObserved([1.0, 2.0])", ValueError, "`target`", "(2,)"),
    ("costs.FullyObserved(np.ones((1, 1, 1)))", ValueError, "`target`", "(1, 1, 1)"),
    ("costs.FullyObserved(np.ones((0, 3)))", ValueError, "`target`", "(0, 3)"),
    ("costs.FullyObserved(None)", TypeError, "`target`", "object"),
    ("costs.FullyObserved({})", TypeError, "`target`", "object"),
    ("costs.FullyObserved([[10**400]])", TypeError, "`target`", "object"),
    ("costs.FullyObserved(np.ma.masked_array(EYE, EYE))", TypeError, "`target`"),
    ("costs.FullyObserved(np.array([['2020-01-01']], 'M8[D]'))", TypeError, "`target`", "datetime64"),
    ("costs.MatrixCompletion(EYE, np.eye(3))", ValueError, "`mask`", "(2, 2)", "(3, 3)"),
    ("costs.MatrixCompletion(EYE, 2 * EYE)", ValueError, "`mask`", "0 and 1", "2.0"),
    ("costs.MatrixCompletion(EYE, 0.5 * EYE)", ValueError, "`mask`", "0 and 1", "0.5"),
    ("costs.MatrixCompletion(EYE, 0 * EYE)", ValueError, "`mask`", "at least one", "all zero"),
    ("costs.MatrixCompletion([[nan, 1.0]], [[1, 1]])", ValueError, "`target`", "nan", "(0, 0)"),
    ("costs.MatrixSensing(np.ones((3, 2, 2)), [1.0, 2.0])", ValueError, "`values`", "(3,)", "(2,)"),
    ("costs.MatrixSensing(np.ones((3, 2)), [1.0, 2.0, 3.0])", ValueError, "`measurements`", "(3, 2)"),
    ("costs.SquareLoss(np.ones((3, 2)), np.ones((2, 3)))", ValueError, "`Y`", "(2, 3)", "(3, 2)"),
    ("costs.CrossEntropy(EYE, [0, 1, 1])", ValueError, "`labels`", "(2,)", "(3,)"),
    ("costs.CrossEntropy(EYE, [0, 1.5])", ValueError, "`labels`", "1.5"),
    ("costs.CrossEntropy(EYE, [0, -1])", ValueError, "`labels`", "-1"),
    ("costs.CrossEntropy(EYE, [0, 1e300])", ValueError, "`labels`", "1e+300"),
    ("costs.CrossEntropy(EYE, [0, 3], classes=2)", ValueError, "`classes`", "4", "2"),
    ("cost().value(np.eye(3))", ValueError, "`A`", "(..., 2, 2)", "(3, 3)"),
    ("cost().gradient([1.0, 2.0])", ValueError, "`A`", "(..., 2, 2)", "(2,)"),
    ("cost().hessian_vector(EYE, np.eye(3))", ValueError, "`D`", "(2, 2)", "(3, 3)"),
    ("costs.Custom(1.0, np.copy)", TypeError, "`value`", "1.0"),
    ("costs.Custom(np.sum, None)", TypeError, "`gradient`", "None"),
    ("costs.Custom(np.copy, np.copy).value(EYE)", ValueError, "`value`", "(2, 2)"),
    ("costs.Custom(np.sum, lambda A: A[0]).gradient(EYE)", ValueError, "`gradient`", "(2, 2)", "(2,)"),
    ("np.ones(2) * cost()", TypeError, "`factor`", "(2,)"),
    # starts
    ("inits.gaussian((2, 2))", ValueError, "`std`", "`gamma`", "`rho`", "none"),
    ("inits.gaussian((2, 2), std=1.0, rho=1.0)", ValueError, "`std`", "`rho`", "exactly one"),
    ("inits.gaussian((2, 2), gamma=1.0)", ValueError, "`gamma`", "(2, 2)"),
    ("inits.gaussian((2, 2), rho=1.0)", ValueError, "`rho`", "(2, 2)"),
    ("inits.gaussian((2, 3, 2), gamma=-1e5)", ValueError, "`gamma`"),
    ("inits.gaussian((2, 3, 2), std=1e300, alpha=1e300)", ValueError, "inf"),
    ("inits.gaussian((2,), std=1.0)", ValueError, "`widths`", "two", "1"),
    ("inits.gaussian('22', std=1.0)", TypeError, "`widths`", "'22'"),
    ("inits.gaussian(5, std=1.0)", TypeError, "`widths`", "5"),
    ("inits.gaussian({2, 3}, std=1.0)", TypeError, "`widths`", "{2, 3}"),
    ("inits.orthogonal(np.array([2.0, 3.0]), scale=1.0)", TypeError, "`widths[0]`", "2.0"),
    ("inits.orthogonal((2, 10**400), scale=1.0)", ValueError, "`widths[1]`"),
    ("inits.balanced(EYE, 10**400)", ValueError, "`depth`"),
    ("inits.orthogonal((2, None), scale=1.0)", TypeError, "`widths[1]`", "None"),
    ("inits.balanced(np.eye(3), 2, widths=(3, 2, 3))", ValueError, "`widths`", "at least 3", "(3, 2, 3)"),
    ("inits.balanced(np.eye(3), 2, widths=(3, 3))", ValueError, "`widths`", "3 entries", "(3, 3)"),
    ("inits.aligned(np.eye(3), 2, scale=1.0, widths=(2, 3, 3))", ValueError, "`widths`", "(2, 3, 3)"),
    ("inits.lambda_balanced((2, 2, 2, 2), 1.0, scale=1.0)", ValueError, "`widths`", "(2, 2, 2, 2)"),
    ("inits.lambda_balanced((3, 3, 2), 1.0, scale=1.0)", ValueError, "`balance`", "n_2", "(3, 3, 2)"),
    ("inits.lambda_balanced((2, 3, 3), -1.0, scale=1.0)", ValueError, "`balance`", "n_0", "(2, 3, 3)"),
    # the problem
    ("dln.gradient_flow('x', HALVES, (0, 1))", TypeError, "`cost`", "str"),
    ("dln.gradient_flow(costs.FullyObserved, HALVES, (0, 1))", TypeError, "`cost`"),
    ("dln.gradient_descent(None, HALVES, 0.1, 1)", TypeError, "`cost`", "NoneType"),
    ("dln.sgd(EYE, HALVES, 0.1, 1, batch_size=1)", TypeError, "`cost`", "ndarray"),
    ("flow([])", ValueError, "`weights`", "at least one"),
    ("flow(EYE)", TypeError, "`weights`", "ndarray"),
    ("flow('ab')", TypeError, "`weights", "<U1"),
    ("flow({1: EYE})", TypeError, "`weights`", "dict"),
    ("flow(W for W in HALVES)", TypeError, "`weights`", "generator"),
    ("flow([EYE, [1.0, 2.0]])", ValueError, "`weights[1]`", "(2,)"),
    ("flow([EYE, np.eye(3)])", ValueError, "`weights`", "W_2", "(3, 3)", "(2, 2)"),
    ("flow([np.ones((3, 2)), np.ones((3, 3))])", ValueError, "`weights`", "(2, 2)", "(3, 2)"),
    ("descent([np.ones((3, 3))])", ValueError, "`weights`", "(2, 2)", "(3, 3)"),
    # time
    ("flow(t_span=(1.0, 0.0))", ValueError, "`t_span`", "(1.0, 0.0)"),
    ("flow(t_span=(1.0, 1.0))", ValueError, "`t_span`", "(1.0, 1.0)"),
    ("flow(t_span=(0.0, inf))", ValueError, "`t_span`", "inf", "until"),
    ("flow(t_span=(0.0, nan))", ValueError, "`t_span[1]`", "nan"),
    ("flow(t_span=(0.0, None))", TypeError, "`t_span[1]`", "None"),
    ("flow(t_span=5.0)", TypeError, "`t_span`", "5.0"),
    ("flow(t_span='01')", TypeError, "`t_span`", "'01'"),
    ("flow(t_span=(0.0, 1.0, 2.0))", TypeError, "`t_span`", "(0.0, 1.0, 2.0)"),
    ("flow(t_eval=0.5)", ValueError, "`t_eval`", "()"),
    ("flow(t_eval=[0.5, 0.2])", ValueError, "`t_eval`", "increase"),
    ("flow(t_eval=[0.5, 0.5])", ValueError, "`t_eval`", "increase"),
    ("flow(t_eval=[0.5, 2.0])", ValueError, "`t_eval`", "(0.0, 1.0)", "2"),
    ("flow(t_eval=[-1.0, 0.5])", ValueError, "`t_eval`", "-1"),
    # options
    ("flow(rtol=1e-20)", ValueError, "`rtol`", "1e-20"),
    ("flow(step=0.1)", ValueError, "`step`", "0.1", "Name a method"),
    ("flow(method='euler')", ValueError, "`step`", "None", "euler"),
    ("flow(until=1e-8)", TypeError, "`until`", "1e-08"),
    ("flow(keep_weights='no')", TypeError, "`keep_weights`", "'no'"),
    ("descent(keep_weights='no')", TypeError, "`keep_weights`", "'no'"),
    ("flow(progress='no')", TypeError, "`progress`", "'no'"),
    ("Until()", ValueError, "`until`", "none"),
    ("descent(momentum=1.0)", ValueError, "`momentum`", "1.0"),
    ("descent(steps=10**18)", ValueError, "`steps`", "10"),
    ("descent(every=10**30)", ValueError, "`every`", "10"),
    ("sgd(batch_size=5)", ValueError, "`batch_size`", "4", "5"),
    ("dln.sgd(costs.Custom(np.sum, np.copy), HALVES, 0.1, 1, batch_size=1)", ValueError, "`cost`", "Custom"),
    # what came out
    ("dln.find_saddles(None)", TypeError, "`trajectory`", "NoneType"),
    ("dln.find_saddles([run])", TypeError, "`trajectory`", "list"),
    ("run.at(6.0)", ValueError, "`t`", "[0, 5]", "6"),
    ("run.at([-1.0, 1.0])", ValueError, "`t`", "[0, 5]", "-1"),
    ("run.weights_at(6.0)", ValueError, "`t`", "[0, 5]", "6"),
    ("flow(keep_weights=False).balancedness()", ValueError, "`weights`", "None"),
    ("dln.escape_speed([1.0, 2.0], 2)", ValueError, "`gradient`", "(2,)"),
    ("dln.escape_speed(EYE, 1)", ValueError, "`depth`", "1"),
    ("dln.escape_speed(EYE, 2, modes=(2,))", ValueError, "`modes`", "0 .. 1", "(2,)"),
    ("dln.escape_speed(EYE, 2, modes=())", ValueError, "`modes`", "()"),
    ("dln.escape_speed(EYE, 2, modes=0)", TypeError, "`modes`", "0"),
    ("dln.theorems.verify(3)", TypeError, "`names`", "3"),
    # the network itself
    ("network.end_to_end([])", ValueError, "`weights`", "at least one"),
    ("network.end_to_end([EYE, np.eye(3)])", ValueError, "`weights`", "(3, 3)"),
    ("network.balances([EYE, np.eye(3)])", ValueError, "`weights`", "(3, 3)"),
    ("network.layer_gradients(HALVES, np.eye(3))", ValueError, "`G`", "(3, 3)"),
    ("network.end_to_end_velocity(HALVES, np.eye(3))", ValueError, "`G`", "(3, 3)"),
    ("network.rotate(HALVES, [])", ValueError, "`rotations`", "1"),
    ("network.rotate(HALVES, [np.eye(3)])", ValueError, "`rotations", "(3, 3)"),
    ("network.include(HALVES, [1])", ValueError, "`hidden", "1"),
]


@refusals(*MISTAKES)
def test_mistake_is_refused(expression, error, says):
    assert_refused(expression, error, *says)


NO_WIDTH = st.floats() | st.none() | st.text(max_size=3) | st.booleans() | st.integers(max_value=0)
RANDOM = settings(max_examples=50, deadline=None)


@RANDOM
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), NO_WIDTH, st.data())
def test_random_widths_are_refused(widths, wrong, data):
    place = data.draw(st.integers(0, len(widths)))
    widths.insert(place, wrong)
    said = rf"`widths\[{place}\]` must .*{re.escape(repr(wrong))}"
    with pytest.raises((TypeError, ValueError), match=said):
        inits.orthogonal(widths, scale=1.0)


@RANDOM
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=4))
def test_random_layers_that_do_not_fit_are_refused(shapes):
    chain = all(below[0] == above[1] for below, above in pairwise(shapes))
    if chain and (shapes[-1][0], shapes[0][1]) == (2, 2):
        return
    rule = "have a product of shape" if chain else "chain"
    with pytest.raises(ValueError, match=rf"`weights` must {rule}"):
        descent([np.ones(shape) for shape in shapes])


@RANDOM
@given(st.text(max_size=8).filter(lambda name: name not in ("auto", *dln.methods())))
def test_random_method_is_refused(name):
    with pytest.raises(ValueError, match=r"`method` must be one of \('auto', 'euler', .*'\), got "):
        flow(method=name)


# Layouts: one and the same answer, to the last bit, as the float64 copy gives.


def thirds(x):
    """Fractions, where an entry above 2 marks an array that need not be whole."""
    return x / 3 if x.max() > 2 else x


def tuples(x):
    return tuple(map(tuples, x)) if np.ndim(x) else float(x)


def read_only(x):
    y = thirds(x).copy()
    y.setflags(write=False)
    return y


LAYOUTS = {
    "list": np.ndarray.tolist,
    "tuples": tuples,
    "int64": lambda x: x.astype(np.int64),
    "int8": lambda x: x.astype(np.int8),
    "float16": lambda x: thirds(x).astype(np.float16),
    "float32": lambda x: thirds(x).astype(np.float32),
    "longdouble": lambda x: x.astype(np.longdouble),
    "big-endian": lambda x: thirds(x).astype(">f8"),
    "fortran": lambda x: np.asfortranarray(thirds(x)),
    "strided": lambda x: np.repeat(thirds(x), 2, axis=-1)[..., ::2],
    "backwards": lambda x: np.flip(np.flip(thirds(x)).copy()),
    "read-only": read_only,
}

TARGET = np.array([[5.0, -1.0, 0.0], [1.0, 3.0, 2.0]])
MASK = np.array([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
INPUTS = np.array([[3.0, 1.0, -2.0, 0.0], [0.0, 4.0, 1.0, 1.0], [1.0, 0.0, 7.0, -1.0]])
OUTPUTS = np.array([[1.0, 9.0, 0.0, 2.0], [-3.0, 1.0, 1.0, 0.0]])
SENSED = np.stack([TARGET, TARGET[::-1], MASK])
COSTS = {
    "FullyObserved": (TARGET,),
    "MatrixCompletion": (TARGET, MASK),
    "MatrixSensing": (SENSED, np.array([3.0, -1.0, 4.0])),
    "SquareLoss": (INPUTS, OUTPUTS),
    "CrossEntropy": (INPUTS, np.array([0.0, 1.0, 1.0, 0.0])),
}
START = [np.array([[3.0, 0.0, -1.0], [1.0, 4.0, 2.0]]), np.array([[1.0, 3.0], [-2.0, 1.0]])]
RUNS = {
    "flow": lambda of, W: flow(W, (0, 1), of=of, rtol=1e-5),
    "flow without layers": lambda of, W: flow(W, (0, 1), of=of, rtol=1e-5, keep_weights=False),
    "euler": lambda of, W: flow(W, (0, 1), of=of, method="euler", step=1 / 4096),
    "descent": lambda of, W: descent(W, 1 / 4096, 20, of=of, momentum=0.5, weight_decay=0.25),
}
EVERY_LAYOUT = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
EVERY_COST = pytest.mark.parametrize("name", COSTS)


def exact(array):
    return np.array(array, dtype=np.float64)


def assert_same_runs(a, b):
    assert (a.status, a.n_steps, a.nfev) == (b.status, b.n_steps, b.nfev)
    for name in ("t", "end_to_end", "cost", "gradient_norm", "singular_values"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for V, W in zip(a.weights or (), b.weights or (), strict=True):
        np.testing.assert_array_equal(V, W)


@EVERY_LAYOUT
@EVERY_COST
def test_cost_of_every_layout_is_exact(name, layout):
    arrays = [layout(array) for array in COSTS[name]]
    a, b = costs.ALL[name](*arrays), costs.ALL[name](*map(exact, arrays))
    np.testing.assert_array_equal(a.data, b.data)
    A, D = layout(TARGET), layout(OUTPUTS[:, :3])
    assert a.value(A) == b.value(exact(A))
    np.testing.assert_array_equal(a.gradient(A), b.gradient(exact(A)))
    np.testing.assert_array_equal(a.hessian_vector(A, D), b.hessian_vector(exact(A), exact(D)))


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@EVERY_LAYOUT
@EVERY_COST
def test_run_of_every_layout_is_exact(name, layout, run):
    arrays, start = [layout(array) for array in COSTS[name]], [layout(W) for W in START]
    a = run(costs.ALL[name](*arrays), start)
    b = run(costs.ALL[name](*map(exact, arrays)), list(map(exact, start)))
    assert_same_runs(a, b)


@EVERY_LAYOUT
def test_start_of_every_layout_is_exact(layout):
    A = layout(TARGET)
    for a, b in zip(inits.balanced(A, 3, rng=0), inits.balanced(exact(A), 3, rng=0), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(inits.aligned(A, 3, scale=0.1), inits.aligned(exact(A), 3, scale=0.1), strict=True):
        np.testing.assert_array_equal(a, b)
    assert dln.escape_speed(A, 3) == dln.escape_speed(exact(A), 3)


@EVERY_LAYOUT
def test_times_of_every_layout_are_exact(layout):
    t = layout(np.array([1.0, 2.0, 4.0]))
    assert_same_runs(flow(t_span=(0, 5), t_eval=t), flow(t_span=(0, 5), t_eval=exact(t)))
    np.testing.assert_array_equal(flow_run().at(t), flow_run().at(exact(t)))


WIDTHS = {
    "list": [2, 3, 4],
    "range": range(2, 5),
    "array": np.array([2, 3, 4]),
    "kinds": (np.int8(2), np.uint16(3), 4),
}


@pytest.mark.parametrize("widths", WIDTHS.values(), ids=WIDTHS)
def test_widths_of_every_kind_are_the_same(widths):
    for a, b in zip(
        inits.gaussian(widths, std=1, rng=0), inits.gaussian((2, 3, 4), std=1, rng=0), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_layers_in_one_array_are_the_same():
    assert_same_runs(flow(np.array(HALVES)), flow(HALVES))
    assert_same_runs(flow(tuple(HALVES)), flow(HALVES))


@pytest.mark.parametrize("one", [1, np.float32(1), np.int8(1), np.array(1.0), np.longdouble(1)], ids=repr)
def test_numbers_of_every_kind_are_the_same(one):
    assert_same_runs(flow(weight_decay=one, t_span=(0, one)), flow(weight_decay=1.0, t_span=(0.0, 1.0)))
    assert_same_runs(descent(learning_rate=one), descent(learning_rate=1.0))
    assert (one * cost()).scale == 1.0
    assert type((cost() * one).scale) is float


# Inputs are read, not written; outputs belong to nobody else.


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@EVERY_COST
def test_inputs_are_neither_written_nor_kept(name, run):
    arrays, start = [array.copy() for array in COSTS[name]], [W.copy() for W in START]
    of = costs.ALL[name](*arrays)
    result = run(of, start)
    for after, before in zip((*arrays, *start), (*COSTS[name], *START), strict=True):
        np.testing.assert_array_equal(after, before)
        assert after.flags.writeable
        after[:] = 99.0
    assert_same_runs(result, run(costs.ALL[name](*COSTS[name]), START))
    np.testing.assert_array_equal(result.at(result.t[0]), network.end_to_end(START))


STORED = ("t", "end_to_end", "weights", "start", "extrema", "measured")
DERIVED = ("cost", "objective", "gradient_norm", "singular_values")


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("name", STORED + DERIVED)
def test_trajectory_is_read_only(name, run):
    value = getattr(run(costs.FullyObserved(TARGET), START), name)
    for array in value if isinstance(value, tuple) else (value,):
        assert array is None or not array.flags.writeable


@EVERY_COST
def test_data_of_a_cost_is_read_only(name):
    of = costs.ALL[name](*COSTS[name])
    for argument in of.arguments[:2]:
        with pytest.raises(ValueError, match="read-only"):
            getattr(of, argument)[...] = 0.0


def test_times_asked_for_do_not_alias_the_trajectory():
    run = flow()
    A, layers, kept = run.at(run.t), run.weights_at(run.t), run.end_to_end.copy()
    for array in (A, *layers):
        array[:] = 99.0
    np.testing.assert_array_equal(run.end_to_end, kept)
    np.testing.assert_array_equal(run.start[0], HALVES[0])


VIEWS = [
    "cost().gradient(X)",
    "cost().hessian_vector(EYE, X)",
    "inits.balanced(X, 1)[0]",
    "network.end_to_end([X])",
    "network.include([X], [])[0]",
]


@pytest.mark.parametrize("expression", VIEWS)
def test_result_does_not_alias_the_argument(expression):
    X = EYE.copy()
    evaluate(f"(lambda X: {expression})")(X)[:] = 99.0
    np.testing.assert_array_equal(X, EYE)


# Runs that cannot do what was asked end with a status and a sentence, and keep what they reached.

ENDS = {
    "descent(learning_rate=1e3, steps=1000)": "not_finite",
    "descent(learning_rate=1e300, steps=1000)": "not_finite",
    "descent(learning_rate=1e3, steps=1000, keep_weights=False)": "not_finite",
    "descent(learning_rate=1e3, steps=1000, momentum=0.9)": "not_finite",
    "descent(weight_decay=1e300, steps=100)": "not_finite",
    "descent([1e200 * EYE, 1e200 * EYE])": "not_finite",
    "sgd(learning_rate=1e3, steps=1000)": "not_finite",
    "flow(t_span=(0, 1e12), method='euler', step=1e10)": "not_finite",
    "flow(t_span=(0, 1e12), method='euler', step=1e10, keep_weights=False)": "not_finite",
    "flow(t_span=(0, 3e3), method='euler', step=3.0)": "not_finite",
    "flow(t_span=(0, 1e5), method='euler', step=100.0)": "not_finite",
    "flow(t_span=(0, 1e5), method='rk4', step=100.0)": "not_finite",
    "flow(t_span=(0, 1e5), method='rk4', step=100.0, t_eval=[50.0, 1e5])": "not_finite",
    "flow([1e60 * EYE, 1e60 * EYE])": "underflow not_finite",
    "flow([1e150 * EYE, 1e150 * EYE])": "not_finite",
    "flow([1e200 * EYE, 1e200 * EYE])": "not_finite",
    "flow([1e200 * EYE, 1e200 * EYE], keep_weights=False)": "not_finite",
    "flow([1e300 * EYE])": "not_finite",
    "flow(weight_decay=1e300)": "underflow not_finite",
    "flow(of=1e300 * cost())": "underflow not_finite",
    "flow(t_span=(1e20, 2e20))": "underflow",
    "flow(max_steps=1)": "max_steps",
    "flow(max_steps=5)": "max_steps",
    "flow(max_steps=5, keep_weights=False)": "max_steps",
    "flow(t_span=(0, 10), max_steps=5, t_eval=[9.0])": "max_steps",
    "flow(t_span=(0, 10), max_steps=5, t_eval=[9.0], keep_weights=False)": "max_steps",
    "flow(t_span=(0, 10), max_steps=5, t_eval=[0.1, 9.0])": "max_steps",
    "flow(t_span=(0, 10), method='euler', step=5e-324, max_steps=100)": "max_steps underflow",
    "flow(t_span=(0, inf), until=Until(cost=-1.0), max_steps=20)": "max_steps",
    "flow(t_span=(0, inf), until=Until(gradient_norm=1e-20), max_steps=20)": "max_steps",
    "flow(t_span=(0, inf), until=Until(rank=9), max_steps=20)": "max_steps",
    "flow(t_span=(0, inf), until=Until(saddle=9), max_steps=20)": "max_steps",
    "flow(t_span=(0, inf), until=Until(saddle=9), max_steps=5000)": "max_steps at_rest",
    "flow([0 * EYE, 0 * EYE], t_span=(0, inf), until=Until(cost=0.1))": "stationary at_rest",
}


def assert_ended(run, *statuses):
    """A failed run says so in a sentence, and what it reached can be read in every way."""
    assert run.status in statuses
    assert not run.success
    assert re.fullmatch(r"[A-Z`m].*\.", run.message)
    assert len(run.t) == len(run.end_to_end) == len(run.cost) == len(run.objective) == len(run.gradient_norm)
    assert len(run.t) > 0
    if np.isfinite(run.end_to_end[0]).all():
        assert np.isfinite(run.end_to_end).all()
        assert run.at(run.t[-1]).shape == (2, 2)
        assert run.rank().shape == run.t.shape
    assert run.status in repr(run)
    assert run.status in run._repr_html_()


@pytest.mark.parametrize("expression", ENDS)
def test_run_ends_with_a_status(expression):
    assert_ended(evaluate(expression), *ENDS[expression].split())


@pytest.mark.parametrize(
    "expression",
    [
        "flow([1e-200 * EYE, 1e-200 * EYE])",
        "flow([5e-324 * EYE, 5e-324 * EYE])",
        "flow(of=1e-300 * cost())",
        "flow([0 * EYE, 0 * EYE])",
        "flow([EYE, EYE])",
        "flow(t_span=(0, 10), rtol=1e100)",
        "flow([1e20 * EYE, 1e20 * EYE])",
    ],
)
def test_extreme_sizes_are_done_in_silence(expression):
    run = evaluate(expression)
    assert run.success
    assert np.isfinite(run.end_to_end).all()


@pytest.mark.parametrize("scale", [1e-320, 1e-200, 1e-3, 1e200, 1e300])
@pytest.mark.parametrize("depth", [2, 3, 4, 9])
def test_escape_speed_of_every_size_is_proportional(scale, depth):
    speed = dln.escape_speed(scale * EYE, depth)
    assert speed == pytest.approx(scale * dln.escape_speed(EYE, depth), rel=1e-3, abs=1e-322)


def test_the_point_reached_is_kept_beside_the_times_asked_for():
    run = flow(t_span=(0, 10), t_eval=[0.1, 9.0], max_steps=5)
    assert run.t[-1] == flow(t_span=(0, 10), max_steps=5).t[-1]


def test_point_that_fulfilled_the_condition_is_kept():
    run = flow(t_span=(0, inf), t_eval=[0.1, 1e3], until=dln.Until(cost=1e-3))
    assert run.cost[-1] <= 1e-3


# Costs of the user's own that go wrong on the way.


class Uncompilable:
    pass


def square(A):
    return 0.5 * np.sum((A - np.eye(2)) ** 2)


def difference(A):
    return A - np.eye(2)


def compiled_raising(A):
    if A[0, 0] > 0.8:
        raise RuntimeError("boom")
    return A - np.eye(2)


def compiled_raising_value(A):
    if A[0, 0] > 0.8:
        raise RuntimeError("boom")
    return 0.5 * np.sum((A - np.eye(2)) ** 2)


def compiled_wrong_shape(A):
    return np.zeros((3, 3)) if A[0, 0] > 0.8 else A - np.eye(2)


def compiled_nan(A):
    return A * np.nan if A[0, 0] > 0.8 else A - np.eye(2)


def late(wrong, right=difference):
    """Python that Numba refuses, right up to A_11 = 0.8, then something else."""

    def function(A):
        Uncompilable()
        return wrong(A) if A[0, 0] > 0.8 else right(A)

    return function


def boom(A):
    raise KeyError("boom {x} %s")


BROKEN = {
    "raises": (square, late(boom), "boom {x} %s"),
    "value raises": (late(boom, square), difference, "boom {x} %s"),
    "wrong shape": (square, late(lambda A: np.zeros((3, 3))), "(3, 3)"),
    "flat": (square, late(lambda A: np.zeros(4)), "(4,)"),
    "number": (square, late(lambda A: 1.0), "()"),
    "None": (square, late(lambda A: None), "None"),
    "text": (square, late(lambda A: "text"), "text"),
    "complex": (square, late(lambda A: A + 1j), "complex"),
    "compiled raises": (square, compiled_raising, "boom"),
    "compiled value raises": (compiled_raising_value, difference, "boom"),
    "compiled wrong shape": (square, compiled_wrong_shape, "shape"),
}
CUSTOM_RUNS = {
    "flow": lambda of: flow(of=of, t_span=(0, 5), max_steps=1000),
    "flow without layers": lambda of: flow(of=of, t_span=(0, 5), max_steps=1000, keep_weights=False),
    "rk4": lambda of: flow(of=of, t_span=(0, 5), method="rk4", step=0.1),
    "descent": lambda of: descent(of=of, steps=100),
    "descent without layers": lambda of: descent(of=of, steps=100, keep_weights=False),
}
# Descent that keeps its layers does not ask for the value.
UNNOTICED = {("value raises", "descent"), ("compiled value raises", "descent")}
# Compiled once.
custom_costs = cache(lambda name: costs.Custom(*BROKEN[name][:2]))
nan_costs = cache(lambda gradient: costs.Custom(square, gradient))
QUIET = pytest.mark.filterwarnings(
    "ignore:this Custom cost cannot be compiled", "ignore::numpy.exceptions.ComplexWarning"
)
EVERY_CUSTOM_RUN = pytest.mark.parametrize("run", CUSTOM_RUNS)


def assert_reached(run):
    """The run keeps what it reached before A_11 passed 0.8, and nothing else."""
    assert not run.success
    assert len(run.t) == len(run.end_to_end) > 5
    assert 0.7 < run.end_to_end[-1, 0, 0] < 0.85
    assert np.isfinite(run.end_to_end).all()
    assert run.status in repr(run)


@QUIET
@EVERY_CUSTOM_RUN
@pytest.mark.parametrize("name", BROKEN)
def test_broken_custom_cost_fails_late(name, run):
    if (name, run) not in UNNOTICED:
        result = CUSTOM_RUNS[run](custom_costs(name))
        assert result.status == "failed"
        assert BROKEN[name][2].lower() in result.message.lower()
        assert_reached(result)


@QUIET
@pytest.mark.parametrize("run", ["flow", "descent"])
@pytest.mark.parametrize("name", BROKEN)
def test_broken_custom_cost_fails_at_the_start(name, run):
    if (name, run) not in UNNOTICED:
        of = custom_costs(name)
        failed = descent([EYE, EYE], of=of) if run == "descent" else flow([EYE, EYE], of=of, max_steps=1000)
        assert failed.status == "failed"
        assert BROKEN[name][2].lower() in failed.message.lower()
        assert len(failed.t) == 1
        assert descent([0.1 * EYE, 0.1 * EYE], of=of, steps=3).success  # the failure is not remembered


@QUIET
@EVERY_CUSTOM_RUN
@pytest.mark.parametrize("gradient", [compiled_nan, late(lambda A: A * nan)], ids=["compiled", "Python"])
def test_custom_gradient_that_is_nan_ends_the_run(gradient, run):
    result = CUSTOM_RUNS[run](nan_costs(gradient))
    assert result.status in ("failed", "not_finite", "underflow")
    assert_reached(result)


@QUIET
@pytest.mark.parametrize("value", [lambda A: nan, late(lambda A: nan, square)], ids=["always", "late"])
@pytest.mark.parametrize("options", [{}, {"method": "rk4", "step": 0.1}, {"keep_weights": False}], ids=repr)
def test_custom_value_that_is_nan_ends_the_flow(value, options):
    run = flow(t_span=(0, 5), of=costs.Custom(value, difference), max_steps=1000, **options)
    assert run.status in ("failed", "not_finite", "underflow")
    assert np.isfinite(run.end_to_end).all()
    assert run.status in repr(run)


NO_FUNCTION_OF_A = {"value": (lambda: 1.0, difference), "gradient": (square, lambda: 1.0)}


@pytest.mark.parametrize("name", NO_FUNCTION_OF_A)
def test_function_without_argument_is_refused(name):
    with pytest.raises(TypeError, match=f"`{name}`"):
        flow(of=costs.Custom(*NO_FUNCTION_OF_A[name]))


def test_warning_of_slow_custom_cost_points_to_the_caller():
    with pytest.warns(UserWarning, match="this Custom cost cannot be compiled") as caught:
        flow(of=costs.Custom(square, late(difference)))
    assert caught[0].filename == __file__


# Pictures and saddles of what cannot be examined.


def test_saddles_of_a_diverged_run_are_none():
    with np.errstate(all="ignore"):
        assert dln.find_saddles(descent(learning_rate=1e3, steps=1000)) == ()


def test_negative_objective_can_be_plotted():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    of = costs.Custom(lambda A: np.sum(A**2) - 5.0, lambda A: 2.0 * A)
    assert len(flow(t_span=(0, 5), of=of).plot().lines) == 2
