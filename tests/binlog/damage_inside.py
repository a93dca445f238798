"""Damage inside compressed data: decompressed, damaged and compressed again, so that the decoder reads it."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable

import numpy as np
import zstandard

from binlogsync.binlog.bytes import ByteReader
from binlogsync.binlog.mariadb_compression import decompress_record
from binlogsync.binlog.transaction_payload import parse_payload
from tests.binlog.binlog_builder import payload

PAYLOAD = 40
_HEADER = 19


def _mutated(data: bytes, chance: random.Random) -> bytes:
    """The data with wrong bits, bytes or lengths."""
    damaged = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5))):
        if not damaged:
            break
        at = chance.randrange(len(damaged))
        kind = chance.randrange(4)
        if kind == 0:
            damaged[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            damaged[at] = chance.choice((0, 1, 0x7F, 0xFC, 0xFE, 0xFF))
        elif kind == 2:
            del damaged[at : at + chance.choice((1, 2, 30))]
        else:
            damaged[at:at] = chance.randbytes(chance.choice((1, 4, 19)))
    return bytes(damaged)


def _bare_events(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at + _HEADER <= len(data):
        size = int.from_bytes(data[at + 9 : at + 13], "little")
        found.append(data[at : at + size])
        at += size
    return found


def _mutated_event(data: bytes, chance: random.Random) -> bytes:
    """Damage one of the events and adjust its length, or change their order."""
    found = _bare_events(data)
    i = chance.randrange(len(found))
    if chance.random() < 0.15:
        event = found.pop(i)
        found.insert(chance.randrange(len(found) + 1), event)
    else:
        body = _mutated(found[i][_HEADER:], chance)
        size = (_HEADER + len(body)).to_bytes(4, "little")
        found[i] = found[i][:9] + size + found[i][13:_HEADER] + body
    return b"".join(found)


def _payload(event: bytes, chance: random.Random) -> bytes:
    held = parse_payload(np.frombuffer(event[_HEADER:], np.uint8))
    data = zstandard.ZstdDecompressor().decompress(held.data.tobytes(), max_output_size=held.size)
    data = chance.choice((_mutated, _mutated_event, _mutated_event))(data, chance)
    return event[:_HEADER] + payload(data, algorithm=chance.choice((0, 255)))


def _rows(event: bytes, chance: random.Random) -> bytes:
    """MariaDB's compressed rows, of version 1."""
    reader = ByteReader(event)
    reader.string(_HEADER + 8)
    columns = reader.packed()
    reader.string((columns + 7) // 8 * (2 if event[4] == 167 else 1))
    begin = len(event) - reader.left
    data = _mutated(decompress_record(event[begin:]), chance)
    return event[:begin] + b"\x84" + len(data).to_bytes(4, "big") + zlib.compress(data)


_FOLDED: dict[int, Callable[[bytes, random.Random], bytes]] = {PAYLOAD: _payload, 166: _rows, 167: _rows, 168: _rows}


def inside(payloads: list[bytes], chance: random.Random) -> list[bytes]:
    """The packets of a dump without checksums, with one packet of compressed data damaged inside."""
    chosen = [i for i, packet in enumerate(payloads) if len(packet) > 5 and packet[5] in _FOLDED]
    i = chance.choice(chosen)
    event = _FOLDED[payloads[i][5]](payloads[i][1:], chance)
    event = event[:9] + len(event).to_bytes(4, "little") + event[13:]
    return [*payloads[:i], b"\0" + event, *payloads[i + 1 :]]
