"""Factors and ranks that keep the responses to given data: fits in the metric of the input patches."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import numpy as np

from tensorconv import searches
from tensorconv.errors import RankError
from tensorconv.factorizations.fitter import Fitter, Spectra, relative_tails
from tensorconv.factorizations.scheme import Array, Factors, Rank, Scheme
from tensorconv.factorizations.whitening import Whitening
from tensorconv.layers import ConvLayer
from tensorconv.linalg import contracted, metric_als, unit_scale
from tensorconv.moments import Moments

S = TypeVar("S", bound=Scheme)
Terms = list[tuple[str, Array]]
SPATIAL = "xyzwvuXYZWVU"  # letters of the spatial axes
RUNGS = 48  # shares of the cost that are looked at where a method has several ranks
SWEEPS, QUICK_SWEEPS = 60, 3  # in the metric, of a fit and of one that is only compared
LARGE = 1_000_000  # entries of a kernel whose quick fits are those of the whitened kernel, a few percent off
EXACT = 1e-12  # an error of the responses that steps in the metric could only blur


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

    tol: ClassVar[float] = 3e-3  # least gain of a sweep, as a share of the error

    def __init__(self, scheme: S, moments: Moments) -> None:
        super().__init__(scheme)
        self.moments = moments
        self.metrics = self._seeing(moments.metrics)
        self.targets: Array = moments.targets / self.scale
        self.start: Factors | None = None  # factors of the scheme's ranks to go on from
        self.latest: tuple[Rank, list[Factors]] | None = None  # ranks and starts of the fit before
        self.plain = scheme.fitter()
        self.most = SWEEPS

    @cached_property
    def whitening(self) -> list[Whitening]:
        """Per group, that of the modes."""
        sizes = dict(zip("i" + SPATIAL, self.shape[2:], strict=False))
        return [Whitening.of(metric, sizes, self.modes, diagonal=self.keeps_channels) for metric in self.metrics]

    @cached_property
    def whitened(self) -> tuple[Fitter[Any], float]:
        """The scheme's own fitter of the whitened kernel over its scale, and the scale."""
        letters, shape = "oi" + SPATIAL[: len(self.shape) - 3], self.shape[1:]
        turned = [w.applied((letters, t.reshape(shape)))[1] for t, w in zip(self.targets, self.whitening, strict=True)]
        fitter, scale = self._ordinary(np.stack(turned))
        if self.most < SWEEPS:
            fitter.hasten()
        return fitter, scale

    @property
    def surrogate(self) -> Fitter[Any]:
        """The scheme's own fitter of the whitened kernel."""
        return self.whitened[0]

    def hasten(self) -> None:
        """Take few sweeps in the metric, after few of the kernels to start from; before any fit."""
        self.most = QUICK_SWEEPS if self.targets[0].size < LARGE else 0
        self.plain.hasten()

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

    def starts(self, rank: Rank) -> list[Factors]:
        """Return factors of the kernel with whitened channels, and maybe those of the kernel as it is.

        Parameters
        ----------
        rank : tuple of int
            The ranks.

        Returns
        -------
        list of dict of str to ndarray
            One or two sets of factors.
        """
        return [self.surrogate.factors(rank), *([self.plain.factors(rank)] if self.most else [])]

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
                self.latest = rank, self.starts(rank)
            whitened, *plain = self.latest[1]
            first = self._group_terms(whitened, group, self.whitened[1])
            starts = [*(self._group_terms(f, group) for f in plain), self.whitening[group].restored(first)]
        used = set("".join(letters for letters, _ in starts[0]))
        output = "oi" + "".join(c for c in SPATIAL if c in used)
        if not self.most:
            return starts[0], output
        sizes = [n for n, c in zip(self.shape[1:], "oi" + SPATIAL, strict=False) if c in output]

        def distance(terms: Terms) -> float:
            lost = contracted(terms, output).reshape(target.shape) - target
            return float(np.vdot(lost @ metric, lost))

        distances = [distance(terms) for terms in starts]
        if distances[0] <= EXACT**2 * float(np.vdot(target @ metric, target)):
            return starts[0], output
        best = starts[int(np.argmin(distances))]
        found = metric_als(
            best, output, target.reshape(sizes), metric, limit=self.row_limit(rank), n_iter_max=self.most, tol=self.tol
        )
        return found.terms, output

    def _group_terms(self, factors: Factors, group: int, scale: float = 1.0) -> Terms:
        """Return the factors of one group in float64, the first times a number."""
        terms = self.terms({name: factor[group].astype(np.float64) for name, factor in factors.items()})
        return [(terms[0][0], terms[0][1] * scale), *terms[1:]]

    @cached_property
    def modes(self) -> list[str]:
        """Letters of the axes of the input that are whitened together, as the same factor has them all.

        Where several ranks are weighed against each other, that is the mode of the in-channels alone.
        """
        shapes = self.scheme.factor_shapes((1,) * len(self.scheme.maximum))
        terms = [c for c, _ in self.terms({name: np.empty(shape[1:]) for name, shape in shapes.items()})]
        owners = {c: tuple(c in letters for letters in terms) for c in "i" + SPATIAL[: len(self.shape) - 3]}
        modes = ["".join(c for c in owners if owners[c] == has) for has in dict.fromkeys(owners.values()) if any(has)]
        return modes[:1] if len(shapes) > 2 or self.keeps_channels else modes

    @property
    def keeps_channels(self) -> bool:
        """Whether several factors have the in-channels, so that these cannot be mixed."""
        return False

    def spectra(self) -> list[Array]:
        """Those of the kernel with whitened channels."""
        return self.surrogate.spectra()

    def unfolding_shapes(self) -> list[tuple[int, int]]:
        """As the scheme's own fitter has it."""
        return self.plain.unfolding_shapes()

    def by_rule(self, rule: Any) -> Rank:
        """Ask the rule about the spectra of this fit, as the scheme's own fitter does about its own."""
        return self.plain.by_rule(lambda _, maximum: rule(Spectra(self), maximum))

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
        """Choose on the kernel with whitened channels, where there is something to choose."""
        return (self.surrogate if len(maximum) > 1 else self.plain).meet_budget(cost, limit, maximum)

    def _ordinary(self, kernels: Array) -> tuple[Fitter[Any], float]:
        """Return the scheme's own fitter of kernels over their scale, and the scale."""
        scale = unit_scale(kernels)
        layer = ConvLayer((kernels / scale).reshape(self.scheme.layer.kernel.shape), self.scheme.layer.geometry)
        return replace(self.scheme, layer=layer).fitter(), scale
