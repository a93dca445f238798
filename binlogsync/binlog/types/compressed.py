"""MariaDB's COMPRESSED columns: a byte for the method, the length before compression, then the compressed bytes.

A value of 0 bytes is the empty string. Source: sql/field_comp.cc of MariaDB.
"""

from __future__ import annotations

import zlib

_PLAIN, _ZLIB = 0, 8
_NO_ZLIB_HEADER = 0x08
_LENGTH_BYTES = 0x07


def inflated(data: bytes) -> bytes:
    """Decompress a value; raises ValueError when the bytes are invalid."""
    if not data:
        return b""
    method = data[0] >> 4
    if method == _PLAIN:
        return data[1:]
    if method != _ZLIB:
        raise ValueError(f"a COMPRESSED value of method {method}, which is not zlib")
    size = data[0] & _LENGTH_BYTES
    length = int.from_bytes(data[1 : 1 + size], "big")
    inflater = zlib.decompressobj(-zlib.MAX_WBITS if data[0] & _NO_ZLIB_HEADER else zlib.MAX_WBITS)
    try:
        value = inflater.decompress(data[1 + size :], length + 1)
    except zlib.error as error:
        raise ValueError(f"a COMPRESSED value that cannot be inflated: {error}") from error
    if len(value) != length:
        raise ValueError(f"a COMPRESSED value of {length} bytes inflates to {len(value)}")
    if not inflater.eof or inflater.unused_data:
        raise ValueError("a COMPRESSED value that does not end where its compressed bytes do")
    return value
