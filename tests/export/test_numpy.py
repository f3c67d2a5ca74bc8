"""Tests of the exporter "numpy": bitwise round trips in every layout, and a parser that takes nothing for granted."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from export.sequences import DTYPES, EXTENDED, GEOMETRIES, assert_same, chain, layer

from tensorconv.arrays import Array
from tensorconv.errors import FormatError, KernelError
from tensorconv.export import dump, load
from tensorconv.layers import ConvLayer

LAYOUTS = ["OI*", "IO*", "O*I", "I*O", "*OI", "*IO"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", [*GEOMETRIES, *EXTENDED])
def test_every_geometry_comes_back_bitwise(kind: str, ndim: int, layout: str) -> None:
    sequence = layer(kind, ndim, "float32", bias=ndim % 2 == 0, name="conv ü/1").sequence
    assert_same(load(dump(sequence, "numpy", layout=layout), "numpy"), sequence)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ndim", [1, 4])
def test_a_chain_comes_back_bitwise_in_every_data_type(ndim: int, dtype: str) -> None:
    sequence = chain(ndim, dtype)
    arrays = dump(sequence, "numpy")
    assert sorted(arrays) == [*(f"{i}.kernel" for i in range(4)), "4.bias", "4.kernel", "sequence"]
    assert {array.dtype.name for name, array in arrays.items() if name != "sequence"} == {dtype}
    assert_same(load(arrays, "numpy"), sequence)


def test_the_layout_is_keras_own() -> None:
    kernel = np.arange(24.0).reshape(2, 3, 4)
    arrays = dump(ConvLayer.of(kernel), "numpy", layout="*IO")
    assert arrays["0.kernel"].shape == (4, 3, 2)
    assert arrays["0.kernel"][3, 1, 0] == kernel[0, 1, 3]


def test_the_arrays_own_their_memory() -> None:
    one = layer("plain", 2)
    arrays = dump(one, "numpy")
    arrays["0.kernel"][...] = 0
    arrays["0.bias"][...] = 0
    assert np.all(one.kernel != 0)
    assert one.bias is not None
    assert np.all(one.bias != 0)


def test_arrays_of_the_other_byte_order_are_read() -> None:
    sequence = layer("plain", 1).sequence
    arrays = dump(sequence, "numpy")
    arrays["0.kernel"] = arrays["0.kernel"].astype(">f8")
    assert_same(load(arrays, "numpy"), sequence)


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(KernelError, match="layout must hold O, I and"):
        dump(layer("plain", 1), "numpy", layout="OHWI")


def replaced(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda head: head["layers"][0].update(changes)


BROKEN_TEXTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "newer version": (lambda head: head.update(version=2), "version must be 1, got 2"),
    "version of another type": (lambda head: head.update(version="1"), "version must be of type int"),
    "true as version": (lambda head: head.update(version=True), "version must be of type int"),
    "no version": (lambda head: head.pop("version"), "missing .'version'."),
    "other format": (lambda head: head.update(format="tensors"), "format must be 'tensorconv', got 'tensors'"),
    "extra head field": (lambda head: head.update(author="me"), "unknown .'author'."),
    "layers no list": (lambda head: head.update(layers={}), "layers must be of type list"),
    "no layers": (lambda head: head.update(layers=[]), "not named"),
    "one layer too many": (lambda head: head["layers"].append(head["layers"][0]), "missing .'1.bias', '1.kernel'."),
    "layer no object": (lambda head: head["layers"].append(3), "layer 1 must be a JSON object, got int"),
    "missing field": (lambda head: head["layers"][0].pop("dilation"), "layer 0 .* missing .'dilation'."),
    "extra field": (replaced(padding_mode="reflect"), "unknown .'padding_mode'."),
    "name": (replaced(name=None), "name must be of type str"),
    "dtype": (replaced(dtype="int8"), "dtype must be one of float16.*got 'int8'"),
    "wrong dtype": (replaced(dtype="float32"), "0.kernel must be a float32 array, got float64"),
    "layout": (replaced(layout="OO*"), "layout must hold O, I and"),
    "stride no list": (replaced(stride=2), "stride must be of type list"),
    "stride zero": (replaced(stride=[0, 1]), "stride must be at least 1, got 0"),
    "stride huge text": (replaced(stride=["1", 1]), "stride must be an integer"),
    "fractional stride": (replaced(stride=[1.0, 1]), "stride must be an integer, got 1.0"),
    "true stride": (replaced(stride=[True, 1]), "stride must be an integer, got True"),
    "stride of other length": (replaced(stride=[1]), "padding must be one integer or one"),
    "other number of axes": (
        replaced(stride=[1], padding=[[0, 0]], dilation=[1]),
        "geometry has 1 spatial axes, but the kernel of shape",
    ),
    "padding without pairs": (replaced(padding=[0, 0]), "padding must be .low, high. pairs"),
    "padding of triples": (replaced(padding=[[0, 0, 0], [0, 0]]), "padding must be one integer or one"),
    "fractional padding": (replaced(padding=[[0, 0.5], [0, 0]]), "padding must be an integer, got 0.5"),
    "groups": (replaced(groups=5), "groups must divide the 6 out-channels, got groups=5"),
    "groups zero": (replaced(groups=0), "groups must be at least 1"),
    "transposed": (replaced(transposed=0), "transposed must be of type bool"),
    "bias": (replaced(bias=1), "bias must be of type bool"),
    "bias denied": (replaced(bias=False), "not named .'0.bias'."),
}


@pytest.mark.parametrize("case", BROKEN_TEXTS)
def test_a_wrong_description_is_refused(case: str) -> None:
    change, message = BROKEN_TEXTS[case]
    arrays = dump(layer("plain", 2), "numpy")
    head = json.loads(str(arrays["sequence"]))
    change(head)
    arrays["sequence"] = np.array(json.dumps(head))
    with pytest.raises(FormatError, match=message):
        load(arrays, "numpy")


@pytest.mark.parametrize(
    "text",
    [
        *["", "null", "[]", "{", "\x00", "{} {}", "[" * 100_000, '{"version": 1, "version": 1}', '{"version": 1e9}'],
        '{"format": "tensorconv", "version": 1, "layers": [' + "1" * 5000 + "]}",
    ],
)
def test_a_text_that_is_no_description_is_refused(text: str) -> None:
    arrays = dump(layer("plain", 2), "numpy") | {"sequence": np.array(text)}
    with pytest.raises(FormatError, match=r"description|version"):
        load(arrays, "numpy")


def with_object(array: Array) -> Array:
    return array.astype(object)


BROKEN_ARRAYS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "missing bias": (lambda a: a.pop("0.bias"), "missing .'0.bias'."),
    "extra array": (lambda a: a.update(other=np.zeros(3)), "not named .'other'."),
    "integers": (lambda a: a.update({"0.kernel": np.ones((6, 4, 3, 2), int)}), "must be a float64 array, got int64"),
    "objects": (lambda a: a.update({"0.kernel": with_object(a["0.kernel"])}), "must be a float64 array, got object"),
    "a list": (lambda a: a.update({"0.bias": [1.0] * 6}), "0.bias must be a float64 array, got list"),
    "a matrix": (lambda a: a.update({"0.kernel": np.ones((6, 4))}), "at least 3 axes, got shape"),
    "an axis too many": (lambda a: a.update({"0.kernel": np.ones((6, 4, 1, 1, 1))}), "geometry has 2 spatial axes"),
    "an empty kernel": (lambda a: a.update({"0.kernel": np.ones((6, 0, 3, 2))}), "kernel must not be empty"),
    "short bias": (lambda a: a.update({"0.bias": np.ones(5)}), "bias must have shape .6,."),
    "NaN": (lambda a: a["0.kernel"].fill(np.nan), "kernel must hold finite numbers"),
    "no text": (lambda a: a.pop("sequence"), "a 0-d array of JSON text"),
    "two texts": (lambda a: a.update(sequence=np.array(["a", "b"])), "a 0-d array of JSON text"),
    "number as text": (lambda a: a.update(sequence=np.array(1.0)), "a 0-d array of JSON text"),
}


@pytest.mark.parametrize("case", BROKEN_ARRAYS)
def test_arrays_that_do_not_fit_are_refused(case: str) -> None:
    change, message = BROKEN_ARRAYS[case]
    arrays = dump(layer("plain", 2), "numpy")
    change(arrays)
    with pytest.raises(FormatError, match=message):
        load(arrays, "numpy")


def test_layers_that_do_not_chain_are_refused() -> None:
    arrays = dump(chain(1), "numpy")
    arrays["1.kernel"] = arrays["1.kernel"][:, :1]
    with pytest.raises(FormatError, match="layer 1 takes 2 channels, layer 0 gives 4"):
        load(arrays, "numpy")


def test_only_a_dict_is_read() -> None:
    with pytest.raises(FormatError, match="obj must be a dict of arrays, got list"):
        load([1, 2], "numpy")
