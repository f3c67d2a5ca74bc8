"""The host's vectors: how wide they are, what tile of accumulators fits them."""

from __future__ import annotations

from numba.core.registry import cpu_target


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


TRIPLE, _, _FEATURES = cpu_target.target_context.codegen().magic_tuple()
VECTOR_BYTES, TILE_CHANNELS, TILE_VECTORS = host_tile(_FEATURES, TRIPLE)
