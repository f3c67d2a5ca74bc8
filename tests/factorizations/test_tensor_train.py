"""tensor_train: what its ranks mean, requests met, TensorLy's container, and ranks under a budget."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
import tensorly

import tensorconv as tc
from tensorconv.cost import chain_cost
from tensorconv.errors import RankError
from tensorconv.factorizations import registered

KERNEL = np.random.default_rng(0).standard_normal((8, 6, 3, 2))


def test_one_convolution_along_each_axis_between_pointwise_ones() -> None:
    layer = tc.ConvLayer.of(KERNEL, stride=(2, 1), padding=((1, 2), (0, 1)), dilation=(1, 3))
    f = tc.tensor_train(layer, rank=(4, 5, 6))
    assert [step.kernel.shape for step in f.sequence] == [(4, 6, 1, 1), (5, 4, 3, 1), (6, 5, 1, 2), (8, 6, 1, 1)]
    assert [step.geometry.stride for step in f.sequence] == [(1, 1), (2, 1), (1, 1), (1, 1)]
    assert [step.geometry.dilation for step in f.sequence] == [(1, 1), (1, 1), (1, 3), (1, 1)]


def test_ranks_run_from_the_in_channels_to_the_out_channels() -> None:
    assert registered()["tensor_train"].scheme(tc.ConvLayer.of(KERNEL)).maximum == (6, 16, 8)
    with pytest.raises(RankError, match=r"rank must be between 1 and 16 = min\(I\*K1, K2\*O\) for this kernel, got"):
        tc.tensor_train(KERNEL, rank=(6, 17, 8))
    with pytest.raises(RankError, match=r"rank must be an integer or 3 integers, got \(2, 2\)"):
        tc.tensor_train(KERNEL, rank=(2, 2))


def test_tensorly_rebuilds_the_kernel() -> None:
    f = tc.tensor_train(tc.ConvLayer.of(np.concatenate([KERNEL, 2 * KERNEL[::-1]]), groups=2), rank=(4, 5, 6))
    for group in range(2):
        train = tensorly.tt_to_tensor(f.to_tensorly(group))  # (I, K1, K2, O/G)
        # a product of four float64 matrices of at most 6 columns, twice: a few dozen roundings of the largest entry
        np.testing.assert_allclose(np.moveaxis(train, -1, 0), f.kernel[8 * group : 8 * group + 8], rtol=0, atol=1e-13)


@pytest.mark.parametrize("error", [0.5, 0.2, 0.05, 1e-3])
def test_errors_are_met_and_not_by_much(error: float) -> None:
    f = tc.tensor_train(KERNEL, error=error)
    assert f.relative_error <= error
    rank = f.rank
    assert isinstance(rank, tuple)
    lower = [(*rank[:j], r - 1, *rank[j + 1 :]) for j, r in enumerate(rank) if r > 1]
    # not proven smallest, but lowering every rank at once must miss the request
    assert tc.tensor_train(KERNEL, rank=tuple(max(1, r - 1) for r in rank)).relative_error > error
    assert lower


@pytest.mark.parametrize(("shape", "budget", "size"), [((16, 12, 3, 3), 0.5, None), ((8, 6, 3, 3), 0.5, (7, 7))])
def test_a_budget_is_used_well(shape: tuple[int, ...], budget: float, size: tuple[int, int] | None) -> None:
    layer = tc.ConvLayer.of(np.random.default_rng(0).standard_normal(shape))
    f = tc.tensor_train(layer, budget=budget, input_size=size)
    limit = Fraction(budget) * chain_cost(layer.chain, "macs", size)
    assert chain_cost(f.sequence.chain, "macs", size) <= limit
    scheme = registered()["tensor_train"].scheme(layer)
    some = itertools.product(*(range(1, most + 1, max(1, most // 8)) for most in scheme.maximum))
    affordable = [rank for rank in some if chain_cost(scheme.chain(rank), "macs", size) <= limit]
    best = min(tc.tensor_train(layer, rank=rank).relative_error for rank in affordable)
    assert f.relative_error <= 1.1 * best  # ranks are chosen without fitting; a greedy choice was 13 % worse


def test_a_layer_of_one_tap_is_no_train() -> None:
    assert registered()["tensor_train"].variants(tc.ConvLayer.of(KERNEL[:, :, :1, :1])) == []
