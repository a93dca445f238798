"""Mirrors of several tables with a running tail, compared with SELECT; records when they reread a table."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pymysql

from binlogsync.change_batch import ChangeBatch
from binlogsync.codec.subjects import durable_name
from binlogsync.consume.engine import ConsumeOptions, consume
from binlogsync.consume.progress import NO_PROGRESS, ConsumerProgress, ProgressKey
from binlogsync.mirror.apply import RebuildReason
from binlogsync.mirror.target import Mirror
from binlogsync.mysql import MySQLConfig, resolve_start
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.position import Checkpoint
from binlogsync.sql_identifiers import literal
from binlogsync.stores.memory import MemoryPositionStore
from binlogsync.targets import TableTransaction
from binlogsync.targets.duckdb.file import quote
from tests.databases import FreshDatabase
from tests.duck import query
from tests.e2e.tailing import TailThread, config_of, options_of, stream_sink

Table = tuple[str, str]


class CountingMirror(Mirror):
    """A mirror that records why it reread its table from the server."""

    def __init__(self, path: Path, table: Table, source: MySQLConfig) -> None:
        super().__init__(path, *table, source)
        self.reasons: list[str] = []
        self._reason = "a gap"

    def rebuild_before(self, halt: RebuildReason, following: ChangeBatch, key: ProgressKey) -> None:
        self._reason = halt.reason
        super().rebuild_before(halt, following, key)

    def rebuild(
        self,
        key: ProgressKey,
        applied: ConsumerProgress = NO_PROGRESS,
        also: Callable[[TableTransaction], None] = lambda transaction: None,
    ) -> Checkpoint:
        self.reasons.append(self._reason)
        return super().rebuild(key, applied, also)


class MirroredTables:
    """The mirrors of one database; created by `mirrored_tables`."""

    def __init__(self, tail: TailThread, reader: StreamReader, config: MySQLConfig, path: Path) -> None:
        self.path = path
        self._tail, self._reader, self._config = tail, reader, config
        self._mirrors: dict[Table, CountingMirror] = {}

    def drain(self, tables: Sequence[Table]) -> None:
        """Wait until each mirror has applied everything that the server has executed."""
        self._tail.catch_up()
        options = ConsumeOptions(client_id="mirrored", idle_s=0.01, gather_s=0.01)
        for table in tables:
            mirror = self._mirrors.setdefault(table, CountingMirror(self.path, table, self._config))
            while True:  # on a slow machine no message may arrive within idle_s although some are pending
                consume(self._reader, table, mirror, options, threading.Event())
                left = self._reader.pending(durable_name(options.client_id, *table))
                if left is not None and not left.num_pending and not left.num_ack_pending:
                    break

    def take_reads(self) -> dict[Table, list[str]]:
        """The reasons why tables were reread since the last call."""
        found = {table: mirror.reasons for table, mirror in self._mirrors.items() if mirror.reasons}
        for mirror in self._mirrors.values():
            mirror.reasons = []
        return found

    def rows(self, table: Table) -> list[str] | None:
        """Column names and sorted rows of a mirror; None if the table does not exist."""
        return mirror_table_rows(self.path, table)


def mirror_table_rows(path: Path, table: Table) -> list[str] | None:
    """Column names and sorted rows of the mirror in that file; None if the table does not exist."""
    columns = query(
        path,
        "SELECT column_name FROM duckdb_columns() "
        f"WHERE schema_name = {literal(table[0])} AND table_name = {literal(table[1])} "
        "ORDER BY column_index",
    )
    if not columns:
        return None
    names = ", ".join(quote(name) for (name,) in columns)
    rows = query(path, f"SELECT {names} FROM {quote(*table)}")
    return [
        repr([name for (name,) in columns]),
        *sorted(repr([_without_zone(value) for value in row]) for row in rows),
    ]


def _without_zone(value: Any) -> Any:
    return value.replace(tzinfo=None) if isinstance(value, datetime) else value


@contextmanager
def mirrored_tables(
    database: FreshDatabase, nats_url: str, folder: Path, include: tuple[str, ...] = ()
) -> Iterator[MirroredTables]:
    """Tail the database from its current position, and mirror it to a file in the folder."""
    config = config_of(database.server, f"mirrored-{database.name}")
    start = str(resolve_start(config, "now").position)
    options = options_of(config.source, database.name, start=start, include=(f"{database.name}.*", *include))
    with TailThread(config, [stream_sink(nats_url)], MemoryPositionStore(), options) as tail:
        tail.wait_begun()
        with StreamReader(NatsOptions(url=nats_url), config.source) as reader:
            yield MirroredTables(tail, reader, config, folder / "mirrors.duckdb")


_FORMS = {"float": "{} * 1e0", "bit": "{} + 0", "year": "{} + 0"}


def server_rows(connection: pymysql.Connection[Any], table: Table, *, mariadb: bool) -> list[str] | None:
    """Column names and sorted rows of the table on the server, without MariaDB's generated columns."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT column_name, data_type, column_type, extra FROM information_schema.columns "
            "WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position",
            table,
        )
        found = [[x.decode() if isinstance(x, bytes) else str(x) for x in row] for row in cursor.fetchall()]
        fields = [row for row in found if not (mariadb and "GENERATED" in row[3])]
        if not found:
            return None
        names = ["`" + row[0].replace("`", "``") + "`" for row in fields]
        wanted = [_FORMS.get(row[1].lower(), "{}").format(name) for row, name in zip(fields, names, strict=True)]
        cursor.execute(
            "SELECT " + ", ".join(wanted) + " FROM `" + "`.`".join(p.replace("`", "``") for p in table) + "`"
        )
        rows = cursor.fetchall()
    kinds = [(row[1].lower(), row[2]) for row in fields]
    plain = sorted(repr([_mirror_value(*kind, value) for kind, value in zip(kinds, row, strict=True)]) for row in rows)
    return [repr([row[0] for row in fields]), *plain]


def _mirror_value(kind: str, declared: str, value: Any) -> Any:
    """Convert a value of pymysql to the value in a mirror."""
    if value is None or (kind in ("date", "datetime", "timestamp") and isinstance(value, str)):
        return None  # zero dates are NULL in a mirror
    if kind == "set":
        return value.split(",") if value else []
    if kind == "decimal" and int(declared.partition("(")[2].partition(",")[0]) > 38:
        return f"{value:f}"
    if kind == "bit":
        return bool(value) if declared == "bit(1)" else value
    return value
