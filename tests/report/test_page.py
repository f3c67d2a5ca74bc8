"""page: complete in itself, allowed to run nothing but its own script, and no text gets out of its place."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report.pages import HOSTILE, document

from tensorconv.report import page


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the text in each kind of them."""

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(content)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._open.append(tag)
        self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open[-1]][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def data_of(content: str) -> dict[str, Any]:
    """Return what the charts are drawn from."""
    found: dict[str, Any] = json.loads(Elements(content).texts["script"][0])
    return found


def test_nothing_is_loaded() -> None:
    content = page(document())
    addresses = set(re.findall(r"[a-z]+://[^\s\"'<>]*", content))
    assert addresses == {"http://www.w3.org/2000/svg"}  # the name of a format, not a place
    elements = Elements(content)
    assert not [attributes for _, attributes in elements.found if {"src", "srcset", "data", "action"} & set(attributes)]
    assert [attributes.get("href") for _, attributes in elements.found if "href" in attributes] == ["#layers"]
    assert not elements.all("link") + elements.all("iframe") + elements.all("object") + elements.all("base")
    assert "url(" not in content
    assert "@import" not in content


def test_the_policy_allows_this_style_and_this_script_alone() -> None:
    elements = Elements(page(document()))
    policy = next(m["content"] for m in elements.all("meta") if m.get("http-equiv") == "Content-Security-Policy")

    def digest(text: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"

    rules = dict(rule.strip().split(" ", 1) for rule in str(policy).split(";"))
    assert rules == {
        "default-src": "'none'",
        "style-src": digest(elements.texts["style"][0]),
        "script-src": digest(elements.texts["script"][1]),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert not [attributes for _, attributes in elements.found if "style" in attributes]  # the policy forbids these
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]


def test_hostile_texts_stay_texts() -> None:
    friendly, hostile = Elements(page(document("conv"))), Elements(page(document(HOSTILE)))
    assert [tag for tag, _ in hostile.found] == [tag for tag, _ in friendly.found]
    assert [set(attributes) for _, attributes in hostile.found] == [set(attributes) for _, attributes in friendly.found]
    assert hostile.texts["h1"] == [f"{HOSTILE}.onnx"]
    assert f"{HOSTILE}.b" in hostile.texts["th"]
    assert data_of(page(document(HOSTILE)))["layers"][0]["name"] == f"{HOSTILE}.b"
    script = page(document(HOSTILE)).partition('id="data">')[2].partition("</script>")[0]
    assert not set("<>&") & set(script)


def test_every_text_of_the_document_is_on_the_page() -> None:
    marked = Elements(page(document("needle")))
    assert sum(text.count("needle") for texts in marked.texts.values() for text in texts) >= 19
    whole = " ".join(text for texts in marked.texts.values() for text in texts)
    for text in ("1.8× faster", "needle.d", "its weights are computed", "at most 50 %", "the drift is above", "1.2.3"):
        assert text in whole
    for text in ("certified", "16 → 4", "too costly", "rank 2x2", "2,304 → 768", "40.0\N{NO-BREAK SPACE}%"):
        assert text in whole, text


def test_the_charts_get_what_was_looked_at() -> None:
    found = data_of(page(document()))
    assert found["tradeOff"]["points"] == [[0.2, 0.6], [0.5, 0.2], [1.0, 0.0]]
    assert found["tradeOff"]["chosen"] == [0.5, 0.25]
    assert [len(layer["points"]) for layer in found["layers"]] == [3, 2, 0]
    assert found["layers"][0]["macs"] == 1000
    assert found["layers"][0]["spectra"]["in-channels"] == [[1, 1.0], [2, 0.5], [3, 0.25]]
    assert [point["chosen"] for point in found["layers"][0]["points"]] == [True, False, False]


def test_a_plan_without_candidates_is_said_to_have_none() -> None:
    content = page(replace(document(), trade_off=None, missed=(), skipped=()))
    assert "does not say which candidates were looked at" in content
    assert 'id="trade-off"' not in content
    assert "Limits not met" not in content
    assert "Not looked at" not in content
    assert "Limits not met" in page(document())


def test_a_network_without_convolutions_has_a_page() -> None:
    content = page(replace(document(), layers=(), trade_off=None))
    assert "0 convolutions, 0 replaced" in content
    assert data_of(content)["layers"] == []


@pytest.mark.parametrize("name", ["page.html", "page.css", "page.js", "chart.js", "page.py", "markup.py"])
def test_its_parts_are_short_and_in_the_package(name: str) -> None:
    path = Path(__file__).parents[2] / "tensorconv" / "report" / name
    assert 20 < len(path.read_text(encoding="utf-8").splitlines()) < 300
