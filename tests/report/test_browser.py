"""The page in a real browser: by keyboard, wide and narrow, light and dark, without network and without script."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from report.pages import HOSTILE, document

import tensorconv as tc
from tensorconv.report import page

WIDTHS = (320, 768, 1440)
# Contrast of a text with what is behind it, by the formula of WCAG 2: (L1 + 0.05) / (L2 + 0.05). Colours are read from
# a canvas, which knows all ways to write one.
CONTRAST = """() => {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    context.clearRect(0, 0, 1, 1); context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (colour) => {
    const [r, g, b] = rgba(colour).slice(0, 3).map((v) => v / 255)
      .map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (rgba(colour)[3] === 255) return colour;
    }
    return "white";
  };
  const ratio = (a, b) => (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  const texts = [], marks = [];
  for (const node of document.querySelectorAll("body *")) {
    if (!node.checkVisibility()) continue;
    const style = getComputedStyle(node), back = luminance(behind(node));
    const isMark = node.matches(".mark, .trace, .frontier, .chosen, .bar .after");
    const shown = node.matches(".after") ? style.fill : style.stroke;
    if (isMark) marks.push([node.getAttribute("class"), ratio(luminance(shown), back)]);
    const says = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!says || node.closest("title")) continue;
    const colour = node.closest("figure svg") ? style.fill : style.color;
    texts.push([`${node.tagName} ${node.textContent.slice(0, 30)}`, ratio(luminance(colour), back)]);
  }
  return { texts, marks, dark: luminance(getComputedStyle(document.body).backgroundColor) < .2 };
}"""
# What every control, chart and table must have, in the spirit of the checks of axe.
FAULTS = """() => {
  const faults = [], add = (what, node) => faults.push(`${what}: ${node.outerHTML.slice(0, 120)}`);
  const named = (node) => document.getElementById(node.getAttribute("aria-labelledby"))?.textContent;
  const name = (node) => node.getAttribute("aria-label") || node.labels?.[0]?.textContent || named(node)
    || node.textContent;
  const all = (selector) => [...document.querySelectorAll(selector)];
  if (!document.documentElement.lang) faults.push("no language");
  if (all("h1").length !== 1) faults.push("not one h1");
  if (all("main").length !== 1) faults.push("not one main");
  const ids = all("[id]").map((node) => node.id);
  if (new Set(ids).size !== ids.length) faults.push("an id is used twice");
  for (const node of all("button, input, summary, a, [tabindex='0'], [role=img], section")) {
    if (node.checkVisibility() && !(name(node) || "").trim()) add("no name", node);
  }
  for (const node of all("[aria-controls], [aria-labelledby], [for]")) {
    for (const one of ["aria-controls", "aria-labelledby", "for"]) {
      const id = node.getAttribute(one);
      if (id && !document.getElementById(id)) add(`${one} of nothing`, node);
    }
  }
  for (const node of all("table")) if (!node.caption || !node.querySelector("th[scope=col]")) add("table", node);
  for (const node of all("th")) if (!["col", "row"].includes(node.scope)) add("th without scope", node);
  for (const node of all("svg")) {
    if (node.getAttribute("aria-hidden") !== "true" && node.getAttribute("role") !== "img") add("svg", node);
  }
  let level = 1;
  for (const node of all("h1, h2, h3, h4").filter((node) => node.checkVisibility())) {
    if (Number(node.tagName[1]) > level + 1) add("heading skips a level", node);
    level = Number(node.tagName[1]);
  }
  for (const node of all("button, input, summary").filter((node) => node.checkVisibility())) {
    const box = node.getBoundingClientRect();
    if (box.height < 18) add("too low to hit", node);
  }
  return faults;
}"""


@contextmanager
def opened(browser: Any, path: Path, *, fails: bool = True, **options: Any) -> Iterator[Any]:
    """Yield a page; what it says on the console, or asks of a network, fails the test."""
    context = browser.new_context(reduced_motion="reduce", **options)
    context.set_default_timeout(10_000)
    view = context.new_page()
    said: list[str] = []
    view.on("console", lambda message: said.append(message.text))
    view.on("pageerror", lambda error: said.append(str(error)))
    view.on("request", lambda request: said.append(request.url) if request.url != path.as_uri() else None)
    view.goto(path.as_uri())
    yield view
    context.close()
    assert not fails or said == []


def names(view: Any) -> list[str]:
    """Return the names of the layers that are shown, from above."""
    found: list[str] = view.locator("tbody[data-layer] > tr:first-child > th").evaluate_all(
        "cells => cells.filter(cell => cell.checkVisibility()).map(cell => cell.textContent)"
    )
    return found


def tab_to(view: Any, text: str) -> None:
    """Press the tabulator until a control of this name has the focus."""
    for _ in range(60):
        view.keyboard.press("Tab")
        if view.evaluate("document.activeElement.textContent") == text:
            return
    raise AssertionError(f"the tabulator does not reach {text!r}")


@pytest.fixture(scope="module")
def small_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("small") / "page.html"
    path.write_text(page(document()), encoding="utf-8")
    return path


def test_the_first_stop_skips_to_the_layers(browser: Any, small_page: Path) -> None:
    with opened(browser, small_page) as view:
        view.keyboard.press("Tab")
        assert view.evaluate("document.activeElement.textContent") == "Skip to the layers"
        assert view.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
        view.keyboard.press("Enter")
        assert view.evaluate("document.activeElement.id") == "layers"


def test_sorting_by_keyboard(browser: Any, small_page: Path) -> None:
    with opened(browser, small_page) as view:
        plan = names(view)
        assert plan == ["conv.b", "conv.a", "conv.c"]
        tab_to(view, "MACs")
        head = view.locator("th", has=view.get_by_role("button", name="MACs"))
        orders = [("ascending", ["conv.c", "conv.b", "conv.a"]), ("descending", ["conv.a", "conv.b", "conv.c"])]
        for order, expected in [*orders, (None, plan)]:
            view.keyboard.press("Enter")
            assert (head.get_attribute("aria-sort"), names(view)) == (order, expected)
            assert view.evaluate("document.activeElement.textContent") == "MACs"
        view.get_by_role("button", name="Error", exact=True).press("Space")
        assert names(view) == ["conv.b", "conv.c", "conv.a"]  # what has no error stays below
        view.get_by_role("button", name="Error", exact=True).press("Space")
        assert names(view) == ["conv.c", "conv.b", "conv.a"]
        view.get_by_role("button", name="Layer", exact=True).press("Enter")
        assert names(view) == ["conv.a", "conv.b", "conv.c"]
        assert view.locator("th[aria-sort]").count() == 1
        assert view.locator("table.layers > :last-child").evaluate("node => node.tagName") == "TFOOT"


def test_filtering_says_how_many_are_left(browser: Any, small_page: Path) -> None:
    with opened(browser, small_page) as view:
        field, count = view.get_by_label("Filter layers"), view.locator("output")
        assert count.get_attribute("aria-live") == "polite"
        assert count.text_content() == "3 convolutions, 2 replaced"
        for text, expected in [("SVD", ["conv.b"]), ("conv .a costly", ["conv.a"]), ("nothing", [])]:
            field.fill(text)
            assert names(view) == expected
            assert count.text_content() == f"{len(expected)} of 3 convolutions"
        field.fill(" ")
        assert len(names(view)) == 3
        assert count.text_content() == "3 convolutions, 2 replaced"


def test_a_layer_opens_by_keyboard_to_its_curve_and_its_proof(
    browser: Any, real_page: Path, compressed: tc.Compression
) -> None:
    one = next(layer for layer in compressed.layers if layer.planned.choice)
    with opened(browser, real_page) as view:
        assert names(view) == [layer.name for layer in compressed.layers]
        tab_to(view, one.name)
        button = view.get_by_role("button", name=one.name, exact=True)
        details = view.locator(f"#{button.get_attribute('aria-controls')}")
        assert (button.get_attribute("aria-expanded"), details.is_visible()) == ("false", False)
        view.keyboard.press("Enter")
        assert (button.get_attribute("aria-expanded"), details.is_visible()) == ("true", True)
        curve = details.locator("svg[role=img]").first
        curve.wait_for()
        n_points = len(one.planned.candidates)
        assert n_points > 2
        assert f"{n_points} factorizations by" in curve.get_attribute("aria-label")
        assert curve.locator(".mark").count() == n_points
        assert curve.locator(".chosen").count() == 1
        proof = details.get_by_role("table", name="Proof")
        assert proof.get_by_role("row", name="consistent").text_content().endswith("yes")
        assert proof.get_by_role("row").count() == 1 + len(one.report.rows)
        chain = details.get_by_role("table", name="In its place, in order")
        assert chain.get_by_role("row").count() == 1 + len(one.sequence)
        details.get_by_text("Numbers of this chart").first.press("Enter")
        rows = details.get_by_role("table", name="Error of the candidates against MACs").get_by_role("row")
        rows.first.wait_for()
        assert rows.count() == 1 + n_points
        button.press("Enter")
        assert not details.is_visible()


def test_points_are_drawn_where_they_are(browser: Any, small_page: Path) -> None:
    """Pixels follow from numbers: equal steps of error and cost are equal steps on the screen, up is more."""
    with opened(browser, small_page, viewport={"width": 1440, "height": 900}) as view:
        view.get_by_role("button", name="conv.b", exact=True).click()
        svg = view.locator("#details-0 svg[role=img]").first
        svg.wait_for()
        boxes = svg.locator(".mark").evaluate_all(
            "nodes => nodes.map(n => { const b = n.getBBox(); return [b.x + b.width / 2, b.y + b.height / 2] })"
        )
        titles = svg.locator(".mark title").all_text_contents()
        at = {title.partition(":")[0]: box for title, box in zip(titles, boxes, strict=True)}
        (x4, y4), (x8, y8) = at["svd split=(0,) rank 4 conv"], at["svd split=(0,) rank 8"]  # 0.25 and 0.0625
        x3, y3 = at["cp rank 8"]  # of 0.4
        assert x8 - x4 == pytest.approx(4 * (x4 - x3), rel=0.02)
        # the triangle's box is not centred on its point, a circle's and a square's are
        assert (y8 - y4) / (y4 - y3) == pytest.approx((0.25 - 0.0625) / (0.4 - 0.25), rel=0.02)
        assert y3 < y4 < y8


def test_all_layers_open_and_close_at_once(browser: Any, small_page: Path) -> None:
    with opened(browser, small_page) as view:
        button = view.get_by_role("button", name="Open all")
        button.press("Enter")
        assert view.locator("tr.details:visible").count() == 3
        assert button.get_attribute("aria-pressed") == "true"
        button.press("Enter")
        assert view.locator("tr.details:visible").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_and_marks_stand_out(browser: Any, real_page: Path, scheme: str) -> None:
    with opened(browser, real_page, color_scheme=scheme, viewport={"width": 1440, "height": 900}) as view:
        view.get_by_role("button", name="Open all").click()
        view.locator("tr.details svg[role=img]").last.wait_for()
        found = view.evaluate(CONTRAST)
        assert found["dark"] == (scheme == "dark")
        assert len(found["texts"]) > 200
        assert len(found["marks"]) > 50
        assert [one for one in found["texts"] if one[1] < 4.5] == []
        assert [one for one in found["marks"] if one[1] < 3] == []
        view.get_by_role("button", name="Dark theme" if scheme == "light" else "Light theme").click()
        other = view.evaluate(CONTRAST)
        assert other["dark"] != found["dark"]
        assert [one for one in other["texts"] if one[1] < 4.5] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_sticks_out(browser: Any, real_page: Path, tmp_path: Path, width: int) -> None:
    hostile = tmp_path / "long.html"
    hostile.write_text(page(document("a_very_long_name_without_any_place_to_break/" * 4)), encoding="utf-8")
    for path in (real_page, hostile):
        with opened(browser, path, viewport={"width": width, "height": 700}) as view:
            assert view.evaluate("document.documentElement.scrollWidth") <= width
            view.get_by_role("button", name="Open all").click()
            view.locator("tr.details svg[role=img]").last.wait_for()
            assert view.evaluate("document.documentElement.scrollWidth") <= width
            columns = view.locator("table.layers > thead th:visible").count()
            assert columns == {320: 3, 768: 4, 1440: 7}[width]


def test_charts_are_drawn_again_where_the_window_changes(browser: Any, small_page: Path) -> None:
    with opened(browser, small_page, viewport={"width": 1440, "height": 700}) as view:
        chart = view.locator("#trade-off svg[role=img]")
        chart.wait_for()
        view.set_viewport_size({"width": 400, "height": 700})
        view.wait_for_function("document.querySelector('#trade-off svg[role=img]').viewBox.baseVal.width < 400")
        assert view.evaluate("document.documentElement.scrollWidth") <= 400


def test_every_control_has_a_name_and_every_table_its_heads(browser: Any, real_page: Path) -> None:
    with opened(browser, real_page) as view:
        view.get_by_role("button", name="Open all").click()
        view.locator("tr.details svg[role=img]").last.wait_for()
        for summary in view.get_by_text("Numbers of this chart").all():
            summary.click()
        assert view.evaluate(FAULTS) == []
        view.evaluate("document.querySelector('label').remove()")
        assert [fault.partition(":")[0] for fault in view.evaluate(FAULTS)] == ["no name"]  # the check can fail


def test_the_focus_is_seen(browser: Any, small_page: Path) -> None:
    with opened(browser, small_page) as view:
        for _ in range(12):
            view.keyboard.press("Tab")
            outline = view.evaluate("(s => [s.outlineStyle, s.outlineWidth])(getComputedStyle(document.activeElement))")
            assert outline == ["solid", "3px"]


def test_hostile_names_do_not_run(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page(document(HOSTILE)), encoding="utf-8")
    with opened(browser, path) as view:
        assert view.title() == f"{HOSTILE}.onnx: compression report"
        view.get_by_role("button", name="Open all").click()
        view.locator("tr.details svg[role=img]").last.wait_for()
        assert view.locator("img").count() == 0
        assert f"{HOSTILE}.b" in names(view)
        assert view.locator("#details-0 .mark title").first.text_content().startswith("svd")


def test_the_policy_stops_what_gets_in_all_the_same(browser: Any, tmp_path: Path) -> None:
    planted = '<script>document.title = "broken"</script><img src="https://example.org/x" onerror="document.title=1">'
    path = tmp_path / "page.html"
    path.write_text(page(document()).replace("<main>", "<main>" + planted), encoding="utf-8")
    with opened(browser, path, fails=False) as view:
        asked: list[str] = []
        view.on("requestfinished", lambda request: asked.append(request.url))
        view.wait_for_timeout(200)
        assert view.title() == "conv.onnx: compression report"
        assert asked == []


def test_without_script_the_figures_the_table_and_the_proofs_are_there(browser: Any, small_page: Path) -> None:
    with opened(browser, small_page, java_script_enabled=False) as view:
        for text in ("1.8× faster", "conv.a", "the drift is above the limit conv", "certified conv", "too costly conv"):
            assert view.get_by_text(text).first.is_visible(), text
        assert view.locator("button:visible, input:visible").count() == 0  # nothing that would not work


def test_print_is_light_and_without_tools(browser: Any, small_page: Path) -> None:
    with opened(browser, small_page, color_scheme="dark") as view:
        view.emulate_media(media="print")
        assert not view.get_by_label("Filter layers").is_visible()
        assert not view.evaluate(CONTRAST)["dark"]
