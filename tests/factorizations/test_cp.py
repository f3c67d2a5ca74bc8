"""Tests of cp: known ranks, its starts and searches, and which axis runs first."""

from __future__ import annotations

import math
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
    original = module._fitted

    def recorded(*arguments: Any) -> Any:
        result = original(*arguments)
        attempts[result.rank] = result.relative_error
        return result

    monkeypatch.setattr(module, "_fitted", recorded)
    f = tc.cp(KERNEL, error=error, **options)
    assert attempts[f.rank] == f.relative_error <= error  # type: ignore[index]
    failed = [rank for rank, missed in attempts.items() if missed > error]
    assert max(failed) >= f.rank - 1 - f.rank // 32  # type: ignore[operator]


@pytest.mark.parametrize("rule", [tc.ranks.energy(0.9), tc.ranks.multiple(4, of=tc.ranks.energy(0.9))])
def test_there_is_no_spectrum_for_a_rule(rule: Any) -> None:
    message = "^cp has no spectrum for a rank rule to look at; give an integer rank, error= or budget=$"
    with pytest.raises(RankError, match=message):
        tc.cp(KERNEL, rule)


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
    with pytest.raises(RankError, match="cp has no spectrum for a rank rule to look at"):
        tc.cp(np.ones((8, 6, 3, 3)), tc.ranks.energy(0.9))
