"""Tests of decoupled: the exact one-hot form, the SVD, and aggregations of few entries and of few magnitudes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cases
import contracts
import numpy as np
import pytest
from test_real_kernels import trained_layers

import tensorconv as tc
from tensorconv.cost import Stored, chain_cost
from tensorconv.errors import RankError
from tensorconv.factorizations import registered

KERNEL = np.random.default_rng(0).standard_normal((7, 5, 3, 2))
DTYPES = ("float16", "bfloat16", "float32", "float64")
every_case = pytest.mark.parametrize("case", cases.GEOMETRIES)


def one_hot(layer: tc.ConvLayer, **request: Any) -> Any:
    return tc.decoupled(layer, configuration="one-hot", **request)


# ---- one-hot


@every_case
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_hot_is_the_layer_itself(case: str, dtype: str) -> None:
    layer = cases.layer(case, dtype)
    f = one_hot(layer)
    assert f.relative_error == 0.0
    assert f.kernel.tobytes() == layer.kernel.tobytes()
    assert f.rank == layer.kernel.shape[0] // layer.geometry.groups * math.prod(layer.kernel_size)
    contracts.check_composition(layer, f)
    contracts.check_execution(layer, f, cases.input_size(layer))
    contracts.check_exact(layer, f)
    contracts.check_error(layer, f)
    contracts.check_types(layer, f)
    assert tc.compose(f.sequence).kernel.tobytes() == layer.kernel.tobytes()


@every_case
def test_one_hot_stores_the_dense_kernel_and_then_only_adds(case: str) -> None:
    layer = cases.layer(case)
    extraction, aggregation = one_hot(layer).sequence.layers
    size, n_taps = cases.input_size(layer), math.prod(layer.kernel_size)
    assert (extraction.entries, aggregation.entries) == ("dense", "fixed")
    assert extraction.kernel.size == layer.kernel.size
    assert aggregation.stored == Stored(0, 0, layer.out_channels * n_taps)
    f = one_hot(layer)
    assert f.n_parameters == layer.n_parameters
    assert f.sequence.macs(size) == layer.kernel.size * math.prod(size)
    positions = math.prod(size if layer.geometry.transposed else layer.output_size(size))
    assert f.sequence.additions(size) == layer.out_channels * n_taps * positions


def test_one_hot_has_a_channel_for_every_out_channel_and_tap_in_this_order() -> None:
    f = one_hot(tc.ConvLayer.of(KERNEL))
    extraction, aggregation = f.sequence.layers
    for out in range(7):
        for row in range(3):
            for column in range(2):
                channel = (out * 3 + row) * 2 + column
                assert extraction.kernel[channel, :, 0, 0].tolist() == KERNEL[out, :, row, column].tolist()
                assert aggregation.kernel[out, row * 2 + column, row, column] == 1
    assert np.count_nonzero(aggregation.kernel) == 42
    assert list(f.factors) == ["pointwise"]


def test_the_whole_geometry_is_the_aggregations() -> None:
    options: dict[str, Any] = {"stride": (2, 3), "padding": ((1, 0), (2, 1)), "dilation": (2, 1), "groups": 2}
    layer = tc.ConvLayer.of(np.concatenate([KERNEL, KERNEL])[:, :4], np.ones(14), **options)
    for configuration, groups in (("dense", 2), ("sparse", 2), ("binary", 2), ("one-hot", 14)):
        f = tc.decoupled(layer, 42 if groups == 14 else 3, configuration=configuration)
        extraction, aggregation = f.sequence.layers
        assert extraction.geometry == tc.ConvGeometry.of(2, groups=2)
        assert aggregation.geometry == tc.ConvGeometry.of(2, **(options | {"groups": groups}))


def test_requests_of_the_one_hot_form() -> None:
    layer = tc.ConvLayer.of(KERNEL, stride=2)
    assert one_hot(layer).rank == one_hot(layer, rank=42).rank == one_hot(layer, error=0).rank == 42
    assert one_hot(layer, budget=1, of="parameters").rank == one_hot(layer, budget=4).rank == 42
    with pytest.raises(RankError, match=r"^rank must be 42 = O\*K with configuration='one-hot', got 41$"):
        one_hot(layer, rank=41)
    message = (
        "budget=3.9 of macs cannot be met by configuration='one-hot', which costs 4 of the dense layer; ask for at "
        "least that, or try another configuration"
    )
    with pytest.raises(RankError, match=f"^{re.escape(message)}$"):
        one_hot(layer, budget=3.9)
    with pytest.raises(RankError, match="exactly one of rank, error and budget must be given, got rank, error"):
        one_hot(layer, rank=42, error=0.1)


# ---- dense


@every_case
def test_dense_is_the_svd_of_the_same_split(case: str) -> None:
    layer = cases.layer(case)
    (most,) = cases.maximum(layer, "decoupled", {})
    assert (most,) == cases.maximum(layer, "svd", {"split": "in"})
    for rank in {1, max(1, most // 2), most}:
        f, svd = tc.decoupled(layer, rank), tc.svd(layer, rank, split="in")
        # the same SVD of the same matrices; rounding moves its singular vectors by n u over gaps of about a tenth
        slack = 100 * contracts.gamma(layer.kernel.size, contracts.U64)
        assert np.abs(f.kernel - svd.kernel).max() <= slack * np.abs(layer.kernel).max()
        assert f.relative_error == pytest.approx(svd.relative_error, abs=slack)
    for request in ({"error": 0.5}, {"budget": 0.7}, {"rank": tc.ranks.energy(0.8)}):
        try:
            expected = tc.svd(layer, split="in", **request).rank
        except RankError:
            continue
        assert tc.decoupled(layer, **request).rank == expected


# ---- sparse and binary


def thresholded_error(layer: tc.ConvLayer, rank: int, taps: int) -> float:
    """Return the relative error of the truncated SVD whose out-channels keep their largest coefficients."""
    lost = 0.0
    for one in contracts.separate_groups(layer):
        rows = one.kernel.astype(np.float64).reshape(*one.kernel.shape[:2], -1).swapaxes(1, 2)
        vh = np.linalg.svd(rows.reshape(-1, rows.shape[2]), full_matrices=False)[2][:rank]
        for block in rows:
            coefficients = block @ vh.T
            smallest = np.argsort(np.abs(coefficients), axis=None)[: max(0, coefficients.size - taps)]
            coefficients.flat[smallest] = 0
            lost += float(np.sum((block - coefficients @ vh) ** 2))
    return math.sqrt(lost) / float(np.linalg.norm(layer.kernel.astype(np.float64)))


@every_case
@pytest.mark.parametrize("taps", [1, 3, 0.25, None])
def test_sparse_is_never_above_the_thresholded_svd(case: str, taps: Any) -> None:
    layer = cases.layer(case)
    options = {"configuration": "sparse", "taps": taps}
    rank = cases.middle(layer, "decoupled", options)
    scheme = registered()["decoupled"].scheme(layer, **options)
    f = tc.decoupled(layer, rank, **options)
    start = thresholded_error(layer, rank, scheme.n_nonzero(rank))
    assert f.relative_error <= start + contracts.gamma(layer.kernel.size + contracts.n_sums(f), contracts.U64)


@every_case
@pytest.mark.parametrize("configuration", ["sparse", "binary"])
@pytest.mark.parametrize(("taps", "expected"), [(1, 1), (4, 4), (0.5, None), (1.0, None), (10**6, None)])
def test_out_channels_have_so_many_taps(case: str, configuration: str, taps: Any, expected: int | None) -> None:
    layer = cases.layer(case)
    options = {"configuration": configuration, "taps": taps}
    rank = cases.middle(layer, "decoupled", options)
    f = tc.decoupled(layer, rank, **options)
    size = rank * math.prod(layer.kernel_size)
    allowed = min(size, expected or (math.ceil(taps * size) if taps <= 1 else taps))
    rows = f.sequence.layers[1].kernel.reshape(layer.out_channels, -1)
    counts = np.count_nonzero(rows, axis=1)
    assert counts.max() <= allowed
    (_, _), (_, _, stored) = f.scheme.chain(f.ranks)
    if configuration == "sparse":
        assert counts.min() == allowed  # of normally distributed kernels
        assert f.sequence.layers[1].stored == stored == Stored(*[layer.out_channels * allowed] * 2)
        return
    assert stored == Stored(layer.out_channels, layer.out_channels, layer.out_channels * allowed)
    assert f.sequence.layers[1].stored == stored._replace(additions=int(counts.sum()))
    assert all(np.unique(np.abs(row[row != 0])).size <= 1 for row in rows)


@pytest.mark.parametrize("configuration", ["sparse", "binary"])
def test_costs_are_counted_as_they_are_stored(configuration: str) -> None:
    layer = tc.ConvLayer.of(KERNEL, stride=2, padding=1)
    f = tc.decoupled(layer, 4, configuration=configuration, taps=6)
    stored = 7 * 6 if configuration == "sparse" else 7
    assert f.n_parameters == 4 * 5 + stored
    assert f.sequence.macs((8, 8)) == 4 * 5 * 64 + stored * 4 * 5  # 8 + 2 - 3 + 1 = 8 and 9 positions, every second
    assert f.sequence.additions((8, 8)) == (0 if configuration == "sparse" else 7 * 6 * 4 * 5)
    share = float(chain_cost(f.scheme.chain(f.ranks), "parameters") / layer.kernel.size)
    assert (
        tc.decoupled(layer, budget=share * (1 + 1e-9), of="parameters", configuration=configuration, taps=6).rank == 4
    )


@pytest.mark.parametrize("shape", [(6, 5, 3, 2), (6, 5, 1), (2, 9, 2), (1, 4, 3), (3, 1, 4)])
@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({"configuration": "sparse"}, lambda o, i, k: min(3 * min(i, o * k), o * k)),
        ({"configuration": "sparse", "taps": 0.5}, lambda o, i, k: min(2 * min(i, o * k), o * k)),
        ({"configuration": "sparse", "taps": 10**6}, lambda o, i, k: min(i, o * k)),
        ({"configuration": "sparse", "taps": 6}, lambda o, i, k: min(i, o * k) if min(i, o * k) * k <= 6 else o * k),
        ({"configuration": "binary"}, lambda o, _, k: o * k),
        ({"configuration": "binary", "taps": 6}, lambda o, _, k: o * k),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "most",
)
def test_the_largest_rank_is_exact(shape: tuple[int, ...], options: dict[str, Any], most: Callable[..., int]) -> None:
    layer = tc.ConvLayer.of(np.random.default_rng(1).standard_normal(shape))
    (found,) = cases.maximum(layer, "decoupled", options)
    assert found == most(*shape[:2], math.prod(shape[2:]))
    contracts.check_exact(layer, tc.decoupled(layer, found, **options))


@pytest.mark.parametrize(
    ("options", "most", "rule"),
    [
        ({}, 5, "min(I, O*K)"),
        ({"configuration": "sparse"}, 15, "min(3*I, O*K)"),
        ({"configuration": "sparse", "taps": 0.25}, 20, "min(I/0.25, O*K)"),
        ({"configuration": "sparse", "taps": 30}, 5, "min(I, O*K)"),
        ({"configuration": "sparse", "taps": 29}, 42, "O*K"),
        ({"configuration": "binary", "taps": 30}, 42, "O*K"),
    ],
    ids=str,
)
def test_the_largest_rank_is_named_in_letters(options: dict[str, Any], most: int, rule: str) -> None:
    for rank in (0, most + 1):
        with pytest.raises(RankError) as caught:
            tc.decoupled(KERNEL, rank, **options)
        assert str(caught.value) == f"rank must be between 1 and {most} = {rule} for this kernel, got {rank}"


@pytest.mark.parametrize("configuration", ["sparse", "binary"])
@pytest.mark.parametrize("error", [0.7, 0.4, 0.1, 0.01])
def test_errors_are_met_with_fewer_channels_than_all(configuration: str, error: float) -> None:
    kernel = KERNEL * np.logspace(0, -1.5, 5)[:, None, None]
    f = contracts.check_meets_error(tc.ConvLayer.of(kernel), "decoupled", {"configuration": configuration}, error)
    assert f.rank < f.scheme.maximum[0]
    assert f.rank >= tc.decoupled(kernel, error=error).rank  # by Eckart and Young


# ---- trained kernels


@pytest.mark.parametrize("name", ["opennsfw_s0_32x32_3x3", "mtcnn_rnet_conv2_48x28_3x3", "silero_enc0_128x129_k3_1d"])
@pytest.mark.parametrize("budget", [0.25, 0.5])
def test_sparse_is_more_exact_than_the_svd_of_the_same_macs(name: str, budget: float, trained_kernels: Path) -> None:
    layer = next(layer for layer in trained_layers(trained_kernels) if layer.name == name)
    dense, sparse = (tc.decoupled(layer, budget=budget, configuration=c) for c in ("dense", "sparse"))
    assert sparse.relative_error < 0.75 * dense.relative_error
    scheme = sparse.scheme
    start = thresholded_error(layer, sparse.ranks[0], scheme.n_nonzero(sparse.ranks[0]))  # type: ignore[attr-defined]
    assert sparse.relative_error < 0.92 * start


# ---- refusals, "best", untrained layers


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"configuration": "ternary"},
            "configuration must be one of ('dense', 'sparse', 'binary', 'one-hot'), got 'ternary'",
        ),
        ({"taps": 3}, 'taps are for the configurations "sparse" and "binary", got 3 with \'dense\''),
        (
            {"configuration": "one-hot", "taps": 0.5},
            'taps are for the configurations "sparse" and "binary", got 0.5 with \'one-hot\'',
        ),
        *(
            (
                {"configuration": "sparse", "taps": taps},
                "taps must be an integer of at least 1, entries that are not zero per out-channel, or their share as a "
                f"float above 0 and at most 1.0, got {taps!r}",
            )
            for taps in (0, -1, 0.0, 1.5, math.nan, True, "3")
        ),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RankError, match=f"^{re.escape(message)}$"):
        tc.decoupled(KERNEL, 2, **options)


def test_best_does_not_compare_what_dense_frameworks_do_not_save() -> None:
    f = tc.factorize(KERNEL, budget=0.9)
    assert "decoupled" not in {trial.method for trial in f.tried}
    named = tc.factorize(KERNEL, "decoupled", budget=0.9, configuration="sparse")
    contracts.check_same(named, tc.decoupled(KERNEL, budget=0.9, configuration="sparse"))


def test_it_is_written_and_read_with_its_entries(tmp_path: Path) -> None:
    for configuration, kind in (("sparse", "sparse"), ("binary", "binary"), ("one-hot", "fixed")):
        f = tc.decoupled(KERNEL, 42 if kind == "fixed" else 3, configuration=configuration)
        tc.save(tmp_path / "f.npz", f)
        again = tc.load(tmp_path / "f.npz")
        assert [layer.entries for layer in again] == ["dense", kind]
        assert again.n_parameters == f.n_parameters


@pytest.mark.parametrize("transposed", [False, True])
def test_an_untrained_one_hot_layer_keeps_the_variance(transposed: bool) -> None:
    geometry = tc.ConvGeometry.of(2, stride=2, groups=2, transposed=transposed)
    f = tc.initialize((64, 16, 3, 3), geometry, "decoupled", 32 * 9, configuration="one-hot", dtype="float64")
    fan_in = 16 * 9 / (4 if transposed else 1)
    entries = f.factors["pointwise"]
    # the mean square of N normal numbers is within 5 standard deviations, of sqrt(2 / N) each
    assert np.mean(entries**2) * fan_in == pytest.approx(1, abs=5 * math.sqrt(2 / entries.size))
    assert f.relative_error == 0.0


@pytest.mark.parametrize("configuration", ["sparse", "binary"])
def test_an_untrained_aggregation_draws_its_support(configuration: str) -> None:
    geometry = tc.ConvGeometry.of(2)
    f = tc.initialize((200, 16, 3, 3), geometry, "decoupled", 10, configuration=configuration, taps=18)
    rows = f.factors["aggregation"].reshape(200, 90) != 0
    assert (rows.sum(axis=1) == 18).all()
    # every place is taken in a fifth of 200 draws: 40 within 5.5 standard deviations of sqrt(200 / 5 * 4 / 5)
    assert np.abs(rows.sum(axis=0) - 40).max() < 5.5 * math.sqrt(32)
    # where every output position sums over one entry on average, entries are signs, on their support only
    upsampling = tc.ConvGeometry.of(2, stride=3, transposed=True)
    f = tc.initialize((200, 16, 3, 3), upsampling, "decoupled", 1, configuration=configuration, taps=1, dtype="float64")
    assert (np.count_nonzero(f.factors["aggregation"], axis=(1, 2, 3, 4))).tolist() == [200]
    assert np.abs(f.factors["aggregation"]).max() == pytest.approx(3, rel=4 * contracts.U64)


def test_options_are_text_that_reports_can_hold() -> None:
    json.dumps([options for name, options in cases.variants(tc.ConvLayer.of(KERNEL)) if name == "decoupled"])
