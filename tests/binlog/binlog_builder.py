"""Made-up dumps: events put together byte by byte, for what no server does on demand."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import zstandard

from binlogsync.binlog.reader import ReaderOptions
from binlogsync.position import BinlogPosition, Checkpoint, GtidSet
from tests.binlog.dump import DecodedDump, decode

QUERY, ROTATE, FORMAT, XID, TABLE_MAP, ROWS, GTID = 2, 4, 15, 16, 19, 30, 33


def event_of(kind: int, body: bytes, end: int, *, flags: int = 0, timestamp: int = 1_700_000_000) -> bytes:
    """An event with its header and checksum."""
    size = 19 + len(body) + 4
    header = timestamp.to_bytes(4, "little") + bytes([kind]) + (1).to_bytes(4, "little") + size.to_bytes(4, "little")
    event = header + (end & 0xFFFFFFFF).to_bytes(4, "little") + flags.to_bytes(2, "little") + body
    return event + zlib.crc32(event).to_bytes(4, "little")


def bare_event(kind: int, body: bytes) -> bytes:
    """An event as inside a TRANSACTION_PAYLOAD: without checksum and position."""
    return bytes(4) + bytes([kind]) + bytes(4) + (19 + len(body)).to_bytes(4, "little") + bytes(6) + body


def table_body(table_id: int = 7, name: str = "t") -> bytes:
    """Body of a TABLE_MAP: one nullable LONGBLOB column named b."""
    head = table_id.to_bytes(6, "little") + b"\1\0\1d\0" + bytes([len(name)]) + name.encode() + b"\0"
    return head + b"\x01\xfc\x01\x04\x01" + b"\x04\x02\x01b" + b"\x02\x01\x3f"


def rows_body(values: Iterable[bytes], table_id: int = 7) -> bytes:
    """Body of a WRITE_ROWS for such a table."""
    head = table_id.to_bytes(6, "little") + b"\1\0\2\0\1\xff"
    return head + b"".join(b"\0" + len(value).to_bytes(4, "little") + value for value in values)


def payload(data: bytes, *, algorithm: int = 0, size: int | None = None, cut: int = 0, flip: int = 0) -> bytes:
    """Body of a TRANSACTION_PAYLOAD; `size` is its declared decompressed size, `cut` bytes are removed at the end, and
    a bit of byte `flip` is inverted.
    """
    packed = bytearray(zstandard.compress(data) if algorithm == 0 else data)
    packed = packed[: len(packed) - cut]
    if flip:
        packed[flip] ^= 1
    fields = ((2, algorithm), (3, len(data) if size is None else size), (1, len(packed)))
    return b"".join(bytes([field, 9, 254]) + value.to_bytes(8, "little") for field, value in fields) + b"\0" + packed


def rotate(file: str, pos: int) -> bytes:
    """The packet payload of the artificial ROTATE to a position, with which each dump begins."""
    body = pos.to_bytes(8, "little") + file.encode()
    return b"\0" + event_of(ROTATE, body, 0, flags=0x20)


# Sizes of the post-headers by event type, from 1, as in the format description of these server versions.
_HEADS_57 = bytes.fromhex("380d0008001200040404041200005f00041a08000000080808020000000a0a0a2a2a001234")
_HEADS = {"5.7": _HEADS_57 + b"\0", "8.0": _HEADS_57 + b"\0\x0a\x28\0", "8.4": _HEADS_57 + b"\0\x0a\x28\0\0"}
_HEADS["9.7"] = _HEADS["8.4"]


def description(version: str = "9.7.0", *, heads: bytes | None = None, header: int = 19, binlog: int = 4) -> bytes:
    """Body of a format description with checksums."""
    heads = _HEADS[version[:3]] if heads is None else heads
    return binlog.to_bytes(2, "little") + version.encode().ljust(50, b"\0") + bytes(4) + bytes([header]) + heads + b"\1"


class BinlogBuilder:
    """Builds the events of a MySQL binlog."""

    def __init__(self, pos: int = 4) -> None:
        self.pos = pos
        self.payloads = [rotate("binlog.000001", pos)]
        self.payloads.append(b"\0" + event_of(FORMAT, description(), 0))

    def add(self, kind: int, body: bytes) -> BinlogBuilder:
        self.pos += 19 + len(body) + 4
        self.payloads.append(b"\0" + event_of(kind, body, self.pos))
        return self

    def gtid(self, number: int) -> BinlogBuilder:
        return self.add(GTID, b"\0" + bytes(16) + number.to_bytes(8, "little") + b"\0" * 17)

    def begin(self, number: int) -> BinlogBuilder:
        return self.gtid(number).query("BEGIN")

    def query(self, sql: str, database: str = "d") -> BinlogBuilder:
        return self.add(QUERY, bytes(8) + bytes([len(database)]) + bytes(4) + database.encode() + b"\0" + sql.encode())

    def table(self, table_id: int = 7, name: str = "t") -> BinlogBuilder:
        return self.add(TABLE_MAP, table_body(table_id, name))

    def row(self, value: bytes, table_id: int = 7) -> BinlogBuilder:
        return self.add(ROWS, rows_body([value], table_id))

    def commit(self) -> BinlogBuilder:
        return self.add(XID, bytes(8))

    def raw(self) -> bytes:
        """The packets of the dump, with larger events split at 16 MiB, and the EOF packet."""
        parts = []
        for payload in (*self.payloads, b"\xfe\0\0\2\0"):
            rest = payload
            while True:
                piece, rest = rest[:0xFFFFFF], rest[0xFFFFFF:]
                parts.append(len(piece).to_bytes(3, "little") + b"\0" + piece)
                if len(piece) < 0xFFFFFF:
                    break
        return b"".join(parts)

    def decoded(self, cuts: Iterable[int] = (), pos: int = 4) -> DecodedDump:
        start = Checkpoint(BinlogPosition("binlog.000001", pos), "server", GtidSet())
        return decode(self.raw(), ReaderOptions("server", 1), start, cuts)
