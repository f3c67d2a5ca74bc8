"""The file in which measured latencies are remembered: JSON, whole or not at all, never a reason to fail."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from tensorconv.export.files import write_whole

Measurements = dict[str, dict[str, list[float]]]


def default_path() -> Path | None:
    """Return where measurements are kept unless the caller says otherwise.

    Returns
    -------
    Path or None
        The file tensorconv/latency.json in the user's cache folder; None for a user without a home.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
    except RuntimeError:  # a user without a home
        return None
    return folder / "tensorconv" / "latency.json"


def read_measurements(path: Path | None) -> Measurements:
    """Read a file of measurements; whatever in it is broken is left out, for it can be measured again.

    Parameters
    ----------
    path : Path or None
        The file, if there is to be one.

    Returns
    -------
    dict of str to dict of str to list of float
        Of every machine and setting, what was measured; empty where there is no such file.
    """
    try:
        content = {} if path is None else json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        content = {}
    found: Measurements = {}
    for where, measured in content.items() if isinstance(content, dict) else ():
        if isinstance(measured, dict):
            found[where] = {what: values for what, values in measured.items() if _are_times(values)}
    return found


def _are_times(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(x, float) and 0 < x < math.inf for x in values)


def write_measurements(path: Path | None, everything: Measurements) -> None:
    """Write a file of measurements and the folder it is in, where that is allowed.

    Parameters
    ----------
    path : Path or None
        The file, if there is to be one.
    everything : dict of str to dict of str to list of float
        What it is to hold.
    """
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(everything, indent=0, sort_keys=True).encode())
    except OSError:  # a folder that is read-only or full: what was measured stays in memory
        return
