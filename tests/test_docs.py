"""Tests of the documentation: the site builds without a warning, refers to nothing outside, and its examples run."""

from __future__ import annotations

import doctest
import inspect
import os
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import tensorconv as tc

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if not {"_build", "notebooks"} & set(path.parts))
FENCE = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]*) -->\n)?```(?P<language>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)
DIRECTIVES = ("{toctree}",)
LIKE_DOCTEST = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class References(HTMLParser):
    """What a page loads, where it links to, and what can be linked to in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.targets: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.targets.add(found.get("id", ""))
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag != "a":  # scripts, styles, images, frames, objects, icons, fonts
            self.loaded += [found[name] for name in ("src", "href", "data", "srcset", "action") if found.get(name)]


def is_outside(reference: str) -> bool:
    """Return whether a reference leaves the site; data written into the page does not."""
    parts = urlsplit(reference)
    return bool(parts.netloc) or parts.scheme not in ("", "data")


def styles_loaded(style: str) -> list[str]:
    """Return what a style sheet loads."""
    return [first or second for first, second in re.findall(r"""url\(["']?([^"')]+)|@import\s+["']([^"']+)""", style)]


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Build a site from a copy of the pages, so that the checkout stays as it is."""
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-d",
        target / "read",
        source,
        target / "html",
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def copied(folder: Path) -> Path:
    """Copy the pages and the notebooks to a folder, and return that of the pages."""
    shutil.copytree(DOCS, folder / "docs", ignore=shutil.ignore_patterns("_build", "notebooks", "__pycache__"))
    if (ROOT / "notebooks").is_dir():
        shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    return folder / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(copied(folder), folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def references(site: Path) -> dict[Path, References]:
    return {page: References(page.read_text(encoding="utf-8")) for page in site.rglob("*.html")}


def test_the_build_finds_what_is_broken(tmp_path: Path) -> None:
    source = tmp_path / "docs"
    source.mkdir()
    shutil.copy(DOCS / "conf.py", source)
    (source / "_static").mkdir()
    (source / "_static" / "site.css").touch()
    (source / "index.md").write_text("# One\n\n[nowhere](nowhere.md)\n\n```{eval-rst}\n:func:`tensorconv.none`\n```\n")
    done = build(source, tmp_path)
    assert done.returncode == 1
    assert "nowhere.md" in done.stderr
    assert "tensorconv.none" in done.stderr


def test_the_site_loads_nothing_from_outside(site: Path, references: dict[Path, References]) -> None:
    loaded = {page: found.loaded for page, found in references.items()}
    loaded |= {style: styles_loaded(style.read_text(encoding="utf-8")) for style in site.rglob("*.css")}
    outside = [f"{page.relative_to(site)}: {one}" for page, every in loaded.items() for one in every if is_outside(one)]
    assert not outside, "\n".join(outside)
    assert sum(map(len, loaded.values())) > 100


def test_what_is_outside_is_seen() -> None:
    page = '<script src="//cdn.org/a.js"></script><link href="https://b.org/c.css"><img src="d.svg"><a href="http://e.org">'
    assert [one for one in References(page).loaded if is_outside(one)] == ["//cdn.org/a.js", "https://b.org/c.css"]
    style = '@import "https://f.org/g.css"; a { src: url(https://h.org/i.woff2), url("j.woff2") }'
    assert [one for one in styles_loaded(style) if is_outside(one)] == ["https://f.org/g.css", "https://h.org/i.woff2"]


def test_every_internal_link_leads_somewhere(site: Path, references: dict[Path, References]) -> None:
    broken = []
    for page, found in references.items():
        for link in found.links:
            parts = urlsplit(link)
            if parts.netloc or parts.scheme:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            fragment = unquote(parts.fragment)
            exists = target in references and (not fragment or fragment in references[target].targets)
            if not exists and not (target.is_file() and not fragment):
                broken.append(f"{page.relative_to(site)}: {link}")
    assert not broken, "\n".join(broken)
    assert sum(len(found.links) for found in references.values()) > 500


def public_names() -> Iterator[tuple[str, ...]]:
    """Yield the public names, each with the names that it may be documented as."""
    for name in tc.__all__:
        value = getattr(tc, name)
        if not inspect.ismodule(value):
            yield (f"tensorconv.{name}",)
            continue
        own = [one for one, what in vars(value).items() if getattr(what, "__module__", None) == value.__name__]
        for one in getattr(value, "__all__", [one for one in own if not one.startswith("_")]):
            if callable(getattr(value, one)):
                yield f"tensorconv.{name}.{one}", f"tensorconv.{one}"


def test_every_public_name_is_documented(site: Path) -> None:
    inventory = zlib.decompress((site / "objects.inv").read_bytes().split(b"\n", 4)[4]).decode()
    documented = {line.split()[0] for line in inventory.splitlines() if " py:" in line}
    missing = [names[0] for names in public_names() if not documented & set(names)]
    assert not missing, missing
    assert len(list(public_names())) > 100


def test_equations_are_written_into_the_page(site: Path, references: dict[Path, References]) -> None:
    page = site / "methods.html"
    assert page.read_text(encoding="utf-8").count("<math") > 50
    assert not [one for one in references[page].loaded if "math" in one.lower()]


def test_the_first_page_has_its_pictures_for_both_themes(site: Path) -> None:
    page = (site / "index.html").read_text(encoding="utf-8")
    shown = re.findall(r'<img alt="[^"]{20,}" class="only-(\w+)[^"]*" src="([^"]+)"', page)
    assert [theme for theme, _ in shown] == ["light", "light", "dark", "dark"]
    assert len({(site / picture).read_bytes() for _, picture in shown}) == 4


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_every_example_is_run(page: Path) -> None:
    for found in FENCE.finditer(page.read_text(encoding="utf-8")):
        language, mark, body = found["language"], found["mark"], found["body"]
        if language == "python":
            assert body.startswith(">>>"), f"{page}: a python block must be a doctest:\n{body}"
        elif language not in DIRECTIVES:
            assert language in ("bash", "console"), f"{page}: a block must say what it is, not {language!r}:\n{body}"
        if mark is not None and language in ("bash", "console"):
            assert re.fullmatch(r"not run: .{10,}", mark), f"{page}: a mark must be 'not run: why', got {mark!r}"


def commands(page: str) -> Iterator[tuple[str, str | None]]:
    """Yield every command of a page, with what it prints, or None where the page does not say."""
    for found in FENCE.finditer(page):
        if (found["mark"] or "").startswith("not run"):
            continue
        if found["language"] == "bash":
            yield from ((line, None) for line in found["body"].splitlines())
        if found["language"] == "console":
            for block in re.split(r"^\$ ", found["body"], flags=re.MULTILINE)[1:]:
                command, _, printed = block.partition("\n")
                yield command, printed


def faults_of(page: str, folder: Path) -> list[str]:
    """Return what goes wrong when a page's commands are run one after the other in a folder."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "COLUMNS": "120", "NO_COLOR": "1"}
    faults = []
    for command, expected in commands(page):
        done = subprocess.run(
            ["bash", "-c", command],  # noqa: S607
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        checked = expected is None or doctest.OutputChecker().check_output(expected, done.stdout, LIKE_DOCTEST)
        if done.returncode or not checked:
            faults.append(f"$ {command}\n{done.stdout}{done.stderr}\nexit code {done.returncode}, expected {expected}")
    return faults


WITH_COMMANDS = [page for page in PAGES if any(commands(page.read_text(encoding="utf-8")))]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: str(page.relative_to(DOCS)))
def test_commands_do_what_the_page_says(page: Path, tmp_path: Path) -> None:
    faults = faults_of(page.read_text(encoding="utf-8"), tmp_path)
    assert not faults, "\n\n".join(faults)


def test_commands_that_fail_are_seen(tmp_path: Path) -> None:
    page = "```console\n$ echo one two\none ...\n$ echo three\nfour\n```\n\n```bash\nfalse\ntouch five\n```\n"
    page += "\n<!-- not run: it would end all -->\n```bash\nexit 7\n```\n"
    assert [fault.splitlines()[0] for fault in faults_of(page, tmp_path)] == ["$ echo three", "$ false"]
    assert (tmp_path / "five").is_file()
