"""ONNX files read and written: external data inside the folder alone, two files where one is too small, old or new."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from models.onnx_graphs import model, node, small, through_identity, whole

from tensorconv.errors import FormatError, ModelError
from tensorconv.models.onnx_external import with_data
from tensorconv.models.onnx_file import file_size, read_model, save_model
from tensorconv.models.onnx_network import OnnxNetwork

X = whole((1, 16, 9), 3)


def large() -> onnx.ModelProto:
    """Return a network with tensors of more than a kilobyte."""
    nodes = [node("Conv", "x w b", "a", pads=[1, 1]), node("Relu", "a", "r"), node("Conv", "r v", "y")]
    stored = {"w": whole((16, 16, 3), 1), "b": whole((16,), 2), "v": whole((16, 16, 3), 4)}
    return model(nodes, {"x": [1, 16, 9]}, "y", stored)


def external(folder: Path, location: str = "weights.bin") -> Path:
    """Save the network with external data, and return its path."""
    path = folder / "network.onnx"
    onnx.save_model(large(), path, save_as_external_data=True, location=location, size_threshold=64)
    return path


def loaded(path: Path) -> onnx.ModelProto:
    """Load a model with its data, without the mark that they were elsewhere, which onnx.load leaves."""
    made = onnx.load(path)
    for tensor in made.graph.initializer:
        tensor.ClearField("data_location")
    return made


def with_location(path: Path, **fields: str) -> None:
    """Overwrite what a model says of the place of its first external tensor."""
    made = onnx.load(path, load_external_data=False)
    entries = {entry.key: entry for entry in made.graph.initializer[0].external_data}
    for key, value in fields.items():
        (entries.get(key) or made.graph.initializer[0].external_data.add(key=key)).value = value
    path.write_bytes(made.SerializeToString())


def test_external_data_are_read_run_replaced_and_saved(tmp_path):
    network = OnnxNetwork.read(external(tmp_path))
    plain = OnnxNetwork.read(large())
    wanted = plain.run({"x": X})["y"]
    np.testing.assert_array_equal(network.run({"x": X})["y"], wanted)
    new = network.replaced({"/a": through_identity(network.sites[0].layer)})
    (tmp_path / "other").mkdir()
    path = tmp_path / "other" / "new.onnx"
    new.save(path)
    files = sorted(entry.name for entry in path.parent.iterdir())
    content = next(path.parent.glob("*.data")).read_bytes()
    assert files == [f"new-{hashlib.sha256(content).hexdigest()[:16]}.data", "new.onnx"]
    onnx.checker.check_model(path, full_check=True)
    again = OnnxNetwork.read(path)
    np.testing.assert_array_equal(again.run({"x": X})["y"], wanted)
    assert {tensor.name for tensor in onnx.load(path).graph.initializer} == {
        "v",
        "/a.0.kernel",
        "/a.1.kernel",
        "/a.1.bias",
    }
    # the files' size but for the name of the file, which is repeated with every tensor in it
    named = sum(tensor.data_location for tensor in again.model.graph.initializer) * len("new")
    assert sum(entry.stat().st_size for entry in path.parent.iterdir()) == new.n_bytes + named


def test_saving_over_itself_keeps_the_old_data(tmp_path):
    path = external(tmp_path)
    network = OnnxNetwork.read(path)
    before = (tmp_path / "weights.bin").read_bytes()
    network.save(path)
    assert (tmp_path / "weights.bin").read_bytes() == before
    first = {entry.name for entry in tmp_path.iterdir()}
    OnnxNetwork.read(path).save(path)
    assert {entry.name for entry in tmp_path.iterdir()} == first
    assert onnx.load(path) == onnx.load(external(tmp_path / "."))


def test_what_is_too_large_for_one_file_gets_a_second(tmp_path):
    path = tmp_path / "split.onnx"
    save_model(path, large(), None, limit=4000)
    assert len(list(tmp_path.iterdir())) == 2
    assert loaded(path) == large()
    assert [tensor.data_location for tensor in onnx.load(path, load_external_data=False).graph.initializer] == [1, 0, 1]
    assert file_size(large(), None, limit=4000) == sum(e.stat().st_size for e in tmp_path.iterdir()) - 2 * len("split")
    with pytest.raises(ModelError, match=r"the model has .* bytes without its tensors, a file may have 100"):
        save_model(path, large(), None, limit=100)
    assert loaded(path) == large()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "location",
    [
        "/etc/hostname",
        "../secret.bin",
        "a/../../secret.bin",
        "C:\\secret",
        "..\\secret",
        "",
        "link",
        "folder",
        "lost",
        "pipe",
        "loop",
        "x" * 5000,
        "nul\0",
    ],
)
def test_data_outside_the_folder_are_never_read(tmp_path, location):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(10_000))
    (folder / "link").symlink_to(tmp_path / "secret.bin")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    path = external(folder)
    with_location(path, location=location)
    network = OnnxNetwork.read(path)
    with pytest.raises(FormatError, match=r"is no file inside the model's folder; keep the data beside the model"):
        network.run({"x": X})
    with pytest.raises(FormatError, match=r"no file inside the model's folder"):
        network.save(tmp_path / "new.onnx")
    assert not (tmp_path / "new.onnx").exists()
    assert not list(tmp_path.glob(".tensorconv*"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"offset": "100000"}, "wants 3072 bytes at 100000 of 'weights.bin', which has 6"),
        ({"length": "99999999999999"}, "wants 99999999999999 bytes at 0"),
        ({"offset": "-5"}, "wants 3072 bytes at -5"),
        ({"length": "-5"}, "wants -5 bytes at"),
        ({"length": "many"}, "has an offset or length that is no number"),
    ],
)
def test_stretches_that_the_file_does_not_have(tmp_path, fields, message):
    path = external(tmp_path)
    with_location(path, **fields)
    with pytest.raises(FormatError, match=message):
        OnnxNetwork.read(path).run({"x": X})


def test_a_wrong_length_is_found(tmp_path):
    path = external(tmp_path)
    with_location(path, length="12")
    network = OnnxNetwork.read(path)
    with pytest.raises(ModelError, match=r"ONNX Runtime cannot run the network"):
        network.run({"x": X})


def test_external_data_without_a_folder(tmp_path):
    content = external(tmp_path).read_bytes()
    network = OnnxNetwork.read(content)
    with pytest.raises(
        FormatError, match=r"only a path says in which folder; read the model by its path, or by onnx.load"
    ):
        network.run({"x": X})


def test_memory_of_the_process_is_no_file(tmp_path):
    path = external(tmp_path)
    with_location(path, location="*/_ORT_MEM_ADDR_/*", offset="4096")
    with pytest.raises(FormatError, match=r"no file inside the model's folder"):
        OnnxNetwork.read(path).run({"x": X})


def test_sources_that_are_no_network(tmp_path):
    with pytest.raises(FormatError, match=r"is no file; name the .onnx file itself"):
        read_model(tmp_path)
    with pytest.raises(FormatError, match=r"is read from a path, bytes or an onnx.ModelProto, got list"):
        read_model([])
    with pytest.raises(FileNotFoundError):
        read_model(tmp_path / "lost.onnx")
    with pytest.raises(
        FormatError, match=r"the message is not an ONNX network: it holds no graph, or one without nodes"
    ):
        read_model(onnx.ModelProto())


def test_a_killed_save_leaves_the_old_network(tmp_path):
    path = tmp_path / "network.onnx"
    path.write_bytes(small().SerializeToString())
    script = (
        "import os, sys\nfrom pathlib import Path\nimport onnx\nfrom tensorconv.models.onnx_file import save_model\n"
        "model = onnx.load(sys.argv[2])\nPath.replace = lambda *_: os._exit(9)\n"
        "save_model(Path(sys.argv[1]), model, None, limit=int(sys.argv[3]))\n"
    )
    source = tmp_path / "source.onnx"
    source.write_bytes(large().SerializeToString())
    for limit in ("4000", "1000000"):
        done = subprocess.run([sys.executable, "-c", script, path, source, limit], check=False)
        assert done.returncode == 9
        assert onnx.load(path) == small()


def test_every_tensor_is_taken_in(tmp_path):
    made = onnx.load(external(tmp_path), load_external_data=False)
    (data,) = (t for t in made.graph.initializer if t.name == "w")
    assert with_data(data, tmp_path).raw_data == large().graph.initializer[0].raw_data
