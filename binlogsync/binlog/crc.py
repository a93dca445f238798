"""CRC-32 as in zlib, callable from a kernel. It is the checksum at the end of each event.

Where the processor multiplies without carry, blocks of 64 bytes are folded into 16, as "Fast CRC Computation for
Generic Polynomials Using PCLMULQDQ Instruction" (Gopal and others, Intel, 2009) describes, with that paper's
constants. The remaining bytes, and all bytes on other processors, are looked up in tables, eight at a time.

Source: mysys/checksum.cc and libs/mysql/binlog/event/binlog_event.h (BINLOG_CHECKSUM_ALG_CRC32).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from llvmlite import binding, ir
from numba import types

from binlogsync.binlog.compiling import inner
from binlogsync.binlog.instructions import call_llvm, instruction
from binlogsync.binlog.kernel_types import int64, intp, uint32, uint64
from binlogsync.binlog.memory import load_u8, load_u32, load_u64

_POLYNOMIAL = 0xEDB88320

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


_VECTOR = ir.VectorType(ir.IntType(64), 2)
_FIRST, _SECOND = ir.IntType(32)(0), ir.IntType(32)(1)
Pair = tuple[int, int]


def _emit_carryless(builder: ir.IRBuilder, left: ir.Value, right: ir.Value, halves: int) -> ir.Value:
    """Carry-less product of a half of each; bits 0 and 4 of `halves` choose the high ones."""
    kind = ir.FunctionType(_VECTOR, [_VECTOR, _VECTOR, ir.IntType(8)])
    return call_llvm(builder, "llvm.x86.pclmulqdq", kind, [left, right, ir.IntType(8)(halves)])


def _emit_vector(builder: ir.IRBuilder, low: ir.Value, high: ir.Value | None = None) -> ir.Value:
    vector = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), low, _FIRST)
    return vector if high is None else builder.insert_element(vector, high, _SECOND)


def _emit_multiply(builder: ir.IRBuilder, left: ir.Value, right: ir.Value) -> list[ir.Value]:
    """Carry-less product of two 64-bit numbers, as (low, high)."""
    product = _emit_carryless(builder, _emit_vector(builder, left), _emit_vector(builder, right), 0x00)
    return [builder.extract_element(product, half) for half in (_FIRST, _SECOND)]


def _emit_fold(builder: ir.IRBuilder, *values: ir.Value) -> list[ir.Value]:
    """Move a 128-bit remainder ahead, and add the 16 bytes at an address; as (low, high)."""
    low, high, by_low, by_high, address = values
    remainder, factors = _emit_vector(builder, low, high), _emit_vector(builder, by_low, by_high)
    lows = _emit_carryless(builder, remainder, factors, 0x00)
    highs = _emit_carryless(builder, remainder, factors, 0x11)
    data = builder.load(builder.inttoptr(address, _VECTOR.as_pointer()), align=1)
    folded = builder.xor(builder.xor(lows, highs), data)
    return [builder.extract_element(folded, half) for half in (_FIRST, _SECOND)]


_PAIR = types.UniTuple(types.uint64, 2)
_multiply: Callable[[int, int], Pair] = instruction(_PAIR, uint64, uint64)(_emit_multiply)
_fold: Callable[[int, int, int, int, int], Pair] = instruction(_PAIR, uint64, uint64, uint64, uint64, intp)(_emit_fold)


@inner
def _entry(tables: intp, number: int64, byte: uint64) -> uint32:
    """An entry of one of the eight tables."""
    return load_u32(tables + 1024 * number + 4 * intp(byte))


@inner
def _by_table(crc: uint64, address: intp, size: intp, tables: intp) -> uint64:
    """Continue an inverted CRC over `size` more bytes."""
    mask = uint64(0xFF)
    whole = size & ~7
    for i in range(0, whole, 8):
        word = load_u64(address + i) ^ crc
        crc = uint64(
            _entry(tables, 7, word & mask)
            ^ _entry(tables, 6, (word >> uint64(8)) & mask)
            ^ _entry(tables, 5, (word >> uint64(16)) & mask)
            ^ _entry(tables, 4, (word >> uint64(24)) & mask)
            ^ _entry(tables, 3, (word >> uint64(32)) & mask)
            ^ _entry(tables, 2, (word >> uint64(40)) & mask)
            ^ _entry(tables, 1, (word >> uint64(48)) & mask)
            ^ _entry(tables, 0, word >> uint64(56))
        )
    for i in range(whole, size):
        byte = (crc ^ uint64(load_u8(address + i))) & mask
        crc = (crc >> uint64(8)) ^ uint64(_entry(tables, 0, byte))
    return crc


def _without_instruction(crc: uint64, address: intp, size: intp) -> tuple[uint64, int64]:
    """No byte is folded."""
    return crc, 0


@inner
def _onto(a: uint64, b: uint64, x: uint64, y: uint64) -> tuple[uint64, uint64]:
    """Move a 128-bit remainder ahead by 16 bytes, and add 16 bytes that are already loaded."""
    p, q = _multiply(a, uint64(_BY_16[0]))
    r, s = _multiply(b, uint64(_BY_16[1]))
    return p ^ r ^ x, q ^ s ^ y


def _with_instruction(crc: uint64, address: intp, size: intp) -> tuple[uint64, int64]:
    """Fold all complete blocks of 16 bytes; returns (inverted CRC so far, bytes folded). `size` is at least 64."""
    a, b = load_u64(address) ^ crc, load_u64(address + 8)
    c, d = load_u64(address + 16), load_u64(address + 24)
    e, f = load_u64(address + 32), load_u64(address + 40)
    g, h = load_u64(address + 48), load_u64(address + 56)
    at = 64
    low, high = uint64(_BY_64[0]), uint64(_BY_64[1])
    while at + 64 <= size:
        a, b = _fold(a, b, low, high, address + at)
        c, d = _fold(c, d, low, high, address + at + 16)
        e, f = _fold(e, f, low, high, address + at + 32)
        g, h = _fold(g, h, low, high, address + at + 48)
        at += 64
    low, high = uint64(_BY_16[0]), uint64(_BY_16[1])
    a, b = _onto(a, b, c, d)
    a, b = _onto(a, b, e, f)
    a, b = _onto(a, b, g, h)
    while at + 16 <= size:
        a, b = _fold(a, b, low, high, address + at)
        at += 16
    word = uint64(0xFFFFFFFF)
    p, q = _multiply(a, high)  # 128 bits to 96
    a, b = p ^ b, q
    p, q = _multiply(a & word, uint64(_TO_64))  # to 64
    a, b = p ^ ((a >> uint64(32)) | (b << uint64(32))), q ^ (b >> uint64(32))
    p, q = _multiply(a & word, uint64(_BARRETT[1]))  # to 32
    p, q = _multiply(p & word, uint64(_BARRETT[0]))
    return (a ^ p) >> uint64(32), at


HAS_INSTRUCTION = bool(binding.get_host_cpu_features().get("pclmul"))
_folded = inner(_with_instruction if HAS_INSTRUCTION else _without_instruction)


@inner
def crc32(address: intp, size: intp, tables: intp) -> uint32:
    """CRC-32 of `size` bytes at `address`; `tables` is the address of TABLES."""
    crc = uint64(0xFFFFFFFF)
    done = int64(0)
    if size >= 64:
        crc, done = _folded(crc, address, size)
    return uint32(_by_table(crc, address + done, size - done, tables) ^ uint64(0xFFFFFFFF))
