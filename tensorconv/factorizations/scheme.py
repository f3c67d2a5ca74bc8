"""Scheme: how one method writes a kernel as a chain of convolutions."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tensorconv.cost import Chain, layer_fan_in
from tensorconv.errors import RankError, UnsupportedExportError
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import ConvLayer
from tensorconv.moments import Moments

if TYPE_CHECKING:
    from tensorconv.factorizations.fitter import Fitter
    from tensorconv.factorizations.response_fitter import ResponseFitter

Array = NDArray[Any]
Rank = tuple[int, ...]
Factors = dict[str, Array]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Scheme(ABC):
    """How one method writes one layer's kernel, blocks (G, O/G, I, K1..KN), as convolutions; holds no results.

    Every factor has the groups as its first axis. The kernel is linear in each factor, and each factor enters once.

    Parameters
    ----------
    layer : ConvLayer
        The layer to factorize.
    """

    layer: ConvLayer
    name: ClassVar[str]

    @property
    @abstractmethod
    def maximum(self) -> Rank:
        """Ranks above which nothing is gained."""

    @property
    @abstractmethod
    def maximum_rules(self) -> tuple[str, ...]:
        """Where each maximum comes from, in letters for an error message: "min(I*K, O)"."""

    @property
    def entries(self) -> tuple[str, ...]:
        """How the entries of every layer of the chain are stored; () where all are dense."""
        return ()

    @abstractmethod
    def chain(self, rank: Rank) -> Chain:
        """Return kernel shape and geometry of every layer at a rank.

        Parameters
        ----------
        rank : tuple of int
            The ranks.

        Returns
        -------
        list of (tuple of int, ConvGeometry) or (tuple of int, ConvGeometry, Stored)
            The layers in order, with what they store where that is not all entries.
        """

    @abstractmethod
    def factor_shapes(self, rank: Rank) -> dict[str, Shape]:
        """Return the shape of every factor at a rank.

        Parameters
        ----------
        rank : tuple of int
            The ranks.

        Returns
        -------
        dict of str to tuple of int
            Name to shape, groups first, in the order of the fitter's factors.
        """

    @property
    def layer_factors(self) -> list[str]:
        """Names of the factors that are the layers' kernels, unless :meth:`kernels` and :meth:`fan_in` are its own."""
        return []

    def fan_in(self, rank: Rank) -> dict[str, Fraction]:
        """Return how many entries of its input an output entry of each factor sums over, by default its layer's.

        Independent entries of mean zero and variance ``1 / fan_in`` keep the variance through every layer.

        Parameters
        ----------
        rank : tuple of int
            The ranks.

        Returns
        -------
        dict of str to Fraction
            Name to mean number over all positions away from borders.
        """
        return dict(zip(self.layer_factors, (layer_fan_in(step[:2]) for step in self.chain(rank)), strict=True))

    def drawn(self, name: str, normal: Array, generator: np.random.Generator) -> Array:  # noqa: ARG002
        """Return random entries in the form that a factor must have, by default unchanged.

        Parameters
        ----------
        name : str
            The factor.
        normal : ndarray
            Independent entries of mean 0 and variance 1.
        generator : numpy.random.Generator
            For what else is random.

        Returns
        -------
        ndarray
            Uncorrelated entries of mean 0 and variance 1.
        """
        return normal

    def kernels(self, factors: Factors) -> list[Array]:
        """Return the kernel entries of every layer of the chain, by default the factors themselves.

        Parameters
        ----------
        factors : dict of str to ndarray
            The factors.

        Returns
        -------
        list of ndarray
            Arrays that reshape to the shapes of the chain.
        """
        return [factors[name] for name in self.layer_factors]

    @abstractmethod
    def reconstruct(self, factors: Factors, rows: slice) -> Array:
        """Return a part of the kernel that the factors mean, computed in float64.

        Parameters
        ----------
        factors : dict of str to ndarray
            The factors.
        rows : slice
            A range of the out-channels of each group.

        Returns
        -------
        ndarray, shape (G, rows, I, K1..KN)
            The blocks.
        """

    def for_rank(self, rank: Any) -> tuple[Scheme, Any]:
        """Return the scheme and the rank that a request means, where the number of ranks says what is wanted.

        Parameters
        ----------
        rank : object
            What the caller asked for, not yet checked.

        Returns
        -------
        Scheme, object
            Both unchanged by default.
        """
        return self, rank

    @abstractmethod
    def fitter(self) -> Fitter[Any]:
        """Return what finds factors for this layer.

        Returns
        -------
        Fitter
            A fitter that has done no work yet.
        """

    def response_fitter(self, moments: Moments) -> ResponseFitter[Any]:
        """Return what finds factors for the responses to data.

        Parameters
        ----------
        moments : Moments
            Of the data.

        Returns
        -------
        ResponseFitter
            A fitter in the metric of the patches.

        Raises
        ------
        RankError
            If the method does not fit responses.
        """
        del moments
        raise RankError(f"method {self.name!r} takes no statistics; take svd, depthwise_separable, tucker or cp")

    def to_tensorly(self, factors: Mapping[str, Array], group: int) -> Any:
        """Return one group's decomposition in TensorLy's container.

        Parameters
        ----------
        factors : mapping of str to ndarray
            The factors.
        group : int
            The group.

        Returns
        -------
        CPTensor, TuckerTensor or TTTensor of tensorly
            The same arrays.

        Raises
        ------
        UnsupportedExportError
            If TensorLy has no such decomposition, as for most methods.
        """
        del factors, group
        raise UnsupportedExportError(
            f"TensorLy has no decomposition for method {self.name!r}; use f.factors, or method cp, tucker or "
            "tensor_train"
        )

    @property
    def block_shape(self) -> Shape:
        """(G, O/G, I, K1..KN)."""
        groups = self.layer.geometry.groups
        return (groups, self.layer.out_channels // groups, *self.layer.kernel.shape[1:])

    def pointwise(self, groups: int) -> ConvGeometry:
        """Return the geometry of a layer that only mixes channels.

        Parameters
        ----------
        groups : int
            Number of groups.

        Returns
        -------
        ConvGeometry
            Stride 1, no padding.
        """
        return ConvGeometry.of(self.layer.geometry.ndim, groups=groups)

    @property
    def out_letter(self) -> str:
        """How messages write the out-channels of one group."""
        return "O" if self.layer.geometry.groups == 1 else "O/G"

    @property
    def ones(self) -> Shape:
        """The kernel size of a pointwise layer."""
        return (1,) * self.layer.geometry.ndim


def wide(factor: Array) -> Array:
    """Return a factor in float64.

    Parameters
    ----------
    factor : ndarray
        As stored.

    Returns
    -------
    ndarray
        The same values.
    """
    return factor.astype(np.float64, copy=False)


def n_taps(scheme: Scheme) -> int:
    """Return the number of taps of the kernel, all axes together.

    Parameters
    ----------
    scheme : Scheme
        Bound to a layer.

    Returns
    -------
    int
        The product of the kernel size.
    """
    return math.prod(scheme.layer.kernel_size)
