"""Whole ONNX networks: sites found, run, captured, replaced and saved, with everything else left as it was."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from models.onnx_graphs import model, node, same_nodes, small, through_identity, whole
from onnx import TensorProto, helper, numpy_helper

import tensorconv as tc
from tensorconv.errors import FormatError, ModelError, TensorconvError
from tensorconv.models.onnx_network import OnnxNetwork

X = whole((2, 3, 8, 8), 9)


def checked(proto: onnx.ModelProto) -> None:
    onnx.checker.check_model(proto, full_check=True)


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 13, 14, 15, 17, 18, 21, 22])
def test_every_operator_set(opset):
    network = OnnxNetwork.read(small(opset), input_size=8)
    assert [site.name for site in network.sites] == ["/c1", "/c2"]
    assert [site.input_sizes for site in network.sites] == [((8, 8),), ((8, 8),)]
    new = network.replaced({site.name: through_identity(site.layer) for site in network.sites})
    checked(new.proto())
    assert new.model.opset_import == network.model.opset_import
    assert new.model.ir_version == network.model.ir_version
    if opset <= 21 or tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 21):  # the first with 22
        np.testing.assert_array_equal(new.run({"x": X})["y"], network.run({"x": X})["y"])
    assert not any(n.op_type == "BatchNormalization" for n in new.model.graph.node)
    assert "n1" in {name for n in new.model.graph.node for name in n.output}


def test_what_is_not_replaced_stays():
    old = small()
    old.graph.value_info.append(helper.make_tensor_value_info("c1", TensorProto.FLOAT, [None] * 4))
    old.graph.value_info.append(helper.make_tensor_value_info("r1", TensorProto.FLOAT, [None] * 4))
    old.graph.initializer.append(numpy_helper.from_array(whole((2,)), "read_by_nobody"))
    network = OnnxNetwork.read(old)
    new = network.replaced({"/c1": through_identity(network.sites[0].layer)}, record='{"a": 1}').proto()
    same_nodes(old, new, {"/c1", "/n1"})
    assert [t.name for t in new.graph.initializer] == [
        "w2",
        "read_by_nobody",
        "/c1.0.kernel",
        "/c1.1.kernel",
        "/c1.1.bias",
    ]
    assert new.graph.initializer[0] == old.graph.initializer[6]
    assert list(new.graph.value_info) == [old.graph.value_info[1]]
    assert (new.graph.input, new.graph.output) == (old.graph.input, old.graph.output)
    assert [(entry.key, entry.value) for entry in new.metadata_props] == [
        ("author", "somebody"),
        ("tensorconv", '{"a": 1}'),
    ]
    for field in ("producer_name", "doc_string", "ir_version", "opset_import"):
        assert getattr(new, field) == getattr(old, field)
    assert new.graph.doc_string == "a graph"
    assert network.proto() == old


def test_nothing_replaced_is_the_same_model(tmp_path):
    old = small()
    path = tmp_path / "old.onnx"
    path.write_bytes(old.SerializeToString())
    network = OnnxNetwork.read(path)
    network.replaced({}).save(tmp_path / "new.onnx")
    assert onnx.load(tmp_path / "new.onnx") == old
    assert network.n_bytes == (tmp_path / "new.onnx").stat().st_size == len(network.to_bytes())
    assert OnnxNetwork.read(network.to_bytes()).proto() == old


def test_a_record_is_renewed():
    network = OnnxNetwork.read(small())
    twice = network.replaced({}, "1").replaced({}, "2").proto()
    assert [(entry.key, entry.value) for entry in twice.metadata_props] == [("author", "somebody"), ("tensorconv", "2")]


def test_what_was_given_is_not_changed():
    given = small()
    before = given.SerializeToString()
    network = OnnxNetwork.read(given)
    network.replaced({"/c1": through_identity(network.sites[0].layer)}).run({"x": X})
    assert given.SerializeToString() == before
    del given.graph.node[:]
    assert len(network.sites) == 2


def test_captured_values_are_the_layers():
    network = OnnxNetwork.read(small())
    captured = network.capture(["/c2", "/c1"], {"x": X})
    assert list(captured) == ["/c2", "/c1"]
    for site in network.sites:
        ((x, y),) = captured[site.name]
        np.testing.assert_array_equal(tc.convolve(x, site.layer), y)
    np.testing.assert_array_equal(captured["/c1"][0][0], X)


def test_sizes_come_from_running():
    # the shape is computed from the data, so that inference has nothing to say
    nodes = [
        node("Conv", "x w", "a", pads=[1, 1]),
        node("NonZero", "a", "places"),
        node("Cast", "places", "floats", to=TensorProto.FLOAT),
        node("Unsqueeze", "floats first", "moved"),
        node("Conv", "moved v", "y"),
    ]
    stored = {"w": np.ones((1, 1, 3), "float32"), "v": np.ones((1, 3, 1), "float32"), "first": np.array([0])}
    network = OnnxNetwork.read(model(nodes, {"x": [1, 1, 7]}, "y", stored))
    assert [site.input_sizes for site in network.sites] == [((7,),), ((7,),)]
    assert network.cannot_run == ""


def test_nodes_that_share_all_are_one_site_and_others_are_not():
    nodes = [
        node("Conv", "x w b", "a", pads=[1, 1]),
        node("Identity", "w", "renamed"),
        node("Conv", "a renamed b", "c", pads=[1, 1]),
        node("Conv", "c w b", "d", pads=[2, 2], dilations=[2]),
        node("Conv", "d w", "e", pads=[1, 1]),
        node("MaxPool", "e", "f", kernel_shape=[2], strides=[2]),
        node("Conv", "f w b", "y", pads=[1, 1]),
    ]
    network = OnnxNetwork.read(model(nodes, {"x": [1, 2, 8]}, "y", {"w": whole((2, 2, 3)), "b": whole((2,), 1)}))
    assert [(site.name, site.input_sizes) for site in network.sites] == [
        ("/a", ((8,), (8,), (4,))),
        ("/d", ((8,),)),
        ("/e", ((8,),)),
    ]
    x = whole((1, 2, 8), 3)
    first = network.replaced({"/a": through_identity(network.sites[0].layer)})
    checked(first.proto())
    same_nodes(network.model, first.model, {"/a", "/c", "/y", "/renamed"})
    np.testing.assert_array_equal(first.run({"x": x})["y"], network.run({"x": x})["y"])
    assert [t.name for t in first.model.graph.initializer] == ["w", "b", "/a.0.kernel", "/a.1.kernel", "/a.1.bias"]
    every = network.replaced({site.name: through_identity(site.layer) for site in network.sites})
    assert {"w", "b"}.isdisjoint(t.name for t in every.model.graph.initializer)
    np.testing.assert_array_equal(every.run({"x": x})["y"], network.run({"x": x})["y"])
    assert [site.input_sizes for site in every.sites[:2]] == [((8,), (8,), (4,)), ((8,), (8,), (4,))]


def test_padding_that_depends_on_the_size_makes_two_sites():
    nodes = [
        node("Conv", "x w", "a", auto_pad="SAME_UPPER", strides=[2]),
        node("Conv", "a w", "y", auto_pad="SAME_UPPER", strides=[2]),
    ]
    network = OnnxNetwork.read(model(nodes, {"x": [1, 2, 10]}, "y", {"w": whole((2, 2, 3))}))
    assert [(s.input_sizes, s.layer.geometry.padding) for s in network.sites] == [
        (((10,),), ((0, 1),)),
        (((5,),), ((1, 1),)),
    ]


GEOMETRIES = [
    ("Conv", (4, 3, 3), (9,), {"strides": [2], "pads": [1, 0], "dilations": [2]}),
    ("Conv", (4, 2, 3, 2), (8, 7), {"group": 2, "auto_pad": "SAME_LOWER", "strides": [2, 1]}),
    ("Conv", (2, 1, 2, 2, 2), (5, 4, 3), {"pads": [1, 0, 0, 0, 1, 1]}),
    ("ConvTranspose", (4, 3, 3), (6,), {"strides": [2], "pads": [1, 1], "output_padding": [1]}),
    ("ConvTranspose", (4, 2, 3, 2), (5, 4), {"group": 2, "strides": [2, 2], "output_shape": [10, 8]}),
    ("ConvTranspose", (2, 2, 3, 3), (4, 5), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
]


@pytest.mark.parametrize(("kind", "shape", "size", "attributes"), GEOMETRIES)
@pytest.mark.parametrize("opset", [8, 17])
def test_every_geometry(kind, shape, size, attributes, opset):
    channels = shape[0] if kind == "ConvTranspose" else shape[1] * attributes.get("group", 1)
    out = shape[1] * attributes.get("group", 1) if kind == "ConvTranspose" else shape[0]
    stored = {"w": whole(shape, 1), "b": whole((out,), 2)}
    network = OnnxNetwork.read(
        model([node(kind, "x w b", "y", **attributes)], {"x": [1, channels, *size]}, "y", stored, opset=opset)
    )
    (site,) = network.sites
    x = whole((1, channels, *size), 3)
    y = network.run({"x": x})["y"]
    np.testing.assert_array_equal(tc.convolve(x, site.layer), y)
    for sequence in (tc.ConvSequence((site.layer,)), through_identity(site.layer)):
        new = network.replaced({"/y": sequence})
        checked(new.proto())
        np.testing.assert_array_equal(new.run({"x": x})["y"], y)


@pytest.mark.parametrize("opset", [7, 10, 11, 12])
def test_asymmetric_crops_in_the_words_of_the_operator_set(opset):
    network = OnnxNetwork.read(
        model([node("Conv", "x w", "y")], {"x": [1, 2, 9]}, "y", {"w": whole((2, 2, 3))}, opset=opset)
    )
    (site,) = network.sites
    wide = np.pad(site.layer.kernel, ((0, 0), (0, 0), (1, 2)))
    cropped = tc.ConvLayer.of(wide, padding=[(1, 2)])
    crop = tc.ConvLayer.of(np.pad(site.layer.kernel, ((0, 0), (0, 0), (2, 0))), padding=[(2, 0)])
    shift = tc.ConvLayer.of(np.eye(2, dtype="float32")[:, :, None], padding=[(-1, 0)])
    back = tc.ConvLayer.of(np.pad(site.layer.kernel, ((0, 0), (0, 0), (0, 0))), padding=[(1, 0)])
    x = whole((1, 2, 9), 3)
    for sequence in ((cropped,), (crop,)):
        new = network.replaced({"/y": tc.ConvSequence(sequence)})
        np.testing.assert_array_equal(new.run({"x": x})["y"], network.run({"x": x})["y"])
    new = network.replaced({"/y": tc.ConvSequence((shift, back))})
    checked(new.proto())
    assert [n.op_type for n in new.model.graph.node] == ["Pad", "Conv", "Conv"]
    np.testing.assert_array_equal(new.run({"x": x})["y"], tc.convolve(x, tc.ConvSequence((shift, back))))


def test_circular_padding_needs_operator_set_19():
    sequence = tc.ConvSequence((tc.PadLayer(((1, 1),), "circular", 2), tc.ConvLayer.of(whole((2, 2, 5)), padding=1)))
    for opset, fits in ((18, False), (19, True)):
        network = OnnxNetwork.read(
            model([node("Conv", "x w", "y")], {"x": [1, 2, 9]}, "y", {"w": whole((2, 2, 1))}, opset=opset)
        )
        if fits:
            checked(network.replaced({"/y": sequence}).proto())
        else:
            with pytest.raises(
                ModelError, match=r"operator set 18 has no circular padding, which came with 19; convert"
            ):
                network.replaced({"/y": sequence})


def test_weights_from_constants_and_inputs_and_their_ways():
    constant = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(whole((2, 2, 1), 5)))
    nodes = [
        constant,
        node("Conv", "x w", "a"),
        node("Conv", "a k", "b"),
        node("Conv", "b given", "c"),
        node("Mul", "w w", "ww"),
        node("Conv", "c ww", "y"),
    ]
    stored = {"w": whole((2, 2, 1))}
    network = OnnxNetwork.read(model(nodes, {"x": [1, 2, 5], "given": [2, 2, 1]}, "y", stored))
    assert [site.name for site in network.sites] == ["/a", "/b"]
    assert [(s.name, s.reason) for s in network.skipped] == [
        ("/c", "weights 'given': an input of the network, not stored in it"),
        ("/y", "weights 'ww': computed in the network, not stored in it"),
    ]
    new = network.replaced({site.name: through_identity(site.layer) for site in network.sites})
    assert constant not in list(new.model.graph.node)
    assert [t.name for t in new.model.graph.initializer][:1] == ["w"]  # the product still reads it
    assert new.model.graph.input == network.model.graph.input


def test_branches_loops_and_functions_stay_and_are_named():
    def branch(name, value):
        output = helper.make_tensor_value_info(f"out_{name}", TensorProto.FLOAT, [1, 2, 5])
        inner = helper.make_node("Conv", ["a", value], [f"out_{name}"], name=f"inner_{name}")
        return helper.make_graph([inner], name, [], [output])

    nodes = [
        node("Conv", "x w", "a"),
        node("ReduceSum", "a", "sum", keepdims=0),
        node("Greater", "sum zero", "positive"),
        node("If", "positive", "y", then_branch=branch("then", "w"), else_branch=branch("else", "v")),
    ]
    stored = {"w": whole((2, 2, 1)), "v": whole((2, 2, 1), 1), "zero": np.zeros((), "float32")}
    network = OnnxNetwork.read(model(nodes, {"x": [1, 2, 5]}, "y", stored))
    assert [site.name for site in network.sites] == ["/a"]
    reason = "inside a branch or loop, which may run any number of times"
    assert [(s.name, s.reason) for s in network.skipped] == [("inner_else", reason), ("inner_then", reason)]
    new = network.replaced({"/a": through_identity(network.sites[0].layer)})
    checked(new.proto())
    same_nodes(network.model, new.model, {"/a"})
    assert [t.name for t in new.model.graph.initializer][:3] == ["w", "v", "zero"]
    for seed in range(4):
        x = whole((1, 2, 5), seed)
        np.testing.assert_array_equal(new.run({"x": x})["y"], network.run({"x": x})["y"])


def test_a_convolution_in_a_function_is_named():
    made = small()
    body = [helper.make_node("Conv", ["u", "k"], ["r"], name="inner", pads=[1, 1, 1, 1])]
    made.functions.append(helper.make_function("own", "twice", ["u", "k"], ["r"], body, [helper.make_opsetid("", 17)]))
    made.opset_import.append(helper.make_opsetid("own", 1))
    made.graph.node[3].CopyFrom(helper.make_node("twice", ["r1", "w2"], ["c2"], domain="own"))
    made.graph.node[4].CopyFrom(node("Relu", "c2", "y"))
    network = OnnxNetwork.read(made)
    assert [site.name for site in network.sites] == ["/c1"]
    assert [(s.name, s.reason) for s in network.skipped] == [
        ("inner", "inside a function; inline it by onnx.inliner.inline_local_functions")
    ]
    new = network.replaced({"/c1": through_identity(network.sites[0].layer)})
    checked(new.proto())
    np.testing.assert_array_equal(new.run({"x": X})["y"], network.run({"x": X})["y"])


def test_names_are_new_whatever_there_is():
    made = small()
    for name in ("/c1.0.kernel", "/c1.2.x"):
        made.graph.initializer.append(numpy_helper.from_array(whole((1,)), name))
    network = OnnxNetwork.read(made)
    new = network.replaced({site.name: through_identity(site.layer) for site in network.sites})
    checked(new.proto())
    outputs = [name for n in new.model.graph.node for name in n.output] + [t.name for t in new.model.graph.initializer]
    assert len(set(outputs)) == len(outputs)
    names = [n.name for n in new.model.graph.node]
    assert len(set(names)) == len(names)
    np.testing.assert_array_equal(new.run({"x": X})["y"], network.run({"x": X})["y"])


def test_nodes_without_names_or_with_the_same_name():
    made = model(
        [node("Conv", "x w", "a"), node("Conv", "a v", "y")],
        {"x": [1, 2, 5]},
        "y",
        {"w": whole((2, 2, 1)), "v": whole((2, 2, 1), 1)},
    )
    for name, wanted in (("", ["a", "y"]), ("n", ["n", "y"])):
        for n in made.graph.node:
            n.name = name
        assert [site.name for site in OnnxNetwork.read(made).sites] == wanted


@pytest.mark.parametrize("opset", [9, 13, 17])
def test_fully_connected_layers_on_request(opset):
    stored = {
        "m": whole((3, 4), 1),
        "mb": whole((4,), 2),
        "g": whole((5, 4), 3),
        "gb": whole((1, 5), 4),
        "h": whole((5, 2), 5),
    }
    nodes = [
        node("MatMul", "x m", "p"),
        node("Add", "mb p", "q"),
        node("Relu", "q", "r"),
        node("Reshape", "r rows", "f"),
        node("Gemm", "f g gb", "s", transB=1, alpha=2.0, beta=3.0),
        node("Gemm", "s h h2", "y") if opset < 11 else node("Gemm", "s h", "y"),
    ]
    stored["rows"] = np.array([-1, 4])
    if opset < 11:
        stored["h2"] = np.zeros(1, "float32")
    made = model(nodes, {"x": [1, 6, 3]}, "y", stored, opset=opset)
    assert OnnxNetwork.read(made).sites == ()
    network = OnnxNetwork.read(made, linear=True)
    assert [(s.name, s.linear, s.input_sizes) for s in network.sites] == [
        ("/p", True, ((6,),)),
        ("/s", True, ((1,),)),
        ("/y", True, ((1,),)),
    ]
    x = whole((1, 6, 3), 7)
    captured = network.capture([s.name for s in network.sites], {"x": x})
    assert [captured[name][0][0].shape for name in captured] == [(1, 3, 6), (6, 4, 1), (6, 5, 1)]
    for site in network.sites:
        for data, response in captured[site.name]:
            np.testing.assert_array_equal(tc.convolve(np.ascontiguousarray(data), site.layer), response)
    new = network.replaced({site.name: through_identity(site.layer) for site in network.sites})
    checked(new.proto())
    assert [n.op_type for n in new.model.graph.node] == ["MatMul", "MatMul", "Add", "Relu", "Reshape", *["Gemm"] * 4]
    np.testing.assert_array_equal(new.run({"x": x})["y"], network.run({"x": x})["y"])
    with pytest.raises(
        ModelError, match=r"layer 0 of the sequence, .*, is no fully connected layer; it must have one tap"
    ):
        network.replaced({"/p": tc.ConvSequence((tc.ConvLayer.of(whole((4, 3, 3)), whole((4,)), padding=1),))})


def test_what_does_not_fit_is_refused():
    network = OnnxNetwork.read(small())
    layer = network.sites[0].layer
    with pytest.raises(ModelError, match=r"the network has no site '/c9'; it has /c1, /c2"):
        network.replaced({"/c9": through_identity(layer)})
    with pytest.raises(ModelError, match=r"the network has no site 'c'; it has"):
        network.capture(["c"], network.example)
    with pytest.raises(ModelError, match=r"sequence '/c1' must give size .8, 8. from .8, 8., got .6, 6."):
        network.replaced({"/c1": tc.ConvSequence((tc.ConvLayer.of(layer.kernel),))})
    with pytest.raises(ModelError, match=r"in- and out-channels float32, 2, 3, 4, got float64, 2, 3, 4"):
        network.replaced({"/c1": tc.ConvSequence((tc.ConvLayer.of(layer.kernel.astype("float64"), padding=1),))})


def test_a_network_that_cannot_be_run_still_has_its_layers():
    made = small(size=(None, None))
    made.graph.node[2].op_type, made.graph.node[2].domain = "Mystery", "elsewhere"
    made.opset_import.append(helper.make_opsetid("elsewhere", 1))
    network = OnnxNetwork.read(made, input_size=8)
    assert "ONNX Runtime cannot run the network: " in network.cannot_run
    assert [(site.name, site.input_sizes) for site in network.sites] == [("/c1", ((8, 8),))]
    (skipped,) = network.skipped
    assert (skipped.name, skipped.reason[:48]) == ("/c2", "the size of its input 'r1' is not known: ONNX Ru")
    with pytest.raises(ModelError, match=r"ONNX Runtime cannot run the network"):
        network.run(network.example)
    new = network.replaced({"/c1": through_identity(network.sites[0].layer)}).proto()
    same_nodes(made, new, {"/c1", "/n1"})


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_types_are_kept(dtype):
    stored = {"w": whole((2, 2, 3), dtype=dtype)}
    network = OnnxNetwork.read(model([node("Conv", "x w", "y")], {"x": [1, 2, 5]}, "y", stored, dtype=dtype))
    (site,) = network.sites
    assert (site.layer.dtype, site.input_sizes) == (np.dtype(dtype), ((5,),))
    new = network.replaced({"/y": through_identity(site.layer)})
    checked(new.proto())
    assert {t.data_type for t in new.model.graph.initializer} == {t.data_type for t in network.model.graph.initializer}
    assert network.example["x"].dtype == dtype
    if dtype == "float16":
        assert network.cannot_run == ""
        np.testing.assert_array_equal(new.run(network.example)["y"], network.run(network.example)["y"])
    else:
        with pytest.raises(ModelError, match=r"ONNX Runtime cannot run the network: .*NOT_IMPLEMENTED"):
            network.run(network.example)


def test_threads_are_an_option_and_do_not_change_whole_numbers():
    a, b = (OnnxNetwork.read(small(), n_threads=n).run({"x": X})["y"] for n in (1, 2))
    np.testing.assert_array_equal(a, b)


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Return a file with some bytes changed, left out, doubled or cut off."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(len(data)))
        way = rng.integers(4)
        if way == 0:
            data[place] = int(rng.integers(256))
        elif way == 1:
            del data[place : place + int(rng.integers(1, 9))]
        elif way == 2:
            data[place:place] = data[place : place + int(rng.integers(1, 9))]
        else:
            data[place] ^= 1 << int(rng.integers(8))
    return bytes(data[: rng.integers(1, len(data))] if rng.integers(8) == 0 else data)


def restructured(made: onnx.ModelProto, rng: np.random.Generator) -> bytes:
    """Return a model with a name, a size, an attribute or a node that does not belong there."""
    graph = made.graph
    names = [name for n in graph.node for name in (*n.input, *n.output)] + ["", "nowhere"]
    some = graph.node[rng.integers(len(graph.node))]
    tensor = graph.initializer[rng.integers(len(graph.initializer))]
    way = rng.integers(9)
    if way == 0 and len(some.input):
        some.input[int(rng.integers(len(some.input)))] = str(rng.choice(names))
    elif way == 1:
        some.output[0] = str(rng.choice(names))
    elif way == 2:
        tensor.dims[int(rng.integers(len(tensor.dims)))] = int(rng.choice([0, -1, 2**31, 2**62]))
    elif way == 3:
        tensor.data_type = int(rng.integers(-1, 30))
    elif way == 4 and len(some.attribute):
        some.attribute[0].ints[:] = [int(v) for v in rng.choice([-(2**40), -1, 0, 2**20, 2**62], rng.integers(6))]
    elif way == 5:
        some.op_type = str(rng.choice(["Conv", "ConvTranspose", "Gemm", "BatchNormalization", "Shape", "Loop", ""]))
    elif way == 6:
        graph.input[0].type.tensor_type.shape.dim[int(rng.integers(4))].dim_value = int(
            rng.choice([0, -5, 2**12, 2**62])
        )
    elif way == 7:
        tensor.name = str(rng.choice(names))
    else:
        graph.node.add().CopyFrom(some)
    return made.SerializeToString()


@pytest.mark.parametrize("seed", range(10))
def test_broken_files_end_in_an_error_or_work(seed):
    ended = set()
    for i in range(40):
        rng = np.random.default_rng([seed, i])
        made = small()
        content = mutated(made.SerializeToString(), rng) if i % 2 else restructured(made, rng)
        try:
            network = OnnxNetwork.read(content, input_size=8, linear=True, n_threads=1)
            new = network.replaced({site.name: through_identity(site.layer) for site in network.sites})
            network.batches(network.example)
            new.run(network.example)
            network.capture([site.name for site in network.sites], network.example)
            ended.add("works")
        except TensorconvError as error:
            ended.add(type(error).__name__)
    assert {"works", "FormatError", "ModelError"} <= ended


def test_random_bytes_are_no_network():
    with pytest.raises(FormatError, match=r"the bytes cannot be read as an ONNX network|the bytes is not an ONNX"):
        OnnxNetwork.read(b"\x00\x01 no network")
