"""Sequences in the words of an operator set, with new names alone."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from models.onnx_graphs import whole

import tensorconv as tc
from tensorconv.errors import ModelError
from tensorconv.models.onnx_write import write_convolutions, write_linear

CROPPED = tc.ConvSequence(
    (tc.ConvLayer.of(whole((4, 3, 3)), padding=[(-1, 2)], name="named"), tc.ConvLayer.of(whole((2, 4, 1))))
)


def pointwise(out, into, seed, bias=None):
    return tc.ConvLayer.of(whole((out, into, 1), seed), bias)


def test_pads_are_attributes_before_operator_set_11():
    for opset, inputs, attributes in ((10, 1, ["mode", "pads"]), (11, 2, ["mode"])):
        nodes, tensors = write_convolutions(CROPPED, opset, "x", "y", "new.")
        assert [node.op_type for node in nodes] == ["Pad", "Conv", "Conv"]
        assert len(nodes[0].input) == inputs
        assert [attribute.name for attribute in nodes[0].attribute] == attributes
        assert len(tensors) == inputs + 1
        names = [name for node in nodes for name in (node.name, *node.input, *node.output)] + [t.name for t in tensors]
        assert all(name.startswith("new.") for name in set(names) - {"x", "y"})
        assert len({node.name for node in nodes}) == len(nodes)
        assert (nodes[0].input[0], nodes[-1].output[0]) == ("x", "y")


def test_bfloat16_needs_operator_set_22():
    sequence = tc.ConvSequence((tc.ConvLayer.of(whole((2, 2, 1)).astype(ml_dtypes.bfloat16)),))
    assert len(write_convolutions(sequence, 22, "x", "y", "n.")[0]) == 1
    with pytest.raises(
        ModelError, match=r"operator set 21 has no convolutions in bfloat16, which came with 22; convert the network"
    ):
        write_convolutions(sequence, 21, "x", "y", "n.")


@pytest.mark.parametrize(
    ("operator", "opset", "kinds", "inputs"),
    [
        ("Gemm", 9, ["Gemm", "Gemm"], [3, 3]),
        ("Gemm", 11, ["Gemm", "Gemm"], [2, 3]),
        ("MatMul", 9, ["MatMul", "MatMul", "Add"], [2, 2, 2]),
    ],
)
def test_products(operator, opset, kinds, inputs):
    sequence = tc.ConvSequence((pointwise(2, 3, 1), pointwise(4, 2, 2, whole((4,)))))
    nodes, tensors = write_linear(sequence, operator, opset, "x", "y", "n.")
    assert [node.op_type for node in nodes] == kinds
    assert [len(node.input) for node in nodes] == inputs
    assert [tuple(tensor.dims) for tensor in tensors if tensor.name.endswith("kernel")] == [(3, 2), (2, 4)]
    assert nodes[-1].output[0] == "y"


@pytest.mark.parametrize(
    "layer",
    [
        tc.ConvLayer.of(whole((4, 4, 1)), stride=2),
        tc.ConvLayer.of(whole((4, 4, 3))),
        tc.ConvLayer.of(whole((4, 2, 1)), groups=2),
        tc.ConvLayer.of(whole((4, 4, 1)), padding=1),
        tc.PermuteLayer((1, 0, 3, 2)),
    ],
)
def test_products_of_pointwise_layers_alone(layer):
    sequence = tc.ConvSequence((pointwise(4, 4, 1), layer, pointwise(4, 4, 1)))
    with pytest.raises(
        ModelError, match=r"layer 1 of the sequence, .*, is no fully connected layer; it must have one tap"
    ):
        write_linear(sequence, "Gemm", 17, "x", "y", "n.")


def test_layers_keep_their_numbers():
    nodes, tensors = write_linear(
        tc.ConvSequence((pointwise(2, 3, 1, np.array([1, 2], "float32")),)), "Gemm", 17, "x", "y", "n."
    )
    assert [np.frombuffer(tensor.raw_data, "float32").tolist() for tensor in tensors] == [
        whole((2, 3), 1).T.ravel().tolist(),
        [1.0, 2.0],
    ]
    assert len(nodes) == 1
