"""Factors and ranks that keep the responses to given data: fits in the metric of the input patches."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from tensorconv import searches
from tensorconv.errors import RankError
from tensorconv.factorizations.fitter import Fitter, Spectra, relative_tails
from tensorconv.factorizations.scheme import Array, Factors, Rank, Scheme
from tensorconv.layers import ConvLayer
from tensorconv.linalg import contracted, metric_als, unit_scale
from tensorconv.moments import Moments

S = TypeVar("S", bound=Scheme)
Terms = list[tuple[str, Array]]
SPATIAL = "xyzwvuXYZWVU"  # letters of the spatial axes
RUNGS = 48  # shares of the cost that are looked at where a method has several ranks
EXACT = 1e-12  # an error of the responses that steps in the metric could only blur
FLOOR = 1e-8  # of a channel metric, as a share of its largest eigenvalue: it only changes coordinates


class ResponseFitter(Fitter[S]):
    """Minimises ``||(T - M) C^(1/2)||``: T is the best kernel for the data, C the covariance of their patches.

    The scheme's own fitter starts, from T with whitened channels or from the kernel as it is, whichever is closer;
    alternating least squares go on from there in the metric itself.

    Parameters
    ----------
    scheme : Scheme
        What is to be fitted.
    moments : Moments
        Of the data.
    """

    def __init__(self, scheme: S, moments: Moments) -> None:
        super().__init__(scheme)
        self.moments = moments
        self.metrics = self._seeing(moments.metrics)
        self.targets: Array = moments.targets / self.scale
        self.start: Factors | None = None  # factors of the scheme's ranks to go on from
        self.latest: tuple[Rank, list[Factors]] | None = None  # ranks and starts of the fit before
        self.plain = scheme.fitter()
        self.whitening = [self._mode_roots(metric) for metric in self.metrics]
        turned = [self._whitened(t, root) for t, (root, _) in zip(self.targets, self.whitening, strict=True)]
        self.surrogate, self.surrogate_scale = self._ordinary(np.stack(turned))

    @cached_property
    def roots(self) -> Array:
        """Roots R (G, n, n) of the metrics ``R.T @ R``."""
        return self._seeing(self.moments.roots)

    def _seeing(self, matrices: Array) -> Array:
        """Patches that never change say nothing: such groups, of zeros, keep what they can of the kernel."""
        blind = np.array([not matrix.any() for matrix in matrices])
        return np.where(blind[:, None, None], np.eye(matrices.shape[1]), matrices) if blind.any() else matrices

    @abstractmethod
    def terms(self, factors: Factors) -> Terms:
        """Return the factors of one group as a product.

        Parameters
        ----------
        factors : dict of str to ndarray
            The factors without the axis of groups.

        Returns
        -------
        list of (str, ndarray)
            Arrays and the letters of their axes: o and i for channels, x, y, z.. for spatial axes, others for ranks.
        """

    def row_limit(self, rank: Rank) -> int | None:
        """Return the largest rank of the factor with the out-channels, if that is limited.

        Parameters
        ----------
        rank : tuple of int
            The ranks.

        Returns
        -------
        int or None
            The limit.
        """
        del rank
        return None

    def factors(self, rank: Rank) -> Factors:
        """Fit every group, and let the scheme's own fitter write the kernels as balanced factors."""
        kernels = np.stack([self.fitted(group, rank) for group in range(self.shape[0])])
        fitter, scale = self._ordinary(kernels)
        factors = fitter.factors(rank)
        carriers = fitter.carriers(factors)
        for name in carriers:
            factors[name] *= scale ** (1 / len(carriers))
        return factors

    def carriers(self, factors: Factors) -> list[str]:
        """As the scheme's own fitter has it."""
        return self.plain.carriers(factors)

    def fitted(self, group: int, rank: Rank) -> Array:
        """Return the kernel that was found for one group.

        Parameters
        ----------
        group : int
            The group.
        rank : tuple of int
            The ranks.

        Returns
        -------
        ndarray, shape (O/G, I K)
            The kernel.
        """
        terms, output = self.improved(group, rank)
        return contracted(terms, output).reshape(self.shape[1], -1)

    def improved(self, group: int, rank: Rank) -> tuple[Terms, str]:
        """Return the factors of one group after alternating least squares.

        Parameters
        ----------
        group : int
            The group.
        rank : tuple of int
            The ranks.

        Returns
        -------
        terms : list of (str, ndarray)
            The factors.
        output : str
            The kernel's letters.
        """
        metric, target = self.metrics[group], self.targets[group]
        if self.start is not None:
            starts = [self._group_terms(self.start, group, 1 / self.scale)]
        else:
            if self.latest is None or self.latest[0] != rank:  # one fit of all groups
                self.latest = rank, [self.plain.factors(rank), self.surrogate.factors(rank)]
            plain, whitened = self.latest[1]
            starts = [self._group_terms(plain, group), self._group_terms(whitened, group, self.surrogate_scale)]
            first = next(j for j, (letters, _) in enumerate(starts[1]) if "i" in letters)
            starts[1][first] = self._mixed(starts[1][first], self.whitening[group][1])
        used = set("".join(letters for letters, _ in starts[0]))
        output = "oi" + "".join(c for c in SPATIAL if c in used)
        sizes = [n for n, c in zip(self.shape[1:], "oi" + SPATIAL, strict=False) if c in output]

        def distance(terms: Terms) -> float:
            lost = contracted(terms, output).reshape(target.shape) - target
            return float(np.vdot(lost @ metric, lost))

        distances = [distance(terms) for terms in starts]
        if distances[0] <= EXACT**2 * float(np.vdot(target @ metric, target)):
            return starts[0], output
        best = starts[int(np.argmin(distances))]
        found = metric_als(best, output, target.reshape(sizes), metric, limit=self.row_limit(rank))
        return found.terms, output

    def _group_terms(self, factors: Factors, group: int, scale: float = 1.0) -> Terms:
        """Return the factors of one group in float64, the first times a number."""
        terms = self.terms({name: factor[group].astype(np.float64) for name, factor in factors.items()})
        return [(terms[0][0], terms[0][1] * scale), *terms[1:]]

    @cached_property
    def mode(self) -> str:
        """Letters of the in-channels, and of the axes that all factors with in-channels have too."""
        shapes = self.scheme.factor_shapes((1,) * len(self.scheme.maximum))
        terms = [c for c, _ in self.terms({name: np.empty(shape[1:]) for name, shape in shapes.items()})]
        return "".join(c for c in self._axes if all((c in letters) == ("i" in letters) for letters in terms))

    @property
    def _axes(self) -> str:
        """Letters of the input's axes."""
        return "i" + SPATIAL[: len(self.shape) - 3]

    def _mode_roots(self, metric: Array) -> tuple[Array, Array]:
        """Return the root of the metric of the mode alone, and its inverse; diagonal where channels are kept."""
        sizes = dict(zip(self._axes, self.shape[2:], strict=True))
        grid, n = metric.reshape(*sizes.values(), *sizes.values()), len(sizes)
        labels = [*range(n), *(n + a if c in self.mode else a for a, c in enumerate(sizes))]
        kept = [a for a, c in enumerate(sizes) if c in self.mode]
        size = math.prod(sizes[c] for c in self.mode)
        alone = np.einsum(grid, labels, kept + [n + a for a in kept]).reshape(size, size) * (size / len(metric))
        if self.keeps_channels:
            alone = np.diag(np.diag(alone))
        values, vectors = np.linalg.eigh(alone)
        top = float(values[-1])
        roots = np.sqrt(np.maximum(values, FLOOR * top)) if top > 0 else np.ones(size)
        return (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T

    @property
    def keeps_channels(self) -> bool:
        """Whether several factors have the in-channels, so that these cannot be mixed."""
        return False

    def _whitened(self, kernel: Array, root: Array) -> Array:
        """Multiply the mode of (O/G, I K) by a symmetric matrix."""
        return self._mixed(("o" + self._axes, kernel.reshape(self.shape[1:])), root)[1].reshape(kernel.shape)

    def _mixed(self, term: tuple[str, Array], matrix: Array) -> tuple[str, Array]:
        """Multiply the mode of a factor, its axes together, by a symmetric matrix."""
        letters, array = term
        axes = [letters.index(c) for c in self.mode]
        last = list(range(array.ndim - len(axes), array.ndim))
        moved = np.moveaxis(array, axes, last)
        return letters, np.moveaxis((moved.reshape(-1, len(matrix)) @ matrix).reshape(moved.shape), last, axes)

    def spectra(self) -> list[Array]:
        """Those of the kernel with whitened channels."""
        return self.surrogate.spectra()

    def unfolding_shapes(self) -> list[tuple[int, int]]:
        """As the scheme's own fitter has it."""
        return self.plain.unfolding_shapes()

    def by_rule(self, rule: Any) -> Rank:
        """Ask the rule about the spectra of this fit, as the scheme's own fitter does about its own."""
        return self.surrogate.by_rule(lambda _, maximum: rule(Spectra(self), maximum))

    def meet_error(
        self, attempt: Callable[[Rank], float], error: float, maximum: Rank, cost: Callable[[Rank], Fraction]
    ) -> Rank:
        """Search among all ranks, or, where there are several, among the best for their cost."""
        ladder: list[Rank] = [(r,) for r in range(1, maximum[0] + 1)]
        guess = 1 + int(np.argmax(relative_tails(self.spectra()[0])[1:] <= error))
        if len(maximum) > 1:
            shares = np.geomspace(float(cost((1,) * len(maximum))), float(cost(maximum)), RUNGS)
            rungs = [self.meet_budget(cost, Fraction(share), maximum) for share in shares]
            ladder = list(dict.fromkeys([*(rung for rung in rungs if rung), maximum]))
            guess = len(ladder) // 2
        guess = min(guess, len(ladder))
        try:
            found = searches.nearest_meeting(lambda j: attempt(ladder[j - 1]), error, guess, len(ladder))
        except RankError as missed:
            last = ladder[-1]
            shown = last if len(last) > 1 else last[0]
            raise RankError(searches.unmet(error, attempt(last), shown)) from missed
        return ladder[found - 1]

    def meet_budget(self, cost: Callable[[Rank], Fraction], limit: Fraction, maximum: Rank) -> Rank | None:
        """Choose on the kernel with whitened channels."""
        return self.surrogate.meet_budget(cost, limit, maximum)

    def _ordinary(self, kernels: Array) -> tuple[Fitter[Any], float]:
        """Return the scheme's own fitter of kernels over their scale, and the scale."""
        scale = unit_scale(kernels)
        layer = ConvLayer((kernels / scale).reshape(self.scheme.layer.kernel.shape), self.scheme.layer.geometry)
        return replace(self.scheme, layer=layer).fitter(), scale
