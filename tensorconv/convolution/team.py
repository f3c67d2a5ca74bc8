"""A team of threads that wait for work in compiled code: to wake one by the system takes as long as a small layer.

A compiled function invites the team into itself: its arguments and an entry are left in memory that all share, and a
number says that the call is open. Whoever sees it counts itself in, looks again whether the call is still open, and
runs the same function with the same arguments. ::

    caller   ... arguments, OPEN = 7 | works | OPEN = 0 | until INSIDE == 0
    another  looks ... OPEN == 7: INSIDE += 1, still 7 | works | INSIDE -= 1 | looks ...

A thread that has looked in vain for about a millisecond sleeps, until the next call wakes it.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from tensorconv.convolution.loops import compiled

NT: Any = types
I64 = ir.IntType(64)
OPEN, INSIDE, FAILED, WANTED, CALLS, ENTRY, ARGUMENTS = (64 * line for line in range(7))  # bytes, a cache line each
N_BYTES = 8192
LOOKS = 20_000  # in vain: with about 50 ns each a millisecond
_TRIPLE = cpu_target.target_context.codegen().magic_tuple()[0]


def _at(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, I64.as_pointer())


def _peek(typing: Any, address: Any) -> Any:  # noqa: ARG001
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.load_atomic(_at(builder, arguments[0]), "seq_cst", 8)

    return NT.int64(NT.int64), generate


def _poke(typing: Any, address: Any, value: Any) -> Any:  # noqa: ARG001
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        builder.store_atomic(arguments[1], _at(builder, arguments[0]), "seq_cst", 8)
        return context.get_dummy_value()

    return NT.void(NT.int64, NT.int64), generate


def _add(typing: Any, address: Any, value: Any) -> Any:  # noqa: ARG001
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.atomic_rmw("add", _at(builder, arguments[0]), arguments[1], "seq_cst")

    return NT.int64(NT.int64, NT.int64), generate


def _pause(typing: Any) -> Any:  # noqa: ARG001
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        nothing = ir.FunctionType(ir.VoidType(), [])
        if _TRIPLE.startswith(("x86_64", "i686")):
            builder.call(builder.module.declare_intrinsic("llvm.x86.sse2.pause", [], nothing), [])
        elif _TRIPLE.startswith(("aarch64", "arm64")):
            hint = ir.FunctionType(ir.VoidType(), [ir.IntType(32)])
            builder.call(builder.module.declare_intrinsic("llvm.aarch64.hint", [], hint), [ir.IntType(32)(1)])
        return context.get_dummy_value()

    return NT.void(), generate


def _enter(typing: Any, team: Any) -> Any:  # noqa: ARG001
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        entry = builder.load(_at(builder, builder.add(arguments[0], I64(ENTRY))))
        function = builder.inttoptr(entry, ir.FunctionType(I64, [I64]).as_pointer())
        return builder.call(function, [builder.add(arguments[0], I64(ARGUMENTS))])

    return NT.int64(NT.int64), generate


def _invite(typing: Any, team: Any) -> Any:  # noqa: ARG001
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        inviting, (team,) = builder.function, arguments
        given = inviting.args[2:]  # behind the places for a result and an error; the last is the team
        record = ir.LiteralStructType([argument.type for argument in given])
        if context.get_abi_sizeof(record) > N_BYTES - ARGUMENTS:
            raise NotImplementedError("too many arguments")
        entry = ir.Function(builder.module, ir.FunctionType(I64, [I64]), f"{inviting.name}.invited")
        entry.linkage = "internal"
        inner = ir.IRBuilder(entry.append_basic_block())
        kept = inner.load(inner.inttoptr(entry.args[0], record.as_pointer()))
        places = [inner.alloca(argument.type.pointee) for argument in inviting.args[:2]]
        status = inner.call(
            inviting, [*places, *(inner.extract_value(kept, i) for i in range(len(given) - 1)), I64(-1)]
        )
        inner.ret(inner.zext(inner.icmp_signed("!=", status, status.type(0)), I64))
        with builder.if_then(builder.icmp_signed(">", team, I64(0))):
            whole = ir.Constant(record, ir.Undefined)
            for i, argument in enumerate(given):
                whole = builder.insert_value(whole, argument, i)
            builder.store(whole, builder.inttoptr(builder.add(team, I64(ARGUMENTS)), record.as_pointer()))
            builder.store(builder.ptrtoint(entry, I64), _at(builder, builder.add(team, I64(ENTRY))))
            calls = _at(builder, builder.add(team, I64(CALLS)))
            number = builder.add(builder.load(calls), I64(1))
            builder.store(number, calls)
            builder.store_atomic(number, _at(builder, builder.add(team, I64(OPEN))), "seq_cst", 8)
        return context.get_dummy_value()

    return NT.void(NT.int64), generate


peek, poke, add, pause, enter = (intrinsic(f) for f in (_peek, _poke, _add, _pause, _enter))
invite: Any = intrinsic(_invite)
"""Invite a team, an address, into the compiled function that says this, whose last argument it is; 0 is no team."""


@compiled
def serve(team: int, me: int, looks: int) -> bool:
    """Run what the team is invited to, until nothing has been open for a while.

    Parameters
    ----------
    team : int
        Address.
    me : int
        Number of this thread among the team.
    looks : int
        How often to look in vain.

    Returns
    -------
    bool
        Whether the team is still wanted.
    """
    left = looks
    while left > 0:
        number = peek(team + OPEN)
        if number < 0:
            return False
        if number == 0 or me >= peek(team + WANTED):
            pause()
            left -= 1
            continue
        add(team + INSIDE, 1)
        if peek(team + OPEN) == number and enter(team) != 0:
            add(team + FAILED, 1)
        add(team + INSIDE, -1)
        left = looks
        while left > 0 and peek(team + OPEN) == number:  # others are still at it
            pause()
            left -= 1
    return True


@compiled
def is_left(team: int, looks: int) -> bool:
    """Close what the team was invited to, and wait for a while until all have left it.

    Parameters
    ----------
    team : int
        Address.
    looks : int
        How often to look.

    Returns
    -------
    bool
        Whether all have.
    """
    poke(team + OPEN, 0)
    for _ in range(looks):
        if peek(team + INSIDE) == 0:
            return True
        pause()
    return False


class Team:
    """Threads beside the caller's, which are started when they are first wanted."""

    def __init__(self) -> None:
        self.memory = np.zeros(N_BYTES // 8 + 8, np.int64)
        self.address = self.memory.ctypes.data + -self.memory.ctypes.data % 64
        self.words = self.memory[(self.address - self.memory.ctypes.data) // 8 :]
        self.threads: list[threading.Thread] = []
        self.alarms: list[Any] = []
        self.asleep: list[bool] = []
        self.lock = threading.Lock()  # of who may invite

    def gather(self, n: int) -> None:
        """Have n threads look for work; the caller holds the lock."""
        while len(self.threads) < n:
            me = len(self.threads)
            self.alarms.append(threading.Lock())
            self.alarms[me].acquire()
            self.asleep.append(False)
            self.threads.append(threading.Thread(target=self._live, args=(me,), name=f"tensorconv-{me}", daemon=True))
            self.threads[me].start()
        for me in range(n):
            if self.asleep[me]:
                self.asleep[me] = False
                self.alarms[me].release()
        self.words[WANTED // 8] = n

    def part(self) -> None:
        """Wait until all have left the call; the caller holds the lock.

        Raises
        ------
        MemoryError
            If one of them failed: compiled loops fail only where no workspace is given.
        """
        while not is_left(self.address, LOOKS):
            time.sleep(0)
        if self.words[FAILED // 8]:
            self.words[FAILED // 8] = 0
            raise MemoryError("no memory for the workspace of a thread")

    def end(self) -> None:
        """Let all threads end."""
        with self.lock:
            poke_words = self.words
            poke_words[OPEN // 8] = -1
            for me, alarm in enumerate(self.alarms):
                if self.asleep[me]:
                    self.asleep[me] = False
                    alarm.release()
            for thread in self.threads:
                thread.join(timeout=1)
            self.__init__()

    def _live(self, me: int) -> None:
        while serve(self.address, me, LOOKS):
            self.asleep[me] = True
            self.alarms[me].acquire()


TEAM = Team()
atexit.register(lambda: TEAM.end())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=TEAM.__init__)  # a child has none of its parent's threads
