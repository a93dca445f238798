"""Unaligned little-endian loads, stores and copies for the kernels.

An address is a plain integer (`array.ctypes.data` plus an offset). These functions check nothing: a kernel checks
that the bytes lie inside its event before it asks for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.base import BaseContext
from numba.core.typing.templates import Signature
from numba.extending import intrinsic

from binlogsync.binlog.compiling import inner


def _load(numba_type: types.Type, bits: int) -> Callable[..., Any]:
    @intrinsic
    def load(typing_context: object, address: types.Type) -> tuple[Signature, Callable[..., Any]]:
        def generate(
            context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: list[ir.Value]
        ) -> ir.Value:
            pointer = builder.inttoptr(arguments[0], ir.IntType(bits).as_pointer())
            return builder.load(pointer, align=1)

        return numba_type(types.intp), generate

    return load


def _store(numba_type: types.Type, bits: int) -> Callable[..., Any]:
    @intrinsic
    def store(typing_context: object, address: types.Type, value: types.Type) -> tuple[Signature, Callable[..., Any]]:
        def generate(
            context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: list[ir.Value]
        ) -> ir.Value:
            pointer = builder.inttoptr(arguments[0], ir.IntType(bits).as_pointer())
            builder.store(arguments[1], pointer, align=1)
            return context.get_dummy_value()

        return types.void(types.intp, numba_type), generate

    return store


def _swap(numba_type: types.Type) -> Callable[..., Any]:
    @intrinsic
    def swap(typing_context: object, value: types.Type) -> tuple[Signature, Callable[..., Any]]:
        def generate(
            context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: list[ir.Value]
        ) -> ir.Value:
            return builder.bswap(arguments[0])

        return numba_type(numba_type), generate

    return swap


def _copy64_code(
    typing_context: object, target: types.Type, source: types.Type
) -> tuple[Signature, Callable[..., Any]]:
    """64 bytes at once, whatever of them is wanted."""

    def generate(
        context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: list[ir.Value]
    ) -> ir.Value:
        pointer = ir.VectorType(ir.IntType(8), 64).as_pointer()
        value = builder.load(builder.inttoptr(arguments[1], pointer), align=1)
        builder.store(value, builder.inttoptr(arguments[0], pointer), align=1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


def _lowest_bit_code(typing_context: object, value: types.Type) -> tuple[Signature, Callable[..., Any]]:
    """The number of the lowest bit that is set, of a number that is not 0."""

    def generate(
        context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: list[ir.Value]
    ) -> ir.Value:
        return builder.cttz(arguments[0], ir.IntType(1)(1))

    return types.uint64(types.uint64), generate


def _leading_zeros_code(typing_context: object, value: types.Type) -> tuple[Signature, Callable[..., Any]]:
    """How many bits above the highest that is set, of a number that is not 0."""

    def generate(
        context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: list[ir.Value]
    ) -> ir.Value:
        return builder.ctlz(arguments[0], ir.IntType(1)(1))

    return types.uint64(types.uint64), generate


def _fill_code(
    typing_context: object, target: types.Type, size: types.Type, byte: types.Type
) -> tuple[Signature, Callable[..., Any]]:
    """`size` bytes of `byte`."""

    def generate(
        context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: list[ir.Value]
    ) -> ir.Value:
        pointer = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
        kind = ir.FunctionType(
            ir.VoidType(), [ir.IntType(8).as_pointer(), ir.IntType(8), ir.IntType(64), ir.IntType(1)]
        )
        memset = cgutils.get_or_insert_function(builder.module, kind, "llvm.memset.p0i8.i64")
        builder.call(memset, [pointer, arguments[2], arguments[1], ir.IntType(1)(0)])
        return context.get_dummy_value()

    return types.void(types.intp, types.int64, types.uint8), generate


def _equal8_code(
    typing_context: object, address: types.Type, value: types.Type
) -> tuple[Signature, Callable[..., Any]]:
    """Which of eight 64-bit numbers are `value`, a bit each, the first the lowest."""

    def generate(
        context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: list[ir.Value]
    ) -> ir.Value:
        kind = ir.VectorType(ir.IntType(64), 8)
        numbers = builder.load(builder.inttoptr(arguments[0], kind.as_pointer()), align=1)
        first = builder.insert_element(ir.Constant(kind, ir.Undefined), arguments[1], ir.IntType(32)(0))
        places = ir.Constant(ir.VectorType(ir.IntType(32), 8), [ir.IntType(32)(0)] * 8)
        same = builder.icmp_signed("==", numbers, builder.shuffle_vector(first, first, places))
        return builder.bitcast(same, ir.IntType(8))

    return types.uint8(types.intp, types.int64), generate


def _high64_code(typing_context: object, address: types.Type) -> tuple[Signature, Callable[..., Any]]:
    """Which of 64 bytes are above 0x7f, a bit each, the first the lowest."""

    def generate(
        context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: list[ir.Value]
    ) -> ir.Value:
        kind = ir.VectorType(ir.IntType(8), 64)
        found = builder.load(builder.inttoptr(arguments[0], kind.as_pointer()), align=1)
        return builder.bitcast(builder.icmp_signed("<", found, ir.Constant(kind, None)), ir.IntType(64))

    return types.uint64(types.intp), generate


def _ones_code(typing_context: object, value: types.Type) -> tuple[Signature, Callable[..., Any]]:
    """How many bits of a byte are set."""

    def generate(
        context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: list[ir.Value]
    ) -> ir.Value:
        return builder.zext(builder.ctpop(arguments[0]), ir.IntType(64))

    return types.int64(types.uint8), generate


fill: Any = intrinsic(_fill_code)
equal8: Any = intrinsic(_equal8_code)
high64: Any = intrinsic(_high64_code)
ones: Any = intrinsic(_ones_code)
lowest_bit: Any = intrinsic(_lowest_bit_code)
leading_zeros: Any = intrinsic(_leading_zeros_code)
copy64: Any = intrinsic(_copy64_code)
_swap16, _swap32 = _swap(types.uint16), _swap(types.uint32)
load_u8 = _load(types.uint8, 8)
load_u16 = _load(types.uint16, 16)
load_u32 = _load(types.uint32, 32)
load_u64 = _load(types.uint64, 64)
load_i16 = _load(types.int16, 16)
load_i32 = _load(types.int32, 32)
load_i64 = _load(types.int64, 64)
store_u8 = _store(types.uint8, 8)
store_u16 = _store(types.uint16, 16)
store_u32 = _store(types.uint32, 32)
store_i32 = _store(types.int32, 32)
store_u64 = _store(types.uint64, 64)
store_i64 = _store(types.int64, 64)


@inner("uint64(intp)")
def load_u24(address):  # type: ignore[no-untyped-def]
    """Three bytes, unsigned."""
    return types.uint64(load_u16(address)) | (types.uint64(load_u8(address + 2)) << types.uint64(16))


@inner("uint64(intp)")
def load_u48(address):  # type: ignore[no-untyped-def]
    """Six bytes, unsigned: a table id."""
    return types.uint64(load_u32(address)) | (types.uint64(load_u16(address + 4)) << types.uint64(32))


@inner("uint64(intp, intp)")
def load_be(address, size):  # type: ignore[no-untyped-def]
    """`size` bytes (0-8), most significant first."""
    value = types.uint64(0)
    for i in range(size):
        value = (value << types.uint64(8)) | types.uint64(load_u8(address + i))
    return value


@inner("uint64(intp)")
def load_be16(address):  # type: ignore[no-untyped-def]
    """Two bytes, most significant first."""
    return types.uint64(_swap16(load_u16(address)))


@inner("uint64(intp)")
def load_be24(address):  # type: ignore[no-untyped-def]
    """Three bytes, most significant first."""
    return (load_be16(address) << types.uint64(8)) | types.uint64(load_u8(address + 2))


@inner("uint64(intp)")
def load_be32(address):  # type: ignore[no-untyped-def]
    """Four bytes, most significant first."""
    return types.uint64(_swap32(load_u32(address)))


@inner("uint64(intp)")
def load_be40(address):  # type: ignore[no-untyped-def]
    """Five bytes, most significant first."""
    return (load_be32(address) << types.uint64(8)) | types.uint64(load_u8(address + 4))


@inner("void(intp, intp, intp)")
def copy(target, source, size):  # type: ignore[no-untyped-def]
    """Copy `size` bytes between places that do not overlap; touches no byte outside them."""
    if size >= 8:
        last = size - 8
        for i in range(0, last, 8):
            store_u64(target + i, load_u64(source + i))
        store_u64(target + last, load_u64(source + last))
    elif size >= 4:
        store_u32(target, load_u32(source))
        store_u32(target + size - 4, load_u32(source + size - 4))
    else:
        for i in range(size):
            store_u8(target + i, load_u8(source + i))


@inner("boolean(intp, intp, intp)")
def same(left, right, size):  # type: ignore[no-untyped-def]
    """True when `size` bytes are equal."""
    if size >= 8:
        last = size - 8
        for i in range(0, last, 8):
            if load_u64(left + i) != load_u64(right + i):
                return False
        return load_u64(left + last) == load_u64(right + last)
    for i in range(size):  # noqa: SIM110 - a kernel has no generators
        if load_u8(left + i) != load_u8(right + i):
            return False
    return True


def address(array: npt.NDArray[Any]) -> int:
    """Of the first item of an array, which must lie in one piece; Arrow tells it in a sixth of the time of NumPy."""
    return int(pa.py_buffer(array).address)


def addresses(*arrays: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The same of several, for a kernel that takes them in one."""
    return np.array([address(array) for array in arrays], np.int64)
