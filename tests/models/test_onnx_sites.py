"""The convolutions of a graph, and why some are none to be replaced."""

from __future__ import annotations

import numpy as np
import pytest
from models.onnx_graphs import model, node, small, whole
from onnx import helper

from tensorconv.models.onnx_network import OnnxNetwork
from tensorconv.models.onnx_sites import channels_second, spatial_size


@pytest.mark.parametrize(
    ("kind", "domain", "reason"),
    [
        ("QLinearConv", "", "its numbers are integers; compress the network before it is quantized"),
        ("ConvInteger", "", "its numbers are integers; compress the network before it is quantized"),
        ("FusedConv", "com.microsoft", "a runtime has fused it with its activation; compress the network before it is"),
        ("DeformConv", "", "its taps move with the data, so that it is no convolution"),
    ],
)
def test_relatives_are_named(kind, domain, reason):
    made = small()
    made.graph.node[3].op_type, made.graph.node[3].domain = kind, domain
    network = OnnxNetwork.read(made)
    assert [site.name for site in network.sites] == ["/c1"]
    assert [skipped.name for skipped in network.skipped] == ["/c2"]
    assert network.skipped[0].reason.startswith(reason)


def test_a_convolution_of_another_domain_is_none():
    made = small()
    made.graph.node[3].domain = "elsewhere"
    assert [site.name for site in OnnxNetwork.read(made).sites] == ["/c1"]


def test_the_standard_domain_has_two_names():
    made = small()
    for n in made.graph.node:
        n.domain = "ai.onnx"
    assert [site.name for site in OnnxNetwork.read(made).sites] == ["/c1", "/c2"]


@pytest.mark.parametrize(
    ("stored", "attributes", "reason"),
    [
        ({"w": np.full((2, 2, 1), np.nan, "float32")}, {}, "kernel must hold finite numbers only"),
        ({"w": whole((2, 2, 1), dtype="int64")}, {}, "kernel must be of a real floating-point type"),
        ({"w": whole((2, 3, 1))}, {}, "its input 'x' has shape (1, 2, 5) on the example batch, it takes 3 channels"),
        (
            {"w": whole((2, 2, 1, 1))},
            {},
            "its input 'x' has shape (1, 2, 5) on the example batch, its weights (2, 2, 1, 1)",
        ),
        ({"w": whole((2, 2, 1))}, {"strides": [1, 1]}, "strides (1, 1) must have one entry per spatial axis"),
        ({"w": whole((2, 2, 1))}, {"colour": 3}, "node Conv '/y' has the unknown or repeated attribute 'colour'"),
    ],
)
def test_what_is_no_layer_says_why(stored, attributes, reason):
    network = OnnxNetwork.read(model([node("Conv", "x w", "y", **attributes)], {"x": [1, 2, 5]}, "y", stored))
    assert network.sites == ()
    assert [skipped.name for skipped in network.skipped] == ["/y"]
    assert network.skipped[0].reason.startswith(reason)


def test_products_of_computed_values_are_no_layers():
    nodes = [node("MatMul", "x x", "p"), node("Gemm", "p m", "g", transA=1), node("Gemm", "p p", "y")]
    network = OnnxNetwork.read(model(nodes, {"x": [3, 3]}, "y g", {"m": whole((3, 3))}), linear=True)
    assert network.sites == ()
    assert [(skipped.name, skipped.reason) for skipped in network.skipped] == [
        ("/g", "it transposes its data (transA); only its weights may be transposed"),
        ("/y", "weights 'p': computed in the network, not stored in it"),
    ]


def test_sizes_and_axes_of_fully_connected_layers():
    assert spatial_size((2, 3, 4, 5), False) == (4, 5)
    assert spatial_size((2, 3, 4, 5), True) == (12,)
    assert spatial_size((2, 5), True) == (1,)
    x = whole((2, 3, 4, 5))
    np.testing.assert_array_equal(channels_second(x, True), x.reshape(2, 12, 5).transpose(0, 2, 1))
    assert channels_second(x, False) is x


def test_weights_that_are_overridable_inputs_are_stored():
    made = small(13)
    made.graph.input.append(helper.make_tensor_value_info("w1", 1, [4, 3, 3, 3]))
    assert [site.name for site in OnnxNetwork.read(made).sites] == ["/c1", "/c2"]
