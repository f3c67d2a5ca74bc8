"""Tests of fits to responses: optima, what data do not show, edges of data and kernels, and going on from a fit."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
from dataclasses import replace
from typing import Any

import cases
import contracts
import numpy as np
import pytest
from cases import Run
from oracles import reference_convolution, reference_sequence

import tensorconv as tc
from tensorconv.arrays import Array
from tensorconv.errors import GeometryError, KernelError, KernelTypeError, RankError
from tensorconv.factorizations import Factorization, refitted, registered
from tensorconv.linalg import reduced_rank_regression
from tensorconv.moments import Moments
from tensorconv.patches import patches

RUNS = [run for run in cases.runs("uneven 1d", "grouped 2d") if registered()[run.method].takes_statistics]
every_run = pytest.mark.parametrize("run", RUNS, ids=str)
OUT = ["plain 1d", "unequal 2d", "grouped 2d", "strided pointwise 2d", "transposed grouped 2d", "grouped 3d"]


def grouped(layer: tc.ConvLayer, y: Array) -> Array:
    """Return the channels of an output as (G, O / G, P), positions in the order of patches."""
    return np.moveaxis(y, 1, 0).reshape(layer.geometry.groups, layer.out_channels // layer.geometry.groups, -1)


def centred(array: Array) -> Array:
    return np.asarray(array - array.mean(axis=-1, keepdims=True))


def objective(moments: Moments, kernel: Array) -> float:
    """Return what fits minimise, relative."""
    roots, targets = moments.problem
    lost, whole = (a @ np.swapaxes(roots, 1, 2) for a in (targets - kernel.reshape(targets.shape), targets))
    return float(np.linalg.norm(lost) / (np.linalg.norm(whole) or 1.0))


def fit(run: Run, layer: tc.ConvLayer, stats: tc.PatchStatistics | None = None) -> Factorization:
    """Return a fit at ranks about half way up, for cp lower: it is nearly exact there."""
    rank = cases.middle(layer, run.method, run.options)
    given = {} if stats is None else {"statistics": stats}
    return cases.fitted(layer, run.method, run.options, 3 if run.method == "cp" else rank, **given)


# ---- the optimum of reduced-rank regression


@pytest.mark.parametrize("case", OUT)
@pytest.mark.parametrize("with_targets", [False, True])
@pytest.mark.parametrize("shrinkage", [0.0, 0.2])
@pytest.mark.parametrize("square_root", [False, True])
def test_svd_is_the_reduced_rank_regression(case: str, with_targets: bool, shrinkage: float, square_root: bool) -> None:
    layer = cases.layer(case)
    x = contracts.correlated_inputs(layer, 12)
    target = contracts.wanted_responses(layer, x) if with_targets else None
    stats = contracts.statistics_of(layer, x, target, shrinkage=shrinkage, square_root=square_root)
    z = centred(grouped(layer, tc.convolve(x, layer) if target is None else target))
    seen = centred(patches(x, layer))
    n_positions, kernels = seen.shape[2], layer.kernel.reshape(len(seen), -1, seen.shape[1])
    energy = np.sum((tc.convolve(x, layer) if target is None else target) ** 2)
    for rank in range(1, cases.maximum(layer, "svd", {})[0] + 1):
        f = tc.svd(layer, rank, statistics=stats)
        lost, optimum = 0.0, 0.0
        for v, y, kernel, found in zip(seen, z, kernels, f.kernel.reshape(kernels.shape), strict=True):
            # the share of the kernel's own responses, as samples of their own
            own = math.sqrt(shrinkage / (1 - shrinkage) * np.sum(v**2) / len(v)) * np.eye(len(v))
            inputs, outputs = np.hstack([v, own]), np.hstack([y, kernel @ own])
            optimum += reduced_rank_regression(outputs, inputs, rank)[2] ** 2
            lost += float(np.linalg.norm(outputs - found @ inputs)) ** 2
        assert math.sqrt(lost) <= math.sqrt(optimum) * (1 + 1e-8) + 1e-8 * math.sqrt(energy)
        if shrinkage == 0:
            assert f.response_error is not None
            assert abs(f.response_error - math.sqrt(optimum / energy)) <= 1e-8
    assert n_positions > len(layer.kernel[0].ravel()) / 2


@pytest.mark.parametrize("case", OUT)
def test_without_targets_the_error_of_svd_falls_to_nothing_and_the_smallest_rank_is_found(case: str) -> None:
    layer = cases.layer(case)
    for shrinkage in (0.0, 0.3, None):
        stats = contracts.statistics_of(layer, contracts.correlated_inputs(layer), shrinkage=shrinkage)
        (most,) = cases.maximum(layer, "svd", {})
        errors = [tc.svd(layer, rank, statistics=stats).error for rank in range(1, most + 1)]
        # no rank is worse than the one below, to rounding; the last is exact
        assert all(better <= worse + 1e-14 for worse, better in itertools.pairwise(errors))
        assert errors[-1] <= 1e-13
        between = [math.sqrt(a * b) for a, b in itertools.pairwise(errors) if b > 1e-12]
        for error in {*errors, *between, 0.5}:
            expected = next((rank for rank, e in enumerate(errors, 1) if e <= error), None)
            if expected is not None:
                assert tc.svd(layer, error=error, statistics=stats).rank == expected


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_the_energy_that_a_rule_keeps_is_that_of_the_responses(share: float) -> None:
    layer = cases.layer("unequal 2d")
    x = contracts.correlated_inputs(layer)
    stats = contracts.statistics_of(layer, x, shrinkage=0.0)
    values = np.linalg.svd(centred(grouped(layer, tc.convolve(x, layer)))[0], compute_uv=False) ** 2
    expected = int(np.argmax(np.cumsum(values) / values.sum() >= share)) + 1
    assert tc.svd(layer, tc.ranks.energy(share), statistics=stats).rank == expected


# ---- how much the data count


@pytest.mark.parametrize("run", [run for run in RUNS if run.method == "svd"], ids=str)
def test_at_shrinkage_one_svd_is_that_of_the_kernel(run: Run) -> None:
    layer = cases.layer(run.case)
    stats = contracts.statistics_of(layer, contracts.correlated_inputs(layer), shrinkage=1.0)
    f, plain = fit(run, layer, stats), fit(run, layer)
    # backward stable decompositions of the same matrix, over gaps of its singular values of a tenth
    assert np.abs(f.kernel - plain.kernel).max() <= 100 * contracts.gamma(layer.kernel.size, contracts.U64)


@every_run
def test_at_shrinkage_one_a_fit_is_no_worse_for_the_kernel(run: Run) -> None:
    layer = cases.layer(run.case)
    stats = contracts.statistics_of(layer, contracts.correlated_inputs(layer), shrinkage=1.0)
    f, plain = fit(run, layer, stats), fit(run, layer)
    assert f.relative_error <= plain.relative_error * (1 + 1e-9)
    assert f.relative_error >= 0.9 * plain.relative_error


@every_run
def test_the_share_of_the_kernel_is_kept(run: Run) -> None:
    layer = cases.layer(run.case)
    stats = contracts.statistics_of(layer, contracts.correlated_inputs(layer), shrinkage=0.0)
    little, much = fit(run, layer, stats), fit(run, layer, stats.shrunk(0.5))
    assert much.relative_error < little.relative_error
    assert much.error > little.error


def low_rank_for_the_data(method: str, options: dict[str, Any]) -> tuple[tc.ConvLayer, Array, Any]:
    """Return a layer of full rank that has a low one on the channels that vary in the data, the data and the rank."""
    rng = np.random.default_rng(0)
    out, into, directions = 7, 6, np.linalg.qr(rng.standard_normal((6, 6)))[0]
    x = np.einsum("di,bdhw->bihw", directions[:3], rng.standard_normal((6, 3, 9, 9))) + rng.standard_normal((6, 1, 1))
    small = tc.ConvLayer.of(rng.standard_normal((out, 3, 3, 3)))
    rank = 2 if method in ("svd", "cp") else (3, 2)
    planted = tc.methods()[method](small, rank, **options).kernel
    kernel = np.einsum("odhw,di->oihw", planted, directions[:3])
    kernel = kernel + np.einsum("odhw,di->oihw", rng.standard_normal((out, 3, 3, 3)), directions[3:])
    assert kernel.shape == (out, into, 3, 3)
    return tc.ConvLayer.of(kernel, np.ones(out)), x, rank


@pytest.mark.parametrize(
    ("method", "options"),
    [("svd", {}), ("svd", {"split": "in"}), ("svd", {"split": (0,)}), ("tucker", {}), ("cp", {"merge_spatial": True})],
    ids=str,
)
def test_a_rank_that_is_low_for_the_data_is_found(method: str, options: dict[str, Any]) -> None:
    layer, x, rank = low_rank_for_the_data(method, options)
    f = tc.methods()[method](layer, rank, statistics=contracts.statistics_of(layer, x, shrinkage=0.0), **options)
    plain = tc.methods()[method](layer, rank, **options)
    assert plain.relative_error > 0.3
    assert f.error <= 1e-6
    contracts.check_responses(layer, f, x)


# ---- the edges of data and kernels

KINDS = ["dead channel", "constant channel", "equal channels", "few samples", "border", "zero"]
LITTLE = [(kind, 0.0) for kind in KINDS] + [(kind, None) for kind in ("dead channel", "few samples", "one image")]


def edge(layer: tc.ConvLayer, kind: str) -> Array:
    """Return inputs that vary in some ways only."""
    x = contracts.correlated_inputs(layer, {"one image": 1, "few samples": 2}.get(kind, 8))
    if kind == "few samples":
        x = x[..., :3] if x.ndim == 4 else x
    if kind == "dead channel":
        x[:, 1] = 0
    if kind == "constant channel":
        x[:, 0], x[:, -1] = 3.0, -2.0
    if kind == "equal channels":
        x[:, 1] = x[:, 0]
    return {"border": np.full_like(x, 0.7), "zero": np.zeros_like(x)}.get(kind, x)


@every_run
@pytest.mark.parametrize(("kind", "shrinkage"), LITTLE)
def test_data_that_say_little_are_fitted(run: Run, kind: str, shrinkage: float | None) -> None:
    layer = cases.layer(run.case)
    x = edge(layer, kind)
    stats = contracts.statistics_of(layer, x, shrinkage=shrinkage)
    f = fit(run, layer, stats)
    contracts.check_types(layer, f)
    contracts.check_error(layer, f)
    plain = fit(run, layer)
    assert f.response_error is not None
    assert math.isfinite(f.response_error)
    z = tc.convolve(x, layer)
    y = tc.convolve(x, f.sequence)
    assert abs(f.response_error - np.linalg.norm(z - y) / np.linalg.norm(z)) <= 1e-7
    assert objective(stats.moments(), f.kernel) <= objective(stats.moments(), plain.kernel) * (1 + 1e-9) + 1e-12
    assert f.relative_error < (1e4 if shrinkage == 0 else 1)  # where data do not hold it, whitening does up to 1e4


@pytest.mark.parametrize("run", [r for r in cases.runs("plain 1d") if registered()[r.method].takes_statistics], ids=str)
@pytest.mark.parametrize("value", [0.7, 0.0])
def test_data_that_say_nothing_leave_the_kernel_to_itself(run: Run, value: float) -> None:
    like = cases.layer(run.case)
    layer = tc.ConvLayer(like.kernel, like.geometry, np.ones(like.out_channels))
    f = fit(run, layer, contracts.statistics_of(layer, np.full((3, layer.in_channels, 9), value)))
    plain = fit(run, layer)
    assert f.response_error is not None
    assert f.response_error <= 1e-13  # the bias makes good whatever the kernel loses
    assert f.relative_error <= plain.relative_error * (1 + 1e-9) + 1e-12


@every_run
@pytest.mark.parametrize(("of_kernel", "of_data"), [(1e20, 1.0), (1e-20, 1e-50), (1.0, 1e70)])
def test_scales_do_not_matter(run: Run, of_kernel: float, of_data: float) -> None:
    like = cases.layer(run.case)
    x = contracts.correlated_inputs(like)
    z = contracts.wanted_responses(like, x)
    expected = fit(run, like, contracts.statistics_of(like, x, z, shrinkage=0.01))
    bias = None if like.bias is None else like.bias * (of_kernel * of_data)
    layer = tc.ConvLayer(like.kernel * of_kernel, like.geometry, bias)
    stats = contracts.statistics_of(layer, x * of_data, z * (of_kernel * of_data), shrinkage=0.01)
    f = fit(run, layer, stats)
    # roundings differ, and alternating least squares stop where a sweep gains 0.2 %
    assert f.error == pytest.approx(expected.error, rel=5e-3)
    assert f.relative_error == pytest.approx(expected.relative_error, rel=0.05)


@every_run
def test_a_zero_kernel_stays_zero(run: Run) -> None:
    like = cases.layer(run.case)
    layer = cases.with_kernel(like, np.zeros_like(like.kernel))
    x = contracts.correlated_inputs(layer)
    for request in ({"rank": 1}, {"error": 0.1}, {"budget": 1.5}):
        f = tc.methods()[run.method](layer, statistics=contracts.statistics_of(layer, x), **request, **run.options)
        assert not f.kernel.any()
        assert f.response_error == f.relative_error == 0
        contracts.check_bias(layer, f)
    z = contracts.wanted_responses(layer, x) + 1
    f = fit(run, layer, contracts.statistics_of(layer, x, z))  # a kernel from the data alone
    assert f.kernel.any()
    contracts.check_responses(layer, f, x, z)
    assert f.relative_error == math.inf


@pytest.mark.parametrize("n_axes", [5, 7])
def test_more_axes_than_the_alphabet_has_letters_at_its_end(n_axes: int) -> None:
    kernel = np.random.default_rng(0).standard_normal((3, 2, *(2, 1) * (n_axes // 2), 2))
    layer = tc.ConvLayer.of(kernel)
    x = np.random.default_rng(1).standard_normal((4, 2, *(3,) * n_axes)) + 2
    stats = contracts.statistics_of(layer, x, shrinkage=0.0)
    for method, options in cases.variants(layer):
        if registered()[method].takes_statistics and options.get("split") not in [(axis,) for axis in range(n_axes)]:
            f = tc.methods()[method](layer, 1, statistics=stats, **options)
            contracts.check_responses(layer, f, x)
            assert f.error <= contracts.plain_response_error(stats, tc.methods()[method](layer, 1, **options)) + 1e-12


def test_the_rounding_of_the_bias_is_in_the_error() -> None:
    layer = tc.ConvLayer.of(np.ones((2, 1, 1), "float16"))
    x = np.array([[[1.0, 2.0, 4.0]]])
    wanted = np.concatenate([x + 3001.3, x - 2999.1], axis=1)  # float16 has steps of 2 there
    f = tc.svd(layer, 1, statistics=contracts.statistics_of(layer, x, wanted))
    found = reference_sequence(x, f.sequence)
    assert f.bias is not None
    moments = contracts.statistics_of(layer, x, wanted).moments()
    kernel = f.kernel.astype(np.float64).reshape(1, 2, 1)
    assert np.abs(f.bias - moments.best_bias(kernel)).max() > 0.5
    assert f.error > 2 * moments.response_error(kernel, moments.best_bias(kernel))
    assert f.error == pytest.approx(
        np.linalg.norm(wanted - found) / np.linalg.norm(wanted), rel=1e-3
    )  # float16 factors


# ---- going on from a fit


@every_run
@pytest.mark.parametrize(("dtype", "shrinkage"), [("float64", 0.0), ("float32", 0.1)])
def test_going_on_from_a_fit_is_never_worse(run: Run, dtype: str, shrinkage: float) -> None:
    layer = cases.layer(run.case, dtype)
    x = contracts.correlated_inputs(layer)
    first = fit(run, layer, contracts.statistics_of(layer, x, shrinkage=shrinkage))
    other = contracts.correlated_inputs(layer, seed=3)
    stats = contracts.statistics_of(layer, other, contracts.wanted_responses(layer, other), shrinkage=shrinkage)
    moments = stats.moments(layer)
    for start in (first, fit(run, layer)):
        found = refitted(start, stats)
        assert (found.method, found.rank, found.scheme) == (start.method, start.rank, start.scheme)
        before, after = (objective(moments, f.kernel.astype(np.float64)) for f in (start, found))
        stored = float(np.linalg.norm(contracts.reconstruction_bound(found).ravel()))
        size = np.linalg.norm(moments.problem[0]) / np.linalg.norm(
            moments.problem[1] @ np.swapaxes(moments.problem[0], 1, 2)
        )
        assert after <= before * (1 + 1e-9) + stored * float(size)
        contracts.check_responses(layer, found, other, contracts.wanted_responses(layer, other))
        again = refitted(found, stats)
        assert objective(moments, again.kernel.astype(np.float64)) <= after * (1 + 1e-9) + stored * float(size)


@every_run
def test_going_on_where_nothing_is_left_to_gain_changes_nothing(run: Run) -> None:
    layer = cases.layer(run.case)
    most = cases.maximum(layer, run.method, run.options)
    exact = cases.fitted(layer, run.method, run.options, most[0] if len(most) == 1 else most)
    stats = contracts.statistics_of(layer, contracts.correlated_inputs(layer), shrinkage=0.0)
    found = refitted(exact, stats)
    assert found.error <= 1e-12
    assert np.abs(found.kernel - exact.kernel).max() <= 1e-12 * np.abs(exact.kernel).max()


@pytest.mark.parametrize(
    ("method", "options"),
    [(run.method, run.options) for run in cases.runs("unequal 2d") if registered()[run.method].takes_statistics],
    ids=str,
)
def test_each_round_goes_on_from_the_one_before(method: str, options: dict[str, Any]) -> None:
    layer = cases.layer("unequal 2d")
    stats = contracts.statistics_of(layer, contracts.correlated_inputs(layer), shrinkage=0.01)
    f = tc.methods()[method](layer, (3, 2) if method == "tucker" else 2, statistics=stats, **options)
    errors = [objective(stats.moments(), f.kernel)]
    for _ in range(4):
        f = refitted(f, stats)
        errors.append(objective(stats.moments(), f.kernel))
    if options == {"split": "out"}:
        np.testing.assert_allclose(errors, errors[0], rtol=1e-12)
    else:
        assert all(better < worse for worse, better in itertools.pairwise(errors))


def test_factors_may_come_in_any_order() -> None:
    layer = cases.layer("unequal 2d")
    f = tc.cp(layer, 5)
    stats = contracts.statistics_of(layer, contracts.correlated_inputs(layer), shrinkage=0.0)
    turned = replace(f, factors=dict(reversed(list(f.factors.items()))))
    contracts.check_same(replace(refitted(turned, stats), factors=refitted(f, stats).factors), refitted(f, stats))


@every_run
def test_a_fitter_gives_the_same_factors_again(run: Run) -> None:
    layer = cases.layer(run.case)
    scheme = registered()[run.method].scheme(layer, **run.options)
    stats = contracts.statistics_of(layer, contracts.correlated_inputs(layer))
    fitter, rank = scheme.response_fitter(stats.moments()), fit(run, layer).ranks
    first, second = (fitter.factors(rank) for _ in range(2))
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


# ---- what is refused


def test_statistics_that_do_not_fit_are_refused() -> None:
    layer = cases.layer("unequal 2d")
    x = contracts.correlated_inputs(layer)
    stats = contracts.statistics_of(layer, x)
    for name, method in registered().items():
        if not method.takes_statistics:
            continue
        with pytest.raises(
            KernelTypeError, match=r"^statistics must be a tensorconv.PatchStatistics, got ndarray; make"
        ):
            tc.methods()[name](layer, 2, statistics=x)
        with pytest.raises(KernelError, match="the statistics have seen no data; call update"):
            tc.methods()[name](layer, 2, statistics=tc.PatchStatistics(layer))
        with pytest.raises(KernelError, match=r"kernel of shape \(7, 5, 3, 2\) as here, got \(6, 5, 3, 2\)"):
            tc.methods()[name](tc.ConvLayer(layer.kernel[:6], layer.geometry), 2, statistics=stats)
        with pytest.raises(GeometryError, match="layer must be applied with stride"):
            tc.methods()[name](layer.kernel, 2, statistics=stats)
    with pytest.raises(RankError, match="method 'tensor_train' takes no statistics; take svd, depthwise_separable"):
        registered()["tensor_train"].scheme(layer).response_fitter(stats.moments())
    with pytest.raises(RankError, match="method 'tensor_train' takes no statistics; take svd, depthwise_separable"):
        refitted(tc.tensor_train(layer, 2), stats)


def test_statistics_of_another_kernel_are_those_of_the_inputs() -> None:
    layer = cases.layer("unequal 2d")
    x = contracts.correlated_inputs(layer)
    other = cases.with_kernel(layer, layer.kernel[::-1])
    found = tc.svd(layer, 3, statistics=contracts.statistics_of(other, x))
    contracts.check_same(found, tc.svd(layer, 3, statistics=contracts.statistics_of(layer, x)))


def test_a_bias_that_the_type_cannot_hold_is_refused() -> None:
    layer = tc.ConvLayer.of(np.random.default_rng(0).standard_normal((4, 3, 3)).astype("float16"))
    x = np.random.default_rng(1).standard_normal((4, 3, 9)) + 1e6
    with pytest.raises(KernelError, match=r"^the corrected bias overflows float16; convert the kernel to a wider type"):
        tc.svd(layer, 1, statistics=contracts.statistics_of(layer, x))


# ---- results


def test_results_survive_copies_and_processes() -> None:
    layer = cases.layer("grouped 2d", "float32")
    x = contracts.correlated_inputs(layer)
    f = tc.svd(layer, 2, statistics=contracts.statistics_of(layer, x, contracts.wanted_responses(layer, x)))
    for again in (pickle.loads(pickle.dumps(f)), copy.copy(f), copy.deepcopy(f)):  # noqa: S301 - our own bytes
        contracts.check_same(again, f)
        assert again.bias is not None
        assert not again.bias.flags.writeable
        assert again.sequence.layers[-1].bias.tobytes() == f.bias.tobytes()  # type: ignore[union-attr]
        contracts.check_responses(layer, again, x, contracts.wanted_responses(layer, x))


def test_a_factorization_prints_both_errors() -> None:
    layer = cases.layer("plain 1d")
    f = tc.svd(layer, 2, statistics=contracts.statistics_of(layer, contracts.correlated_inputs(layer)))
    both = f"relative error {f.relative_error:.3g}, response error {f.response_error:.3g}"
    assert repr(f) == f"<Factorization by svd, rank 2, {both}>"
    assert both in str(f)
    assert f.n_parameters == sum(step.kernel.size for step in f.sequence) + 6  # the layer had no bias, this one has


def test_the_mean_response_is_right_where_the_kernel_is_far_off() -> None:
    layer = cases.layer("plain 1d")
    x = contracts.correlated_inputs(layer) + 1e6
    f = tc.svd(layer, 1, statistics=contracts.statistics_of(layer, x))
    means = [reference_convolution(x, layer.kernel, layer.geometry).mean(axis=(0, 2)), 0.0]
    means[1] = tc.convolve(x, f.sequence).mean(axis=(0, 2))
    np.testing.assert_allclose(means[1], means[0], rtol=1e-12)
    assert f.error < 1e-5 < tc.verify(layer, f).kernel_error  # type: ignore[operator]
