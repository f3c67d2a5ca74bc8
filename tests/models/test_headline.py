"""The headline: what is said of every outcome, good, bad and undecided."""

from __future__ import annotations

import math
from typing import Any

import pytest
from models.test_trade_off import plan

from tensorconv.models.comparison import Comparison
from tensorconv.models.compression import Compression
from tensorconv.models.headline import changes, figures, summary
from tensorconv.models.paired_times import Ratio


def done(**values: Any) -> Compression:
    given = {
        "drift": {"y": 0.25},
        "score": (93.9, 93.0),
        "seconds": (0.05, 0.02),
        "ratio": Ratio(0.4, 0.25, 0.5),
        "n_pairs": 21,
        "n_threads": 2,
        "memory": (2_000_000, 1_000_000),
        "n_bytes": (3_000_000, 1_500_000),
    }
    return Compression(None, plan(), (), Comparison(**(given | values)))  # type: ignore[arg-type]


def said(title: str, **values: Any) -> tuple[str, str]:
    """Return the value and the detail of one of the figures, with plain spaces."""
    (one,) = (figure for figure in figures(done(**values)) if figure.title == title)
    return one.value, one.detail.replace("\N{NO-BREAK SPACE}", " ")


def test_macs_are_of_all_convolutions() -> None:
    assert said("Multiply-accumulates") == ("1.4× fewer", "2.00 k → 1.40 k per image (70.0 %)")


@pytest.mark.parametrize(
    ("ratio", "value", "detail"),
    [
        ((0.4, 0.25, 0.5), "2.5× faster", "95 % interval 2.00 to 4.00×"),
        ((1.25, 1.2, 1.5), "1.2× slower", "95 % interval 1.20 to 1.50×"),
        ((0.9, 0.7, 1.1), "no faster, no slower", "0.90× the time, 95 % interval 0.70 to 1.10"),
        ((0.9, 0.7, 1.0), "no faster, no slower", "0.90× the time, 95 % interval 0.70 to 1.00"),
        ((0.998, 0.997, 0.999), "1.002× as fast", "95 % interval 1.00 to 1.00×"),
    ],
)
def test_only_an_interval_beside_one_is_faster_or_slower(ratio: tuple[float, ...], value: str, detail: str) -> None:
    found = said("Latency", ratio=Ratio(*ratio))
    assert found == (value, f"50 ms → 20 ms, 2 threads; {detail}")


def test_a_score_is_said_with_the_drift_and_else_the_drift_alone() -> None:
    assert said("Score") == ("0.9 lost", "93.9 → 93; relative error of the outputs 0.25")
    assert said("Score", score=(0.5, 0.75))[0] == "0.25 gained"
    assert said("Score", score=(0.5, 0.5))[0] == "unchanged"
    assert said("Output error", score=None) == ("0.25", "relative Frobenius error")
    two = said("Output error", score=None, drift={"y": 0.25, "z": math.inf})
    assert two == ("another shape", "relative Frobenius error, the largest of all outputs")


def test_all_that_was_measured_is_in_the_table() -> None:
    rows = [tuple(cell.replace("\N{NO-BREAK SPACE}", " ") for cell in row) for row in changes(done())]
    assert rows == [
        ("score", "93.9", "93", "-0.9"),
        ("latency, 2 threads", "50 ms", "20 ms", "40 % (25 to 50)"),
        ("MACs", "2.00 k", "1.40 k", "70.0 %"),
        ("parameters", "200", "54", "27.0 %"),
        ("file", "3.00 MB", "1.50 MB", "50.0 %"),
        ("peak memory", "2.00 MB", "1.00 MB", "50.0 %"),
        ("output y, relative error", "", "", "0.25"),
    ]
    names = [row[0] for row in changes(done(memory=None, score=None, n_threads=1, drift={}))]
    assert names == ["latency, 1 thread", "MACs", "parameters", "file"]


def test_nothing_replaced_claims_no_proof() -> None:
    assert summary(done()) == "0 of 0 convolutions replaced."
