"""The demo end to end: what it promises about errors, costs and accuracy holds for the files that it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import network, run, write
from onnx import helper
from oracles import reference_bound, reference_sequence
from typer.testing import CliRunner

import tensorconv as tc
from tensorconv import demo
from tensorconv.cli.app import app
from tensorconv.demo.splice import splice
from tensorconv.errors import ModelError

ERROR = 0.15


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("demo") / "new" / "folder"


@pytest.fixture(scope="module")
def said(folder):
    """Run the demo once, as the command does, and return what it says in JSON."""
    result = CliRunner().invoke(app, ["demo", "--out", str(folder), "--error", str(ERROR), "--json"])
    assert result.exit_code == 0, (result.stdout, result.stderr, result.exception)
    assert result.stderr == ""
    return json.loads(result.stdout)


def test_each_layer_is_checked_cheaper_and_saved(said, folder):
    layers = tc.read_layers(demo.NETWORK)
    assert [entry["layer"] for entry in said["layers"]] == [found.layer.name for found in layers]
    factorized = [entry for entry in said["layers"] if entry["saved"]]
    assert len(factorized) >= 4
    for entry, found in zip(said["layers"], layers, strict=True):
        before, after = entry["report"]["macs"]
        assert before == found.layer.macs(found.input_size)
        assert entry["report"]["consistent"] is True
        if entry["saved"] is None:
            assert (entry["method"], before) == ("dense", after)
            continue
        assert after < before
        assert Path(entry["saved"]) == folder / f"{entry['layer']}.safetensors"
        report = tc.verify(found.layer, tc.load(entry["saved"]), input_size=found.input_size)
        assert report.kernel_error == entry["report"]["kernel_error"] <= ERROR
        assert report.bias_error == 0


def test_the_network_that_is_written_is_the_factors_spliced_in(said, folder):
    path = Path(said["network"]["saved"])
    onnx.checker.check_model(onnx.load(str(path)), full_check=True)
    before, after = onnx.load(str(demo.NETWORK)).graph, onnx.load(str(path)).graph
    kept = [node for node in before.node if node.op_type != "Conv"]
    assert [node for node in after.node if node.op_type != "Conv"] == kept
    assert (after.input, after.output) == (before.input, before.output)
    written = tc.read_layers(path)
    factors = [layer for entry in said["layers"] if entry["saved"] for layer in tc.load(entry["saved"])]
    dense = {entry["layer"] for entry in said["layers"] if not entry["saved"]}
    written = [found for found in written if found.layer.name not in dense]
    assert [found.layer.kernel.tobytes() for found in written] == [layer.kernel.tobytes() for layer in factors]
    macs = sum(found.layer.macs(found.input_size) for found in tc.read_layers(path))
    assert macs == said["network"]["macs"][1] < 0.8 * said["network"]["macs"][0]
    assert sorted(file.name for file in folder.iterdir()) == sorted(
        [path.name, *(f"{entry['layer']}.safetensors" for entry in said["layers"] if entry["saved"])]
    )


def test_accuracy_is_what_the_networks_have(said):
    with np.load(demo.IMAGES) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    assert images.shape == (1000, 28, 28)
    x = images[:, None].astype("float32") / np.float32(127.5) - 1
    for i, path in enumerate((demo.NETWORK, Path(said["network"]["saved"]))):
        right = np.mean(run(path, x).argmax(axis=1) == labels)
        # batches may round differently: at most a few images that sit on the border between two classes
        assert abs(right - said["network"]["accuracy"][i]) <= 2 / len(labels)
    assert said["network"]["accuracy"][0] > 0.9
    assert said["network"]["accuracy"][1] > said["network"]["accuracy"][0] - 0.05
    assert said["network"]["n_images"] == 1000


def test_layers_stay_dense_where_nothing_is_cheaper(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    original = demo.read_layers
    monkeypatch.setattr(demo, "read_layers", lambda path: original(path)[:1])  # the first layer is quick at any error
    first, whole = demo.run(error=1e-6)
    assert (first.factorization.method, first.path) == ("dense", None)
    assert first.report.exact
    assert whole.macs[0] == whole.macs[1]
    assert whole.accuracy[0] == whole.accuracy[1]
    assert [file.name for file in Path("tensorconv-demo").iterdir()] == ["network.onnx"]
    text = CliRunner().invoke(app, ["demo", "--error", "1e-6"]).stdout
    assert "conv1: 1 -> 32, kernel 5x5, stride 1, padding 2, bias, at input 28x28\nstays dense" in text
    assert "100.0% of the MACs" in text


def test_splice_leaves_the_rest_alone(tmp_path):
    rng = np.random.default_rng(0)
    kernel, bias = rng.standard_normal((4, 3, 3)).astype("float32"), rng.standard_normal(4).astype("float32")
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a"], name="one", pads=[1, 1]),
        helper.make_node("Conv", ["x", "w", "c"], ["d"], name="two", pads=[1, 1]),
        helper.make_node("Sub", ["a", "d"], ["y"]),
    ]
    model = network(nodes, {"w": kernel, "b": bias, "c": 2 * bias}, (1, 3, 7))
    before = model.SerializeToString()
    path = write(model, tmp_path / "m.onnx")
    one, _ = tc.read_layers(path)
    f = tc.svd(one.layer, 2)
    after = splice(model, {"one": f.sequence})
    assert model.SerializeToString() == before
    assert [node.op_type for node in after.graph.node] == ["Conv", "Conv", "Conv", "Sub"]
    assert list(after.graph.node)[2:] == list(model.graph.node)[1:]
    names = [tensor.name for tensor in after.graph.initializer]
    assert names[:2] == ["w", "c"]  # w is still read by the other convolution, b by none
    assert len(names) == 5
    x = rng.standard_normal((1, 3, 7)).astype("float32")
    second = tc.ConvLayer(kernel, one.layer.geometry, 2 * bias)
    wanted = reference_sequence(x, f.sequence) - reference_sequence(x, second.sequence)
    units = (np.finfo(np.float32).eps / 2, np.finfo(np.float64).eps / 2)
    bound = sum(reference_bound(x, steps, units) for steps in (f.sequence, second.sequence))
    # and the subtraction, rounded once
    assert np.all(np.abs(run(after, x) - wanted) <= bound + units[0] * (np.abs(wanted) + bound))


def test_splice_refusals():
    model = network([helper.make_node("Conv", ["x", "w"], ["y"], name="n")], {"w": np.ones((1, 1, 3), "f4")}, (1, 1, 5))
    with pytest.raises(ModelError, match="0 nodes are named 'other'"):
        splice(model, {"other": tc.ConvLayer.of(np.ones((1, 1, 3), "f4")).sequence})
    with pytest.raises(ModelError, match="is not valid"):
        splice(model, {"n": tc.ConvLayer.of(np.ones((1, 1, 3), "f8")).sequence})


def test_the_demo_names_the_extra_it_needs(tmp_path):
    code = (
        "import sys; sys.modules['onnxruntime'] = None; from tensorconv.cli import main; "
        f"sys.argv[1:] = ['demo', '--out', {str(tmp_path / 'out')!r}]; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "tensorconv: the demo needs onnxruntime: pip install 'tensorconv[cli]'\n"
    assert not (tmp_path / "out").exists()


def test_the_shipped_files_say_where_they_come_from():
    notice = demo.NETWORK.with_name("NOTICE").read_text()
    for word in ("Fashion-MNIST", "MIT License", "Copyright (c) 2017 Zalando SE", "network.onnx", "images.npz"):
        assert word in notice
