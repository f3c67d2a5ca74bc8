"""The headline of a compression: size, MACs, latency and score before and after, in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tensorconv.models.comparison import Comparison
from tensorconv.report import Figure
from tensorconv.report.numbers import SPACE, share, short_number, times

if TYPE_CHECKING:
    from tensorconv.models.compression import Compression

Pair = tuple[int, int]


def figures(done: Compression) -> tuple[Figure, ...]:
    """Return the numbers of the headline.

    Parameters
    ----------
    done : Compression
        The compressed network.

    Returns
    -------
    tuple of Figure
        MACs, latency, score or else drift, size; of networks that were not run, MACs alone.
    """
    found, macs = done.comparison, _macs(done)
    fewer = Figure(
        "Multiply-accumulates", times(*macs, "fewer", "more"), f"{_numbers(macs)} per image ({share(*macs[::-1])})"
    )
    if found is None:
        return fewer, Figure("Output error", "not measured", "the networks were not run")
    size = f"{_bytes(found.n_bytes)} ({share(found.n_bytes[1], found.n_bytes[0])})"
    return (
        fewer,
        _latency(found),
        _quality(found),
        Figure("File", times(*found.n_bytes, "smaller", "larger"), size),
    )


def changes(done: Compression) -> tuple[tuple[str, str, str, str], ...]:
    """Return everything that was measured or counted of the whole network.

    Parameters
    ----------
    done : Compression
        The compressed network.

    Returns
    -------
    tuple of (str, str, str, str)
        Quantity, before, after, change.
    """
    found, macs, n_parameters = done.comparison, _macs(done), _parameters(done)
    counts = [
        (name, short_number(pair[0]), short_number(pair[1]), share(pair[1], pair[0]))
        for name, pair in (("MACs", macs), ("parameters", n_parameters))
    ]
    if found is None:
        return tuple(counts)
    rows = []
    if found.score is not None:
        scores = found.score
        rows.append(("score", f"{scores[0]:.4g}", f"{scores[1]:.4g}", f"{scores[1] - scores[0]:+.3g}"))
    before, after = map(_time, found.seconds)
    median, low, high = (f"{100 * value:.0f}" for value in (found.ratio.median, found.ratio.low, found.ratio.high))
    ratio = f"{median}{SPACE}% ({low} to {high})"
    rows.append((f"latency, {_threads(found)}", before, after, ratio))
    rows += counts
    for name, sizes in (("file", found.n_bytes), ("peak memory", found.memory)):
        if sizes is not None:
            rows.append((name, short_number(sizes[0], "B"), short_number(sizes[1], "B"), share(sizes[1], sizes[0])))
    rows += [(f"output {name}, relative error", "", "", _drift(value)) for name, value in found.drift.items()]
    return tuple(rows)


def summary(done: Compression) -> str:
    """Return how many convolutions were replaced, and whether their proofs hold.

    Parameters
    ----------
    done : Compression
        The compressed network.

    Returns
    -------
    str
        A sentence or two.
    """
    reports = [one.report for one in done.layers if one.report is not None]
    n_layers = len(done.layers) + len(done.plan.skipped)
    first = f"{len(reports)} of {n_layers} convolutions replaced."
    if not reports:
        return first
    wrong = sum(one.consistent is False for one in reports)
    if wrong:
        return f"{first} {wrong} of them, as run, are NOT the convolutions that they compose to."
    single = sum(one.consistent is True for one in reports)
    if single < len(reports):
        return (
            f"{first} Of these, {single} were run and are, to rounding, the one convolution that they compose to; "
            "the others compose to none, and were judged by what they give."
        )
    return f"{first} Each was run and is, to rounding, the one convolution that it composes to."


def _latency(found: Comparison) -> Figure:
    median, low, high = found.ratio.median, found.ratio.low, found.ratio.high
    clocks = f"{_time(found.seconds[0])} → {_time(found.seconds[1])}, {_threads(found)}"
    if high < 1:
        value, ends = times(1, median, "faster", "slower"), (1 / high, 1 / low)
    elif low > 1:
        value, ends = times(1, median, "faster", "slower"), (low, high)
    else:
        return Figure(
            "Latency",
            "no faster, no slower",
            f"{clocks}; {median:.2f}× the time, 95{SPACE}% interval {low:.2f} to {high:.2f}",
        )
    if value == "unchanged":
        value = f"{1 / median:.3f}× as fast"
    return Figure("Latency", value, f"{clocks}; 95{SPACE}% interval {ends[0]:.2f} to {ends[1]:.2f}×")


def _quality(found: Comparison) -> Figure:
    drift = _drift(found.largest_drift)
    if found.score is None:
        return Figure(
            "Output error", drift, "relative Frobenius error" + ", the largest of all outputs" * (len(found.drift) > 1)
        )
    before, after = found.score
    lost = before - after
    value = f"{abs(lost):.3g} {'lost' if lost > 0 else 'gained'}" if lost else "unchanged"
    return Figure("Score", value, f"{before:.4g} → {after:.4g}; relative error of the outputs {drift}")


def _macs(done: Compression) -> Pair:
    layers = done.plan.layers
    return sum(one.before.macs for one in layers), sum((one.choice or one.before).macs for one in layers)


def _parameters(done: Compression) -> Pair:
    layers = done.plan.layers
    return sum(one.before.n_parameters for one in layers), sum(
        (one.choice or one.before).n_parameters for one in layers
    )


def _numbers(pair: Pair) -> str:
    return f"{short_number(pair[0])} → {short_number(pair[1])}"


def _bytes(pair: Pair) -> str:
    return f"{short_number(pair[0], 'B')} → {short_number(pair[1], 'B')}"


def _threads(found: Comparison) -> str:
    return f"{found.n_threads} thread{'s' if found.n_threads != 1 else ''}"


def _time(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}{SPACE}ms" if seconds < 1 else f"{seconds:.3g}{SPACE}s"


def _drift(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "another shape"
