"""Documents for the tests of the report page: a small one, and one with names that try to break out."""

from __future__ import annotations

from tensorconv.report import Document, Figure, LayerEntry, Point, TradeOff

HOSTILE = "</script><img src=x onerror=\"document.title='broken'\"><!--<script>'\"&lt;\\u2028$title"


def document(name: str = "conv") -> Document:
    """Return three layers: one replaced, one left alone with candidates, one without; the texts hold the name."""
    points = (
        Point("svd", f"split=(0,) rank 4 {name}", 400, 0.25, 0.5, chosen=True),
        Point("cp", "rank 8", 300, 0.4),
        Point("svd", "split=(0,) rank 8", 800, 0.0625, 0.75),
    )
    replaced = LayerEntry(
        name=f"{name}.b",
        layer="16 -> 16, kernel 3x3, stride 1, padding 1",
        becomes="svd split=(0,)",
        rank="4",
        note="",
        error=0.25,
        macs=(1000, 400),
        n_parameters=(2304, 768),
        time=(0.5, 0.4, 0.6),
        facts=(("error of the kernel", f"0.25 {name}"),),
        points=points,
        spectra={"in-channels": ((1, 1.0), (2, 0.5), (3, 0.25)), "out-channels": ((1, 1.0), (3, 0.1))},
        proof=(("consistent", "yes", "as executed"), ("operator bound", "0.3", f"certified {name}")),
        chain=(("1", "16 -> 4", "3x1", "stride 1", "192"), ("2", "4 -> 16", "1x3", f"stride 1 {name}", "192")),
    )
    kept = LayerEntry(
        f"{name}.a", "8 -> 16", "", "", f"too costly {name}", None, (9000, 9000), (10, 10), points=points[1:]
    )
    bare = LayerEntry(f"{name}.c", "16 -> 8", "tucker", "2x2", "", 0.5, (500, 20), (500, 200))
    return Document(
        title=f"{name}.onnx",
        summary=f"2 of 4 convolutions replaced in {name}.",
        figures=(Figure("Latency", "1.8× faster", f"9 ms → 5 ms {name}"),),
        missed=(f"the drift is above the limit {name}",),
        changes=(("score", "93.9", "93", "-0.9"), (f"output {name}", "", "", "0.1")),
        layers=(replaced, kept, bare),
        trade_off=TradeOff(
            "MACs", "predicted error", ((0.2, 0.6), (0.5, 0.2), (1.0, 0.0)), (0.5, 0.25), f"More {name}"
        ),
        skipped=((f"{name}.d", f"its weights are computed {name}"),),
        settings=(("budget", f"at most 50 % {name}"),),
        version="1.2.3",
    )
