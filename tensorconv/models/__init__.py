"""Whole networks: the convolutions that a file holds, with the geometry they are applied with."""

from __future__ import annotations

from tensorconv.models.found import FoundLayer, Reading, SkippedLayer
from tensorconv.models.read import read_file, read_layers

__all__ = ["FoundLayer", "Reading", "SkippedLayer", "read_file", "read_layers"]
