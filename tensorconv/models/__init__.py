"""Whole networks: the convolutions that a file holds, and networks compressed in place."""

from __future__ import annotations

from tensorconv.models.compression import Compression, apply_plan, compress, plan_network
from tensorconv.models.found import FoundLayer, Reading, SkippedLayer
from tensorconv.models.opening import open_network
from tensorconv.models.plan import Plan
from tensorconv.models.progress import Progress
from tensorconv.models.read import read_file, read_layers
from tensorconv.models.settings import Settings

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
