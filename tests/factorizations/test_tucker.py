"""Tests of tucker: the order of ranks, optimality, spatial ranks, and the two forms of its sequence."""

from __future__ import annotations

import itertools
import math
from typing import Any

import cases
import contracts
import numpy as np
import pytest

import tensorconv as tc
from tensorconv.arrays import Array
from tensorconv.errors import RankError

KERNEL = np.random.default_rng(0).standard_normal((8, 6, 3, 2))


def hosvd_error(kernel: Array, ranks: tuple[int, ...]) -> float:
    """Return the error of projecting every mode onto the leading singular vectors of its unfolding."""
    projected = kernel
    for mode, rank in enumerate(ranks):
        unfolding = np.moveaxis(kernel, mode, 0).reshape(kernel.shape[mode], -1)
        u = np.linalg.svd(unfolding, full_matrices=False)[0][:, :rank]
        projected = np.moveaxis(np.tensordot(u @ u.T, projected, (1, mode)), 0, mode)
    return float(np.linalg.norm(projected - kernel) / np.linalg.norm(kernel))


def test_the_first_rank_is_of_the_out_channels() -> None:
    f = tc.tucker(KERNEL, (4, 3))
    assert f.rank == (4, 3)
    assert {name: factor.shape for name, factor in f.factors.items()} == {
        "in": (1, 3, 6),
        "core": (1, 4, 3, 3, 2),
        "out": (1, 8, 4),
    }
    assert [step.kernel.shape for step in f.sequence] == [(3, 6, 1, 1), (4, 3, 3, 2), (8, 4, 1, 1)]


@pytest.mark.parametrize("ranks", [(3, 6), (8, 2)])
def test_with_one_truncated_mode_it_is_the_best_approximation(ranks: tuple[int, int]) -> None:
    mode = int(ranks[1] < 6)
    s = np.linalg.svd(np.moveaxis(KERNEL, mode, 0).reshape(KERNEL.shape[mode], -1), compute_uv=False)
    best = math.sqrt(np.sum(s[ranks[mode] :] ** 2) / np.sum(s**2))
    # two stable decompositions
    assert abs(tc.tucker(KERNEL, ranks).relative_error - best) <= 100 * contracts.gamma(KERNEL.size, contracts.U64)


@pytest.mark.parametrize("ranks", [(4, 3), (4, 3, 3, 2), (3, 3, 2, 1), (1, 1, 1, 1), (2, 5, 3, 1)])
def test_it_refines_the_truncated_hosvd(ranks: tuple[int, ...]) -> None:
    whole = (*ranks, *KERNEL.shape[len(ranks) :])
    bound = hosvd_error(KERNEL, whole)
    f = tc.tucker(KERNEL, ranks)
    assert f.relative_error <= bound * (1 + contracts.gamma(KERNEL.size, contracts.U64))
    # every mode alone is a lower bound: the energy that its own truncation loses
    for mode, rank in enumerate(whole):
        alone = tuple(rank if m == mode else n for m, n in enumerate(KERNEL.shape))
        assert f.relative_error >= hosvd_error(KERNEL, alone) - contracts.gamma(KERNEL.size, contracts.U64)


def test_a_kernel_of_low_multilinear_rank_is_found_exactly() -> None:
    rng = np.random.default_rng(1)
    core = rng.standard_normal((3, 2, 2, 1))
    factors = [rng.standard_normal((n, r)) for n, r in zip((8, 6, 5, 3), core.shape, strict=True)]
    kernel = np.einsum("abcd,oa,ib,kc,ld->oikl", core, *factors)
    layer = tc.ConvLayer.of(kernel, padding=2)
    contracts.check_exact(layer, tc.tucker(layer, core.shape))
    contracts.check_exact(layer, tc.tucker(layer, (3, 2)))
    f = tc.tucker(layer, error=1e-10, spatial=True)
    # no smaller out- or in-rank can do; more taps than needed are free where the core is spread over all of them
    assert f.rank[:2] == (3, 2)  # type: ignore[index]
    assert tc.tucker(layer, tc.ranks.energy(1 - 1e-14), spatial=True).rank == core.shape


def test_an_integer_is_capped_at_every_mode() -> None:
    assert tc.tucker(KERNEL, 7).rank == (7, 6)
    assert tc.tucker(KERNEL, 2, spatial=True).rank == (2, 2, 2, 2)
    assert tc.tucker(KERNEL, 8, spatial=True).rank == KERNEL.shape
    with pytest.raises(RankError, match=r"^rank must be between 1 and 8 = O for this kernel, got 9$"):
        tc.tucker(KERNEL, 9)


@pytest.mark.parametrize(
    ("rank", "message"),
    [
        ((9, 6), r"rank must be between 1 and 8 = O for this kernel, got \(9, 6\)"),
        ((8, 7), r"rank must be between 1 and 6 = I for this kernel, got \(8, 7\)"),
        ((8, 0), r"rank must be between 1 and 6 = I for this kernel, got \(8, 0\)"),
        ((8, 6, 4, 2), r"rank must be between 1 and 3 = K1 for this kernel, got \(8, 6, 4, 2\)"),
        ((8, 6, 3, 3), r"rank must be between 1 and 2 = K2 for this kernel, got \(8, 6, 3, 3\)"),
        ((8, 6, 3), r"rank must be an integer or 2 integers, got \(8, 6, 3\)"),
        ((8,), r"rank must be an integer or 2 integers, got \(8,\)"),
    ],
)
def test_a_rank_that_does_not_fit_is_refused(rank: tuple[int, ...], message: str) -> None:
    with pytest.raises(RankError, match=f"^{message}$"):
        tc.tucker(KERNEL, rank)


def test_spatial_ranks_are_implied_by_their_number_and_filled_in() -> None:
    contracts.check_same(tc.tucker(KERNEL, (4, 3, 2, 1)), tc.tucker(KERNEL, (4, 3, 2, 1), spatial=True))
    assert tc.tucker(KERNEL, (4, 3), spatial=True).rank == (4, 3, 3, 2)
    assert "axis0" not in tc.tucker(KERNEL, (4, 3)).factors


def test_a_spatial_factor_of_full_rank_is_the_identity() -> None:
    f = tc.tucker(KERNEL, (4, 3, 3, 1))
    np.testing.assert_array_equal(f.factors["axis0"], np.eye(3)[None])
    # columns of norm one: the channel factors and the core have the kernel's scale
    assert abs(np.linalg.norm(f.factors["axis1"]) - 1) <= contracts.gamma(8, contracts.U64)


SEPARABLE = {
    "unequal 2d": (6, 5, 1, 1),
    "unequal 3d": (4, 3, 1, 1, 1),
    "grouped 3d": (2, 2, 1, 1, 1),
    "unequal 4d": (3, 4, 1, 1, 1, 1),
    "grouped 4d": (2, 2, 1, 1, 1, 1),
    "transposed 4d": (3, 2, 1, 1, 1, 1),
}


@pytest.mark.parametrize(("case", "rank"), SEPARABLE.items())
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_low_spatial_ranks_run_as_separable_steps(case: str, rank: tuple[int, ...], dtype: str) -> None:
    check_separable(cases.layer(case, dtype), rank)


def test_a_transposed_grouped_layer_runs_as_separable_steps_too() -> None:
    kernel = np.random.default_rng(4).standard_normal((6, 2, 5, 4))
    options: dict[str, Any] = {"stride": (1, 2), "padding": ((1, 0), (0, 2)), "dilation": (2, 1), "output_padding": 1}
    check_separable(tc.ConvLayer.of(kernel, np.ones(6), transposed=True, groups=2, **options), (3, 2, 1, 1))


def check_separable(layer: tc.ConvLayer, rank: tuple[int, ...]) -> None:
    f = tc.tucker(layer, rank)
    wide = [axis for axis, k in enumerate(layer.kernel_size) if k > 1]
    assert len(f.sequence) == 3 + len(wide)
    owners = [axis for step in f.sequence for axis, k in enumerate(step.kernel_size) if k > 1]
    assert sorted(owners) == wide
    strides = [layer.geometry.stride[axis] for axis in owners]
    # the step that leaves the fewest positions comes first, or last where the convolution is transposed
    assert strides == sorted(strides, reverse=not layer.geometry.transposed)
    contracts.check_composition(layer, f)
    contracts.check_execution(layer, f, cases.input_size(layer))
    contracts.check_error(layer, f)


def test_the_form_that_costs_fewer_macs_is_taken() -> None:
    kernel = np.random.default_rng(2).standard_normal((8, 6, 5, 5))
    assert len(tc.tucker(kernel, (8, 6, 1, 1)).sequence) == 5
    assert len(tc.tucker(kernel, (8, 6, 5, 5)).sequence) == 3
    for rank in itertools.product((1, 4, 8), (1, 3, 6), (1, 3, 5), (1, 5)):
        f = tc.tucker(kernel, rank)
        r_out, r_in, *taps = rank
        ends = 6 * r_in + r_out * 8
        whole = ends + r_out * r_in * 25
        steps = ends + r_in * taps[0] * 5 + r_in * taps[0] * taps[1] * 5 + r_in * taps[0] * taps[1] * r_out
        assert f.n_parameters == min(whole, steps)


@pytest.mark.parametrize("options", [{}, {"spatial": True}], ids=str)
@pytest.mark.parametrize("error", [0.6, 0.3])
def test_an_error_is_met_at_low_cost(options: dict[str, Any], error: float) -> None:
    layer = tc.ConvLayer.of(decaying(), padding=1)
    f = contracts.check_meets_error(layer, "tucker", options, error)
    # among all pairs of ranks, those that meet the error cost no less than 10 % below what was found
    ranks = itertools.product(range(1, 9), range(1, 7))
    costs = [g.n_parameters for g in (tc.tucker(layer, rank) for rank in ranks) if g.relative_error <= error]
    assert f.n_parameters <= 1.1 * min(costs)


def decaying() -> Array:
    """Return a kernel whose singular values fall in every mode, as those of trained kernels do."""
    rng = np.random.default_rng(3)
    core = rng.standard_normal((8, 6, 3, 3))
    for mode, n in enumerate(core.shape):
        core *= np.exp(-0.5 * np.arange(n)).reshape([-1 if m == mode else 1 for m in range(4)])
    rotations = [np.linalg.qr(rng.standard_normal((n, n)))[0] for n in core.shape]
    return np.asarray(np.einsum("abcd,oa,ib,kc,ld->oikl", core, *rotations))


@pytest.mark.parametrize("budget", [0.2, 0.5])
def test_a_budget_is_spent_well(budget: float) -> None:
    layer = tc.ConvLayer.of(decaying(), padding=1)
    f = contracts.check_budget(layer, "tucker", {}, budget)
    assert f is not None
    candidates = (tc.tucker(layer, rank) for rank in itertools.product(range(1, 9), range(1, 7)))
    limit = budget * layer.kernel.size
    best = min(g.relative_error for g in candidates if g.sequence.n_parameters <= limit)
    # chosen by the energies of the untruncated HOSVD core, which the refinement beats by a little
    assert f.relative_error <= 1.05 * best
