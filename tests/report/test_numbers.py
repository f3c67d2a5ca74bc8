"""Numbers as people read them, at the edges where digits and prefixes change."""

from __future__ import annotations

import pytest

from tensorconv.report.numbers import share, short_number, times


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (999.4, "999"),
        (999.6, "1.00 k"),
        (9994, "9.99 k"),
        (9996, "10.0 k"),
        (99_960, "100 k"),
        (999_400, "999 k"),
        (999_600, "1.00 M"),
        (1.5e13, "15.0 T"),
    ],
)
def test_three_digits_and_a_prefix(value: float, text: str) -> None:
    assert short_number(value) == text.replace(" ", "\N{NO-BREAK SPACE}")


def test_units_are_never_parted_from_their_numbers() -> None:
    assert short_number(7, "B") == "7\N{NO-BREAK SPACE}B"
    assert short_number(7e6, "B") == "7.00\N{NO-BREAK SPACE}MB"
    assert share(1, 8) == "12.5\N{NO-BREAK SPACE}%"
    assert share(3, 0) == "-"


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (100, 50, "2.0× less"),
        (50, 100, "2.0× more"),
        (100, 90, "1.11× less"),
        (1000, 1, "1000× less"),
        (1000, 996, "unchanged"),
        (1000, 994, "1.01× less"),
        (0, 0, "unchanged"),
        (0, 5, "-"),
        (5, 0, "-"),
    ],
)
def test_times_less_or_more(before: float, after: float, text: str) -> None:
    assert times(before, after, "less", "more") == text
