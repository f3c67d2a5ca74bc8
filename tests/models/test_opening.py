"""Opening: models of every kind, what tells runs apart, and how many images are worth timing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from models.onnx_graphs import model, node, small
from torch import nn

from tensorconv.demo import NETWORK
from tensorconv.errors import ModelError, TensorconvError
from tensorconv.models.onnx_network import OnnxNetwork
from tensorconv.models.opening import TIMED_MACS, identity, images_to_time, open_network
from tensorconv.models.torch_network import TorchNetwork


def test_onnx_is_read_from_path_text_bytes_and_model(tmp_path: Path) -> None:
    made = small()
    path = tmp_path / "Small.ONNX"
    onnx.save(made, path)
    names = [site.name for site in OnnxNetwork.read(made).sites]
    assert len(names) == 2
    for given in (path, str(path), path.read_bytes(), made):
        network = open_network(given)
        assert isinstance(network, OnnxNetwork)
        assert [site.name for site in network.sites] == names


@pytest.mark.parametrize(
    "data",
    [np.ones((2, 3, 8, 8), "float32"), torch.ones(2, 3, 8, 8), {"input": np.ones((2, 3, 8, 8), "float32")}, None],
)
@pytest.mark.parametrize("as_list", [False, True])
def test_a_module_takes_one_image_of_the_data_as_its_example(data: Any, as_list: bool) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3))
    if data is None:
        network = open_network(module, input_size=8)
    else:
        network = open_network(module, data=[data, data] if as_list else data)
    assert isinstance(network, TorchNetwork)
    assert network.sites[0].input_sizes == ((8, 8),)
    (example,) = network.example.values()
    assert example.shape == (1, 3, 8, 8)


@pytest.mark.parametrize("kind", ["onnx", "torch"])
@pytest.mark.parametrize("linear", [False, True])
def test_fully_connected_layers_are_looked_at_where_asked(kind: str, linear: bool) -> None:
    if kind == "onnx":
        network = open_network(NETWORK, linear=linear)
    else:
        module = nn.Sequential(nn.Conv1d(3, 4, 3), nn.Flatten(), nn.Linear(24, 5))
        network = open_network(module, input_size=8, linear=linear)
    assert any(site.linear for site in network.sites) == linear


def test_an_input_size_that_is_left_open_is_the_one_given() -> None:
    network = open_network(small(size=("h", "w")), input_size=(6, 10))
    assert network.sites[0].input_sizes == ((6, 10),)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("network.pt", "model must be an .onnx file, a ModelProto or a torch module, got 'network.pt'"),
        (Path("network"), "model must be an .onnx file, a ModelProto or a torch module, got 'network'"),
        (3, "model must be a path, an onnx.ModelProto or a torch.nn.Module, got int"),
        (None, "model must be a path, an onnx.ModelProto or a torch.nn.Module, got NoneType"),
        (nn.Conv2d, "model must be a path, an onnx.ModelProto or a torch.nn.Module, got type"),
        ({"weight": np.ones(3)}, "model must be a path, an onnx.ModelProto or a torch.nn.Module, got dict"),
    ],
)
def test_anything_else_is_refused(given: Any, text: str) -> None:
    with pytest.raises(ModelError, match=re.escape(text)):
        open_network(given)


def test_data_without_a_batch_are_refused() -> None:
    with pytest.raises(TensorconvError):
        open_network(nn.Sequential(nn.Conv2d(3, 4, 3)), data=[])


def test_runs_are_told_apart_by_network_request_and_data() -> None:
    x = np.ones((2, 3, 8, 8), "float32")
    other = x.copy()
    other[1, 2, 7, 7] = np.nextafter(np.float32(1), np.float32(2))
    network = open_network(small())
    changed = small()
    changed.graph.node[4].op_type = "Mul"  # the same convolutions
    rows = [
        identity(network, {"budget": 0.5}, None),
        identity(network, {"budget": 0.4}, None),
        identity(network, {"budget": 0.5}, [{"x": x}]),
        identity(network, {"budget": 0.5}, [{"x": other}]),
        identity(network, {"budget": 0.5}, [{"x": x.reshape(2, 3, 4, 16)}]),
        identity(network, {"budget": 0.5}, [{"y": x}]),
        identity(network, {"budget": 0.5}, [{"x": x}, {"x": x}]),
        identity(open_network(small(size=(9, 9))), {"budget": 0.5}, None),
        identity(open_network(changed), {"budget": 0.5}, None),
    ]
    assert all(rows[i] != rows[j] for i in range(len(rows)) for j in range(i))
    assert identity(open_network(small()), {"budget": 0.5}, [{"x": x.copy()}]) == rows[2]
    assert identity(network, {"budget": 0.5}, [{"x": torch.from_numpy(x)}]) == rows[2]


@pytest.mark.parametrize(("count", "channels", "expected"), [(64, 4, 64), (1, 4, 1), (7, 1024, 3), (64, 2048, 1)])
def test_long_convolutions_are_timed_on_fewer_images(count: int, channels: int, expected: int) -> None:
    weights = np.zeros((channels, channels, 1, 1), "float32")
    nodes = [node("Conv", "x w", "y")]
    network = OnnxNetwork.read(model(nodes, {"x": ["n", channels, 32, 32]}, "y", {"w": weights}))
    macs = channels**2 * 32**2
    assert expected == 1 or expected * macs <= TIMED_MACS < 2 * expected * macs or expected == count
    shapes = [np.broadcast_to(np.float32(0), (n, channels, 32, 32)) for n in (count, 1)]
    assert images_to_time(network, [{"x": x} for x in shapes]) == expected


def test_without_data_the_example_is_timed() -> None:
    network = open_network(small())
    assert images_to_time(network, None) == len(network.example["x"])
