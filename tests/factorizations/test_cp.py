"""Tests of cp: known ranks, its starts and searches, and which axis runs first."""

from __future__ import annotations

import math
import re
import sys
from typing import Any

import cases
import contracts
import numpy as np
import pytest

import tensorconv as tc
from tensorconv.arrays import Array
from tensorconv.errors import RankError
from tensorconv.factorizations import registered

KERNEL = np.random.default_rng(0).standard_normal((8, 6, 3, 3))
VARIANTS: list[dict[str, Any]] = [{}, {"merge_spatial": True}]


def sum_of_terms(rank: int, shape: tuple[int, ...] = (8, 6, 3, 4)) -> Array:
    """Return a kernel of known CP rank."""
    rng = np.random.default_rng(1)
    return np.asarray(np.einsum("or,ir,kr,lr->oikl", *(rng.standard_normal((n, rank)) for n in shape)))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_kernel_of_known_rank_is_found(rank: int) -> None:
    f = tc.cp(sum_of_terms(rank), rank)
    # least squares stop at a relative change of 1e-5 over 10 sweeps, far below any error of a wrong rank
    assert f.relative_error < 1e-3
    assert tc.cp(sum_of_terms(rank), error=1e-2).rank == rank
    if rank > 1:
        assert tc.cp(sum_of_terms(rank), rank - 1).relative_error > 0.05


@pytest.mark.parametrize(
    ("shape", "options", "most", "rule"),
    [
        ((8, 6, 3, 3), {}, 54, "O*I*K1*K2/max(O, I, K1, K2)"),
        ((8, 6, 3, 3), {"merge_spatial": True}, 48, "O*I*K/max(O, I, K)"),
        ((2, 3, 5), {}, 6, "O*I*K1/max(O, I, K1)"),
        ((4, 3, 1, 1), {}, 3, "O*I*K1/max(O, I, K1)"),
    ],
)
def test_the_largest_rank_is_one_term_per_fibre_and_exact(
    shape: tuple[int, ...], options: dict[str, Any], most: int, rule: str
) -> None:
    layer = tc.ConvLayer.of(np.random.default_rng(2).standard_normal(shape))
    contracts.check_exact(layer, tc.cp(layer, most, **options))
    for rank in (0, most + 1):
        with pytest.raises(RankError) as caught:
            tc.cp(layer, rank, **options)
        assert str(caught.value) == f"rank must be between 1 and {most} = {rule} for this kernel, got {rank}"


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_the_rank_may_exceed_every_mode(options: dict[str, Any]) -> None:
    errors = [tc.cp(KERNEL, rank, **options).relative_error for rank in (2, 6, 12, 24)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5 * errors[0]


def test_the_first_step_is_the_one_that_shrinks_most() -> None:
    kernel = np.random.default_rng(3).standard_normal((4, 3, 2, 1, 5))
    layer = tc.ConvLayer.of(kernel, stride=(2, 4, 3), padding=(0, 1, 2))
    shapes = [step.kernel.shape for step in tc.cp(layer, 4).sequence]
    assert shapes == [(4, 3, 1, 1, 1), (4, 1, 1, 1, 5), (4, 1, 2, 1, 1), (4, 4, 1, 1, 1)]
    # the axis of one tap goes with the first step
    assert [step.geometry.stride for step in tc.cp(layer, 4).sequence] == [(1, 1, 1), (1, 4, 3), (2, 1, 1), (1, 1, 1)]
    backward = tc.ConvLayer.of(kernel, stride=(2, 4, 3), transposed=True)
    assert [step.kernel_size for step in tc.cp(backward, 4).sequence][1:3] == [(2, 1, 1), (1, 1, 5)]
    merged = tc.cp(layer, 4, merge_spatial=True)
    assert [step.kernel.shape for step in merged.sequence] == [(4, 3, 1, 1, 1), (4, 1, 2, 1, 5), (4, 4, 1, 1, 1)]


def test_a_pointwise_layer_keeps_its_stride() -> None:
    layer = cases.layer("strided pointwise 2d")
    f = tc.cp(layer, 3)
    assert [step.geometry.stride for step in f.sequence] == [(1, 1), (2, 3), (1, 1)]


def test_groups_and_ranks_have_starts_of_their_own() -> None:
    half = np.random.default_rng(4).standard_normal((4, 3, 3))
    f = tc.cp(tc.ConvLayer.of(np.concatenate([half, half]), groups=2), 4)
    assert f.factors["in"][0].tobytes() != f.factors["in"][1].tobytes()
    others = [tc.cp(half, 4, rng=seed).factors["in"].tobytes() for seed in range(4)]
    assert len(set(others)) == 4


def test_a_shorter_fit_starts_from_the_heaviest_terms_of_the_last() -> None:
    scheme = registered()["cp"].scheme(tc.ConvLayer.of(KERNEL), rng=0)
    fitter = scheme.fitter()
    many = fitter.factors((8,))
    scale, everything = fitter.scale, slice(None)
    kept = {"in": many["in"][:, :5], "out": many["out"][:, :, :5]} | {
        f"axis{a}": many[f"axis{a}"][:, :5] for a in (0, 1)
    }
    weights = np.linalg.norm(many["in"][0], axis=1)
    assert np.all(np.diff(weights) <= contracts.gamma(64, contracts.U64) * weights[0])  # heaviest first
    few = fitter.factors((5,))
    pruned, fitted = (
        float(np.linalg.norm(scheme.reconstruct(found, everything) * scale - KERNEL)) for found in (kept, few)
    )
    # least squares never make it worse, and pruning alone is not the answer
    assert fitted < pruned
    assert fitter.factors((6,))["in"].shape == (1, 6, 6)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("error", [0.7, 0.4])
def test_a_search_ends_close_above_a_rank_that_failed(
    options: dict[str, Any], error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: dict[int, float] = {}
    module = sys.modules["tensorconv.factorizations.solve"]
    original = module.fitted

    def recorded(*arguments: Any) -> Any:
        result = original(*arguments)
        attempts[result.rank] = result.relative_error
        return result

    monkeypatch.setattr(module, "fitted", recorded)
    f = tc.cp(KERNEL, error=error, **options)
    assert attempts[f.rank] == f.relative_error <= error  # type: ignore[index]
    failed = [rank for rank, missed in attempts.items() if missed > error]
    assert max(failed) >= f.rank - 1 - f.rank // 32  # type: ignore[operator]


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_a_rule_looks_at_the_unfoldings_of_the_channels(options: dict[str, Any], share: float) -> None:
    needed = []
    for mode in (0, 1):
        unfolding = np.moveaxis(KERNEL, mode, 0).reshape(KERNEL.shape[mode], -1)
        kept = np.cumsum(np.linalg.svd(unfolding, compute_uv=False) ** 2) / np.sum(KERNEL**2)
        needed.append(int(np.argmax(kept >= share)) + 1)
    assert tc.cp(KERNEL, tc.ranks.energy(share), **options).rank == max(needed)
    rounded = tc.ranks.multiple(4, of=tc.ranks.energy(share))
    assert tc.cp(KERNEL, rounded, **options).rank == -(-max(needed) // 4) * 4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("rank", [3, 8, 20, 40])
def test_more_terms_than_needed_do_no_harm(options: dict[str, Any], rank: int, dtype: str) -> None:
    kernel = sum_of_terms(3).astype(dtype)  # every Gram matrix of more terms is singular
    layer = tc.ConvLayer.of(kernel)
    f = tc.cp(layer, rank, **options)
    contracts.check_composition(layer, f)
    # sweeps are judged by a difference of squares, which hides errors below the root of its roundings
    assert f.relative_error <= max(1e-3, math.sqrt(4 * contracts.gamma(kernel.size, contracts.UNIT[dtype])))


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("live", [2, 6])
@pytest.mark.parametrize("rank", [2, 5, 20, 40])
def test_terms_do_not_cancel_where_one_would_do(options: dict[str, Any], dtype: str, live: int, rank: int) -> None:
    kernel = np.zeros((8, 6, 3, 3), dtype)
    kernel[:live, :live] = 1  # one term, and channels that are dead
    # large terms of opposite signs may fit in float64, but not as they are stored
    f = tc.cp(kernel, rank, **options)
    assert f.relative_error <= math.sqrt(4 * contracts.gamma(kernel.size, contracts.UNIT[dtype]))


def test_a_rule_that_looks_at_no_spectrum_is_as_good_as_its_rank() -> None:
    assert tc.cp(np.ones((8, 6, 3, 3)), tc.ranks.multiple(8, of=5)).rank == 8
    assert tc.cp(np.ones((8, 6, 3, 3)), tc.ranks.multiple(8, of=40)).rank == 40  # above every mode


# ---- error-preserving correction


def squares(f: tc.Factorization) -> float:
    """Return the sum of squared norms of the terms of all groups."""
    norms = [contracts.norms(factor, 0, 2 if name == "out" else 1) for name, factor in f.factors.items()]
    return float(np.sum(np.prod(norms, axis=0) ** 2))


def storage(f: tc.Factorization) -> float:
    """Return how far storing the factors moves the kernel, as a share of it: u of every term and factor."""
    roundings = (len(f.factors) + 1) * contracts.UNIT[f.layer.dtype.name] + contracts.n_sums(f) * contracts.U64
    magnitude = float(np.linalg.norm(contracts.stored_magnitude(f)))
    return 2 * roundings * magnitude / float(np.linalg.norm(f.layer.kernel.astype(np.float64)))


CORRECTED: list[tuple[str, dict[str, Any], int]] = [
    ("unequal 2d", {}, 6), ("unequal 2d", {"merge_spatial": True}, 6), ("grouped 2d", {}, 4), ("plain 1d", {}, 4),
    ("unequal 3d", {}, 5), ("transposed 2d", {}, 5),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("correction", [1e-3, 0.2])
@pytest.mark.parametrize(("case", "options", "rank"), CORRECTED)
def test_a_correction_makes_terms_smaller_within_its_share(
    case: str, options: dict[str, Any], rank: int, correction: float, dtype: str
) -> None:
    layer = cases.layer(case, dtype)
    plain, corrected = tc.cp(layer, rank, **options), tc.cp(layer, rank, correction=correction, **options)
    assert corrected.rank == plain.rank == rank
    assert corrected.relative_error is not None
    assert plain.relative_error is not None
    most = (1 + correction) * plain.relative_error + storage(plain) + storage(corrected)
    assert plain.relative_error < corrected.relative_error <= most
    assert squares(corrected) < squares(plain)
    contracts.check_composition(layer, corrected)
    contracts.check_error(layer, corrected)


def test_no_correction_is_the_default() -> None:
    contracts.check_same(tc.cp(KERNEL, 6), tc.cp(KERNEL, 6, correction=0))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_correction_of_a_narrow_type_is_computed_with_in_float64(dtype: str) -> None:
    narrow: Any = np.dtype(dtype).type(1e-3)
    contracts.check_same(tc.cp(KERNEL, 6, correction=narrow), tc.cp(KERNEL, 6, correction=float(narrow)))


def test_large_terms_that_cancel_lose_less_in_float16_where_they_are_corrected() -> None:
    rng = np.random.default_rng(0)
    a, b = zip(*(np.linalg.qr(rng.standard_normal((n, 2)))[0].T for n in (8, 6, 3, 3)), strict=True)
    kernel = np.zeros((8, 6, 3, 3))
    for mode in range(4):  # a limit of kernels of rank 2, which only terms without bound come close to
        kernel += np.einsum("o,i,k,l->oikl", *(b[m] if m == mode else a[m] for m in range(4)))
    lost = []
    for correction in (0.0, 0.5):
        for seed in range(5):
            wide = tc.cp(kernel, 3, rng=seed, correction=correction)
            stored = {name: factor.astype(np.float16).astype(np.float64) for name, factor in wide.factors.items()}
            there, here = contracts.MEANINGS["cp"](wide, stored), contracts.meaning(wide)
            lost.append(float(np.linalg.norm(there.reshape(here.shape) - here) / np.linalg.norm(kernel)))
            # roundings of at most u per entry, in all directions: sum_r weight_r^2 for each of the four factors
            assert lost[-1] <= 2.0**-11 * math.sqrt(4 * squares(wide)) / float(np.linalg.norm(kernel))
    assert sum(lost[5:]) < 0.8 * sum(lost[:5])


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize(("error", "correction"), [(0.6, 0.3), (0.2, 1e-3)])
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_errors_are_met_after_the_correction(
    options: dict[str, Any], error: float, correction: float, dtype: str
) -> None:
    layer = tc.ConvLayer.of(KERNEL.astype(dtype))
    f = contracts.check_meets_error(layer, "cp", {"correction": correction, **options}, error)
    contracts.check_error(layer, f)


@pytest.mark.parametrize("error", [0.1, 0.03, 0.01, 3e-3, 1e-3])
def test_fits_leave_room_for_the_correction(error: float) -> None:
    # a fit that stopped right below the error would miss it afterwards, and a rank more would be taken
    assert tc.cp(sum_of_terms(3), error=error, correction=0.9).rank == 3


def test_an_exact_kernel_stays_as_exact_as_was_asked_for() -> None:
    kernel = sum_of_terms(3)
    plain = tc.cp(kernel, 3)
    corrected = tc.cp(kernel, 3, correction=1e-3)
    assert plain.relative_error is not None
    assert corrected.relative_error is not None
    assert corrected.relative_error <= 1.001 * plain.relative_error + storage(plain) + storage(corrected)
    assert tc.cp(np.zeros((4, 3, 3)), 2, correction=0.1).relative_error == 0


@pytest.mark.parametrize("correction", [5e-324, 1e-17, 1e-12])
def test_a_correction_of_next_to_nothing_is_met(correction: float) -> None:
    for dtype in ("float32", "float64"):
        layer = tc.ConvLayer.of(KERNEL.astype(dtype))
        plain, corrected = tc.cp(layer, 6), tc.cp(layer, 6, correction=correction)
        assert corrected.relative_error == pytest.approx(plain.relative_error, abs=correction + 2 * storage(plain))


@pytest.mark.parametrize(("shape", "rank"), [((8, 6, 3, 3), 44), ((8, 6, 3, 3), 54), ((8, 6, 1, 1), 4), ((8, 1, 5), 2)])
def test_sliced_ranks_need_no_correction(shape: tuple[int, ...], rank: int) -> None:
    kernel = np.random.default_rng(2).standard_normal(shape)
    plain = tc.cp(kernel, rank)
    contracts.check_same(plain, tc.cp(kernel, rank, correction=0.5))
    # their terms are orthogonal, so that none are larger than the kernel
    assert squares(plain) <= float(np.sum(kernel**2)) * (1 + contracts.gamma(kernel.size, contracts.U64))


@pytest.mark.parametrize("wrong", [-0.1, 1, 1.0, 2, math.nan, math.inf, True, "0.1", None, 1j])
def test_corrections_that_are_no_share_are_refused(wrong: Any) -> None:
    text = f"correction must be from 0 to below 1, as a share (0.001 lets the error grow by 0.1 %), got {wrong!r}"
    with pytest.raises(RankError, match=f"^{re.escape(text)}$"):
        tc.cp(KERNEL, 3, correction=wrong)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_search_takes_the_slices_where_they_are_enough(dtype: str) -> None:
    kernel = np.zeros((12, 12, 3, 3), dtype)
    kernel[:, :, 1, 1] = np.random.default_rng(0).standard_normal((12, 12))  # one slice: its SVD is the best there is
    values = np.linalg.svd(kernel[:, :, 1, 1].astype("float64"), compute_uv=False)
    for error in (1e-5, 1e-2, 0.3):
        tails = np.sqrt(np.append(np.cumsum(values[::-1] ** 2)[::-1], 0.0)) / np.linalg.norm(values)
        assert tc.cp(kernel, error=error).rank == int(np.argmax(tails <= error))
    single = np.zeros((4, 4, 3, 3), dtype)
    single[0, 0, 0, 0] = 1
    assert tc.cp(single, error=0).rank == 1
