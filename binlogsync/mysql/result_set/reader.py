"""Reads rows of a table over the binary protocol, with the types and values that the binlog decoder gives.

    for rows in read_rows(config, connection, schema, "WHERE id > %s ORDER BY id LIMIT 20000", (last,)):
        rows.image       # struct array of schema.image_type()
        rows.impossible  # column -> texts of the dates that Arrow cannot represent, NULL in the image

Memory is bounded by the batch and one row. After the last row, and after an error that the server reports instead of a
row, the connection is usable for other statements. It is closed when the reader is abandoned before the last row, and
after any other error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pymysql
from pymysql.constants import CR
from pymysql.err import raise_mysql_exception

from binlogsync.binlog.columns import ColumnBuffers
from binlogsync.binlog.types.temporal import impossible_text
from binlogsync.errors import SourceError
from binlogsync.mysql.config import MySQLConfig, translate_errors
from binlogsync.mysql.guarded_connection import GuardedConnection
from binlogsync.mysql.result_set.columns import RowLayout
from binlogsync.mysql.result_set.decoding import COLUMN, ROWS, SEQUENCE, BatchDecoder, Status
from binlogsync.mysql.result_set.packets import ReceiveBuffer
from binlogsync.mysql.result_set.statement import PreparedStatement, ResultColumn
from binlogsync.mysql.session import Connection
from binlogsync.schema import TableSchema
from binlogsync.server_version import ServerFlavor, parse_server_version
from binlogsync.sql_identifiers import quote_mysql

BATCH_ROWS = 20_000
_PACKETS_BEFORE_ROWS = 3  # the command, the number of columns, and the end of their definitions
_BATCH_BYTES = 16 << 20
_LEAST_BATCH_BYTES = 1 << 20
_RESERVED_BYTES = 1 << 30  # address space of a batch for strings, most of which is never written


@dataclass(frozen=True, slots=True)
class TableRows:
    """Rows of a table, in the order in which the server sent them.

    Attributes:
        image: struct array of `schema.image_type()`, without NULL rows.
        impossible: column -> string array as long as the image, with the text of each zero or invalid date, as MySQL
            prints it; NULL elsewhere. Columns without such dates are absent.
    """

    image: pa.StructArray
    impossible: Mapping[str, pa.StringArray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.image)

    @property
    def record_batch(self) -> pa.RecordBatch:
        """The columns of the image, sharing memory."""
        return pa.RecordBatch.from_struct_array(self.image)


def read_rows(
    config: MySQLConfig,
    connection: Connection,
    schema: TableSchema,
    clauses: str = "",
    parameters: Sequence[Any] = (),
    *,
    batch_rows: int = BATCH_ROWS,
) -> Iterator[TableRows]:
    """The rows of `SELECT <columns of the schema> FROM <its table> <clauses>`, up to `batch_rows` at a time.

    A batch also ends after 16 MiB of rows; a longer row is a batch by itself. `connection` is one that
    `config.connect` opened, without an unread result. `clauses` is SQL with %s for each of `parameters`, which pymysql
    quotes; without parameters, % is not special. Columns are named in it as in the table.

    The schema is the one of the table as it is read: ENUM and SET are read by number, and not every change of a column
    is noticed. Where nothing prevents DDL meanwhile, compare it with the table's schema afterwards.

    Raises SourceError when the server reports an error, closes the connection, sends invalid bytes, or sends a column
    of another type than the schema has: the table was altered, so describe it again; DecodeError for a column type
    that is not supported.
    """
    assert isinstance(connection, GuardedConnection), "not a connection of mysql.config.connect"
    is_mariadb = parse_server_version(connection.version_text).flavor == ServerFlavor.MARIADB
    layout = RowLayout.of(schema, mariadb=is_mariadb)
    with translate_errors(config):
        if parameters:
            with connection.cursor() as cursor:
                clauses = cursor.mogrify(clauses, parameters)
        names = quote_mysql(schema.database, schema.table)
        expressions = ", ".join(column.expression for column in layout.columns)
        yield from _execute(connection, layout, f"SELECT {expressions} FROM {names} {clauses}", batch_rows)


def _execute(connection: GuardedConnection, layout: RowLayout, sql: str, batch_rows: int) -> Iterator[TableRows]:
    statement = PreparedStatement(connection, sql)
    try:
        _check_columns(layout, statement.columns)
        statement.execute()
        _check_columns(layout, statement.columns)
        sequence = len(layout.columns) + _PACKETS_BEFORE_ROWS & 255
        reader = RowReader(layout, ReceiveBuffer(connection), batch_rows, sequence, statement.mark_read)
        yield from reader.batches()
    finally:
        statement.finish()


def _check_columns(layout: RowLayout, sent: Sequence[ResultColumn]) -> None:
    """Raises SourceError when the table is not as the schema describes it."""
    if len(sent) != len(layout.columns):
        raise ValueError(f"{len(sent)} columns instead of {len(layout.columns)}")
    for column, definition in zip(layout.columns, sent, strict=True):
        if difference := column.check(definition):
            name = f"{layout.schema.name}.{column.column.name}"
            raise SourceError(
                f"{name} is {column.column.declaration} in the schema, but {difference}: the table was altered "
                "meanwhile; read its schema again"
            )


class RowReader:
    """Decodes the rows of one result set into batches.

    `sequence` is the sequence number of the first packet, and `on_end` is called when the server has sent the last one.
    """

    def __init__(
        self, layout: RowLayout, buffer: ReceiveBuffer, batch_rows: int, sequence: int, on_end: Callable[[], None]
    ) -> None:
        self._layout = layout
        self._buffer = buffer
        self._batch_rows = batch_rows
        self._sequence = sequence
        self._on_end = on_end
        self._is_complete = False
        room = min(_BATCH_BYTES, _RESERVED_BYTES // max(layout.strings, 1))
        self._room = max(room, _LEAST_BATCH_BYTES)

    def batches(self) -> Iterator[TableRows]:
        """Decode rows until the end of the result."""
        while not self._is_complete:
            batch = _RowBatch(self._layout, self._batch_rows, (self._sequence, self._room))
            status = self._fill(batch)
            if status == Status.LONG and not batch.rows:
                payload, self._sequence = self._buffer.take_long_row(self._sequence)
                batch = self._decode_single(payload)
            elif status == Status.FULL and not batch.rows:
                payload = self._buffer.packet()
                self._sequence = self._sequence + 1 & 255
                batch = self._decode_single(payload)
                self._buffer.start += 4 + len(payload)
            if batch.rows:
                yield batch.build()

    def _fill(self, batch: _RowBatch) -> Status:
        """Decode until the batch is full, or the next packet cannot be added to it."""
        buffer = self._buffer
        while True:
            status, buffer.start = batch.decoder.decode(buffer.data, buffer.start, buffer.end)
            if status != Status.MORE:
                break
            buffer.fill()
        self._sequence = int(batch.decoder.state[SEQUENCE])
        if status in (Status.END, Status.SERVER_ERROR):
            self._is_complete = True
            self._on_end()
        if status == Status.SERVER_ERROR:
            raise_mysql_exception(buffer.packet().tobytes())
        if status not in (Status.END, Status.FULL, Status.LONG):
            self._raise_invalid(batch, status)
        return status

    def _decode_single(self, payload: npt.NDArray[np.uint8]) -> _RowBatch:
        """A batch of one row that is longer than a batch may be."""
        batch = _RowBatch(self._layout, 1, (0, len(payload)))
        status = batch.decoder.decode_long(payload) if payload[0] == 0 else Status.BAD_PACKET
        if status != Status.FULL:
            self._raise_invalid(batch, status)
        return batch

    def _raise_invalid(self, batch: _RowBatch, status: Status) -> None:
        buffer = self._buffer
        if status == Status.OUT_OF_STEP and buffer.data[buffer.start + 3 : buffer.start + 5].tolist() == [0, 0xFF]:
            # A server that shuts down sends an error outside of the sequence.
            raise pymysql.OperationalError(CR.CR_SERVER_LOST, "the server closed the connection during a result")
        schema, column = self._layout.schema, int(batch.decoder.state[COLUMN])
        named = status in (Status.BAD_ROW, Status.BAD_VALUE) and column < len(schema.columns)
        what = f"{schema.name}.{schema.columns[column].name}: invalid value" if named else f"{schema.name}: invalid row"
        raise ValueError(f"{what} ({status.name})")


class _RowBatch:
    """The memory of a batch, and its decoder."""

    def __init__(self, layout: RowLayout, most: int, room: tuple[int, int]) -> None:
        self._layout = layout
        self._arena, self._targets, self._dates = layout.reserve(most, room[1])
        self.decoder = BatchDecoder.of(layout.methods, self._targets, self._dates, most, room)

    @property
    def rows(self) -> int:
        return int(self.decoder.state[ROWS])

    def build(self) -> TableRows:
        """The arrays. Raises SourceError for a value that its type does not allow."""
        layout, count = self._layout, self.rows
        self._arena.record_written(layout.written_bytes(self._targets, count))
        arrays = []
        for column, target in zip(layout.columns, self._targets.tolist(), strict=True):
            try:
                arrays.append(column.build_array(ColumnBuffers(self._arena, target, count)))
            except (ValueError, pa.ArrowInvalid) as error:
                name, kind = f"{layout.schema.name}.{column.column.name}", column.column.declaration
                reason = f"{name}: a stored value is not valid {kind}: {error}"
                raise SourceError(f"{reason}; correct it, or exclude the table with a filter") from error
        image = pa.Array.from_buffers(layout.schema.image_type(), count, [None], 0, children=arrays)
        return TableRows(image, self._impossible(count))

    def _impossible(self, count: int) -> dict[str, pa.StringArray]:
        listed = int(self._arena.view(self._dates, 1, np.int64)[0])
        texts: dict[str, list[str | None]] = {}
        for k, row, packed in self._arena.view(self._dates + 8, 3 * listed, np.int64).reshape(-1, 3).tolist():
            column = self._layout.schema.columns[k]
            values = texts.setdefault(column.name, [None] * count)
            values[row] = impossible_text(packed, column.type, column.fsp or 0)
        return {name: pa.array(values, pa.string()) for name, values in texts.items()}
