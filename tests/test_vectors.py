"""The vector code against the plain functions: all small shapes, odd places, NaN, other processors."""

import itertools
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from llvmlite.binding import get_host_cpu_features
from numba import config, float32, float64, int64, njit, void
from numba.core.errors import TypingError

from dln.core import vectors

EPS = np.finfo(float).eps
GUARD = 19  # entries around an array, more than two vectors; odd, so that arrays start off every boundary
SENTINEL = 12345.678
VECTOR, MATRIX = float64[::1], float64[:, ::1]
SMALL = range(1, 21)

compiled_only = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")


def build():
    """Compile one caller of each function, with a written signature: every call below runs the same code."""

    @njit(void(MATRIX, MATRIX, MATRIX))
    def multiply(A, B, out):
        (m, k), n = A.shape, B.shape[1]
        vectors.multiply(A.reshape(A.size), 0, B.reshape(B.size), 0, out.reshape(out.size), 0, m, k, n)

    @njit(void(MATRIX, MATRIX, MATRIX))
    def multiply_tn(A, B, out):
        (k, m), n = A.shape, B.shape[1]
        vectors.multiply_tn(A.reshape(A.size), 0, B.reshape(B.size), 0, out.reshape(out.size), 0, m, k, n)

    @njit(void(MATRIX, MATRIX))
    def transpose(A, out):
        vectors.transpose(A.reshape(A.size), 0, out.reshape(out.size), 0, *A.shape)

    @njit(void(VECTOR, MATRIX, VECTOR, int64, float64, VECTOR))
    def combine(y, K, coefficients, count, h, out):
        vectors.combine(y, K, coefficients, count, h, out)

    @njit(void(MATRIX, VECTOR, int64, float64, VECTOR))
    def weighted(K, coefficients, count, h, out):
        vectors.weighted(K, coefficients, count, h, out)

    return SimpleNamespace(
        multiply=multiply, multiply_tn=multiply_tn, transpose=transpose, combine=combine, weighted=weighted
    )


@pytest.fixture(scope="module")
def compiled():
    return build()


def place(values, around=np.nan):
    """Return a copy of `values` in a longer flat array, and that array: what is read outside shows as NaN."""
    flat = np.full(values.size + 2 * GUARD, around)
    view = flat[GUARD : GUARD + values.size].reshape(values.shape)
    view[...] = values
    return view, flat


def run(function, shape, *arguments):
    """Return what `function` writes into an array of `shape`, after a check that it writes nowhere else."""
    out, flat = place(np.full(shape, SENTINEL), SENTINEL)
    function(*arguments, out)
    assert np.all(flat[:GUARD] == SENTINEL)
    assert np.all(flat[GUARD + out.size :] == SENTINEL)
    return out


def judge(A, B):
    """Return A @ B summed one column of A after the other."""
    total = np.zeros((len(A), B.shape[1]))
    for p in range(A.shape[1]):
        total += A[:, p, None] * B[p]
    return total


def check_product(compiled, rng, m, k, n):
    A, B = place(rng.standard_normal((m, k)))[0], place(rng.standard_normal((k, n)))[0]
    expected = judge(A, B)
    bound = 2 * k * EPS * (abs(A) @ abs(B))
    assert np.all(abs(run(compiled.multiply, (m, n), A, B) - expected) <= bound), (m, k, n)
    T = place(A.T)[0]
    assert np.all(abs(run(compiled.multiply_tn, (m, n), T, B) - expected) <= bound), (m, k, n)


def check_sum(compiled, rng, n, count, stages=None):
    stages = count if stages is None else stages
    K, y = place(rng.standard_normal((stages, n)))[0], place(rng.standard_normal(n))[0]
    c, h = place(rng.standard_normal(stages) * (rng.random(stages) < 0.8))[0], rng.standard_normal()
    size = abs(y) + abs(h) * (abs(c[:count]) @ abs(K[:count]))
    expected = np.empty(n)
    vectors.combine_plain(y, K, c, count, h, expected)
    assert np.all(abs(run(compiled.combine, n, y, K, c, count, h) - expected) <= (count + 4) * EPS * size)
    vectors.weighted_plain(K, c, count, h, expected)
    assert np.all(abs(run(compiled.weighted, n, K, c, count, h) - expected) <= (count + 4) * EPS * size)


def main():
    """Check each function for some shapes of every kind: run as a program on another processor's code."""
    compiled, rng = build(), np.random.default_rng(1)
    for m, k, n in itertools.product((1, 2, 3, 4, 7, 13), (0, 1, 2, 9), (1, 2, 3, 4, 5, 8, 9, 17, 33)):
        check_product(compiled, rng, m, k, n)
    for m, n in itertools.product((1, 3, 4, 9), (2, 5, 8, 17)):
        A = rng.standard_normal((m, n))
        assert np.array_equal(run(compiled.transpose, (n, m), A), A.T)
    for n, count in itertools.product((0, 1, 7, 8, 40, 77), (0, 1, 5)):
        check_sum(compiled, rng, n, count)


def test_products_of_every_small_shape(compiled):
    rng = np.random.default_rng(0)
    for m, k, n in itertools.product(SMALL, SMALL, SMALL):
        check_product(compiled, rng, m, k, n)


def test_products_of_larger_shapes(compiled):
    rng = np.random.default_rng(0)
    for m, k, n in rng.integers(1, 90, (60, 3)):
        check_product(compiled, rng, m, k, n)
    for m, k, n in [(1, 150, 40), (40, 150, 1), (1, 150, 1), (150, 1, 150), (2, 3, 300), (300, 2, 3)]:
        check_product(compiled, rng, m, k, n)


def test_products_with_an_empty_side(compiled):
    rng = np.random.default_rng(0)
    for m, k, n in itertools.product((0, 1, 2, 9), repeat=3):
        check_product(compiled, rng, m, k, n)


def test_large_products_go_to_blas(compiled):
    side = round(vectors.BLAS_FROM ** (1 / 3)) + 1
    assert side**3 >= vectors.BLAS_FROM
    check_product(compiled, np.random.default_rng(0), side, side, side)


def test_plain_products_are_products():
    rng = np.random.default_rng(0)
    A, B, out = rng.standard_normal((5, 7)), rng.standard_normal((7, 3)), np.zeros(17)
    vectors.multiply_plain(A.ravel(), 0, B.ravel(), 0, out, 1, 5, 7, 3)
    np.testing.assert_allclose(out[1:16].reshape(5, 3), A @ B, rtol=1e-13)
    vectors.multiply_tn_plain(A.T.ravel(), 0, B.ravel(), 0, out, 2, 5, 7, 3)
    np.testing.assert_allclose(out[2:].reshape(5, 3), A @ B, rtol=1e-13)
    vectors.transpose_plain(A.ravel(), 14, out, 0, 3, 5)
    np.testing.assert_array_equal(out[:15].reshape(5, 3), A.ravel()[14:29].reshape(3, 5).T)


def test_products_spread_nan_and_infinity(compiled):
    rng = np.random.default_rng(0)
    values = np.array([0.0, 1.0, -2.0, np.inf, -np.inf, np.nan])
    chances = [0.3, 0.32, 0.3, 0.03, 0.03, 0.02]
    for m, k, n in rng.integers(1, 20, (400, 3)):
        A, B = rng.choice(values, (m, k), p=chances), rng.choice(values, (k, n), p=chances)
        T = np.ascontiguousarray(A.T)
        with np.errstate(invalid="ignore"):
            expected = judge(A, B)
            np.testing.assert_array_equal(run(compiled.multiply, (m, n), A, B), expected)
            np.testing.assert_array_equal(run(compiled.multiply_tn, (m, n), T, B), expected)


def test_transpose(compiled):
    rng = np.random.default_rng(0)
    for m, n in [*itertools.product(range(21), range(21)), (64, 30), (3, 100), (101, 50)]:
        A = place(rng.standard_normal((m, n)))[0]
        assert np.array_equal(run(compiled.transpose, (n, m), A), A.T), (m, n)


def test_sums_of_every_small_length(compiled):
    rng = np.random.default_rng(0)
    for n, count in itertools.product(range(80), range(8)):
        check_sum(compiled, rng, n, count)
    for n in (200, 333, 2703):
        check_sum(compiled, rng, n, 6, stages=13)


def test_sum_written_over_its_first_term(compiled):
    rng = np.random.default_rng(0)
    for n in range(80):
        y, K, c = rng.standard_normal(n), rng.standard_normal((3, n)), rng.standard_normal(3)
        expected = run(compiled.combine, n, y, K, c, 3, 0.5)
        compiled.combine(y, K, c, 3, 0.5, y)
        assert np.array_equal(y, expected)


def test_sums_skip_zero_coefficients_only(compiled):
    K = np.ones((4, 37))
    K[1], K[2, 5], K[3, 6], K[3, 7] = np.nan, np.inf, np.inf, np.nan
    y = np.zeros(37)
    for coefficients in ([2.0, 0, 0, 0], [0.0, -0.0, 1, 1], [1.0, 0, 1, -1], [np.nan, 0, 0, 0]):
        c, expected = np.array(coefficients), np.empty(37)
        with np.errstate(invalid="ignore"):
            vectors.combine_plain(y, K, c, 4, 0.5, expected)
            np.testing.assert_array_equal(run(compiled.combine, 37, y, K, c, 4, 0.5), expected)
            np.testing.assert_array_equal(run(compiled.weighted, 37, K, c, 4, 0.5), expected)


@compiled_only
def test_wrong_shapes_are_refused(compiled):
    zeros = np.zeros
    with pytest.raises(ValueError, match="stages"):
        compiled.combine(zeros(4), zeros((2, 5)), zeros(2), 2, 0.1, zeros(5))
    with pytest.raises(ValueError, match="stages"):
        compiled.weighted(zeros((2, 5)), zeros(3), 3, 0.1, zeros(5))


@compiled_only
def test_other_arrays_are_refused():
    def caller(A, B, out):
        vectors.multiply(A, 0, B, 0, out, 0, 1, 1, 1)

    for kind in (float64[:], MATRIX, float32[::1]):
        with pytest.raises(TypingError, match="C-contiguous"):
            njit(void(kind, VECTOR, VECTOR))(caller)


def start(program, *arguments, **settings):
    """Run a Python program in a process of its own and return what it prints."""
    command = [sys.executable, "-W", "error", program, *arguments]
    result = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_without_the_compiler():
    start(__file__, NUMBA_DISABLE_JIT="1")


@pytest.mark.parametrize("features", ["", "+avx,+avx2,+fma,-avx512f"])
def test_code_for_other_processors(features):
    if features and not get_host_cpu_features().get("avx2"):
        pytest.skip("the processor has no AVX2")
    start(__file__, NUMBA_CPU_NAME="haswell" if features else "generic", NUMBA_CPU_FEATURES=features)


CACHED = """
import numpy as np
from numba import float64, njit, void
from dln.core import vectors

V = float64[::1]

@njit(void(V, V, V), cache=True)
def square(A, B, out):
    vectors.multiply(A, 0, B, 0, out, 0, 7, 7, 7)
    vectors.multiply_tn(A, 0, B, 0, out, 0, 7, 7, 7)

A, out = np.eye(7).ravel(), np.empty(49)
square(A, A, out)
assert np.array_equal(out, A)
print(sum(square.stats.cache_hits.values()))
"""


@compiled_only
def test_callers_are_cached_across_processes(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(CACHED)
    hits = [int(start(str(program), NUMBA_CACHE_DIR=str(tmp_path / "cache"))) for _ in range(2)]
    assert hits == [0, 1]


if __name__ == "__main__":
    main()
