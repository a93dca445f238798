"""CRC-32 as zlib computes it, callable from a kernel. MySQL ends each event with it.

Where the processor multiplies without carry, blocks of 64 bytes are folded into 16, as "Fast CRC Computation for
Generic Polynomials Using PCLMULQDQ Instruction" (Gopal and others, Intel, 2009) shows, with that paper's constants;
the rest, and all of it elsewhere, goes through tables, eight bytes at a time.

Source: mysys/checksum.cc and libs/mysql/binlog/event/binlog_event.h (BINLOG_CHECKSUM_ALG_CRC32).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.core.base import BaseContext
from numba.core.typing.templates import Signature
from numba.extending import intrinsic

from binlogsync.binlog.compiling import inner
from binlogsync.binlog.memory import load_u8, load_u32, load_u64

_POLYNOMIAL = 0xEDB88320
_PAIR = types.UniTuple(types.uint64, 2)

# Multipliers that move 16 bytes ahead by 64 and by 16 bytes, low and high half; then those of the last reduction.
_BY_64 = (0x0154442BD4, 0x01C6E41596)
_BY_16 = (0x01751997D0, 0x00CCAA009E)
_TO_64 = 0x0163CD6124
_BARRETT = (0x01DB710641, 0x01F7011641)


def _tables() -> npt.NDArray[np.uint32]:
    tables = np.zeros((8, 256), np.uint32)
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        tables[0, byte] = value
    for k in range(1, 8):
        previous = tables[k - 1]
        tables[k] = (previous >> 8) ^ tables[0, previous & 0xFF]
    return tables


TABLES = _tables()


def _multiply_code(typing_context: object, left: types.Type, right: types.Type) -> tuple[Signature, Any]:
    """Carry-less product of two 64-bit numbers, as (low, high)."""

    def generate(
        context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: list[ir.Value]
    ) -> ir.Value:
        vector = ir.VectorType(ir.IntType(64), 2)
        first, second = ir.IntType(32)(0), ir.IntType(32)(1)
        operands = [builder.insert_element(ir.Constant(vector, ir.Undefined), value, first) for value in arguments]
        kind = ir.FunctionType(vector, [vector, vector, ir.IntType(8)])
        instruction = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.pclmulqdq")
        product = builder.call(instruction, [*operands, ir.IntType(8)(0)])
        halves = [builder.extract_element(product, place) for place in (first, second)]
        return context.make_tuple(builder, signature.return_type, halves)

    return _PAIR(types.uint64, types.uint64), generate


def _fold_code(
    typing_context: object,
    low: types.Type,
    high: types.Type,
    by_low: types.Type,
    by_high: types.Type,
    address: types.Type,
) -> tuple[Signature, Any]:
    """Move a 128-bit remainder ahead, and add the 16 bytes at `address`; as (low, high)."""

    def generate(
        context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: list[ir.Value]
    ) -> ir.Value:
        vector = ir.VectorType(ir.IntType(64), 2)
        first, second = ir.IntType(32)(0), ir.IntType(32)(1)

        def pair(a: ir.Value, b: ir.Value) -> ir.Value:
            half = builder.insert_element(ir.Constant(vector, ir.Undefined), a, first)
            return builder.insert_element(half, b, second)

        kind = ir.FunctionType(vector, [vector, vector, ir.IntType(8)])
        instruction = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.pclmulqdq")
        remainder, factors = pair(arguments[0], arguments[1]), pair(arguments[2], arguments[3])
        lows = builder.call(instruction, [remainder, factors, ir.IntType(8)(0x00)])
        highs = builder.call(instruction, [remainder, factors, ir.IntType(8)(0x11)])
        data = builder.load(builder.inttoptr(arguments[4], vector.as_pointer()), align=1)
        folded = builder.xor(builder.xor(lows, highs), data)
        halves = [builder.extract_element(folded, place) for place in (first, second)]
        return context.make_tuple(builder, signature.return_type, halves)

    u64 = types.uint64
    return _PAIR(u64, u64, u64, u64, types.intp), generate


_multiply: Any = intrinsic(_multiply_code)
_fold: Any = intrinsic(_fold_code)


@inner("uint32(intp, int64, uint64)")
def _entry(tables, number, byte):  # type: ignore[no-untyped-def]
    """An entry of one of the eight tables."""
    return load_u32(tables + 1024 * number + 4 * types.intp(byte))


@inner("uint64(uint64, intp, intp, intp)")
def _by_table(crc, address, size, tables):  # type: ignore[no-untyped-def]
    """Go on from an inverted CRC over `size` bytes."""
    mask = types.uint64(0xFF)
    whole = size & ~7
    for i in range(0, whole, 8):
        word = load_u64(address + i) ^ crc
        crc = types.uint64(
            _entry(tables, 7, word & mask)
            ^ _entry(tables, 6, (word >> types.uint64(8)) & mask)
            ^ _entry(tables, 5, (word >> types.uint64(16)) & mask)
            ^ _entry(tables, 4, (word >> types.uint64(24)) & mask)
            ^ _entry(tables, 3, (word >> types.uint64(32)) & mask)
            ^ _entry(tables, 2, (word >> types.uint64(40)) & mask)
            ^ _entry(tables, 1, (word >> types.uint64(48)) & mask)
            ^ _entry(tables, 0, word >> types.uint64(56))
        )
    for i in range(whole, size):
        byte = (crc ^ types.uint64(load_u8(address + i))) & mask
        crc = (crc >> types.uint64(8)) ^ types.uint64(_entry(tables, 0, byte))
    return crc


def _without_instruction(crc, address, size):  # type: ignore[no-untyped-def]
    """No byte is folded."""
    return crc, 0


@inner(_PAIR(types.uint64, types.uint64, types.uint64, types.uint64))
def _onto(a, b, x, y):  # type: ignore[no-untyped-def]
    """Move a 128-bit remainder ahead by 16 bytes, and add 16 that are loaded already."""
    p, q = _multiply(a, types.uint64(_BY_16[0]))
    r, s = _multiply(b, types.uint64(_BY_16[1]))
    return p ^ r ^ x, q ^ s ^ y


def _with_instruction(crc, address, size):  # type: ignore[no-untyped-def]
    """Fold the whole blocks of 16 bytes; returns (inverted CRC so far, bytes done). `size` is 64 or more."""
    a, b = load_u64(address) ^ crc, load_u64(address + 8)
    c, d = load_u64(address + 16), load_u64(address + 24)
    e, f = load_u64(address + 32), load_u64(address + 40)
    g, h = load_u64(address + 48), load_u64(address + 56)
    at = 64
    low, high = types.uint64(_BY_64[0]), types.uint64(_BY_64[1])
    while at + 64 <= size:
        a, b = _fold(a, b, low, high, address + at)
        c, d = _fold(c, d, low, high, address + at + 16)
        e, f = _fold(e, f, low, high, address + at + 32)
        g, h = _fold(g, h, low, high, address + at + 48)
        at += 64
    low, high = types.uint64(_BY_16[0]), types.uint64(_BY_16[1])
    a, b = _onto(a, b, c, d)
    a, b = _onto(a, b, e, f)
    a, b = _onto(a, b, g, h)
    while at + 16 <= size:
        a, b = _fold(a, b, low, high, address + at)
        at += 16
    word = types.uint64(0xFFFFFFFF)
    p, q = _multiply(a, high)  # 128 bits to 96
    a, b = p ^ b, q
    p, q = _multiply(a & word, types.uint64(_TO_64))  # to 64
    a, b = p ^ ((a >> types.uint64(32)) | (b << types.uint64(32))), q ^ (b >> types.uint64(32))
    p, q = _multiply(a & word, types.uint64(_BARRETT[1]))  # to 32
    p, q = _multiply(p & word, types.uint64(_BARRETT[0]))
    return (a ^ p) >> types.uint64(32), at


HAS_INSTRUCTION = bool(binding.get_host_cpu_features().get("pclmul"))
_folded = inner("Tuple((uint64, int64))(uint64, intp, intp)")(
    _with_instruction if HAS_INSTRUCTION else _without_instruction
)


@inner("uint32(intp, intp, intp)")
def crc32(address, size, tables):  # type: ignore[no-untyped-def]
    """CRC-32 of `size` bytes at `address`; `tables` is the address of TABLES."""
    crc = types.uint64(0xFFFFFFFF)
    done = types.int64(0)
    if size >= 64:
        crc, done = _folded(crc, address, size)
    return types.uint32(_by_table(crc, address + done, size - done, tables) ^ types.uint64(0xFFFFFFFF))
