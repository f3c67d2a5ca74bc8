"""Layers in files: a network with external data is compressed without being loaded, and becomes the same network."""

from __future__ import annotations

import gc
import pickle
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from models.onnx_graphs import model, node, whole

import tensorconv as tc
from tensorconv.errors import ModelError
from tensorconv.models.compressed_layer import CompressedLayer, StoredLayer, sequences_of
from tensorconv.models.network import Site, StoredSite
from tensorconv.models.onnx_network import OnnxNetwork

REQUEST: dict[str, Any] = {
    "budget": 0.6,
    "methods": ["svd"],
    "shares": (0.2, 0.4),
    "multiple": 4,
    "faster": False,
    "comparing": False,
    "exclude": ["/c"],
}


def network(last: str = "Relu") -> onnx.ModelProto:
    """Return three convolutions, of which one is to be left alone, and a last node."""
    nodes = [node("Conv", "x w b", "a", pads=[1, 1]), node("Relu", "a", "r"), node("Conv", "r v", "c", pads=[1, 1])]
    nodes += [node("Conv", "c u", "d", pads=[1, 1]), node(last, "d", "y")]
    stored = {"w": whole((16, 16, 3), 1), "b": whole((16,), 2), "v": whole((16, 16, 3), 4), "u": whole((16, 16, 3), 5)}
    return model(nodes, {"x": [1, 16, 9]}, "y", stored)


def external(folder: Path, made: onnx.ModelProto) -> Path:
    folder.mkdir()
    onnx.save_model(made, folder / "network.onnx", save_as_external_data=True, location="w.bin", size_threshold=64)
    return folder / "network.onnx"


def loaded(path: Path) -> onnx.ModelProto:
    """Load a network with its data, without the mark of where they were."""
    made = onnx.load(path)
    for tensor in made.graph.initializer:
        tensor.ClearField("data_location")
    return made


@pytest.fixture(autouse=True)
def _own_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


@pytest.mark.parametrize("with_folder", [False, True])
def test_what_is_saved_is_what_becomes_of_the_network_in_memory(tmp_path: Path, with_folder: bool) -> None:
    wanted = tc.compress(network(), **REQUEST)
    c = tc.compress(external(tmp_path / "in", network()), **REQUEST, work=tmp_path / "work" if with_folder else None)
    (tmp_path / "out").mkdir()
    c.save(tmp_path / "out" / "small.onnx")
    assert loaded(tmp_path / "out" / "small.onnx") == wanted.model
    assert [one.is_replaced for one in c.layers] == [one.is_replaced for one in wanted.layers]
    assert [one.sequence is None for one in c.layers] == [not one.is_replaced for one in wanted.layers]
    assert {one.is_replaced for one in c.layers} == {True, False}
    for mine, one in zip(c.layers, wanted.layers, strict=True):
        assert mine.layer.kernel.tobytes() == one.layer.kernel.tobytes()
        assert (mine.relative_error, mine.report) == (one.relative_error, one.report)
    assert [isinstance(one, StoredLayer) for one in c.layers] == [
        with_folder or not one.is_replaced for one in c.layers
    ]


def test_the_model_holds_what_is_new(tmp_path: Path) -> None:
    c = tc.compress(external(tmp_path / "in", network()), **REQUEST)
    new = {tensor.name for tensor in c.model.graph.initializer} - {"w", "b", "v", "u"}
    assert new
    assert all(len(tensor.raw_data) for tensor in c.model.graph.initializer if tensor.name in new)


def test_new_tensors_are_in_a_file_that_goes_with_the_network(tmp_path: Path) -> None:
    read = OnnxNetwork.read(external(tmp_path / "in", network()))
    new = read.replaced({site.name: tc.ConvSequence((site.layer,)) for site in read.sites})
    newer = new.replaced({site.name: tc.ConvSequence((site.layer,)) for site in new.sites[:1]})
    assert len([*(tmp_path / "temporary").iterdir()]) == 2
    x = whole((1, 16, 9), 3)
    wanted = read.run({"x": x})["y"]
    del new
    gc.collect()
    np.testing.assert_array_equal(newer.run({"x": x})["y"], wanted)
    newer.save(tmp_path / "out.onnx")
    del newer
    gc.collect()
    assert [*(tmp_path / "temporary").iterdir()] == []
    np.testing.assert_array_equal(OnnxNetwork.read(tmp_path / "out.onnx").run({"x": x})["y"], wanted)


def test_a_network_that_nothing_can_run_is_compressed(tmp_path: Path) -> None:
    path = external(tmp_path / "in", network("Unknown"))
    c = tc.compress(path, **REQUEST)
    assert c.comparison is None
    assert c.to_dict()["comparison"] is None
    assert str(c).endswith("the networks were not run: drift, score and latency of the whole are not known")
    c.report(tmp_path / "page.html")
    assert "the networks were not run" in (tmp_path / "page.html").read_text()
    with pytest.raises(ModelError, match="ONNX Runtime cannot run the network"):
        tc.compress(path, **{**REQUEST, "comparing": True})


def test_layers_are_read_when_asked_for_and_travel_whole(tmp_path: Path) -> None:
    path = external(tmp_path / "in", network())
    first, second, _ = OnnxNetwork.read(path).sites
    assert isinstance(first, StoredSite)
    assert first.layer is first.layer  # the last one read is kept
    before = first.layer
    assert second.layer.kernel.tobytes() != before.kernel.tobytes()
    assert first.layer is not before
    travelled = pickle.loads(pickle.dumps(first))  # noqa: S301 - our own
    assert type(travelled) is Site
    (tmp_path / "in" / "w.bin").unlink()
    assert travelled.layer.kernel.tobytes() == before.kernel.tobytes()


def test_a_layer_whose_work_folder_is_gone_says_so(tmp_path: Path) -> None:
    c = tc.compress(external(tmp_path / "in", network()), **REQUEST, work=tmp_path / "work")
    shutil.rmtree(tmp_path / "work")
    (one, *_) = (one for one in c.layers if one.is_replaced)
    with pytest.raises(ModelError, match="was kept in the work folder, which is gone; save before that"):
        _ = one.sequence


def test_sequences_are_those_of_replaced_layers() -> None:
    c = tc.compress(network(), **REQUEST)
    assert all(type(one) is CompressedLayer for one in c.layers)
    found = sequences_of(c.layers)
    assert dict(found) == {one.name: one.sequence for one in c.layers if one.sequence is not None}
    assert len(found) == 2
