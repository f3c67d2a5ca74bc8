"""From a scheme and a request (rank, error or budget) to a Factorization."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from tensorconv import ranks
from tensorconv.arrays import Array
from tensorconv.cost import chain_cost
from tensorconv.errors import KernelError, RankError, UnsupportedExportError
from tensorconv.factorizations.scheme import Factors, Fitter, Rank, Scheme
from tensorconv.layers import ConvLayer, ConvSequence
from tensorconv.linalg import one_blas_thread

CHUNK = 2**17  # kernel entries reconstructed at a time when an error is computed


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
        Relative error of the responses, where statistics of the data were given.
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
    tried: tuple[Any, ...] = field(default=())

    @cached_property
    def kernel(self) -> Array:
        """The kernel (O, I, K1..KN) that the factors mean, computed in float64, in the layer's data type."""
        kernel = np.empty(self.scheme.block_shape, self.layer.dtype)
        for rows, block in _reconstructed(self.scheme, self.factors):
            kernel[:, rows] = block
        kernel = kernel.reshape(self.layer.kernel.shape)
        kernel.flags.writeable = False
        return kernel

    @cached_property
    def sequence(self) -> ConvSequence:
        """The convolutions that the factors make, the layer's bias on the last."""
        ranks_ = self.rank if isinstance(self.rank, tuple) else (self.rank,)
        chain = self.scheme.chain(ranks_)
        layers = []
        for i, ((shape, geometry), kernel) in enumerate(zip(chain, self.scheme.kernels(dict(self.factors)), strict=True)):
            bias = self.layer.bias if i == len(chain) - 1 else None
            name = f"{self.layer.name}.{i}" if self.layer.name else ""
            layers.append(ConvLayer(kernel.reshape(shape), geometry, bias, name))
        return ConvSequence(tuple(layers))

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
        tensorly.cp_tensor.CPTensor or tensorly.tucker_tensor.TuckerTensor
            For the methods "cp" and "tucker".

        Raises
        ------
        UnsupportedExportError
            If TensorLy has no such decomposition.
        """
        convert = getattr(self.scheme, "to_tensorly", None)
        if convert is None:
            raise UnsupportedExportError(
                f"TensorLy has no decomposition for method {self.method!r}; use f.factors, or method 'cp' or 'tucker'"
            )
        return convert(self.factors, group)

    def __str__(self) -> str:
        head = f"{self.method}, rank {self.rank}, relative error {self.relative_error:.3g}"
        share = f"{self.n_parameters / self.layer.n_parameters:.1%} of the layer's {self.layer.n_parameters:,} parameters"
        return f"{head}, {share}\n{self.sequence}"

    def __repr__(self) -> str:
        return f"<Factorization by {self.method}, rank {self.rank}, relative error {self.relative_error:.3g}>"


@dataclass(frozen=True)
class Request:
    """What is asked of a factorization: exactly one of rank, error and budget.

    Parameters
    ----------
    rank : int, tuple of int, or rule, optional
        The ranks, or a rule of :mod:`tensorconv.ranks`.
    error : float, optional
        Largest relative Frobenius error.
    budget : float, optional
        Largest share of the dense layer's cost.
    of : {"macs", "parameters", "bytes"}
        The cost.
    input_size : sequence of int, optional
        Spatial size that the cost is for; the limit of large inputs if not given.
    ceiling : Fraction, optional
        Ranks that cost this or more are not worth trying.

    Raises
    ------
    RankError
        If not exactly one of the three is given, or one is out of range.
    """

    rank: Any = None
    error: float | None = None
    budget: float | None = None
    of: str = "macs"
    input_size: Sequence[int] | None = None
    ceiling: Fraction | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("rank", "error", "budget") if getattr(self, name) is not None]
        if len(given) != 1:
            raise RankError(f"exactly one of rank, error and budget must be given, got {', '.join(given) or 'none'}")
        for name, rule in (("error", "at least 0"), ("budget", "above 0")):
            value = getattr(self, name)
            if value is None:
                continue
            is_number = isinstance(value, (int, float, np.floating, np.integer)) and not isinstance(value, bool)
            if not is_number or not math.isfinite(value) or value < 0 or (name == "budget" and value == 0):
                raise RankError(f"{name} must be a finite number {rule}, as a share (0.1 is 10 %), got {value!r}")

    def cost(self, layer: ConvLayer, chain: Any) -> Fraction:
        """Return what a chain in place of a layer costs."""
        n_bias = 0 if layer.bias is None else len(layer.bias)
        return chain_cost(chain, self.of, self.input_size, n_bias=n_bias, itemsize=layer.dtype.itemsize)


def solve(scheme: Scheme, request: Request) -> Factorization:
    """Return the factorization that a request asks for.

    Parameters
    ----------
    scheme : Scheme
        The method, bound to a layer.
    request : Request
        Rank, error or budget.

    Returns
    -------
    Factorization
        The result.

    Raises
    ------
    RankError
        If the request is out of range or cannot be met.
    """
    layer = scheme.layer
    dense = request.cost(layer, layer.sequence.chain)
    with one_blas_thread():
        fitter = scheme.fitter()
        results: dict[Rank, Factorization] = {}

        def attempt(rank: Rank) -> float:
            if rank not in results:
                if len(results) > 1:  # keep the memory of two results at most: the best and the latest
                    worst = max(results, key=lambda r: request.cost(layer, scheme.chain(r)))
                    kept = {r: f for r, f in results.items() if r != worst}
                    results.clear()
                    results.update(kept)
                results[rank] = _fitted(scheme, fitter, rank)
            return results[rank].relative_error

        def cost(rank: Rank) -> Fraction:
            return request.cost(layer, scheme.chain(rank))

        rank = _choose_rank(scheme, fitter, request, attempt, cost, dense)
        attempt(rank)
        return results[rank]


def _choose_rank(
    scheme: Scheme,
    fitter: Fitter,
    request: Request,
    attempt: Callable[[Rank], float],
    cost: Callable[[Rank], Fraction],
    dense: Fraction,
) -> Rank:
    maximum = scheme.maximum
    if request.rank is not None:
        return _asked_rank(scheme, fitter, request.rank)
    if request.budget is not None:
        limit = Fraction(request.budget) * dense
        rank = fitter.meet_budget(lambda r: cost(r) <= limit, maximum)
        if rank is None:
            least = float(cost((1,) * len(maximum)) / dense)
            raise RankError(
                f"budget={request.budget:g} of {request.of} cannot be met by {scheme.name}: rank 1 already costs "
                f"{least:.3g} of the dense layer; ask for at least that, or try another method"
            )
        return rank
    ceiling = request.ceiling
    if ceiling is not None and len(maximum) == 1:
        maximum = (ranks.largest_affordable(lambda r: cost((r,)) < ceiling, maximum[0]),)
        if maximum == (0,):
            raise RankError(f"{scheme.name} costs too much at any rank")
    return fitter.meet_error(attempt, float(request.error or 0.0), maximum, cost)


def _asked_rank(scheme: Scheme, fitter: Fitter, rank: Any) -> Rank:
    maximum = scheme.maximum
    if callable(rank):
        chosen = ranks.spread(tuple(rank(fitter.spectra(), maximum)), maximum)
    else:
        chosen = ranks.spread(rank, maximum)
    for entry, most, rule in zip(chosen, maximum, scheme.maximum_rules, strict=True):
        if not 1 <= entry <= most:
            shown = operator.index(rank) if not callable(rank) and np.ndim(rank) == 0 else chosen
            raise RankError(f"rank must be between 1 and {most} = {rule} for this kernel, got {shown}")
    return chosen


def _fitted(scheme: Scheme, fitter: Fitter, rank: Rank) -> Factorization:
    factors = fitter.factors(rank)
    carriers = fitter.carriers(factors)
    share = fitter.scale ** (1 / len(carriers))
    stored: Factors = {}
    for name in list(factors):
        factor = factors.pop(name)
        if name in carriers:
            factor *= share
        with np.errstate(over="ignore"):
            stored[name] = np.array(factor, scheme.layer.dtype, order="C")
        del factor
        stored[name].flags.writeable = False
        if not np.isfinite(stored[name]).all():
            raise KernelError(f"factor {name!r} overflows {scheme.layer.dtype}; convert the kernel to a wider type first")
    return Factorization(
        scheme.name,
        scheme.layer,
        rank[0] if len(rank) == 1 else rank,
        MappingProxyType(stored),
        relative_error(scheme, stored),
        scheme,
    )


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
    """
    kernel = scheme.layer.kernel.reshape(scheme.block_shape)
    scale = float(np.abs(kernel).max()) or 1.0
    lost = norm = 0.0
    for rows, block in _reconstructed(scheme, factors):
        exact = kernel[:, rows].astype(np.float64)
        lost += float(np.sum(((block.astype(kernel.dtype) - exact) / scale) ** 2))
        norm += float(np.sum((exact / scale) ** 2))
    return math.sqrt(lost / norm) if norm else (math.inf if lost else 0.0)


def _reconstructed(scheme: Scheme, factors: Mapping[str, Array]) -> Any:
    """Yield (rows, float64 block) over the out-channels, a bounded number of entries at a time."""
    n_rows = scheme.block_shape[1]
    step = max(1, CHUNK // (math.prod(scheme.block_shape) // n_rows))
    for start in range(0, n_rows, step):
        rows = slice(start, min(start + step, n_rows))
        yield rows, scheme.reconstruct(dict(factors), rows)
