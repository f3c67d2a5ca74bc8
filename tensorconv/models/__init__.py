"""Whole networks: the convolutions that a file holds, and networks compressed in place."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tensorconv.models.compressing import apply_plan, compress, plan_network
    from tensorconv.models.compression import Compression
    from tensorconv.models.found import FoundLayer, Reading, SkippedLayer
    from tensorconv.models.opening import open_network
    from tensorconv.models.plan import Plan
    from tensorconv.models.progress import Progress
    from tensorconv.models.read import read_file, read_layers
    from tensorconv.models.settings import Settings

_HOMES = {
    "Compression": "compression",
    "FoundLayer": "found",
    "Plan": "plan",
    "Progress": "progress",
    "Reading": "found",
    "Settings": "settings",
    "SkippedLayer": "found",
    "apply_plan": "compressing",
    "compress": "compressing",
    "open_network": "opening",
    "plan_network": "compressing",
    "read_file": "read",
    "read_layers": "read",
}

__all__ = [
    "Compression",
    "FoundLayer",
    "Plan",
    "Progress",
    "Reading",
    "Settings",
    "SkippedLayer",
    "apply_plan",
    "compress",
    "open_network",
    "plan_network",
    "read_file",
    "read_layers",
]


def __getattr__(name: str) -> Any:
    """Load a name on first use: reading an array needs nothing of what compressing a network needs."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tensorconv.models' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"tensorconv.models.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
