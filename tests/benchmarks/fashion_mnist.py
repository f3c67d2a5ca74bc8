"""What a classifier keeps of its accuracy when all its convolutions after the first are compressed, without training.

Run ``python tests/benchmarks/fashion_mnist.py DATA NETWORK.onnx [NETWORK.onnx ..] [--write docs/fashion_mnist.md]``.
DATA holds the four gzipped IDX files of Fashion-MNIST (Debian's package ``dataset-fashion-mnist`` puts them in
/usr/share/datasets/fashion-mnist), and ``python -m tensorconv.demo.train DATA FOLDER --seed 1`` trains such a network.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from common import TorchChain, macs, plot, table, weights_only, write
from onnx import numpy_helper

import tensorconv as tc
from tensorconv.demo.train import read_split, scale

BATCH = 500
KEPT = (0,)
logger = logging.getLogger(__name__)
TEXT = """# A classifier's accuracy after compression

Made by `python tests/benchmarks/fashion_mnist.py DATA NETWORK.onnx .. --write docs/fashion_mnist.md`. The networks are
those of `python -m tensorconv.demo.train DATA FOLDER --seed SEED`: five convolutions and a linear classifier, trained
on Fashion-MNIST. All convolutions after the first are compressed, and nothing is trained afterwards. "Weights only" is
`tc.factorize` by that method, the same share for every layer. "Responses" is `tc.reconstruct` with
{options}, calibrated on {n} images of the training set.
Lost are points of accuracy on all {n_test} test images, for every network and on average; MACs are of the whole
network. Seconds are medians over the networks; the first budget's contain the error curves that the others go by, too.
"""


class Classifier:
    """A trained network as a chain, read from its ONNX file."""

    def __init__(self, path: Path) -> None:
        found = tc.read_layers(path)
        self.sizes = [one.input_size or () for one in found]
        weights = {i.name: numpy_helper.to_array(i) for i in onnx.load(path).graph.initializer}
        self.weight, self.bias = weights["linear.weight"], weights["linear.bias"]
        self.chain: list[Any] = []
        for one, size in zip(found, [*self.sizes[1:], self.sizes[-1]], strict=True):
            self.chain += [one.layer, tc.Activation.relu()]
            if size != one.input_size:
                self.chain.append(pooled)
        self.chain.append(self.logits)

    def logits(self, x: Any) -> Any:
        """Pool over all positions and classify."""
        return x.mean(axis=(2, 3)) @ self.weight.T + self.bias


def pooled(x: Any) -> Any:
    """Return the maxima of 2 x 2 blocks."""
    height, width = x.shape[2] // 2, x.shape[3] // 2
    return x[:, :, : 2 * height, : 2 * width].reshape(*x.shape[:2], height, 2, width, 2).max(axis=(3, 5))


def accuracy(steps: Sequence[Any], images: Any, labels: Any) -> float:
    """Return the share of images that a chain classifies as labelled."""
    run, starts = TorchChain(steps), range(0, len(images), BATCH)
    right = sum(np.sum(run(images[i : i + BATCH]).argmax(axis=1) == labels[i : i + BATCH]) for i in starts)
    return float(right) / len(images)


def arrays(folder: Path, split: str) -> tuple[Any, Any]:
    """Return the images and labels of a split."""
    images, labels = read_split(folder, split)
    return scale(images).numpy(), labels.numpy()


def results(
    network: Classifier, data: Any, chosen: argparse.Namespace
) -> Iterator[tuple[float, str, list[Any], float]]:
    """Compress one network in every way: yield budget, way, chain and seconds."""
    options = {"methods": chosen.methods, "n_sweeps": chosen.sweeps, "shrinkage": chosen.shrinkage}
    curves = None
    for budget in chosen.budgets:
        for method in chosen.weights_only:
            start = time.perf_counter()
            steps = weights_only(network.chain, network.sizes, KEPT, budget, method)
            yield budget, f"weights only, {method}", steps, time.perf_counter() - start
        start = time.perf_counter()
        found = tc.reconstruct(
            network.chain, data, budget=budget, keep=KEPT, curves=curves, nonlinear=chosen.nonlinear, **options
        )
        curves = found.curves
        yield budget, "responses", list(found.chain), time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> str:
    """Compress every network at every budget and return the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("networks", type=Path, nargs="+")
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.5, 0.25, 0.15])
    parser.add_argument("--weights-only", nargs="*", default=["cp", "best"], help="methods of the weights-only rows")
    parser.add_argument("--methods", nargs="+", default=["cp"])
    parser.add_argument("--images", type=int, default=500, help="number of images to calibrate on")
    parser.add_argument("--sweeps", type=int, default=3)
    parser.add_argument("--shrinkage", type=float)
    parser.add_argument("--nonlinear", action="store_true")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--plot", type=Path)
    chosen = parser.parse_args(arguments)
    seen, _ = arrays(chosen.data, "train")
    images, labels = arrays(chosen.data, "t10k")
    data = seen[np.random.default_rng(0).permutation(len(seen))[: chosen.images]]
    rows: dict[tuple[float, str], list[tuple[float, float, float]]] = {}
    dense = []
    for path in chosen.networks:
        network = Classifier(path)
        dense.append(accuracy(network.chain, images, labels))
        for budget, way, steps, seconds in results(network, data, chosen):
            lost = 100 * (dense[-1] - accuracy(steps, images, labels))
            cost = macs(steps, network.sizes) / macs(network.chain, network.sizes)
            rows.setdefault((budget, way), []).append((lost, cost, seconds))
            logger.info(
                "%s %.2f %s: %.4f of the MACs, %.2f points lost, %.0f s", path, budget, way, cost, lost, seconds
            )
    lines, curves = [], dict[str, list[tuple[float, float]]]()
    for (budget, way), found in rows.items():
        losses, costs, times = zip(*found, strict=True)
        mean = statistics.fmean(losses)
        numbers = [f"{budget:.0%}", way, f"{max(costs):.1%}", *(f"{lost:.2f}" for lost in losses), f"{mean:.2f}"]
        lines.append([*numbers, f"{statistics.median(times):.0f}"])
        curves.setdefault(way, []).append((statistics.fmean(costs), mean))
    names = [f"{path.stem}, {share:.2%}" for path, share in zip(chosen.networks, dense, strict=True)]
    head = ["budget", "fitted to", "MACs used, at most", *(f"lost by {name}" for name in names), "mean", "seconds"]
    options = f"`methods={chosen.methods}, n_sweeps={chosen.sweeps}, shrinkage={chosen.shrinkage}`"
    options = options.replace("`methods", "`nonlinear=True, methods") if chosen.nonlinear else options
    page = TEXT.format(options=options, n=len(data), n_test=len(images)) + "\n" + table(head, lines) + "\n"
    if chosen.plot:
        plot(chosen.plot, "share of the MACs", "points of accuracy lost", {"Fashion-MNIST": curves})
    if chosen.write:
        write(chosen.write, page)
    return page


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print(main())  # noqa: T201 - a program that prints its result
