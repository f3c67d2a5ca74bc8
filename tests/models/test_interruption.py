"""Compressions that are killed: what was saved before stays whole, and resuming gives the very same network."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tensorconv.demo import IMAGES, NETWORK

# nice, so that it cannot end before the one that is to interrupt it has its turn
COMMAND = [sys.executable, "-c", "import os; os.nice(10); from tensorconv.cli import main; main()"]
OLD = b"the old network"


@contextmanager
def started(out: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a compression in a process group of its own, with latencies remembered beside the output's folder."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(out.parent.with_suffix(".cache")), "OPENBLAS_NUM_THREADS": "1"}
    arguments = [*COMMAND, "compress", str(NETWORK), str(out), "--budget", "0.6", "--method", "svd", *options]
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, start_new_session=True
    ) as process:
        yield process


def finished(out: Path, *options: str) -> bytes:
    """Run a compression to its end; return the network."""
    with started(out, *options) as process:
        _, stderr = process.communicate(timeout=120)
    assert (process.returncode, stderr) == (0, b"")
    return out.read_bytes()


def end_when(process: subprocess.Popen[bytes], work: Path, n_parts: int, delay: float, how: int) -> None:
    """End a process a little after a number of finished parts lie in its folder."""
    while process.poll() is None and (not work.is_dir() or len(list(work.glob("[!.]*"))) < n_parts):
        time.sleep(0.001)
    time.sleep(delay)
    if process.poll() is None:
        os.killpg(process.pid, how)
    process.wait(60)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("data") / "images.npz"
    with np.load(IMAGES) as content:
        np.savez(path, content["images"][:8, None].astype("float32") / 127.5 - 1)
    return str(path)


OPTIONS = {"fits": ["--even-if-slower"], "latencies": [], "processes": ["--even-if-slower", "--jobs", "2"]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    return finished(tmp_path_factory.mktemp("whole") / "whole.onnx", *OPTIONS["fits"])


@pytest.mark.parametrize(("kind", "n_kills"), [("fits", 3), ("latencies", 1), ("processes", 1), ("data", 1)])
def test_resuming_after_kills_gives_the_same_bits(tmp_path, data, whole, kind, n_kills):
    options = OPTIONS.get(kind, ["--even-if-slower", "--include", "conv[23]", "--budget", "0.9", "--data", data])
    if kind in ("latencies", "data"):  # the network is the same for any number of processes
        whole = finished(tmp_path / "whole.onnx", *options)
    out, work = tmp_path / "out.onnx", tmp_path / "out.onnx.work"
    out.write_bytes(OLD)
    rng = np.random.default_rng(n_kills)
    for n_parts in np.sort(rng.choice(np.arange(2, 10), n_kills, replace=False)):
        with started(out, "--resume", *options) as process:
            end_when(process, work, n_parts, rng.uniform(0, 0.05), signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert out.read_bytes() == OLD
        assert work.is_dir()
    assert finished(out, "--resume", *options) == whole
    assert {path.name for path in tmp_path.glob("[!.]*")} <= {"out.onnx", "whole.onnx"}


def test_an_interrupted_run_says_how_to_go_on(tmp_path):
    out, work = tmp_path / "out.onnx", tmp_path / "out.onnx.work"
    with started(out, "--even-if-slower") as process:
        end_when(process, work, 3, 0, signal.SIGINT)
        said = process.stderr.read().decode()
        assert process.stdout.read() == b""
    assert process.returncode == 130
    assert said == f"tensorconv: interrupted; what is finished is kept in {work}, --resume goes on\n"
    assert not out.exists()
    parts = {path: path.stat().st_mtime_ns for path in work.iterdir() if path.name != "run.json"}
    assert len(parts) >= 2
    with started(out, "--even-if-slower", "--resume") as process:
        end_when(process, work, 9, 0, signal.SIGKILL)
    assert all(path.stat().st_mtime_ns == when for path, when in parts.items())  # they were not made again
