"""Batch norms and additions become part of the layer before them, or stay where that would not be the same."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from models.onnx_graphs import model, node, through_identity, whole

from tensorconv.errors import KernelError
from tensorconv.models.onnx_fold import row
from tensorconv.models.onnx_network import OnnxNetwork


def test_a_batch_norm_stays_where_it_cannot_be_folded():
    stored = {
        "w": whole((2, 2, 1)),
        "s": whole((2,), 1),
        "v": np.ones(2, "float32"),
        "bad": np.array([-1, 1], "float32"),
    }
    norm = node("BatchNormalization", "c s s s v", "y", epsilon=0.0)
    cases = {
        "folds": ([node("Conv", "x w", "c"), norm], "y"),
        "an output": ([node("Conv", "x w", "c"), norm], "y c"),
        "read twice": ([node("Conv", "x w", "c"), norm, node("Relu", "c", "z")], "y z"),
        "computed": (
            [node("Relu", "s", "t"), node("Conv", "x w", "c"), node("BatchNormalization", "c t s s v", "y")],
            "y",
        ),
        "negative": ([node("Conv", "x w", "c"), node("BatchNormalization", "c s s s bad", "y")], "y"),
        "learns": ([node("Conv", "x w", "c"), node("BatchNormalization", "c s s s v", "y m n", training_mode=1)], "y"),
    }
    for case, (nodes, outputs) in cases.items():
        network = OnnxNetwork.read(model(nodes, {"x": [1, 2, 5]}, outputs, stored))
        (site,) = network.sites
        assert (site.layer.bias is not None) == (case == "folds"), case
        new = network.replaced({"/c": through_identity(site.layer)})
        assert any(n.op_type == "BatchNormalization" for n in new.model.graph.node) == (case != "folds"), case
        if case not in ("negative",):
            onnx.checker.check_model(new.proto(), full_check=True)
            x = whole((1, 2, 5), 4)
            for name, value in network.run({"x": x}).items():
                np.testing.assert_array_equal(new.run({"x": x})[name], value, err_msg=case)


def test_old_words_of_a_batch_norm():
    stored = {"w": whole((2, 2, 1)), "s": whole((2,), 1), "v": np.ones(2, "float32")}
    for attributes, folds in (({}, True), ({"spatial": 1}, True), ({"spatial": 0}, False)):
        nodes = [node("Conv", "x w", "c"), node("BatchNormalization", "c s s s v", "y", **attributes)]
        network = OnnxNetwork.read(model(nodes, {"x": [1, 2, 5]}, "y", stored, opset=8))
        assert (network.sites[0].layer.bias is not None) == folds


def test_a_transposed_and_grouped_convolution_takes_its_batch_norm_in():
    scale = np.array([1, 2, 4, 8], "float32")
    stored = {
        "w": whole((2, 2, 3), 1),
        "b": whole((4,), 2),
        "s": scale,
        "t": whole((4,), 3),
        "v": np.ones(4, "float32"),
    }
    nodes = [
        node("ConvTranspose", "x w b", "c", group=2, strides=[2]),
        node("BatchNormalization", "c s t t v", "y", epsilon=0.0),
    ]
    network = OnnxNetwork.read(model(nodes, {"x": [1, 2, 5]}, "y", stored))
    x = whole((1, 2, 5), 5)
    new = network.replaced({"/c": through_identity(network.sites[0].layer)})
    # equal, but for runtimes that take the root of the variance less exactly: ONNX Runtime 1.18 is off by 4 roundings
    np.testing.assert_allclose(new.run({"x": x})["y"], network.run({"x": x})["y"], rtol=8 * 2**-23)
    assert [n.op_type for n in new.model.graph.node] == ["Conv", "ConvTranspose"]


@pytest.mark.parametrize(
    ("shape", "ndim", "fits"),
    [
        ((), 2, 1),
        ((1,), 2, 1),
        ((4,), 2, 1),
        ((1, 4), 2, 1),
        ((1, 1, 4), 2, 0),
        ((4, 1), 2, 0),
        ((3,), 2, 0),
        ((2, 4), 2, 0),
    ],
)
def test_rows(shape, ndim, fits):
    array = np.arange(np.prod(shape, dtype=int), dtype="float32").reshape(shape)
    if fits:
        np.testing.assert_array_equal(row(array, 4, ndim), np.zeros(4) + array.ravel())
        return
    with pytest.raises(KernelError, match=r"bias must have one entry per out-channel, 4, in its last axis, got shape"):
        row(array, 4, ndim)


@pytest.mark.parametrize(
    ("bias", "outputs", "folds"),
    [((4,), "y", True), ((1, 1, 1, 4), "y", False), ((3, 1), "y", False), ((4,), "y p", False)],
)
def test_an_addition_after_a_product(bias, outputs, folds):
    nodes = [node("MatMul", "x m", "p"), node("Add", "p b", "y")]
    made = model(nodes, {"x": [1, 3, 2]}, outputs, {"m": whole((2, 4)), "b": whole(bias, 1)})
    (site,) = OnnxNetwork.read(made, linear=True).sites
    assert (site.layer.bias is not None) == folds
