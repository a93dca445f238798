"""Reads and decodes the binlog of a test server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from binlogsync.binlog.reader import BinlogReader, DecodedRange, ReaderOptions
from binlogsync.change import RowChange
from binlogsync.errors import DecodeError
from binlogsync.flush import Flush
from binlogsync.mysql import TLS, BinlogDump, MySQLConfig, inspect_server, reader_options
from binlogsync.position import Checkpoint
from binlogsync.servers.database import DatabaseServer

Captures = Callable[[str, str], bool]


def config_of(server: DatabaseServer) -> MySQLConfig:
    """The configuration of the change data capture account, without TLS."""
    return MySQLConfig(
        host=server.host,
        port=server.port,
        user=server.cdc_user,
        password=server.cdc_password,
        source="tests",
        tls=TLS("disabled"),
    )


def end_of_log(server: DatabaseServer) -> Checkpoint:
    """The checkpoint after the last transaction, while no other session writes."""
    info = inspect_server(config_of(server))
    return Checkpoint(info.end(), info.server_uuid, info.executed)


def raw_dump(server: DatabaseServer, start: Checkpoint) -> bytes:
    """The packets of a dump from `start` to the end of the log, including the EOF packet."""
    taken = bytearray()
    view = memoryview(bytearray(1 << 20))
    with BinlogDump(config_of(server), start, blocking=False) as dump:
        while size := dump.readinto(view):
            taken += view[:size]
            if len(taken) >= 9 and taken[-9:-6] == b"\x05\x00\x00" and taken[-5] == 0xFE:
                break
    return bytes(taken)


@dataclass(slots=True)
class DecodedDump:
    """The decoded ranges of a dump, and the error that ended it."""

    reader: BinlogReader
    ranges: list[DecodedRange] = field(default_factory=list)
    error: DecodeError | None = None

    @property
    def changes(self) -> list[RowChange]:
        """All changes in the order of the log."""
        return changes_of(self.ranges)


def changes_of(ranges: Iterable[DecodedRange | Flush]) -> list[RowChange]:
    """All changes in the order of `seq`."""
    numbered: list[tuple[int, RowChange]] = []
    for decoded_range in ranges:
        for batch in (batch for batch in decoded_range.batches if batch.ddl is None):
            numbered += zip(batch.data.column("seq").to_pylist(), batch.changes(), strict=True)
    return [change for _, change in sorted(numbered, key=lambda pair: pair[0])]


def everything(database: str, table: str) -> bool:
    """A filter that captures all tables."""
    return True


def options_of(server: DatabaseServer, captures: Captures = everything) -> ReaderOptions:
    """The options for a reader of this server's binlog."""
    config = config_of(server)
    return reader_options(config, inspect_server(config), captures)


def decode(raw: bytes, options: ReaderOptions, start: Checkpoint, cuts: Iterable[int] = ()) -> DecodedDump:
    """Feed the bytes in pieces, split at the offsets `cuts`; a DecodeError is returned in the result, not raised."""
    done = DecodedDump(BinlogReader(options, start))
    try:
        for piece in _pieces(raw, cuts):
            done.ranges.extend(done.reader.feed(piece, 0, len(piece)))
            if done.reader.ended or done.reader.server_error is not None:
                break
    except DecodeError as error:
        done.error = error
    return done


def _pieces(raw: bytes, cuts: Iterable[int]) -> Iterator[np.ndarray]:
    """The pieces, copied, since a reader may overwrite its buffer."""
    at = 0
    for cut in (*cuts, len(raw)):
        yield np.frombuffer(bytearray(raw[at:cut]), np.uint8)
        at = cut


@dataclass(frozen=True, slots=True)
class DumpRecording:
    """The dump of a server's binlog from `start`."""

    raw: bytes
    start: Checkpoint
    options: ReaderOptions

    def decoded(self, cuts: Iterable[int] = ()) -> DecodedDump:
        """Decode the dump; a DecodeError is returned in the result."""
        return decode(self.raw, self.options, self.start, cuts)

    def changes(self) -> list[RowChange]:
        """All changes; raises a DecodeError."""
        done = self.decoded()
        if done.error is not None:
            raise done.error
        assert done.reader.ended
        return done.changes


def record(server: DatabaseServer, start: Checkpoint, captures: Captures = everything) -> DumpRecording:
    """Record what the server logged from `start` to now."""
    return DumpRecording(raw_dump(server, start), start, options_of(server, captures))
