"""Values of a graph: only what they need is run, quietly, and nothing outside the model is asked."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from models.onnx_graphs import model, node, small, whole
from onnx import helper

from tensorconv.errors import ModelError
from tensorconv.models.onnx_run import Runner, cut

X = {"x": whole((2, 3, 8, 8), 9)}


def test_any_value_can_be_asked_for():
    runner = Runner(small(), None)
    values = runner.values(["r1", "x", "w2", "y", "c2"], X)
    assert list(values) == ["r1", "x", "w2", "y", "c2"]
    np.testing.assert_array_equal(values["y"], values["r1"] + values["c2"])
    np.testing.assert_array_equal(values["x"], X["x"])
    np.testing.assert_array_equal(values["w2"], whole((4, 4, 3, 3), 5))
    shapes = runner.shapes(["c2", "x", "w2"], X)
    assert shapes == {"c2": (2, 4, 8, 8), "x": (2, 3, 8, 8), "w2": (4, 4, 3, 3)}


def test_the_part_is_no_more_than_needed():
    part = cut(small(8), ["r1"])
    assert [n.op_type for n in part.graph.node] == ["Conv", "BatchNormalization", "Relu"]
    assert [t.name for t in part.graph.initializer] == ["w1", "b1", "scale", "shift", "mean", "variance"]
    assert [value.name for value in part.graph.input] == ["x"]


def test_what_a_branch_reads_is_needed():
    value = helper.make_tensor_value_info("o", 1, [1, 2, 5])
    body = helper.make_graph([helper.make_node("Relu", ["a"], ["o"])], "body", [], [value])
    nodes = [node("Abs", "x", "a"), node("Neg", "x", "b"), node("If", "c", "y", then_branch=body, else_branch=body)]
    made = model(nodes, {"x": [1, 2, 5]}, "y", {"c": np.array(True)})
    assert [n.op_type for n in cut(made, ["y"]).graph.node] == ["Abs", "If"]
    x = whole((1, 2, 5))
    np.testing.assert_array_equal(Runner(made, None).values(["y"], {"x": x})["y"], np.abs(x))


def test_large_tensors_are_handed_over():
    w = whole((64, 64, 3, 3))
    made = model([node("Conv", "x w", "y")], {"x": [1, 64, 4, 4]}, "y", {"w": w})
    before = made.SerializeToString()
    x = whole((1, 64, 4, 4), 1)
    got = Runner(made, None).values(["y"], {"x": x})["y"]
    wanted = np.einsum("oikl,bixykl->boxy", w, np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3)))
    np.testing.assert_array_equal(got, wanted)
    assert made.SerializeToString() == before


def test_few_sessions_stay_alive():
    runner = Runner(small(), None)
    for name in ("c1", "n1", "r1", "c2", "y", "c2"):
        runner.values([name], X)
    assert [names for names, _ in runner._sessions] == [("r1",), ("y",), ("c2",)]


def test_failures_are_told_once_and_nothing_is_printed(capfd):
    made = small()
    runner = Runner(made, None)
    with pytest.raises(ModelError, match=r"ONNX Runtime cannot run the network: .*Got invalid dimensions for input: x"):
        runner.values(["y"], {"x": whole((2, 3, 8, 9))})
    with pytest.raises(ModelError, match=r"batch has no input 'x', which the network needs"):
        runner.values(["y"], {})
    made.graph.node[0].op_type = "Mystery"
    with pytest.raises(ModelError, match=r"ONNX Runtime cannot run the network: .*Mystery"):
        Runner(made, None).values(["y"], X)
    sequence = onnx.ModelProto()
    sequence.CopyFrom(model([node("SequenceConstruct", "x", "y")], {"x": [1]}, "y", {}))
    with pytest.raises(ModelError, match=r"the value 'y' is no tensor but a list"):
        Runner(sequence, None).values(["y"], {"x": whole((1,))})
    assert capfd.readouterr() == ("", "")
