"""Dense output for methods without one of their own: the quintic through values, slopes and curvatures at both ends."""

from __future__ import annotations

from .compile import gradient_of, hessian_of, product_of
from .views import vector_at

__all__ = ["complete"]


def complete(  # type: ignore[no-untyped-def]
    system, index, weight_decay, data, work,
    table, error, numbers, memory,
    blocks, y, carry, K, new, move, scratch, control, h,
):  # fmt: skip
    """Rows of K: velocity at both ends (there already), mean velocity, h times the second derivative at both ends."""
    product, gradient, hessian = product_of(system), gradient_of(system), hessian_of(system)
    n = y.size
    mean, bend, bend_new = vector_at(K, 2 * n, n), vector_at(K, 3 * n, n), vector_at(K, 4 * n, n)
    product(y, vector_at(K, 0, n), index, weight_decay, gradient, hessian, data, work, bend)
    product(new, vector_at(K, n, n), index, weight_decay, gradient, hessian, data, work, bend_new)
    control[0].products += 2
    for i in range(n):
        mean[i] = (new[i] - y[i]) / h
        bend[i] *= -h
        bend_new[i] *= -h
    return 0.0
