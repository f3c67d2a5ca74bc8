"""Tests of the proven bounds: they hold for every case tried, truth computed exactly, and they are not loose."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from convolution.random_layers import convolutions, seeds
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import reference_convolution, reference_sequence

import tensorconv as tc
from tensorconv.arrays import Array
from tensorconv.certificates import gamma, n_roundings, operator_norm_bound, rounding_bound
from tensorconv.errors import GeometryError, KernelError

U32 = 2.0**-24
SLACK = (8 / 7) ** 0.5  # per axis with more than one tap, at the default oversampling


def test_gamma_is_highams() -> None:
    assert gamma(0, U32) == 0
    assert gamma(1, 0.25) == 1 / 3
    # n relative errors of at most u each, all of one sign, stay within it
    assert (1 + U32) ** 1000 - 1 <= gamma(1000, U32) <= 1.0001 * 1000 * U32


@pytest.mark.parametrize(("n", "u"), [(2048, 2.0**-11), (2049, 2.0**-11), (1, 1.0)])
def test_gamma_ends_where_nothing_can_be_said(n: int, u: float) -> None:
    with pytest.raises(KernelError, match=f"n must be below 1/u = .* got {n}; use a wider data type"):
        gamma(n, u)


def test_roundings_are_counted_per_output_element() -> None:
    # 2 * 9 products, each added to a sum; a bias, a converted kernel entry, and one to spare
    assert n_roundings(tc.ConvLayer.of(np.ones((4, 2, 3, 3)), groups=2)) == 2 * 9 + 3


def real_numbers(case: tuple[tc.ConvLayer, Array], seed: int) -> tuple[tc.ConvLayer, Array]:
    """Return a layer and an input of the drawn shapes with entries that float32 cannot hold."""
    layer, x = case
    rng = np.random.default_rng(seed)
    bias = None if layer.bias is None else rng.standard_normal(layer.out_channels)
    kernel = rng.standard_normal(layer.kernel.shape) * 10.0 ** rng.uniform(-3, 3, layer.kernel.shape)
    return tc.ConvLayer(kernel, layer.geometry, bias), rng.standard_normal(x.shape)


@given(convolutions(), seeds)
@settings(max_examples=200)
def test_the_rounding_bound_holds_in_float32(case: tuple[tc.ConvLayer, Array], seed: int) -> None:
    layer, x = real_numbers(case, seed)
    x = x.astype("float32")
    # the float64 truth is off by less than 2^-28 of the bound, which has more than that to spare
    truth = reference_convolution(x, layer.kernel, layer.geometry, layer.bias)
    assert (np.abs(tc.convolve(x, layer) - truth) <= rounding_bound(x, layer)).all()


def exact_correlation(x: Array, kernel: Array, bias: float) -> list[Fraction]:
    """Return a one-channel correlation over one axis in rational arithmetic."""
    data, taps = [Fraction(float(v)) for v in x], [Fraction(float(v)) for v in kernel]
    return [
        Fraction(bias) + sum((w * data[p + k] for k, w in enumerate(taps)), Fraction(0))
        for p in range(len(data) - len(taps) + 1)
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_taps", [1, 7, 150])
def test_the_rounding_bound_holds_against_rational_arithmetic(dtype: str, n_taps: int) -> None:
    rng = np.random.default_rng(n_taps)
    x, kernel = rng.standard_normal(n_taps + 40), rng.standard_normal(n_taps)
    x = x.astype(dtype)
    layer = tc.ConvLayer.of(kernel[None, None], [0.3])
    y, bound = tc.convolve(x[None, None], layer)[0, 0], rounding_bound(x[None, None], layer)[0, 0]
    truth = exact_correlation(x, kernel, 0.3)
    errors = np.array([float(abs(Fraction(float(value)) - exact)) for value, exact in zip(y, truth, strict=True)])
    assert (errors <= bound).all()
    # errors of random signs grow like the root of their number, the bound like their number
    assert bound.max() <= 20 * math.sqrt(n_taps + 3) * errors.max()


@pytest.mark.parametrize("transposed", [False, True])
def test_the_rounding_bound_of_a_layer_is_not_loose(transposed: bool) -> None:
    rng = np.random.default_rng(0)
    layer = tc.ConvLayer.of(rng.standard_normal((16, 32, 3, 3)), padding=1, transposed=transposed)
    x = rng.standard_normal((1, 32, 12, 12)).astype("float32")
    error = np.abs(tc.convolve(x, layer) - reference_convolution(x, layer.kernel, layer.geometry))
    bound = rounding_bound(x, layer)
    assert (error <= bound).all()
    assert bound.max() <= 1e3 * error.max()


def test_the_rounding_bound_of_a_sequence_holds_and_is_not_loose() -> None:
    rng = np.random.default_rng(1)
    layers = (
        tc.ConvLayer.of(rng.standard_normal((8, 4, 3, 3)), padding=1, stride=2),
        tc.ConvLayer.of(rng.standard_normal((8, 1, 3, 3)), groups=8, transposed=True),
        tc.ConvLayer.of(rng.standard_normal((5, 8, 1, 1)), rng.standard_normal(5)),
    )
    x = rng.standard_normal((2, 4, 11, 9)).astype("float32")
    sequence = tc.ConvSequence(layers)
    error = np.abs(tc.convolve(x, sequence) - reference_sequence(x, sequence))
    bound = rounding_bound(x, sequence)
    assert bound.shape == error.shape
    assert bound.dtype == np.float64
    assert (error <= bound).all()
    assert bound.max() <= 1e3 * error.max()


# (kernel, x) whose products or whose entries underflow in float32
TINY: dict[str, tuple[float, float]] = {
    "products below the normal numbers": (3.3e-20, 1.7e-20),
    "products below all numbers": (1e-30, 1e-30),
    "subnormal data": (0.3, 1.1e-41),
    "subnormal kernel": (1.1e-41, 0.3),
    "subnormal kernel, large data": (1.1e-41, 1e37),
    "vanishing kernel, large data": (1e-46, 1e38),
}


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("transposed", [False, True])
def test_the_rounding_bound_holds_where_numbers_underflow(name: str, transposed: bool) -> None:
    scale, size = TINY[name]
    rng = np.random.default_rng(0)
    layer = tc.ConvLayer.of(scale * rng.uniform(1, 2, (3, 4, 3)), padding=1, transposed=transposed)
    x = (size * rng.uniform(1, 2, (1, 4, 9))).astype("float32")
    truth = reference_convolution(x, layer.kernel, layer.geometry)
    assert (np.abs(tc.convolve(x, layer) - truth) <= rounding_bound(x, layer)).all()


def test_the_rounding_bound_of_zeros_is_next_to_nothing() -> None:
    bound = rounding_bound(np.zeros((1, 1, 5), "float32"), tc.ConvLayer.of(np.ones((1, 1, 3))))
    assert (bound < 1e-40).all()


def layer_matrix(layer: tc.ConvLayer, size: tuple[int, ...]) -> Array:
    """Return the matrix of a layer, without bias, by convolving every unit vector."""
    n = layer.in_channels * math.prod(size)
    linear = tc.ConvLayer(layer.kernel, layer.geometry)
    return tc.convolve(np.eye(n).reshape(n, layer.in_channels, *size), linear).reshape(n, -1).T


def grid_norm(kernel: Array, groups: int = 1, points: int = 64) -> float:
    """Return the largest singular value of the transfer matrices of all groups on a grid of frequencies."""
    axes = tuple(range(2, kernel.ndim))
    spectrum = np.fft.fftn(kernel, [points if k > 1 else 1 for k in kernel.shape[2:]], axes)
    blocks = np.moveaxis(spectrum.reshape(groups, -1, *spectrum.shape[1:]), (1, 2), (-2, -1))
    return float(np.linalg.norm(blocks, 2, axis=(-2, -1)).max())


@given(convolutions(max_ndim=2), st.integers(0, 3))
@settings(max_examples=120)
def test_the_norm_bound_holds_for_any_geometry(case: tuple[tc.ConvLayer, Array], more: int) -> None:
    layer, x = case
    norm = float(np.linalg.norm(layer_matrix(layer, tuple(n + more for n in x.shape[2:])), 2))
    bound = operator_norm_bound(layer.kernel, layer.geometry.groups)
    assert norm <= bound * (1 + 1e-13)  # the explicit norm is itself computed to a few hundred roundings


# shapes (O, I/G, K..) and groups; the last three take the road for matrices beyond 16 x 16
KERNELS: list[tuple[tuple[int, ...], int]] = [
    ((3, 2, 5), 1), ((6, 2, 3), 3), ((1, 1, 9), 1), ((4, 4, 3, 3), 1), ((4, 1, 3, 2), 4), ((2, 3, 2, 2, 3), 1),
    ((2, 2, 2, 2, 1, 2), 1), ((5, 7, 1, 1), 1), ((20, 24, 3), 1), ((36, 18, 3), 2), ((18, 40, 2, 2), 1),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "groups"), KERNELS)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_norm_bound_is_tight(shape: tuple[int, ...], groups: int, seed: int) -> None:
    kernel = np.random.default_rng(seed).standard_normal(shape)
    longer = [k for k in shape[2:] if k > 1]
    fine = 16 if len(longer) > 2 else 64
    bound = operator_norm_bound(kernel, groups)
    # never below the norm on any grid; above that on its own by the slack, and by a level certified to 1e-5 only
    assert grid_norm(kernel, groups, fine) <= bound * (1 + 1e-13)
    own = grid_norm(kernel, groups, math.lcm(*(8 * (k - 1) for k in longer)))
    assert bound <= SLACK ** len(longer) * own * (1 + 1e-5)


def test_the_norm_of_a_pointwise_kernel_is_its_matrixs() -> None:
    rng = np.random.default_rng(0)
    for shape in ((7, 5), (40, 30)):
        matrix = rng.standard_normal(shape)
        norm, bound = float(np.linalg.norm(matrix, 2)), operator_norm_bound(matrix[:, :, None, None])
        assert norm * (1 - 1e-13) <= bound <= norm * (1 + 1e-5)


CLOSED_FORMS: dict[str, tuple[list[float], float]] = {
    "difference": ([1.0, -1.0], 2.0),  # |1 - e^iw|
    "second difference": ([1.0, -2.0, 1.0], 4.0),
    "mean of five": ([0.2] * 5, 1.0),
    "Sobel's": ([1.0, 0.0, -1.0], 2.0),
    "shift": ([0.0, 0.0, 1.0], 1.0),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_the_norm_bound_of_known_kernels(name: str) -> None:
    taps, norm = CLOSED_FORMS[name]
    bound = operator_norm_bound(np.array([[taps]]))
    assert norm <= bound <= norm * SLACK * (1 + 1e-12)
    assert norm <= operator_norm_bound(np.array([[taps]]), oversampling=64) <= norm * (64 / 63) ** 0.5 * (1 + 1e-12)
    both = np.multiply.outer(taps, taps)[None, None]
    assert norm**2 <= operator_norm_bound(both) <= norm**2 * SLACK**2 * (1 + 1e-12)


def test_the_norm_of_groups_is_the_largest_of_theirs() -> None:
    kernel = np.random.default_rng(0).standard_normal((6, 2, 3))
    kernel[2:4] *= 10
    assert operator_norm_bound(kernel, 3) == pytest.approx(operator_norm_bound(kernel[2:4]), rel=1e-14)
    # a kernel of one group, laid out densely, has the same norm
    dense = np.zeros((6, 6, 3))
    for g in range(3):
        dense[2 * g : 2 * g + 2, 2 * g : 2 * g + 2] = kernel[2 * g : 2 * g + 2]
    assert operator_norm_bound(dense) == pytest.approx(operator_norm_bound(kernel, 3), rel=1e-12)


def test_the_norm_of_a_zero_kernel_is_zero() -> None:
    assert operator_norm_bound(np.zeros((3, 2, 3, 3))) == 0.0
    assert operator_norm_bound(np.zeros((20, 20, 3)), 1) == 0.0


@pytest.mark.parametrize("power", [-900, -700, 700, 1000])
@pytest.mark.parametrize("shape", [(3, 2, 3), (20, 18, 2)])
def test_the_norm_bound_scales_with_the_kernel(power: int, shape: tuple[int, ...]) -> None:
    kernel = np.random.default_rng(0).standard_normal(shape)
    # scaling by a power of two is exact all the way
    assert operator_norm_bound(kernel * 2.0**power) == operator_norm_bound(kernel) * 2.0**power


@pytest.mark.parametrize("factor", [1e-200, 1e200])
def test_the_norm_bound_is_blind_to_units(factor: float) -> None:
    kernel = np.random.default_rng(0).standard_normal((3, 4, 3, 3))
    # the entries are rounded once by the scaling, their quotients by the largest twice
    assert operator_norm_bound(kernel * factor) / factor == pytest.approx(operator_norm_bound(kernel), rel=1e-13)


# kernels with more than 16 channels whose transfer matrix vanishes at the first frequency that is looked at
VANISHING: dict[str, tuple[Any, int]] = {
    "difference": (lambda w: np.stack([w, -w], -1), 1),
    "first group zero": (lambda w: np.concatenate([0 * w, w])[..., None], 2),
    "zero mean over two axes": (lambda w: np.stack([np.stack([w, -w], -1)] * 2, -1), 1),
}


@pytest.mark.parametrize("name", VANISHING)
@pytest.mark.timeout(5)
def test_the_norm_bound_comes_to_an_end_where_a_response_vanishes(name: str) -> None:
    make, groups = VANISHING[name]
    kernel = make(np.random.default_rng(0).standard_normal((17, 18)))
    n_axes = sum(k > 1 for k in kernel.shape[2:])
    norm = grid_norm(kernel, groups)
    assert norm <= operator_norm_bound(kernel, groups) * (1 + 1e-13)
    assert operator_norm_bound(kernel, groups) <= SLACK**n_axes * norm * (1 + 1e-5)


def test_more_frequencies_tighten_the_bound() -> None:
    kernel = np.random.default_rng(0).standard_normal((3, 3, 4))
    bounds = [operator_norm_bound(kernel, oversampling=n) for n in (2, 4, 8, 32)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[-1] >= grid_norm(kernel, points=1024)


def test_too_few_frequencies_are_refused() -> None:
    with pytest.raises(GeometryError, match="oversampling must be at least 2, got 1"):
        operator_norm_bound(np.ones((1, 1, 3)), oversampling=1)
