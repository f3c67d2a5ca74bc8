"""Numbers in memory that threads share: looked at, set and added to at once, and parts of work claimed with them."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from tensorconv.convolution.emitter import I64, NT
from tensorconv.convolution.loops import Ints, compiled
from tensorconv.convolution.vectors import TRIPLE


def location(builder: Any, address: Any) -> Any:
    """Return the pointer to a number at an address, in instructions that are being written.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
        Writes them.
    address : llvmlite.ir.Value
        Of the number.

    Returns
    -------
    llvmlite.ir.Value
        The pointer.
    """
    return builder.inttoptr(address, I64.as_pointer())


def _peek(typing: Any, address: Any) -> Any:  # noqa: ARG001
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.load_atomic(location(builder, arguments[0]), "seq_cst", 8)

    return NT.int64(NT.int64), generate


def _poke(typing: Any, address: Any, value: Any) -> Any:  # noqa: ARG001
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        builder.store_atomic(arguments[1], location(builder, arguments[0]), "seq_cst", 8)
        return context.get_dummy_value()

    return NT.void(NT.int64, NT.int64), generate


def _add(typing: Any, address: Any, value: Any) -> Any:  # noqa: ARG001
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.atomic_rmw("add", location(builder, arguments[0]), arguments[1], "seq_cst")

    return NT.int64(NT.int64, NT.int64), generate


def _pause(typing: Any) -> Any:  # noqa: ARG001
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        nothing = ir.FunctionType(ir.VoidType(), [])
        if TRIPLE.startswith(("x86_64", "i686")):
            builder.call(builder.module.declare_intrinsic("llvm.x86.sse2.pause", [], nothing), [])
        elif TRIPLE.startswith(("aarch64", "arm64")):
            hint = ir.FunctionType(ir.VoidType(), [ir.IntType(32)])
            builder.call(builder.module.declare_intrinsic("llvm.aarch64.hint", [], hint), [ir.IntType(32)(1)])
        return context.get_dummy_value()

    return NT.void(), generate


_peek_at, _poke_at, _add_at, _pause_here = (intrinsic(f) for f in (_peek, _poke, _add, _pause))


@compiled
def pause() -> None:
    """Wait for some cycles, in a loop that looks for something."""
    _pause_here()


@compiled
def peek(address: int) -> int:
    """Return a number that other threads change.

    Parameters
    ----------
    address : int
        Of the number.

    Returns
    -------
    int
        The number.
    """
    return int(_peek_at(address))


@compiled
def poke(address: int, value: int) -> None:
    """Set a number that other threads look at.

    Parameters
    ----------
    address : int
        Of the number.
    value : int
        The new one.
    """
    _poke_at(address, value)


@compiled
def add(address: int, value: int) -> int:
    """Add to a number that other threads change.

    Parameters
    ----------
    address : int
        Of the number.
    value : int
        What to add.

    Returns
    -------
    int
        The number before.
    """
    return int(_add_at(address, value))


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
    return add(address, 1)


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
