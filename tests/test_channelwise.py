"""Tests of channel-wise convolutions as a step: the equation itself, costs of the paper, Toeplitz matrices, files."""

from __future__ import annotations

import copy
import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export.sequences import assert_same, channelwise, data
from oracles import reference_bound, reference_sequence

import tensorconv as tc
from tensorconv.arrays import Array
from tensorconv.errors import FormatError, GeometryError, KernelError, KernelTypeError

FLOAT64 = 2.0**-53


def layer(ndim: int = 1, *, channels: int = 10, maps: int = 3, taps: int = 4, **options: Any) -> tc.ChannelwiseLayer:
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((maps, taps, *(3, 2, 1)[:ndim]))
    geometry = tc.ConvGeometry.of(ndim + 1, **{"padding": 1, "stride": (2, 1, 2, 1)[: ndim + 1]} | options)
    return tc.ChannelwiseLayer(kernel, channels, geometry)


def by_hand(x: Array, one: tc.ChannelwiseLayer) -> Array:
    """Return the sums of the equation, one output after another."""
    g = one.geometry
    maps, size = one.out_channels // len(one.kernel), one.output_size(x.shape[2:])
    y = np.zeros((len(x), one.out_channels, *size))
    for j, c, p in itertools.product(range(len(one.kernel)), range(maps), np.ndindex(size)):
        for t, *k in np.ndindex(one.kernel.shape[1:]):
            at = [
                s * n + d * m - low
                for s, n, d, m, (low, _) in zip(g.stride, (c, *p), g.dilation, (t, *k), g.padding, strict=True)
            ]
            if all(0 <= a < n for a, n in zip(at, x.shape[1:], strict=True)):
                y[(slice(None), j * maps + c, *p)] += one.kernel[(j, t, *k)] * x[(slice(None), *at)]
    return y


@pytest.mark.parametrize("ndim", [1, 2])
@pytest.mark.parametrize(
    "options",
    [{}, {"padding": ((2, 0), (0, 1), (-1, 2))}, {"dilation": (2, 1, 2), "stride": 1}],
    ids=["plain", "uneven", "dilated"],
)
def test_the_equation(ndim: int, options: dict[str, Any]) -> None:
    one = layer(
        ndim, **{key: value[: ndim + 1] if isinstance(value, tuple) else value for key, value in options.items()}
    )
    x = np.random.default_rng(1).standard_normal((2, 10, *(6, 5)[:ndim]))
    sequence = tc.ConvSequence([one])
    expected = by_hand(x, one)
    bound = reference_bound(x, sequence, [FLOAT64, FLOAT64])
    assert np.all(np.abs(tc.convolve(x, sequence) - expected) <= bound)
    assert np.all(np.abs(tc.convolve(x, one.convolution) - expected) <= bound)
    assert np.all(np.abs(reference_sequence(x, sequence) - expected) <= bound)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("bias", [False, True])
def test_a_chain_is_executed_and_is_the_convolution_it_composes_to(ndim: int, bias: bool) -> None:
    sequence, x = channelwise(ndim, bias=bias), data(ndim)
    y, expected = tc.convolve(x, sequence), reference_sequence(x, sequence)
    assert y.shape == (2, 9, *sequence.output_size(x.shape[2:])) == expected.shape
    assert np.all(np.abs(y - expected) <= reference_bound(x, sequence, [FLOAT64, FLOAT64]))
    dense = tc.compose(sequence)
    assert (dense.bias is not None) == bias
    report = tc.verify(dense, sequence, x)
    assert report.consistent
    assert report.exact
    assert report.n_parameters[1] == sequence.n_parameters


def test_a_wrong_chain_is_noticed() -> None:
    sequence = channelwise(1)
    dense = tc.compose(sequence)
    wrong = tc.ConvSequence([*sequence.layers[:-1], tc.PermuteLayer.shuffle(9, 1)])
    assert not tc.verify(dense, wrong).exact


def test_along_the_channels_the_matrix_is_toeplitz() -> None:
    one = tc.ChannelwiseLayer(np.array([[[1.0], [2], [3]]]), 5, tc.ConvGeometry.of(2, padding=((1, 1), (0, 0))))
    expected = [[2, 3, 0, 0, 0], [1, 2, 3, 0, 0], [0, 1, 2, 3, 0], [0, 0, 1, 2, 3], [0, 0, 0, 1, 2]]
    np.testing.assert_array_equal(one.convolution.kernel[..., 0], expected)
    assert one.convolution.geometry == tc.ConvGeometry.of(1)


@pytest.mark.parametrize(("channels", "groups", "length", "size"), [(64, 2, 8, (14, 14)), (32, 4, 16, (7, 5))])
def test_a_group_channel_wise_convolution_costs_what_the_paper_says(
    channels: int, groups: int, length: int, size: tuple[int, int]
) -> None:
    # ChannelNets, section 3.3: g kernels of length d_c, stride g, padding (d_c - g) / 2, each giving n / g maps
    side = (length - groups) // 2
    geometry = tc.ConvGeometry.of(3, stride=(groups, 1, 1), padding=((side, side), (0, 0), (0, 0)))
    one = tc.ChannelwiseLayer(np.ones((groups, length, 1, 1)), channels, geometry)
    assert one.out_channels == channels
    assert one.n_parameters == length * groups
    assert one.macs(size) == length * channels * size[0] * size[1]
    chain = tc.ConvSequence([one]).chain
    assert tc.cost.chain_cost(chain, "macs", size) == one.macs(size)
    assert tc.cost.chain_cost(chain, "parameters") == one.n_parameters


def test_the_classification_layer_costs_what_the_paper_says() -> None:
    one = tc.ChannelwiseLayer(np.ones((1, 25, 7, 7)), 1024, tc.ConvGeometry.of(3))
    assert (one.out_channels, one.output_size(7), one.n_parameters) == (1000, (1, 1), 1225)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"kernel": np.ones((2, 3))}, KernelError, r"kernel must have shape \(J, D, K1..KN\) .* one tap per axis"),
        ({"kernel": np.ones((2, 3, 1), int)}, KernelTypeError, "real floating-point type"),
        ({"kernel": np.full((2, 3, 1), np.nan)}, KernelError, "finite numbers only"),
        ({"geometry": tc.ConvGeometry.of(1)}, GeometryError, "geometry has 1 spatial axes, but the kernel"),
        ({"geometry": tc.ConvGeometry.of(2, groups=2)}, GeometryError, "neither groups nor is transposed"),
        ({"geometry": tc.ConvGeometry.of(2, transposed=True)}, GeometryError, "neither groups nor is transposed"),
        ({"in_channels": 0}, GeometryError, "in_channels must be at least 1, got 0"),
        ({"in_channels": 2}, GeometryError, "gives no output on axis 0"),
        ({"bias": np.ones(3)}, KernelError, r"bias must have shape \(16,\), one entry per out-channel, got \(3,\)"),
    ],
)
def test_what_is_no_layer_is_refused(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    fields = {"kernel": np.ones((2, 3, 1)), "in_channels": 10, "geometry": tc.ConvGeometry.of(2)} | changes
    with pytest.raises(error, match=message):
        tc.ChannelwiseLayer(**fields)


def test_it_is_read_only_and_copied() -> None:
    kernel = np.ones((2, 3, 1))
    one = tc.ChannelwiseLayer(kernel, 10, tc.ConvGeometry.of(2), np.ones(16))
    kernel[:] = 0
    assert one.kernel.all()
    with pytest.raises(ValueError, match="read-only"):
        one.kernel[:] = 0
    for again in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):  # noqa: S301  # our own
        assert_same(tc.ConvSequence([again]), tc.ConvSequence([one]))
        assert not again.kernel.flags.writeable
    assert repr(one) == "<ChannelwiseLayer: 10 -> 16, channel kernel 3, kernel 1, stride 1, padding 0, bias, float64>"


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".onnx"])
@pytest.mark.parametrize("ndim", [1, 2])
def test_it_is_saved(tmp_path: Path, ndim: int, suffix: str) -> None:
    sequence = channelwise(ndim, "float32")
    tc.save(tmp_path / f"s{suffix}", sequence)
    assert_same(tc.load(tmp_path / f"s{suffix}"), sequence)


def test_a_broken_description_is_refused() -> None:
    arrays = tc.export.dump(channelwise(1), "numpy")
    text = str(arrays["sequence"])
    for wrong, message in [
        (text.replace('"in_channels": 6', '"in_channels": "6"'), "in_channels must be of type int"),
        (text.replace('"in_channels": 6', '"in_channels": 7'), "bias must have shape"),
    ]:
        with pytest.raises(FormatError, match=message):
            tc.export.load(arrays | {"sequence": np.array(wrong)}, "numpy")
    arrays["3.kernel"] = np.repeat(arrays["3.kernel"], 2, axis=1)
    with pytest.raises(FormatError, match="must have one in-channel over channels and space, got 2"):
        tc.export.load(arrays, "numpy")


def test_a_bias_is_held_against_any_number_of_channels_before_memory_is_taken() -> None:
    one = layer()
    for channels in (2**40, 2**62):
        with pytest.raises(KernelError, match=r"bias must have shape \(\d+,\), one entry per out-channel, got \(9,\)"):
            tc.ChannelwiseLayer(one.kernel, channels, one.geometry, np.ones(9))
