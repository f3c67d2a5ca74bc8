"""Tests of depthwise_separable: one truncated SVD per channel, against direct SVDs and known sums of terms."""

from __future__ import annotations

import math
from typing import Any

import contracts
import numpy as np
import pytest

import tensorconv as tc
from tensorconv.arrays import Array
from tensorconv.errors import RankError

KERNEL = np.random.default_rng(0).standard_normal((7, 5, 3, 2))
ORDERS = ("depthwise-first", "pointwise-first")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("rank", [1, 2, 4])
def test_every_channel_is_approximated_best(order: str, rank: int) -> None:
    slices = KERNEL.reshape(7, 5, 6)
    slices = slices.transpose(1, 0, 2) if order == "depthwise-first" else slices  # (C, other channels, K)
    u, s, vh = np.linalg.svd(slices, full_matrices=False)
    truncated = (u[:, :, :rank] * s[:, None, :rank]) @ vh[:, :rank]
    truncated = truncated.transpose(1, 0, 2) if order == "depthwise-first" else truncated
    f = tc.depthwise_separable(KERNEL, rank, order=order)
    # both are stable: off by a few n u of the norm, over gaps that are about a tenth of it
    slack = 100 * contracts.gamma(KERNEL.size, contracts.U64)
    np.testing.assert_allclose(f.kernel, truncated.reshape(KERNEL.shape), rtol=0, atol=slack * s.max())
    assert abs(f.relative_error - np.sqrt(np.sum(s[:, rank:] ** 2) / np.sum(s**2))) <= slack


@pytest.mark.parametrize("order", ORDERS)
def test_a_sum_of_separable_terms_is_found_exactly(order: str) -> None:
    rng = np.random.default_rng(1)
    channels = "i" if order == "depthwise-first" else "o"
    depthwise = rng.standard_normal((5 if channels == "i" else 7, 2, 3, 3))
    kernel = np.einsum(f"oir,{channels}rkl->oikl", rng.standard_normal((7, 5, 2)), depthwise)
    contracts.check_exact(tc.ConvLayer.of(kernel), tc.depthwise_separable(kernel, 2, order=order))
    for error in (1e-3, 1e-6, 1e-10):
        assert tc.depthwise_separable(kernel, error=error, order=order).rank == 2


def of_slice_rank(rank: int, order: str, shape: tuple[int, ...], groups: int = 1) -> Array:
    """Return a kernel all of whose slices but one have this rank; one has rank 1."""
    n_out, n_in, *size = shape
    rng = np.random.default_rng(rank)
    n_slices, side = (groups * n_in, n_out // groups) if order == "depthwise-first" else (n_out, n_in)
    left, right = rng.standard_normal((n_slices, side, rank)), rng.standard_normal((n_slices, rank, math.prod(size)))
    left[0, :, 1:] = 0
    slices = left @ right
    if order == "depthwise-first":
        slices = slices.reshape(groups, n_in, side, -1).swapaxes(1, 2)
    return slices.reshape(shape)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("rank", [1, 2, 4, 6])
def test_the_fewest_terms_that_are_exact_are_found(order: str, dtype: str, groups: int, rank: int) -> None:
    kernel = of_slice_rank(rank, order, (24, 10, 3, 2), groups).astype(dtype)
    layer = tc.ConvLayer.of(kernel, groups=groups)
    f = tc.depthwise_separable(layer, tc.ranks.exact(), order=order)
    assert f.rank == rank
    # a kernel that is rounded to its type is of this rank up to that rounding: two factors are stored, and the kernel
    u = contracts.UNIT[dtype]
    assert f.relative_error <= 4 * contracts.gamma(len(f.factors) + 2, u) * np.sqrt(rank)
    for error in (1e-3, 1e-6) if dtype == "float32" else (1e-3, 1e-6, 1e-10, 1e-13):
        assert tc.depthwise_separable(layer, error=error, order=order).rank == rank


@pytest.mark.parametrize("order", ORDERS)
def test_the_rule_of_network_decoupling_means_over_the_channels(order: str) -> None:
    kernel = KERNEL * np.logspace(0, -2, 5)[:, None, None]  # channels of unequal weight
    slices = kernel.reshape(7, 5, 6)
    slices = slices.transpose(1, 0, 2) if order == "depthwise-first" else slices
    energies = np.linalg.svd(slices, compute_uv=False) ** 2
    means = np.mean(np.cumsum(energies, axis=1) / energies.sum(axis=1, keepdims=True), axis=0)
    for share in (0.5, 0.8, 0.95):
        expected = 1 + int(np.argmax(means >= share))
        assert tc.depthwise_separable(kernel, tc.ranks.mean_energy(share), order=order).rank == expected


@pytest.mark.parametrize(
    ("order", "shapes"),
    [
        ("depthwise-first", [(8, 1, 3), (6, 4, 1)]),
        ("pointwise-first", [(12, 2, 1), (6, 2, 3)]),
    ],
)
def test_the_whole_geometry_is_the_depthwise_layers(order: str, shapes: list[Any]) -> None:
    kernel = np.random.default_rng(2).standard_normal((6, 1, 3))
    options: dict[str, Any] = {"stride": 3, "padding": ((1, 2),), "dilation": 2, "groups": 2}
    layer = tc.ConvLayer.of(np.concatenate([kernel, 2 * kernel], axis=1), np.ones(6), **options)
    f = tc.depthwise_separable(layer, 2, order=order)
    assert [step.kernel.shape for step in f.sequence] == shapes
    depthwise, pointwise = f.sequence.layers if order == "depthwise-first" else f.sequence.layers[::-1]
    assert depthwise.geometry == tc.ConvGeometry.of(1, **(options | {"groups": 4 if order == "depthwise-first" else 6}))
    assert pointwise.geometry == tc.ConvGeometry.of(1, groups=2)


@pytest.mark.parametrize("order", ORDERS)
def test_the_terms_of_one_channel_are_one_layer(order: str) -> None:
    f = tc.depthwise_separable(KERNEL, 3, order=order)
    assert len(f.sequence) == 2
    depthwise, pointwise = {"depthwise-first": (15 * 6, 7 * 15), "pointwise-first": (21 * 6, 21 * 5)}[order]
    assert f.n_parameters == depthwise + pointwise
    # 9 x 8 inputs, 7 x 7 positions after the 3 x 2 taps; what comes first decides how often the pointwise layer runs
    assert f.sequence.macs((9, 8)) == 49 * depthwise + (49 if order == "depthwise-first" else 72) * pointwise


@pytest.mark.parametrize(
    ("order", "most", "rule"), [("depthwise-first", 6, "min(O, K)"), ("pointwise-first", 5, "min(I, K)")]
)
def test_the_largest_rank_is_named_in_letters(order: str, most: int, rule: str) -> None:
    contracts.check_exact(tc.ConvLayer.of(KERNEL), tc.depthwise_separable(KERNEL, most, order=order))
    for rank in (0, most + 1):
        with pytest.raises(RankError) as caught:
            tc.depthwise_separable(KERNEL, rank, order=order)
        assert str(caught.value) == f"rank must be between 1 and {most} = {rule} for this kernel, got {rank}"


def test_an_order_that_is_none_is_refused() -> None:
    with pytest.raises(RankError) as caught:
        tc.depthwise_separable(KERNEL, 1, order="first")
    assert str(caught.value) == "order must be one of ('depthwise-first', 'pointwise-first'), got 'first'"


def test_a_pointwise_kernel_has_one_term() -> None:
    layer = tc.ConvLayer.of(KERNEL[:, :, :1, :1], stride=2)
    for order in ORDERS:
        f = tc.depthwise_separable(layer, 1, order=order)
        contracts.check_exact(layer, f)
        contracts.check_composition(layer, f)
