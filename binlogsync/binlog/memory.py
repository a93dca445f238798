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

from binlogsync.binlog.compiling import inner
from binlogsync.binlog.instructions import call_llvm, instruction
from binlogsync.binlog.kernel_types import boolean, int16, int32, int64, intp, uint8, uint16, uint32, uint64, void

_I8, _I64 = ir.IntType(8), ir.IntType(64)
Load = Callable[[int], int]
Store = Callable[[int, int], None]


def _load(kind: Any, bits: int) -> Load:
    def emit(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
        return builder.load(builder.inttoptr(address, ir.IntType(bits).as_pointer()), align=1)

    load: Load = instruction(kind, intp)(emit)
    return load


def _store(kind: Any, bits: int) -> Store:
    def emit(builder: ir.IRBuilder, address: ir.Value, value: ir.Value) -> None:
        builder.store(value, builder.inttoptr(address, ir.IntType(bits).as_pointer()), align=1)

    store: Store = instruction(void, intp, kind)(emit)
    return store


def _swap(kind: Any) -> Load:
    def emit(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
        return builder.bswap(value)

    swap: Load = instruction(kind, kind)(emit)
    return swap


def _emit_copy64(builder: ir.IRBuilder, target: ir.Value, source: ir.Value) -> None:
    """Copy 64 bytes at once; the caller may need only some of them."""
    pointer = ir.VectorType(_I8, 64).as_pointer()
    value = builder.load(builder.inttoptr(source, pointer), align=1)
    builder.store(value, builder.inttoptr(target, pointer), align=1)


def _emit_lowest_bit(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """The number of the lowest bit that is set, of a number that is not 0."""
    return builder.cttz(value, ir.IntType(1)(1))


def _emit_leading_zeros(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """The number of zero bits above the highest bit that is set, of a number that is not 0."""
    return builder.ctlz(value, ir.IntType(1)(1))


def _emit_fill(builder: ir.IRBuilder, target: ir.Value, size: ir.Value, byte: ir.Value) -> None:
    """Fill `size` bytes with `byte`."""
    kind = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I8, _I64, ir.IntType(1)])
    pointer = builder.inttoptr(target, _I8.as_pointer())
    call_llvm(builder, "llvm.memset.p0i8.i64", kind, [pointer, byte, size, ir.IntType(1)(0)])


def _emit_equal8(builder: ir.IRBuilder, address: ir.Value, value: ir.Value) -> ir.Value:
    """A bit for each of eight 64-bit numbers, 1 when it equals `value`; the first number has the lowest bit."""
    kind = ir.VectorType(_I64, 8)
    numbers = builder.load(builder.inttoptr(address, kind.as_pointer()), align=1)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.IntType(32)(0))
    places = ir.Constant(ir.VectorType(ir.IntType(32), 8), [ir.IntType(32)(0)] * 8)
    same = builder.icmp_signed("==", numbers, builder.shuffle_vector(first, first, places))
    return builder.bitcast(same, _I8)


def _emit_high64(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
    """A bit for each of 64 bytes, 1 when it is above 0x7f; the first byte has the lowest bit."""
    kind = ir.VectorType(_I8, 64)
    found = builder.load(builder.inttoptr(address, kind.as_pointer()), align=1)
    return builder.bitcast(builder.icmp_signed("<", found, ir.Constant(kind, None)), _I64)


def _emit_ones(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """The number of bits of a byte that are set."""
    return builder.zext(builder.ctpop(value), _I64)


fill: Callable[[int, int, int], None] = instruction(void, intp, int64, uint8)(_emit_fill)
equal8: Callable[[int, int], int] = instruction(uint8, intp, int64)(_emit_equal8)
high64: Load = instruction(uint64, intp)(_emit_high64)
ones: Load = instruction(int64, uint8)(_emit_ones)
lowest_bit: Load = instruction(uint64, uint64)(_emit_lowest_bit)
leading_zeros: Load = instruction(uint64, uint64)(_emit_leading_zeros)
copy64: Callable[[int, int], None] = instruction(void, intp, intp)(_emit_copy64)
_swap16, _swap32 = _swap(uint16), _swap(uint32)
load_u8 = _load(uint8, 8)
load_u16 = _load(uint16, 16)
load_u32 = _load(uint32, 32)
load_u64 = _load(uint64, 64)
load_i16 = _load(int16, 16)
load_i32 = _load(int32, 32)
load_i64 = _load(int64, 64)
store_u8 = _store(uint8, 8)
store_u16 = _store(uint16, 16)
store_u32 = _store(uint32, 32)
store_i32 = _store(int32, 32)
store_u64 = _store(uint64, 64)
store_i64 = _store(int64, 64)


@inner
def load_u24(address: intp) -> uint64:
    """Three bytes, unsigned."""
    return uint64(load_u16(address)) | (uint64(load_u8(address + 2)) << uint64(16))


@inner
def load_u48(address: intp) -> uint64:
    """Six bytes, unsigned: a table id."""
    return uint64(load_u32(address)) | (uint64(load_u16(address + 4)) << uint64(32))


@inner
def load_be(address: intp, size: intp) -> uint64:
    """`size` bytes (0-8), most significant first."""
    value = uint64(0)
    for i in range(size):
        value = (value << uint64(8)) | uint64(load_u8(address + i))
    return value


@inner
def load_be16(address: intp) -> uint64:
    """Two bytes, most significant first."""
    return uint64(_swap16(load_u16(address)))


@inner
def load_be24(address: intp) -> uint64:
    """Three bytes, most significant first."""
    return (load_be16(address) << uint64(8)) | uint64(load_u8(address + 2))


@inner
def load_be32(address: intp) -> uint64:
    """Four bytes, most significant first."""
    return uint64(_swap32(load_u32(address)))


@inner
def load_be40(address: intp) -> uint64:
    """Five bytes, most significant first."""
    return (load_be32(address) << uint64(8)) | uint64(load_u8(address + 4))


@inner
def copy(target: intp, source: intp, size: intp) -> None:
    """Copy `size` bytes between ranges that do not overlap; reads and writes no byte outside them."""
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


@inner
def same(left: intp, right: intp, size: intp) -> boolean:
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
    """The address of the first item of a contiguous array; Arrow returns it six times as fast as NumPy."""
    return int(pa.py_buffer(array).address)


def addresses(*arrays: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The addresses of several arrays, as an array, for a kernel that takes them as one argument."""
    return np.array([address(array) for array in arrays], np.int64)
