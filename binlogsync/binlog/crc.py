"""CRC-32 as zlib computes it, eight bytes at a time, callable from a kernel. MySQL ends each event with it.

Source: mysys/checksum.cc and libs/mysql/binlog/event/binlog_event.h (BINLOG_CHECKSUM_ALG_CRC32).
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from binlogsync.binlog.memory import KERNEL, load_u8, load_u64

_POLYNOMIAL = 0xEDB88320


def _tables() -> np.ndarray:
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


@njit("uint32(intp, intp, uint32[:,::1])", **KERNEL)
def crc32(address, size, tables):  # type: ignore[no-untyped-def]
    """CRC-32 of `size` bytes at `address`; `tables` is TABLES."""
    crc = types.uint64(0xFFFFFFFF)
    mask = types.uint64(0xFF)
    whole = size & ~7
    for i in range(0, whole, 8):
        word = load_u64(address + i) ^ crc
        crc = types.uint64(
            tables[7, word & mask]
            ^ tables[6, (word >> types.uint64(8)) & mask]
            ^ tables[5, (word >> types.uint64(16)) & mask]
            ^ tables[4, (word >> types.uint64(24)) & mask]
            ^ tables[3, (word >> types.uint64(32)) & mask]
            ^ tables[2, (word >> types.uint64(40)) & mask]
            ^ tables[1, (word >> types.uint64(48)) & mask]
            ^ tables[0, word >> types.uint64(56)]
        )
    for i in range(whole, size):
        crc = (crc >> types.uint64(8)) ^ types.uint64(tables[0, (crc ^ types.uint64(load_u8(address + i))) & mask])
    return types.uint32(crc ^ types.uint64(0xFFFFFFFF))
