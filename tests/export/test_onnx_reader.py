"""Tests of reading ONNX models that others wrote, broken ones and hostile ones among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from export.runtimes import assert_onnx_computes
from export.sequences import assert_same, chain
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

import tensorconv as tc
from tensorconv.arrays import Array, named_dtype
from tensorconv.errors import FormatError, ModelError, UnsupportedExportError
from tensorconv.export import dump, load
from tensorconv.export.onnx_tensors import TYPES
from tensorconv.layers import ConvSequence, PadLayer


def model_of(node_list: Sequence[NodeProto], **tensors: Array | TensorProto) -> ModelProto:
    """Return a model from x to y with these initializers."""
    graph = helper.make_graph(
        node_list,
        "other",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [t if isinstance(t, TensorProto) else numpy_helper.from_array(t, name) for name, t in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


W = np.arange(1, 25, dtype="float32").reshape(2, 4, 3)
B = np.array([1, -2], "float32")


def conv(source: str = "x", target: str = "y", kind: str = "Conv", inputs: str = "w", **attributes: Any) -> NodeProto:
    return helper.make_node(kind, [source, *inputs.split()], [target], **attributes)


def pad(sides: str, source: str = "x", target: str = "a", **attributes: Any) -> NodeProto:
    return helper.make_node("Pad", [source, *sides.split()], [target], **attributes)


def constant(name: str, value: Array) -> NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))


def sides(*values: int) -> Array:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    "model",
    [
        model_of([conv()], w=W),
        model_of([conv(auto_pad="VALID")], w=W),
        model_of([conv(inputs="w b", pads=[2, 1], strides=[2])], w=W, b=B),
        model_of([conv()], w=helper.make_tensor("w", TensorProto.FLOAT, W.shape, W.ravel())),  # as a list of floats
        model_of([pad("p"), conv("a", pads=[1, 0])], w=W, p=sides(0, 0, 1, 0, 0, -1)),
        model_of([pad("p z"), conv("a")], w=W, p=sides(0, 0, 1, 0, 0, 2), z=np.zeros((), "float32")),
        model_of([conv(target="a"), helper.make_node("Add", ["a", "b"], ["y"])], w=W, b=B.reshape(2, 1)),
        model_of([conv(target="a"), helper.make_node("Add", ["a", "b"], ["y"])], w=W, b=B.reshape(1, 2, 1)),
        model_of(
            [conv(kind="ConvTranspose", pads=[1, 0], output_padding=[1], strides=[2])], w=np.swapaxes(W, 0, 1).copy()
        ),
        model_of(
            [conv(kind="ConvTranspose", target="a"), pad("p", "a", "y")],
            w=np.swapaxes(W, 0, 1).copy(),
            p=sides(0, 0, -1, 0, 0, 2),
        ),
        model_of([conv(auto_pad="SAME_UPPER", inputs="w b")], w=W, b=B),
        model_of([conv(auto_pad="SAME_LOWER")], w=W[:, :, :2].copy()),
        model_of([conv(auto_pad="SAME_UPPER", strides=[3])], w=W[:, :, :1].copy()),  # one tap never needs padding
        model_of([conv(kind="ConvTranspose", auto_pad="SAME_LOWER", strides=[2])], w=np.swapaxes(W, 0, 1).copy()),
        model_of([pad("p", mode="reflect"), conv("a")], w=W, p=sides(0, 0, 1, 0, 0, 2)),
        model_of([pad("p z", mode="edge"), conv("a")], w=W, p=sides(0, 0, 9, 0, 0, 0), z=np.ones((), "float32")),
        model_of([conv(target="a"), pad("p", "a", "y", mode="edge")], w=W, p=sides(0, 0, 1, 0, 0, 2)),
        model_of([constant("p", sides(0, 0, 2, 0, 0, 0)), pad("p"), constant("w", W), conv("a")]),
        model_of([constant("v", W), helper.make_node("Identity", ["v"], ["w"]), conv()]),
    ],
)
def test_chains_of_other_writers_are_read(model: ModelProto) -> None:
    x = np.random.default_rng(0).standard_normal((2, 4, 7)).astype("float32")
    assert_onnx_computes(model, load(model, "onnx"), x)


REFUSED: dict[str, tuple[ModelProto, str]] = {
    "activation": (
        model_of([conv(target="a"), helper.make_node("Relu", ["a"], ["y"])], w=W),
        "Relu '' must be one of Conv",
    ),
    "other domain": (model_of([conv(domain="com.microsoft")], w=W), "must be one of Conv"),
    "branch": (model_of([conv(target="a"), conv(target="y")], w=W), "does not continue the chain at 'a'"),
    "other output": (model_of([conv(target="z")], w=W), "the chain ends at 'z', the model's output is 'y'"),
    "kernel computed": (model_of([conv(inputs="v")], w=W), "reads 'v', which is no initializer"),
    "SAME": (
        model_of([conv(auto_pad="SAME_UPPER", strides=[2])], w=W),
        r"auto_pad=SAME_UPPER at stride \(2,\) depends on the input size, .* read it with input_size=",
    ),
    "VALID and pads": (model_of([conv(auto_pad="VALID", pads=[1, 1])], w=W), "write explicit pads"),
    "SAME and other pads": (model_of([conv(auto_pad="SAME_LOWER", pads=[2, 0])], w=W), "write explicit pads"),
    "output_shape": (
        model_of([conv(kind="ConvTranspose", output_shape=[9])], w=W),
        r"output_shape \(9,\) depends on the input size",
    ),
    "unknown mode": (
        model_of([pad("p", mode="mirror"), conv("a")], w=W, p=sides(0, 0, 1, 0, 0, 1)),
        "in one of the modes constant, reflect, edge, wrap, got 'mirror'",
    ),
    "chosen axes": (
        model_of([pad("p z a2"), conv("a")], w=W, p=sides(1, 1), z=np.zeros((), "float32"), a2=sides(2)),
        "must pad all axes",
    ),
    "reflection that crops": (
        model_of([pad("p", mode="reflect"), conv("a")], w=W, p=sides(0, 0, 1, 0, 0, -1)),
        "crop in mode constant instead",
    ),
    "zeros, then reflection": (
        model_of([pad("p"), pad("p", "a", "b", mode="reflect"), conv("b")], w=W, p=sides(0, 0, 1, 0, 0, 1)),
        "no convolution takes it",
    ),
    "list of values": (
        model_of([helper.make_node("Constant", [], ["w"], value_floats=[1.0]), conv()]),
        "Constant '' does not continue the chain",
    ),
    "ones": (
        model_of([pad("p z"), conv("a")], w=W, p=sides(0, 0, 1, 0, 0, 1), z=np.ones((), "float32")),
        "constant zeros",
    ),
    "channels": (model_of([pad("p"), conv("a")], w=W, p=sides(0, 1, 0, 0, 0, 0)), "pads the batch or the channels"),
    "crop, then pad": (
        model_of([pad("p"), conv("a", pads=[1, 0])], w=W, p=sides(0, 0, -1, 0, 0, 0)),
        "cropping by .* is followed by zero padding",
    ),
    "bias before padding": (
        model_of([helper.make_node("Add", ["x", "b"], ["a"]), conv("a")], w=W, b=B.reshape(2, 1)),
        "a bias is added where no convolution precedes it",
    ),
    "bias per position": (
        model_of([conv(target="a"), helper.make_node("Add", ["a", "b"], ["y"])], w=W, b=B),
        "is no bias of a float32 convolution",
    ),
    "second bias": (
        model_of(
            [conv(target="a", inputs="w b"), helper.make_node("Add", ["a", "c"], ["y"])], w=W, b=B, c=B.reshape(2, 1)
        ),
        "that has one",
    ),
    "bias of another type": (
        model_of([conv(target="a"), helper.make_node("Add", ["a", "b"], ["y"])], w=W, b=np.ones((2, 1))),
        "an added float64 array",
    ),
    "in another file": (
        model_of([conv()], w=TensorProto(name="w", data_type=1, dims=(2, 4, 3), data_location=TensorProto.EXTERNAL)),
        "lies in another file",
    ),
}
BROKEN: dict[str, tuple[ModelProto, str]] = {
    "nothing": (ModelProto(), "holds no nodes"),
    "inner bias": (
        model_of([conv(target="a", inputs="w b"), conv("a", inputs="v")], w=W, b=B, v=np.ones((1, 2, 1), "float32")),
        "layer 0 has a bias",
    ),
    "channels": (model_of([conv(target="a"), conv("a")], w=W), "layer 1 takes 4 channels, layer 0 gives 2"),
    "unknown attribute": (model_of([conv(padding=[1])], w=W), "unknown or repeated attribute 'padding'"),
    "attribute of another type": (model_of([conv(strides=2)], w=W), "attribute strides must be of type INTS"),
    "too many strides": (
        model_of([conv(strides=[1, 1])], w=W),
        "strides .1, 1. must have one entry per spatial axis, 1 here",
    ),
    "one-sided pads": (
        model_of([conv(pads=[1])], w=W),
        "pads .1,. must have a begin and an end per spatial axis, 2 entries",
    ),
    "zero stride": (model_of([conv(strides=[0])], w=W), "stride must be at least 1"),
    "zero groups": (model_of([conv(group=0)], w=W), "groups must be at least 1"),
    "other kernel_shape": (model_of([conv(kernel_shape=[5])], w=W), "kernel_shape .* is not that of"),
    "three inputs": (model_of([conv(inputs="w b b")], w=W, b=B), "at most a bias"),
    "no kernel": (model_of([helper.make_node("Conv", ["x"], ["y"])]), "must have a kernel"),
    "matrix": (model_of([conv()], w=W[0]), "the weights have shape .4, 3., must have at least 3 axes"),
    "integers": (model_of([conv()], w=W.astype(np.int32)), "must be a non-empty float or int64 tensor"),
    "int64": (model_of([conv()], w=W.astype(np.int64)), "kernel must be of a real floating-point type"),
    "other bias": (model_of([conv(inputs="w b")], w=W, b=np.ones(2)), "kernel and bias must be of one type"),
    "float pads": (model_of([pad("p"), conv("a")], w=W, p=np.ones(6, "float32")), "pads as an int64 initializer"),
    "no pads": (model_of([helper.make_node("Pad", ["x"], ["a"]), conv("a")], w=W), "pads as an int64 initializer"),
    "short data": (
        model_of([conv()], w=TensorProto(name="w", data_type=1, dims=(2, 4, 3), raw_data=bytes(92))),
        "shape .2, 4, 3. holds 92 bytes",
    ),
    "huge claim": (
        model_of([conv()], w=TensorProto(name="w", data_type=1, dims=(2**40, 2**40, 3), raw_data=bytes(92))),
        "holds 92 bytes",
    ),
    "negative dimensions": (
        model_of([conv()], w=TensorProto(name="w", data_type=1, dims=(-2, -4, 3), raw_data=W.tobytes())),
        "must be a non-empty float",
    ),
    "short list": (
        model_of([conv()], w=TensorProto(name="w", data_type=1, dims=(2, 4, 3), float_data=[1.0, 2.0])),
        "shape .2, 4, 3. holds 8 bytes",
    ),
    "list of half numbers too large": (
        model_of([conv()], w=TensorProto(name="w", data_type=10, dims=(1, 1, 1), int32_data=[1 << 16])),
        "initializer w is broken: int32_data",
    ),
    "negative output_padding": (
        model_of([conv(kind="ConvTranspose", output_padding=[-1])], w=W),
        "output_padding must be at least 0",
    ),
    "unknown auto_pad": (model_of([conv(auto_pad="SAME")], w=W), "auto_pad must be one of NOTSET"),
    "NaN": (model_of([conv()], w=np.full_like(W, np.nan)), "kernel must hold finite numbers"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_more_than_a_chain_is_refused(case: str) -> None:
    model, message = REFUSED[case]
    with pytest.raises(UnsupportedExportError, match=message):
        load(model, "onnx")


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_model_is_refused(case: str) -> None:
    model, message = BROKEN[case]
    with pytest.raises(FormatError, match=message):
        load(model, "onnx")


def test_two_inputs_are_refused() -> None:
    model = model_of([conv()], w=W)
    model.graph.input.append(helper.make_tensor_value_info("second", TensorProto.FLOAT, None))
    with pytest.raises(
        UnsupportedExportError, match=r"must have one input, one output .* got inputs \['x', 'second'\]"
    ):
        load(model, "onnx")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_in_a_list_are_read_bitwise(dtype: str) -> None:
    kernel = W.astype(named_dtype(dtype))
    bits = kernel.view("uint16").ravel().tolist()
    tensor = TensorProto(name="w", data_type=TYPES[dtype], dims=kernel.shape, int32_data=bits)
    (layer,) = load(model_of([conv()], w=tensor), "onnx").convolutions
    assert (layer.dtype, layer.kernel.tobytes()) == (kernel.dtype, kernel.tobytes())


NODES = {
    "Conv": conv(inputs="w b", strides=[2], pads=[2, 1], group=2, name="conv1"),
    "SAME at stride 1": conv(auto_pad="SAME_UPPER", group=2),
    "SAME": conv(auto_pad="SAME_UPPER", strides=[2], group=2),
    "SAME_LOWER": conv(inputs="w b", auto_pad="SAME_LOWER", strides=[2], group=2),
    "ConvTranspose": conv(kind="ConvTranspose", inputs="w b", strides=[3], output_padding=[2], pads=[1, 0], group=2),
    "output_shape": conv(kind="ConvTranspose", strides=[3], output_shape=[20], group=2),
    "output_shape SAME": conv(kind="ConvTranspose", strides=[2], output_shape=[13], auto_pad="SAME_UPPER", group=2),
}


@pytest.mark.parametrize("kind", NODES)
def test_one_node_is_read_with_its_arrays(kind: str) -> None:
    node = NODES[kind]
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((2, 4, 8)).astype("float32"), rng.standard_normal((4, 2, 4)).astype("float32")
    arrays = {"w": kernel, "b": rng.standard_normal(4).astype("float32")}
    tensors = {name: numpy_helper.from_array(array, name) for name, array in arrays.items()}
    model = model_of([node], **{name: arrays[name] for name in node.input[1:]})
    sequence = load(node, "onnx", initializers=arrays, input_size=[8])
    assert_onnx_computes(model, sequence, x)
    assert sequence.convolutions[0].name == node.name
    assert_same(load(node, "onnx", initializers=tensors, input_size=8), sequence)
    assert_same(load(model, "onnx", input_size=(8,)), sequence)
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 8]))
    assert_same(load(model, "onnx"), sequence)


def test_sizes_follow_a_chain_to_the_node_that_asks() -> None:
    kernel = np.ones((4, 4, 3), "float32")
    chained = [
        pad("p", mode="reflect"),
        conv("a", "b", strides=[2]),
        conv("b", "c", kind="ConvTranspose"),
        pad("q", "c", "d"),
        conv("d", "y", auto_pad="SAME_UPPER", strides=[3]),
    ]
    model = model_of(chained, w=kernel, p=sides(0, 0, 2, 0, 0, 1), q=sides(0, 0, 0, 0, 0, -1))
    paddings = set()
    for n in (9, 10, 12):
        sequence = load(model, "onnx", input_size=n)
        assert_onnx_computes(model, sequence, np.ones((1, 4, n), "float32"))
        paddings.add(sequence.convolutions[-1].geometry.padding)
    assert len(paddings) > 1


def test_an_input_size_that_does_not_fit_is_refused() -> None:
    same = conv(auto_pad="SAME_UPPER", strides=[2])
    with pytest.raises(ModelError, match=r"input_size must .*got \(8, 8\)"):
        load(same, "onnx", initializers={"w": W}, input_size=(8, 8))
    with pytest.raises(ModelError, match="input_size must be at least 1"):
        load(same, "onnx", initializers={"w": W}, input_size=0)
    with pytest.raises(ModelError, match="gives no output"):
        load(model_of([conv(target="a"), conv("a", auto_pad="VALID")], w=W), "onnx", input_size=2)
    model = model_of([same], w=W)
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 9]))
    with pytest.raises(ModelError, match=r"input_size \(8,\) contradicts the model"):
        load(model, "onnx", input_size=8)
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 9, 9]))
    with pytest.raises(FormatError, match="the shape of the model's input does not fit its nodes"):
        load(model, "onnx")


def test_a_node_needs_its_initializers_and_a_model_has_its_own() -> None:
    with pytest.raises(UnsupportedExportError, match="reads 'w', which is no initializer"):
        load(conv(), "onnx")
    with pytest.raises(UnsupportedExportError, match="Relu '' must be one of Conv"):
        load(helper.make_node("Relu", ["x"], ["y"]), "onnx")
    with pytest.raises(UnsupportedExportError, match="initializers belong to a node"):
        load(model_of([conv()], w=W), "onnx", initializers={"w": W})


def calling(body: Sequence[NodeProto], inputs: str = "x w", formal: str = "x w", **attributes: Any) -> ModelProto:
    """Return a model whose one node calls a function of this body."""
    model = model_of([helper.make_node("part", inputs.split(), ["y"], domain="other", **attributes)], w=W, b=B)
    opset = helper.make_opsetid("", 17)
    names = list(attributes)
    model.functions.append(helper.make_function("other", "part", formal.split(), ["y"], body, [opset], names))
    model.opset_import.append(helper.make_opsetid("other", 1))
    return model


@pytest.mark.parametrize(
    "model",
    [
        calling([conv(strides=[2])]),
        calling([conv(inputs="v b")], "x w b", "x v b"),
        calling([constant("p", sides(0, 0, 2, 0, 0, 0)), pad("p", mode="edge"), conv("a")]),
        calling(
            [
                constant("c", B.reshape(2, 1)),
                conv("data", "b", inputs="kernel"),
                helper.make_node("Add", ["b", "c"], ["y"]),
            ],
            formal="data kernel",
        ),
    ],
)
def test_functions_of_other_writers_are_read(model: ModelProto) -> None:
    x = np.random.default_rng(0).standard_normal((2, 4, 7)).astype("float32")
    assert_onnx_computes(model, load(model, "onnx"), x)


def test_functions_that_cannot_be_read_are_refused() -> None:
    referring = conv()
    referring.attribute.append(AttributeProto(name="strides", type=AttributeProto.INTS, ref_attr_name="step"))
    inner = helper.make_node("part", ["x", "w"], ["y"], domain="other")
    refused = {
        "takes strides from the attribute 'step' of its function": calling([referring], step=[2]),
        "part '' must be one of Conv": calling([inner]),
        "reads 'w', which is no initializer": calling([conv()], "x", "x w"),
        "the chain ends at 'a', the model's output is 'y'": calling([conv(target="a")]),
    }
    for message, model in refused.items():
        with pytest.raises(UnsupportedExportError, match=message):
            load(model, "onnx")
    with pytest.raises(FormatError, match=r"has 3 inputs, its function takes \['x', 'w'\]"):
        load(calling([conv()], "x w b"), "onnx")


def test_data_beside_the_file_are_found_by_its_path(tmp_path: Path) -> None:
    model = model_of([conv(inputs="w b")], w=W, b=B)
    sequence, path = load(model, "onnx"), tmp_path / "m.onnx"
    onnx.save(model, str(path), save_as_external_data=True, location="m.data", size_threshold=0)
    assert_same(load(path, "onnx"), sequence)
    assert_same(load(str(path), "onnx"), sequence)
    for source in (path.read_bytes(), onnx.load(str(path), load_external_data=False)):
        with pytest.raises(UnsupportedExportError, match="lies in another file; load the model by its path"):
            load(source, "onnx")
    (tmp_path / "m.data").write_bytes(b"short")
    with pytest.raises(FormatError, match="initializer w"):
        load(path, "onnx")
    (tmp_path / "m.data").rename(tmp_path / "elsewhere")
    with pytest.raises(FormatError, match="initializer w cannot be loaded"):
        load(path, "onnx")
    long = onnx.load(str(path), load_external_data=False)
    next(entry for entry in long.graph.initializer[0].external_data if entry.key == "location").value = "x" * 5000
    path.write_bytes(long.SerializeToString())
    with pytest.raises(FormatError, match="initializer w cannot be loaded"):
        load(path, "onnx")


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: rng.integers(0, len(content))]


def changed(content: bytes, rng: np.random.Generator) -> bytes:
    mutable = bytearray(content)
    for position in rng.integers(0, len(content), rng.integers(1, 4)):
        mutable[position] = rng.integers(256)
    return bytes(mutable)


def random(content: bytes, rng: np.random.Generator) -> bytes:
    return rng.bytes(len(content) // 4)


@pytest.mark.parametrize("function", [None, "core"])
@pytest.mark.parametrize("damage", [cut, changed, random])
def test_damaged_bytes_are_refused_or_still_a_sequence(
    damage: Callable[[bytes, np.random.Generator], bytes], function: str | None
) -> None:
    layers = (PadLayer(((2, 1),), "reflect"), *chain(1, "float32").layers[:2])
    content = dump(ConvSequence(layers), "onnx", function=function).SerializeToString()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        try:
            assert isinstance(load(damage(content, rng), "onnx"), ConvSequence)
        except (FormatError, UnsupportedExportError):
            refused += 1
    assert refused > 100


def test_a_channel_wise_convolution_that_pads_twice_is_refused() -> None:
    layer = tc.ChannelwiseLayer(np.ones((1, 2, 3), "float32"), 4, tc.ConvGeometry.of(2, padding=((-1, 0), (0, 0))))
    model = dump(tc.ConvSequence([layer]), "onnx")
    (convolution,) = (node for node in model.graph.node if node.op_type == "Conv")
    (pads,) = (attribute for attribute in convolution.attribute if attribute.name == "pads")
    pads.ints[:] = [0, 2, 0, 2]
    with pytest.raises(UnsupportedExportError, match="before a Conv that does not pad"):
        load(model, "onnx")
