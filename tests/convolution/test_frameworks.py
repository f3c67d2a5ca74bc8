"""Tests of convolve against others' convolutions: torch, scipy and ONNX Runtime."""

from __future__ import annotations

from typing import Any

import networks
import numpy as np
import pytest
import scipy.signal
import torch
from convolution.random_layers import convolutions, smallest_size, whole_numbers
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorconv as tc
from tensorconv.arrays import Array
from tensorconv.certificates import rounding_bound

MODULES: dict[bool, dict[int, Any]] = {
    False: {1: torch.nn.Conv1d, 2: torch.nn.Conv2d, 3: torch.nn.Conv3d},
    True: {1: torch.nn.ConvTranspose1d, 2: torch.nn.ConvTranspose2d, 3: torch.nn.ConvTranspose3d},
}


@st.composite
def torch_modules(draw: st.DrawFn, *, transposed: bool) -> tuple[dict[str, Any], Any, Array]:
    """Draw a torch module in float64 with the attributes it was made of, and an input it takes."""
    ndim = draw(st.integers(1, 3))

    def axes(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(ndim))

    attributes: dict[str, Any] = {"stride": axes(1, 3), "padding": axes(0, 2), "dilation": axes(1, 3)}
    attributes["groups"] = draw(st.sampled_from([1, 2]))
    if transposed:  # torch wants the output padding below the larger of stride and dilation
        limits = zip(attributes["stride"], attributes["dilation"], strict=True)
        attributes["output_padding"] = tuple(draw(st.integers(0, max(pair) - 1)) for pair in limits)
    torch.manual_seed(draw(st.integers(0, 1000)))
    taps = axes(1, 3)
    bias = draw(st.booleans())
    module = MODULES[transposed][ndim](4, 6, taps, **attributes, bias=bias, dtype=torch.float64)
    least = smallest_size(tc.ConvGeometry.of(ndim, **attributes, transposed=transposed), taps)
    size = tuple(n + more for n, more in zip(least, axes(0, 4), strict=True))
    return attributes, module, torch.randn(2, 4, *size, dtype=torch.float64).numpy()


def assert_is_torchs(attributes: dict[str, Any], module: Any, x: Array, *, transposed: bool) -> None:
    layout = "IO*" if transposed else "OI*"
    layer = tc.ConvLayer.of(module.weight, module.bias, layout=layout, transposed=transposed, **attributes)
    expected = module(torch.from_numpy(x)).detach().numpy()
    y = tc.convolve(x, layer)
    assert y.shape == expected.shape
    assert (np.abs(y - expected) <= 2 * rounding_bound(x, layer)).all()


@given(torch_modules(transposed=False))
@settings(max_examples=100)
def test_any_convolution_is_torchs(case: tuple[dict[str, Any], Any, Array]) -> None:
    assert_is_torchs(*case, transposed=False)


@given(torch_modules(transposed=True))
@settings(max_examples=100)
def test_any_transposed_convolution_is_torchs(case: tuple[dict[str, Any], Any, Array]) -> None:
    assert_is_torchs(*case, transposed=True)


def torch_pad(data: torch.Tensor, padding: tuple[tuple[int, int], ...], sign: int) -> torch.Tensor:
    """Pad by torch, sign -1 for the opposite; zeros before crops, since torch cannot crop what is not yet there."""
    sides = [sign * side for pair in reversed(padding) for side in pair]  # torch takes the last axis first
    wider = torch.nn.functional.pad(data, [max(side, 0) for side in sides])
    return torch.nn.functional.pad(wider, [min(side, 0) for side in sides])


@given(convolutions())
@settings(max_examples=150)
def test_asymmetric_and_negative_padding_is_torchs_pad(case: tuple[tc.ConvLayer, Array]) -> None:
    layer, x = case
    g, f = layer.geometry, torch.nn.functional
    names: dict[bool, tuple[Any, ...]] = {
        False: (f.conv1d, f.conv2d, f.conv3d),
        True: (f.conv_transpose1d, f.conv_transpose2d, f.conv_transpose3d),
    }
    convolution = names[g.transposed][g.ndim - 1]
    kernel, data = torch.from_numpy(np.array(layer.kernel)), torch.from_numpy(x)
    if g.transposed:  # torch keeps (I, O/G, K..)
        blocks = kernel.reshape(g.groups, -1, *kernel.shape[1:]).swapaxes(1, 2)
        full = convolution(data, blocks.flatten(0, 1), stride=g.stride, dilation=g.dilation, groups=g.groups)
        expected = torch_pad(full, g.padding, -1)
    else:
        padded = torch_pad(data, g.padding, 1)
        expected = convolution(padded, kernel, stride=g.stride, dilation=g.dilation, groups=g.groups)
    bias = np.zeros(layer.out_channels) if layer.bias is None else layer.bias
    # sums of integers are exact in any order
    assert np.array_equal(tc.convolve(x, layer), expected.numpy() + bias.reshape(-1, *(1,) * g.ndim))


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_channel_by_channel_it_is_scipys_correlation(ndim: int) -> None:
    rng = np.random.default_rng(ndim)
    kernel = whole_numbers((3, 2, *(3, 2, 1, 2)[:ndim]), rng)
    x = whole_numbers((2, 2, *(5, 4, 3, 4)[:ndim]), rng)
    expected = [
        [sum(scipy.signal.correlate(x[b, i], kernel[o, i], "valid", "direct") for i in range(2)) for o in range(3)]
        for b in range(2)
    ]
    assert np.array_equal(tc.convolve(x, tc.ConvLayer.of(kernel)), np.array(expected))


ONNX: list[tuple[str, int, dict[str, Any]]] = [
    ("Conv", 1, {"strides": [2], "pads": [1, 2], "dilations": [2]}),
    ("Conv", 2, {"strides": [2, 1], "pads": [0, 1, 2, 3], "group": 2}),
    ("Conv", 3, {"strides": [1, 2, 1], "pads": [1, 0, 2, 0, 1, 1], "dilations": [1, 1, 2]}),
    ("Conv", 4, {"strides": [1, 2, 1, 2], "pads": [1, 0, 1, 0, 0, 1, 1, 2]}),
    ("ConvTranspose", 1, {"strides": [3], "pads": [1, 2], "output_padding": [2], "group": 2}),
    ("ConvTranspose", 2, {"strides": [2, 3], "pads": [0, 1, 2, 0], "dilations": [1, 2]}),
    ("ConvTranspose", 3, {"strides": [2, 1, 2], "pads": [1, 0, 0, 0, 1, 1], "output_padding": [1, 0, 1]}),
]


@pytest.mark.parametrize(("op_type", "ndim", "attributes"), ONNX)
def test_float32_is_onnx_runtimes(op_type: str, ndim: int, attributes: dict[str, Any]) -> None:
    rng = np.random.default_rng(ndim)
    transposed, groups = op_type == "ConvTranspose", attributes.get("group", 1)
    taps, size = (3, 2, 2, 3)[:ndim], (7, 6, 5, 4)[:ndim]
    channels = (4, 6 // groups) if transposed else (6, 4 // groups)
    kernel = rng.standard_normal((*channels, *taps)).astype("float32")
    bias = rng.standard_normal(6).astype("float32")
    layer = tc.ConvLayer.of(
        kernel,
        bias,
        layout="IO*" if transposed else "OI*",
        stride=attributes["strides"],
        padding=list(zip(attributes["pads"][:ndim], attributes["pads"][ndim:], strict=True)),
        dilation=attributes.get("dilations", 1),
        groups=groups,
        transposed=transposed,
        output_padding=attributes.get("output_padding", 0),
    )
    x = rng.standard_normal((2, 4, *size)).astype("float32")
    model = networks.one_node(op_type, kernel, bias, input_shape=x.shape, kernel_shape=taps, **attributes)
    expected, y = networks.run(model, x), tc.convolve(x, layer)
    assert y.shape == expected.shape
    assert (np.abs(y - expected) <= 2 * rounding_bound(x, layer)).all()
