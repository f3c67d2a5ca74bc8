"""Tests of transduction: by the centre tap, a layer of one more axis is the layer applied frame by frame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cases
import contracts
import numpy as np
import pytest
from contracts import U64, UNIT, gamma, n_sums
from oracles import reference_bound, reference_convolution

import tensorconv as tc
from tensorconv.arrays import Array
from tensorconv.errors import GeometryError, KernelError, RankError
from tensorconv.factorizations import Factorization
from tensorconv.factorizations.cp import CP

TRAINED = {
    "hed_vgg16_b1c2_64x64_3x3": {"padding": 1},
    "opennsfw_s0_32x32_3x3": {"padding": 1},
    "basicpitch_32x8_5x5_s1x3": {"stride": (1, 3), "padding": 2},
    "silero_enc0_128x129_k3_1d": {"padding": 1},
}
# ranks of methods whose largest would take long to search
RANKS: dict[str, Any] = {"svd": 9, "depthwise_separable": 2, "tucker": (7, 6), "cp": 8, "tensor_train": 6}


def runs(*names: str) -> list[cases.Run]:
    """Return the runs of the methods that have a factor for another axis."""
    return [run for run in cases.runs(*names) if run.method in RANKS]


def frames(one: tc.ConvLayer, n: int = 4) -> Array:
    """Return inputs (B, C, frames, L1..LN)."""
    return np.random.default_rng(3).standard_normal((1, one.in_channels, n, *cases.input_size(one)))


def bound(f: Factorization, x: Array) -> Array:
    """Return how far the run of a sequence may be from what its stored factors mean.

    The run rounds every product and sum; kernels made of several factors are rounded before.
    """
    absolute = replace(f.layer, kernel=contracts.stored_magnitude(f), bias=None)
    made = gamma(n_sums(f), U64) + gamma(len(f.factors) + 3, UNIT[f.layer.dtype.name])
    reached = reference_convolution(np.abs(x), absolute.kernel, absolute.geometry)
    return reference_bound(x, f.sequence, [U64]) + made * reached


def check_frame_by_frame(f: Factorization, g: Factorization, x: Array) -> None:
    """g of all frames is f of each."""
    actual = tc.convolve(x, g)
    expected = np.stack([tc.convolve(x[:, :, t], f) for t in range(x.shape[2])], axis=2)
    slack = np.stack([bound(f, x[:, :, t]) for t in range(x.shape[2])], axis=2) + bound(g, x)
    assert actual.shape == expected.shape
    assert np.all(np.abs(actual - expected) <= slack)


def check_laws(f: Factorization, g: Factorization) -> None:
    """g is a factorization as any other, as far from its layer as f from its own."""
    assert (g.method, type(g.scheme)) == (f.method, type(f.scheme))
    assert list(g.factors) == list(g.scheme.factor_shapes(g.ranks))
    assert {name: factor.shape for name, factor in g.factors.items()} == g.scheme.factor_shapes(g.ranks)
    assert g.layer.dtype == f.layer.dtype
    contracts.check_composition(g.layer, g)
    contracts.check_error(g.layer, g)
    # zeros between: the same differences, in another order, of kernels reconstructed in another order
    slack = np.linalg.norm(contracts.reconstruction_bound(g)) / np.linalg.norm(g.layer.kernel.astype(np.float64))
    assert abs(g.relative_error - f.relative_error) <= 2 * slack + gamma(g.kernel.size, U64)


@pytest.mark.parametrize("run", runs(), ids=str)
def test_the_centre_tap_is_the_layer_frame_by_frame(run: cases.Run) -> None:
    f = cases.factorized(run)
    g = f.transduce(3)
    check_laws(f, g)
    assert g.layer.kernel_size == (3, *f.layer.kernel_size)
    assert g.layer.geometry.padding == ((1, 1), *f.layer.geometry.padding)
    assert g.layer.geometry.stride == (1, *f.layer.geometry.stride)
    assert g.layer.geometry.transposed == f.layer.geometry.transposed
    assert np.array_equal(g.layer.kernel[:, :, 1], f.layer.kernel)
    assert not g.layer.kernel[:, :, ::2].any()
    if f.layer.ndim < 4:  # five axes only repeat this, slowly
        check_frame_by_frame(f, g, frames(f.layer))


@pytest.mark.parametrize("run", runs("grouped 2d", "transposed 2d", "strided pointwise 2d"), ids=str)
@pytest.mark.parametrize("n_taps", [1, 5])
def test_other_numbers_of_taps(run: cases.Run, n_taps: int) -> None:
    f = cases.factorized(run)
    g = f.transduce(n_taps)
    check_laws(f, g)
    check_frame_by_frame(f, g, frames(f.layer, 3))


@pytest.mark.parametrize("method", RANKS)
@pytest.mark.parametrize("name", TRAINED)
def test_trained_layers_frame_by_frame(trained_kernels: Path, name: str, method: str) -> None:
    with np.load(trained_kernels / f"{name}.npz") as arrays:
        kernel = arrays["weight"]
    layer = tc.ConvLayer.of(kernel, np.linspace(-1, 1, len(kernel)), **TRAINED[name])  # type: ignore[arg-type]
    f = tc.methods()[method](layer, RANKS[method])
    g = f.transduce(3)
    check_laws(f, g)
    check_frame_by_frame(f, g, frames(layer, 3))
    report = tc.verify(g.layer, g)
    assert report.consistent
    assert report.bias_error == 0


@pytest.mark.parametrize("run", runs("uneven 1d", "grouped 2d"), ids=str)
def test_uniform_taps_are_the_mean_of_neighbours(run: cases.Run) -> None:
    f = cases.factorized(run)
    g = f.transduce(3, "uniform")
    check_laws(f, g)
    x = frames(f.layer)
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1)] + [(0, 0)] * f.layer.ndim)
    mean = (padded[:, :, :-2] + padded[:, :, 1:-1] + padded[:, :, 2:]) / 3
    expected = np.stack([tc.convolve(mean[:, :, t], f) for t in range(4)], axis=2)
    absolute = np.stack([bound(f, np.abs(padded[:, :, t : t + 3]).mean(axis=2)) for t in range(4)], axis=2)
    # means of three are rounded thrice more, and so are the taps
    assert np.all(np.abs(tc.convolve(x, g) - expected) <= 2 * (absolute + bound(g, x)))


def test_an_even_number_of_uniform_taps_looks_ahead() -> None:
    g = tc.cp(np.ones((2, 2, 3)), 1).transduce(2, "uniform")
    assert g.layer.geometry.padding == ((0, 1), (0, 0))
    assert g.layer.output_size((5, 3)) == (5, 1)


@pytest.mark.parametrize("method", RANKS)
def test_shared_taps_are_a_factor_of_the_kernel(method: str) -> None:
    layer = cases.layer("unequal 2d")
    f = tc.methods()[method](layer, 2)
    taps = np.array([0.5, -1.0, 2.0, 0.25])
    g = f.transduce(taps)
    check_laws(f, g)
    assert np.array_equal(g.layer.kernel, taps[:, None, None] * layer.kernel[:, :, None])  # powers of two are exact
    difference = np.abs(g.kernel - taps[:, None, None] * f.kernel[:, :, None])
    assert np.all(difference <= contracts.reconstruction_bound(g))


@pytest.mark.parametrize(
    ("method", "options", "n_rows"),
    [
        ("cp", {}, 3),
        ("cp", {"merge_spatial": True}, 3),
        ("tensor_train", {}, 3),
        ("svd", {"split": "out"}, 3),
        ("svd", {"split": "in"}, 3),
        ("svd", {"split": (1,)}, 3),
        ("depthwise_separable", {"order": "depthwise-first"}, 3),
        ("depthwise_separable", {"order": "pointwise-first"}, 3),
    ],
)
@pytest.mark.parametrize("case", ["unequal 2d", "grouped 2d"])
def test_each_component_has_its_own_taps(case: str, method: str, options: dict[str, Any], n_rows: int) -> None:
    f = tc.methods()[method](cases.layer(case), 3, **options)
    taps = np.random.default_rng(4).standard_normal((n_rows, 3))
    g = f.transduce(taps)
    components = {
        "tensor_train": ("in", 1),
        "cp": ("in", 1),
        "svd": ("first", 1),
        "depthwise_separable": ("depthwise", 2),
    }
    name, axis = components[method]
    total = np.zeros(g.kernel.shape)
    for r in range(n_rows):  # the kernel is linear in a factor: one component alone, times its taps
        alone = dict(f.factors)
        kept = np.zeros_like(alone[name])
        index = (*(slice(None),) * axis, r)
        kept[index] = alone[name][index]
        part = contracts.MEANINGS[method](f, alone | {name: kept}).reshape(f.layer.kernel.shape)
        total += taps[r][:, None, None] * part[:, :, None]
    assert np.all(np.abs(g.kernel - total) <= 2 * contracts.reconstruction_bound(g))
    contracts.check_composition(g.layer, g)
    assert g.layer.kernel.tobytes() == g.kernel.tobytes()
    assert g.relative_error == 0
    same = f.transduce(np.broadcast_to(taps[0], taps.shape))
    difference = np.abs(same.kernel - f.transduce(taps[0]).kernel)
    assert np.all(difference <= contracts.reconstruction_bound(same))


def test_the_new_axis_may_have_its_own_geometry() -> None:
    f = tc.cp(cases.layer("unequal 2d"), 3)
    g = f.transduce(3, stride=2, padding=(0, 1), dilation=2)
    geometry = f.layer.geometry
    assert g.layer.geometry.stride == (2, *geometry.stride)
    assert g.layer.geometry.padding == ((0, 1), *geometry.padding)
    assert g.layer.geometry.dilation == (2, *geometry.dilation)
    contracts.check_composition(g.layer, g)
    assert f.transduce(3, dilation=2).layer.geometry.padding[0] == (2, 2)
    assert f.transduce(3, padding=0).layer.geometry.padding[0] == (0, 0)
    assert g.sequence.output_size((9, 7, 7))[0] == (9 + 1 - 5) // 2 + 1


def test_twice_makes_two_axes() -> None:
    f = tc.tensor_train(cases.layer("uneven 1d"), 3)
    g = f.transduce(3).transduce(1)
    check_laws(f, g)
    assert g.layer.kernel_size == (1, 3, *f.layer.kernel_size)


def test_the_bias_is_that_of_the_factorization() -> None:
    layer = cases.layer("unequal 2d")
    f = tc.svd(layer, 4)
    corrected = replace(f, bias=np.arange(7.0))
    for taps in (3, np.ones((4, 3))):
        assert f.transduce(taps).sequence.bias is not None
        again = corrected.transduce(taps).sequence.bias
        assert again is not None
        assert again.tolist() == list(range(7))


@pytest.mark.parametrize("method", RANKS)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_types_and_counts(method: str, dtype: str) -> None:
    layer = cases.layer("unequal 2d", dtype)
    f = tc.methods()[method](layer, 2)
    g = f.transduce(3)
    check_laws(f, g)
    n_bias = layer.out_channels
    more = {"cp": 3 * 2, "tensor_train": 3 * 2 * 2}.get(method)
    if more:  # one more factor
        assert g.n_parameters == f.n_parameters + more
    assert f.n_parameters < g.n_parameters <= 3 * (f.n_parameters - n_bias) + n_bias
    assert g.transduce(1).n_parameters >= g.n_parameters


def test_refusals() -> None:
    f = tc.cp(cases.layer("plain 1d"), 3)
    with pytest.raises(KernelError, match=r'taps must be odd to have a centre, got 4; take start="uniform"'):
        f.transduce(4)
    with pytest.raises(KernelError, match=r"start must be one of .*, got 'center'"):
        f.transduce(3, "center")
    with pytest.raises(KernelError, match=r"taps must be an integer or have shape .* got shape \(1, 3, 3\)"):
        f.transduce(np.ones((1, 3, 3)))
    with pytest.raises(RankError, match="taps must have one row per component, 3 here, or one for all, got 2"):
        f.transduce(np.ones((2, 3)))
    with pytest.raises(RankError, match=r"taps must be of shape \(k,\) for a Tucker decomposition.*use cp"):
        tc.tucker(cases.layer("plain 1d"), 2).transduce(np.ones((2, 3)))
    with pytest.raises(GeometryError, match="taps must be at least 1, got 0"):
        f.transduce(0)
    with pytest.raises(GeometryError, match="dilation must be at least 1"):
        f.transduce(3, dilation=0)


def test_other_methods_are_refused() -> None:
    class Other(CP):
        pass

    f = tc.cp(cases.layer("plain 1d"), 3)
    other = Factorization("other", f.layer, 3, f.factors, 0.0, Other(f.layer))
    with pytest.raises(
        RankError, match="method 'other' has no factor for another axis; factorize by one of cp, tensor"
    ):
        other.transduce(3)
