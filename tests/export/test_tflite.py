"""Tests of the exporter "tflite": arrays entry by entry in the layouts of TensorFlow Lite's operators."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from export.sequences import DTYPES, EXTENDED, GEOMETRIES, assert_same, layer, padded

from tensorconv.errors import UnsupportedExportError
from tensorconv.export import dump, load
from tensorconv.layers import ConvLayer

INDICES: dict[str, Callable[..., tuple[int, ...]]] = {
    "O*I": lambda o, i, *k: (o, *k, i),
    "I*O": lambda o, i, *k: (i, *k, o),
    "*IO": lambda o, i, *k: (*k, i, o),
    "*OI": lambda o, i, *k: (*k, o, i),
}


@pytest.mark.parametrize(
    ("ndim", "options", "layout"),
    [
        (2, {}, "O*I"),
        (2, {"groups": 2}, "O*I"),
        (2, {"groups": 6}, "I*O"),
        (2, {"transposed": True, "stride": 2}, "O*I"),
        (3, {}, "*IO"),
        (3, {"transposed": True, "dilation": 2}, "*OI"),
    ],
)
def test_each_kernel_has_the_layout_of_its_operator(ndim: int, options: dict[str, Any], layout: str) -> None:
    shape = (6, 6 // options.get("groups", 1), 2, 3, 4)[: ndim + 2]
    kernel = np.arange(float(np.prod(shape))).reshape(shape)
    arrays = dump(ConvLayer.of(kernel, **options), "tflite")
    assert json.loads(str(arrays["sequence"]))["layers"][0]["layout"] == layout
    for at in itertools.product(*map(range, shape)):
        assert arrays["0.kernel"][INDICES[layout](*at)] == kernel[at]


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("kind", [*GEOMETRIES, *EXTENDED])
def test_every_geometry_comes_back_bitwise_or_is_refused(kind: str, ndim: int) -> None:
    one = layer(kind, ndim, "float32", name="conv ü/1")
    geometry = one.geometry
    if geometry.groups > 1 and (geometry.transposed or ndim == 3):
        message = "has no groups in transposed and 3-D convolutions, got [24]; write one layer per group"
    elif geometry.transposed and max(geometry.dilation) > 1 and ndim == 2:
        message = r"TRANSPOSE_CONV has no dilation, got \(.*with zeros between its taps"
    else:
        assert_same(load(dump(one, "tflite"), "tflite"), one.sequence)
        return
    with pytest.raises(UnsupportedExportError, match=message):
        dump(one, "tflite")


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_data_type_comes_back_bitwise(dtype: str) -> None:
    one = layer("depthwise", 2, dtype)
    assert_same(load(dump(one, "tflite"), "tflite"), one.sequence)


@pytest.mark.parametrize("ndim", [1, 4])
def test_other_numbers_of_axes_are_refused(ndim: int) -> None:
    with pytest.raises(UnsupportedExportError, match=f"over 2 or 3 spatial axes, got {ndim}; give a layer over one"):
        dump(layer("plain", ndim), "tflite")


def test_padding_by_reflection_alone_is_said() -> None:
    assert_same(load(dump(padded(2, "reflect"), "tflite"), "tflite"), padded(2, "reflect"))
    with pytest.raises(UnsupportedExportError, match="TensorFlow Lite pads by reflection, got replicate padding"):
        dump(padded(2, "replicate"), "tflite")
