"""The rivals, each a function of a problem and a watch; `watch(A)` stops the clock and notes how good A is.

All minimise 1/2 ||mask * (A - Y)||_F^2 + lambda (L/2) sum s^p with p = 2/L, whose gradient on the singular values is
lambda s^(p-1). Published MATLAB algorithms are written in NumPy from their papers.
"""

from __future__ import annotations

from itertools import count

import numpy as np

import dln

SETTLED = 1e-9  # relative change of A after which a rival has converged
SHRINK, STAGE = 0.7, 10  # a continuation takes this factor after so many iterations
FLOOR = 1e-12  # of a smoothing, relative to the largest singular value


def solve(problem, watch, **options):
    """dln.schatten.solve; the best of its minima counts."""
    cost = dln.costs.MatrixCompletion(problem.observed, problem.mask)
    minima = dln.schatten.solve(cost, problem.weight_decay, problem.depth, **options)
    watch.notes |= {"minima": len(minima), "kind": minima[0].kind, "certificate": str(minima[0].certificate)}
    watch(minima[0].end_to_end)


def irnn(problem, watch):
    """Iteratively reweighted nuclear norm: a proximal gradient step with the weights of the last iterate.

    C. Lu, J. Tang, S. Yan, Z. Lin, CVPR 2014, with its mu = 1.1 and its continuation in lambda. For power penalties the
    weight of a singular value once zero is infinite; with s + epsilon, epsilon going to zero with the continuation (as
    in later variants), it may come back.
    """
    A, mu, scale = problem.observed, 1.1, np.linalg.norm(problem.observed, 2)
    s, decay, epsilon = np.linalg.svd(A, compute_uv=False), _strongest(problem), scale
    for step in count(1):
        U, z, Vt = np.linalg.svd(A - problem.residual(A) / mu, full_matrices=False)
        before, s = A, np.maximum(z - decay * (s + epsilon) ** (problem.power - 1.0) / mu, 0.0)
        A = (U * s) @ Vt
        watch(A)
        if settled(A, before) or step % STAGE == 0:
            if settled(A, before) and decay == problem.weight_decay and epsilon == FLOOR * scale:
                return
            decay = max(SHRINK * decay, problem.weight_decay)
            epsilon = max(SHRINK * epsilon, FLOOR * scale)


def varschatten(problem, watch):
    """Variational Schatten-p: alternating least squares whose columns are reweighted, and dropped when they vanish.

    P. Giampouras, R. Vidal, A. Rontogiannis, B. Haeffele, NeurIPS 2020: sum s^p is the least sum of
    ((|u_i|^2 + |v_i|^2)/2)^p over U V^T = A. Rows are solved exactly.
    """
    _alternating(problem, watch, lambda U, V: (U, V))


def turned(problem, watch):
    """The same, with the columns turned onto the singular vectors after every sweep.

    What T. Hastie, R. Mazumder, J. Lee, R. Zadeh, JMLR 16 (2015) 3367 (softImpute-ALS) do for p = 1.
    """
    _alternating(problem, watch, _onto_singular_vectors)


def _alternating(problem, watch, finish):
    left, s, right = np.linalg.svd(problem.observed / problem.mask.mean(), full_matrices=False)
    U, V = left * np.sqrt(s), right.T * np.sqrt(s)
    A = U @ V.T
    while True:
        U = _ridge_rows(problem.observed, problem.mask, V, _column_weights(problem, U, V))
        V = _ridge_rows(problem.observed.T, problem.mask.T, U, _column_weights(problem, U, V))
        U, V = finish(U, V)
        size = np.sum(U**2, axis=0) + np.sum(V**2, axis=0)
        alive = size > 1e-8 * size.max()
        U, V = U[:, alive], V[:, alive]
        before, A = A, U @ V.T
        watch(A)
        if settled(A, before):
            return


def _onto_singular_vectors(U, V):
    (P, R), (Q, T) = np.linalg.qr(U), np.linalg.qr(V)
    left, s, right = np.linalg.svd(R @ T.T)
    return P @ left * np.sqrt(s), Q @ right.T * np.sqrt(s)


def irls(problem, watch):
    """Iteratively reweighted least squares for the smoothed sum (s^2 + epsilon^2)^(p/2), epsilon going to zero.

    M.-J. Lai, Y. Xu, W. Yin, SIAM J. Numer. Anal. 51 (2013) 927 (IRucLq). Rows are solved exactly, each in its observed
    entries and through the inverse of the weight, which stays bounded.
    """
    wide = problem.mask.shape[0] < problem.mask.shape[1]
    Y, mask = (problem.observed.T, problem.mask.T) if wide else (problem.observed, problem.mask)
    seen = np.argsort(-mask, axis=1, kind="stable")[:, : int(mask.sum(axis=1).max())]
    there = np.take_along_axis(mask, seen, axis=1)  # zero where a row has fewer entries
    pairs, values = there[:, :, None] * there[:, None, :], np.take_along_axis(Y, seen, axis=1)
    A, scale = Y, np.linalg.norm(Y, 2)
    epsilon = scale
    while True:
        _, s, Vt = np.linalg.svd(A, full_matrices=False)
        K = (Vt.T * (s**2 + epsilon**2) ** (1.0 - problem.power / 2.0)) @ Vt / problem.weight_decay
        system = pairs * K[seen[:, :, None], seen[:, None, :]] + np.eye(seen.shape[1])
        z = np.zeros_like(Y)
        np.put_along_axis(z, seen, there * np.linalg.solve(system, values[:, :, None])[:, :, 0], axis=1)
        before, A = A, z @ K
        watch(A.T if wide else A)
        if epsilon == FLOOR * scale and settled(A, before):
            return
        epsilon = max(0.99 * epsilon, FLOOR * scale)


def proximal_gradient(problem, watch):
    """Accelerated proximal gradient that never rises (H. Li, Z. Lin, NeurIPS 2015), with dln.schatten.prox."""
    A, decay = problem.observed, _strongest(problem)
    while True:
        before, t, value = A, 1.0, np.inf
        for step in count(1):
            t, ahead = (1.0 + np.sqrt(1.0 + 4.0 * t * t)) / 2.0, (t - 1.0) / t
            B = A + ahead * (A - before)
            trial = dln.schatten.prox(B - problem.residual(B), decay, problem.depth)
            reached = _objective(problem, trial, decay)
            if reached > value:  # restart from the last point, where a plain step cannot rise
                t = 1.0
                trial = dln.schatten.prox(A - problem.residual(A), decay, problem.depth)
                reached = _objective(problem, trial, decay)
            before, A, value = A, trial, reached
            watch(A)
            if settled(A, before) or (step == STAGE and decay > problem.weight_decay):
                break
        if decay == problem.weight_decay:
            return
        decay = max(SHRINK * decay, problem.weight_decay)


def layers(problem, watch):
    """L-BFGS (SciPy) on the layers themselves, from the balanced factors of the zero-filled matrix."""
    from scipy.optimize import minimize

    start = dln.schatten.factorize(problem.observed / problem.mask.mean(), problem.depth)
    shapes = [W.shape for W in start]
    cuts = np.cumsum([W.size for W in start])[:-1]

    def unpack(theta):
        return [part.reshape(shape) for part, shape in zip(np.split(theta, cuts), shapes, strict=True)]

    def objective(theta):
        weights = unpack(theta)
        below = [np.eye(shapes[0][1])]
        for W in weights:
            below.append(W @ below[-1])
        residual = problem.residual(below[-1])
        value = 0.5 * np.sum(residual**2) + 0.5 * problem.weight_decay * theta @ theta
        above, parts = residual, []
        for W, under in zip(weights[::-1], below[-2::-1], strict=True):
            parts.append((above @ under.T + problem.weight_decay * W).ravel())
            above = W.T @ above
        return value, np.concatenate(parts[::-1])

    def product(theta):
        A = np.eye(shapes[0][1])
        for W in unpack(theta):
            A = W @ A
        return A

    theta = np.concatenate([W.ravel() for W in start])
    options = {"maxiter": 10**6, "maxfun": 10**6, "ftol": 0.0, "gtol": 1e-12, "maxcor": 20}
    found = minimize(
        objective, theta, jac=True, method="L-BFGS-B", options=options, callback=lambda x: watch(product(x))
    )
    watch(product(found.x))


def settled(A, before):
    """Whether a step changed nothing that counts."""
    return np.linalg.norm(A - before) <= SETTLED * np.linalg.norm(A)


def _strongest(problem):
    """Weight decay at which little but the largest singular value remains: where continuations begin."""
    return max(problem.weight_decay, np.linalg.norm(problem.observed, 2) ** (2.0 - problem.power))


def _objective(problem, A, decay):
    s = np.linalg.svd(A, compute_uv=False)
    s = s[s > 1e-12 * s[0]]
    return 0.5 * np.sum(problem.residual(A) ** 2) + decay * problem.depth / 2 * np.sum(s**problem.power)


def _column_weights(problem, U, V):
    half = (np.sum(U**2, axis=0) + np.sum(V**2, axis=0)) / 2.0
    return problem.weight_decay * half ** (problem.power - 1.0)


def _ridge_rows(Y, mask, V, weights):
    """Rows u of argmin 1/2 |mask * (V u - y)|^2 + 1/2 sum weights u^2, one for each row of Y."""
    gram = np.einsum("ij,ja,jb->iab", mask, V, V, optimize=True)
    gram += np.diag(weights)
    return np.linalg.solve(gram, (Y @ V)[:, :, None])[:, :, 0]
