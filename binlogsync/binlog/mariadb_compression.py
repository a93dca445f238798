"""Decompresses what MariaDB compresses with log_bin_compress: a statement, or the rows of a row event.

Source: "Compressed Record" and binlog_buf_uncompress in MariaDB's sql/log_event.cc.
"""

from __future__ import annotations

import zlib

_COMPRESSED = 0x80
_ZLIB = 0
_LIMIT = 1 << 31  # twice the maximum of max_allowed_packet


def decompress_record(data: bytes) -> bytes:
    """Decompress a record. Raises ValueError when its header or its compressed bytes are invalid."""
    if not data or not data[0] & _COMPRESSED:
        raise ValueError("the compressed bytes have no header")
    if data[0] >> 4 & 7 != _ZLIB:
        raise ValueError(f"compression {data[0] >> 4 & 7} is not known; run: SET GLOBAL log_bin_compress = OFF")
    begin = 1 + (data[0] & 0xF)
    size = int.from_bytes(data[1:begin], "big")
    if not 1 < begin <= 5 or len(data) < begin or size > _LIMIT:
        raise ValueError("the header of the compressed bytes is damaged")
    unzipper = zlib.decompressobj()
    try:
        plain = unzipper.decompress(data[begin:], size + 1)
    except zlib.error as error:
        raise ValueError(f"the bytes cannot be decompressed: {error}") from error
    if len(plain) != size or not unzipper.eof:
        raise ValueError(f"the compressed bytes do not decompress to {size} bytes")
    return plain
