"""Settings that all tests share: repeatable hypothesis runs, and the folder of trained kernels where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

# chosen before keras is imported; a test of its other backend runs in a process of its own
os.environ.setdefault("KERAS_BACKEND", "jax")

ROOT = Path(__file__).resolve().parents[1]

# derandomized: a red run is red again on the next machine; no deadline: compiling and importing count as time too
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def trained_kernels() -> Path:
    """Return the folder of trained kernels (index.json and one .npz each) that may lie beside the checkout."""
    folder = ROOT.parent / "shared" / "kernels"
    if not (folder / "index.json").is_file():
        pytest.skip("no folder ../shared/kernels beside this checkout")
    return folder
