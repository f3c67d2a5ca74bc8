"""Markup: tables are tables, with names for rows and columns, and totals are sums."""

from __future__ import annotations

import re

from report.pages import document

from tensorconv.report import markup


def test_tables_have_captions_and_names_for_rows_and_columns() -> None:
    text = markup.table("A <title>", ("", "x", "y"), [("r", "1", "2 -> 3", "why & how")], "kind")
    assert "<caption>A &lt;title&gt;</caption>" in text
    assert '<thead><tr><td></td><th scope="col">x</th><th scope="col">y</th></tr></thead>' in text
    assert '<tr><th scope="row">r<small>why &amp; how</small></th><td>1</td><td>2 → 3</td></tr>' in text


def layers() -> list[str]:
    """Return the rows of each layer."""
    return markup.layer_rows(document()).split("<tbody class=")[1:]


def test_every_layer_is_a_row_with_keys_to_sort_by() -> None:
    assert [text.partition(" ")[0] for text in layers()] == ['"replaced"', '"kept"', '"replaced"']
    keys = [[part.partition('"')[0] for part in text.split('data-key="')[1:]] for text in layers()]
    assert keys[0][:2] == ["conv.b", "16 -&gt; 16, kernel 3x3, stride 1, padding 1"]
    assert keys[0][2:] == ["svd split=(0,)", "0.25", "400", "768", "0.5"]
    assert keys[1][2:] == ["", "", "9000", "10", ""]


def test_bars_are_shares_of_the_largest_layer() -> None:
    bars = [re.findall(r'<rect class="(\w+)" width="([\d.]+)"', text) for text in layers()]
    assert bars[0] == [("before", "11.11"), ("after", "4.44")]
    assert bars[1] == [("before", "100.00"), ("after", "100.00")]


def test_totals_are_sums() -> None:
    text = markup.totals(document())
    assert "9.42\N{NO-BREAK SPACE}k<small>89.7\N{NO-BREAK SPACE}%</small>" in text  # 400 + 9000 + 20 of 10,500
    assert "978<small>34.8\N{NO-BREAK SPACE}%</small>" in text  # 768 + 10 + 200 of 2,814


def test_only_what_is_missed_is_an_alert() -> None:
    assert markup.alert(()) == ""
    assert "<li>a &lt; b</li>" in markup.alert(["a < b"])
