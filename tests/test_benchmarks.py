"""Every benchmark runs once, small, so that it still works when its figures are wanted."""

import gzip
import importlib.util
import re
import sys
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest
from PIL import Image

from tensorconv.demo import train

FILES = ("--write", "{folder}/page.md", "--plot", "{folder}/plot.svg")
PROGRAMS = {
    "blocks": ["--channels", "16", "--size", "4", "--write", "{folder}/page.md"],
    "blas_threads": ["--channels", "8", "--rank", "4", "--sweeps", "3"],
    "channelwise": ["{folder}", "--perturbations", "1", "--write", "{folder}/page.md"],
    "convolution": [
        "--threads",
        "1",
        "--rounds",
        "1",
        "--seconds",
        "0",
        "--shrink",
        "8",
        "--write",
        "{folder}/page.md",
    ],
    "decompositions": ["{folder}", "--channels", "24", "--repeats", "1", "--write", "{folder}/page.md"],
    "error_costs": ["{folder}", "--draw", "kernel", *FILES],
    "front_page": [
        *("--shares", "0.5", "--budgets", "0.7", "--layer", "0", "--images", "4", "--methods", "svd"),
        *("--plot", "{folder}/plot.svg"),
    ],
    "kinds": ["--channels", "8", "--size", "9", *FILES],
    "frameworks": ["--targets", "torch", "--write", "{folder}/page.md"],
    "fashion_mnist": ["{folder}", "{folder}/network.onnx", "--images", "20", "--budgets", "0.7", *FILES],
    "networks": [
        *(
            "--classifier",
            "{folder}",
            "--budgets",
            "0.6",
            "--batch",
            "4",
            "--jobs",
            "1",
            "--method",
            "svd",
            "--even-if-slower",
        ),
        *("--onnx", "{folder}/network.onnx", "--budget", "0.7", "--trunk", "{folder}/weights.h5", "--size", "32"),
        *("--photos", "{folder}/0.png", "{folder}/1.png", "--write", "{folder}/page.md"),
    ],
    "patch_statistics": ["--megabytes", "1", "--repeats", "1", "--gigabytes", "0.01", "--write", "{folder}/page.md"],
    "rounding": ["{folder}/kernel.npz", "--write", "{folder}/page.md"],
    "scaling": [
        *("--channels", "4", "8", "--layers", "2", "--workers", "1", "--large", "2", "--megabytes", "0.1"),
        *("--write", "{folder}/page.md"),
    ],
    "synthetic_responses": ["--widths", "4", "11", "--images", "4", "--terms", "1", *FILES],
    "waifu2x": [
        *("{folder}", "{folder}/0.png", "--calibrate", "{folder}/1.png", "--budgets", "0.5", "--crops", "2"),
        *("--crop-size", "16", "--size", "32", *FILES),
    ],
}
FOLDER = Path(__file__).parent / "benchmarks"
RNG = np.random.default_rng


def write_kernels(folder: Path) -> None:
    for file, shape in (("kernel", (24, 24, 3, 3)), ("other", (16, 24, 5))):
        np.savez(folder / f"{file}.npz", weight=RNG(0).standard_normal(shape).astype("float32"))


def write_classifier(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split, n in (("train", 30), ("t10k", 20)):
        for kind, header, size in (("images-idx3", 16, 28 * 28), ("labels-idx1", 8, 1)):
            content = bytes(header) + RNG(n).integers(0, 10, n * size, np.uint8).tobytes()
            (folder / f"{split}-{kind}-ubyte.gz").write_bytes(gzip.compress(content))
    monkeypatch.setattr(train, "CONVOLUTIONS", ((1, 4, 5, True), (4, 8, 3, True), (8, 8, 3, False)))
    onnx.save(train.to_onnx(train.network()), str(folder / "network.onnx"))


def write_super_resolution(folder: Path) -> None:
    channels = (3, 4, 4, 4, 4, 4, 4, 3)
    arrays: dict[str, np.ndarray] = {}
    for i in range(1, 8):
        shape = (channels[i], channels[i - 1], 3, 3)
        arrays |= {
            f"conv{i}/W": RNG(i).standard_normal(shape, np.float32),
            f"conv{i}/b": np.zeros(shape[0], np.float32),
        }
    write_photos(folder)
    (folder / "vgg7").mkdir()
    np.savez(folder / "vgg7" / "anime_style_scale_rgb.npz", **arrays)


def write_photos(folder: Path) -> None:
    for i in range(2):
        Image.fromarray(RNG(i).integers(0, 256, (40, 47, 3), np.uint8)).save(folder / f"{i}.png")


def write_trunk(folder: Path) -> None:
    channels = 3
    with h5py.File(folder / "weights.h5", "w") as file:
        for block, count in enumerate((2, 2, 3, 3, 3), 1):
            for i in range(count):
                layer = f"block{block}/layers/conv2d" + (f"_{i}" if i else "")
                file[f"{layer}/vars/0"] = RNG(i).standard_normal((3, 3, channels, 16), np.float32)
                file[f"{layer}/vars/1"] = np.zeros(16, np.float32)
                channels = 16


@pytest.mark.filterwarnings("ignore:Trying to compute SVD")  # TensorLy's, of more vectors than there are
@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "common"))
def test_benchmark_runs_small(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_kernels(tmp_path)
    if name in ("fashion_mnist", "networks"):
        write_classifier(tmp_path, monkeypatch)
    if name == "networks":
        write_photos(tmp_path)
        write_trunk(tmp_path)
    if name == "waifu2x":
        write_super_resolution(tmp_path)
    monkeypatch.syspath_prepend(FOLDER)
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, program)  # dataclasses look for their module
    spec.loader.exec_module(program)
    page = program.main([argument.format(folder=tmp_path) for argument in PROGRAMS[name]])
    assert re.search(r"\d", page)
    assert "nan" not in page
    if "--write" in PROGRAMS[name]:
        assert (tmp_path / "page.md").read_text(encoding="utf-8") == page
    if "--plot" in PROGRAMS[name]:
        assert "<svg" in (tmp_path / "plot.svg").read_text(encoding="utf-8")
