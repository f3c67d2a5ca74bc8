"""Tests of the exporter "tensorflow": arrays in the layouts that TensorFlow's operators, as Keras has them, take."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from export.runtimes import run_tensorflow
from export.sequences import DTYPES, EXTENDED, GEOMETRIES, assert_same, chain, data, layer, padded
from oracles import reference_bound, reference_sequence

from tensorconv.errors import FormatError, UnsupportedExportError
from tensorconv.export import dump, load
from tensorconv.layers import ConvLayer

FLOAT32, FLOAT64 = 2.0**-24, 2.0**-53


def says(one: ConvLayer) -> bool:
    return not (one.geometry.transposed and one.geometry.groups > 1)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("kind", [*GEOMETRIES, *EXTENDED])
def test_tensorflows_operators_compute_the_layer_and_it_comes_back(kind: str, ndim: int) -> None:
    one = layer(kind, ndim, "float32", name="conv ü/1")
    if not says(one):
        with pytest.raises(UnsupportedExportError, match=r"transposed convolution has no groups, got [24]; write one"):
            dump(one, "tensorflow")
        return
    arrays, x = dump(one, "tensorflow"), data(ndim, "float32")
    y = run_tensorflow(arrays, x)
    expected = reference_sequence(x, one.sequence)
    assert y.shape == expected.shape
    # the operators round in float32, the reference in float64
    assert np.all(np.abs(y - expected) <= reference_bound(x, one.sequence, [FLOAT32, FLOAT64]))
    assert_same(load(arrays, "tensorflow"), one.sequence)


def test_each_kernel_has_the_layout_of_its_operator() -> None:
    kernel = np.arange(6 * 2 * 3 * 4.0).reshape(6, 2, 3, 4)
    for options, layout, index in [
        ({"groups": 2}, "*IO", lambda o, i, *k: (*k, i, o)),
        ({"transposed": True}, "*OI", lambda o, i, *k: (*k, o, i)),
    ]:
        arrays = dump(ConvLayer.of(kernel, **options), "tensorflow")  # type: ignore[arg-type]
        assert json.loads(str(arrays["sequence"]))["layers"][0]["layout"] == layout
        for at in itertools.product(*map(range, kernel.shape)):
            assert arrays["0.kernel"][index(*at)] == kernel[at]  # type: ignore[no-untyped-call]
    depthwise = dump(ConvLayer.of(kernel.reshape(12, 1, 3, 4), groups=4), "tensorflow")["0.kernel"]
    assert depthwise.shape == (3, 4, 4, 3)
    assert depthwise[2, 1, 3, 1] == kernel.reshape(12, 3, 4)[3 * 3 + 1, 2, 1]  # out-channel i * D + d


def test_a_depthwise_layer_with_unequal_strides_is_a_grouped_one() -> None:
    arrays = dump(ConvLayer.of(np.ones((8, 1, 3, 3)), groups=4, stride=(2, 1)), "tensorflow")
    assert arrays["0.kernel"].shape == (3, 3, 1, 8)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_data_type_comes_back_bitwise(dtype: str) -> None:
    one = layer("depthwise", 2, dtype)
    assert_same(load(dump(one, "tensorflow"), "tensorflow"), one.sequence)


def test_what_tensorflow_has_not_is_refused() -> None:
    with pytest.raises(UnsupportedExportError, match=r"over 1 to 3 spatial axes, got 4; export to \"onnx\""):
        dump(layer("plain", 4), "tensorflow")
    with pytest.raises(UnsupportedExportError, match="TensorFlow pads by reflection, got circular padding"):
        dump(padded(2, "circular"), "tensorflow")
    assert_same(load(dump(padded(2, "reflect"), "tensorflow"), "tensorflow"), padded(2, "reflect"))
    with pytest.raises(FormatError, match="obj must be a dict of arrays"):
        load([1, 2], "tensorflow")
    with pytest.raises(UnsupportedExportError, match="transposed convolution has no groups"):
        dump(chain(2), "tensorflow")
