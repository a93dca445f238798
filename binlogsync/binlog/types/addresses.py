"""MariaDB's UUID, INET4 and INET6: 16 or 4 bytes, to the text that SELECT prints.

Sources: plugin/type_uuid/sql_type_uuid.h, plugin/type_inet/sql_type_inet.cc of MariaDB.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

ADDRESS_BYTES: Mapping[str, int] = {"uuid": 16, "inet4": 4, "inet6": 16}
_WORDS = 8


def uuid_text(data: bytes) -> str:
    """8-4-4-4-12 hexadecimal digits."""
    digits = data.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def inet4_text(data: bytes) -> str:
    """Four decimal numbers."""
    return ".".join(map(str, data))


def inet6_text(data: bytes) -> str:
    """Words in hexadecimal, with the first of the longest runs of zeros omitted; an embedded IPv4 address in decimal.

    Unlike RFC 5952 and Python's ipaddress, MariaDB also omits a run of a single zero.
    """
    words = [int.from_bytes(data[i : i + 2], "big") for i in range(0, 16, 2)]
    start, length = _longest_gap(words)
    if length == 0:
        return ":".join(f"{word:x}" for word in words)
    if start == 0 and (length == 6 or (length == 5 and words[5] == 0xFFFF)):
        return f"::{'' if length == 6 else 'ffff:'}{inet4_text(data[12:])}"
    head, tail = words[:start], words[start + length :]
    return ":".join(f"{word:x}" for word in head) + "::" + ":".join(f"{word:x}" for word in tail)


def _longest_gap(words: list[int]) -> tuple[int, int]:
    """(first word, count) of the longest run of zeros, the first of equals; (0, 0) without one."""
    best = (0, 0)
    at = 0
    while at < _WORDS:
        end = at
        while end < _WORDS and words[end] == 0:
            end += 1
        if end - at > best[1]:
            best = (at, end - at)
        at = max(end, at + 1)
    return best


ADDRESS_TEXTS: Mapping[str, Callable[[bytes], str]] = {"uuid": uuid_text, "inet4": inet4_text, "inet6": inet6_text}
