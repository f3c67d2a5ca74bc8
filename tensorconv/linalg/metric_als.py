"""Fit any product of factors to a tensor in a metric: alternating least squares, each factor linear in turn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorconv.linalg.contraction import Term, contracted
from tensorconv.linalg.finite import check_finite
from tensorconv.linalg.regression import regressed
from tensorconv.linalg.scaling import square_safe_scale

Array = NDArray[Any]
STEPS = 3  # of conjugate gradients for a factor, before the next one has its turn
SMALL = 10  # how many times smaller than the largest a factor takes one, as all cost the same
DECAY = 1e-3  # of the preconditioned residual, at which they stop sooner
NOISE = 1e-13  # of the gradient's two parts, below which their difference is rounding
SURE = 1e-4  # share of what it is the difference of, above which a squared error is exact enough
FLAT = 1e-7  # errors whose squares are differences of rounding
UNSEEN = 1e-15  # share of the metric's trace below which it does not see a direction
RIDGE = 1e-6  # of preconditioners, as a share of the mean diagonal
GROWTH = 2.0  # of how much further than a sweep its factors are moved, where that paid
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
    tol: float = 3e-3,
) -> MetricFit:
    """Minimise ``||(T - M) C^(1/2)||`` over tensors M that are a product of factors, from given factors.

    The factor that alone has the output's first letter is a linear regression on what the others make of the input,
    and solved as such; any other factor takes a few steps of conjugate gradients, preconditioned by the Gram matrix of
    the others. After every sweep all go further in the direction of it, which is taken back where the error would rise.
    This is distribution-aware Tucker and CP (Kalle et al., 2025) for any formula.

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

    Raises
    ------
    KernelError
        If target or metric hold numbers that are not finite.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> left, right = rng.standard_normal((6, 2)), rng.standard_normal((2, 5))
    >>> start = [("or", rng.standard_normal((6, 2))), ("ri", rng.standard_normal((2, 5)))]
    >>> metric_als(start, "oi", left @ right, np.diag([1.0, 4, 9, 16, 25]), tol=1e-6).errors[-1] < 1e-6
    True
    """
    problem = _Problem(list(terms), output, target, metric, limit)
    errors, gains = [problem.begin()], True
    kept = list(problem.terms)
    while len(errors) <= n_iter_max and errors[-1] > FLAT and gains:
        error = problem.sweep()
        gains = error < (1 - tol) * errors[-1]
        if error <= errors[-1]:  # else by rounding alone
            errors.append(error)
            kept = list(problem.terms)
    return MetricFit(kept, errors)


class _Problem:
    """The factors on the way. The metric C is contracted with factors, never with whole tensors (rows, n)."""

    def __init__(self, terms: list[Term], output: str, target: Array, metric: Array, limit: int | None) -> None:
        check_finite("target", target)
        scale = square_safe_scale(metric, "metric")
        scaled = metric if scale == 1 else metric / scale
        self.terms, self.output, self.limit = terms, output, limit
        used = dict.fromkeys("".join(letters for letters, _ in terms) + output)
        free = iter(c for c in LETTERS if c not in used)
        self.second = {c: c if c == output[0] else next(free) for c in used}  # letters of the other side of C
        sizes = target.shape[1:]
        self.metric: Term = (output[1:] + self._copied(output[1:]), scaled.reshape(*sizes, *sizes))
        self.pulled: Term = (output, (target.reshape(len(target), -1) @ scaled).reshape(target.shape))
        self.target, self.trace = target, float(np.trace(scaled))
        self.squared_norm = float(np.vdot(self.pulled[1], target))
        having = [j for j, (letters, _) in enumerate(terms) if output[0] in letters]
        self.regressed = having[0] if len(having) == 1 else None
        self.others = [j for j in range(len(terms)) if j != self.regressed]
        self.marginals = self._marginals()
        self.leap = 1.0  # how much further than a sweep its factors are moved

    def _copied(self, letters: str, kept: str = "") -> str:
        """Return the letters of a factor on the other side of the metric; rows, and those kept, are the same."""
        return "".join(c if c in kept else self.second[c] for c in letters)

    def _copies(self, terms: Sequence[Term], kept: str = "") -> list[Term]:
        return [(self._copied(letters, kept), array) for letters, array in terms]

    def _marginals(self) -> dict[str, Array]:
        """What the metric is along each letter alone, the mean of its diagonal 1."""
        found = {}
        for c in self.output[1:]:
            traced = self.output[1:] + self._copied(self.output[1:], self.output.replace(c, ""))
            marginal: Array = np.einsum(f"{traced}->{c}{self.second[c]}", self.metric[1])
            mean = float(np.trace(marginal)) / len(marginal)
            found[c] = marginal / mean if mean > 0 else np.eye(len(marginal))
        return found

    def begin(self) -> float:
        """Regress, or measure where no factor can be."""
        self.half = self._half([self.terms[i] for i in self.others])
        return self.ended()

    def sweep(self) -> float:
        """Improve every factor once, go on in the same direction if that is better, and return the error."""
        before = list(self.terms)
        for j in self.others:
            self._descend(j)
        error = self.ended()
        kept, half = list(self.terms), self.half
        for j in self.others:
            self.terms[j] = (kept[j][0], kept[j][1] + self.leap * (kept[j][1] - before[j][1]))
        leapt = self.begin()
        if leapt < error:
            self.leap *= GROWTH
            return leapt
        self.terms, self.half, self.leap = kept, half, self.leap / GROWTH
        return error

    def ended(self) -> float:
        """Regress, and return the error: from the regression, or, where that cancels, from differences of entries."""
        if self.regressed is not None:
            squared, size = self._regress(self.regressed)
            if squared > SURE * (self.squared_norm + size):
                return math.sqrt(squared / self.squared_norm)
        rows = [term for j, term in enumerate(self.terms) if j == self.regressed]
        image = contracted([*rows, self.half], self._copied(self.output))
        squared = float(np.vdot(self.target - contracted(self.terms, self.output), self.pulled[1] - image))
        return math.sqrt(max(squared, 0.0) / self.squared_norm) if self.squared_norm else 0.0

    def _half(self, terms: Sequence[Term]) -> Term:
        """Return the product of all factors but the regressed one, times the metric."""
        inner = self.output[0] if self.regressed is None else self.terms[self.regressed][0].replace(self.output[0], "")
        across = inner + self._copied(self.output[1:])
        return across, contracted([*terms, self.metric], across)

    def _regress(self, j: int) -> tuple[float, float]:
        """Replace a factor by the least-squares solution, cut to the rank limit in the metric of what it sees.

        Return the squared error, and the squares of the solution for features of size one, whose rounding is in it.
        """
        letters, array = self.terms[j]
        inner = letters.replace(self.output[0], "")
        others = [self.terms[i] for i in self.others]
        sizes = [n for c, n in zip(letters, array.shape, strict=True) if c in inner]
        cross = contracted([*others, self.pulled], self.output[0] + inner).reshape(len(self.target), -1)
        gram = contracted([self.half, *self._copies(others)], inner + self._copied(inner)).reshape(cross.shape[1], -1)
        squares = np.diag(gram)
        faint = UNSEEN * self.trace * self._squared_norms(inner, sizes).ravel()
        unseen = squares <= faint
        gains = np.where(unseen, 0.0, 1 / np.sqrt(np.where(unseen, 1.0, squares)))  # to features of one size
        gram, cross = gains[:, None] * gram * gains, cross * gains
        ridge = np.diag(faint * gains**2)  # of solutions as good as one another the smallest, not what rounding says
        solution = regressed(gram + ridge, cross, self.limit)
        squared = self.squared_norm - float(np.vdot(2 * cross - solution @ gram, solution))
        size = float(np.vdot(solution, solution))
        self.terms[j] = (letters, np.moveaxis((solution * gains).reshape(-1, *sizes), 0, letters.index(self.output[0])))
        return squared, size

    def _squared_norms(self, inner: str, sizes: Sequence[int]) -> Array:
        """Return the squared norms of what the factors but the regressed one make of every index of its letters."""
        others = [self.terms[i] for i in self.others]
        present = [c for c in inner if any(c in letters for letters, _ in others)]
        copies = self._copies(others, inner + self.output)
        norms = contracted([*others, *copies], "".join(present)) if others else np.ones(())
        return np.broadcast_to(
            norms.reshape([n if c in present else 1 for c, n in zip(inner, sizes, strict=True)]), sizes
        )

    def _descend(self, j: int) -> None:
        """Take steps of conjugate gradients in one factor."""
        letters, array = self.terms[j]
        rest = [term for i, term in enumerate(self.terms) if i not in (j, self.regressed)]
        rows = [] if self.regressed is None else [self._row_gram(self.regressed)]
        across, half = self.half

        def image(of: Array) -> Array:
            return contracted([(across, of), *rows, *self._copies(rest)], self._copied(letters))

        others = [term for i, term in enumerate(self.terms) if i != j]
        wanted = contracted([*others, self.pulled], letters)
        inverse = self._preconditioner(letters, others)
        left = wanted - image(half)
        step = direction = inverse(left)
        strength = float(np.vdot(left, step))
        enough = max(DECAY**2 * strength, NOISE**2 * float(np.vdot(wanted, inverse(wanted))))
        array, half = array.copy(), half.copy()
        for _ in range(STEPS if SMALL * array.size >= max(a.size for _, a in self.terms) else 1):
            if not strength > enough:
                break
            change = self._half([(letters, direction), *rest])[1]
            pulled = image(change)
            curvature = float(np.vdot(pulled, direction))
            if not curvature > 0:
                break
            length = strength / curvature
            array += length * direction
            half += length * change
            left = left - length * pulled
            step = inverse(left)
            before, strength = strength, float(np.vdot(left, step))
            direction = step + (strength / before) * direction
        self.terms[j], self.half = (letters, array), (across, half)

    def _row_gram(self, j: int) -> Term:
        """Return the regressed factor times itself, summed over the rows."""
        letters, array = self.terms[j]
        inner = letters.replace(self.output[0], "")
        rows = letters.index(self.output[0])
        return inner + self._copied(inner), np.tensordot(array, array, (rows, rows))

    def _preconditioner(self, letters: str, others: Sequence[Term]) -> Any:
        """Return the inverse of a product: the Gram matrix over the factor's ranks, the metric along its other axes."""
        batch = [c for c in letters if c in self.output and any(c in others_letters for others_letters, _ in others)]
        ranks = [c for c in letters if c not in self.output]
        copies = self._copies(others, "".join(batch))
        present = set("".join(term_letters for term_letters, _ in others))
        links = [(c + self.second[c], a) for c, a in self.marginals.items() if c in present and c not in batch]
        form = "".join(batch) + "".join(ranks) + "".join(self.second[c] for c in ranks)
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


def _inverse(matrices: Array) -> Array:
    """Return the inverses of positive semidefinite matrices with a small ridge."""
    n = matrices.shape[-1]
    mean = np.trace(matrices, axis1=-2, axis2=-1) / n
    ridge = np.maximum(RIDGE * mean, np.finfo(float).tiny)
    inverted: Array = np.linalg.inv(matrices + ridge[..., None, None] * np.eye(n))
    return inverted
