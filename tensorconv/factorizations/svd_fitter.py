"""How the factors of a split SVD are found: one SVD per group, or a regression of the responses."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tensorconv.factorizations.fitter import Fitter
from tensorconv.factorizations.response_fitter import SPATIAL, ResponseFitter, Terms
from tensorconv.factorizations.scheme import Array, Factors, Rank
from tensorconv.linalg import balanced_svd, singular_values, truncated_svd

if TYPE_CHECKING:
    from tensorconv.factorizations.svd import SplitSVD

SQUARED = 1e-12  # share of a bound from which on squared singular values are far above rounding


class SplitSVDFitter(Fitter["SplitSVD"]):
    """Works on the unfolding (G, O K_B, I K_A): one matrix per group.

    Parameters
    ----------
    scheme : SplitSVD
        What is to be fitted.
    """

    scheme: SplitSVD

    @cached_property
    def unfolding(self) -> Array:
        """The matrices (G, O K_B, I K_A)."""
        order = (0, 1, *(3 + a for a in self.scheme.rest), 2, *(3 + a for a in self.scheme.axes))
        n_rows = self.shape[1] * math.prod(self.scheme.sizes(self.scheme.rest))
        return self.blocks.transpose(order).reshape(self.shape[0], n_rows, -1)

    @cached_property
    def values(self) -> Array:
        """Singular values (G, n)."""
        return singular_values(self.unfolding)

    def spectra(self) -> list[Array]:
        """One rank, one spectrum."""
        return [self.values]

    def factors(self, rank: Rank) -> Factors:
        """Cut the SVD and share the singular values evenly."""
        left, right = balanced_svd(self.unfolding, rank[0], refine=self.is_wide)
        n_groups, n_out, n_in, *_ = self.shape
        sizes_b, sizes_a = self.scheme.sizes(self.scheme.rest), self.scheme.sizes(self.scheme.axes)
        second = np.moveaxis(left.reshape(n_groups, n_out, *sizes_b, rank[0]), -1, 2)
        return {"first": right.reshape(n_groups, rank[0], n_in, *sizes_a), "second": second}


class SplitSVDResponseFitter(ResponseFitter["SplitSVD"]):
    """Works on the responses themselves where the second layer is pointwise.

    Parameters
    ----------
    scheme : SplitSVD
        What is to be fitted.
    moments : Moments
        Of the data.
    """

    scheme: SplitSVD

    def terms(self, factors: Factors) -> Terms:
        """Every axis has its letter in the layer that owns it."""
        terms = []
        for name, channels, axes in (("first", "ri", self.scheme.axes), ("second", "or", self.scheme.rest)):
            sizes = [self.scheme.layer.kernel_size[a] for a in axes]
            factor = factors[name].reshape(*factors[name].shape[:2], *sizes)
            terms.append((channels + "".join(SPATIAL[a] for a in axes), factor))
        return terms

    @cached_property
    def responses(self) -> list[tuple[Array, Array]] | None:
        """Principal directions (O/G, n) of the responses, with singular values, where they are all that counts."""
        if math.prod(self.scheme.sizes(self.scheme.rest)) > 1:
            return None
        return [self._principal(group) for group in range(self.shape[0])]

    def _principal(self, group: int) -> tuple[Array, Array]:
        target, metric = self.targets[group], self.metrics[group]
        values, vectors = np.linalg.eigh(target @ metric @ target.T)
        if values[0] > SQUARED * float(np.vdot(target, target)) * float(np.trace(metric)):
            return vectors[:, ::-1], np.sqrt(values[::-1])
        seen = target @ self.roots[group].T
        return truncated_svd(seen)[0], singular_values(seen)

    def spectra(self) -> list[Array]:
        """Singular values of the responses, or those of the kernel with whitened channels."""
        return super().spectra() if self.responses is None else [np.stack([values for _, values in self.responses])]

    def fitted(self, group: int, rank: Rank) -> Array:
        """Project the responses onto their leading directions."""
        if self.responses is None:
            return super().fitted(group, rank)
        target: Array = self.targets[group]
        leading: Array = self.responses[group][0][:, : rank[0]]
        return target if rank == self.scheme.maximum else leading @ (leading.T @ target)
