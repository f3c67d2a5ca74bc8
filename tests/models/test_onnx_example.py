"""An example of a network's inputs: seeded, of the sizes that are fixed, given, or found by trying."""

from __future__ import annotations

import numpy as np
import pytest
from models.onnx_graphs import model, node, small, whole
from onnx import TensorProto, helper

from tensorconv.errors import ModelError
from tensorconv.models.onnx_network import OnnxNetwork

OPEN = {"w": whole((4, 3, 1, 1))}


def opened(shape, **attributes):
    return model([node("Conv", "x w", "y", **attributes)], {"x": shape}, "y", OPEN)


def test_it_is_seeded_and_normal():
    first, second = (OnnxNetwork.read(small(size=(64, 64))).example["x"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    n = first.size
    assert abs(first.mean()) < 5 / np.sqrt(n)  # five standard errors of mean and variance of normal numbers
    assert abs(first.var() - 1) < 5 * np.sqrt(2 / n)


@pytest.mark.parametrize(
    ("shape", "input_size", "wanted"),
    [
        (["b", 3, "h", "w"], None, (1, 3, 224, 224)),
        ([-1, 3, "?", "?"], 20, (1, 3, 20, 20)),
        (["b", 3, "h", "w"], (5, 6), (1, 3, 5, 6)),
        ([2, 3, 7, "w"], (7, 6), (2, 3, 7, 6)),
        ([2, 3, 7, "w"], None, (2, 3, 7, 224)),
        (["b", "c", "h", "w"], None, (1, 3, 224, 224)),
    ],
)
def test_open_sizes(shape, input_size, wanted):
    network = OnnxNetwork.read(opened(shape), input_size=input_size)
    assert network.example["x"].shape == wanted
    assert network.sites[0].input_sizes == (wanted[2:],)


def test_channels_last():
    nodes = [node("Transpose", "x", "t", perm=[0, 3, 1, 2]), node("Conv", "t w", "y")]
    network = OnnxNetwork.read(model(nodes, {"x": ["b", "h", "w", 3]}, "y", OPEN), input_size=(5, 6))
    assert network.example["x"].shape == (1, 5, 6, 3)
    assert network.sites[0].input_sizes == ((5, 6),)


def test_the_first_size_that_runs_is_taken():
    nodes = [node("Conv", "x w", "c"), node("Reshape", "c shape", "y")]
    made = model(nodes, {"x": ["b", 3, "h", "w"]}, "y", {**OPEN, "shape": np.array([1, 4, 28 * 28])})
    assert OnnxNetwork.read(made).example["x"].shape == (1, 3, 28, 28)
    made.graph.initializer[1].CopyFrom(helper.make_tensor("shape", TensorProto.INT64, [3], [1, 4, 31 * 31]))
    with pytest.raises(
        ModelError,
        match=r"leaves the size of its input open and runs with none of 224, 64, .*give input_size. At 224: ONNX",
    ):
        OnnxNetwork.read(made).example  # noqa: B018
    assert OnnxNetwork.read(made, input_size=31).sites[0].input_sizes == ((31, 31),)


def test_integers_are_ones():
    made = model(
        [node("Gather", "table index", "rows"), node("Conv", "rows w", "y")],
        {},
        "y",
        {"table": whole((4, 3, 5, 5)), **OPEN},
    )
    made.graph.input.append(helper.make_tensor_value_info("index", TensorProto.INT64, ["b"]))
    network = OnnxNetwork.read(made)
    assert network.example["index"].tolist() == [1]
    assert network.example["index"].dtype == np.int64
    assert network.sites[0].input_sizes == ((5, 5),)


@pytest.mark.parametrize(
    ("input_size", "message"),
    [
        ((9, 9), r"input_size \(9, 9\) contradicts the network, whose input 'x' has the shape \(any, 3, 8, 8\)"),
        ((8,), r"input_size \(8,\) has 1 spatial axes, no input of the network has: 'x' \(any, 3, 8, 8\)"),
        (0, "input_size must be at least 1, got 0"),
        (2.5, "input_size must be an integer, got 2.5"),
        ((8, -1), "input_size must"),
    ],
)
def test_sizes_that_do_not_fit(input_size, message):
    with pytest.raises(ModelError, match=message):
        OnnxNetwork.read(small(), input_size=input_size).example  # noqa: B018


def test_absurd_sizes_take_no_memory():
    with pytest.raises(
        ModelError, match=r"an example of the inputs, \(1, 3, 1000000, 1000000\), would have 12000000000000 bytes"
    ):
        OnnxNetwork.read(opened([1, 3, 10**6, 10**6])).example  # noqa: B018
    wide = OnnxNetwork.read(opened([1, 3, 5, 5], pads=[0, 0, 2**17, 2**17]))
    with pytest.raises(
        ModelError, match=r"the value 'y' of the network would have shape \(1, 4, 131077, 131077\), more than"
    ):
        wide.run(wide.example)
    assert [s.input_sizes for s in wide.sites] == [((5, 5),)]
