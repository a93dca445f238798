"""Reads a table in chunks by key, without a lock for InnoDB tables where the server has GTIDs or is MariaDB."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from types import TracebackType

from binlogsync.change_batch import ChangeBatch
from binlogsync.errors import SourceError
from binlogsync.mysql.config import MySQLConfig, connect, error_code, fetch, fetch_row
from binlogsync.mysql.server import inspect
from binlogsync.mysql.table_errors import DENIED
from binlogsync.position import Checkpoint
from binlogsync.snapshot.keys import ChunkKey, find_chunk_key
from binlogsync.snapshot.rows import RowOrigin, read_batches
from binlogsync.snapshot.throttle import LoadLimits, Throttle
from binlogsync.snapshot.view import (
    READ_TIMEOUT_S,
    TRANSACTIONAL,
    Description,
    describe,
    explain_denied,
    find_engine,
)
from binlogsync.snapshot.watermarks import ReadStoppedError, Watermarks, choose_watermarks
from binlogsync.sql_identifiers import quote_mysql

CHUNK_ROWS = 50_000
CHUNK_BYTES = 32 << 20
"""A chunk ends with the batch of rows that reaches so many bytes."""
SMALL_ROWS = 20_000
SMALL_BYTES = 32 << 20
"""A table of so many rows and bytes is read in one view."""
_FIRST_ROWS = 2_000
_GROWTH = 8
_COLLATIONS = (
    "SELECT COLUMN_NAME AS name, COLLATION_NAME AS collation_name FROM INFORMATION_SCHEMA.COLUMNS "
    "WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s"
)
_SIZE = (
    "SELECT TABLE_ROWS AS estimate, DATA_LENGTH AS bytes, AVG_ROW_LENGTH AS row_bytes FROM INFORMATION_SCHEMA.TABLES "
    "WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s"
)


@dataclass(frozen=True, slots=True)
class TableSize:
    """Size of a table.

    Attributes:
        estimate: number of rows; exact if the table is small.
        is_small: True when one read view of the whole table is open for a moment only.
    """

    estimate: int
    is_small: bool


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of a table.

    Attributes:
        batches: the rows as changes with op "r"; with a condition, there may be none although rows follow.
        last_key: the key to continue after: of the last row, or of the last row of the range.
        is_last: True when there are no rows after these.
        high: no later change can be in the rows.
    """

    batches: Sequence[ChangeBatch]
    last_key: tuple[str, ...]
    is_last: bool
    high: Checkpoint


class ChunkReader:
    """One connection that reads one table in chunks; a context manager.

    Attributes:
        description: of the table; None if it does not exist.
        key: by which it is read; None if it cannot be read in chunks.
        size: of the table.
        engine: its storage engine, in lower case; "" if unknown.
        server: (server_uuid, server_id).
    """

    def __init__(
        self,
        config: MySQLConfig,
        name: tuple[str, str],
        limits: LoadLimits,
        stop: threading.Event,
        on_pause: Callable[[], None] = lambda: None,
    ) -> None:
        """Connects when it is entered; `on_pause` is called before each pause by the limits. Raises SourceError."""
        self._config = config
        self._name = name
        self._stop = stop
        self._throttle = Throttle(limits, ".".join(name), on_pause)
        self._held = ExitStack()
        self._limit, self._most = _FIRST_ROWS, CHUNK_ROWS
        self._watermarks: Watermarks | None = None
        self._start: Checkpoint | None = None
        self.key: ChunkKey | None = None
        self.size = TableSize(0, True)
        self.engine = ""

    def __enter__(self) -> ChunkReader:
        self._connection = connect(self._config, read_timeout_s=READ_TIMEOUT_S)
        self._held.callback(lambda: self._connection.close())
        try:
            self._info = inspect(self._config, self._connection)
            self.server = (self._info.server_uuid, self._info.server_id)
            self._look()
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def _look(self) -> None:
        """Find the key and the size of the table; leave them unset if a view has to report what is wrong."""
        try:
            self.description = self.describe()
        except SourceError as error:
            if error_code(error) in DENIED:
                raise explain_denied(error, self._config, self._name) from error
            raise
        self.engine = find_engine(self._config, self._connection, self._name)
        if self.engine in TRANSACTIONAL:
            self.key = find_chunk_key(self._config, self._connection, self.description.schema)
        self.size = self._measure()

    @property
    def row_image(self) -> str:
        """The server's variable binlog_row_image."""
        return self._info.binlog_row_image

    def collations(self) -> dict[str, str]:
        """Collation of each column by its name; "None" for a column without one. Raises SourceError."""
        rows = fetch(self._config, self._connection, _COLLATIONS, self._name)
        return {str(row["name"]): str(row["collation_name"]) for row in rows}

    def describe(self) -> Description:
        """The table as it is defined now. Raises SourceError."""
        return describe(self._config, self._connection, self._info, self._name)

    def _measure(self) -> TableSize:
        # The probe reads at most a small number of rows; the statistics may be a day old.
        probe = f"SELECT COUNT(*) AS n FROM (SELECT 1 FROM {quote_mysql(*self._name)} LIMIT {SMALL_ROWS + 1}) AS probe"
        count = int(fetch_row(self._config, self._connection, probe)["n"])
        rows = fetch(self._config, self._connection, _SIZE, self._name)
        names = ("estimate", "bytes", "row_bytes")
        estimate, size, row_bytes = (int(rows[0][name] or 0) for name in names) if rows else (0, 0, 0)
        self._most = max(1, min(CHUNK_ROWS, CHUNK_BYTES // max(row_bytes, 1)))
        self._limit = min(_FIRST_ROWS, self._most)
        is_small = count <= SMALL_ROWS and size <= SMALL_BYTES
        return TableSize(count if count <= SMALL_ROWS else max(estimate, count), is_small)

    def wait(self, throttle: Throttle) -> None:
        """Wait until other limits than its own allow a chunk. Raises SourceError."""
        throttle.wait(self._config, self._connection, self._stop)

    def begin(self, start: Checkpoint) -> None:
        """Wait until the chunks will show every change before `start`. Raises SourceError, ReadStoppedError."""
        self._start = start
        self._watermarks = choose_watermarks(self._config, self._connection, self._info, start)
        self._watermarks.prepare(self._name, self._stop)

    def read(self, after: Sequence[str] | None, description: Description, condition: str | None = None) -> Chunk:
        """The next chunk after that key, with the columns of `description`; begin must have been called.

        A chunk also ends after CHUNK_BYTES: its result is abandoned, and the reader connects again.
        With a `condition`, SQL that the rows meet, the chunk has those of a range of as many rows: it may be empty.

        Raises SourceError, ReadStoppedError.
        """
        assert self.key is not None
        assert self._watermarks is not None
        assert self._start is not None
        is_replica = self.server[0] != self._start.server_uuid
        self._throttle.wait(self._config, self._connection, self._stop, is_replica=is_replica)
        if self._stop.is_set():
            raise ReadStoppedError
        begun = time.monotonic()
        self._watermarks.begin_chunk(self._stop)
        origin = RowOrigin(self._start, self.server)
        clauses, bound = self.key.clauses(after, self._limit), None
        if condition is not None:
            bound = self._find_bound(after, description, origin)
            clauses = self.key.range_clauses(after, bound, condition)
        batches, count, size, is_cut = [], 0, 0, False
        with closing(read_batches(self._config, self._connection, description.schema, origin, clauses)) as rows:
            for batch in rows:
                batches.append(batch)
                count, size = count + len(batch), size + batch.nbytes
                if is_cut := size >= CHUNK_BYTES and (count < self._limit or condition is not None):
                    break
        if is_cut:
            self._reconnect()
        high = self._watermarks.end_chunk()
        is_last = not is_cut and (count < self._limit if condition is None else bound is None)
        self._adapt(count, size)
        self._throttle.count(count, time.monotonic() - begun)
        last_key = self.key.last_key(batches[-1]) if batches else tuple(after or ())
        return Chunk(batches, last_key if bound is None or is_cut else bound, is_last, high)

    def _find_bound(
        self, after: Sequence[str] | None, description: Description, origin: RowOrigin
    ) -> tuple[str, ...] | None:
        """The last key of the next rows; None if the table has fewer."""
        assert self.key is not None
        clauses = self.key.clauses(after, 1, self._limit - 1)
        with closing(read_batches(self._config, self._connection, description.schema, origin, clauses)) as rows:
            found = list(rows)
        return self.key.last_key(found[-1]) if found else None

    def _reconnect(self) -> None:
        """Replace the connection, which was closed before the last row of a result. Raises SourceError."""
        assert self._watermarks is not None
        self._connection = connect(self._config, read_timeout_s=READ_TIMEOUT_S)
        info = inspect(self._config, self._connection)
        if info.server_uuid != self._info.server_uuid:
            raise SourceError(
                f"{self._config.address} is server {info.server_uuid} now, and was {self._info.server_uuid} when the "
                "chunk was read; the chunk is read again"
            )
        self._watermarks.use(self._connection)

    def _adapt(self, rows: int, size: int) -> None:
        """Choose the number of rows of the next chunk by the bytes of this one.

        A range without a row that meets the condition shows no size: by the average size, so that its SELECT is short.
        """
        fitting = max(1, CHUNK_BYTES * rows // max(size, 1)) if rows else self._most
        self._limit = max(1, min(CHUNK_ROWS, fitting, self._limit * _GROWTH))
