"""Arrays of every form and scale give the same results, and a form that does not is seen."""

from __future__ import annotations

import cases
import numpy as np
import pytest
from reliability import inputs


def test_forms_and_scales_do_not_matter() -> None:
    inputs.run(["uneven 1d"], ["float32"]).check()


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_forms_and_scales_do_not_matter_anywhere() -> None:
    inputs.run(cases.FEW).check()


def test_the_forms_are_what_they_are_called(tmp_path) -> None:
    array = np.random.default_rng(0).standard_normal((3, 4, 5)).astype("float32")
    found = {name: form(array, tmp_path) for name, form in inputs.FORMS.items()}
    assert all(np.array_equal(array, other) for other in found.values())
    assert found["Fortran order"].flags.f_contiguous
    assert not found["read-only"].flags.writeable
    assert not found["big-endian"].dtype.isnative
    assert isinstance(found["memory-mapped"], np.memmap)
    assert all(stride < 0 for stride in found["negative strides"].strides)
    assert found["every second entry"].strides[-1] == 8
    assert not found["unaligned"].flags.aligned


def test_a_form_that_matters_and_a_false_error_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "FORMS", {"wrong": lambda array, _: array * 2})
    monkeypatch.setattr(inputs, "size", lambda array, unit: 1.0)  # noqa: ARG005
    outcome = inputs.run(["uneven 1d"], ["float32"])
    assert len(outcome.losses) > 0.9 * outcome.tried
