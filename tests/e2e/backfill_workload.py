"""The input of replay tests: a workload with rotations, DDL and large transactions, tailed to stream and audit log."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from binlogsync.bookmarks import BookmarkReason
from binlogsync.change import Change
from binlogsync.change_batch import ChangeBatch
from binlogsync.mysql import MySQLConfig
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.replay.from_stream import StreamRangeReader
from binlogsync.replay.ranges import ReplayPlan, ReplayRange
from binlogsync.replay.sources import ChangeSources
from binlogsync.servers import NATSServer
from binlogsync.sinks.audit import AuditSink
from binlogsync.sinks.audit_rows import audit_rows
from binlogsync.stores.sqlite import SQLitePositionStore
from tests.databases import FreshDatabase
from tests.duck import query
from tests.e2e.tailing import TailThread, config_of, options_of, stream_sink
from tests.e2e.writers import Writers
from tests.waiting import wait_until

TRANSACTIONS = 60
BIG = 600

Row = tuple[str, str, str | None, str | None]  # id, op, before, after


@dataclass(frozen=True)
class AuditRow:
    """One change of a table, from the audit log."""

    row: Row
    file: int
    txn_pos: int
    gtid: int
    committed: datetime


@dataclass(frozen=True)
class CustomerRow:
    """The model of the table `customers`."""

    id: int
    name: str | None
    born: datetime | None


def note_ids(change: Change[CustomerRow], connection: duckdb.DuckDBPyConnection) -> None:
    """A handler that stores the id of each change, in the file of `file_of_ids`."""
    connection.execute("INSERT INTO ids VALUES (?)", [change.id])


def file_of_ids(folder: Path) -> Path:
    """A file with the table of `note_ids`, which does not create it at each of its calls."""
    path = folder / "warehouse.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE ids (id VARCHAR)")
    return path


@dataclass(frozen=True)
class TailedWorkload:
    """The workload after it was tailed: its stream, audit log and position store."""

    config: MySQLConfig
    database: str
    nats: NATSServer
    audit: Path
    positions: Path
    store: SQLitePositionStore
    _rows: dict[str, list[AuditRow]] = field(default_factory=dict)

    @property
    def source(self) -> str:
        return self.config.source

    def rows(self, table: str) -> list[AuditRow]:
        if table not in self._rows:
            self._rows[table] = self._read(table)
        return self._rows[table]

    def _read(self, table: str) -> list[AuditRow]:
        found = query(
            self.audit,
            "SELECT id, op, before, after, file, txn_pos, gtid, epoch_us(committed_at) FROM changes "
            f"WHERE database = '{self.database}' AND table_name = '{table}' ORDER BY rowid",
        )
        return [
            AuditRow(
                row[:4],
                int(row[4].rpartition(".")[2]),
                row[5],
                int(re.split("[:-]", row[6])[-1]),
                datetime.fromtimestamp(row[7] // 1_000_000, UTC).replace(microsecond=row[7] % 1_000_000),
            )
            for row in found
        ]

    @contextmanager
    def sources(self, table: str) -> Iterator[ChangeSources]:
        with StreamReader(NatsOptions(url=self.nats.url), self.source) as reader:
            stream = StreamRangeReader(reader, self.database, table)
            yield ChangeSources(self.source, self.config, stream, self.store)

    def write_settings(self, folder: Path, **more: str) -> None:
        """Write a .env file for the command line."""
        settings = {
            "SOURCE": self.source,
            "MYSQL_HOST": self.config.host,
            "MYSQL_PORT": str(self.config.port),
            "MYSQL_USER": self.config.user,
            "MYSQL_PASSWORD": self.config.password,
            "NATS_URL": self.nats.url,
            "POSITIONS_PATH": str(self.positions),
            **more,
        }
        lines = (f"BINLOGSYNC_{name}='{value}'\n" for name, value in settings.items())
        (folder / ".env").write_text("".join(lines))

    def plan(self, table: str, *spans: ReplayRange, words: str = "words") -> ReplayPlan:
        return ReplayPlan(self.source, self.database, table, words, spans, "1")


def tail_workload(mysql: FreshDatabase, nats: NATSServer, folder: Path) -> TailedWorkload:
    """Run writers, rotations, DDL, a TRUNCATE and large transactions; return when all changes are stored.

    Before each rotation there are TRANSACTIONS transactions, one of more than BIG changes, and a bookmark; at the end,
    bookmarks of all reasons.
    """
    source = f"back-{mysql.name}"
    config, audit, positions = config_of(mysql.server, source), folder / "audit.duckdb", folder / "positions.db"
    store = SQLitePositionStore(positions)
    writers = Writers(mysql, seed=11, pause_s=0.04)
    options = options_of(source, mysql.name, bookmark_s=0.4)
    ddl = [
        "ALTER TABLE orders ADD COLUMN colour VARCHAR(10) DEFAULT 'blue' AFTER total",
        "TRUNCATE TABLE visits",
        "ALTER TABLE orders MODIFY total DECIMAL(14, 3)",
        "ALTER TABLE orders DROP COLUMN colour",
    ]

    def count(reason: BookmarkReason) -> int:
        return sum(each.reason == reason for each in store.bookmarks.load(source))

    def wait_for_writers() -> None:
        wanted = writers.transactions + TRANSACTIONS
        wait_until(lambda: writers.has_failed or writers.transactions >= wanted, 60, f"{wanted} transactions")
        kept = count("interval")
        wait_until(lambda: tail.error or count("interval") > kept, 60, "another bookmark")

    def change_schema() -> int:
        # If the tail takes longer than `bookmark_s` from the rotation to here, it counts this as an interval.
        writers.rotate()
        mysql.execute("ALTER TABLE visits COMMENT = 'again'")
        tail.catch_up()
        return count("schema")

    time.sleep(1.1)  # The first event of a file has its time in seconds only, and some ranges start at a time.
    with TailThread(config, [stream_sink(nats.url), AuditSink(audit)], store, options) as tail:
        with writers.running():
            for statement in ddl:
                wait_for_writers()
                writers.write_big(BIG)
                writers.rotate()
                mysql.execute(statement)
                with mysql.server.connect(database=mysql.name, autocommit=False) as connection:
                    with connection.cursor() as cursor:  # a transaction of one table that many flushes share
                        sql = "INSERT INTO orders (customer, total, note) VALUES (%s, %s, %s)"
                        cursor.executemany(sql, [(n, n, "big") for n in range(700)])
                    connection.commit()
        tail.catch_up()
        wait_until(lambda: count("schema") or change_schema(), 60, "a bookmark of a schema change")
    return TailedWorkload(config, mysql.name, nats, audit, positions, store)


def rows_of(batches: Sequence[ChangeBatch]) -> list[Row]:
    """The rows that the audit log would store."""
    found: list[Row] = []
    for batch in batches:
        table: Any = audit_rows([batch])
        if table is None:
            continue  # a schema change
        found += zip(*(table.column(name).to_pylist() for name in ("id", "op", "before", "after")), strict=True)
    return found


def assert_rows(found: Sequence[object], expected: Sequence[object], what: str) -> None:
    """Assert equality; a failure reports the first difference."""
    for number, (one, other) in enumerate(zip(found, expected, strict=False)):
        assert one == other, f"{what}: change {number}"
    assert len(found) == len(expected), what
