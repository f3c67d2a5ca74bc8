"""The laws that every registered method keeps, in every variant, on every kind of geometry, kernel and data type."""

from __future__ import annotations

import functools
import itertools
import re
from typing import Any

import cases
import contracts
import numpy as np
import pytest
from cases import Run
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorconv as tc
from tensorconv.errors import KernelError, KernelTypeError, RankError
from tensorconv.factorizations import registered

RUNS = [(run, "float64") for run in cases.runs()]
RUNS += [(run, dtype) for run in cases.runs(*cases.FEW) for dtype in ("float16", "bfloat16", "float32")]
FEW = cases.runs(*cases.FEW)
SMALLEST = ("svd", "depthwise_separable")  # the methods whose error falls with the rank, by theory
GROUPED = [case for case, (_, options) in cases.GEOMETRIES.items() if options.get("groups", 1) > 1]

every_run = pytest.mark.parametrize(("run", "dtype"), RUNS, ids=lambda value: str(value))
few_runs = pytest.mark.parametrize("run", FEW, ids=str)


# ---- laws 1, 2, 5 and 7 at half and at full rank


@every_run
@pytest.mark.parametrize("full", [False, True])
def test_the_sequence_is_the_kernel_under_the_layers_geometry(run: Run, dtype: str, full: bool) -> None:
    layer, f = cases.layer(run.case, dtype), cases.factorized(run, dtype, full=full)
    contracts.check_composition(layer, f)
    contracts.check_execution(layer, f, cases.input_size(layer))


@every_run
@pytest.mark.parametrize("full", [False, True])
def test_the_error_is_true(run: Run, dtype: str, full: bool) -> None:
    contracts.check_error(cases.layer(run.case, dtype), cases.factorized(run, dtype, full=full))


@every_run
def test_data_types_are_kept_and_results_are_read_only(run: Run, dtype: str) -> None:
    contracts.check_types(cases.layer(run.case, dtype), cases.factorized(run, dtype))


@every_run
def test_consecutive_factors_are_balanced(run: Run, dtype: str) -> None:
    contracts.check_balanced(cases.factorized(run, dtype))


# ---- law 3


@every_run
def test_full_rank_is_exact_and_half_rank_is_not(run: Run, dtype: str) -> None:
    layer = cases.layer(run.case, dtype)
    contracts.check_exact(layer, cases.factorized(run, dtype, full=True))
    half = cases.factorized(run, dtype)
    contracts.check_verified(layer, half, exact=False if half.relative_error > 0.05 else None)


@pytest.mark.parametrize("run", [run for run in cases.runs() if run.method in SMALLEST], ids=str)
def test_the_error_falls_with_the_rank_and_the_smallest_rank_is_found(run: Run) -> None:
    contracts.check_smallest_rank(cases.layer(run.case), run.method, run.options)


@pytest.mark.parametrize("run", [run for run in FEW if run.method in SMALLEST], ids=str)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_the_smallest_rank_is_found_in_narrow_types(run: Run, dtype: str) -> None:
    contracts.check_smallest_rank(cases.layer(run.case, dtype), run.method, run.options)


@pytest.mark.parametrize("run", [run for run in FEW if run.method not in SMALLEST], ids=str)
@pytest.mark.parametrize("error", [0.8, 0.3, 0.05])
def test_an_error_is_met(run: Run, error: float) -> None:
    contracts.check_meets_error(cases.layer(run.case, "float32"), run.method, run.options, error)


@few_runs
def test_an_error_that_cannot_be_met_names_the_best(run: Run) -> None:
    layer = cases.layer(run.case, "float32")
    best = cases.factorized(run, "float32", full=True)
    most = cases.maximum(layer, run.method, run.options)
    shown = str(most[0]) if len(most) == 1 else str(most)
    message = f"error=1e-12 cannot be met: the best attained is {best.relative_error:.3g}, at rank {shown}; ask for a"
    with pytest.raises(RankError) as caught:
        cases.fitted(layer, run.method, run.options, None, error=1e-12)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("run", cases.runs(), ids=str)
def test_a_budget_is_met(run: Run) -> None:
    found = contracts.check_budget(cases.layer(run.case), run.method, run.options, 0.7)
    assert found is None or found.relative_error < 1


@few_runs
@pytest.mark.parametrize("of", ["macs", "parameters", "bytes"])
def test_a_budget_is_met_in_every_measure_and_at_every_size(run: Run, of: str) -> None:
    layer = cases.layer(run.case, "float32")
    size = tuple(n + 3 for n in cases.input_size(layer))
    for budget, input_size in itertools.product((0.5, 1.1), (None, size)):
        contracts.check_budget(layer, run.method, run.options, budget, of=of, input_size=input_size)


@few_runs
def test_a_budget_that_cannot_be_met_names_the_least_cost(run: Run) -> None:
    layer = cases.layer(run.case)
    least = cases.fitted(layer, run.method, run.options, 1).sequence
    share = contracts.cost(least, "parameters", None) / contracts.cost(tc.ConvSequence((layer,)), "parameters", None)
    with pytest.raises(RankError) as caught:
        cases.fitted(layer, run.method, run.options, None, budget=1e-6, of="parameters")
    assert str(caught.value) == (
        f"budget=1e-06 of parameters cannot be met by {run.method}: rank 1 already costs {float(share):.3g} of the "
        "dense layer; ask for at least that, or try another method"
    )


# ---- law 4


@pytest.mark.parametrize("run", [run for run in cases.runs(*GROUPED) if run.method != "cp"], ids=str)
def test_groups_are_separate_factorizations(run: Run) -> None:
    layer = cases.layer(run.case, "float32")
    contracts.check_groups(layer, run.method, run.options, cases.middle(layer, run.method, run.options))


@pytest.mark.parametrize("run", [run for run in cases.runs(*GROUPED) if run.method == "cp"], ids=str)
def test_groups_of_cp_are_separate_where_they_start_alike(run: Run) -> None:
    # at full rank nothing is random; below, every group has a start of its own, the first that of a layer of one group
    layer = cases.layer(run.case, "float32")
    (most,) = cases.maximum(layer, "cp", run.options)
    contracts.check_groups(layer, "cp", run.options, most)
    whole = cases.factorized(run, "float32")
    first = contracts.separate_groups(layer)[0]
    alone = cases.fitted(first, "cp", run.options, whole.rank)
    for name, factor in whole.factors.items():
        assert factor[0].tobytes() == alone.factors[name][0].tobytes()


@pytest.mark.parametrize("run", cases.runs(), ids=str)
def test_the_sequence_has_the_adjoint_of_its_one_convolution(run: Run) -> None:
    layer = cases.layer(run.case)
    contracts.check_adjoint(layer, cases.factorized(run), cases.input_size(layer))


# ---- law 5: at the door

BAD_KERNELS: dict[str, tuple[Any, type[Exception], str]] = {
    "integers": (np.ones((4, 3, 3), int), KernelTypeError, "kernel must be of a real floating-point type"),
    "complex": (np.ones((4, 3, 3)) * 1j, KernelTypeError, "float64, got complex128; convert it first"),
    "text": ("kernel", KernelTypeError, "kernel must be of a real floating-point type"),
    "NaN": (np.full((4, 3, 3), np.nan), KernelError, "kernel must hold finite numbers only, got NaN or inf"),
    "inf": (np.full((4, 3, 3), np.inf, "float16"), KernelError, "kernel must hold finite numbers only"),
    "empty": (np.ones((4, 0, 3)), KernelError, r"kernel must not be empty, got shape \(4, 0, 3\)"),
    "no spatial axis": (np.ones((4, 3)), KernelError, "a matrix becomes a pointwise kernel by"),
}


@pytest.mark.parametrize("method", [*tc.methods(), "best"])
@pytest.mark.parametrize("bad", BAD_KERNELS)
def test_a_bad_kernel_is_refused_at_the_door(method: str, bad: str) -> None:
    kernel, error, message = BAD_KERNELS[bad]
    with pytest.raises(error, match=message):
        tc.factorize(kernel, method, error=0.5)


# ---- law 6


@few_runs
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_input_gives_bitwise_the_same(run: Run, dtype: str) -> None:
    layer = cases.layer(run.case, dtype)
    rank = cases.middle(layer, run.method, run.options)
    contracts.check_repeatable(lambda: cases.fitted(layer, run.method, run.options, rank))
    contracts.check_repeatable(lambda: cases.fitted(layer, run.method, run.options, None, error=0.6))


@pytest.mark.parametrize("method", tc.methods())
def test_the_number_of_blas_threads_does_not_matter(method: str) -> None:
    contracts.check_threads(method)


def test_a_generator_is_as_good_as_its_seed() -> None:
    layer = cases.layer("grouped 2d")
    expected = tc.cp(layer, 4, rng=7)
    contracts.check_same(tc.cp(layer, 4, rng=np.random.default_rng(7)), expected)
    generator = np.random.default_rng(7)
    first, second = tc.cp(layer, 4, rng=generator), tc.cp(layer, 4, rng=generator)
    contracts.check_same(first, expected)
    assert first.factors["in"].tobytes() != second.factors["in"].tobytes()  # it was drawn from
    contracts.check_repeatable(lambda: tc.factorize(layer, error=0.6, rng=np.random.default_rng(1)))


# ---- kernels at the edges


@few_runs
def test_a_zero_kernel_stays_zero(run: Run) -> None:
    like = cases.layer(run.case, "float32")
    layer = cases.with_kernel(like, np.zeros_like(like.kernel))
    requests: list[dict[str, Any]] = [{"rank": cases.middle(layer, run.method, run.options)}, {"error": 0.0}]
    for request in [*requests, {"budget": 1.5}, {"rank": cases.maximum(layer, run.method, run.options)}]:
        f = tc.methods()[run.method](layer, **request, **run.options)
        assert f.relative_error == 0.0
        assert not f.kernel.any()
        contracts.check_composition(layer, f)
        contracts.check_execution(layer, f, cases.input_size(layer))
        contracts.check_exact(layer, f)


@few_runs
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rank_one_is_enough_for_an_outer_product(run: Run, dtype: str) -> None:
    layer = cases.rank_one(cases.layer(run.case, dtype))
    f = cases.fitted(layer, run.method, run.options, 1)
    if run.options.get("configuration") in ("sparse", "binary"):  # one channel with few taps, or of one magnitude
        assert f.relative_error < 1
    elif run.method == "cp":  # least squares, whose products of a float32 kernel are float32
        assert f.relative_error <= 4 * contracts.gamma(layer.kernel.size, contracts.UNIT[dtype])
    else:
        contracts.check_exact(layer, f)


@few_runs
def test_channels_of_zeros_and_copies_do_no_harm(run: Run) -> None:
    like = cases.layer(run.case)
    kernel = like.kernel.copy()
    kernel[0] = 0
    kernel[-1] = kernel[1]
    layer = cases.with_kernel(like, kernel)
    for rank in (1, cases.middle(layer, run.method, run.options), cases.maximum(layer, run.method, run.options)):
        f = cases.fitted(layer, run.method, run.options, rank)
        contracts.check_composition(layer, f)
        contracts.check_error(layer, f)
        contracts.check_balanced(f)
    contracts.check_exact(layer, f)


SCALES = {"float16": (2.0**12, 2.0**-10), "float32": (2.0**100, 2.0**-100), "float64": (2.0**330, 2.0**-330)}


@few_runs
@pytest.mark.parametrize(("dtype", "scale"), [(dtype, scale) for dtype, pair in SCALES.items() for scale in pair])
def test_huge_and_tiny_kernels_are_treated_like_others(run: Run, dtype: str, scale: float) -> None:
    like = cases.layer(run.case, dtype)
    layer = cases.with_kernel(like, (like.kernel.astype(np.float64) * scale).astype(like.dtype))
    most = cases.maximum(layer, run.method, run.options)
    contracts.check_exact(layer, cases.fitted(layer, run.method, run.options, most))
    f = cases.fitted(layer, run.method, run.options, cases.middle(layer, run.method, run.options))
    contracts.check_composition(layer, f)
    contracts.check_error(layer, f)
    contracts.check_balanced(f)
    # the decomposition is the same but for the scale; what is stored may be rounded otherwise, in both
    stored = 2 * contracts.gamma(len(f.factors) + 2, contracts.UNIT[dtype]) * contracts.stored_magnitude(f)
    norm = float(np.linalg.norm(layer.kernel.astype(np.float64).ravel()))
    assert (
        abs(f.relative_error - cases.factorized(run, dtype).relative_error)
        <= float(np.linalg.norm(stored.ravel())) / norm
    )


@few_runs
def test_the_memory_order_of_the_kernel_does_not_matter(run: Run) -> None:
    layer = cases.layer(run.case)
    other = cases.with_kernel(layer, np.asfortranarray(layer.kernel))
    rank = cases.middle(layer, run.method, run.options)
    contracts.check_same(cases.factorized(run), cases.fitted(other, run.method, run.options, rank))


# ---- fits to the responses to data


@functools.cache
def responding(run: Run, dtype: str, *, targets: bool, full: bool = False) -> tuple[Any, Any, Any]:
    """Return data, targets or None, and the factorization fitted to them, at half or full rank."""
    layer = cases.layer(run.case, dtype)
    x = contracts.correlated_inputs(layer)
    z = contracts.wanted_responses(layer, x) if targets else None
    most = cases.maximum(layer, run.method, run.options)
    rank = (most[0] if len(most) == 1 else most) if full else low(run)
    stats = contracts.statistics_of(layer, x, z, shrinkage=0.02 if targets else 0.0)
    return x, z, cases.fitted(layer, run.method, run.options, rank, statistics=stats)


def low(run: Run) -> Any:
    """Return ranks about half way up, for cp lower: it is nearly exact there."""
    rank = cases.middle(cases.layer(run.case), run.method, run.options)
    return 1 + rank // 4 if run.method == "cp" else rank


TAKING = [run for run in cases.runs() if registered()[run.method].takes_statistics]
NARROW = {"bfloat16": "uneven 1d", "float16": "grouped 2d", "float32": "transposed grouped 2d"}
RESPONDING = [(run, "float64", False) for run in TAKING]
RESPONDING += [(run, "float64", True) for run in TAKING if run.case in cases.FEW]
RESPONDING += [(run, dtype, True) for dtype, case in NARROW.items() for run in TAKING if run.case == case]

every_responding = pytest.mark.parametrize(("run", "dtype", "targets"), RESPONDING, ids=str)
few_taking = pytest.mark.parametrize("run", [run for run in TAKING if run.case in NARROW.values()], ids=str)


@every_responding
def test_the_error_of_responses_is_true(run: Run, dtype: str, targets: bool) -> None:
    layer = cases.layer(run.case, dtype)
    x, z, f = responding(run, dtype, targets=targets)
    contracts.check_responses(layer, f, x, z)
    contracts.check_error(layer, f)


@every_responding
def test_a_fit_to_responses_is_a_factorization_like_others(run: Run, dtype: str, targets: bool) -> None:
    layer = cases.layer(run.case, dtype)
    _, _, f = responding(run, dtype, targets=targets)
    contracts.check_composition(contracts.corrected(layer, f), f)
    contracts.check_execution(contracts.corrected(layer, f), f, cases.input_size(layer))
    contracts.check_types(layer, f)
    contracts.check_balanced(f)
    assert f.rank == low(run)
    assert tc.verify(layer, f).consistent


@pytest.mark.parametrize("run", TAKING, ids=str)
def test_at_full_rank_the_responses_are_the_layers_own(run: Run) -> None:
    layer = cases.layer(run.case)
    x, _, f = responding(run, "float64", targets=False, full=True)
    contracts.check_exact_responses(layer, f, x)


@pytest.mark.parametrize("run", TAKING, ids=str)
def test_no_method_does_worse_for_the_data(run: Run) -> None:
    layer = cases.layer(run.case)
    x, _, f = responding(run, "float64", targets=False)
    stats = contracts.statistics_of(layer, x, shrinkage=0.0)
    plain = contracts.plain_response_error(stats, cases.fitted(layer, run.method, run.options, low(run)))
    linear, _ = contracts.response_slack(layer, f, x, tc.convolve(x, layer))
    assert f.response_error <= plain + linear


@pytest.mark.parametrize("run", [run for run in TAKING if run.case in GROUPED[::2]], ids=str)
def test_groups_are_separate_fits_to_their_responses(run: Run) -> None:
    layer = cases.layer(run.case, "float32")
    n_groups = 1 if run.method == "cp" else layer.geometry.groups  # later groups of cp have random starts of their own
    contracts.check_response_groups(layer, run.method, run.options, low(run), n_groups)


@few_taking
def test_the_same_data_give_bitwise_the_same(run: Run) -> None:
    layer = cases.layer(run.case, "float32")
    x = contracts.correlated_inputs(layer)

    def call() -> Any:
        return tc.methods()[run.method](layer, error=0.3, statistics=contracts.statistics_of(layer, x), **run.options)

    contracts.check_repeatable(call)


@few_taking
@pytest.mark.parametrize("targets", [False, True])
def test_an_error_of_the_responses_is_met(run: Run, targets: bool) -> None:
    layer = cases.layer(run.case, "float32")
    x = contracts.correlated_inputs(layer)
    stats = contracts.statistics_of(layer, x, contracts.wanted_responses(layer, x) if targets else None)
    error = 0.4 if targets else 0.1
    f = cases.fitted(layer, run.method, run.options, None, error=error, statistics=stats)
    assert f.response_error is not None
    assert f.response_error <= error
    if isinstance(f.rank, int) and f.rank > 1 and run.method != "cp":  # cp goes on from the ranks tried before
        below = cases.fitted(layer, run.method, run.options, f.rank - 1, statistics=stats)
        assert below.response_error is not None
        assert below.response_error > error


@few_taking
def test_an_error_of_the_responses_that_cannot_be_met_names_the_best(run: Run) -> None:
    layer = cases.layer(run.case)
    x = contracts.correlated_inputs(layer)
    stats = contracts.statistics_of(layer, x, contracts.wanted_responses(layer, x))
    most = cases.maximum(layer, run.method, run.options)
    shown = most[0] if len(most) == 1 else most
    best = cases.fitted(layer, run.method, run.options, shown, statistics=stats)
    assert best.response_error is not None
    assert best.response_error > 0.01
    text = (
        f"error=0.001 cannot be met: the best attained is {best.response_error:.3g}, at rank {shown}; ask for a larger"
    )
    with pytest.raises(RankError, match=f"^{re.escape(text)}"):
        cases.fitted(layer, run.method, run.options, None, error=1e-3, statistics=stats)


@few_taking
@pytest.mark.parametrize("of", ["macs", "parameters"])
def test_a_budget_with_data_counts_the_bias(run: Run, of: str) -> None:
    like = cases.layer(run.case, "float32")
    layer = tc.ConvLayer(like.kernel, like.geometry)  # the bias is new, and counts
    stats = contracts.statistics_of(layer, contracts.correlated_inputs(layer))
    f = contracts.check_budget(layer, run.method, run.options, 0.9, of=of, statistics=stats)
    assert f is None or f.bias is not None


@few_taking
def test_rules_are_about_the_fit_to_the_responses(run: Run) -> None:
    layer = cases.layer(run.case, "float32")
    stats = contracts.statistics_of(layer, contracts.correlated_inputs(layer))
    by_energy = cases.fitted(layer, run.method, run.options, tc.ranks.energy(0.9), statistics=stats).rank
    rule = tc.ranks.multiple(2, of=tc.ranks.energy(0.9))
    rounded = cases.fitted(layer, run.method, run.options, rule, statistics=stats).rank
    most = cases.maximum(layer, run.method, run.options)
    expected = [min(m, -(-r // 2) * 2) for r, m in zip(np.ravel(by_energy), most, strict=True)]
    assert list(np.ravel(rounded)) == expected


# ---- any geometry at all


@st.composite
def drawn_layers(draw: st.DrawFn) -> tc.ConvLayer:
    """Draw a small layer with any integers."""
    ndim = draw(st.integers(1, 3))

    def axes(low: int, high: int) -> list[int]:
        return [draw(st.integers(low, high)) for _ in range(ndim)]

    geometry = tc.ConvGeometry.of(
        ndim,
        stride=axes(1, 4),
        padding=list(zip(axes(-2, 3), axes(-2, 3), strict=True)),
        dilation=axes(1, 3),
        groups=draw(st.integers(1, 3)),
        transposed=draw(st.booleans()),
    )
    shape = (geometry.groups * draw(st.integers(1, 3)), draw(st.integers(1, 4)), *axes(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    dtype = draw(st.sampled_from(["float32", "float64"]))
    bias = rng.standard_normal(shape[0]) if draw(st.booleans()) else None
    return tc.ConvLayer(rng.standard_normal(shape).astype(dtype), geometry, bias)


@settings(max_examples=150)
@given(drawn_layers(), st.data())
def test_any_layer_any_method_any_rank(layer: tc.ConvLayer, data: st.DataObject) -> None:
    method, options = data.draw(st.sampled_from(cases.variants(layer)))
    rank = tuple(data.draw(st.integers(1, most)) for most in cases.maximum(layer, method, options))
    f = cases.fitted(layer, method, options, rank[0] if len(rank) == 1 else rank)
    assert f.rank == (rank[0] if len(rank) == 1 else rank)
    contracts.check_composition(layer, f)
    contracts.check_execution(layer, f, cases.input_size(layer))
    contracts.check_error(layer, f)
    contracts.check_types(layer, f)
    if rank == cases.maximum(layer, method, options):
        contracts.check_exact(layer, f)


def test_every_registered_method_has_its_meaning_written_down() -> None:
    assert set(contracts.MEANINGS) == set(tc.methods())
