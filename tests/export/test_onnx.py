"""Tests of the exporter "onnx": two runtimes compute what the sequence says, and the model gives it back bitwise."""

from __future__ import annotations

import itertools
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from export.runtimes import FLOAT32, FLOAT64, assert_onnx_computes, run_onnx
from export.sequences import DTYPES, EXTENDED, GEOMETRIES, assert_same, chain, data, layer, padded
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument
from oracles import reference_bound, reference_sequence

from tensorconv.errors import UnsupportedExportError
from tensorconv.export import dump, load
from tensorconv.export.onnx import nodes
from tensorconv.layers import ConvLayer, ConvSequence, PadLayer


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


MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}  # ours and ONNX's


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_padding_by_values_is_a_pad_node(ndim: int, mode: str) -> None:
    sequence = padded(ndim, mode, "float32")
    model = dump(sequence, "onnx")
    onnx.checker.check_model(model, full_check=True)
    assert_onnx_computes(model, sequence, data(ndim, "float32"))
    assert_same(load(model, "onnx"), sequence)
    pads = [node for node in model.graph.node if node.op_type == "Pad"]
    assert [node.name for node in pads] == ["border", ""]
    assert {a.s.decode() for node in pads for a in node.attribute} == {MODES[mode]}


def test_padding_by_values_meets_every_padding_step() -> None:
    rng = np.random.default_rng(0)
    pad = PadLayer(((1, 2),), "replicate")
    crops = ConvLayer.of(rng.standard_normal((4, 4, 2)).astype("float32"), padding=((-1, 1),))
    grows = ConvLayer.of(rng.standard_normal((4, 4, 2)).astype("float32"), transposed=True, padding=((-1, 2),))
    whole = ConvLayer.of(rng.standard_normal((4, 4, 2)).astype("float32"), transposed=True)
    for layers in [(pad, crops, pad, grows, pad), (grows, pad, crops), (whole, crops, pad), (whole, pad, crops, grows)]:
        sequence = ConvSequence(layers)
        model = dump(sequence, "onnx")
        assert_onnx_computes(model, sequence, data(1, "float32"))
        assert_same(load(model, "onnx"), sequence)


FUNCTIONS = {kind: layer(kind, 2, "float32", name="conv1").sequence for kind in GEOMETRIES | EXTENDED}
FUNCTIONS |= {f"chain {ndim}": chain(ndim, "float32") for ndim in (1, 2, 3, 4)}
FUNCTIONS |= {mode: padded(3, mode, "float32") for mode in MODES}


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_a_function_holds_the_nodes_and_the_graph_the_kernels(kind: str) -> None:
    sequence = FUNCTIONS[kind]
    plain, model = dump(sequence, "onnx"), dump(sequence, "onnx", function="separable")
    onnx.checker.check_model(model, full_check=True)
    assert_onnx_computes(model, sequence, data(sequence.ndim, "float32"))
    assert_same(load(model, "onnx"), sequence)
    assert_same(load(model.SerializeToString(), "onnx"), sequence)
    (call,) = model.graph.node
    (function,) = model.functions
    assert (call.domain, call.op_type) == (function.domain, function.name) == ("tensorconv", "separable")
    assert list(function.node) == list(plain.graph.node)
    assert list(model.graph.initializer) == list(plain.graph.initializer)
    assert list(call.input) == ["input", *(tensor.name for tensor in plain.graph.initializer)]


def test_a_function_is_edited_by_its_initializers() -> None:
    sequence = chain(2, "float32")
    model = dump(sequence, "onnx", function="core")
    kernels = {tensor.name: tensor for tensor in model.graph.initializer}
    kernels["0.kernel"].raw_data = (2 * numpy_helper.to_array(kernels["0.kernel"])).tobytes()
    first = sequence.convolutions[0]
    doubled = ConvSequence((ConvLayer(2 * first.kernel, first.geometry, name=first.name), *sequence.layers[1:]))
    assert_onnx_computes(model, doubled, data(2, "float32"))
    assert_same(load(model, "onnx"), doubled)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_function_of_every_data_type_comes_back_bitwise(dtype: str) -> None:
    sequence = chain(2, dtype)
    model = dump(sequence, "onnx", function="core")
    onnx.checker.check_model(model, full_check=True)
    assert_same(load(model, "onnx"), sequence)


@pytest.mark.parametrize("name", ["", "two words", "a.b", 3])
def test_a_function_needs_a_name(name: Any) -> None:
    with pytest.raises(UnsupportedExportError, match="function must be an identifier"):
        dump(layer("plain", 1), "onnx", function=name)


# a package may know an operator set in the making, which it has no IR version for
RELEASED = [number for domain, number in helper.OP_SET_ID_VERSION_MAP if domain == "ai.onnx"]
LAST_OPSET = min(onnx.defs.onnx_opset_version(), max(RELEASED))


@cache
def last_opset_run() -> int:
    """Return the last operator set of the installed onnx that ONNX Runtime accepts; it has 21 from version 1.18 on."""
    for opset in range(LAST_OPSET, 21, -1):
        try:
            run_onnx(dump(layer("plain", 1, "float32"), "onnx", opset=opset), data(1, "float32"))
        except (Fail, InvalidArgument):
            continue
        return opset
    return 21


@pytest.mark.parametrize("opset", range(11, LAST_OPSET + 1))
def test_every_operator_set_from_11_on_is_run(opset: int) -> None:
    sequences = [layer("unequal", 2, "float32").sequence, layer("transposed_unequal", 2, "float32").sequence]
    sequences += [layer("extended", 2, "float32").sequence, chain(2, "float32")]
    sequences += [padded(2, mode, "float32") for mode in MODES if mode != "circular" or opset >= 19]
    for sequence, function in itertools.product(sequences, [None, "core"]):
        model = dump(sequence, "onnx", opset=opset, function=function)
        onnx.checker.check_model(model, full_check=True)
        assert model.opset_import[0].version == opset
        assert_same(load(model, "onnx"), sequence)
        if opset <= last_opset_run():
            assert_onnx_computes(model, sequence, data(2, "float32"))


def test_the_default_is_old_enough_for_the_runtimes_of_the_last_years() -> None:
    model = dump(layer("plain", 2, "float32"), "onnx")
    assert (model.opset_import[0].version, model.ir_version) == (17, 8)
    assert dump(layer("plain", 2, "bfloat16"), "onnx").opset_import[0].version == 22
    assert dump(padded(2, "reflect", "float32"), "onnx").opset_import[0].version == 17
    assert dump(padded(2, "circular", "float32"), "onnx").opset_import[0].version == 19
    assert dump(padded(2, "circular", "bfloat16"), "onnx").opset_import[0].version == 22
    assert dump(layer("plain", 2, "float32"), "onnx", opset=11, function="core").ir_version == 8


@pytest.mark.parametrize(
    ("dtype", "opset"), [("float32", 10), ("float32", 10_000), ("bfloat16", 21), ("float64", "17")]
)
def test_an_operator_set_without_the_type_is_refused(dtype: str, opset: int) -> None:
    with pytest.raises(UnsupportedExportError, match=f"opset must be from .*the first for {dtype}.* got {opset}"):
        dump(layer("plain", 2, dtype), "onnx", opset=opset)


def test_an_operator_set_without_the_padding_is_refused() -> None:
    with pytest.raises(
        UnsupportedExportError, match=r"opset must be from 19, the first for circular padding, .* got 18"
    ):
        dump(padded(2, "circular", "float32"), "onnx", opset=18)


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


PEAK = """
import sys
import numpy as np
from tensorconv.export.onnx import dump
from tensorconv.layers import ConvLayer, ConvSequence

def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))

n, transposed, function = int(sys.argv[1]), sys.argv[2] == "True", sys.argv[3] or None
channels = int((6e6 / n / 9) ** 0.5)
kernel = np.ones((channels, channels, 3, 3), "float32")
sequence = ConvSequence([ConvLayer.of(kernel, transposed=transposed) for _ in range(n)])
dump(ConvLayer.of(np.ones((1, 1, 1), "float32")))
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # forget the peak so far
before = status("VmRSS")
model = dump(sequence, function=function)
print((status("VmHWM") - before) / (4 * sequence.n_parameters))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's account of memory")
@pytest.mark.parametrize(("n", "transposed", "function"), [(1, False, ""), (6, False, ""), (6, True, "core")])
def test_dump_copies_every_array_once(n: int, transposed: bool, function: str) -> None:
    arguments = [sys.executable, "-c", PEAK, str(n), str(transposed), function]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    # the model, and one kernel on its way there; a tenth, 2.4 MB, for pages and small objects
    assert float(done.stdout) < 1 + 1 / n + 0.1
