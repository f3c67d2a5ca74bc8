"""Memory does not grow with the number of calls, and where it does it is seen."""

from __future__ import annotations

import pytest
from reliability import growth


def test_memory_does_not_grow() -> None:
    growth.run(["convolve", "svd split=out"], 200).check()


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_memory_does_not_grow_over_a_thousand_calls() -> None:
    growth.run().check()


def test_a_call_that_keeps_its_kernel_is_seen() -> None:
    assert growth.run(["leak"], 1000).losses
