"""The host's vectors: how wide they are, what tile of accumulators fits them; and a counter that threads share."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from tensorconv.convolution.loops import Ints, compiled

NT: Any = types


def host_tile(features: str, triple: str) -> tuple[int, int, int]:
    """Return the bytes of a vector and the tile of accumulators: out-channels by vectors of positions.

    Accumulators, one row of positions and one broadcast weight have to fit the registers: 24 + 3 + 1 of 32 with
    AVX-512, 12 + 3 + 1 of 16 with AVX2, 16 + 2 + 1 of 32 with NEON.

    Parameters
    ----------
    features : str
        What the processor has, as LLVM lists it.
    triple : str
        The machine, as LLVM names it.

    Returns
    -------
    (int, int, int)
        Zeros where the machine is not known to multiply and add vectors in one instruction.
    """
    if "+avx512f" in features:
        return 64, 8, 3
    if "+avx2" in features and "+fma" in features:
        return 32, 4, 3
    return (16, 8, 2) if triple.startswith(("aarch64", "arm64")) else (0, 0, 0)


_TRIPLE, _, _FEATURES = cpu_target.target_context.codegen().magic_tuple()
VECTOR_BYTES, TILE_CHANNELS, TILE_VECTORS = host_tile(_FEATURES, _TRIPLE)


def _raise(typing: Any, address: Any) -> Any:  # noqa: ARG001
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.atomic_rmw(
            "add", builder.inttoptr(arguments[0], ir.IntType(64).as_pointer()), ir.IntType(64)(1), "monotonic"
        )

    return NT.int64(NT.int64), generate


_raise_by_one: Any = intrinsic(_raise)


@compiled
def claim(address: int) -> int:
    """Return an integer and raise it by one, before another thread can.

    Parameters
    ----------
    address : int
        Of the integer.

    Returns
    -------
    int
        The integer before.
    """
    return int(_raise_by_one(address))


@compiled
def claim_part(counter: Ints, n: int, team: int) -> int:
    """Claim one of n parts: the caller's from the first on, the team's from the last on.

    So each thread meets the same parts in call after call, and layer after layer, and finds them in its cache.

    Parameters
    ----------
    counter : ndarray of int64, shape (5,)
        Claims in all come first, the caller's fourth, the team's fifth.
    n : int
        Parts.
    team : int
        Negative for a thread of the team.

    Returns
    -------
    int
        The part, -1 if none is left.
    """
    at = counter.ctypes.data
    if claim(at) >= n:
        return -1
    return n - 1 - claim(at + 32) if team < 0 else claim(at + 24)
