"""Broken graphs are told from whole ones before anything is done with them."""

from __future__ import annotations

import onnx
import pytest
from models.onnx_graphs import node, small, whole
from onnx import helper, numpy_helper

from tensorconv.errors import FormatError, ModelError
from tensorconv.models.onnx_check import check_model, opset


def test_a_whole_one_passes():
    check_model(small())
    assert opset(small(9)) == 9


def test_nodes_may_be_out_of_order():
    made = small()
    nodes = list(made.graph.node)[::-1]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    check_model(made)


def _twice(made):
    made.graph.node.append(node("Relu", "y", "r1"))


def _input_again(made):
    made.graph.node.append(node("Relu", "y", "x"))


def _never(made):
    made.graph.node[0].input[0] = "nowhere"


def _output_never(made):
    made.graph.output.add(name="nowhere")


def _circle(made):
    made.graph.node[0].input[0] = "r1"


def _tensor_twice(made):
    made.graph.initializer.append(numpy_helper.from_array(whole((1,)), "w1"))


def _calls_itself(made):
    inner = [helper.make_node("f", ["a"], ["b"], domain="own")]
    made.functions.append(helper.make_function("own", "f", ["a"], ["b"], inner, [helper.make_opsetid("", 17)]))


def _captured(made):
    value = helper.make_tensor_value_info("o", 1, [1])
    body = helper.make_graph([helper.make_node("Relu", ["nowhere"], ["o"])], "body", [], [value])
    made.graph.node.append(node("If", "y", "z", then_branch=body, else_branch=body))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (_twice, "the value 'r1' is defined twice"),
        (_input_again, "the value 'x' is defined twice"),
        (_never, "the value 'nowhere' is read and never defined"),
        (_output_never, "the value 'nowhere' is read and never defined"),
        (_captured, "the value 'nowhere' is read and never defined"),
        (_circle, "the values of the graph depend on themselves in a circle"),
        (_tensor_twice, "two initializers have one name"),
        (_calls_itself, "the functions of the model depend on themselves in a circle"),
    ],
)
def test_broken_graphs(break_it, message):
    made = small()
    break_it(made)
    with pytest.raises(FormatError, match=f"the network is broken: {message}"):
        check_model(made)


def test_names_must_be_text():
    made = onnx.ModelProto.FromString(small().SerializeToString().replace(b"Relu", b"\xffelu"))
    with pytest.raises(FormatError, match=r"the network is broken: the name b'\\xffelu' is not UTF-8"):
        check_model(made)


def test_the_graphs_name_must_be_text():
    made = small()
    made.graph.name = "abcdef"
    broken = onnx.ModelProto.FromString(made.SerializeToString().replace(b"abcdef", b"abc\xffef"))
    with pytest.raises(FormatError, match=r"the network is broken: the name b'abc\\xffef' is not UTF-8"):
        check_model(broken)


@pytest.mark.parametrize("versions", [[], [6], [12, 13]])
def test_one_operator_set_from_7_on(versions):
    made = small()
    del made.opset_import[:]
    made.opset_import.extend(helper.make_opsetid("", version) for version in versions)
    message = f"must import one operator set of ONNX, version 7 or later, got {versions or 'none'}; convert it".replace(
        "[", r"\["
    ).replace("]", r"\]")
    with pytest.raises(ModelError, match=message):
        opset(made)
