"""The demo end to end: what it promises about costs, errors and accuracy holds for the files that it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import run
from typer.testing import CliRunner

import tensorconv as tc
from tensorconv import demo
from tensorconv.cli.app import app
from tensorconv.models.plan import Plan

BUDGET = 0.25


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("demo") / "new" / "folder"


@pytest.fixture(scope="module")
def said(folder):
    """Run the demo once, as the command does, and return what it says in JSON."""
    result = CliRunner().invoke(app, ["demo", "--out", str(folder), "--json"])
    assert result.exit_code == 0, (result.stdout, result.stderr, result.exception)
    assert result.stderr == ""
    return json.loads(result.stdout)


def test_layers_are_checked_and_cheaper(said, folder):
    found = tc.read_layers(demo.NETWORK)
    planned = said["plan"]["layers"]
    assert [entry["name"] for entry in planned] == [one.layer.name for one in found]
    written = tc.read_layers(folder / "network.onnx")
    assert sorted(file.name for file in folder.iterdir()) == ["network.onnx", "plan.json"]
    for entry, one in zip(planned, found, strict=True):
        parts = [other for other in written if other.layer.name.split("/")[0].split(".")[0] == entry["name"]]
        macs = sum(other.layer.macs(other.input_size) for other in parts)
        assert entry["before"]["macs"] == one.layer.macs(one.input_size)
        assert macs == (entry["choice"] or entry["before"])["macs"]
        if entry["choice"]:
            sequence = tc.ConvSequence(tuple(other.layer for other in parts))
            report = tc.verify(one.layer, sequence)
            assert report.consistent
            assert report.kernel_error == pytest.approx(said["layers"][entry["name"]]["report"]["kernel_error"])
            assert 0 < said["layers"][entry["name"]]["response_error"] < 0.5
    shares = [sum(other.layer.macs(other.input_size) for other in network) for network in (found, written)]
    assert shares[1] <= BUDGET * shares[0]
    assert Plan.load(folder / "plan.json").to_dict() == Plan.from_dict(said["plan"]).to_dict()
    onnx.checker.check_model(onnx.load(str(folder / "network.onnx")), full_check=True)


def test_accuracy_is_what_the_networks_have(said):
    with np.load(demo.IMAGES) as arrays:
        images, labels, calibration = arrays["images"], arrays["labels"], arrays["calibration"]
    assert (images.shape, calibration.shape) == ((1000, 28, 28), (320, 28, 28))
    x = images[:, None].astype("float32") / np.float32(127.5) - 1
    before, after = said["comparison"]["score"]
    for path, score in ((demo.NETWORK, before), (Path(said["saved"]), after)):
        right = 100 * np.mean(run(path, x).argmax(axis=1) == labels)
        # batches may round differently: at most a few images that sit on the border between two classes
        assert abs(right - score) <= 0.2
    assert before > 93
    assert after > before - 2
    assert said["comparison"]["n_bytes"][1] < said["comparison"]["n_bytes"][0] / 2


def test_calibration_images_are_not_those_of_the_test():
    assert not set(map(bytes, demo.images())) & set(map(bytes, demo.images("calibration")))


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
