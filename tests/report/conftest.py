"""A small compression of the demo's network, and a browser to look at its page with, each made once."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorconv as tc
from tensorconv.demo import IMAGES, NETWORK


@pytest.fixture(scope="session")
def compressed() -> tc.Compression:
    """Return the demo's network, compressed by two methods; three layers are excluded."""
    with np.load(IMAGES) as content:
        images = content["images"][:24, None].astype("float32") / 127.5 - 1
        labels = content["labels"][:24]

    def right(run: Any) -> float:
        return float(np.mean(run({"images": images})["logits"].argmax(1) == labels))

    asked = {"methods": ["svd", "depthwise_separable"], "shares": (0.2, 0.4, 0.6), "include": ["conv2", "conv4"]}
    return tc.compress(NETWORK, budget=0.75, data=images, evaluate=right, faster=False, **asked)


@pytest.fixture(scope="session")
def real_page(compressed: tc.Compression, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("page") / "page.html"
    compressed.report(path, title="network.onnx")
    return path


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Yield headless Chromium, that of the system."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium is installed; Debian's package chromium has it")
    if not os.environ.get("CI"):  # there it must not be missing
        pytest.importorskip("playwright", reason="playwright is not installed")
    api = importlib.import_module("playwright.sync_api")
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # root has none
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=sandbox)
        yield opened
        opened.close()
