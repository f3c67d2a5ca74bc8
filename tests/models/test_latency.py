"""Measured latency: what ratios say of layers of known costs, and what the file of measurements keeps."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cases
import numpy as np
import pytest

import tensorconv as tc
from tensorconv.errors import GeometryError, MissingFrameworkError, ModelError
from tensorconv.models.latency import Stopwatch


def layer(out_channels: int, in_channels: int, taps: int = 3, dtype: str = "float32", **geometry: Any) -> tc.ConvLayer:
    rng = np.random.default_rng(0)
    return tc.ConvLayer.of(rng.standard_normal((out_channels, in_channels, taps, taps)).astype(dtype), **geometry)


LARGE = layer(64, 64, padding=1)
SMALL = layer(64, 64, 1)  # a ninth of the products


@pytest.fixture
def clock(tmp_path: Path) -> Stopwatch:
    return Stopwatch(tmp_path / "times.json", n_threads=1)


def test_less_work_takes_less_time(clock: Stopwatch) -> None:
    ratio = clock.ratio(LARGE, SMALL, 28)
    assert 0 < ratio.low <= ratio.median <= ratio.high < 0.8
    assert clock.seconds(SMALL, 28) < clock.seconds(LARGE, 28)


def test_the_other_way_round_is_slower(clock: Stopwatch) -> None:
    assert clock.ratio(SMALL, LARGE, 28).low > 1 / 0.8


def test_a_batch_is_timed_as_one(tmp_path: Path) -> None:
    one, many = (Stopwatch(tmp_path / "times.json", n_threads=1, batch=batch) for batch in (1, 8))
    assert many.seconds(LARGE, 14) > 2 * one.seconds(LARGE, 14)


def test_what_was_measured_is_remembered(clock: Stopwatch, tmp_path: Path) -> None:
    ratio, seconds = clock.ratio(LARGE, SMALL, 14), clock.seconds(LARGE, 14)
    again = Stopwatch(tmp_path / "times.json", n_threads=1)
    assert (again.ratio(LARGE, SMALL, (14, 14)), again.seconds(LARGE, 14)) == (ratio, seconds)
    (where,) = stored(tmp_path)
    assert "onnxruntime" in where
    assert "1 threads, batch 1" in where


def stored(folder: Path) -> dict[str, dict[str, list[float]]]:
    content: dict[str, dict[str, list[float]]] = json.loads((folder / "times.json").read_text())
    return content


def planted(folder: Path, value: float) -> None:
    """Replace what was measured, so that it shows whether it is used."""
    everything = {
        where: {what: [value] * len(times) for what, times in measured.items()}
        for where, measured in stored(folder).items()
    }
    (folder / "times.json").write_text(json.dumps(everything))


@pytest.mark.parametrize(
    ("change", "shared"),
    [
        ({"name": "other"}, True),
        ({"kernel": LARGE.kernel * 2}, True),
        ({"kernel": np.zeros_like(LARGE.kernel)}, True),
        ({"bias": np.ones(64)}, False),
        ({"kernel": LARGE.kernel.astype("float64")}, False),
        ({"kernel": LARGE.kernel[:32]}, False),
        ({"geometry": tc.ConvGeometry.of(2, padding=1, stride=2)}, False),
        ({"geometry": tc.ConvGeometry.of(2, padding=1, dilation=2)}, False),
        ({"geometry": tc.ConvGeometry.of(2, padding=1, transposed=True)}, False),
    ],
)
def test_layers_of_one_shape_share_a_measurement(tmp_path: Path, change: dict[str, Any], shared: bool) -> None:
    first = Stopwatch(tmp_path / "times.json", n_threads=1)
    first.seconds(LARGE, 6)
    planted(tmp_path, 7.0)
    fields = {"kernel": LARGE.kernel, "geometry": LARGE.geometry, "bias": None, "name": ""} | change
    clock = Stopwatch(tmp_path / "times.json", n_threads=1)
    assert (clock.seconds(tc.ConvLayer(**fields), 6) == 7.0) == shared


@pytest.mark.parametrize("options", [{"n_threads": 2}, {"n_threads": 1, "batch": 2}])
def test_other_settings_are_measured_anew(tmp_path: Path, options: dict[str, int]) -> None:
    Stopwatch(tmp_path / "times.json", n_threads=1).seconds(LARGE, 6)
    planted(tmp_path, 7.0)
    assert Stopwatch(tmp_path / "times.json", **options).seconds(LARGE, 6) < 7.0  # type: ignore[arg-type]
    assert len(stored(tmp_path)) == 2


def test_what_another_process_wrote_meanwhile_stays(clock: Stopwatch, tmp_path: Path) -> None:
    clock.seconds(SMALL, 6)
    other = Stopwatch(tmp_path / "times.json", n_threads=1)
    other.seconds(LARGE, 6)
    clock.seconds(LARGE, 7)
    (measured,) = stored(tmp_path).values()
    assert len(measured) == 3
    planted(tmp_path, 7.0)
    assert clock.seconds(SMALL, 6) < 7.0  # what this one knows is not read again


def test_two_processes_leave_a_whole_file(tmp_path: Path) -> None:
    source = (
        "import numpy as np, sys, tensorconv as tc\n"
        "from tensorconv.models.latency import Stopwatch\n"
        "clock = Stopwatch(sys.argv[1], n_threads=1)\n"
        "for size in range(3, 13): clock.seconds(tc.ConvLayer.of(np.ones((1, 1, 3, 3))), size + int(sys.argv[2]))\n"
    )
    command = [sys.executable, "-c", source, str(tmp_path / "times.json")]
    processes = [subprocess.Popen([*command, str(start)]) for start in (0, 10)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    (measured,) = stored(tmp_path).values()
    assert 10 <= len(measured) <= 20  # a measurement that was overtaken is made again when it is asked for
    assert [path.name for path in tmp_path.iterdir()] == ["times.json"]


BROKEN = [b"", b"{", b"\xff\xfe", b"[1, 2]", b"null", b'{"a": 3}', b"[" * 100_000]


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_file_is_written_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "times.json").write_bytes(content)
    seconds = Stopwatch(tmp_path / "times.json", n_threads=1).seconds(SMALL, 5)
    assert [[*measured.values()] for measured in stored(tmp_path).values()] == [[[seconds]]]


@pytest.mark.parametrize("value", ["fast", ["fast"], [True], [-1.0], [0.0], [float("nan")], [1.0, 2.0], []])
def test_a_broken_measurement_is_made_again(tmp_path: Path, value: Any) -> None:
    Stopwatch(tmp_path / "times.json", n_threads=1).seconds(SMALL, 5)
    everything: dict[str, Any] = stored(tmp_path)
    for measured in everything.values():
        for what in measured:
            measured[what] = value
    (tmp_path / "times.json").write_text(json.dumps(everything))
    seconds = Stopwatch(tmp_path / "times.json", n_threads=1).seconds(SMALL, 5)
    assert [[*measured.values()] for measured in stored(tmp_path).values()] == [[[seconds]]]


def test_where_nothing_can_be_written_measurements_stay_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    clock = Stopwatch(tmp_path / "file" / "times.json", n_threads=1)  # a folder that cannot be made, whoever asks
    assert clock.seconds(SMALL, 5) == clock.seconds(SMALL, 5) > 0
    assert (tmp_path / "file").read_text() == ""


def test_the_default_file_is_in_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "with space"))
    Stopwatch(n_threads=1).seconds(SMALL, 5)
    assert (tmp_path / "with space" / "tensorconv" / "latency.json").is_file()
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the standard asks to ignore it
    monkeypatch.setenv("HOME", str(tmp_path))
    Stopwatch(n_threads=1).seconds(SMALL, 5)
    assert (tmp_path / ".cache" / "tensorconv" / "latency.json").is_file()


def test_every_geometry_is_timed(clock: Stopwatch) -> None:
    for case in cases.GEOMETRIES:
        one = cases.layer(case, "float32")
        assert clock.seconds(one, cases.input_size(one)) > 0, case


def test_every_kind_of_step_is_timed(clock: Stopwatch) -> None:
    channelwise = tc.ChannelwiseLayer(
        np.ones((1, 3, 1, 1), "float32"), 8, tc.ConvGeometry.of(3, padding=((1, 1), 0, 0))
    )
    steps = [
        tc.PadLayer.of(2, 1, "reflect"),
        tc.ConvLayer.of(np.zeros((8, 8, 3, 3), "float32")),
        tc.PermuteLayer(tuple(range(8))[::-1]),
        channelwise,
    ]
    assert clock.ratio(steps[1], tc.ConvSequence(steps), 6).median > 0


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_every_type_is_timed(clock: Stopwatch, dtype: str) -> None:
    assert clock.ratio(layer(8, 8, dtype=dtype), layer(8, 8, 1, dtype=dtype), 6).median > 0


def test_numbers_too_small_to_be_normal_do_not_slow_it_down(clock: Stopwatch, tmp_path: Path) -> None:
    normal = clock.seconds(LARGE, 14)
    tiny = tc.ConvLayer(np.full_like(LARGE.kernel, 1e-44), LARGE.geometry)
    assert Stopwatch(tmp_path / "other.json", n_threads=1).seconds(tiny, 14) < 3 * normal


def test_the_threads_are_the_cores_granted(tmp_path: Path) -> None:
    assert Stopwatch(tmp_path / "times.json").n_threads == len(os.sched_getaffinity(0))


def test_a_missing_runtime_is_named_with_the_cure(clock: Stopwatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    message = "measuring latency needs the packages onnx and onnxruntime: pip install 'tensorconv[cli]'"
    with pytest.raises(MissingFrameworkError, match=re.escape(message)):
        clock.ratio(LARGE, SMALL, 5)


def test_what_the_runtime_cannot_run_is_named(clock: Stopwatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tensorconv.models.latency._AS_FLOAT32", ())  # float64 as it is, which the runtime has not
    message = "ONNX Runtime cannot run the sequence at input_size (2, 2): "
    with pytest.raises(ModelError, match=re.escape(message) + ".*; choose by MACs instead"):
        clock.seconds(layer(1, 1, 1, "float64"), 2)


@pytest.mark.parametrize(
    ("sequence", "size"),
    [
        (layer(1, 1, 1), 2**16),
        (layer(1, 1, 1, transposed=True, stride=2**16), 2),
        (tc.ConvSequence([layer(2**12, 1, 1), layer(1, 2**12, 1)]), 2**10),
        (tc.ConvSequence([layer(1, 1, 2, padding=2**16), layer(1, 1, 1, stride=2**16)]), 1),
    ],
)
def test_data_that_would_fill_the_memory_are_refused(clock: Stopwatch, sequence: Any, size: int) -> None:
    message = rf"input_size \({size}, {size}\) with batch 1 makes data of [1-9][\d,]+ bytes, at most 2,147,483,648 are"
    with pytest.raises(ModelError, match=message + " timed; give a smaller size"):
        clock.seconds(sequence, size)


def test_refusals(tmp_path: Path) -> None:
    message = f"cache must be a file, got the folder {str(tmp_path)!r}; name a .json in it"
    with pytest.raises(ModelError, match=re.escape(message)):
        Stopwatch(tmp_path)
    with pytest.raises(GeometryError, match="n_threads must be at least 1, got 0"):
        Stopwatch(n_threads=0)
    with pytest.raises(GeometryError, match=r"batch must be an integer, got 1\.5"):
        Stopwatch(batch=1.5)  # type: ignore[arg-type]
    with pytest.raises(GeometryError, match="input_size must have one entry per spatial axis, 2 here"):
        Stopwatch(tmp_path / "times.json").seconds(SMALL, (5, 5, 5))
    with pytest.raises(GeometryError, match=re.escape("input_size (2, 2) gives no output")):
        Stopwatch(tmp_path / "times.json").seconds(layer(4, 4), 2)
