"""Saves that end early, in a process of their own: the old file or the new one is whole, and can be saved again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from reliability.outcome import Clock, Outcome, start

KINDS = (".npz", ".safetensors", ".onnx", "statistics", "plan", "network", "split network")


def run(kinds: Sequence[str] = KINDS, *, chunks: int = 2, kills: int = 1, seed: int = 0) -> Outcome:
    """Return what saves of some kinds of files left behind.

    Parameters
    ----------
    kinds : sequence of str
        Among KINDS.
    chunks : int
        By how many writes a file is written.
    kills : int
        How many saves of each kind are killed at random moments.
    seed : int
        Of those moments.
    """
    clocked = Outcome()
    with Clock(clocked):
        process = start("saving", kinds, chunks, kills, seed, TENSORCONV_NUM_THREADS="1")
        stdout, stderr = process.communicate()
        assert process.returncode == 0, stderr
    tried, faults, losses, ends, peak = json.loads(stdout)
    return Outcome(tried, faults, losses, Counter(ends), clocked.seconds, peak)
