"""CP decomposition by alternating least squares with momentum, two matrix products a sweep for any order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from tensorconv.errors import RankError
from tensorconv.linalg.randomness import as_generator
from tensorconv.linalg.scaling import unit_scale
from tensorconv.linalg.svd import peak_signs
from tensorconv.linalg.threads import one_blas_thread

Array = NDArray[Any]
WINDOW = 10  # sweeps over which the improvement is judged
RIDGES = {"float32": 1e-7, "float64": 1e-14}
TRUSTED = 2e-3  # how far an error from float32 inner products may be from the true one: the root of their rounding


@dataclass(frozen=True, eq=False)
class CPDecomposition:
    """A sum of rank-one tensors; unpacks as ``weights, factors`` in TensorLy's convention.

    Parameters
    ----------
    weights : ndarray, shape (rank,)
        Norms of the rank-one terms, falling.
    factors : list of ndarray
        One matrix (size, rank) of unit columns per mode.
    relative_error : float
        True relative Frobenius residual, from the tensor itself.
    n_iter : int
        Sweeps done.
    converged : bool
        Whether the improvement over the last sweeps fell below the tolerance.
    history : list of float
        Relative error after each sweep.
    """

    weights: Array
    factors: list[Array]
    relative_error: float
    n_iter: int
    converged: bool
    history: list[float] = field(repr=False)

    def __iter__(self) -> Iterator[Any]:
        yield self.weights
        yield self.factors


def cp_als(
    tensor: Array,
    rank: int,
    *,
    rng: Any = 0,
    n_iter_max: int = 200,
    tol: float = 1e-5,
    target: float = 0.0,
    ridge: float | None = None,
    start: Sequence[Array] | None = None,
) -> CPDecomposition:
    """Approximate a tensor by a sum of rank-one terms, by alternating least squares.

    The two largest modes cost one matrix product each per sweep; what is left for all other modes is small and shared.
    Between sweeps the factors are extrapolated along their last change; since the first product is linear in the
    factor, judging the extrapolation costs no product, and it is kept only where the error does not grow.

    Parameters
    ----------
    tensor : ndarray
        Real tensor of order 2 or more. float32 runs the large products in float32, all else in float64; where the
        terms all but cancel, so that float32 products mislead, it starts over in float64.
    rank : int
        Number of terms, at least 1; it may exceed every mode's size.
    rng : int or numpy.random.Generator
        Seed of the Gaussian start.
    n_iter_max : int
        Most sweeps.
    tol : float
        Stop when the error falls by less than this share over 10 sweeps.
    target : float
        Stop once the relative error is a thousandth below this.
    ridge : float, optional
        Share of their mean that is added to the diagonal of the normal equations, so that surplus terms stay small
        instead of cancelling one another; 1e-7 for float32 tensors and 1e-14 for float64 ones if not given.
    start : sequence of ndarray, optional
        Factors (size, rank) to start from, one per mode.

    Returns
    -------
    CPDecomposition
        Weights, unit factors and the true residual.

    Raises
    ------
    RankError
        If the rank is below 1 or the tensor's order below 2.

    Examples
    --------
    >>> a, b, c = np.arange(1.0, 4), np.arange(2.0, 6), np.arange(3.0, 8)
    >>> cp_als(np.einsum("i,j,k->ijk", a, b, c), 1).relative_error < 1e-12
    True
    """
    if rank < 1 or tensor.ndim < 2:
        raise RankError(
            f"rank must be at least 1 and the tensor of order 2 or more, got rank={rank}, shape {tensor.shape}"
        )
    order = sorted(range(tensor.ndim), key=lambda mode: -tensor.shape[mode])
    scale = unit_scale(tensor)
    if ridge is None:
        ridge = RIDGES.get(tensor.dtype.name, RIDGES["float64"])
    problem = _Problem(np.transpose(tensor, order), scale, ridge)
    if problem.squared_norm == 0:
        factors = [np.zeros((size, rank)) for size in tensor.shape]
        return CPDecomposition(np.zeros(rank), factors, 0.0, 0, True, [0.0])
    if start is None:
        generator = as_generator(rng)
        drawn = {mode: generator.standard_normal((tensor.shape[mode], rank)) for mode in order}
        drawn[order[0]] *= scale  # so that the unit of the tensor does not matter, to the bit
        start = [drawn[mode] for mode in range(tensor.ndim)]
    found = [np.array(start[mode], np.float64) for mode in order]
    found[0] /= scale
    with one_blas_thread():
        found, history, converged = _sweeps(problem, found, n_iter_max, tol, max(0.999 * target, 1e-12))
        weights, found = _normalised(found)
        error = problem.true_error([found[0] * weights, *found[1:]])
    if problem.dtype != np.float64 and error > history[-1] + TRUSTED:
        # Terms that all but cancel blow up the rounding of float32 products: only float64 can go on from there.
        again = tensor.astype(np.float64)
        return cp_als(again, rank, n_iter_max=n_iter_max, tol=tol, target=target, ridge=ridge, start=start)
    factors = [found[order.index(mode)] for mode in range(tensor.ndim)]
    return CPDecomposition(weights * scale, factors, error, len(history), converged, history)


class _Problem:
    """The tensor as the two operands of a sweep: modes (a, rest.., b) with a and b the largest."""

    def __init__(self, tensor: Array, scale: float, ridge: float) -> None:
        self.ridge = ridge
        self.shape = tensor.shape
        self.small = tensor.shape[2:]
        self.n_small = int(np.prod(self.small, dtype=np.int64))
        n_a, n_b = tensor.shape[:2]
        last_two_first = np.moveaxis(tensor, (0, 1), (-2, -1)).reshape(self.n_small, n_a, n_b)
        self.by_slice = last_two_first / tensor.dtype.type(scale)  # (K, a, b)
        self.dtype = tensor.dtype
        self.squared_norm = float(sum(np.sum(np.square(part, dtype=np.float64)) for part in self.by_slice))

    def onto_b(self, a: Array) -> Array:
        """Contract mode a: (K, b, R)."""
        products: Array = np.swapaxes(self.by_slice, 1, 2) @ a.astype(self.dtype)
        return products

    def onto_a(self, b: Array) -> Array:
        """Contract mode b: (K, a, R)."""
        products: Array = self.by_slice @ b.astype(self.dtype)
        return products

    def true_error(self, factors: list[Array]) -> float:
        """Relative residual from the tensor itself; the formula from inner products cancels near zero."""
        taps = _khatri_rao(factors[2:], factors[0].shape[1])
        squares = 0.0
        for part, weights in zip(self.by_slice, taps, strict=True):
            squares += float(np.sum((part - (factors[0] * weights) @ factors[1].T) ** 2))
        return float(np.sqrt(squares / self.squared_norm))


def _sweeps(
    problem: _Problem, factors: list[Array], n_iter_max: int, tol: float, target: float
) -> tuple[list[Array], list[float], bool]:
    rank = factors[0].shape[1]
    ones = np.ones((rank, rank))
    beta, history, before = 0.5, list[float](), None
    factors = _spread(factors)
    products = problem.onto_b(factors[0])
    for _ in range(n_iter_max):
        a, b, *rest = factors
        taps, taps_gram = _khatri_rao(rest, rank), reduce(np.multiply, map(_gram, rest), ones)
        b = _solve(_gram(a) * taps_gram, _weighted_sum(products, taps), problem.ridge)
        del products  # the largest arrays here: as few as can be are alive at a time
        b_gram = _gram(b)
        onto_a = problem.onto_a(b)
        a = _solve(b_gram * taps_gram, _weighted_sum(onto_a, taps), problem.ridge)
        inner = np.einsum("kar,ar->kr", onto_a, a.astype(onto_a.dtype)).astype(np.float64)
        del onto_a
        pair_gram = _gram(a) * b_gram
        rest = _update_small(rest, inner, pair_gram, problem)
        taps = _khatri_rao(rest, rank)
        squared = problem.squared_norm - 2 * np.sum(inner * taps)
        squared += np.sum(pair_gram * reduce(np.multiply, map(_gram, rest), ones))
        history.append(float(np.sqrt(max(squared, 0.0) / problem.squared_norm)))
        factors = _spread([a, b, *rest])
        stalled = len(history) > WINDOW and history[-1 - WINDOW] - history[-1] <= tol * history[-1]
        if stalled or history[-1] <= target:
            return factors, history, True
        products = problem.onto_b(factors[0])
        current = (factors, products)
        if before is not None:
            trial = [f + beta * (f - g) for f, g in zip(factors, before[0], strict=True)]
            trial_products = products - before[1]
            trial_products *= products.dtype.type(beta)
            trial_products += products
            if _squared_error(problem, trial, trial_products) <= squared:
                factors, products, beta = trial, trial_products, min(1.3 * beta, 10.0)
            else:
                beta = max(beta / 2, 0.1)
        before = current
    return factors, history, False


def _update_small(rest: list[Array], inner: Array, pair_gram: Array, problem: _Problem) -> list[Array]:
    """Solve for each small factor in turn, from the inner products (K, R) of slices and the two large factors."""
    rest, sizes = list(rest), problem.small
    grid = inner.reshape(*sizes, -1)
    for j in range(len(rest)):
        gram, target = pair_gram, grid
        for i, factor in enumerate(rest):
            if i != j:
                gram = gram * _gram(factor)
                target = target * factor.reshape([-1 if m == i else 1 for m in range(len(sizes))] + [factor.shape[1]])
        target = target.sum(axis=tuple(i for i in range(len(sizes)) if i != j))
        rest[j] = _solve(gram, target, problem.ridge)
    return rest


def _squared_error(problem: _Problem, factors: list[Array], products: Array) -> float:
    rank = factors[0].shape[1]
    inner = np.einsum("kbr,br->kr", products, factors[1].astype(products.dtype)).astype(np.float64)
    cross = np.sum(inner * _khatri_rao(factors[2:], rank))
    return float(problem.squared_norm - 2 * cross + np.sum(reduce(np.multiply, map(_gram, factors))))


def _gram(factor: Array) -> Array:
    return factor.T @ factor


def _khatri_rao(factors: Sequence[Array], rank: int) -> Array:
    """Return the columnwise Kronecker product, (K, R); ones for no factor."""
    product = np.ones((1, rank))
    for factor in factors:
        product = (product[:, None, :] * factor[None, :, :]).reshape(-1, rank)
    return product


def _weighted_sum(products: Array, taps: Array) -> Array:
    """Sum products (K, n, R) over K with weights (K, R), in float64."""
    total = np.zeros(products.shape[1:])
    for part, weights in zip(products, taps, strict=True):
        total += part * weights
    return total


def _solve(gram: Array, target: Array, share: float) -> Array:
    """Return target @ gram^-1 with a ridge, which is raised where the Gram matrix is not definite even so."""
    ridge = share * max(float(np.trace(gram)) / len(gram), np.finfo(float).tiny)
    while True:
        shifted = gram.copy()
        shifted[np.diag_indices(len(gram))] += ridge
        factor, info = scipy.linalg.lapack.dpotrf(shifted, lower=True, overwrite_a=True)
        if info == 0:
            return np.ascontiguousarray(scipy.linalg.lapack.dpotrs(factor, target.T, lower=True)[0].T)
        ridge *= 100


def _spread(factors: list[Array]) -> list[Array]:
    """Give the columns of all factors of a component one norm; a component with a zero column becomes zero."""
    norms = np.stack([np.linalg.norm(factor, axis=0) for factor in factors])
    with np.errstate(divide="ignore", invalid="ignore"):
        gains = np.exp(np.log(norms).mean(axis=0)) / norms
    return [factor * np.where(np.isfinite(gain), gain, 0.0) for factor, gain in zip(factors, gains, strict=True)]


def _normalised(factors: list[Array]) -> tuple[Array, list[Array]]:
    """Return falling weights and unit columns whose largest entries are positive in all factors but the first."""
    norms = [np.linalg.norm(factor, axis=0) for factor in factors]
    weights = np.prod(norms, axis=0)
    units = [factor / np.where(norm > 0, norm, 1) for factor, norm in zip(factors, norms, strict=True)]
    for j in range(1, len(units)):
        sign = peak_signs(units[j])
        units[j], units[0] = units[j] * sign, units[0] * sign
    falling = np.argsort(-weights, kind="stable")
    return weights[falling], [unit[:, falling] for unit in units]
