"""The parts of a report page that are there without JavaScript: HTML made of a document, every text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from tensorconv.report.document import Document, Figure, LayerEntry
from tensorconv.report.numbers import share, short_number

_ARROW = ("-&gt;", "\N{RIGHTWARDS ARROW}")
_PROOF = ("check", "result")
_CHAIN = ("step", "channels", "kernel", "geometry", "parameters")


def alert(missed: Sequence[str]) -> str:
    """Return the note on limits that are not met.

    Parameters
    ----------
    missed : sequence of str
        The limits.

    Returns
    -------
    str
        HTML, empty where all are met.
    """
    if not missed:
        return ""
    items = "".join(f"<li>{escape(one)}</li>" for one in missed)
    return f'<div class="alert" role="note"><h2>Limits not met</h2><ul>{items}</ul></div>'


def figures(found: Iterable[Figure]) -> str:
    """Return the numbers of the headline.

    Parameters
    ----------
    found : iterable of Figure
        The numbers.

    Returns
    -------
    str
        HTML of a list.
    """
    return "\n".join(
        f'<li><h3>{escape(one.title)}</h3><p class="value">{escape(one.value)}</p>'
        f'<p class="detail">{escape(one.detail)}</p></li>'
        for one in found
    )


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], kind: str) -> str:
    """Return a table whose rows have names.

    Parameters
    ----------
    caption : str
        What it shows.
    header : sequence of str
        Titles of the columns.
    rows : iterable of sequence of str
        The cells; the first of a row is its name, and what there is beyond the columns explains it.
    kind : str
        Class for its style.

    Returns
    -------
    str
        HTML that scrolls by itself where it is too wide.
    """
    head = "".join(f'<th scope="col">{escape(title)}</th>' if title else "<td></td>" for title in header)
    body = "\n".join(_row(row, len(header)) for row in rows)
    return (
        f'<div class="scroll" role="group" tabindex="0" aria-label="{escape(caption)}"><table class="{kind}">'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def terms(pairs: Iterable[tuple[str, str]]) -> str:
    """Return names with what there is to say of each.

    Parameters
    ----------
    pairs : iterable of (str, str)
        Names and texts.

    Returns
    -------
    str
        HTML of a description list.
    """
    return "<dl>" + "".join(f"<div><dt>{escape(k)}</dt><dd>{_words(v)}</dd></div>" for k, v in pairs) + "</dl>"


def layer_rows(document: Document) -> str:
    """Return the body of the table of layers: of each a row, and one with its details.

    Parameters
    ----------
    document : Document
        What is shown.

    Returns
    -------
    str
        HTML, one tbody per layer.
    """
    largest = max((one.macs[0] for one in document.layers), default=1) or 1
    return "\n".join(_layer(i, one, largest) for i, one in enumerate(document.layers))


def totals(document: Document) -> str:
    """Return the cells of the last row: all layers together.

    Parameters
    ----------
    document : Document
        What is shown.

    Returns
    -------
    str
        HTML.
    """
    macs, n_parameters = (
        tuple(map(sum, zip(*pairs, strict=True))) if document.layers else (0, 0)
        for pairs in ([one.macs for one in document.layers], [one.n_parameters for one in document.layers])
    )
    return (
        '<tr><th scope="row">All convolutions</th><td class="wide"></td><td class="middle"></td>'
        f'<td></td><td class="number">{_amount(macs)}</td>'
        f'<td class="number wide">{_amount(n_parameters)}</td><td class="wide"></td></tr>'
    )


def _row(row: Sequence[str], n_columns: int) -> str:
    name = escape(row[0]) + "".join(f"<small>{_words(more)}</small>" for more in row[n_columns:])
    return f'<tr><th scope="row">{name}</th>' + "".join(f"<td>{_words(one)}</td>" for one in row[1:n_columns]) + "</tr>"


def _layer(i: int, one: LayerEntry, largest: int) -> str:
    becomes = f"{escape(one.becomes)}<small>rank {escape(one.rank)}</small>" if one.becomes else "as it is"
    if one.note:
        becomes += f"<small>{escape(one.note)}</small>"
    time = "" if one.time is None else f"{100 * one.time[0]:.0f} %"
    keys = (one.layer, one.becomes, one.error, one.macs[1], one.n_parameters[1], one.time and one.time[0])
    cells = (
        ("wide", _words(one.layer)),
        ("middle", becomes),
        ("number", "" if one.error is None else f"{one.error:.3g}"),
        ("number", _amount(one.macs) + _bar(one.macs, largest)),
        ("number wide", _amount(one.n_parameters)),
        ("number wide", time),
    )
    row = "".join(
        f'<td class="{kind}" data-key="{_key(key)}">{cell}</td>' for (kind, cell), key in zip(cells, keys, strict=True)
    )
    name = f'<th scope="row" data-key="{_key(one.name)}">{escape(one.name)}</th>'
    details = f'<tr class="details" id="details-{i}"><td colspan="7"><div>{_details(one)}</div></td></tr>'
    state = "replaced" if one.becomes else "kept"
    return f'<tbody class="{state}" data-layer="{i}"><tr>{name}{row}</tr>{details}</tbody>'


def _details(one: LayerEntry) -> str:
    change = [("convolution", one.layer), ("becomes", f"{one.becomes}, rank {one.rank}" if one.becomes else "as it is")]
    if one.note:
        change.append(("left alone", one.note))
    for name, (before, after) in (("MACs", one.macs), ("parameters", one.n_parameters)):
        change.append((name, f"{before:,}" if before == after else f"{before:,} → {after:,} ({share(after, before)})"))
    parts = [f'<h3 class="print">{escape(one.name)}</h3>', terms([*change, *one.facts]), '<div class="charts"></div>']
    if one.proof:
        chain = table("In its place, in order", _CHAIN, one.chain, "chain")
        parts.append(f'<div class="tables">{table("Proof", _PROOF, one.proof, "proof")}{chain}</div>')
    return "".join(parts)


def _words(text: str) -> str:
    """Return a text with arrows as a page has them."""
    return escape(text).replace(*_ARROW)


def _amount(pair: Sequence[int]) -> str:
    """Return what is left, and its share of what was."""
    left = "" if pair[0] == pair[1] else f"<small>{share(pair[1], pair[0])}</small>"
    return short_number(pair[1]) + left


def _bar(pair: tuple[int, int], largest: int) -> str:
    """Return a bar as long as the costs before, filled as far as those after."""
    before, after = (100 * value / largest for value in pair)
    return (
        '<svg class="bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="before" width="{before:.2f}" height="6"/>'
        f'<rect class="after" width="{after:.2f}" height="6"/></svg>'
    )


def _key(value: float | str | None) -> str:
    return "" if value is None else escape(str(value))
