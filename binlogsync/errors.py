"""Every error that binlogsync raises on purpose.

    BinlogSyncError
    ├── ConfigError            an option or environment variable that cannot be right
    ├── SourceError            MySQL or MariaDB cannot be reached, or refuses what is needed
    │   ├── BehindError        another server lacks, so far, what was read already
    │   ├── PreflightError     the server is reachable, but not set up for change data capture
    │   └── PositionError      the asked position is purged, foreign or does not exist
    ├── DecodeError            bytes of the binlog that cannot be turned into exact values
    │   └── PreparedEarlierError   changes that were logged before the place where reading began
    ├── WireError              a message of the stream that is not what this program writes
    ├── SinkError              a sink cannot store what it was given
    │   └── FencedError        another writer has taken over this stream
    ├── StoreError             a position store cannot be read or written
    │   └── LeaseLostError     another tail holds the lease now
    ├── ConsumeError           a consumer cannot go on
    │   ├── ClientTakenError   another live consumer has this client id
    │   ├── ModelError         a model does not fit the table
    │   └── HandlerError       the user's handler raised
    └── EmbeddedServerError    a private server cannot be had or does not start

The message of each says what failed, where, and what to do next. Anything else that escapes is a bug. A message may
quote row values and names, so control characters in it are shown escaped wherever it is printed.
"""

from __future__ import annotations

from collections.abc import Mapping

from binlogsync.escaping import printable

_SHOWN = 200


def excerpt(value: object) -> str:
    """The value for an error message: as `repr` shows it, cut where it is long."""
    text = repr(value[: _SHOWN + 1] if isinstance(value, str | bytes) else value)
    return text if len(text) <= _SHOWN + 3 else f"{text[:_SHOWN]}..."


class BinlogSyncError(Exception):
    """Root of the tree; never raised itself."""

    def __str__(self) -> str:
        """The message, which no terminal takes for instructions."""
        return printable(super().__str__())


class ConfigError(BinlogSyncError):
    """An option, environment variable or combination of them cannot be right."""


class SourceError(BinlogSyncError):
    """MySQL or MariaDB cannot be reached, or refuses what is needed; a retry may help."""


class PreflightError(SourceError):
    """The server is not set up for change data capture; the message holds the SQL that mends it."""


class ReplicaBehindError(SourceError):
    """Another server than the one read before lacks, so far, transactions that are stored; a retry may help."""


class PositionError(SourceError):
    """The position asked for is purged, belongs to another server, or does not exist. A retry cannot help."""


class DecodeError(BinlogSyncError):
    """Bytes of the binlog that cannot be turned into exact values.

    Attributes:
        file: binlog file name, "" when not known yet.
        pos: offset of the event in the file.
        table: "database.table", or None when the event belongs to no table.
        column: column name, or None.
    """

    def __init__(
        self, reason: str, *, file: str = "", pos: int = 0, table: str | None = None, column: str | None = None
    ) -> None:
        self.reason = reason
        self.file = file
        self.pos = pos
        self.table = table
        self.column = column
        where = ".".join(part for part in (table, column) if part)
        place = f" at {file}:{pos}; look at it with: mysqlbinlog -vv --start-position={pos} {file}" if file else ""
        super().__init__(f"{where + ': ' if where else ''}{reason}{place}")


class MissingPrepareError(DecodeError):
    """An XA COMMIT of what was prepared before the place where reading began; reading from there on has it.

    Attributes:
        xid: names the transaction, as servers log it.
    """

    def __init__(self, reason: str, *, xid: str, file: str, pos: int) -> None:
        self.xid = xid
        super().__init__(f"XA COMMIT {xid} {reason}", file=file, pos=pos)

    def is_same(self, other: MissingPrepareError | None) -> bool:
        """True when it is the same XA COMMIT."""
        return other is not None and (self.xid, self.file, self.pos) == (other.xid, other.file, other.pos)


class WireError(BinlogSyncError):
    """A message of the stream that cannot be read back: its header, schema or body is not what the tail writes."""


class SinkError(BinlogSyncError):
    """A sink cannot store what it was given; nothing of the flush is counted as stored."""


class FencedError(SinkError):
    """Another writer has written to the same stream or audit log; this one has to stop."""


class StoreError(BinlogSyncError):
    """A position store cannot be opened, read or written."""


class LeaseLostError(StoreError):
    """Another tail has claimed the source since; this one must not save and has to stop."""


class ConsumeError(BinlogSyncError):
    """A consumer cannot go on."""


class ClientTakenError(ConsumeError):
    """Another live consumer has this client id."""


class ModelError(ConsumeError):
    """A model does not fit its table; names field, column and both types."""


class HandlerError(ConsumeError):
    """The user's handler raised; what it raised is the cause.

    Attributes:
        table: "database.table".
        change_id: of the change that it raised for.
        position: where that change is in the binlog.
        tries: how often it was tried.
        key: names and values of the row's key columns; empty where the table has none.
    """

    def __init__(
        self,
        reason: str,
        *,
        table: str = "",
        change_id: str = "",
        position: str = "",
        tries: int = 0,
        key: Mapping[str, object] | None = None,
    ) -> None:
        self.table = table
        self.change_id = change_id
        self.position = position
        self.tries = tries
        self.key = key or {}
        super().__init__(reason)


class EmbeddedServerError(BinlogSyncError):
    """A private MySQL, MariaDB, NATS or Redis cannot be had or does not start."""
