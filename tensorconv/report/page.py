"""page: a document as one HTML file that asks nothing of a network, and runs nothing but its own script."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict
from html import escape
from importlib.resources import files
from string import Template

from tensorconv.report import markup
from tensorconv.report.document import Document

_ESCAPES = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}  # in JSON, these stand in texts only
_NO_CURVE = "The plan does not say which candidates were looked at, so there are no curves; make it again for these."


def page(document: Document) -> str:
    """Return a report page.

    Style and script are in the page, and a policy in it allows these two alone, by their digests: a text that found a
    way out of its escaping would still not run.

    Parameters
    ----------
    document : Document
        What it shows.

    Returns
    -------
    str
        HTML.
    """
    style, script = _file("page.css"), _file("chart.js") + _file("page.js")
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    n_replaced = sum(bool(one.becomes) for one in document.layers)
    values = {
        "policy": policy,
        "style": style,
        "script": script,
        "data": _json(document),
        "title": escape(document.title),
        "summary": escape(document.summary),
        "alert": markup.alert(document.missed),
        "figures": markup.figures(document.figures),
        "changes": markup.table("Before and after", ("", "before", "after", "change"), document.changes, "changes"),
        "trade_off": _trade_off(document),
        "layers": markup.layer_rows(document),
        "totals": markup.totals(document),
        "count": f"{len(document.layers)} convolutions, {n_replaced} replaced",
        "skipped": _skipped(document),
        "settings": markup.terms(document.settings),
        "version": escape(document.version),
    }
    return Template(_file("page.html")).substitute(values)


def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(content: str) -> str:
    """Return the digest of what stands between the tags of a style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _json(document: Document) -> str:
    """Return what the charts need, in a form that cannot end the element it stands in."""
    trade_off = document.trade_off and asdict(document.trade_off)
    layers = [
        {
            "name": one.name,
            "macs": one.macs[0],
            "points": [asdict(point) for point in one.points],
            "spectra": {name: list(values) for name, values in one.spectra.items()},
        }
        for one in document.layers
    ]
    return json.dumps({"tradeOff": trade_off, "layers": layers}, allow_nan=False).translate(_ESCAPES)


def _trade_off(document: Document) -> str:
    found = document.trade_off
    if found is None:
        return f"<p>{_NO_CURVE}</p>"
    share, error = found.chosen
    return (
        f"<p>The plan takes {100 * share:.1f} % of the {escape(found.cost)}, with a {escape(found.error)} of "
        f"{error:.3g}. The line is the least error that other budgets would allow, by the same choice among the same "
        f'candidates. {escape(found.note)}</p><div class="charts" id="trade-off"></div>'
    )


def _skipped(document: Document) -> str:
    if not document.skipped:
        return ""
    return "<section><h2>Not looked at</h2>" + markup.terms(document.skipped) + "</section>"
