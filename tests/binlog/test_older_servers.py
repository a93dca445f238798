"""A captured dump of MySQL 9.7, converted to the format of MySQL 5.7, 8.0 and 8.4, which cannot run here.

Differences: the format description, the fields of GTID events (5.7 has no commit time, tags exist since 8.3), the
metadata of a TABLE_MAP (5.7 has none, 8.0 less by default), and row events of version 1 (log_bin_use_v1_row_events).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from binlogsync.binlog import events
from binlogsync.binlog.bytes import ByteReader
from binlogsync.binlog.table_declaration import TableDeclaration
from binlogsync.position import GtidSet
from binlogsync.schema import TableSchema
from tests.binlog.binlog_builder import FORMAT, GTID, ROTATE, TABLE_MAP, description, event_of
from tests.binlog.captured import load
from tests.binlog.damage import dump_of, packets
from tests.binlog.dump import DecodedDump, DumpRecording

Body = tuple[int, bytes]
_UUID_AND_NUMBER = 25  # bytes of a GTID event, flags included
_GTID_57 = 42  # and the logical clock


def _without_metadata(body: bytes) -> bytes:
    """A TABLE_MAP of MySQL 5.7, which ends after the NULL bits."""
    reader = ByteReader(body)
    reader.string(8)
    for _ in range(2):
        reader.string(reader.integer(1) + 1)
    count = reader.packed()
    reader.string(count)
    reader.string(reader.packed())
    reader.string((count + 7) // 8)
    return body[: len(body) - reader.left]


def _without_tag(body: bytes) -> bytes:
    gtid = events.parse_tagged_gtid(body)
    uuid = bytes.fromhex(gtid.key[:36].replace("-", ""))
    number, clock = (1000 + gtid.number).to_bytes(8, "little"), b"\2" + bytes(16)
    return b"\0" + uuid + number + clock + (gtid.ts_us & (2**55 - 1)).to_bytes(7, "little")


def _as_80(kind: int, body: bytes) -> Body:
    return (GTID, _without_tag(body)) if kind == events.GTID_TAGGED else (kind, body)


def _as_57(kind: int, body: bytes) -> Body:
    kind, body = _as_80(kind, body)
    if kind == GTID:
        return kind, body[:_GTID_57]
    if kind == TABLE_MAP:
        return kind, _without_metadata(body)
    return kind, body


def _as_57_with_old_rows(kind: int, body: bytes) -> Body:
    if 30 <= kind <= 32:  # no extra bytes after the flags
        return kind - 7, body[:8] + body[8 + int.from_bytes(body[8:10], "little") :]
    return _as_57(kind, body)


def _rewritten(recording: DumpRecording, version: str, rewrite: Callable[[int, bytes], Body]) -> DumpRecording:
    """Convert every event to the format of that server, and adjust its position."""

    def payloads() -> Iterator[bytes]:
        at = 4
        for payload in packets(recording.raw):
            event = payload[1:]
            if payload[:1] != b"\0" or event[4] == ROTATE:
                at = int.from_bytes(event[19:27], "little") if payload[:1] == b"\0" else at
                yield payload
                continue
            kind, body = rewrite(event[4], event[19:-4])
            if kind == FORMAT:
                at = max(at, 4)
                kind, body = FORMAT, description(version)
            end = at + 19 + len(body) + 4
            logged = int.from_bytes(event[13:17], "little")
            flags, seconds = int.from_bytes(event[17:19], "little"), int.from_bytes(event[:4], "little")
            yield b"\0" + event_of(kind, body, end if logged else 0, flags=flags, timestamp=seconds)
            at = end if logged and not flags & 0x20 and kind not in (27, 41) else at

    return replace(recording, raw=dump_of(list(payloads())))


class _Declaring:
    """A server that returns the declaration before and after the ALTER TABLE of the dump."""

    def __init__(self, schemas: list[TableSchema]) -> None:
        self.calls = 0
        self._schemas = schemas

    def __call__(self, database: str, table: str) -> TableDeclaration | None:
        schema = self._schemas[min(self.calls, len(self._schemas) - 1)]
        self.calls += 1
        assert (database, table) == (schema.database, schema.table)
        return TableDeclaration(schema)


def _values(done: DecodedDump) -> list[tuple[object, ...]]:
    assert done.error is None, done.error
    return [(c.op, c.source.table, c.before, c.after, c.source.order) for c in done.changes]


@pytest.mark.parametrize(
    ("version", "rewrite"),
    [
        ("5.7.44-log", _as_57),
        ("5.7.44-log", _as_57_with_old_rows),
        ("8.0.40", _as_80),
        ("8.4.3", lambda kind, body: (kind, body)),
    ],
)
def test_the_same_changes_as_an_older_server_logs_them(version: str, rewrite: Callable[[int, bytes], Body]) -> None:
    recording = load("mysql").recording
    full = recording.decoded()
    batches = [batch for decoded_range in full.ranges for batch in decoded_range.batches if batch.ddl is None]
    declared = _Declaring(list(dict.fromkeys(batch.schema for batch in batches)))
    older = replace(recording, options=replace(recording.options, declared=declared))
    done = _rewritten(older, version, rewrite).decoded()
    assert _values(done) == _values(full)
    assert (declared.calls > 0) == version.startswith("5.7")
    pointers = [change.source.coordinates for change in done.changes]
    assert pointers == sorted(set(pointers))
    gtids = done.ranges[-1].checkpoint.gtids
    assert gtids is not None
    assert all(gtids.contains(GtidSet().with_gtid(c.source.gtid)) for c in done.changes if c.source.gtid)
