"""Tests of reading ONNX models that others wrote, broken ones and hostile ones among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from export.runtimes import assert_onnx_computes
from export.sequences import chain
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tensorconv.arrays import Array
from tensorconv.errors import FormatError, UnsupportedExportError
from tensorconv.export import dump, load
from tensorconv.layers import ConvSequence


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
    "SAME": (model_of([conv(auto_pad="SAME_UPPER")], w=W), "auto_pad or output_shape, which depend on the input size"),
    "VALID and pads": (model_of([conv(auto_pad="VALID", pads=[1, 1])], w=W), "write explicit pads"),
    "output_shape": (model_of([conv(kind="ConvTranspose", output_shape=[9])], w=W), "write explicit pads"),
    "reflection": (
        model_of([pad("p", mode="reflect"), conv("a")], w=W, p=sides(0, 0, 1, 0, 0, 1)),
        "by constant zeros",
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
    "too many strides": (model_of([conv(strides=[1, 1])], w=W), "attribute strides must have 1 entries"),
    "one-sided pads": (model_of([conv(pads=[1])], w=W), "attribute pads must have 2 entries"),
    "zero stride": (model_of([conv(strides=[0])], w=W), "stride must be at least 1"),
    "zero groups": (model_of([conv(group=0)], w=W), "groups must be at least 1"),
    "other kernel_shape": (model_of([conv(kernel_shape=[5])], w=W), "kernel_shape .* is not that of"),
    "three inputs": (model_of([conv(inputs="w b b")], w=W, b=B), "at most a bias"),
    "no kernel": (model_of([helper.make_node("Conv", ["x"], ["y"])]), "must have a kernel"),
    "matrix": (model_of([conv()], w=W[0]), "a kernel of at least 3 axes"),
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
        "initializer w is broken",
    ),
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


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: rng.integers(0, len(content))]


def changed(content: bytes, rng: np.random.Generator) -> bytes:
    mutable = bytearray(content)
    for position in rng.integers(0, len(content), rng.integers(1, 4)):
        mutable[position] = rng.integers(256)
    return bytes(mutable)


def random(content: bytes, rng: np.random.Generator) -> bytes:
    return rng.bytes(len(content) // 4)


@pytest.mark.parametrize("damage", [cut, changed, random])
def test_damaged_bytes_are_refused_or_still_a_sequence(damage: Callable[[bytes, np.random.Generator], bytes]) -> None:
    content = dump(ConvSequence(chain(1, "float32").layers[:2]), "onnx").SerializeToString()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        try:
            assert isinstance(load(damage(content, rng), "onnx"), ConvSequence)
        except (FormatError, UnsupportedExportError):
            refused += 1
    assert refused > 100
