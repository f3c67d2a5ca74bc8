"""Tensor train: pointwise, one full 1-D convolution per spatial axis, pointwise."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from tensorconv import ranks
from tensorconv.errors import RankError
from tensorconv.factorizations.factorization import Factorization
from tensorconv.factorizations.fitter import Fitter
from tensorconv.factorizations.registry import register
from tensorconv.factorizations.scheme import Array, Factors, Rank, Scheme, Shape, product, wide
from tensorconv.factorizations.solve import Request, solve
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import ConvLayer, as_layer
from tensorconv.linalg import balance, tensor_train_svd, unfolding_ranks, unfolding_spectra

ROUNDS = 16  # of balancing neighbours; each brings all closer to one norm per component
PRECISION = 100  # a search ends this share of the path from the last ranks that meet the error


@dataclass(frozen=True)
class TensorTrain(Scheme):
    """Factors "in" (G, r_1, I), "axis0" (G, r_2, r_1, K1) and so on, "out" (G, O/G, r_{N+1}).

    Parameters
    ----------
    layer : ConvLayer
        The layer to factorize.
    """

    name: ClassVar[str] = "tensor_train"

    @property
    def modes(self) -> Shape:
        """Sizes of the tensor (I, K1..KN, O/G) that is decomposed."""
        _, n_out, n_in, *size = self.block_shape
        return (n_in, *size, n_out)

    @property
    def maximum(self) -> Rank:
        """Full ranks of the unfoldings."""
        return unfolding_ranks(self.modes)

    @property
    def maximum_rules(self) -> tuple[str, ...]:
        """The two sides of each unfolding, in letters."""
        letters = ["I", *(f"K{a + 1}" for a in range(self.layer.geometry.ndim)), self.out_letter]
        return tuple(f"min({product(*letters[:k])}, {product(*letters[k:])})" for k in range(1, len(letters)))

    def chain(self, rank: Rank) -> list[tuple[Shape, ConvGeometry]]:
        """Pointwise, one convolution along each axis, pointwise."""
        n_groups, n_out, n_in, *size = self.block_shape
        geometry, pointwise = self.layer.geometry, self.pointwise(n_groups)
        steps: list[tuple[Shape, ConvGeometry]] = [((n_groups * rank[0], n_in, *self.ones), pointwise)]
        for axis, taps in enumerate(size):
            shape = tuple(taps if a == axis else 1 for a in range(geometry.ndim))
            steps.append(((n_groups * rank[axis + 1], rank[axis], *shape), geometry.on_axes((axis,), n_groups)))
        return [*steps, ((n_groups * n_out, rank[-1], *self.ones), pointwise)]

    def kernels(self, factors: Factors) -> list[Array]:
        """The factors are the kernels."""
        return [factors[name] for name in self._names]

    @property
    def _names(self) -> list[str]:
        return ["in", *(f"axis{a}" for a in range(self.layer.geometry.ndim)), "out"]

    def reconstruct(self, factors: Factors, rows: slice) -> Array:
        """Multiply the cores, from the out-channels on."""
        n_groups = self.block_shape[0]
        sums = wide(factors["out"][:, rows])  # (G, rows K.., r)
        for axis in reversed(range(self.layer.geometry.ndim)):
            core = factors[f"axis{axis}"]  # (G, r_after, r_before, K)
            flat = core.transpose(0, 1, 3, 2).reshape(n_groups, core.shape[1], -1)
            sums = (sums @ wide(flat)).reshape(n_groups, -1, core.shape[2])
        sums = sums @ wide(factors["in"])  # (G, rows KN .. K1, I)
        size = self.layer.kernel_size
        tensor: Array = sums.reshape(n_groups, -1, *size[::-1], self.block_shape[2])
        return tensor.transpose(0, 1, -1, *range(1 + len(size), 1, -1))

    def to_tensorly(self, factors: Mapping[str, Array], group: int) -> Any:
        """Return one group's TTTensor of (I, K1..KN, O/G).

        Parameters
        ----------
        factors : mapping of str to ndarray
            The factors.
        group : int
            The group.

        Returns
        -------
        tensorly.tt_tensor.TTTensor
            The train.
        """
        from tensorconv.factorizations.tensorly import train_tensor  # TensorLy is loaded only when asked for

        axes = [factors[name][group].transpose(1, 2, 0) for name in self._names[1:-1]]
        return train_tensor([factors["in"][group].T[None], *axes, factors["out"][group].T[..., None]])

    def fitter(self) -> TensorTrainFitter:
        """Successive SVDs per group."""
        return TensorTrainFitter(self)


class TensorTrainFitter(Fitter[TensorTrain]):
    """Successive SVDs; ranks are lowered one by one from the full ones, where it costs least error per cost saved.

    Parameters
    ----------
    scheme : TensorTrain
        What is to be fitted.
    """

    def _tensor(self, group: int) -> Array:
        """Return a new array of one group's tensor (I, K1..KN, O/G)."""
        tensor = np.array(np.moveaxis(self._kernel[group], 0, -1), np.float64, order="C")
        tensor /= self.scale
        return tensor

    def factors(self, rank: Rank) -> Factors:
        """Fit every group and balance neighbours."""
        groups = range(len(self._kernel))
        trains = [_padded(tensor_train_svd(self._tensor(g), rank, refine=self.is_wide), rank) for g in groups]
        # (G, r_before, n, r_after); one group alone is not copied
        cores = [core[0][None] if len(core) == 1 else np.stack(core) for core in zip(*trains, strict=True)]
        del trains
        for g in groups:
            for _ in range(ROUNDS):
                for first, second in itertools.pairwise(cores):
                    balance(first[g], 2, second[g], 0)
        found = {"in": cores[0][:, 0].swapaxes(1, 2)}
        found |= {f"axis{a}": core.transpose(0, 3, 1, 2) for a, core in enumerate(cores[1:-1])}
        return found | {"out": cores[-1][..., 0].swapaxes(1, 2)}

    @cached_property
    def values(self) -> list[Array]:
        """Singular values (G, n) of each unfolding."""
        per_group = [unfolding_spectra(self._tensor(g)) for g in range(len(self._kernel))]
        return [np.stack(rows) for rows in zip(*per_group, strict=True)]

    def spectra(self) -> list[Array]:
        """One spectrum per unfolding."""
        return self.values

    def _path(self, cost: Callable[[Rank], Fraction]) -> Iterator[tuple[Rank, float]]:
        """Yield ranks from the full ones down, with the relative error that they are bound by."""
        tails = [ranks.tail_energy(values) for values in self.values]
        total = float(tails[0][0]) or 1.0
        rank = self.scheme.maximum
        now = cost(rank)
        while True:
            lost = sum(float(tail[r]) for tail, r in zip(tails, rank, strict=True))
            yield rank, (lost / total) ** 0.5
            best: tuple[float, Rank, Fraction] | None = None
            for j, (tail, r) in enumerate(zip(tails, rank, strict=True)):
                if r > 1:
                    lower = (*rank[:j], r - 1, *rank[j + 1 :])
                    then = cost(lower)
                    price = float(tail[r - 1] - tail[r]) / max(float(now - then), 1e-300)
                    if best is None or price < best[0]:
                        best = (price, lower, then)
            if best is None:
                return
            _, rank, now = best

    def meet_error(
        self, attempt: Callable[[Rank], float], error: float, maximum: Rank, cost: Callable[[Rank], Fraction]
    ) -> Rank:
        """Follow the path down while the bound allows, then on while the true error does: the bound is loose."""
        del maximum
        path = list(self._path(cost))
        bounds = np.array([bound for _, bound in path])
        met = max(int(np.sum(bounds <= error)) - 1, 0)
        if attempt(path[met][0]) > error:  # by rounding: full rank is all there is left
            met = 0
            if attempt(path[0][0]) > error:
                raise RankError(
                    f"error={error:g} cannot be met: the best attained is {attempt(path[0][0]):.3g}, at rank "
                    f"{path[0][0]}; ask for a larger error, or convert the kernel to a wider data type"
                )
        missed = int(np.sum(bounds <= error * len(path[0][0]) ** 0.5))  # here even the loosest bound is above
        while missed - met > max(1, len(path) // PRECISION):
            middle = (met + missed) // 2
            if attempt(path[middle][0]) <= error:
                met = middle
            else:
                missed = middle
        return path[met][0]

    def meet_budget(self, cost: Callable[[Rank], Fraction], limit: Fraction, maximum: Rank) -> Rank | None:
        """Follow the path down until it is affordable."""
        del maximum
        return next((rank for rank, _ in self._path(cost) if cost(rank) <= limit), None)


def _padded(cores: list[Array], rank: Rank) -> list[Array]:
    """Fill up with zero components where smaller ranks before left fewer than asked for."""
    sizes = [1, *rank, 1]
    wanted = [(sizes[k], core.shape[1], sizes[k + 1]) for k, core in enumerate(cores)]
    return [
        core if core.shape == shape else np.pad(core, [(0, n - m) for n, m in zip(shape, core.shape, strict=True)])
        for core, shape in zip(cores, wanted, strict=True)
    ]


def _variants(layer: ConvLayer) -> list[dict[str, Any]]:
    return [{}] if max(layer.kernel_size) > 1 else []


@register(_variants, TensorTrain)
def tensor_train(
    layer: Any,
    rank: Any = None,
    *,
    error: float | None = None,
    budget: float | None = None,
    of: str = "macs",
    input_size: Sequence[int] | None = None,
) -> Factorization:
    """Factorize a layer by a tensor train over (in-channels, spatial axes, out-channels).

    ``W[o, i, k1..kN] = out[o] axisN[kN] .. axis0[k1] in[i]``, a product of a row, N matrices and a column per entry: a
    pointwise layer to r_1 channels, a full convolution along each spatial axis, a pointwise layer (the train is
    Oseledets', 2011; each axis keeps its stride, padding and dilation). Fitted by successive truncated SVDs, which are
    within a factor sqrt(N + 1) of the best; exact at full ranks.

    Parameters
    ----------
    layer : ConvLayer or array_like, shape (O, I, K1..KN)
        The layer; an array means stride 1 without padding.
    rank : int, tuple of int or rule, optional
        R for all (each capped at its largest), or (r_1 .. r_{N+1}) along (I, K1..KN, O).
    error : float, optional
        Largest relative Frobenius error; ranks are lowered where it costs least error per cost saved.
    budget : float, optional
        Largest share of the dense cost.
    of : {"macs", "parameters", "bytes"}
        The cost that error and budget weigh.
    input_size : sequence of int, optional
        Spatial size that the cost is for; the limit of large inputs if not given.

    Returns
    -------
    Factorization
        Factors "in" (G, r_1, I), "axis0" (G, r_2, r_1, K1) and so on, "out" (G, O/G, r_{N+1}).

    Raises
    ------
    RankError
        If the request is out of range or cannot be met.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorconv as tc
    >>> kernel = np.random.default_rng(0).standard_normal((8, 6, 3, 3))
    >>> [layer.kernel.shape for layer in tc.tensor_train(kernel, rank=(4, 5, 6)).sequence]
    [(4, 6, 1, 1), (5, 4, 3, 1), (6, 5, 1, 3), (8, 6, 1, 1)]
    """
    return solve(TensorTrain(as_layer(layer)), Request(rank, error, budget, of, input_size))
