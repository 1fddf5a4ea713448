r"""One step of an exponential Rosenbrock method of three stages, with the Hessian H of the objective.

With f the velocity, J = -H its Jacobian at y, D_i = f(U_i) - f(y) - J (U_i - y), which is what is not linear, and
phi_k(z) = the sum over j of z^j / (j + k)!, the exprb53s3 of Luan and Ostermann (2014) is

    U_2 = y + h/2 phi_1(h/2 J) f(y),
    U_3 = y + 9/10 h phi_1(9/10 h J) f(y) + h (27/25 phi_3(h/2 J) + 729/125 phi_3(9/10 h J)) D_2 ,
    new = y + h phi_1(h J) f(y) + h (18 phi_3 - 60 phi_4)(h J) D_2 + h (-250/81 phi_3 + 500/27 phi_4)(h J) D_3 .

Without phi_4 the order is three. The last line with x h for h, x^3 for phi_3 and x^4 for phi_4, but D_2 and D_3 as
they are, is the solution within the step; a polynomial goes through four of its values. (The quintic of `hermite` would
amplify what relaxes quickly, rounding too, by the square of h times the rate.)

The phi_k act within a Krylov space: H is symmetric, so Lanczos' recurrence turns it into a tridiagonal matrix T, the
eigenvalues and vectors of which give phi_k(-h T). All that is wanted of one vector comes from one space. Growing modes
ask for nothing special.

memory: the step number for which the space of f(y) stands, this space, those of D_2 and D_3, and room for the
eigenvalues, the off-diagonal, the eigenvectors, and two vectors of coefficients. A space is its dimension, the norm of
its vector, the diagonal and off-diagonal of T, and its vectors one after the other.
"""

from __future__ import annotations

import numpy as np

from .compile import gradient_of, helper, hessian_of, product_of, velocity_of
from .steps import CLOSING, EXPONENT, SHARE, advance, error_ratio, norm, rounding
from .vectors import combine, multiply, weighted
from .views import matrix_at, vector_at

__all__ = ["NODES", "complete", "room", "step"]

MOST = 3  # place in `numbers`: largest dimension of a space
# Error of one action of the phi_k in units of the tolerance of a mode that doubles within the step.
ACTION = 0.05
ROUNDING = 4e-15  # no action is more accurate than this share of its vector
# Steps become no longer than this many times 1 / radius: beyond, rounding decides. At rest they would grow for ever.
LONGEST = 1e8
SHORTER = 32.0  # error ratio of a step that needs a larger space: it is shortened to a half or so
FIRST = 3  # dimension at which the error is estimated first
EPS = 2.3e-16
SWEEPS = 60  # of the QL iteration for one eigenvalue; two are usual
NODES = 4  # the dense output goes through the values at 1/4, 2/4, 3/4, 1
SMALL = 2.0  # below it the phi_k come from their series
TERMS = 24


@helper
def _space_size(n, most):  # type: ignore[no-untyped-def]
    """Length of one space."""
    return 2 + 2 * most + (most + 1) * n


def room(n: int, most: int) -> int:
    """Length of the memory."""
    return 1 + 3 * (2 + 2 * most + (most + 1) * n) + most * most + 4 * most


@helper
def _phi(z):  # type: ignore[no-untyped-def]
    """phi_1, phi_2, phi_3, phi_4 of z."""
    if abs(z) < SMALL:
        last = 0.0
        for j in range(TERMS, 0, -1):
            last = (1.0 + last) * z / (j + 4.0)
        fourth = (1.0 + last) / 24.0
        third = z * fourth + 1.0 / 6.0
        second = z * third + 0.5
        return z * second + 1.0, second, third, fourth
    first = np.expm1(z) / z
    second = (first - 1.0) / z
    third = (second - 0.5) / z
    return first, second, third, (third - 1.0 / 6.0) / z


@helper
def _eigen(d, e, m, Z, width):  # type: ignore[no-untyped-def]
    """Eigenvalues of the tridiagonal matrix with diagonal d and off-diagonal e, into d, by the implicit QL iteration.

    Its rotations go over the rows of the m x width matrix Z as well: from the identity come the eigenvectors, row by
    row, and from some of its columns their entries there.
    """
    scale = 0.0
    for i in range(m):
        scale = max(scale, abs(d[i]), abs(e[i]))
    for first in range(m):
        for _ in range(SWEEPS):
            last = first
            while last < m - 1 and abs(e[last]) > EPS * max(abs(d[last]) + abs(d[last + 1]), 0.1 * scale):
                last += 1
            if last == first:
                break
            g = (d[first + 1] - d[first]) / (2.0 * e[first])
            r = np.sqrt(g * g + 1.0)
            g = d[last] - d[first] + e[first] / (g + (r if g >= 0.0 else -r))
            sine, cosine, shift, split = 1.0, 1.0, 0.0, False
            for i in range(last - 1, first - 1, -1):
                f, b = sine * e[i], cosine * e[i]
                r = np.sqrt(f * f + g * g)
                e[i + 1] = r
                if r == 0.0:
                    d[i + 1] -= shift
                    e[last] = 0.0
                    split = True
                    break
                sine, cosine = f / r, g / r
                g = d[i + 1] - shift
                r = (d[i] - g) * sine + 2.0 * cosine * b
                shift = sine * r
                d[i + 1] = g + shift
                g = cosine * r - b
                upper, lower = vector_at(Z, i * width, width), vector_at(Z, (i + 1) * width, width)
                for j in range(width):
                    x, w = upper[j], lower[j]
                    upper[j] = cosine * x - sine * w
                    lower[j] = sine * x + cosine * w
            if not split:
                d[first] -= shift
                e[first] = g
                e[last] = 0.0


@helper
def _diagonalise(memory, space, spectrum, most, h, ends):  # type: ignore[no-untyped-def]
    """Eigenvalues of -h T and the first and last entries (ends = 1) or all entries of its eigenvectors."""
    m = int(memory[space])
    d, e = vector_at(memory, spectrum, most), vector_at(memory, spectrum + most, most)
    Z, width = vector_at(memory, spectrum + 2 * most, most * most), 2 if ends == 1 and m > 1 else m
    for i in range(m):
        d[i] = -h * memory[space + 2 + i]
        e[i] = -h * memory[space + 2 + most + i] if i < m - 1 else 0.0
    for i in range(m * width):
        Z[i] = 0.0
    for i in range(width):
        Z[((m - 1) * i if ends == 1 else i) * width + i] = 1.0
    _eigen(d, e, m, Z, width)


@helper
def _defect(memory, space, spectrum, most, h):  # type: ignore[no-untyped-def]
    """Leading term of the error of h phi_1(h J) b: |b| h^2 t_{m+1,m} [phi_2(-h T)]_{m,1} (Saad 1992)."""
    m = int(memory[space])
    beyond = memory[space + 2 + most + m - 1]
    if beyond == 0.0:
        return 0.0
    _diagonalise(memory, space, spectrum, most, h, 1)
    Z, width, total = spectrum + 2 * most, 2 if m > 1 else 1, 0.0
    for j in range(m):
        at = Z + j * width
        total += memory[at] * memory[at + width - 1] * _phi(memory[spectrum + j])[1]
    return memory[space + 1] * h * h * beyond * abs(total)


@helper
def _begin(memory, space, most, b):  # type: ignore[no-untyped-def]
    """The space that b spans."""
    n = b.size
    size = norm(b, 0, n)
    memory[space], memory[space + 1] = 0.0, size
    v = vector_at(memory, space + 2 + 2 * most, n)
    for i in range(n):
        v[i] = b[i] / size if size > 0.0 else 0.0


@helper
def _extend(  # type: ignore[no-untyped-def]
    system, index, weight_decay, data, work, memory, space, spectrum, most, y, h, goal, control
):  # fmt: skip
    """Enlarge a space until h phi_1(h J) b is known to `goal`; False where its room does not suffice."""
    product, gradient, hessian = product_of(system), gradient_of(system), hessian_of(system)
    n, vectors, largest = y.size, space + 2 + 2 * most, 0.0
    coefficients = vector_at(memory, spectrum + 2 * most + most * most, most)
    if memory[space + 1] == 0.0:
        return True
    m = int(memory[space])
    for i in range(m):
        largest = max(largest, abs(memory[space + 2 + i]))
    check = max(m, FIRST)
    while True:
        if m > 0 and (m in (check, most) or memory[space + 2 + most + m - 1] == 0.0):
            defect = _defect(memory, space, spectrum, most, h)
            if defect <= goal:
                return True
            if m == most or np.isnan(defect):
                return False
            check = m + 1 + m // 4
        v, w = vector_at(memory, vectors + m * n, n), vector_at(memory, vectors + (m + 1) * n, n)
        product(y, v, index, weight_decay, gradient, hessian, data, work, w)
        control[0].products += 1
        before = norm(w, 0, n)
        V = matrix_at(memory, vectors, m + 1, n)
        diagonal = 0.0
        for _ in range(2):  # orthogonal to all the vectors, twice: once leaves what rounding has grown to
            multiply(memory, vectors, w, 0, coefficients, 0, m + 1, n, 1)
            diagonal += coefficients[m]
            combine(w, V, coefficients, m + 1, -1.0, w)
        beyond = norm(w, 0, n)
        largest = max(largest, before)
        if beyond <= 10.0 * EPS * largest or m + 1 == n:
            beyond = 0.0  # H maps the space into itself
        else:
            for i in range(n):
                w[i] /= beyond
        memory[space + 2 + m], memory[space + 2 + most + m] = diagonal, beyond
        m += 1
        memory[space] = m


@helper
def _act(memory, space, spectrum, most, n, part, one, three, four, h, out):  # type: ignore[no-untyped-def]
    """out += h (one phi_1 + three phi_3 + four phi_4)(part h J) b, where the space of b is diagonalised."""
    m = int(memory[space])
    if m == 0:
        return
    last = spectrum + 2 * most + most * most
    coefficients, factors = vector_at(memory, last, most), vector_at(memory, last + most, most)
    for j in range(m):
        first, _, third, fourth = _phi(part * memory[spectrum + j])
        factors[j] = (one * first + three * third + four * fourth) * memory[spectrum + 2 * most + j * m]
    Z = matrix_at(memory, spectrum + 2 * most, m, m)
    weighted(Z, factors, m, h * memory[space + 1], vector_at(memory, last, m))
    combine(out, matrix_at(memory, space + 2 + 2 * most, m, n), coefficients, m, 1.0, out)


@helper
def _between(memory, space, spectrum, most, h):  # type: ignore[no-untyped-def]
    """Norm of the error of the dense output at h / 8, where fast relaxation shows most, for the linear flow.

    The step itself has no such error and would be as long as the nonlinear part allows.
    """
    m, total = int(memory[space]), 0.0
    for j in range(m):
        z = memory[spectrum + j]
        at_eighth, first, second = (
            0.125 * _phi(0.125 * z)[0],
            0.25 * _phi(0.25 * z)[0],
            0.5 * _phi(0.5 * z)[0],
        )
        third, last = 0.75 * _phi(0.75 * z)[0], _phi(z)[0]
        # Lagrange's polynomials of the nodes 0 .. 1 at 1/8
        error = at_eighth - (140.0 * first - 70.0 * second + 28.0 * third - 5.0 * last) / 128.0
        entry = memory[spectrum + 2 * most + j * m]
        total += (entry * error) ** 2
    return h * memory[space + 1] * np.sqrt(total)


def step(  # type: ignore[no-untyped-def]
    system, index, weight_decay, data, work,
    table, error, numbers, memory,
    blocks, y, carry, K, new, move, scratch, control, h,
):  # fmt: skip
    """Rows of the table: c_2 and c_3; two of x and what phi_1, phi_3, phi_4 of x h J weigh when D_2 acts on U_3; then 1
    and what phi_1, phi_3, phi_4 of h J weigh when f, D_2, D_3 act on the solution. `error`: the same three rows."""
    velocity, gradient, no_batch = velocity_of(system), gradient_of(system), np.empty(0, np.int64)
    product, hessian = product_of(system), hessian_of(system)
    c, n, most = control[0], y.size, numbers[MOST]
    v, v_new = vector_at(K, 0, n), vector_at(K, numbers[CLOSING] * n, n)
    # the rows of the dense output are free until then
    third, add, D = vector_at(K, 2 * n, n), vector_at(K, 3 * n, n), vector_at(K, 4 * n, n)
    size = _space_size(n, most)
    spectrum, between = 1 + 3 * size, 0.0
    fixed = numbers[EXPONENT] == 0
    speed = norm(v, 0, n)
    goal = h * speed * max(0.0 if fixed else ACTION * SHARE * c.rtol, ROUNDING)
    if memory[0] != c.steps:  # a new y; a step that is tried again has the space of f(y) already
        memory[0] = c.steps
        _begin(memory, 1, most, v)
    if not np.isfinite(speed):
        return np.inf
    for i in range(n):
        third[i], add[i], move[i], scratch[i] = 0.0, 0.0, 0.0, 0.0
    for stage in range(3):
        space = 1 + stage * size
        if stage > 0:
            _begin(memory, space, most, D)
        enough = _extend(
            system, index, weight_decay, data, work, memory, space, spectrum, most, y, h, goal, control
        )
        if not (enough or fixed):
            c.nfev += stage
            return SHORTER
        _diagonalise(memory, space, spectrum, most, h, 0)
        if stage == 0:
            radius = 0.0
            for j in range(int(memory[space])):
                radius = max(radius, abs(memory[spectrum + j]) / h)
            if radius > 0.0:  # at rest f(y) spans nothing
                c.radius = radius
            between = _between(memory, space, spectrum, most, h)
            for i, U in ((0, add), (1, third)):
                x = table[0, i]
                _act(memory, space, spectrum, most, n, x, x, 0.0, 0.0, h, U)
        elif stage == 1:
            for k in range(1, 3):
                x, one, three, four = table[k, 0], table[k, 1], table[k, 2], table[k, 3]
                if x != 0.0:
                    _act(memory, space, spectrum, most, n, x, one, three, four, h, third)
            for i in range(n):
                add[i] = third[i]
        k = 3 + stage
        _act(memory, space, spectrum, most, n, table[k, 0], table[k, 1], table[k, 2], table[k, 3], h, move)
        if not fixed:
            x, one, three, four = error[stage, 0], error[stage, 1], error[stage, 2], error[stage, 3]
            if x != 0.0:
                _act(memory, space, spectrum, most, n, x, one, three, four, h, scratch)
        if stage < 2:  # add = U - y
            for i in range(n):
                new[i] = y[i] + add[i]
            velocity(new, index, weight_decay, gradient, data, no_batch, work, v_new)
            product(y, add, index, weight_decay, gradient, hessian, data, work, D)
            c.products += 1
            for i in range(n):
                D[i] += v_new[i] - v[i]
    advance(y, carry, move, new)
    velocity(new, index, weight_decay, gradient, data, no_batch, work, v_new)
    c.nfev += 3
    if fixed:
        return 0.0
    ratio = error_ratio(blocks, y, new, v, v_new, scratch, scratch, 0.0, h, c.rtol, c.atol, rounding(c))
    # a layer has 1/sqrt(L) of the norm or so; errors of the output do not add up
    between /= c.atol + c.rtol * norm(y, 0, n) / np.sqrt(blocks.size - 1.0)
    too_long = (h * c.radius / LONGEST) ** numbers[EXPONENT]
    for other in (between, too_long):
        if other > ratio:
            ratio = other
    return ratio


def complete(  # type: ignore[no-untyped-def]
    system, index, weight_decay, data, work,
    table, error, numbers, memory,
    blocks, y, carry, K, new, move, scratch, control, h,
):  # fmt: skip
    """Rows of K behind the velocities: the solution at each node, minus y and over h."""
    n, most = y.size, numbers[MOST]
    size = _space_size(n, most)
    spectrum = 1 + 3 * size
    inner = vector_at(K, 2 * n, (NODES - 1) * n)
    for i in range(inner.size):
        inner[i] = 0.0
    for stage in range(3):
        row = vector_at(table, 4 * (3 + stage), 4)
        _diagonalise(memory, 1 + stage * size, spectrum, most, h, 0)
        for node in range(NODES - 1):
            x = (node + 1.0) / NODES
            one, three, four = x * row[1], x**3 * row[2], x**4 * row[3]
            out = vector_at(K, (2 + node) * n, n)
            _act(memory, 1 + stage * size, spectrum, most, n, x, one, three, four, 1.0, out)
    last = vector_at(K, (1 + NODES) * n, n)
    for i in range(n):
        last[i] = (new[i] - y[i]) / h
    return 0.0
