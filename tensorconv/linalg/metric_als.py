"""Fit any product of factors to a tensor in a metric: alternating least squares, each factor linear in turn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from tensorconv.linalg.scaling import square_safe_scale

Array = NDArray[Any]
Term = tuple[str, Array]
STEPS = 3  # of conjugate gradients for a factor, before the next one has its turn
DECAY = 1e-3  # of the preconditioned residual, at which they stop sooner
SINGULAR = 1e-12  # eigenvalues of Gram matrices of features of one size below this share of the largest are noise
UNSEEN = 1e-15  # share of the metric's trace below which it does not see a direction
RIDGE = 1e-6  # of preconditioners, as a share of the mean diagonal
ENTRIES = 2**40  # no limit of intermediate products: with numpy's, three factors at a time miss the BLAS
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, eq=False)
class MetricFit:
    """Factors that approximate a tensor in a metric.

    Parameters
    ----------
    terms : list of (str, ndarray)
        The factors, with the letters of their axes.
    errors : list of float
        Relative error in the metric: at the start where that was measured, then after every sweep.
    """

    terms: list[Term]
    errors: list[float]


def metric_als(
    terms: Sequence[Term],
    output: str,
    target: Array,
    metric: Array,
    *,
    limit: int | None = None,
    n_iter_max: int = 60,
    tol: float = 1e-3,
) -> MetricFit:
    """Minimise ``||(T - M) C^(1/2)||`` over tensors M that are a product of factors, from given factors.

    The factor that alone has the output's first letter is a linear regression on what the others make of the input,
    and solved as such; any other factor takes a few steps of conjugate gradients, preconditioned by the Gram matrix of
    the others. No step raises the error. This is distribution-aware Tucker and CP (Kalle et al., 2025) for any formula.

    Parameters
    ----------
    terms : sequence of (str, ndarray)
        Factors to start from and the letters of their axes, as in ``numpy.einsum``.
    output : str
        Letters of the tensor: rows first, then those that the metric is over.
    target : ndarray
        The tensor T.
    metric : ndarray, shape (n, n)
        Symmetric positive semidefinite matrix C over all axes but the first, together.
    limit : int, optional
        Largest rank of the regressed factor as a matrix (rows, rest).
    n_iter_max : int
        Most sweeps.
    tol : float
        Stop when a sweep lowers the error by less than this share of it.

    Returns
    -------
    MetricFit
        The factors and the errors on the way.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> left, right = rng.standard_normal((6, 2)), rng.standard_normal((2, 5))
    >>> start = [("or", rng.standard_normal((6, 2))), ("ri", rng.standard_normal((2, 5)))]
    >>> metric_als(start, "oi", left @ right, np.diag([1.0, 4, 9, 16, 25]), tol=1e-6).errors[-1] < 1e-6
    True
    """
    problem = _Problem(list(terms), output, target, metric, limit)
    errors = [problem.begin()]
    while len(errors) <= n_iter_max:
        problem.sweep()
        errors.append(problem.error())
        if errors[-1] >= (1 - tol) * errors[-2]:
            break
    return MetricFit(problem.terms, errors)


def contracted(terms: Sequence[Term], output: str) -> Array:
    """Return the product of factors.

    Parameters
    ----------
    terms : sequence of (str, ndarray)
        Arrays and the letters of their axes.
    output : str
        Letters of the result.

    Returns
    -------
    ndarray
        The sum over all other letters.
    """
    formula = ",".join(letters for letters, _ in terms) + "->" + output
    path: Any = ("greedy", ENTRIES) if len(terms) > 1 else False
    product: Array = np.einsum(formula, *(array for _, array in terms), optimize=path)
    return product


class _Problem:
    """The factors on the way and the residual ``D = (T - M) C``, which every step keeps up to date."""

    def __init__(self, terms: list[Term], output: str, target: Array, metric: Array, limit: int | None) -> None:
        scale = square_safe_scale(metric)
        self.metric = metric if scale == 1 else metric / scale
        self.terms, self.output, self.limit = terms, output, limit
        self.shape = target.shape
        self.target = target.reshape(len(target), -1)
        self.pulled = self.target @ self.metric
        self.squared_norm = float(np.vdot(self.pulled, self.target))
        having = [j for j, (letters, _) in enumerate(terms) if output[0] in letters]
        self.regressed = having[0] if len(having) == 1 else None
        self.others = [j for j in range(len(terms)) if j != self.regressed]
        self.marginals = self._marginals()

    def _marginals(self) -> dict[str, Array]:
        """What the metric is along each letter alone, the mean of its diagonal 1."""
        sizes = self.shape[1:]
        grid = self.metric.reshape(*sizes, *sizes)
        found, n = {}, len(sizes)
        for axis, letter in enumerate(self.output[1:]):
            left, right = LETTERS[:n], LETTERS[:axis] + LETTERS[n] + LETTERS[axis + 1 : n]
            marginal: Array = np.einsum(f"{left}{right}->{LETTERS[axis]}{LETTERS[n]}", grid)
            mean = float(np.trace(marginal)) / len(marginal)
            found[letter] = marginal / mean if mean > 0 else np.eye(len(marginal))
        return found

    def begin(self) -> float:
        """Regress, or measure where no factor can be."""
        if self.regressed is None:
            self.residual = (self.target - self._product()) @ self.metric
        else:
            self._regress(self.regressed)
        return self.error()

    def sweep(self) -> None:
        """Improve every factor once."""
        terms, whole = self.terms, self.residual
        if self.regressed is not None:
            self.terms, self.residual = self._reduced(self.regressed)
        for j in self.others:
            self._descend(j)
        if self.regressed is not None:
            self.terms[self.regressed], self.residual = terms[self.regressed], whole
            self._regress(self.regressed)

    def error(self) -> float:
        squared = float(np.vdot(self.target - self._product(), self.residual))
        return math.sqrt(max(squared, 0.0) / self.squared_norm) if self.squared_norm else 0.0

    def _product(self) -> Array:
        return contracted(self.terms, self.output).reshape(self.target.shape)

    def _regress(self, j: int) -> None:
        """Replace a factor by the least-squares solution, cut to the rank limit in the metric of what it sees."""
        letters, array = self.terms[j]
        inner = letters.replace(self.output[0], "")
        fresh = dict(zip(inner, self._unused(), strict=False))
        seen = [fresh[c] if c in self.output else c for c in inner]
        eyes = [(fresh[c] + c, np.eye(array.shape[letters.index(c)])) for c in inner if c in self.output]
        others = [self.terms[i] for i in self.others]
        features = contracted([*others, *eyes], "".join(seen) + self.output[1:]).reshape(-1, self.target.shape[1])
        pulled = features @ self.metric
        squares = np.einsum("fn,fn->f", pulled, features)
        unseen = squares <= UNSEEN * np.einsum("fn,fn->f", features, features) * np.trace(self.metric)
        gains = np.where(unseen, 0.0, 1 / np.sqrt(np.where(unseen, 1.0, squares)))  # to features of one size
        gram = gains[:, None] * (pulled @ features.T) * gains
        solution = _regressed(gram, self.pulled @ features.T * gains, self.limit) * gains
        at = letters.index(self.output[0])
        sizes = [array.shape[letters.index(c)] for c in inner]
        self.terms[j] = (letters, np.moveaxis(solution.reshape(-1, *sizes), 0, at))
        self.residual = self.pulled - solution @ pulled

    def _reduced(self, j: int) -> tuple[list[Term], Array]:
        """Turn the rows by an orthogonal matrix that leaves only as many as the regressed factor has columns."""
        letters, array = self.terms[j]
        at = letters.index(self.output[0])
        rows = np.moveaxis(array, at, 0)
        if math.prod(rows.shape[1:]) >= len(rows):
            return list(self.terms), self.residual.copy()
        basis, triangle = np.linalg.qr(rows.reshape(len(rows), -1))
        turned = list(self.terms)
        turned[j] = (letters, np.moveaxis(triangle.reshape(-1, *rows.shape[1:]), 0, at))
        return turned, basis.T @ self.residual

    def _descend(self, j: int) -> None:
        """Take steps of conjugate gradients in one factor."""
        letters, array = self.terms[j]
        others = [term for i, term in enumerate(self.terms) if i != j]
        rows = self.residual.shape[0]

        def gradient() -> Array:
            return contracted([*others, (self.output, self.residual.reshape(rows, *self.shape[1:]))], letters)

        inverse = self._preconditioner(letters, others)
        left = gradient()
        step = direction = inverse(left)
        strength = first = float(np.vdot(left, step))
        array = array.copy()
        for _ in range(STEPS):
            if not strength > DECAY**2 * first:
                break
            image = contracted([*others, (letters, direction)], self.output).reshape(rows, -1)
            pulled = image @ self.metric
            curvature = float(np.vdot(pulled, image))
            if not curvature > 0:
                break
            length = strength / curvature
            array += length * direction
            self.residual -= length * pulled
            left = gradient()
            step = inverse(left)
            before, strength = strength, float(np.vdot(left, step))
            direction = step + (strength / before) * direction
        self.terms[j] = (letters, array)

    def _preconditioner(self, letters: str, others: Sequence[Term]) -> Any:
        """Return the inverse of a product: the Gram matrix over the factor's ranks, the metric along its other axes."""
        batch = [c for c in letters if c in self.output and any(c in others_letters for others_letters, _ in others)]
        ranks = [c for c in letters if c not in self.output]
        pool = iter(self._unused())
        names: dict[str, str] = {}
        for c in dict.fromkeys("".join(term_letters for term_letters, _ in others)):
            names[c] = c if c in batch or c == self.output[0] else next(pool)
        copies = [("".join(names[c] for c in term_letters), array) for term_letters, array in others]
        links = [(c + names[c], self.marginals[c]) for c in names if c in self.marginals and names[c] != c]
        form = "".join(batch) + "".join(ranks) + "".join(names[c] for c in ranks)
        gram = contracted([*others, *copies, *links], form)
        size = math.prod(gram.shape[len(batch) : len(batch) + len(ranks)])
        inverted = _inverse(gram.reshape(-1, size, size))
        along = [c for c in letters if c in self.marginals and c not in batch]
        inverses = {c: _inverse(self.marginals[c]) for c in along}
        order = [letters.index(c) for c in [*batch, *ranks, *(c for c in letters if c not in [*batch, *ranks])]]
        back = list(np.argsort(order))

        def apply(array: Array) -> Array:
            turned = array.transpose(order)
            solved = (inverted @ turned.reshape(len(inverted), size, -1)).reshape(turned.shape).transpose(back)
            for c in along:
                axis = letters.index(c)
                solved = np.moveaxis(np.tensordot(solved, inverses[c], (axis, 0)), -1, axis)
            return solved

        return apply

    def _unused(self) -> list[str]:
        used = set("".join(letters for letters, _ in self.terms) + self.output)
        return [c for c in LETTERS if c not in used]


def _inverse(matrices: Array) -> Array:
    """Return the inverses of positive semidefinite matrices with a small ridge."""
    n = matrices.shape[-1]
    mean = np.trace(matrices, axis1=-2, axis2=-1) / n
    ridge = np.maximum(RIDGE * mean, np.finfo(float).tiny)
    inverted: Array = np.linalg.inv(matrices + ridge[..., None, None] * np.eye(n))
    return inverted


def _regressed(gram: Array, cross: Array, limit: int | None) -> Array:
    """Return ``cross @ gram^-1`` on the range of the Gram matrix, cut to a rank in its metric."""
    is_cut = limit is not None and limit < min(cross.shape)
    if not is_cut:
        with suppress(np.linalg.LinAlgError):
            factor = scipy.linalg.cho_factor(gram, lower=True, check_finite=False)
            if np.min(np.diag(factor[0])) ** 2 > SINGULAR:
                solution: Array = scipy.linalg.cho_solve(factor, cross.T, check_finite=False).T
                return solution
    values, vectors = np.linalg.eigh(gram)
    kept = values > SINGULAR * max(float(values[-1]), 0.0)
    roots = np.sqrt(values[kept])
    whitened = (cross @ vectors[:, kept]) / roots
    if is_cut:
        left = np.linalg.svd(whitened, full_matrices=False)[0][:, :limit]
        whitened = left @ (left.T @ whitened)
    on_range: Array = (whitened / roots) @ vectors[:, kept].T
    return on_range
