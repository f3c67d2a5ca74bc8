"""Tests of verify: right verdicts on sequences written by hand, right and wrong ones, and bounds that hold."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from convolution.random_layers import convolutions, whole_numbers
from hypothesis import given, settings
from oracles import reference_convolution

import tensorconv as tc
from tensorconv.arrays import Array, named_dtype, unit_roundoff
from tensorconv.errors import GeometryError, KernelError, KernelTypeError

FULL: dict[str, Any] = {"stride": (2, 1), "padding": ((1, 0), (1, 2)), "dilation": (1, 2), "groups": 2}
BIAS = np.array([1.0, -2.0, 3.0, 4.0])


def split(dtype: str = "float32", bias: Array | None = BIAS, **changed: Any) -> tuple[tc.ConvLayer, tc.ConvSequence]:
    """Return a grouped layer of integers and its exact split: full then pointwise, with changed attributes."""
    rng = np.random.default_rng(0)
    first, second = whole_numbers((6, 2, 3, 3), rng, dtype), whole_numbers((4, 3, 1, 1), rng, dtype)
    kernel = np.einsum("gomxy,gmikl->goikl", second.reshape(2, 2, 3, 1, 1), first.reshape(2, 3, 2, 3, 3))
    layer = tc.ConvLayer.of(kernel.reshape(4, 2, 3, 3), BIAS, **FULL)
    full = tc.ConvLayer.of(first, **(FULL | changed))
    return layer, tc.ConvSequence((full, tc.ConvLayer.of(second, bias, groups=2)))


def relative(reference: Array, other: Array) -> float:
    return float(np.linalg.norm((other - reference).ravel()) / np.linalg.norm(np.ravel(reference)))


def layer_matrix(sequence: Any, n_in: int, size: tuple[int, ...]) -> Array:
    """Return the matrix of a sequence, its bias taken off, by running every unit vector and the zero."""
    n = n_in * math.prod(size)
    units = np.concatenate([np.eye(n), np.zeros((1, n))]).reshape(n + 1, n_in, *size)
    y = tc.convolve(units, sequence).reshape(n + 1, -1)
    matrix: Array = (y[:-1] - y[-1]).T
    return matrix


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_an_exact_split_is_exact(dtype: str) -> None:
    layer, steps = split()
    kernels = [step.kernel.astype(named_dtype(dtype)) for step in steps]
    steps = tc.ConvSequence(tuple(tc.ConvLayer(k, s.geometry, s.bias) for k, s in zip(kernels, steps, strict=True)))
    report = tc.verify(layer, steps)
    assert (report.consistent, report.exact) == (True, True)
    assert (report.kernel_error, report.bias_error, report.output_error) == (0.0, 0.0, None)
    assert report.n_parameters == (4 * 2 * 9 + 4, 6 * 2 * 9 + 4 * 3 + 4)
    # the kernels agree, so only what rounding could have done in composing is left of the bound
    assert 0 < report.operator_bound < 1e-11


@given(convolutions(max_ndim=2))
@settings(max_examples=60)
def test_every_layer_is_itself(case: tuple[tc.ConvLayer, Array]) -> None:
    layer, x = case
    report = tc.verify(layer, layer, x)
    assert (report.consistent, report.exact) == (True, True)
    assert (report.kernel_error, report.bias_error, report.output_error, report.operator_bound) == (0, 0, 0, 0)
    assert report.n_parameters[0] == report.n_parameters[1] == layer.n_parameters


def test_a_plain_array_is_a_layer_of_stride_1_without_padding() -> None:
    kernel = np.random.default_rng(0).standard_normal((3, 2, 3))
    assert tc.verify(kernel, tc.ConvLayer.of(kernel)).exact
    assert not tc.verify(kernel, tc.ConvLayer.of(kernel, padding=1)).exact
    with pytest.raises(KernelTypeError, match=r"sequence must be .* a plain array becomes a layer by ConvLayer.of"):
        tc.verify(kernel, kernel)


def test_factorizations_are_verified_as_their_sequences() -> None:
    layer, _ = split("float64")
    assert tc.verify(layer, tc.svd(layer, rank=2)).exact
    report = tc.verify(layer, tc.svd(layer, rank=1))
    assert report.kernel_error == pytest.approx(tc.svd(layer, rank=1).relative_error, rel=1e-12)
    assert not report.exact


# what is wrong, and whether the output keeps its size (at the default input size)
WRONG: dict[str, tuple[dict[str, Any], bool]] = {
    "stride of the other axis": ({"stride": (1, 2)}, False),
    "first stride for all axes": ({"stride": 2}, False),
    "no padding": ({"padding": 0}, False),
    "padding of the other side": ({"padding": ((0, 1), (2, 1))}, True),
    "symmetric padding": ({"padding": ((1, 1), (1, 2))}, False),
    "dilation dropped, padding made up": ({"dilation": 1, "padding": ((1, 0), (0, 1))}, True),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_geometry_is_not_exact_and_its_kernel_is_not_compared(name: str) -> None:
    changed, keeps_size = WRONG[name]
    layer, steps = split(**changed)
    x = np.random.default_rng(1).standard_normal((2, 4, 9, 11))
    report = tc.verify(layer, steps, x)
    assert (report.consistent, report.exact, report.kernel_error) == (True, False, None)
    assert report.bias_error == 0
    assert report.output_error is not None
    if keeps_size:
        expected, y = tc.convolve(x, layer), tc.convolve(x, steps)
        assert report.output_error == pytest.approx(relative(expected, y), rel=1e-12)
        assert report.output_error > 0.1
        norm = np.linalg.norm(layer_matrix(layer, 4, (9, 11)) - layer_matrix(steps, 4, (9, 11)), 2)
        assert norm <= report.operator_bound < math.inf
    else:
        assert (report.output_error, report.operator_bound) == (math.inf, math.inf)


@pytest.mark.parametrize(
    ("bias", "error"),
    [(None, 1.0), (-BIAS, 2.0), (BIAS[::-1].copy(), relative(BIAS, BIAS[::-1])), (BIAS + 1e-5, None)],
)
def test_a_lost_or_wrong_bias_is_not_exact(bias: Array | None, error: float | None) -> None:
    layer, steps = split(bias=bias)
    report = tc.verify(layer, steps)
    assert (report.consistent, report.exact, report.kernel_error) == (True, False, 0.0)
    expected = relative(BIAS, np.float32(BIAS + 1e-5).astype("float64")) if error is None else error
    assert report.bias_error == pytest.approx(expected, rel=1e-12)
    assert report.operator_bound < 1e-11  # the bound is about the outputs without bias


def test_a_bias_of_zeros_is_no_bias() -> None:
    layer = tc.ConvLayer.of(np.ones((2, 1, 3)))
    zeros = tc.ConvLayer.of(np.ones((2, 1, 3)), [0.0, 0.0])
    for pair in ((layer, zeros), (zeros, layer)):
        report = tc.verify(*pair)
        assert (report.exact, report.bias_error) == (True, 0.0)
    report = tc.verify(layer, tc.ConvLayer.of(np.ones((2, 1, 3)), [0.0, 1e-3]))
    assert (report.exact, report.bias_error) == (False, math.inf)


def dense(layer: tc.ConvLayer) -> Array:
    """Return the kernel of a grouped layer as that of one group."""
    n_out, n_in, *size = layer.kernel.shape
    groups = layer.geometry.groups
    kernel = np.zeros((n_out, n_in * groups, *size), layer.dtype)
    for g in range(groups):
        rows = slice(g * n_out // groups, (g + 1) * n_out // groups)
        kernel[rows, g * n_in : (g + 1) * n_in] = layer.kernel[rows]
    return kernel


def test_groups_written_densely_are_the_same_and_wrong_groups_are_not() -> None:
    layer, steps = split()
    plain = tc.ConvLayer(dense(layer), replace(layer.geometry, groups=1), layer.bias)
    for pair in ((layer, plain), (plain, layer), (plain, steps)):
        report = tc.verify(*pair)
        assert (report.exact, report.kernel_error) == (True, 0.0)
    leaky = plain.kernel.astype("float64")
    leaky[0, 3, 1, 1] = 5.0  # out-channel 0 must not see in-channel 3
    report = tc.verify(layer, tc.ConvLayer(leaky, plain.geometry, layer.bias))
    assert not report.exact
    assert report.kernel_error == pytest.approx(relative(plain.kernel.astype("float64"), leaky), rel=1e-12)
    # as many groups, but the kernels of the two swapped
    swapped = tc.ConvLayer(np.roll(layer.kernel, 2, axis=0), layer.geometry, layer.bias)
    assert not tc.verify(layer, swapped).exact


@pytest.mark.parametrize("transposed", [False, True])
def test_dilation_written_as_zeros_is_the_same(transposed: bool) -> None:
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((3, 2, 3, 2))
    explicit = np.zeros((3, 2, 5, 4))
    explicit[:, :, ::2, ::3] = kernel
    attributes: dict[str, Any] = {"stride": (1, 2), "padding": 1, "transposed": transposed}
    dilated = tc.ConvLayer.of(kernel, dilation=(2, 3), **attributes)
    plain = tc.ConvLayer.of(explicit, **attributes)
    for pair in ((dilated, plain), (plain, dilated)):
        report = tc.verify(*pair)
        assert (report.consistent, report.exact, report.kernel_error, report.operator_bound) == (True, True, 0, 0)
    explicit[0, 0, 1, 0] = 1e-3
    assert not tc.verify(dilated, tc.ConvLayer.of(explicit, **attributes)).exact


def test_the_dilation_of_one_tap_and_the_kind_of_a_pointwise_layer_mean_nothing() -> None:
    kernel = np.random.default_rng(0).standard_normal((3, 2, 1))
    one = tc.ConvLayer.of(kernel, dilation=3)
    other = tc.ConvLayer.of(kernel, dilation=2, transposed=True)
    report = tc.verify(one, other)
    assert (report.exact, report.kernel_error) == (True, 0.0)


def test_a_transposed_layer_is_not_a_convolution_of_its_kernel() -> None:
    kernel = np.random.default_rng(0).standard_normal((3, 2, 3))
    report = tc.verify(tc.ConvLayer.of(kernel, padding=1), tc.ConvLayer.of(kernel, padding=1, transposed=True))
    assert (report.exact, report.kernel_error) == (False, None)


def test_kernel_error_is_the_relative_distance() -> None:
    layer, steps = split("float64")
    off = tc.ConvLayer.of(steps.layers[0].kernel + 0.25, **FULL)
    report = tc.verify(layer, tc.ConvSequence((off, steps.layers[1])))
    moved = 0.25 * np.einsum("gom->go", steps.layers[1].kernel.reshape(2, 2, 3)).reshape(4, 1, 1, 1)
    assert report.kernel_error == pytest.approx(relative(layer.kernel, layer.kernel + moved), rel=1e-12)
    zero = tc.ConvLayer.of(np.zeros((4, 2, 3, 3)), BIAS, **FULL)
    assert tc.verify(zero, zero).kernel_error == 0.0
    assert tc.verify(zero, layer).kernel_error == math.inf
    assert tc.verify(layer, zero).kernel_error == 1.0


def test_output_error_is_the_relative_distance_on_the_data() -> None:
    layer, _ = split("float64")
    truncated = tc.svd(layer, rank=1).sequence
    for x in (np.random.default_rng(1).standard_normal((3, 4, 8, 9)), np.ones((1, 4, 8, 9), "float16")):
        report = tc.verify(layer, truncated, x)
        y = reference_convolution(x, layer.kernel, layer.geometry, layer.bias)
        assert report.output_error == pytest.approx(relative(y, tc.convolve(x.astype("float64"), truncated)), rel=1e-9)
        assert report.input_size == (8, 9)
    assert tc.verify(layer, truncated).output_error is None


def test_input_size_is_what_the_work_is_counted_for() -> None:
    layer, steps = split()
    x = np.ones((1, 4, 8, 9))
    # stride (2, 1), padding (1, 2), extents (3, 5): 8 x 9 -> 4 x 8 positions; 16 x 9 -> 8 x 8
    assert tc.verify(layer, steps, x).macs == (4 * 2 * 9 * 32, (6 * 2 * 9 + 4 * 3) * 32)
    report = tc.verify(layer, steps, x, input_size=(16, 9))
    assert (report.input_size, report.macs) == ((16, 9), (4 * 2 * 9 * 64, (6 * 2 * 9 + 4 * 3) * 64))
    assert report.output_error == 0.0


def chain(first: dict[str, Any], second: dict[str, Any], taps: tuple[int, int]) -> tc.ConvSequence:
    rng = np.random.default_rng(0)
    kernels = [whole_numbers((2, 2, n), rng) for n in taps]
    return tc.ConvSequence(tuple(tc.ConvLayer.of(k, **a) for k, a in zip(kernels, (first, second), strict=True)))


def formula(steps: tc.ConvSequence, **geometry: Any) -> tc.ConvLayer:
    """Return the layer whose kernel is that of two stride-1 layers inside, borders not looked at."""
    first, second = (step.kernel for step in steps)
    kernel = np.zeros((2, 2, first.shape[2] + second.shape[2] - 1))
    for k in range(first.shape[2]):
        for j in range(second.shape[2]):
            kernel[:, :, k + j] += second[:, :, j] @ first[:, :, k]
    return tc.ConvLayer.of(kernel, **geometry)


def test_where_no_single_convolution_exists_the_borders_decide() -> None:
    # twice a padding of 1: inside, the 5 taps padded by 2; at the borders, zeros instead of sums over the padding
    steps = chain({"padding": 1}, {"padding": 1}, (3, 3))
    report = tc.verify(formula(steps, padding=2), steps)
    assert (report.consistent, report.exact, report.kernel_error) == (None, False, None)
    assert 0 < report.operator_bound < math.inf
    # crop, then pad: one position is lost, in spite of paddings that add up
    steps = chain({"padding": ((-1, 0),)}, {"padding": ((1, 0),)}, (1, 1))
    report = tc.verify(formula(steps), steps)
    assert (report.consistent, report.exact) == (None, False)


def test_where_no_single_convolution_is_composed_equal_outputs_are_exact() -> None:
    # the second layer's stride steps over the position that the first one cropped
    steps = chain({"padding": ((-1, 0),)}, {"padding": 2, "stride": 2}, (1, 1))
    layer = formula(steps, padding=((1, 2),), stride=2)
    report = tc.verify(layer, steps, np.random.default_rng(0).standard_normal((2, 2, 11)))
    assert (report.consistent, report.exact, report.kernel_error) == (None, True, None)
    assert report.output_error is not None
    assert report.output_error < 1e-15
    assert report.operator_bound > 0  # nothing is certified but that both are bounded
    wrong = np.array(layer.kernel)
    wrong[1, 1, 0] += 0.5
    assert not tc.verify(tc.ConvLayer(wrong, layer.geometry), steps).exact


def test_different_output_sizes_are_told() -> None:
    layer = tc.ConvLayer.of(np.ones((1, 1, 3)), padding=1)
    report = tc.verify(layer, tc.ConvLayer.of(np.ones((1, 1, 3))), np.ones((1, 1, 5)))
    assert (report.exact, report.output_error, report.operator_bound) == (False, math.inf, math.inf)
    report = tc.verify(layer, chain_of_ones(transposed_stride=2))
    assert (report.consistent, report.exact, report.operator_bound) == (None, False, math.inf)


def chain_of_ones(transposed_stride: int) -> tc.ConvSequence:
    up = tc.ConvLayer.of(np.ones((1, 1, 2)), stride=transposed_stride, transposed=True)
    return tc.ConvSequence((up, tc.ConvLayer.of(np.ones((1, 1, 3)), stride=3, padding=1)))


@pytest.mark.parametrize("kind", ["svd", "shifted", "no single convolution"])
def test_the_operator_bound_holds_and_is_not_vacuous(kind: str) -> None:
    rng = np.random.default_rng(0)
    layer = tc.ConvLayer.of(rng.standard_normal((4, 3, 5)), rng.standard_normal(4), padding=2)
    other: Any = tc.svd(layer, rank=2)
    if kind == "shifted":
        other = tc.ConvLayer.of(layer.kernel, padding=((1, 3),))
    if kind == "no single convolution":
        wide, narrow = rng.standard_normal((2, 3, 3)), rng.standard_normal((4, 2, 3))
        other = tc.ConvSequence((tc.ConvLayer.of(wide, padding=1), tc.ConvLayer.of(narrow, [1.0, 2, 3, 4], padding=1)))
    bound = tc.verify(layer, other).operator_bound
    difference = layer_matrix(layer, 3, (60,)) - layer_matrix(other, 3, (60,))
    worst = np.linalg.svd(difference)[2][0]
    attained = [0.0]
    for x in (worst, *rng.standard_normal((20, worst.size))):
        y = difference @ x
        assert np.linalg.norm(y) <= bound * np.linalg.norm(x)
        attained.append(float(np.linalg.norm(y) / np.linalg.norm(x)))
    # of equal geometries the bound is the norm but for the grid's slack; else the sum of both norms
    assert bound <= (1.1 if kind == "svd" else 3) * max(attained)


def test_the_operator_bound_holds_for_transposed_and_grouped_layers() -> None:
    rng = np.random.default_rng(3)
    layer = tc.ConvLayer.of(
        rng.standard_normal((4, 2, 3, 2)), stride=2, padding=((1, 0), (0, -1)), groups=2, transposed=True
    )
    other = tc.svd(layer, rank=1)
    difference = layer_matrix(layer, 4, (5, 6)) - layer_matrix(other, 4, (5, 6))
    bound = tc.verify(layer, other).operator_bound
    assert np.linalg.norm(difference, 2) <= bound <= 2.5 * np.linalg.norm(difference, 2)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_a_rounded_kernel_is_exact_and_a_mutated_entry_is_not(dtype: str) -> None:
    kernel = np.array([[[8.0, 1.1, -0.7]]])
    rounded = kernel.astype(named_dtype(dtype))
    u = unit_roundoff(rounded.dtype)
    report = tc.verify(kernel, tc.ConvLayer.of(rounded))
    assert (report.consistent, report.exact) == (True, True)
    assert report.kernel_error is not None
    assert report.kernel_error <= u
    # one rounding of an entry is granted, and 64 roundings in float64 of the norm: 100 u of the largest is beyond both
    mutated = kernel.copy()
    mutated[0, 0, 0] *= 1 + 100 * u
    report = tc.verify(kernel, tc.ConvLayer.of(mutated.astype(named_dtype(dtype))))
    assert (report.consistent, report.exact) == (True, False)


@pytest.mark.parametrize("entry", range(5))
def test_one_unit_in_the_last_place_of_a_float32_kernel_is_seen(entry: int) -> None:
    kernel = np.random.default_rng(0).standard_normal((5, 1, 1)).astype("float32")
    mutated = kernel.copy()
    mutated[entry] = np.nextafter(mutated[entry], np.float32(np.inf))
    assert not tc.verify(kernel, tc.ConvLayer.of(mutated)).exact
    assert tc.verify(kernel, tc.ConvLayer.of(kernel)).exact


@pytest.mark.parametrize("step", [0, 1])
def test_a_mutated_entry_of_a_factor_is_seen(step: int) -> None:
    layer, steps = split()
    kernels = [np.array(s.kernel) for s in steps]
    kernels[step][1, 1, 0, 0] *= 1 + 100 * unit_roundoff(layer.dtype)
    mutated = tc.ConvSequence(tuple(tc.ConvLayer(k, s.geometry, s.bias) for k, s in zip(kernels, steps, strict=True)))
    assert not tc.verify(layer, mutated).exact


@pytest.mark.parametrize("power", [-600, 600])
def test_verdicts_do_not_depend_on_the_unit(power: int) -> None:
    unit = 2.0**power  # scaling by it is exact, its square is beyond the range
    layer, _ = split("float64", bias=None)
    one = tc.ConvLayer.of(layer.kernel, **FULL)
    doubled = tc.ConvLayer.of(2 * layer.kernel, **FULL)
    scaled = [tc.ConvLayer.of(unit * pair.kernel, **FULL) for pair in (one, doubled)]
    x = np.random.default_rng(1).standard_normal((2, 4, 9, 11))
    expected, report = tc.verify(one, doubled, x), tc.verify(scaled[0], scaled[1], x)
    assert (report.exact, report.kernel_error, report.output_error) == (False, 1.0, 1.0)
    assert report.operator_bound == unit * expected.operator_bound
    assert tc.verify(scaled[0], scaled[0], x).exact


def global_state() -> tuple[bytes, int]:
    """Return the state of numpy's global generator, which must not be drawn from."""
    state = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    return state["key"].tobytes(), state["pos"]


def test_seeds_are_generators_too_and_numpys_global_generator_is_left_alone() -> None:
    layer, steps = split()
    state = global_state()
    reports = {str(tc.verify(layer, steps, rng=rng)) for rng in (0, 7, np.random.default_rng(3))}
    assert len(reports) == 1
    assert global_state() == state


def reports() -> list[Any]:
    layer, steps = split()
    x = np.random.default_rng(1).standard_normal((2, 4, 9, 11))
    twice = chain({"padding": 1}, {"padding": 1}, (3, 3))
    return [
        tc.verify(layer, steps, input_size=(9, 11)),
        tc.verify(layer, tc.svd(layer, rank=1), x),
        tc.verify(layer, split(stride=2)[1], x),
        tc.verify(formula(twice, padding=2), twice),
    ]


def test_reports_are_plain_values() -> None:
    for report in reports():
        found = report.to_dict()
        assert list(found) == [field.name for field in fields(report)]
        back = {name: tuple(v) if isinstance(v, list) else v for name, v in json.loads(json.dumps(found)).items()}
        assert back == found


def test_an_input_size_of_numpy_integers_is_reported_as_plain_integers() -> None:
    layer = tc.ConvLayer.of(np.ones((1, 1, 3)))
    size: Any = np.array([9])
    found = tc.verify(layer, layer, input_size=size).to_dict()
    assert json.loads(json.dumps(found))["input_size"] == [9]


def test_reports_print_as_aligned_tables() -> None:
    exact, truncated, strided, twice = (str(report).splitlines() for report in reports())
    for lines in (exact, truncated, strided, twice):
        column = lines[0].index("result")
        assert lines[0].split() == ["check", "result", "meaning"]
        assert all(line[column - 2 : column] == "  " and line[column] != " " for line in lines)
        assert all(line == line.rstrip() for line in lines)
    assert [line.split("  ")[0] for line in exact] == [
        "check", "consistent", "exact", "kernel error", "bias error", "operator bound", "parameters", "MACs",
    ]  # fmt: skip
    assert any(line.startswith("exact ") and " yes " in line for line in exact)
    assert any(line.startswith("exact ") and " no " in line for line in truncated)
    assert any(line.startswith("output error ") for line in truncated)
    assert any(line.startswith("operator bound ") and " inf " in line for line in strided)
    assert not any(line.startswith("kernel error") for line in strided)
    assert any(line.startswith("consistent ") and "no single convolution" in line for line in twice)
    # stride (2, 1), padding (1, 3), extents (3, 5): 9 x 11 -> 4 x 10 positions
    assert exact[-2].split() == ["parameters", "76", "->", "124", "163.2%", "of", "the", "layer's"]
    assert exact[-1].split() == f"MACs {72 * 40:,} -> {120 * 40:,} 166.7% of the layer's at input 9x11".split()


REFUSALS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "channels": (
        {"sequence": tc.ConvLayer.of(np.ones((4, 3, 3, 3)))},
        GeometryError,
        r"sequence has \(in-channels, out-channels, spatial axes\) \(3, 4, 2\), the layer has \(4, 4, 2\); verify a",
    ),
    "axes": (
        {"sequence": tc.ConvLayer.of(np.ones((4, 4, 3)))},
        GeometryError,
        r"sequence has .* \(4, 4, 1\), the layer has \(4, 4, 2\)",
    ),
    "input size": ({"input_size": (1, 1)}, GeometryError, r"input_size \(1, 1\) gives no output on axis 0"),
    "axes of the input size": ({"input_size": (9,)}, GeometryError, "input_size must have one entry per spatial axis"),
    "data with NaN": ({"x": np.full((1, 4, 9, 9), np.nan)}, KernelError, "x must hold finite numbers only"),
    "integer data": ({"x": np.ones((1, 4, 9, 9), int)}, KernelTypeError, "x must be of a real floating-point type"),
    "channels of the data": ({"x": np.ones((1, 3, 9, 9))}, KernelError, r"x must have shape \(B, 4, 9, 9\) here"),
    "axes of the data": ({"x": np.ones((4, 9, 9))}, KernelError, r"x must have shape \(B, C, 2 spatial axes\)"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_verified_is_refused(name: str) -> None:
    arguments, error, text = REFUSALS[name]
    layer, steps = split()
    with pytest.raises(error, match=text):
        tc.verify(layer, **({"sequence": steps} | arguments))
