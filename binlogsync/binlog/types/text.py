"""CHAR, VARCHAR, TEXT, BINARY, VARBINARY, BLOB: a length, then bytes; to Arrow's strings and binaries.

UTF-8 is copied (and checked afterwards where a byte above 0x7f was seen), a single-byte character set goes through a
table of 256 UTF-8 sequences, BINARY(n) gets back the zero bytes that the binlog leaves out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit, types

from binlogsync.binlog.memory import KERNEL, copy, load_u8, load_u32, load_u64, store_u8, store_u32

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
    """Recode; returns bytes written (at most three a character, and writes up to one behind them), or -1 at a byte
    that is no character.
    """
    if is_ascii(source, size):  # the same in every character set that has a table
        copy(target, source, size)
        return types.int64(size)
    at = target
    for i in range(size):
        entry = load_u32(table + 4 * types.intp(load_u8(source + i)))
        width = types.int64(entry >> types.uint32(24))
        if width == 0:
            return types.int64(-1)
        store_u32(at, entry)
        at += width
    return types.int64(at - target)


def recoding_table(characters: str) -> npt.NDArray[np.uint32]:
    """256 entries for 256 characters: UTF-8 bytes in the low three bytes, their count in the highest; U+FFFD means no
    character.
    """
    table = np.zeros(256, np.uint32)
    for code, character in enumerate(characters):
        if character != "\ufffd":
            encoded = character.encode()
            table[code] = int.from_bytes(encoded, "little") | len(encoded) << 24
    return table


def _latin1() -> str:
    """MySQL's latin1 is cp1252, with the five bytes that cp1252 leaves open as the control characters they are."""
    return "".join(bytes([code]).decode("cp1252", "replace").replace("\ufffd", chr(code)) for code in range(256))


_CHARACTERS = {"latin1": _latin1()}
RECODED_CHARSETS = tuple(_CHARACTERS)
RECODING_TABLES = np.array([recoding_table(characters) for characters in _CHARACTERS.values()])


def decode_text(data: bytes, charset: str) -> str:
    """A single string in one of MySQL's character sets; raises ValueError when the bytes are not of that set."""
    if charset in UTF8_CHARSETS or charset == "binary":
        return data.decode()
    if charset in _CHARACTERS:
        return "".join(_CHARACTERS[charset][byte] for byte in data)
    raise ValueError(f"character set {charset} is not supported")
