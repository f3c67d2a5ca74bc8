"""Random walks break no law, and a walk over a broken library is seen."""

from __future__ import annotations

import sys

import pytest
from reliability import machine

import tensorconv as tc


def test_random_walks_break_no_law() -> None:
    outcome = machine.run(6, 15)
    outcome.check()
    assert len(outcome.ends) >= 6  # kinds of steps


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_random_walks_break_no_law() -> None:
    machine.run(120, 15, seed=1).check()


def test_a_broken_law_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[tc.Factorization.__module__]
    original = module.relative_error
    for name, value in list(sys.modules.items()):
        if name.startswith("tensorconv.") and getattr(value, "relative_error", None) is original:
            monkeypatch.setattr(value, "relative_error", lambda *given: 0.9 * original(*given))
    assert "AssertionError" in machine.run(6, 15).losses[0]
