"""A team of threads that wait for work in compiled code: to wake one by the system takes as long as a small layer.

A compiled function invites the team into itself: its arguments and an entry are left in memory that all share, and a
number says that the call is open. Whoever sees it counts itself in, looks again whether the call is still open, and
runs the same function with the same arguments. ::

    caller   ... arguments, OPEN = 7 | works | OPEN = 0 | until INSIDE == 0
    another  looks ... OPEN == 7: INSIDE += 1, still 7 | works | INSIDE -= 1 | looks ...

A thread that has looked in vain for a millisecond sleeps, until the next call wakes it.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from tensorconv.convolution.atomics import add, location, pause, peek, poke
from tensorconv.convolution.emitter import I64, NT
from tensorconv.convolution.loops import Ints, compiled
from tensorconv.errors import TensorconvError

OPEN, INSIDE, FAILED, WANTED, CALLS, ENTRY, ARGUMENTS = (64 * line for line in range(7))  # bytes, a cache line each
N_BYTES = 8192
PATIENCE = 1e-3  # seconds to look for work before a thread sleeps
FEW_LOOKS = 1000  # to find out how long one takes


def _enter(typing: Any, team: Any) -> Any:  # noqa: ARG001
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        entry = builder.load(location(builder, builder.add(arguments[0], I64(ENTRY))))
        function = builder.inttoptr(entry, ir.FunctionType(I64, [I64]).as_pointer())
        return builder.call(function, [builder.add(arguments[0], I64(ARGUMENTS))])

    return NT.int64(NT.int64), generate


def _invite(typing: Any, team: Any) -> Any:  # noqa: ARG001
    """Invite a team into the compiled function that says this.

    Parameters
    ----------
    typing : context
        Numba's.
    team : int
        Its address, the last argument of the function, which must take no arrays of bytes; 0 is no team.

    Returns
    -------
    (signature, callable)
        What Numba makes instructions of.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        inviting, (team,) = builder.function, arguments
        given = inviting.args[2:]  # behind the places for a result and an error; the last is the team
        record = ir.LiteralStructType([argument.type for argument in given])
        if context.get_abi_sizeof(record) > N_BYTES - ARGUMENTS:
            raise TensorconvError(f"{inviting.name} has more arguments than a team can be given")
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
            for i, argument in enumerate(given):  # without references, which the inviting call gives back at its end
                is_reference = argument.type == ir.IntType(8).as_pointer()
                whole = builder.insert_value(whole, argument.type(None) if is_reference else argument, i)
            builder.store(whole, builder.inttoptr(builder.add(team, I64(ARGUMENTS)), record.as_pointer()))
            builder.store(builder.ptrtoint(entry, I64), location(builder, builder.add(team, I64(ENTRY))))
            calls = location(builder, builder.add(team, I64(CALLS)))
            number = builder.add(builder.load(calls), I64(1))
            builder.store(number, calls)
            builder.store_atomic(number, location(builder, builder.add(team, I64(OPEN))), "seq_cst", 8)
        return context.get_dummy_value()

    return NT.void(NT.int64), generate


_enter_at: Any = intrinsic(_enter)
invite: Any = intrinsic(_invite)


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
        if peek(team + OPEN) == number and _enter_at(team) != 0:
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


@compiled
def leave(team: int) -> None:
    """Close what the team was invited to, and wait until all have left it.

    Parameters
    ----------
    team : int
        Address.
    """
    poke(team + OPEN, 0)
    while peek(team + INSIDE) != 0:
        pause()


class Team:
    """Threads beside the caller's, which are started when they are first wanted.

    Attributes
    ----------
    lock : lock
        Who holds it may invite the team.
    address : int
        What a compiled function is to invite.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin without threads, as the child of a fork has to: it has none of its parent's."""
        self.lock = threading.Lock()
        self.memory = np.zeros((N_BYTES + 64) // 8, np.int64)
        first = -self.memory.ctypes.data % 64
        self.address, self.words = self.memory.ctypes.data + first, self.memory[first // 8 :]
        self.threads: list[threading.Thread] = []
        self.alarms: list[threading.Semaphore] = []
        self.asleep: list[bool] = []
        self.looks = 0  # before a thread sleeps

    def gather(self, n: int) -> None:
        """Have some threads look for work.

        Parameters
        ----------
        n : int
            How many; the others of the team stay away.
        """
        if not self.looks:
            serve(self.address, 0, 1)  # which is compiled, or loaded, on first use
            start = time.perf_counter()
            serve(self.address, 0, FEW_LOOKS)
            self.looks = int(FEW_LOOKS * PATIENCE / (time.perf_counter() - start)) + 1
        while len(self.threads) < n:
            me = len(self.threads)
            self.alarms.append(threading.Semaphore(0))
            self.asleep.append(False)
            work = partial(_live, self.memory, self.address, me, self.looks, self.alarms[me], self.asleep)
            thread = threading.Thread(target=work, name=f"tensorconv-{me}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system has no more, or the interpreter is about to end
                del self.alarms[me], self.asleep[me]
                n = me
                break
            self.threads.append(thread)
        for me in range(n):
            if self.asleep[me]:
                self.asleep[me] = False
                self.alarms[me].release()
        self.words[WANTED // 8] = n

    def part(self) -> bool:
        """Close the call and wait until all have left it.

        Returns
        -------
        bool
            Whether none of them failed: compiled loops do where there is no memory for a workspace.
        """
        try:
            while not is_left(self.address, self.looks):
                time.sleep(0)  # one of them waits for a core
        finally:
            leave(self.address)  # also where a signal ends the wait: they have the caller's arrays
        failed = bool(self.words[FAILED // 8])
        self.words[FAILED // 8] = 0
        return not failed

    def end(self) -> None:
        """Let all threads end, before the compiled code goes that they run."""
        with self.lock:
            self.words[OPEN // 8] = -1
            for alarm in self.alarms:
                alarm.release()
            for thread in self.threads:
                thread.join()
        self.reset()


def _live(
    memory: Ints, address: int, me: int, looks: int, alarm: threading.Semaphore, asleep: list[bool]
) -> None:  # fmt: skip
    """Be a thread of the team, whose memory lives as long."""
    while memory.size and serve(address, me, looks):
        asleep[me] = True
        alarm.acquire()


TEAM = Team()
atexit.register(TEAM.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=TEAM.reset)
