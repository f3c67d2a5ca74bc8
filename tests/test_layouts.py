"""Tests of the kernel layouts: each framework's own numbers, every order of the axes, and the way back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import keras
import numpy as np
import pytest
import torch
from test_layers import executed, small_integers

from tensorconv.arrays import Array
from tensorconv.errors import GeometryError
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import ConvLayer, from_layout, swap_channels, to_layout

LAYOUTS = ["OI*", "IO*", "O*I", "I*O", "*OI", "*IO"]
CONVOLUTIONS: dict[tuple[int, bool], Any] = {
    (1, False): torch.nn.functional.conv1d,
    (2, False): torch.nn.functional.conv2d,
    (3, False): torch.nn.functional.conv3d,
    (1, True): torch.nn.functional.conv_transpose1d,
    (2, True): torch.nn.functional.conv_transpose2d,
    (3, True): torch.nn.functional.conv_transpose3d,
}


def ordered(layout: str, axes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Return the integers of O, I and * in the order of a layout."""
    return tuple(integer for letter in layout for integer in axes[letter])


def coded(shape: tuple[int, ...]) -> Array:
    """Return an array whose every entry says where it stands: one decimal digit per axis."""
    array = np.zeros(shape)
    for index in np.ndindex(shape):
        array[index] = code(*index)
    return array


def code(*index: int) -> float:
    return float("".join(map(str, index)))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_a_torch_weight_with_its_integers_is_the_layer(ndim: int, groups: int, transposed: bool) -> None:
    size = (3, 2, 4)[:ndim]
    channels = (2 * groups, 4) if transposed else (4 * groups, 2)  # torch: (I, O/G) transposed, (O, I/G) forward
    weight, x = small_integers(*channels, *size), small_integers(2 * groups, *(5, 6, 4)[:ndim], seed=1)
    integers: dict[str, Any] = {"stride": (2, 1, 3)[:ndim], "padding": (1, 0, 2)[:ndim], "dilation": (1, 2, 1)[:ndim]}
    if transposed:
        integers["output_padding"] = (1, 0, 2)[:ndim]
    bias = small_integers(4 * groups, seed=2)
    layer = ConvLayer.of(
        weight, bias, **integers, groups=groups, transposed=transposed, layout="IO*" if transposed else "OI*"
    )
    tensors = [torch.from_numpy(array) for array in (x[None], weight, bias)]
    torchs = CONVOLUTIONS[ndim, transposed](*tensors, **integers, groups=groups)[0].numpy()
    assert (layer.in_channels, layer.out_channels, layer.kernel_size) == (2 * groups, 4 * groups, size)
    np.testing.assert_array_equal(executed(layer, x), torchs)


def test_a_keras_kernel_is_read_as_jax_reads_it() -> None:
    kernel, x = small_integers(3, 2, 2, 6).astype("float32"), small_integers(4, 7, 6, seed=1).astype("float32")
    layer = ConvLayer.of(kernel, layout="*IO", stride=(2, 1), padding=((1, 0), (0, 2)), dilation=(1, 2), groups=2)
    jaxs = jax.lax.conv_general_dilated(
        jax.numpy.asarray(np.moveaxis(x, 0, -1)[None]),
        jax.numpy.asarray(kernel),
        window_strides=(2, 1),
        padding=((1, 0), (0, 2)),
        rhs_dilation=(1, 2),
        feature_group_count=2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    np.testing.assert_array_equal(executed(layer, x), np.moveaxis(np.asarray(jaxs)[0], -1, 0))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("size", [(3,), (3, 4), (3, 4, 2)])
def test_every_layout_puts_each_entry_where_its_letters_say(
    layout: str, transposed: bool, size: tuple[int, ...]
) -> None:
    array = np.zeros(ordered(layout, {"O": (5,), "I": (2,), "*": size}))
    for o, i, *k in np.ndindex(5, 2, *size):
        array[ordered(layout, {"O": (o,), "I": (i,), "*": tuple(k)})] = code(o, i, *k)
    kernel = ConvLayer.of(array, layout=layout, transposed=transposed).kernel
    np.testing.assert_array_equal(kernel, coded((5, 2, *size)))


@pytest.mark.parametrize("layout", ["IO*", "I*O", "*IO"])
def test_grouped_transposed_kernels_with_i_first_hold_all_inputs_and_one_groups_outputs(layout: str) -> None:
    groups, n_in, n_out, size = 3, 2, 4, (3, 2)  # channels per group
    array = coded((groups * n_in, n_out, *size)).transpose(ordered(layout, {"I": (0,), "O": (1,), "*": (2, 3)}))
    kernel = ConvLayer.of(array, layout=layout, groups=groups, transposed=True).kernel
    assert kernel.shape == (groups * n_out, n_in, *size)
    for g, o, i, *k in np.ndindex(groups, n_out, n_in, *size):
        assert kernel[(g * n_out + o, i, *k)] == code(g * n_in + i, o, *k)


@pytest.mark.parametrize("layout", ["OI*", "O*I", "*OI"])
def test_grouped_transposed_kernels_with_o_first_are_transposed_only(layout: str) -> None:
    array = coded((6, 2, 3, 2)).transpose(ordered(layout, {"O": (0,), "I": (1,), "*": (2, 3)}))
    kernel = ConvLayer.of(array, layout=layout, groups=3, transposed=True).kernel
    np.testing.assert_array_equal(kernel, coded((6, 2, 3, 2)))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("size", [(3,), (3, 2), (2, 3, 4), (2, 1, 3, 2)])
def test_from_layout_and_to_layout_undo_one_another(
    layout: str, groups: int, transposed: bool, size: tuple[int, ...]
) -> None:
    geometry = ConvGeometry.of(len(size), groups=groups, transposed=transposed)
    layer = ConvLayer(small_integers(4 * groups, 5, *size), geometry)
    array = to_layout(layer.kernel, layout, layer.geometry)
    assert array.flags.c_contiguous
    assert array.size == layer.kernel.size
    np.testing.assert_array_equal(from_layout(array, layout, geometry), layer.kernel)
    again = ConvLayer.of(array, groups=groups, transposed=transposed, layout=layout)
    np.testing.assert_array_equal(again.kernel, layer.kernel)
    np.testing.assert_array_equal(to_layout(again.kernel, layout, again.geometry), array)


def test_to_layout_gives_torchs_shapes() -> None:
    kernel = small_integers(6, 2, 3, 4)
    forward = ConvLayer.of(kernel, groups=2)
    transposed = ConvLayer.of(kernel, groups=2, transposed=True)
    assert (
        to_layout(forward.kernel, "OI*", forward.geometry).shape == torch.nn.Conv2d(4, 6, (3, 4), groups=2).weight.shape
    )
    assert (
        to_layout(transposed.kernel, "IO*", transposed.geometry).shape
        == torch.nn.ConvTranspose2d(4, 6, (3, 4), groups=2).weight.shape
    )
    assert to_layout(forward.kernel, "*IO", forward.geometry).shape == (3, 4, 2, 6)
    assert to_layout(transposed.kernel, "*OI", transposed.geometry).shape == (3, 4, 6, 2)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_swap_channels_undoes_itself(groups: int) -> None:
    kernel = small_integers(8, 3, 2)
    swapped = swap_channels(kernel, groups)
    assert swapped.shape == (3 * groups, 8 // groups, 2)
    np.testing.assert_array_equal(swap_channels(swapped, groups), kernel)


def test_trained_kernels_are_read_in_the_layout_they_were_stored_in(trained_kernels: Path) -> None:
    entries = json.loads((trained_kernels / "index.json").read_text())
    for entry in entries:
        layout = entry["layout"][:2] + "*"
        with np.load(trained_kernels / entry["file"]) as arrays:
            stored = arrays["weight"]
        layer = ConvLayer.of(stored, groups=entry["groups"], transposed=entry["transposed"], layout=layout)
        assert to_layout(layer.kernel, layout, layer.geometry).tobytes() == np.ascontiguousarray(stored).tobytes()


@pytest.mark.parametrize("layout", ["*ID", "ID*", "DI*", "D*I"])
def test_a_depthwise_kernel_by_multiplier_has_its_channels_in_order(layout: str) -> None:
    array = coded((3, 2, 4, 5)).transpose(ordered(layout, {"I": (0,), "D": (1,), "*": (2, 3)}))
    layer = ConvLayer.of(array, layout=layout, groups=3)
    assert layer.kernel.shape == (6, 1, 4, 5)
    for i, d, *k in np.ndindex(3, 2, 4, 5):
        assert layer.kernel[(i * 2 + d, 0, *k)] == code(i, d, *k)
    back = to_layout(layer.kernel, layout, layer.geometry)
    assert back.flags.c_contiguous
    np.testing.assert_array_equal(back, array)


def test_a_keras_depthwise_kernel_is_read_as_keras_applies_it() -> None:
    kernel, x = small_integers(3, 2, 4, 2).astype("float32"), small_integers(4, 7, 6, seed=1).astype("float32")
    layer = ConvLayer.of(kernel, layout="*ID", stride=2, groups=4)
    y = keras.ops.depthwise_conv(np.moveaxis(x, 0, -1)[None], kernel, 2, "valid", data_format="channels_last")
    np.testing.assert_array_equal(executed(layer, x), np.moveaxis(np.asarray(y)[0], -1, 0))


def test_a_multiplier_without_a_group_per_channel_is_refused() -> None:
    with pytest.raises(GeometryError, match=r"layout '\*ID' is for depthwise kernels, .* groups must be 4, got 2"):
        ConvLayer.of(np.ones((3, 4, 2)), layout="*ID", groups=2)
    layer = ConvLayer.of(np.ones((4, 2, 3)), groups=2)
    with pytest.raises(GeometryError, match="groups must be 4, got 2"):
        to_layout(layer.kernel, "*ID", layer.geometry)
