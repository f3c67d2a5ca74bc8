"""Tests of plans: which path is taken, what is kept, what it costs in memory, and starting anew in other processes."""

from __future__ import annotations

import gc
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorconv as tc
from tensorconv.certificates import rounding_bound
from tensorconv.convolution import plans
from tensorconv.convolution.dense import Dense
from tensorconv.convolution.rows import Rows
from tensorconv.convolution.simple import Simple
from tensorconv.convolution.transposed import Transposed

ROOT = Path(__file__).resolve().parents[2]
FLOAT32 = np.dtype("float32")
PATHS: dict[type, tuple[tuple[int, ...], dict[str, Any]]] = {
    Dense: ((8, 3, 3, 3), {"padding": 1}),
    Rows: ((6, 1, 3, 3), {"groups": 6}),
    Transposed: ((4, 3, 3, 3), {"stride": 2, "transposed": True}),
}


def layer_of(kind: type) -> tc.ConvLayer:
    shape, attributes = PATHS[kind]
    return tc.ConvLayer.of(np.random.default_rng(0).standard_normal(shape).astype("float32"), **attributes)


def planned(layer: tc.ConvLayer, dtype: Any, size: tuple[int, ...] = (6, 7)) -> plans.Plan:
    (plan,) = plans.planned((layer,), size, dtype)
    return plan


@pytest.mark.skipif(not plans.is_fast(), reason="the fast paths are turned off or unknown here")
@pytest.mark.parametrize("kind", PATHS)
def test_the_path_is_the_layers(kind: type) -> None:
    assert type(planned(layer_of(kind), FLOAT32).path) is kind


@pytest.mark.parametrize("kind", PATHS)
def test_fast_paths_are_turned_off_by_the_environment(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = layer_of(kind)
    x = np.random.default_rng(1).standard_normal((2, layer.in_channels, 6, 7)).astype("float32")
    y = tc.convolve(x, layer)
    monkeypatch.setenv("TENSORCONV_FAST", "0")
    assert type(planned(layer, FLOAT32).path) is Simple
    expected = tc.convolve(x, layer)
    assert (np.abs(y - expected) <= 2 * rounding_bound(x, layer)).all()


def test_a_plan_is_kept_as_long_as_its_layer() -> None:
    layer = layer_of(Dense)
    first = planned(layer, FLOAT32)
    assert planned(layer, FLOAT32) is first
    assert planned(layer, FLOAT32, (7, 7)) is not first
    assert planned(layer, np.dtype("float64")) is not first
    key = (id(layer),)
    assert sum(key == kept[0] for kept in plans._KEPT.plans) == 3
    del layer
    gc.collect()
    assert not any(key == kept[0] for kept in plans._KEPT.plans)


def test_what_is_kept_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = layer_of(Dense), layer_of(Dense)
    size = planned(first, FLOAT32).n_bytes
    monkeypatch.setattr(plans, "KEPT_BYTES", size)
    kept = planned(second, FLOAT32)
    assert [plan for plan, _ in plans._KEPT.plans.values()] == [kept]
    monkeypatch.setattr(plans, "KEPT_BYTES", size - 1)
    assert planned(first, FLOAT32).out_channels == 8
    assert not plans._KEPT.plans


@pytest.mark.skipif(not plans.is_fast(), reason="the fast paths are turned off or unknown here")
def test_tables_count_among_what_is_kept() -> None:
    layer = layer_of(Dense)
    for size in ((6, 7), (60, 70)):
        plan = planned(layer, FLOAT32, size)
        assert isinstance(plan.path, Dense)
        assert plan.n_bytes == plan.path.weights.nbytes + sum(table.nbytes for table in plan.path.tables)


@pytest.mark.parametrize("kind", PATHS)
def test_data_that_are_not_finite_are_found_wherever_they_are(kind: type) -> None:
    layer = layer_of(kind)
    prepared = tc.prepare(layer, (6, 7), "float32")
    for at in np.ndindex(2, layer.in_channels, 6, 7):
        x = np.ones((2, layer.in_channels, 6, 7), "float32")
        x[at] = np.nan if sum(at) % 2 else -np.inf
        with pytest.raises(tc.errors.KernelError, match="x must hold finite numbers only, got NaN or inf"):
            prepared(x)


def test_finite_data_may_overflow() -> None:
    layer = layer_of(Dense)
    x = np.full((1, 3, 6, 7), 3e38, "float32")
    assert not np.isfinite(tc.convolve(x, tc.ConvLayer.of(np.full((8, 3, 3, 3), 3e38, "float32")))).any()
    assert tc.convolve(x, layer).shape == (1, 8, 6, 7)


PROGRAM = """
import os, sys, time
import numpy as np
import tensorconv as tc
x = np.random.default_rng(0).standard_normal((1, 16, 40, 40)).astype("float32")
layer = tc.ConvLayer.of(np.random.default_rng(1).standard_normal((32, 16, 3, 3)).astype("float32"), padding=1)
start = time.perf_counter()
y = tc.convolve(x, layer)
seconds = time.perf_counter() - start
"""


def run(source: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    """Start a fresh interpreter whose cache of compiled loops is a folder."""
    everything = {**os.environ, "NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-W", "error", "-c", PROGRAM + source]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=everything, stdout=pipe, stderr=pipe, text=True, cwd=folder.parent)


def output(process: subprocess.Popen[str]) -> str:
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return out


def test_a_convolution_does_without_the_decompositions(tmp_path: Path) -> None:
    report = "import sys; print(*{'scipy.optimize', 'tensorconv.linalg', 'tensorconv.layers'} & set(sys.modules))"
    assert output(run(report, tmp_path)).split() == ["tensorconv.layers"]


@pytest.mark.skipif(not plans.is_fast(), reason="the fast paths are turned off or unknown here")
def test_start_up_two_at_once_and_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    report = "print(seconds, float(y.sum()))"
    cold = [output(process).split() for process in [run(report, tmp_path) for _ in range(2)]]  # both begin at once
    warm = output(run(report, tmp_path)).split()
    assert len({result[1] for result in (*cold, warm)}) == 1
    compiled = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}
    assert compiled
    assert float(warm[0]) < float(cold[0][0]) / 2  # seconds are asserted where the machine is known to be idle
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert output(run(report, tmp_path)).split()[1] == warm[1]
    finally:
        for path in (tmp_path, *tmp_path.rglob("*")):
            path.chmod(stat.S_IRWXU)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")} == compiled


def test_a_cache_that_can_be_nowhere_is_done_without(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "tensorconv", copy / "tensorconv", ignore=shutil.ignore_patterns("__pycache__"))
    blocked = copy / "tensorconv" / "convolution" / "__pycache__"
    blocked.write_text("no folder can be made here")
    source = "print(float(y.sum()), tc.__file__)"
    file = str(blocked)
    found = output(
        run(source, blocked, PYTHONPATH=str(copy), HOME=file, XDG_CACHE_HOME=file, PYTHONDONTWRITEBYTECODE="1")
    )
    assert np.isfinite(float(found.split()[0]))
    assert found.split()[1].startswith(str(copy))
    assert not list(tmp_path.rglob("*.nbi"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_computes_after_its_parent_did(tmp_path: Path) -> None:
    source = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forking while there are threads
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(tc.convolve(x, layer), y) else 1)
print(os.waitpid(child, 0)[1])
"""
    assert output(run(source, tmp_path, TENSORCONV_NUM_THREADS="3")).strip() == "0"
