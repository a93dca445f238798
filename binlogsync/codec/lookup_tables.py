"""Lookup tables of the kernels, in one array: `PAIRS` and the others are offsets in it."""

from __future__ import annotations

import base64

import numpy as np
import numpy.typing as npt

PAIRS, POWERS, ESCAPES, HEXADECIMAL, BASE64, BASE64_VALUES = 0, 256, 512, 768, 1024, 1024 + 2 * 4096
"""100 pairs of digits; the powers of ten up to 64 bits; the JSON escape of each byte (0: none, 1: \\u00XX, else the
letter after the backslash); 16 hexadecimal digits; two base64 letters for each 12 bits; the 6 bits of each base64
letter, 64 for another byte."""

_LETTERS = {8: b"b", 9: b"t", 10: b"n", 12: b"f", 13: b"r", 34: b'"', 92: b"\\"}
_SIX_BITS = {base64.b64encode(bytes([bits << 2]))[0]: bits for bits in range(64)}


def _tables() -> npt.NDArray[np.uint8]:
    tables = np.zeros(BASE64_VALUES + 256, np.uint8)
    twelve_bits = b"".join(base64.b64encode((number << 12).to_bytes(3, "big"))[:2] for number in range(4096))
    escapes = [_LETTERS[byte][0] if byte in _LETTERS else int(byte < 32) for byte in range(256)]
    for offset, content in (
        (PAIRS, b"".join(b"%02d" % number for number in range(100))),
        (POWERS, np.array([10**n for n in range(20)], np.uint64).tobytes()),
        (ESCAPES, bytes(escapes)),
        (HEXADECIMAL, b"0123456789abcdef"),
        (BASE64, twelve_bits),
        (BASE64_VALUES, bytes(_SIX_BITS.get(byte, 64) for byte in range(256))),
    ):
        tables[offset : offset + len(content)] = np.frombuffer(content, np.uint8)
    tables.flags.writeable = False
    return tables


TABLES = _tables()
