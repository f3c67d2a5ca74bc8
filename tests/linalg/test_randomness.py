"""as_generator: seeds and generators in, a clear error for the rest."""

from typing import Any

import numpy as np
import pytest

from tensorconv.errors import KernelError
from tensorconv.linalg import as_generator


def test_a_generator_is_itself_and_a_seed_is_always_the_same() -> None:
    generator = np.random.default_rng(3)
    assert as_generator(generator) is generator
    assert as_generator(3).integers(2**63) == np.random.default_rng(3).integers(2**63)


@pytest.mark.parametrize("seed", [-1, "x", 1.5])
def test_what_is_no_seed_is_refused(seed: Any) -> None:
    with pytest.raises(KernelError, match=r"rng must be a seed of at least 0 or a numpy\.random\.Generator, got"):
        as_generator(seed)
