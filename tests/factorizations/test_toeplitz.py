"""Tests of channel-wise fits: what was channel-wise is found again, counts are the paper's, errors are true."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contracts import UNIT, gamma, true_error
from oracles import reference_bound, reference_convolution

import tensorconv as tc
from tensorconv.arrays import Array, named_dtype
from tensorconv.errors import GeometryError, KernelError, RankError
from tensorconv.factorizations import methods
from tensorconv.linalg import ToeplitzBand

U64 = 2.0**-53
GEOMETRY: dict[str, Any] = {"stride": (2, 1), "padding": ((1, 0), (0, 2))}
# out-channels, in-channels, groups, length
FITS = [(12, 12, 1, 5), (12, 12, 3, 7), (8, 16, 1, 4), (16, 8, 2, 6)]


def layer(n_out: int, n_in: int, *size: int, dtype: str = "float32", **options: Any) -> tc.ConvLayer:
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((n_out, n_in, *(size or (1, 1)))).astype(named_dtype(dtype))
    return tc.ConvLayer.of(kernel, rng.standard_normal(n_out), name="conv", **options)


def shuffled(
    n: int, groups: int, length: int, *, dtype: str = "float32", size: tuple[int, ...] = (1, 1)
) -> tc.ConvLayer:
    """Return a channel-wise convolution of n channels, with in- and out-channels in random order, as a dense layer."""
    rng = np.random.default_rng(n)
    total = length - groups
    padding = [(total // 2, total - total // 2), *((1, 1) for _ in size)]
    geometry = tc.ConvGeometry.of(1 + len(size), stride=(groups, *(1 for _ in size)), padding=padding)
    kernel = rng.standard_normal((groups, length, *size)).astype(named_dtype(dtype))
    one = tc.ChannelwiseLayer(kernel, n, geometry, rng.standard_normal(n))
    dense, rows = one.convolution, rng.permutation(n)
    assert dense.bias is not None
    return tc.ConvLayer(dense.kernel[rows][:, rng.permutation(n)], dense.geometry, dense.bias[rows], "conv")


def check(original: tc.ConvLayer, f: tc.ChannelwiseFit) -> None:
    """The sequence is f.kernel, with the layer's geometry and bias, and the error is that of f.kernel."""
    composed = tc.compose(f.sequence)
    assert composed.geometry == original.geometry
    assert np.array_equal(composed.kernel, f.kernel)  # orders only move what is stored
    assert f.kernel.dtype == original.dtype
    assert not f.kernel.flags.writeable
    error = true_error(original, f.kernel)
    assert abs(f.relative_error - error) <= gamma(f.kernel.size + 8, U64) * error
    bias = f.sequence.bias
    assert (bias is None) == (original.bias is None)
    if bias is not None and original.bias is not None:
        assert bias.tobytes() == original.bias.tobytes()
    report = tc.verify(original, f)
    assert report.consistent
    assert report.bias_error == 0
    assert report.n_parameters == (original.n_parameters, f.n_parameters)


@pytest.mark.parametrize("permute", [True, False])
@pytest.mark.parametrize(("n_out", "n_in", "groups", "length"), FITS)
def test_a_fit_is_what_it_says(n_out: int, n_in: int, groups: int, length: int, permute: bool) -> None:
    original = layer(n_out, n_in, **GEOMETRY)
    f = tc.channelwise(original, length, groups=groups, permute=permute)
    check(original, f)
    assert (f.method, f.length, f.groups, f.layer) == ("channelwise", length, groups, original)
    assert f.n_parameters == length * groups + n_out  # and the bias
    positions = int(np.prod(original.output_size((6, 5))))
    assert f.sequence.macs((6, 5)) == length * n_out * positions
    kinds = [type(step) for step in f.sequence]
    assert kinds == [tc.PermuteLayer, tc.ChannelwiseLayer, tc.PermuteLayer] if permute else [tc.ChannelwiseLayer]
    assert f.convolution.name == ("conv.1" if permute else "conv.0")


def test_the_numbers_of_the_paper_s_layers() -> None:
    one = tc.channelwise(layer(64, 64), 8, permute=False)
    assert one.n_parameters - 64 == 8
    assert one.convolution.geometry == tc.ConvGeometry.of(3, padding=((3, 4), (0, 0), (0, 0)))
    grouped = tc.channelwise(layer(64, 64), 16, groups=4, permute=False)
    assert grouped.n_parameters - 64 == 16 * 4
    assert grouped.sequence.macs((7, 7)) == 16 * 64 * 49
    assert grouped.convolution.geometry == tc.ConvGeometry.of(3, stride=(4, 1, 1), padding=((6, 6), (0, 0), (0, 0)))
    assert grouped.convolution.out_channels // grouped.groups == 64 // 4


def test_averages_along_diagonals() -> None:
    kernel = np.arange(16.0).reshape(4, 4, 1)
    f = tc.channelwise(kernel, 3, permute=False)
    means = [np.mean(np.diagonal(kernel[:, :, 0], offset)) for offset in (-1, 0, 1)]
    assert f.convolution.kernel.ravel().tolist() == means


@pytest.mark.parametrize(
    ("n", "groups", "length"), [(16, 1, 3), (64, 1, 9), (24, 1, 47), (64, 4, 4), (64, 4, 14), (64, 8, 32), (256, 2, 16)]
)
def test_a_channel_wise_layer_is_recovered_from_any_order(n: int, groups: int, length: int) -> None:
    original = shuffled(n, groups, length)
    f = tc.channelwise(original, length, groups=groups)
    check(original, f)
    assert f.relative_error == 0
    assert tc.verify(original, f).exact
    assert tc.channelwise(original, length, groups=groups, permute=False).relative_error > 0.5


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_every_type_is_kept(dtype: str) -> None:
    original = shuffled(24, 2, 8, dtype=dtype)
    f = tc.channelwise(original, 8, groups=2)
    check(original, f)
    assert f.relative_error == 0
    rounded = tc.channelwise(layer(8, 8, dtype=dtype), 5)
    check(layer(8, 8, dtype=dtype), rounded)


def test_spatial_taps_become_a_kernel_over_channels_and_space() -> None:
    original = shuffled(24, 3, 9, size=(3, 2))
    f = tc.channelwise(original, 9, groups=3)
    check(original, f)
    assert f.relative_error == 0
    assert f.convolution.kernel.shape == (3, 9, 3, 2)
    x = np.random.default_rng(1).standard_normal((2, 24, 5, 4))
    whole = original.sequence
    bound = reference_bound(x, whole, [U64, U64])
    expected = reference_convolution(x, original.kernel, original.geometry, original.bias)
    assert np.all(np.abs(tc.convolve(x, f) - expected) <= bound)
    other = layer(6, 6, 3, 3, padding=1)
    check(other, tc.channelwise(other, 3))


def test_as_many_kernels_as_channels_are_the_layer() -> None:
    original = layer(8, 6, **GEOMETRY)
    f = tc.channelwise(original, 6, groups=8)
    check(original, f)
    assert (f.relative_error, tc.verify(original, f).exact) == (0.0, True)
    assert f.n_parameters == original.n_parameters


def test_a_search_never_loses_and_is_repeatable() -> None:
    original = layer(16, 16)
    as_is = tc.channelwise(original, 5, permute=False)
    first, second = (tc.channelwise(original, 5, rng=3) for _ in range(2))
    assert first.relative_error < as_is.relative_error
    assert first.relative_error <= tc.channelwise(original, 5, n_perturbations=0).relative_error
    assert first.kernel.tobytes() == second.kernel.tobytes()


def test_edges() -> None:
    zero = tc.ConvLayer.of(np.zeros((6, 6, 1)))
    assert tc.channelwise(zero, 3).relative_error == 0
    huge = layer(6, 6, dtype="float64")
    scaled = tc.ConvLayer(huge.kernel * 2.0**1000, huge.geometry, huge.bias)
    assert tc.channelwise(scaled, 3).relative_error == tc.channelwise(huge, 3).relative_error
    assert tc.channelwise(scaled, 3, permute=False).relative_error < 1


def test_texts_copies_and_files(tmp_path: Path) -> None:
    f = tc.channelwise(shuffled(24, 2, 8), 8, groups=2)
    assert str(f).startswith("channelwise, length 8, groups 2, relative error 0, 6.7% of the layer's 600 parameters\n")
    assert repr(f) == "<ChannelwiseFit: channelwise, length 8, groups 2, relative error 0>"
    for again in (copy.deepcopy(f), pickle.loads(pickle.dumps(f))):  # noqa: S301 - written one line above
        assert again.kernel.tobytes() == f.kernel.tobytes()
    tc.save(tmp_path / "fit.npz", f.sequence)
    assert np.array_equal(tc.compose(tc.load(tmp_path / "fit.npz")).kernel, f.kernel)
    assert "channelwise" not in methods()  # it obeys no law of ranks


def test_refusals() -> None:
    with pytest.raises(
        GeometryError, match=r"layer must have one group and not be transposed, got .* factorize it first"
    ):
        tc.channelwise(tc.ConvLayer.of(np.ones((4, 1, 3)), groups=4), 3)
    with pytest.raises(GeometryError, match=r"groups must divide the 6 out-channels.*got groups=4; 3 is the smallest"):
        tc.channelwise(np.ones((6, 4, 1)), 3, groups=4)
    with pytest.raises(GeometryError, match="got groups=1; 2 is the smallest"):
        tc.channelwise(np.ones((8, 4, 1)), 3)
    with pytest.raises(RankError, match=r"length must be from 2, the stride along the channels, to 14, .* got 1"):
        tc.channelwise(np.ones((8, 8, 1)), 1, groups=2)
    with pytest.raises(RankError, match=r"length must be from 1, .* to 15, .* got 16"):
        tc.channelwise(np.ones((8, 8, 1)), 16)
    with pytest.raises(GeometryError, match=r"length must be an integer, got 2\.5"):
        tc.channelwise(np.ones((8, 8, 1)), 2.5)  # type: ignore[arg-type]
    with pytest.raises(GeometryError, match="permute must be True or False"):
        tc.channelwise(np.ones((8, 8, 1)), 3, permute="no")  # type: ignore[arg-type]
    with pytest.raises(KernelError, match=r"weight must have shape .* with at most as many classes"):
        tc.classification_layer(np.ones((9, 8)), size=(2, 2))


# ---- pooling and full connection by one convolution


def pooled_response(x: Array, weight: Array, bias: Array) -> Array:
    mean = x.mean(axis=(2, 3))
    return np.asarray(mean @ weight.astype(np.float64).T + bias)


def test_the_classification_layer_of_the_paper() -> None:
    weight = np.random.default_rng(0).standard_normal((1000, 1024)).astype("float32")
    f = tc.classification_layer(weight, size=(7, 7), permute=False)
    assert (f.n_parameters, f.original.n_parameters) == (1225, 1_024_000)
    assert f.convolution.kernel.shape == (1, 25, 7, 7)
    assert (f.sequence.out_channels, f.sequence.output_size((7, 7))) == (1000, (1, 1))
    assert f.sequence.macs((7, 7)) == 1225 * 1000
    band = ToeplitzBand(1, 1000, 1024, 25)
    expected = band.relative_error(weight, band.projection(weight.astype(np.float64)))
    # taps, divided by 49 and rounded to float32, are much smaller than the weight
    assert abs(f.relative_error - expected) <= 2 * UNIT["float32"]


def test_a_shuffled_classification_layer_is_recovered() -> None:
    rng = np.random.default_rng(1)
    taps, bias = rng.standard_normal((1, 9)), rng.standard_normal(40)
    weight = ToeplitzBand(1, 40, 48, 9).matrix(taps)[rng.permutation(40)][:, rng.permutation(48)]
    f = tc.classification_layer(weight, bias, size=(3, 2), name="head")
    # a tap is divided by the 6 positions, stored, and multiplied again
    assert f.relative_error <= gamma(2, U64)
    assert f.n_parameters == 9 * 6 + 40
    x = rng.standard_normal((3, 48, 3, 2))
    expected = pooled_response(x, weight, bias)
    n = 48 * 6 + 8  # sums of products over channels and positions; taps of three roundings
    bound = 2 * gamma(n, U64) * (pooled_response(np.abs(x), np.abs(weight), np.abs(bias)))
    assert np.all(np.abs(tc.convolve(x, f)[:, :, 0, 0] - expected) <= bound)
    report = tc.verify(f.layer, f)
    assert (report.consistent, report.exact, report.bias_error) == (True, True, 0)


def test_a_classification_layer_stands_for_pooling_and_full_connection() -> None:
    rng = np.random.default_rng(2)
    weight, bias = rng.standard_normal((6, 9)), rng.standard_normal(6)
    f = tc.classification_layer(weight, bias, size=(2, 3))
    x = rng.standard_normal((3, 9, 2, 3))
    bound = 2 * gamma(9 * 6 + 8, U64) * pooled_response(np.abs(x), np.abs(weight), np.abs(bias))
    assert np.all(np.abs(tc.convolve(x, f.layer)[:, :, 0, 0] - pooled_response(x, weight, bias)) <= bound)
    assert f.layer.kernel.shape == f.kernel.shape == (6, 9, 2, 3)
    # the layer's kernel and the taps are rounded once more
    assert abs(true_error(f.layer, f.kernel) - f.relative_error) <= gamma(f.kernel.size + 8, U64)
    assert 0 < f.relative_error < tc.classification_layer(weight, bias, size=(2, 3), permute=False).relative_error
