"""The report page: one HTML file that shows what became of a network, layer by layer, with every proof."""

from __future__ import annotations

from tensorconv.report.document import Document, Figure, LayerEntry, Point, TradeOff
from tensorconv.report.page import page

__all__ = ["Document", "Figure", "LayerEntry", "Point", "TradeOff", "page"]
