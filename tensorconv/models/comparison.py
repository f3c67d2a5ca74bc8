"""A whole network before and after compression, measured: outputs, score, latency, memory and file."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tensorconv.errors import ModelError
from tensorconv.integers import integer
from tensorconv.models.drift import Evaluate, drift_by_output, scored
from tensorconv.models.paired_times import FEWEST_PAIRS, Ratio, run_pairs, seconds_of
from tensorconv.models.peak_memory import peak_memory
from tensorconv.models.timed_session import n_cores, open_session, runtime_errors
from tensorconv.text import aligned_table, plain

_WARM_UPS = 2
_PAIRS, _SECONDS = 21, 10.0  # of pairs of runs, unless the fewest pairs take longer


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` measured; pairs are (before, after), and it prints as a table.

    Parameters
    ----------
    drift : dict of str to float
        Of every output, the relative Frobenius error over all batches; inf where the shapes differ.
    score : (float, float) or None
        What ``evaluate`` returned; None without it.
    seconds : (float, float)
        Median latency of the first batch.
    ratio : Ratio
        Latency after over latency before, with its 95 % interval.
    n_pairs : int
        How many pairs of runs that is from.
    n_threads : int
        Threads they ran on.
    memory : (int, int) or None
        Bytes that loading the network and running the first batch take at their peak, each in a process of its own;
        None for torch, and where the system does not tell.
    n_bytes : (int, int)
        Size of the file, for torch of the file of the state dict.
    """

    drift: dict[str, float]
    score: tuple[float, float] | None
    seconds: tuple[float, float]
    ratio: Ratio
    n_pairs: int
    n_threads: int
    memory: tuple[int, int] | None
    n_bytes: tuple[int, int]

    @property
    def largest_drift(self) -> float:
        """The drift of the output that changed most."""
        return max(self.drift.values(), default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, and the largest drift, as plain values for JSON, which has no infinite numbers.

        Returns
        -------
        dict
            Field name to number, list, dict of these, or None; None also for an infinite number.
        """
        fields: dict[str, Any] = plain({**asdict(self), "largest_drift": self.largest_drift})
        return fields

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [("", "before", "after", "change")]
        if self.score is not None:
            rows.append(("score", *(f"{score:.4g}" for score in self.score), f"{self.score[1] - self.score[0]:+.4g}"))
        times = (f"{1e3 * seconds:.3f} ms" for seconds in self.seconds)
        rows.append((f"latency, {self.n_threads} threads", *times, f"times {self.ratio}"))
        if self.memory is not None:
            rows.append(("peak memory", *map(_megabytes, self.memory), _share(self.memory)))
        rows.append(("file", *map(_megabytes, self.n_bytes), _share(self.n_bytes)))
        rows += [(f"output {name!r}", "", "", f"relative error {drift:.3g}") for name, drift in self.drift.items()]
        return aligned_table(rows)


def compare(
    before: Any,
    after: Any,
    batches: Any,
    *,
    evaluate: Evaluate | None = None,
    n_pairs: int | None = None,
    n_threads: int | None = None,
) -> Comparison:
    """Measure a network before and after compression.

    Latencies are of pairs of runs, one right after the other in changing order, on the first batch: their ratio and its
    interval assume nothing of the machine but that it treats both runs of a pair alike.

    Parameters
    ----------
    before, after : OnnxNetwork or TorchNetwork
        The networks, both of one kind, with the same inputs and outputs.
    batches : Any
        Data that the networks take: an array, several by name, or a list of either.
    evaluate : callable, optional
        Called for each network with a function that takes a batch (inputs by name) and returns the outputs by name; it
        returns a number, larger is better.
    n_pairs : int, optional
        Pairs of runs that latency is from, at least 7; by default 21, or as many as ten seconds are enough for.
    n_threads : int, optional
        Threads; by default the cores granted to this process.

    Returns
    -------
    Comparison
        What was measured.

    Raises
    ------
    ModelError
        If there are no data, the outputs have other names, ``evaluate`` returns no number, or a network cannot be run.
    GeometryError
        If ``n_pairs`` or ``n_threads`` are no integers or too small.
    MissingFrameworkError
        If the networks' runtime is not installed.
    """
    n_pairs = None if n_pairs is None else integer("n_pairs", n_pairs, at_least=FEWEST_PAIRS)
    n_threads = n_cores() if n_threads is None else integer("n_threads", n_threads, at_least=1)
    listed = before.batches(batches)
    if not listed:
        raise ModelError("batches must hold at least one batch, got none; give what the network is to run on")
    drift = drift_by_output(before.run, after.run, listed)
    score = None if evaluate is None else (scored(evaluate, before.run), scored(evaluate, after.run))
    with ExitStack() as stack:
        opened = [stack.enter_context(_opened(network, listed[0], n_threads)) for network in (before, after)]
        estimate = sum(seconds_of(network.run, _WARM_UPS) for network in opened)
        n_pairs = n_pairs or max(FEWEST_PAIRS, min(_PAIRS, int(_SECONDS / estimate)))
        pairs = run_pairs(opened[0].run, opened[1].run, n_pairs)
        peaks = [None if one.path is None else peak_memory(one.path, listed[0], n_threads) for one in opened]
        sizes = opened[0].n_bytes, opened[1].n_bytes
    memory = None if peaks[0] is None or peaks[1] is None else (peaks[0], peaks[1])
    first, second = zip(*pairs, strict=True)
    seconds = statistics.median(first), statistics.median(second)
    return Comparison(drift, score, seconds, Ratio.of(pairs), n_pairs, n_threads, memory, sizes)


@dataclass(frozen=True)
class _Opened:
    """A network ready to be timed, its file where it has one, and the size of the file."""

    run: Callable[[], Any]
    path: Path | None
    n_bytes: int


@contextmanager
def _opened(network: Any, batch: Mapping[str, Any], n_threads: int) -> Iterator[_Opened]:
    if hasattr(network, "running"):  # a module of torch
        with network.running(batch, n_threads) as run:
            yield _Opened(run, None, network.n_bytes)
        return
    with TemporaryDirectory(prefix="tensorconv-") as folder:
        path = Path(folder) / "network.onnx"
        network.save(path)
        n_bytes = sum(file.stat().st_size for file in Path(folder).iterdir())  # weights may lie in a file beside it
        try:
            session = open_session(str(path), n_threads)
        except runtime_errors() as error:
            raise ModelError(f"the network cannot be timed: ONNX Runtime refuses it: {error}") from error
        yield _Opened(partial(session.run, None, dict(batch)), path, n_bytes)


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.2f} MB"


def _share(pair: tuple[int, int]) -> str:
    return f"times {pair[1] / pair[0]:.3f}" if pair[0] else "-"
