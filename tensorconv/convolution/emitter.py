"""The few instructions that kernels are written in.

Kernels work on addresses, as integers, and steps in bytes. An array, `like`, comes first to tell them the type.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tensorconv.convolution.vectors import VECTOR_BYTES

CG: Any = cgutils
NT: Any = types
I64, I32 = ir.IntType(64), ir.IntType(32)
Builder = Any
Value = Any


class Emitter:
    """The instructions of one kernel, written into the function that calls it.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
        Where the instructions go.
    like : numba type
        An array of the type of the numbers.
    lanes : int, optional
        Numbers in a vector, if not those of the host's.
    """

    def __init__(self, builder: Builder, like: Any, lanes: int | None = None) -> None:
        bits = like.dtype.bitwidth
        self.builder, self.like, self.size = builder, like, bits // 8
        self.scalar = ir.FloatType() if bits == 32 else ir.DoubleType()
        self.lanes = lanes or VECTOR_BYTES // self.size
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)

    def pointer(self, address: Value, offset: int, kind: Any) -> Value:
        """Return an address as a pointer.

        Parameters
        ----------
        address : value
            The address, less the offset.
        offset : int
            Bytes.
        kind : llvmlite.ir.Type
            What is there.

        Returns
        -------
        value
            The pointer.
        """
        moved = self.builder.add(address, I64(offset)) if offset else address
        return self.builder.inttoptr(moved, kind.as_pointer())

    def integer(self, address: Value, index: int = 0) -> Value:
        """Return an integer of an array of them.

        Parameters
        ----------
        address : value
            Of the array.
        index : int
            Of the integer.

        Returns
        -------
        value
            The integer.
        """
        return self.builder.load(self.pointer(address, 8 * index, I64))

    def load(self, address: Value, offset: int = 0) -> Value:
        """Return a vector.

        Parameters
        ----------
        address : value
            Of its first number, less the offset.
        offset : int
            Bytes.

        Returns
        -------
        value
            The vector.
        """
        return self.builder.load(self.pointer(address, offset, self.vector), align=self.size)

    def store(self, value: Value, address: Value, offset: int = 0) -> None:
        """Store a vector.

        Parameters
        ----------
        value : value
            The vector.
        address : value
            Where its first number goes, less the offset.
        offset : int
            Bytes.
        """
        self.builder.store(value, self.pointer(address, offset, self.vector), align=self.size)

    def splat(self, address: Value, offset: int = 0) -> Value:
        """Return a vector of one number.

        Parameters
        ----------
        address : value
            Of the number, less the offset.
        offset : int
            Bytes.

        Returns
        -------
        value
            The vector.
        """
        none = ir.Constant(self.vector, ir.Undefined)
        one = self.builder.load(self.pointer(address, offset, self.scalar))
        first = ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(self.builder.insert_element(none, one, I32(0)), none, first)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """Return a b + c, rounded once.

        Parameters
        ----------
        a, b, c : value
            Vectors.

        Returns
        -------
        value
            The vector.
        """
        return self._call(f"llvm.fma.v{self.lanes}f{8 * self.size}", self.vector, [a, b, c])

    def masked(self, address: Value, word: Value, step: int = 1) -> Value:
        """Return equally spaced numbers where the bits of an integer are set, else zeros; no others are touched.

        Parameters
        ----------
        address : value
            Of the first number.
        word : value
            The bits, number step * j for lane j.
        step : int
            1 for neighbours, 2 for every second number.

        Returns
        -------
        value
            The vector.
        """
        return self._masked(address, word) if step == 1 else self.split(address, word)[0]

    def split(self, address: Value, word: Value) -> tuple[Value, Value]:
        """Return every second number where the bits of an integer are set, else zeros, and the numbers between.

        Parameters
        ----------
        address : value
            Of the first number.
        word : value
            The bits, of two vectors.

        Returns
        -------
        (value, value)
            The vectors.
        """
        b = self.builder
        low = self._masked(address, word)
        high = self._masked(b.add(address, I64(self.lanes * self.size)), b.lshr(word, I64(self.lanes)))
        picked = [range(first, 2 * self.lanes, 2) for first in (0, 1)]
        kind = ir.VectorType(I32, self.lanes)
        even, odd = (b.shuffle_vector(low, high, ir.Constant(kind, list(indices))) for indices in picked)
        return even, odd

    def store_masked(self, value: Value, address: Value, word: Value) -> None:
        """Store the numbers of a vector whose bits are set in an integer.

        Parameters
        ----------
        value : value
            The vector.
        address : value
            Where its first number goes.
        word : value
            The bits.
        """
        to = self.pointer(address, 0, self.vector)
        name = f"llvm.masked.store.v{self.lanes}f{8 * self.size}.p0"
        self._call(name, ir.VoidType(), [value, to, I32(self.size), self._bits(word)])

    def prefetch(self, address: Value, offset: int = 0, *, level: int = 2) -> None:
        """Ask for a line of a cache.

        Parameters
        ----------
        address : value
            Anywhere in it, less the offset; it need not exist.
        offset : int
            Bytes.
        level : int
            The cache: 1 or 2.
        """
        at = self.pointer(address, offset, ir.IntType(8))
        self._call("llvm.prefetch.p0", ir.VoidType(), [at, I32(0), I32(4 - level), I32(1)])

    def loop(
        self, count: Value, carried: Sequence[Value], body: Callable[[Value, list[Value]], list[Value]]
    ) -> list[Value]:
        """Run a body several times, at least once, with values carried along.

        Parameters
        ----------
        count : value
            How often.
        carried : sequence of value
            The values before the first run.
        body : callable
            From the number of the run and the values to the values after it.

        Returns
        -------
        list of value
            The values after the last run.
        """
        b = self.builder
        before = b.block
        inside, after = (b.function.append_basic_block(name) for name in ("loop", "after"))
        b.branch(inside)
        b.position_at_end(inside)
        index = b.phi(I64)
        values = [b.phi(value.type) for value in carried]
        results = body(index, list(values))
        following = b.add(index, I64(1))
        end = b.block
        for phi, first, last in zip([index, *values], [I64(0), *carried], [following, *results], strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(last, end)
        b.cbranch(b.icmp_signed("<", following, count), inside, after)
        b.position_at_end(after)
        return results

    def _masked(self, address: Value, word: Value) -> Value:
        name = f"llvm.masked.load.v{self.lanes}f{8 * self.size}.p0"
        at = self.pointer(address, 0, self.vector)
        return self._call(name, self.vector, [at, I32(self.size), self._bits(word), self.zero])

    def _bits(self, word: Value) -> Value:
        bits = self.builder.trunc(word, ir.IntType(self.lanes))
        return self.builder.bitcast(bits, ir.VectorType(ir.IntType(1), self.lanes))

    def _call(self, name: str, result: Any, arguments: list[Value]) -> Value:
        kind = ir.FunctionType(result, [value.type for value in arguments])
        return self.builder.call(CG.get_or_insert_function(self.builder.module, kind, name), arguments)


def kernel(n_arguments: int, emit: Callable[..., None]) -> Any:
    """Make a function for compiled loops out of the instructions that it is.

    Parameters
    ----------
    n_arguments : int
        Integers that the function takes after the array that tells the type.
    emit : callable
        Gets an Emitter and these integers, and writes the instructions.

    Returns
    -------
    intrinsic
        A function without a result.
    """

    def function(typing: Any, like: Any, addresses: Any) -> Any:  # noqa: ARG001 (Numba's name and order)
        def generate(context: Any, builder: Builder, signature: Any, arguments: Any) -> Value:
            integers = CG.unpack_tuple(builder, arguments[1])
            emit(Emitter(builder, signature.args[0]), *integers)
            return context.get_dummy_value()

        return NT.void(like, NT.UniTuple(NT.int64, n_arguments)), generate

    return intrinsic(function)
