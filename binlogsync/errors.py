"""Every error that binlogsync raises on purpose.

    BinlogSyncError
    ├── ConfigError            an option or environment variable that cannot be right
    ├── SourceError            MySQL or MariaDB cannot be reached, or refuses what is needed
    │   ├── ReplicaBehindError another server does not have all stored transactions yet
    │   ├── PreflightError     the server is reachable, but not set up for change data capture
    │   └── PositionError      the requested position is purged, of another server, or does not exist
    ├── DecodeError            bytes of the binlog that cannot be turned into exact values
    │   └── MissingPrepareError    an XA COMMIT whose changes were logged before the first position read
    ├── WireError              a message of the stream that binlogsync did not write
    ├── SinkError              a sink cannot store what it was given
    │   └── FencedError        another writer has written to this stream
    ├── StoreError             a position store cannot be read or written
    │   └── LeaseLostError     another tail holds the lease now
    ├── ConsumeError           a consumer cannot continue
    │   ├── ClientTakenError   another live consumer has this client id
    │   ├── ProgressConflictError  another process has changed the stored progress
    │   ├── ModelError         a model does not fit the table
    │   └── HandlerError       the user's handler raised
    └── EmbeddedServerError    a private server cannot be installed or does not start

Each message contains what failed, where, and what to do next. Any other exception that reaches the caller is a bug. A
message may quote row values and names, so control characters in it are escaped wherever it is printed.
"""

from __future__ import annotations

from collections.abc import Mapping

from binlogsync.escaping import printable

_SHOWN = 200


def excerpt(value: object) -> str:
    """The value for an error message: its `repr`, truncated if it is long."""
    text = repr(value[: _SHOWN + 1] if isinstance(value, str | bytes) else value)
    return text if len(text) <= _SHOWN + 3 else f"{text[:_SHOWN]}..."


class BinlogSyncError(Exception):
    """Root of the tree; never raised itself."""

    def __str__(self) -> str:
        """The message, with terminal control characters escaped."""
        return printable(super().__str__())


class ConfigError(BinlogSyncError):
    """An option, environment variable or combination of them cannot be right."""


class MissingTimeZoneError(ConfigError):
    """A time in the configuration has no time zone."""


class SourceError(BinlogSyncError):
    """MySQL or MariaDB cannot be reached, or refuses what is needed; a retry may help."""


class PreflightError(SourceError):
    """The server is not set up for change data capture; the message contains the SQL that fixes it."""


class ReplicaBehindError(SourceError):
    """After a failover, the server does not have all stored transactions yet; a retry may help."""


class PositionError(SourceError):
    """The requested position is purged, belongs to another server, or does not exist. A retry cannot help.

    Attributes:
        reason: what is wrong, without the advice.
    """

    def __init__(self, reason: str, advice: str = "") -> None:
        """The message is the reason, then the advice: what the operator can choose."""
        super().__init__(f"{reason}; {advice}" if advice else reason)
        self.reason = reason


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
        position = f" at {file}:{pos}; inspect it with: mysqlbinlog -vv --start-position={pos} {file}" if file else ""
        super().__init__(f"{where + ': ' if where else ''}{reason}{position}")


class MissingPrepareError(DecodeError):
    """An XA COMMIT of a transaction that was prepared before the first position read; read from before its XA PREPARE.

    Attributes:
        xid: of the transaction, as servers log it.
    """

    def __init__(self, reason: str, *, xid: str, file: str, pos: int) -> None:
        self.xid = xid
        super().__init__(f"XA COMMIT {xid} {reason}", file=file, pos=pos)

    def is_same(self, other: MissingPrepareError | None) -> bool:
        """True when it is the same XA COMMIT."""
        return other is not None and (self.xid, self.file, self.pos) == (other.xid, other.file, other.pos)


class WireError(BinlogSyncError):
    """A message of the stream cannot be decoded: its header, schema or body was not written by binlogsync."""


class SinkError(BinlogSyncError):
    """A sink cannot store a flush; none of its changes counts as stored."""


class FencedError(SinkError):
    """Another writer has written to the same stream or audit log; this one has to stop."""


class StoreError(BinlogSyncError):
    """A position store cannot be opened, read or written."""


class LeaseLostError(StoreError):
    """Another tail holds the lease of the source; this one must not save checkpoints and has to stop."""


class ConsumeError(BinlogSyncError):
    """A consumer cannot continue."""


class ProgressConflictError(ConsumeError):
    """The stored progress of a consumer is not what it stored last: another process has changed it."""


class TargetBusyError(ConsumeError):
    """Another process, or another thread, has the file of a target open; it can be written after that.

    Attributes:
        path: of the file.
    """

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path


class RefusedChangeError(ConsumeError):
    """A mirror does not accept a change; the transaction must be rolled back.

    Attributes:
        done: number of batches before the refused one, in that call of `mirror.apply`.
    """

    done = 0


class MirrorKeyError(RefusedChangeError):
    """The `key` that the options of a mirror name does not identify each row of its table."""


class ClientTakenError(ConsumeError):
    """Another live consumer has this client id."""


class ModelError(ConsumeError):
    """A model does not fit its table; names field, column and both types."""


class HandlerError(ConsumeError):
    """The user's handler raised; its exception is the cause.

    Attributes:
        table: "database.table".
        change_id: of the change that it raised for.
        position: of that change in the binlog.
        tries: number of attempts.
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
    """A private MySQL, MariaDB, NATS or Redis cannot be installed or does not start."""
