"""Measured latency of convolutions by ONNX Runtime, remembered in a file."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache as cached
from pathlib import Path
from typing import Any

import numpy as np

from tensorconv.errors import ModelError
from tensorconv.export import dump
from tensorconv.integers import integer, per_axis
from tensorconv.layers import ChannelwiseLayer, ConvLayer, ConvSequence, PadLayer, PermuteLayer, Step, as_sequence
from tensorconv.models.latency_file import default_path, read_measurements, write_measurements
from tensorconv.models.paired_times import FEWEST_PAIRS, Ratio, run_pairs, seconds_of
from tensorconv.models.timed_session import n_cores, onnx_runtime, open_session, runtime_errors

Size = tuple[int, ...]
_MOST_PAIRS = 31
_SECONDS = 0.03  # of timed runs in all, as far as the fewest pairs allow
_SAMPLE_SECONDS = 2e-4  # shorter runs are timed several together: starting them takes microseconds
_MOST_REPEATS = 8
_MOST_BYTES = 2**31  # of one array of data
_FORMAT = 1  # of the file and of the way of measuring; another one makes what was measured before void
_AS_FLOAT32 = ("float64", "bfloat16")  # ONNX Runtime has no convolution of these types on the CPU
_VALUES = np.random.default_rng(0).standard_normal(4099)  # of data and kernels, again and again


@dataclass(frozen=True)
class Stopwatch:
    """Measures what layers and sequences take in ONNX Runtime on the CPU, and remembers it.

    Kernels are replaced by normal ones of the same shapes: what is measured depends on shapes and geometry alone, and
    numbers too small to be normal, which processors are slow at, cannot distort it. A layer is timed as a graph of its
    own. It pays at both ends for the order of data that the runtime prefers, which neighbours in a network share, so
    that small ratios are measured a few hundredths too large. An activation behind it is left out: it changes no ratio
    by more than the noise. float64 and bfloat16, which the runtime does not have, are timed in float32.

    Parameters
    ----------
    cache : path-like, optional
        File of measurements, which is read and added to; by default tensorconv/latency.json in the user's cache
        folder. Where it cannot be written, measurements are kept in memory alone; where it is broken, it is written
        anew.
    n_threads : int, optional
        Threads of the runtime; by default the cores granted to this process.
    batch : int
        Number of images.

    Raises
    ------
    ModelError
        If ``cache`` is a folder.
    GeometryError
        If ``n_threads`` or ``batch`` are no positive integers.
    """

    cache: str | os.PathLike[str] | None = None
    n_threads: int | None = None
    batch: int = 1
    _known: dict[str, list[float]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        threads = n_cores() if self.n_threads is None else integer("n_threads", self.n_threads, at_least=1)
        object.__setattr__(self, "n_threads", threads)
        object.__setattr__(self, "batch", integer("batch", self.batch, at_least=1))
        if self.cache is not None and Path(self.cache).is_dir():
            raise ModelError(f"cache must be a file, got the folder {os.fspath(self.cache)!r}; name a .json in it")

    def ratio(self, layer: Any, sequence: Any, input_size: int | Sequence[int]) -> Ratio:
        """Return the time of a sequence over the time of a layer.

        Parameters
        ----------
        layer : ConvLayer, ConvSequence or object with ``.sequence``
            What is replaced.
        sequence : ConvLayer, ConvSequence or object with ``.sequence``
            What replaces it.
        input_size : int or sequence of int
            Spatial size of the input.

        Returns
        -------
        Ratio
            The ratio; below 1 where the sequence is faster.

        Raises
        ------
        MissingFrameworkError
            If onnx or onnxruntime are not installed.
        ModelError
            If the runtime cannot run one of them.
        GeometryError
            If the size gives no output.
        UnsupportedExportError
            If ONNX cannot say one of them.
        """
        two = as_sequence(layer), as_sequence(sequence)
        size = per_axis("input_size", input_size, two[0].ndim, at_least=1)

        def measure() -> list[float]:
            first, second = (self._runner(one, size) for one in two)
            estimates = _estimate(first), _estimate(second)
            repeats = _repeats(estimates[0]), _repeats(estimates[1])
            n_pairs = _n_samples(sum(n * seconds for n, seconds in zip(repeats, estimates, strict=True)))
            ratio = Ratio.of(run_pairs(first, second, n_pairs, repeats))
            return [ratio.median, ratio.low, ratio.high]

        return Ratio(*self._remembered(f"{_signature(two[1])} / {_signature(two[0])} at {size}", 3, measure))

    def seconds(self, sequence: Any, input_size: int | Sequence[int]) -> float:
        """Return how long a layer or a sequence takes.

        Parameters
        ----------
        sequence : ConvLayer, ConvSequence or object with ``.sequence``
            What to time.
        input_size : int or sequence of int
            Spatial size of the input.

        Returns
        -------
        float
            Median, in seconds.

        Raises
        ------
        MissingFrameworkError, ModelError, GeometryError, UnsupportedExportError
            As in :meth:`ratio`.
        """
        one = as_sequence(sequence)
        size = per_axis("input_size", input_size, one.ndim, at_least=1)

        def measure() -> list[float]:
            run = self._runner(one, size)
            estimate = _estimate(run)
            repeats = _repeats(estimate)
            return [statistics.median(seconds_of(run, repeats) for _ in range(_n_samples(repeats * estimate)))]

        return self._remembered(f"{_signature(one)} at {size}", 1, measure)[0]

    def _remembered(self, what: str, n_values: int, measure: Callable[[], list[float]]) -> list[float]:
        """Return what was measured before in the same circumstances, else measure and keep it."""
        where = f"{_circumstances()}, {self.n_threads} threads, batch {self.batch}"
        if what not in self._known:
            path = default_path() if self.cache is None else Path(self.cache)
            stored = read_measurements(path).get(where, {}).get(what)
            if stored is None or len(stored) != n_values:
                stored = measure()
                everything = read_measurements(path)  # again: another process may have written meanwhile
                everything.setdefault(where, {}).update({**self._known, what: stored})
                write_measurements(path, everything)
            self._known[what] = stored
        return self._known[what]

    def _runner(self, sequence: ConvSequence, size: Size) -> Callable[[], Any]:
        """Return a function that runs a sequence once, on data that stay where they are."""
        runtime = onnx_runtime()
        output_size = sequence.output_size(size)
        stand_in = _stand_in(sequence)
        self._check_bytes(stand_in, size)
        model = dump(stand_in, "onnx")
        shapes = (self.batch, sequence.in_channels, *size), (self.batch, sequence.out_channels, *output_size)
        for value, shape in zip((model.graph.input[0], model.graph.output[0]), shapes, strict=True):
            for dim, n in zip(value.type.tensor_type.shape.dim, shape, strict=True):
                dim.dim_value = n
        try:
            session = open_session(model.SerializeToString(), self.n_threads or 1)
            binding = session.io_binding()
            data = np.resize(_VALUES, shapes[0]).astype(stand_in.dtype)
            binding.bind_ortvalue_input("input", runtime.OrtValue.ortvalue_from_numpy(data))
            output = runtime.OrtValue.ortvalue_from_shape_and_type(shapes[1], stand_in.dtype.type)
            binding.bind_ortvalue_output("output", output)
            session.run_with_iobinding(binding)  # once, to see that it runs, and for what is done at first
        except runtime_errors() as error:
            raise ModelError(
                f"ONNX Runtime cannot run the sequence at input_size {size}: {error}; choose by MACs instead"
            ) from error
        return lambda: session.run_with_iobinding(binding)

    def _check_bytes(self, sequence: ConvSequence, size: Size) -> None:
        """Refuse data that would fill the machine's memory."""
        n_values, at = self.batch * sequence.in_channels * math.prod(size), size
        channels = sequence.in_channels
        for step in sequence:
            at = step.output_size(at)
            channels = channels if isinstance(step, PadLayer) else step.out_channels
            n_values = max(n_values, self.batch * channels * math.prod(at))
        n_bytes = n_values * sequence.dtype.itemsize
        if n_bytes > _MOST_BYTES:
            raise ModelError(
                f"input_size {size} with batch {self.batch} makes data of {n_bytes:,} bytes, "
                f"at most {_MOST_BYTES:,} are timed; give a smaller size"
            )


def _estimate(run: Callable[[], Any]) -> float:
    """Return about how long a run takes, from the better of two."""
    return min(seconds_of(run), seconds_of(run))


def _repeats(seconds: float) -> int:
    """Return how many runs are timed together."""
    return min(max(math.ceil(_SAMPLE_SECONDS / seconds), 1), _MOST_REPEATS)


def _n_samples(seconds: float) -> int:
    """Return how many samples of this length are taken, an odd number."""
    return min(max(int(_SECONDS / seconds) // 2 * 2 + 1, FEWEST_PAIRS), _MOST_PAIRS)


def _stand_in(sequence: ConvSequence) -> ConvSequence:
    """Return a sequence of the same shapes and geometry with normal kernels."""
    dtype = np.dtype(np.float32) if sequence.dtype.name in _AS_FLOAT32 else sequence.dtype
    steps: list[Step] = []
    for step in sequence:
        if isinstance(step, (PermuteLayer, PadLayer)):
            steps.append(replace(step, name=""))
            continue
        scale = math.sqrt(step.kernel[0].size)  # responses stay of the size of the data
        kernel = (np.resize(_VALUES, step.kernel.shape) / scale).astype(dtype)
        bias = None if step.bias is None else np.resize(_VALUES, step.bias.shape).astype(dtype)
        if isinstance(step, ConvLayer):
            steps.append(ConvLayer(kernel, step.geometry, bias))
        else:
            steps.append(ChannelwiseLayer(kernel, step.in_channels, step.geometry, bias))
    return ConvSequence(tuple(steps))


def _signature(sequence: ConvSequence) -> str:
    """Return all of a sequence that its latency depends on."""
    return f"{sequence.dtype} " + "; ".join(map(_step_signature, sequence))


def _step_signature(step: Step) -> str:
    if isinstance(step, PadLayer):
        return str(step)
    if isinstance(step, PermuteLayer):
        return f"order of {step.in_channels}"
    kind = f"channel-wise on {step.in_channels}, " if isinstance(step, ChannelwiseLayer) else ""
    return f"{kind}{step.kernel.shape}, {step.geometry}" + ", bias" * (step.bias is not None)


@cached
def _processor() -> str:
    """Return the processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _circumstances() -> str:
    """Return the machine and the runtime, in words."""
    version = onnx_runtime().__version__
    system = f"{platform.system()} {platform.machine()}"
    return f"format {_FORMAT}, {_processor()}, {n_cores()} cores, {system}, onnxruntime {version}"
