"""Factorization: the factors of a layer, how far off they are, and the sequence that they make."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from tensorconv.arrays import Array, frozen_copy
from tensorconv.errors import GeometryError, KernelError
from tensorconv.factorizations.scheme import Rank, Scheme
from tensorconv.integers import is_integer
from tensorconv.layers import ConvLayer, ConvSequence
from tensorconv.linalg import one_blas_thread

CHUNK = 2**17  # kernel entries reconstructed at a time, or a 64th of the kernel


@dataclass(frozen=True, eq=False, repr=False)
class Factorization:
    """A layer written as factors: what they are, how far off, and the sequence of convolutions they make.

    Parameters
    ----------
    method : str
        Name of the method.
    layer : ConvLayer
        The original.
    rank : int or tuple of int
        Ranks per group, as the method counts them.
    factors : mapping of str to ndarray
        Read-only factors in the layer's data type, groups first; their names and shapes are the method's.
    relative_error : float
        True relative Frobenius error of :attr:`kernel`; 0.0 for a zero kernel.
    scheme : Scheme
        What the factors mean.
    response_error : float or None
        Relative error of the responses to the data, bias included, where statistics of them were given.
    bias : ndarray, shape (O,), or None
        The bias of the sequence; the layer's own, unless statistics corrected it.
    tried : tuple of Trial
        What :func:`tensorconv.factorize` compared.
    """

    method: str
    layer: ConvLayer
    rank: int | Rank
    factors: Mapping[str, Array]
    relative_error: float
    scheme: Scheme
    response_error: float | None = None
    bias: Array | None = None
    tried: tuple[Any, ...] = field(default=())

    def __post_init__(self) -> None:
        factors = dict(self.factors)
        for factor in factors.values():
            factor.flags.writeable = False  # also of a copy and of an unpickled result
        object.__setattr__(self, "factors", MappingProxyType(factors))
        if self.bias is None:
            object.__setattr__(self, "bias", self.layer.bias)
        else:
            object.__setattr__(self, "bias", frozen_copy(self.bias))

    def __reduce__(self) -> tuple[Any, ...]:
        fields = (self.method, self.layer, self.rank, dict(self.factors), self.relative_error, self.scheme)
        return (Factorization, (*fields, self.response_error, self.bias, self.tried))

    @cached_property
    def kernel(self) -> Array:
        """The kernel (O, I, K1..KN) that the factors mean, computed in float64, in the layer's data type."""
        kernel = np.empty(self.scheme.block_shape, self.layer.dtype)
        with one_blas_thread():
            for rows, block in _reconstructed(self.scheme, self.factors):
                kernel[:, rows] = block
        kernel = kernel.reshape(self.layer.kernel.shape)
        kernel.flags.writeable = False
        return kernel

    @cached_property
    def sequence(self) -> ConvSequence:
        """The convolutions that the factors make, the bias on the last."""
        chain = self.scheme.chain(self.ranks)
        entries = self.scheme.entries or ("dense",) * len(chain)
        layers = []
        for i, ((shape, geometry, *_), kernel, kind) in enumerate(
            zip(chain, self.scheme.kernels(dict(self.factors)), entries, strict=True)
        ):
            bias = self.bias if i == len(chain) - 1 else None
            name = f"{self.layer.name}.{i}" if self.layer.name else ""
            layers.append(ConvLayer(kernel.reshape(shape), geometry, bias, name, kind))
        return ConvSequence(tuple(layers))

    @property
    def ranks(self) -> Rank:
        """The rank as a tuple, also where it is one number."""
        return self.rank if isinstance(self.rank, tuple) else (self.rank,)

    @property
    def error(self) -> float:
        """What a request for an error is about: that of the responses, where there is one, else of the kernel."""
        return self.relative_error if self.response_error is None else self.response_error

    @property
    def n_parameters(self) -> int:
        """Stored entries of the sequence."""
        return self.sequence.n_parameters

    def to_tensorly(self, group: int = 0) -> Any:
        """Return the decomposition of one group's kernel (O/G, I, K1..KN) as TensorLy holds it.

        Parameters
        ----------
        group : int
            The group.

        Returns
        -------
        CPTensor, TuckerTensor or TTTensor of tensorly
            For the methods "cp", "tucker" and "tensor_train", whose train is of (I, K1..KN, O/G).

        Raises
        ------
        UnsupportedExportError
            If TensorLy has no such decomposition.
        GeometryError
            If there is no such group.
        """
        if not is_integer(group) or not 0 <= group < self.layer.geometry.groups:
            raise GeometryError(
                f"group must be from 0 to {self.layer.geometry.groups - 1} for this layer, got {group!r}"
            )
        return self.scheme.to_tensorly(self.factors, group)

    def transduce(
        self, taps: Any = 3, start: str = "centre", *, stride: int = 1, padding: Any = None, dilation: int = 1
    ) -> Factorization:
        """Return this factorization with one more spatial axis, before the others: a layer of images made one of video.

        The factors gain taps along the new axis and are else kept (Kossaifi, Toisoul, Bulat, Panagakis, Hospedales,
        Pantic, 2020, "Factorized higher-order CNNs"): by the centre tap alone, the layer applied frame by frame; then
        the taps are trained. Input and output have the new axis first, such as (frames, H, W).

        Parameters
        ----------
        taps : int or array_like, shape (k,) or (R, k)
            Number of taps, or the taps: one row for all components, or one row for each (of a tensor train, along
            r_1; not of Tucker).
        start : {"centre", "uniform"}
            What a number of taps means: one at the centre, the others zero, or the mean of all.
        stride : int
            Stride along the new axis.
        padding : int or (int, int), optional
            Padding along the new axis; as much as keeps the number of frames at stride 1, if not given.
        dilation : int
            Dilation along the new axis.

        Returns
        -------
        Factorization
            Of the layer whose kernel is this layer's times the taps, so that the relative error remains; with taps of
            each component, of the layer that the factors mean. Bias, groups and transposed are kept.

        Raises
        ------
        RankError
            If the method has no factor for the axis, or the taps do not fit the components.
        KernelError
            If the taps cannot be used, or have no centre.
        GeometryError
            If the geometry of the new axis cannot be used.

        Examples
        --------
        >>> import numpy as np
        >>> import tensorconv as tc
        >>> f = tc.cp(np.random.default_rng(0).standard_normal((8, 6, 3, 3)), rank=5)
        >>> [layer.kernel.shape for layer in f.transduce(3).sequence]
        [(5, 6, 1, 1, 1), (5, 1, 3, 1, 1), (5, 1, 1, 3, 1), (5, 1, 1, 1, 3), (8, 5, 1, 1, 1)]
        """
        from tensorconv.factorizations.transduction import transduced  # it knows the methods, which know results

        return transduced(self, taps, start, stride=stride, padding=padding, dilation=dilation)

    def __str__(self) -> str:
        head = f"{self.method}, rank {self.rank}, {self._errors}"
        before = self.layer.n_parameters
        share = f"{self.n_parameters / before:.1%}" if before else f"{self.n_parameters:,}"
        return f"{head}, {share} of the layer's {before:,} parameters\n{self.sequence}"

    def __repr__(self) -> str:
        return f"<Factorization by {self.method}, rank {self.rank}, {self._errors}>"

    @property
    def _errors(self) -> str:
        responses = "" if self.response_error is None else f", response error {self.response_error:.3g}"
        return f"relative error {self.relative_error:.3g}{responses}"


def relative_error(scheme: Scheme, factors: Mapping[str, Array]) -> float:
    """Return the true relative Frobenius error of stored factors, never an estimate.

    Parameters
    ----------
    scheme : Scheme
        What the factors mean.
    factors : mapping of str to ndarray
        The factors as stored.

    Returns
    -------
    float
        ``||W - kernel|| / ||W||`` with the kernel rounded to the layer's type; 0.0 if both are zero, inf if only W is.

    Raises
    ------
    KernelError
        If the kernel that the factors mean overflows the layer's type.
    """
    kernel = scheme.layer.kernel.reshape(scheme.block_shape)
    scale = float(np.abs(kernel).max()) or 1.0
    lost = norm = 0.0
    for rows, block in _reconstructed(scheme, factors):
        exact = kernel[:, rows].astype(np.float64)
        with np.errstate(over="ignore"):
            stored = block.astype(kernel.dtype).astype(np.float64)
        if not np.isfinite(stored).all():
            raise KernelError(f"the factored kernel overflows {kernel.dtype}; convert the kernel to a wider type first")
        lost += float(np.sum(((stored - exact) / scale) ** 2))
        norm += float(np.sum((exact / scale) ** 2))
    return math.sqrt(lost / norm) if norm else (math.inf if lost else 0.0)


def from_factors(scheme: Scheme, factors: Mapping[str, Array], rank: Rank, bias: Any = None) -> Factorization:
    """Return the factorization of the layer whose kernel the factors mean.

    Parameters
    ----------
    scheme : Scheme
        The method, bound to any layer of the shape, geometry and data type that are wanted.
    factors : mapping of str to ndarray
        The factors, in any data type.
    rank : tuple of int
        Their ranks.
    bias : array_like, shape (O,), optional
        The bias.

    Returns
    -------
    Factorization
        Of the layer with this kernel, so that the error is that of storing it.

    Raises
    ------
    KernelError
        If the kernel or the bias overflows the data type.
    """
    blank = scheme.layer
    with np.errstate(over="ignore", invalid="ignore"):
        stored = {name: np.array(factor, blank.dtype, order="C") for name, factor in factors.items()}
        draft = Factorization(scheme.name, blank, rank[0] if len(rank) == 1 else rank, stored, 0.0, scheme)
        layer = ConvLayer(draft.kernel, blank.geometry, bias)
    whole = replace(scheme, layer=layer)
    with one_blas_thread():
        error = relative_error(whole, stored)
    return replace(draft, layer=layer, relative_error=error, scheme=whole)


def _reconstructed(scheme: Scheme, factors: Mapping[str, Array]) -> Iterator[tuple[slice, Array]]:
    """Yield (rows, float64 block) over the out-channels, a bounded number of entries at a time."""
    n_rows = scheme.block_shape[1]
    size = math.prod(scheme.block_shape)
    step = max(1, max(CHUNK, size // 64) * n_rows // size)
    for start in range(0, n_rows, step):
        rows = slice(start, min(start + step, n_rows))
        yield rows, scheme.reconstruct(dict(factors), rows)
