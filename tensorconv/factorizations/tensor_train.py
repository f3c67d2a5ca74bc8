"""Tensor train: pointwise, one full 1-D convolution per spatial axis, pointwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tensorconv.factorizations.factorization import Factorization
from tensorconv.factorizations.registry import register
from tensorconv.factorizations.scheme import Array, Factors, Rank, Scheme, Shape, wide
from tensorconv.factorizations.solve import Request, solve
from tensorconv.factorizations.tensor_train_fitter import TensorTrainFitter
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import ConvLayer, as_layer
from tensorconv.linalg import unfolding_ranks
from tensorconv.text import product


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

    @property
    def layer_factors(self) -> list[str]:
        """The factors are the kernels."""
        return ["in", *(f"axis{a}" for a in range(self.layer.geometry.ndim)), "out"]

    def factor_shapes(self, rank: Rank) -> dict[str, Shape]:
        """Ranks before and after, taps in between."""
        n_groups, n_out, n_in, *size = self.block_shape
        axes = {f"axis{a}": (n_groups, rank[a + 1], rank[a], k) for a, k in enumerate(size)}
        return {"in": (n_groups, rank[0], n_in), **axes, "out": (n_groups, n_out, rank[-1])}

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
        """Return one group's TTTensor of (I, K1..KN, O/G)."""
        from tensorconv.factorizations.tensorly import train_tensor  # TensorLy is loaded only when asked for

        axes = [factors[name][group].transpose(1, 2, 0) for name in self.layer_factors[1:-1]]
        return train_tensor([factors["in"][group].T[None], *axes, factors["out"][group].T[..., None]])

    def fitter(self) -> TensorTrainFitter:
        """Successive SVDs per group."""
        return TensorTrainFitter(self)


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
