"""Tests of the exporter "onnx": two runtimes compute what the sequence says, and the model gives it back bitwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from export.runtimes import FLOAT32, FLOAT64, assert_onnx_computes, run_onnx
from export.sequences import DTYPES, EXTENDED, GEOMETRIES, assert_same, chain, data, layer
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from oracles import reference_bound, reference_sequence

from tensorconv.errors import UnsupportedExportError
from tensorconv.export import dump, load
from tensorconv.export.onnx import nodes
from tensorconv.layers import ConvLayer, ConvSequence


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", [*GEOMETRIES, *EXTENDED])
def test_onnxruntime_computes_the_layer_and_gives_it_back(kind: str, ndim: int, bias: bool) -> None:
    sequence = layer(kind, ndim, "float32", bias=bias, name="conv1").sequence
    model = dump(sequence, "onnx")
    onnx.checker.check_model(model, full_check=True)
    assert_onnx_computes(model, sequence, data(ndim, "float32"))
    assert_same(load(model, "onnx"), sequence)


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_onnxruntime_computes_a_chain_and_gives_it_back(ndim: int) -> None:
    sequence = chain(ndim, "float32")
    model = dump(sequence, "onnx")
    onnx.checker.check_model(model, full_check=True)
    assert_onnx_computes(model, sequence, data(ndim, "float32"))
    assert_same(load(model, "onnx"), sequence)


# onnx's own evaluator, the only runtime with float64, knows no negative pads and fails on grouped transposed nodes
EVALUATED = ["plain", "unequal", "asymmetric", "grouped", "depthwise", "transposed"]


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("kind", EVALUATED)
def test_the_reference_evaluator_agrees_in_float64(kind: str, ndim: int) -> None:
    sequence = layer(kind, ndim).sequence
    x = data(ndim)
    y = ReferenceEvaluator(dump(sequence, "onnx")).run(None, {"input": x})[0]
    expected = reference_sequence(x, sequence)
    assert y.shape == expected.shape
    # both round in float64
    assert np.all(np.abs(y - expected) <= reference_bound(x, sequence, [FLOAT64, FLOAT64]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_every_data_type_is_a_valid_model_and_comes_back_bitwise(tmp_path: Path, ndim: int, dtype: str) -> None:
    sequence = chain(ndim, dtype)
    model = dump(sequence, "onnx")
    onnx.checker.check_model(model, full_check=True)
    assert_same(load(model, "onnx"), sequence)
    assert_same(load(model.SerializeToString(), "onnx"), sequence)
    path = tmp_path / "any name"
    path.write_bytes(model.SerializeToString())
    assert_same(load(path, "onnx"), sequence)


@pytest.mark.parametrize("opset", [11, 13, 17, 18, 22])
def test_every_operator_set_from_11_on_is_run(opset: int) -> None:
    sequence = chain(2, "float32")
    model = dump(sequence, "onnx", opset=opset)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == opset
    assert_onnx_computes(model, sequence, data(2, "float32"))
    assert_same(load(model, "onnx"), sequence)


def test_the_default_is_old_enough_for_the_runtimes_of_the_last_years() -> None:
    model = dump(layer("plain", 2, "float32"), "onnx")
    assert (model.opset_import[0].version, model.ir_version) == (17, 8)
    assert dump(layer("plain", 2, "bfloat16"), "onnx").opset_import[0].version == 22


@pytest.mark.parametrize(("dtype", "opset"), [("float32", 10), ("float32", 10_000), ("bfloat16", 21)])
def test_an_operator_set_without_the_type_is_refused(dtype: str, opset: int) -> None:
    with pytest.raises(UnsupportedExportError, match=f"opset must be from .*the first for {dtype}.* got {opset}"):
        dump(layer("plain", 2, dtype), "onnx", opset=opset)


def test_batch_and_spatial_sizes_are_free() -> None:
    sequence = layer("unequal", 2, "float32").sequence
    model = dump(sequence, "onnx")
    for shape in [(1, 4, 7, 6), (3, 4, 9, 5)]:
        assert_onnx_computes(model, sequence, np.ones(shape, "float32"))
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [0, 4, 0, 0]
    assert [d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim] == [0, 6, 0, 0]


def test_the_kernels_stand_as_onnx_wants_them() -> None:
    kernel = np.arange(6 * 2 * 3, dtype="float32").reshape(6, 2, 3)  # (O, I/G, K) with 2 groups of 3 and 2 channels
    forward = numpy_helper.to_array(dump(ConvLayer.of(kernel, groups=2), "onnx").graph.initializer[0])
    np.testing.assert_array_equal(forward, kernel)
    model = dump(ConvLayer.of(kernel, groups=2, transposed=True), "onnx")
    backward = numpy_helper.to_array(model.graph.initializer[0])
    assert backward.shape == (4, 3, 3)  # (I, O/G, K)
    # in-channel 3 is the second of group 1; its out-channel 2 is out-channel 3 + 2 of all
    assert backward[3, 2, 1] == kernel[5, 1, 1]
    impulse = np.zeros((1, 4, 1), "float32")
    impulse[0, 3] = 1
    np.testing.assert_array_equal(run_onnx(model, impulse)[0, 5], kernel[5, 1])


def test_padding_is_explicit_and_begins_before_it_ends() -> None:
    model = dump(layer("asymmetric", 2, "float32"), "onnx")
    attributes = {a.name: helper.get_attribute_value(a) for a in model.graph.node[0].attribute}
    assert attributes["pads"] == [0, 3, 2, 1]
    assert "auto_pad" not in attributes
    transposed = dump(layer("output_padding", 2, "float32"), "onnx")
    attributes = {a.name: helper.get_attribute_value(a) for a in transposed.graph.node[0].attribute}
    assert (attributes["pads"], attributes["output_padding"]) == ([1, 2, 0, 0], [0, 0])


def test_names_are_the_nodes_names_where_they_differ() -> None:
    kernel = np.ones((1, 1, 1), "float32")
    names = ["stem/conv", "twice", "twice", "", ""]
    sequence = ConvSequence(tuple(ConvLayer.of(kernel, name=name) for name in names))
    model = dump(sequence, "onnx")
    assert [node.name for node in model.graph.node] == ["stem/conv", "", "", "", ""]
    assert_onnx_computes(model, sequence, np.ones((1, 1, 3), "float32"))


def test_nodes_are_spliced_into_a_network() -> None:
    sequence = chain(2, "float32")
    inner, initializers = nodes(sequence, "a", "b", "conv7/")
    x = data(2, "float32")
    outside = [helper.make_node("Relu", ["x"], ["a"], name="first"), helper.make_node("Neg", ["b"], ["y"], name="last")]
    graph = helper.make_graph(
        [outside[0], *inner, outside[1]],
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3, None, None])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    positive = np.maximum(x, 0)
    error = np.abs(-run_onnx(model, x) - reference_sequence(positive, sequence))
    assert np.all(error <= reference_bound(positive, sequence, [FLOAT32, FLOAT64]))  # negation and maximum are exact
    between = {name for node in inner for name in node.output} - {"b"}
    assert all(name.startswith("conv7/") for name in between | {tensor.name for tensor in initializers})
    named = [node.name for node in inner if node.op_type.startswith("Conv")]
    assert named == ["conv7/squeeze", "conv7/1", "conv7/core.3", "conv7/grow", "conv7/4"]
