"""Train the demo's network: a dense CNN on Fashion-MNIST, written as ONNX with its batch norms folded.

Run ``python -m tensorconv.demo.train DATA FOLDER`` where DATA holds the four gzipped IDX files of Fashion-MNIST
(Debian's package ``dataset-fashion-mnist`` puts them in /usr/share/datasets/fashion-mnist) and FOLDER receives
``network.onnx`` and ``images.npz``. It needs torch and onnx, and takes about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import gzip
import logging
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

# (in, out, kernel size, pooled after): every convolution is dense, padded to keep its size, and has stride 1
CONVOLUTIONS = ((1, 32, 5, True), (32, 64, 3, False), (64, 64, 3, True), (64, 128, 3, False), (128, 128, 3, False))
N_CLASSES = 10
N_SHIPPED, N_CALIBRATION = 1000, 320
logger = logging.getLogger(__name__)


def read_split(folder: Path, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the images (n, 1, 28, 28) as bytes and the labels (n,) of one split, ``train`` or ``t10k``."""
    pixels = np.frombuffer(
        gzip.decompress((folder / f"{split}-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16
    )
    labels = np.frombuffer(gzip.decompress((folder / f"{split}-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    return torch.from_numpy(pixels.reshape(-1, 1, 28, 28).copy()), torch.from_numpy(labels.astype(np.int64))


def scale(images: torch.Tensor) -> torch.Tensor:
    """Map bytes to [-1, 1], the range the network is trained on."""
    return images.float() / 127.5 - 1


def network() -> nn.Sequential:
    """Return the untrained network."""
    modules: list[nn.Module] = []
    for n_in, n_out, size, pooled in CONVOLUTIONS:
        modules += [nn.Conv2d(n_in, n_out, size, padding=size // 2, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()]
        if pooled:
            modules.append(nn.MaxPool2d(2))
    return nn.Sequential(*modules, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CONVOLUTIONS[-1][1], N_CLASSES))


def train(model: nn.Sequential, images: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    """Fit the model by SGD with one cycle of the learning rate; every other batch is mirrored."""
    n_batches = len(images) // 128
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, epochs * n_batches)
    model.train()
    for epoch in range(epochs):
        order = torch.randperm(len(images))
        for i in range(n_batches):
            chosen = order[i * 128 : (i + 1) * 128]
            batch = scale(images[chosen])
            if i % 2:
                batch = batch.flip(3)
            loss = nn.functional.cross_entropy(model(batch), labels[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        logger.info("epoch %d of %d: loss %.3f", epoch + 1, epochs, loss.item())


def fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[np.ndarray, np.ndarray]:
    """Return the kernel and bias of the convolution followed by the batch norm in inference."""
    gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)  # type: ignore[union-attr]
    kernel = convolution.weight.double() * gain[:, None, None, None]
    bias = norm.bias.double() - norm.running_mean.double() * gain  # type: ignore[union-attr]
    return kernel.detach().numpy().astype(np.float32), bias.detach().numpy().astype(np.float32)


def to_onnx(model: nn.Sequential) -> onnx.ModelProto:
    """Write the trained model as ONNX: Conv, Relu, MaxPool, GlobalAveragePool, Flatten, Gemm."""
    nodes, initializers, value = [], [], "images"
    modules = list(model)
    for i, (_, _, size, pooled) in enumerate(CONVOLUTIONS, 1):
        at = next(j for j, module in enumerate(modules) if isinstance(module, nn.Conv2d))
        kernel, bias = fold(modules[at], modules[at + 1])  # type: ignore[arg-type]
        modules = modules[at + 2 :]
        name = f"conv{i}"
        initializers += [
            numpy_helper.from_array(kernel, f"{name}.weight"),
            numpy_helper.from_array(bias, f"{name}.bias"),
        ]
        nodes.append(
            helper.make_node(
                "Conv",
                [value, f"{name}.weight", f"{name}.bias"],
                [name],
                name=name,
                kernel_shape=[size] * 2,
                pads=[size // 2] * 4,
            )
        )
        nodes.append(helper.make_node("Relu", [name], [f"relu{i}"]))
        value = f"relu{i}"
        if pooled:
            nodes.append(helper.make_node("MaxPool", [value], [f"pool{i}"], kernel_shape=[2, 2], strides=[2, 2]))
            value = f"pool{i}"
    linear = modules[-1]
    initializers.append(numpy_helper.from_array(linear.weight.detach().numpy(), "linear.weight"))  # type: ignore[operator]
    initializers.append(numpy_helper.from_array(linear.bias.detach().numpy(), "linear.bias"))  # type: ignore[operator]
    nodes += [
        helper.make_node("GlobalAveragePool", [value], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Gemm", ["features", "linear.weight", "linear.bias"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "fashion_mnist",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", N_CLASSES])],
        initializers,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    return made


def main() -> None:
    """Train, report the accuracy on the 10,000 test images, and write the network with some images of both sets."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(arguments.seed)
    model = network()
    seen, classes = read_split(arguments.data, "train")
    train(model, seen, classes, arguments.epochs)
    model.eval()
    images, labels = read_split(arguments.data, "t10k")
    with torch.no_grad():
        batches = torch.arange(len(images)).reshape(-1, 1000)
        correct = sum(int((model(scale(images[i])).argmax(1) == labels[i]).sum()) for i in batches)
    logger.info("%d of %d test images right", correct, len(images))
    onnx.save(to_onnx(model), str(arguments.folder / "network.onnx"))
    np.savez_compressed(
        arguments.folder / "images.npz",
        images=images[:N_SHIPPED, 0].numpy(),
        labels=labels[:N_SHIPPED].numpy().astype(np.uint8),
        calibration=seen[:N_CALIBRATION, 0].numpy(),
    )


if __name__ == "__main__":
    main()
