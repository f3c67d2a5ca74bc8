"""Saves that end early leave the old file or the new one, and a save that does not is seen."""

from __future__ import annotations

import pytest
from reliability import interruption


def test_saves_that_end_early_lose_nothing() -> None:
    outcome = interruption.run()
    outcome.check()
    assert outcome.faults > 20 * len(interruption.KINDS)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_saves_that_end_early_lose_nothing() -> None:
    interruption.run(chunks=8, kills=10, seed=1).check()


def test_a_file_written_in_its_place_is_lost() -> None:
    outcome = interruption.run(["careless"])
    for fault in ("kill", "torn write", "full disk", "interrupt", "files of"):
        assert any(fault in loss for loss in outcome.losses)
