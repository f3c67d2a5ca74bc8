"""Tests of the exporters' registry: entry points, third parties, missing packages, and what an import loads."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from export.sequences import assert_same, layer
from oracles import reference_convolution

import tensorconv as tc
from tensorconv.errors import KernelTypeError, UnsupportedExportError
from tensorconv.geometry import ConvGeometry

# what each exporter may load; JAX and keras, run on it here, come with ml_dtypes
OWN: dict[str, set[str]] = {
    "equinox": {"equinox", "jax", "ml_dtypes"},
    "flax": {"flax", "jax", "ml_dtypes"},
    "jax": {"jax", "ml_dtypes"},
    "keras": {"keras", "jax", "ml_dtypes"},
    "npz": set(),
    "numpy": set(),
    "onnx": {"onnx", "ml_dtypes"},
    "safetensors": {"safetensors", "ml_dtypes"},
    "tensorflow": set(),
    "tflite": set(),
    "torch": {"torch"},
}
TARGETS = sorted(OWN)
FRAMEWORKS = ["torch", "onnx", "onnxruntime", "safetensors", "jax", "keras", "flax", "equinox", "tensorflow"]
FRAMEWORKS += ["ml_dtypes", "numba", "scipy", "tensorly"]
EXTRAS = [target for target, packages in OWN.items() if packages]


def run(code: str, *paths: Path) -> str:
    """Run code in a new interpreter, with folders put before its module path, and return what it prints."""
    head = f"import sys; sys.path[:0] = {[str(path) for path in paths]!r}\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", head + code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_exporters_are_entry_points() -> None:
    assert sorted({entry.name for entry in entry_points(group="tensorconv.exporters")}) == sorted(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_a_layer_a_sequence_and_what_has_one_are_dumped(target: str) -> None:
    one = layer("asymmetric", 2, "float32", name="conv1")
    for value in (one, one.sequence, SimpleNamespace(sequence=one.sequence)):
        loaded = tc.export.load(tc.export.dump(value, target), target)
        assert_same(loaded, one.sequence, names=target != "equinox")  # whose layers have no place for a name


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_no_sequence_is_refused(target: str) -> None:
    with pytest.raises(KernelTypeError, match=r"a plain array becomes a layer by ConvLayer.of"):
        tc.export.dump(np.ones((2, 2, 3)), target)


def test_an_unknown_target_is_refused() -> None:
    message = f"target must be one of {', '.join(TARGETS)}, got 'caffe'"
    with pytest.raises(UnsupportedExportError, match=message):
        tc.export.dump(layer("plain", 1), "caffe")
    with pytest.raises(UnsupportedExportError, match=message):
        tc.export.load(b"", "caffe")


@pytest.mark.parametrize("target", TARGETS)
def test_an_unknown_option_is_refused(target: str) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'quality'"):
        tc.export.dump(layer("plain", 1), target, quality=3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'quality'"):
        tc.export.load(b"", target, quality=3)


def test_importing_export_loads_no_framework() -> None:
    code = f"import tensorconv.export, tensorconv.export.files\nprint([m for m in {FRAMEWORKS!r} if m in sys.modules])"
    assert run(code).strip() == "[]"


@pytest.mark.parametrize("target", TARGETS)
def test_an_exporter_loads_only_its_own_framework(target: str) -> None:
    code = f"""
import numpy, tensorconv as tc
layer = tc.ConvLayer.of(numpy.ones((1, 1, 1, 1), "float32"))
tc.export.load(tc.export.dump(layer, {target!r}), {target!r})
loaded = {{module.partition(".")[0] for module in sys.modules}}
print(*[package for package in {FRAMEWORKS!r} if package in loaded])
"""
    others = {"scipy"} if "jax" in OWN[target] else set()  # JAX itself imports scipy
    assert OWN[target] - {"ml_dtypes"} <= set(run(code).split()) <= OWN[target] | others


@pytest.mark.parametrize("target", EXTRAS)
@pytest.mark.parametrize("error", ["ModuleNotFoundError(name, name=name)", "ImportError('blocked')"])
def test_a_missing_package_is_named_with_its_extra(target: str, error: str) -> None:
    code = f"""
import numpy, tensorconv as tc
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {target!r}:
            raise {error}
sys.meta_path.insert(0, Blocked())
layer = tc.ConvLayer.of(numpy.ones((1, 1, 1)))
for call, first in ((tc.export.dump, layer), (tc.export.load, b"")):
    try:
        call(first, {target!r})
    except tc.errors.MissingFrameworkError as problem:
        print(problem)
"""
    lines = run(code).splitlines()
    assert len(lines) == 2
    for line in lines:
        assert f"needs the package {target}: pip install 'tensorconv[{target}]'" in line


def test_a_missing_backend_of_keras_is_told_from_keras() -> None:
    code = """
import os, numpy, tensorconv as tc
os.environ["KERAS_BACKEND"] = "tensorflow"
sys.modules["tensorflow"] = None  # as if it were not installed
try:
    tc.export.dump(tc.ConvLayer.of(numpy.ones((1, 1, 1))), "keras")
except tc.errors.MissingFrameworkError as problem:
    print(problem)
"""
    message = (
        "needs the package tensorflow: pip install tensorflow, or set the environment variable KERAS_BACKEND to jax"
    )
    assert message in run(code)


def third_party(folder: Path, module: str, name: str = "words") -> None:
    """Write a package with an exporter of its own, as an installer would leave it."""
    (folder / "wordy.py").write_text(module)
    (folder / "wordy-1.0.dist-info").mkdir()
    (folder / "wordy-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: wordy\nVersion: 1.0\n")
    (folder / "wordy-1.0.dist-info" / "entry_points.txt").write_text(f"[tensorconv.exporters]\n{name} = wordy\n")


USE = """
import numpy, tensorconv as tc
layer = tc.ConvLayer.of(numpy.ones((1, 1, 1)))
try:
    print(tc.export.dump(layer, "words", loud=True), tc.export.load("x", "words"))
except tc.errors.TensorconvError as problem:
    print(type(problem).__name__, problem)
"""


def test_an_exporter_of_another_package_is_found(tmp_path: Path) -> None:
    module = "def dump(sequence, loud=False):\n    return ('ONE' if loud else 'one') * len(sequence)\n"
    third_party(tmp_path, module + "def load(obj):\n    return obj + '!'\n")
    assert run(USE, tmp_path).strip() == "ONE x!"


def test_an_exporter_without_its_functions_is_refused(tmp_path: Path) -> None:
    third_party(tmp_path, "def dump(sequence, loud=False):\n    return 1\n")
    assert "UnsupportedExportError target 'words' is no exporter: wordy has no function load" in run(USE, tmp_path)


def test_an_exporter_of_another_package_names_what_it_misses(tmp_path: Path) -> None:
    third_party(tmp_path, "import nonsense_framework.core\n")
    assert "target 'words' needs the package nonsense_framework: pip install nonsense_framework" in run(USE, tmp_path)


def test_an_error_inside_an_exporter_is_not_called_a_missing_package(tmp_path: Path) -> None:
    third_party(tmp_path, "import tensorconv.nonsense\n")
    use = USE.replace("except tc.errors.TensorconvError", "except ImportError")
    assert run(use, tmp_path).strip() == "ModuleNotFoundError No module named 'tensorconv.nonsense'"


def test_the_two_loads_are_told_apart(tmp_path: Path) -> None:
    one = layer("plain", 1)
    tc.save(tmp_path / "one.npz", one)
    assert_same(tc.load(tmp_path / "one.npz"), one.sequence)
    assert_same(tc.export.load(tmp_path / "one.npz", "npz"), one.sequence)


def test_the_reference_is_right_where_it_can_be_done_by_hand() -> None:
    x, kernel = np.array([[[1.0, 2, 3, 4]]]), np.array([[[10.0, 100]]])
    forward = ConvGeometry.of(1, stride=2, padding=[(1, 0)])
    np.testing.assert_array_equal(reference_convolution(x, kernel, forward, np.array([1.0])), [[[101, 321]]])
    dilated = ConvGeometry.of(1, dilation=2, padding=[(-1, 1)])
    np.testing.assert_array_equal(reference_convolution(x, kernel, dilated), [[[420, 30]]])
    transposed = ConvGeometry.of(1, stride=2, padding=[(1, -1)], transposed=True)
    expected = [[[100, 20, 200, 30, 300, 40, 400, 0]]]
    np.testing.assert_array_equal(reference_convolution(x, kernel, transposed), expected)
    grouped = ConvGeometry.of(1, groups=2)
    two = np.array([[[1.0, 2], [3, 4]]])
    kernels = np.array([[[1.0]], [[2]], [[3]], [[4]]])
    np.testing.assert_array_equal(reference_convolution(two, kernels, grouped)[0], [[1, 2], [2, 4], [9, 12], [12, 16]])
