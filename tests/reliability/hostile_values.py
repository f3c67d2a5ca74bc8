"""Values that no honest file says, and texts of JSON with one of them planted somewhere."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

Rng = np.random.Generator
NUMBERS: tuple[Any, ...] = (0, -1, 1, 2, 255, 2**16, 2**31 - 1, 2**31, -(2**31), 2**62, 2**63 - 1, -(2**63))
WIDER: tuple[Any, ...] = (2**63, 2**64, 10**30, 1e308, 0.5, float("nan"), float("-inf"))
TEXTS = ("", "0", "../../secret.data", "/etc/passwd", "a" * 3000, "\0", "\ud800", "O", "object", "OI*", "reflect", "ü")
NESTED: Any = 0
for _ in range(60):
    NESTED = [NESTED]
VALUES: tuple[Any, ...] = (*NUMBERS, *WIDER, *TEXTS, True, None, [], {}, [[]], [[1, 1]], [0, 0], NESTED)


def pick(rng: Rng, values: Any) -> Any:
    """Return one of the values, as it is."""
    return values[int(rng.integers(len(values)))]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container and key in a JSON value."""
    keys: Any = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])


def changed_json(text: str | bytes, rng: Rng) -> str:
    """Return a JSON text with one to three values replaced, removed, doubled or exchanged."""
    value = copy.deepcopy(json.loads(text))
    for _ in range(rng.integers(1, 4)):
        found = list(places(value))
        if not found:
            break
        container, key = pick(rng, found)
        what = rng.integers(5)
        if what == 0:
            del container[key]
        elif what == 1:
            _, other = pick(rng, found)
            container[key] = copy.deepcopy(container[other]) if _ is container else pick(rng, VALUES)
        elif what == 2 and isinstance(container, dict):
            container[pick(rng, TEXTS)] = container[key]
        else:
            container[key] = copy.deepcopy(pick(rng, VALUES))
    said = json.dumps(value)
    if rng.random() < 0.05:  # deeper than any parser's stack
        said = said[:-1] + ', "x": ' + "[" * 100_000 + "]" * 100_000 + "}"
    return said
