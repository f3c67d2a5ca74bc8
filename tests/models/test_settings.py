"""Settings: every value out of range is refused by name, and what is kept comes back the same through JSON."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import tensorconv as tc
from tensorconv.errors import ModelError
from tensorconv.models.network import Site
from tensorconv.models.settings import SHARES, Settings

SITE = Site("block4.conv1", tc.ConvLayer.of(np.ones((2, 2, 3))), ((8,),))


def test_half_of_the_cost_needs_no_more_words() -> None:
    settings = Settings(budget=0.5)
    assert (settings.of, settings.methods, settings.shares, settings.multiple) == ("macs", None, SHARES, 16)
    assert settings.wants(SITE)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "exactly one of budget and error must be given, such as budget=0.5 for half of the cost"),
        ({"budget": 0.5, "error": 0.1}, "exactly one of budget and error must be given"),
        ({"budget": 0}, "budget must be a finite number above 0, got 0"),
        ({"budget": -0.5}, "budget must be a finite number above 0, got -0.5"),
        ({"budget": float("nan")}, "budget must be a finite number above 0, got nan"),
        ({"budget": float("inf")}, "budget must be a finite number above 0, got inf"),
        ({"budget": True}, "budget must be a finite number above 0, got True"),
        ({"budget": "0.5"}, "budget must be a finite number above 0, got '0.5'"),
        ({"error": -1e-9}, "error must be a finite number of at least 0, got -1e-09"),
        ({"error": [0.1]}, "error must be a finite number of at least 0, got [0.1]"),
        ({"budget": 0.5, "ends": -1}, "ends must be a finite number of at least 0, got -1"),
        ({"budget": 0.5, "ends": None}, "ends must be a finite number of at least 0, got None"),
        ({"budget": 0.5, "shares": [0.5, 0]}, "shares must be a finite number above 0, got 0"),
        ({"budget": 0.5, "shares": [None]}, "shares must be a finite number above 0, got None"),
        ({"budget": 0.5, "shares": 0.5}, "shares must be a list, got 0.5; write [0.5]"),
        ({"budget": 0.5, "shares": []}, "shares must hold at least one entry; leave it away for the default"),
        ({"budget": 0.5, "methods": "svd"}, "methods must be a list, got the text 'svd'; write ['svd']"),
        ({"budget": 0.5, "methods": ()}, "methods must hold at least one entry; leave it away for the default"),
        ({"budget": 0.5, "methods": [3]}, "methods must hold texts, got 3"),
        ({"budget": 0.5, "include": "conv*"}, "include must be a list, got the text 'conv*'; write ['conv*']"),
        ({"budget": 0.5, "include": None}, "include must be a list, got None; write [None]"),
        ({"budget": 0.5, "exclude": [None]}, "exclude must hold texts, got None"),
        ({"budget": 0.5, "of": "flops"}, "of must be one of 'macs', 'parameters', 'bytes', 'latency', got 'flops'"),
        ({"budget": 0.5, "of": None}, "of must be one of 'macs', 'parameters', 'bytes', 'latency', got None"),
        ({"budget": 0.5, "by": "luck"}, "by must be one of 'kernel', 'responses', 'score', got 'luck'"),
        ({"budget": 0.5, "multiple": 0}, "multiple must be an integer of at least 1, got 0"),
        ({"budget": 0.5, "multiple": 8.0}, "multiple must be an integer of at least 1, got 8.0"),
        ({"budget": 0.5, "batch": 0}, "batch must be an integer of at least 1, got 0"),
        ({"budget": 0.5, "seed": -1}, "seed must be an integer of at least 0, got -1"),
        ({"budget": 0.5, "seed": True}, "seed must be an integer of at least 0, got True"),
        ({"budget": 0.5, "faster": "no"}, "faster must be True or False, got 'no'"),
    ],
)
def test_values_out_of_range_are_named(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ModelError, match=re.escape(text)):
        Settings(**values)


@pytest.mark.parametrize(
    ("include", "exclude", "wanted"),
    [
        (["*"], [], True),
        (["block4.*"], [], True),
        (["block[123].*"], [], False),
        (["Block4.*"], [], False),
        (["conv1"], [], False),
        (["conv1", "*.conv?"], ["block5.*"], True),
        (["*"], ["block5.*", "*conv1"], False),
        ([], [], False),
    ],
)
def test_patterns_name_the_layers_to_look_at(include: list[str], exclude: list[str], wanted: bool) -> None:
    assert Settings(budget=0.5, include=include, exclude=exclude).wants(SITE) == wanted


@pytest.mark.parametrize(
    "settings",
    [
        Settings(budget=0.5),
        Settings(error=0, of="latency", methods=["svd", "cp"], include=["a*"], exclude=["ab"], shares=[0.1, 1.5]),
        Settings(budget=Fraction(1, 3), multiple=1, faster=False, by="score", ends=0, batch=64, seed=2**70),
        Settings(budget=np.float32(0.3), ends=np.float64(2), shares=np.array([0.5], "float32"), seed=np.int64(3)),
    ],
)
def test_what_is_kept_comes_back(settings: Settings) -> None:
    assert Settings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"budget": 0.5, "colour": 1}, "settings must be of batch, budget, by, efficiency, ends"),
        ({"budget": 0.5, "shares": {"a": 1}}, "shares must be a finite number above 0, got 'a'"),
        ({"budget": 0.5, "of": ["macs"]}, "of must be one of"),
        ({}, "exactly one of budget and error"),
    ],
)
def test_what_was_not_kept_is_refused(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ModelError, match=text):
        Settings.from_dict(values)
