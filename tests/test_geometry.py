"""Tests of ConvGeometry against torch's layers, jax's and TensorFlow's SAME rule, and plain counting."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import jax
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tensorconv.errors import GeometryError
from tensorconv.geometry import ConvGeometry

FORWARD = {1: torch.nn.Conv1d, 2: torch.nn.Conv2d, 3: torch.nn.Conv3d}
TRANSPOSED = {1: torch.nn.ConvTranspose1d, 2: torch.nn.ConvTranspose2d, 3: torch.nn.ConvTranspose3d}


@st.composite
def torch_attributes(draw: st.DrawFn, *, transposed: bool) -> dict[str, Any]:
    """Draw an input size and the attributes of a torch layer, each its own value per axis."""
    ndim = draw(st.integers(1, 3))

    def axes(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(ndim))

    attributes: dict[str, Any] = {
        "input_size": axes(1, 8),
        "kernel_size": axes(1, 4),
        "stride": axes(1, 3),
        "padding": axes(0, 3),
        "dilation": axes(1, 3),
        "groups": draw(st.sampled_from([1, 2])),
    }
    if transposed:  # torch wants the output padding below the larger of stride and dilation
        limits = zip(attributes["stride"], attributes["dilation"], strict=True)
        attributes["output_padding"] = tuple(draw(st.integers(0, max(pair) - 1)) for pair in limits)
    return attributes


def torch_output_size(layer: type[Any], input_size: tuple[int, ...], **attributes: Any) -> tuple[int, ...] | None:
    """Return the spatial size of what the layer gives, None where torch refuses or gives an empty output."""
    module = layer(2, 4, **attributes)
    try:
        size = tuple(module(torch.zeros(1, 2, *input_size)).shape[2:])
    except RuntimeError:
        return None
    return None if 0 in size else size


def our_output_size(
    input_size: tuple[int, ...], kernel_size: tuple[int, ...], **integers: Any
) -> tuple[int, ...] | None:
    geometry = ConvGeometry.of(len(input_size), **integers)
    try:
        return geometry.output_size(input_size, kernel_size)
    except GeometryError:
        return None


@given(torch_attributes(transposed=False))
@settings(max_examples=150)
def test_output_size_is_that_of_torchs_convolutions(attributes: dict[str, Any]) -> None:
    ndim = len(attributes["input_size"])
    assert our_output_size(**attributes) == torch_output_size(FORWARD[ndim], **attributes)


@given(torch_attributes(transposed=True))
@settings(max_examples=150)
def test_output_size_is_that_of_torchs_transposed_convolutions(attributes: dict[str, Any]) -> None:
    ndim = len(attributes["input_size"])
    assert our_output_size(**attributes, transposed=True) == torch_output_size(TRANSPOSED[ndim], **attributes)


sides = st.tuples(st.integers(-3, 4), st.integers(-3, 4))


@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), sides, st.integers(1, 3))
@example(x=5, k=3, s=2, pad=(0, 0), d=1)
def test_forward_output_size_counts_the_windows_that_fit(x: int, k: int, s: int, pad: tuple[int, int], d: int) -> None:
    padded = x + sum(pad)
    windows = sum(1 for start in range(0, max(padded, 0), s) if start + d * (k - 1) < padded)
    assert (our_output_size((x,), (k,), stride=s, padding=(pad,), dilation=d) or (0,)) == (windows,)


@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), sides, st.integers(1, 3))
@example(x=5, k=3, s=2, pad=(0, -1), d=1)
def test_transposed_output_size_spans_the_written_positions(
    x: int, k: int, s: int, pad: tuple[int, int], d: int
) -> None:
    last = max(s * p + d * j for p in range(x) for j in range(k))
    kept = len(range(pad[0], last + 1 - pad[1]))
    got = our_output_size((x,), (k,), stride=s, padding=(pad,), dilation=d, transposed=True)
    assert (got or (0,)) == (kept,)


@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 4), sides, st.integers(1, 3))
def test_axes_do_not_see_one_another(x: int, k: int, s: int, pad: tuple[int, int], d: int) -> None:
    alone = our_output_size((x,), (k,), stride=s, padding=(pad,), dilation=d)
    beside = our_output_size((4, x, 7), (3, k, 1), stride=(2, s, 3), padding=((1, 0), pad, (0, 0)), dilation=(1, d, 2))
    assert beside == (None if alone is None else (2, alone[0], 3))


def tensorflow_same(x: int, k: int, s: int, d: int) -> tuple[int, int]:
    """Return (before, after) by the remainder form of TensorFlow's documentation, k dilated first."""
    extent = d * (k - 1) + 1
    total = max(extent - s, 0) if x % s == 0 else max(extent - x % s, 0)
    return total // 2, total - total // 2


@given(
    st.lists(
        st.tuples(st.integers(1, 12), st.integers(1, 6), st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=4
    )
)
@settings(max_examples=200)
def test_same_padding_is_tensorflows_and_jaxs(axes: list[tuple[int, int, int, int]]) -> None:
    size, taps, stride, dilation = zip(*axes, strict=True)
    extent = [d * (k - 1) + 1 for k, d in zip(taps, dilation, strict=True)]
    upper = ConvGeometry.same(taps, input_size=size, stride=stride, dilation=dilation)
    lower = ConvGeometry.same(taps, input_size=size, stride=stride, dilation=dilation, extra="low")
    assert list(upper.padding) == [tensorflow_same(*axis) for axis in axes]
    assert list(upper.padding) == jax.lax.padtype_to_pads(size, extent, stride, "SAME")
    assert list(lower.padding) == jax.lax.padtype_to_pads(size, extent, stride, "SAME_LOWER")
    assert (
        upper.output_size(size, taps)
        == lower.output_size(size, taps)
        == tuple(-(-x // s) for x, s in zip(size, stride, strict=True))
    )
    assert (upper.stride, upper.dilation, upper.groups, upper.transposed) == (stride, dilation, 1, False)


@given(st.integers(1, 20), st.integers(1, 7), st.integers(1, 3))
def test_same_padding_at_stride_1_needs_no_input_size(x: int, k: int, d: int) -> None:
    assert ConvGeometry.same((k,), dilation=d) == ConvGeometry.same((k,), input_size=(x,), dilation=d)
    assert ConvGeometry.same((k,), dilation=d).output_size((x,), (k,)) == (x,)


def test_same_keeps_groups() -> None:
    assert ConvGeometry.same((3,), groups=4) == ConvGeometry((1,), ((1, 1),), (1,), groups=4)


def test_of_spells_every_value_out_per_axis() -> None:
    geometry = ConvGeometry.of(3, stride=2, padding=(1, (0, 2), -1), dilation=[1, 2, 3], groups=6)
    assert geometry == ConvGeometry((2, 2, 2), ((1, 1), (0, 2), (-1, -1)), (1, 2, 3), 6, False)
    assert geometry.ndim == 3


def test_output_padding_comes_off_the_high_side() -> None:
    geometry = ConvGeometry.of(2, stride=3, padding=((1, 0), (2, 1)), transposed=True, output_padding=(2, 1))
    assert geometry.padding == ((1, -2), (2, 0))


@pytest.mark.parametrize(
    ("integers", "value"),
    [
        ({"stride": np.int64(2)}, 2),
        ({"stride": np.array([2, 3], np.int8)}, (2, 3)),
        ({"stride": torch.tensor(2)}, 2),
        ({"stride": torch.Size([2, 3])}, (2, 3)),
        ({"padding": np.array([[1, 2], [3, 4]])}, ((1, 2), (3, 4))),
        ({"padding": [[1, 2], [3, 4]]}, ((1, 2), (3, 4))),
        ({"groups": np.uint8(4)}, 4),
    ],
)
def test_any_integer_type_becomes_a_python_int(integers: dict[str, Any], value: Any) -> None:
    geometry = ConvGeometry.of(2, **integers)
    assert geometry == ConvGeometry.of(2, **dict.fromkeys(integers, value))
    flat = [*geometry.stride, *sum(geometry.padding, ()), *geometry.dilation, geometry.groups]
    assert {type(number) for number in flat} == {int}


def test_a_geometry_is_a_value() -> None:
    one, two = (ConvGeometry.of(2, stride=2, padding=((1, 0), 3)) for _ in range(2))
    assert one == two
    assert len({one, two}) == 1
    assert one != ConvGeometry.of(2, stride=2, padding=((0, 1), 3))
    with pytest.raises(FrozenInstanceError):
        one.stride = (1, 1)  # type: ignore[misc]


@pytest.mark.parametrize("transposed", [False, True])
def test_on_axes_splits_the_geometry_between_two_layers(transposed: bool) -> None:
    geometry = ConvGeometry((2, 3, 1), ((1, 0), (2, 1), (0, 3)), (1, 2, 3), groups=4, transposed=transposed)
    first, rest = geometry.on_axes([1], groups=5), geometry.on_axes(iter((0, 2)))
    assert first == ConvGeometry((1, 3, 1), ((0, 0), (2, 1), (0, 0)), (1, 2, 1), 5, transposed)
    assert rest == ConvGeometry((2, 1, 1), ((1, 0), (0, 0), (0, 3)), (1, 1, 3), 1, transposed)
    size = (9, 12, 11)
    between = first.output_size(size, (1, 4, 1))
    assert rest.output_size(between, (3, 1, 2)) == geometry.output_size(size, (3, 4, 2))


@pytest.mark.parametrize(
    ("integers", "pointwise"),
    [
        ({}, True),
        ({"dilation": 2}, True),
        ({"groups": 2}, True),
        ({"stride": (1, 2)}, False),
        ({"padding": (0, (0, 1))}, False),
    ],
)
def test_is_pointwise_reads_every_axis_and_side(integers: dict[str, Any], pointwise: bool) -> None:
    assert ConvGeometry.of(2, **integers).is_pointwise is pointwise


@pytest.mark.parametrize(
    ("integers", "text"),
    [
        ({}, "stride 1, padding 0"),
        ({"stride": (1, 2), "padding": 1}, "stride (1,2), padding 1"),
        ({"padding": ((0, 1), 0), "groups": 3}, "stride 1, padding ((0,1),(0,0)), groups 3"),
        ({"dilation": (1, 2), "transposed": True}, "stride 1, padding 0, dilation (1,2), transposed"),
    ],
)
def test_str_says_what_differs_from_the_plain_convolution(integers: dict[str, Any], text: str) -> None:
    assert str(ConvGeometry.of(2, **integers)) == text


@pytest.mark.parametrize("scalar", [np.array(1.5), np.float32(2), torch.tensor(1.5), jax.numpy.float32(2)])
def test_a_scalar_array_that_is_no_integer_is_refused_as_any_float_is(scalar: Any) -> None:
    with pytest.raises(GeometryError, match="stride must be"):
        ConvGeometry.of(1, stride=scalar)
    with pytest.raises(GeometryError, match="groups must be an integer"):
        ConvGeometry.of(1, groups=scalar)
