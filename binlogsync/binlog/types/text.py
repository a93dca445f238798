"""CHAR, VARCHAR, TEXT, BINARY, VARBINARY, BLOB: a length, then bytes; to Arrow's strings and binaries.

UTF-8 is copied (and checked afterwards where a byte above 0x7f was seen), a single-byte character set goes through a
table of 256 UTF-8 sequences, BINARY(n) gets back the zero bytes that the binlog leaves out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit, types

from binlogsync.binlog.memory import KERNEL, copy, load_u8, load_u32, load_u64, store_u8, store_u32
from binlogsync.binlog.types.recoding import MULTI_BYTE, SINGLE_BYTE, characters_of, multi_byte_decoder

UTF8_CHARSETS = frozenset({"utf8mb4", "utf8mb3", "ascii"})


@njit("boolean(intp, intp)", **KERNEL)
def is_ascii(source, size):  # type: ignore[no-untyped-def]
    """True when no byte is above 0x7f."""
    seen = types.uint64(0)
    whole = size & ~7
    for i in range(0, whole, 8):
        seen |= load_u64(source + i)
    for i in range(whole, size):
        seen |= types.uint64(load_u8(source + i))
    return (seen & types.uint64(0x8080808080808080)) == 0


@njit("void(intp, intp, intp, intp)", **KERNEL)
def padded(target, source, size, width):  # type: ignore[no-untyped-def]
    """BINARY(width): the bytes, then zeros."""
    copy(target, source, size)
    for i in range(size, width):
        store_u8(target + i, types.uint8(0))


@njit("int64(intp, intp, intp, intp)", **KERNEL)
def through_table(target, source, size, table):  # type: ignore[no-untyped-def]
    """Recode through the 256 entries at `table`; returns bytes written: at most three a character, and it writes up to
    one behind them.
    """
    # All sets but swe7 hold ASCII, "@" at 0x40 among it.
    if load_u32(table + 4 * 0x40) == 0x01000040 and is_ascii(source, size):
        copy(target, source, size)
        return types.int64(size)
    at = target
    for i in range(size):
        entry = load_u32(table + 4 * types.intp(load_u8(source + i)))
        store_u32(at, entry)
        at += types.int64(entry >> types.uint32(24))
    return types.int64(at - target)


def recoding_table(characters: str) -> npt.NDArray[np.uint32]:
    """256 entries for 256 characters: UTF-8 bytes in the low three bytes, their count in the highest."""
    encoded = [character.encode() for character in characters]
    return np.array([int.from_bytes(item, "little") | len(item) << 24 for item in encoded], np.uint32)


RECODED_CHARSETS = tuple(sorted(SINGLE_BYTE))
RECODING_TABLES = np.array([recoding_table(characters_of(charset)) for charset in RECODED_CHARSETS])


def decode_text(data: bytes, charset: str) -> str:
    """A single string in one of MySQL's character sets; raises ValueError when the bytes are not of that set."""
    if charset in UTF8_CHARSETS or charset == "binary":
        return data.decode()
    if charset in SINGLE_BYTE:
        characters = characters_of(charset)
        return "".join(characters[byte] for byte in data)
    if charset in MULTI_BYTE:
        return multi_byte_decoder(charset)(data)
    raise ValueError(f"character set {charset} is not known")
