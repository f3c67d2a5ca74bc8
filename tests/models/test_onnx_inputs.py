"""What an ONNX network must be given: data of the user checked, by name or alone, split where the batch is fixed."""

from __future__ import annotations

import numpy as np
import pytest
from models.onnx_graphs import model, node, small, whole
from onnx import TensorProto, helper

from tensorconv.errors import ModelError
from tensorconv.models.onnx_inputs import check_batches, read_inputs
from tensorconv.models.onnx_network import OnnxNetwork


def two_inputs(batch: int | str = "batch"):
    made = model([node("Add", "x z", "y")], {"x": [batch, 3, 8], "z": [batch, 3, 8]}, "y", {})
    flag = helper.make_tensor_value_info("flag", TensorProto.INT64, ["batch"])
    made.graph.input.append(flag)
    return made


def test_inputs_are_read_without_stored_ones():
    (only,) = read_inputs(small(8))
    assert (only.name, only.dtype, only.shape) == ("x", np.dtype("float32"), (None, 3, 8, 8))


def test_open_channels_are_those_of_the_convolution():
    for kind, shape, group, channels in (("Conv", (4, 2, 3), 2, 4), ("ConvTranspose", (4, 2, 3), 2, 4)):
        made = model([node(kind, "x w", "y", group=group)], {"x": None}, "y", {"w": whole(shape)})
        made.graph.input[0].type.tensor_type.ClearField("shape")
        assert read_inputs(made)[0].shape == (None, channels, None)
        assert OnnxNetwork.read(made).example["x"].shape == (1, channels, 224)


def test_an_input_must_be_a_tensor_of_numbers():
    made = model([node("Relu", "x", "y")], {"x": [1, 2]}, "y", {})
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING
    with pytest.raises(
        ModelError, match=r"input 'x' of the network must be a tensor of numbers with a known number of axes"
    ):
        read_inputs(made)


def test_one_batch_or_several():
    inputs = read_inputs(small())
    x = np.ones((2, 3, 8, 8))
    for data, count in ((x, 1), ({"x": x}, 1), ([x, {"x": x}, x], 3), ((x,), 1)):
        batches = check_batches(inputs, data)
        assert [batch["x"].dtype.name for batch in batches] == ["float32"] * count


def test_several_inputs_by_name():
    inputs = read_inputs(two_inputs())
    x, flag = np.ones((2, 3, 8), "float32"), np.array([1, 0])
    (batch,) = check_batches(inputs, {"x": x, "z": x, "flag": flag})
    assert [value.dtype.name for value in batch.values()] == ["float32", "float32", "int64"]
    with pytest.raises(ModelError, match=r"data must be mappings by name, since the network has 3 inputs: x, z, flag"):
        check_batches(inputs, x)
    with pytest.raises(ModelError, match=r"data must have the inputs x, z, flag, got x, q"):
        check_batches(inputs, {"x": x, "q": x})
    with pytest.raises(ModelError, match=r"data for input 'flag' must be of type int64, got float64"):
        check_batches(inputs, {"x": x, "z": x, "flag": np.array([1.0, 0.0])})


def test_a_fixed_batch_splits_multiples():
    inputs = read_inputs(model([node("Relu", "x", "y")], {"x": [2, 3]}, "y", {}))
    batches = check_batches(inputs, np.arange(12.0).reshape(4, 3))
    np.testing.assert_array_equal(np.concatenate([batch["x"] for batch in batches]), np.arange(12).reshape(4, 3))
    assert [batch["x"].shape for batch in batches] == [(2, 3), (2, 3)]
    with pytest.raises(ModelError, match=r"data for input 'x' must have the shape \(2, 3\), got \(3, 3\)"):
        check_batches(inputs, np.ones((3, 3)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "data holds no batch; give an array, several by name, or a list of either"),
        (np.ones((2, 3, 8)), r"must have the shape \(any, 3, 8, 8\), got \(2, 3, 8\)"),
        (np.ones((2, 4, 8, 8)), r"must have the shape \(any, 3, 8, 8\), got \(2, 4, 8, 8\)"),
        (np.full((1, 3, 8, 8), np.nan), "data for input 'x' must hold finite numbers only"),
        (np.full((1, 3, 8, 8), 1e39), "data for input 'x' as float32 must hold finite numbers only"),
        (np.ones((1, 3, 8, 8), int), "data for input 'x' must be of a real floating-point type"),
        (np.ones((0, 3, 8, 8)), "data for input 'x' must not be empty"),
        ("text", "data for input 'x' must be of a real floating-point type"),
    ],
)
def test_data_that_do_not_fit(data, message):
    with pytest.raises(ModelError, match=message):
        check_batches(read_inputs(small()), data)
