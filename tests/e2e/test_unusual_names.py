"""For any legal names of tables, columns, indexes and labels: mirror, history, Parquet and audit log equal SELECT.

`verify` finds each mirror equal, and different after a row of it is changed.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pymysql
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from binlogsync.consume.engine import ConsumeOptions
from binlogsync.errors import ConsumeError
from binlogsync.mirror.target import Mirror
from binlogsync.mirror.verify import Verifier, VerifyOptions
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.replay.from_stream import StreamRangeReader
from binlogsync.replay.ranges import ReplayPlan
from binlogsync.replay.run import ReplayTask, replay_ranges
from binlogsync.replay.sources import ChangeSources
from binlogsync.replay.to_parquet import ParquetTarget, read_parquet
from binlogsync.replay.to_tables import TableTarget
from binlogsync.servers import NATSServer
from binlogsync.sinks.audit import AuditSink
from binlogsync.stores.memory import MemoryPositionStore
from binlogsync.targets.duckdb.file import quote
from binlogsync.targets.duckdb.history import history_column
from binlogsync.targets.duckdb.names import locate, sibling_sql
from binlogsync.targets.duckdb.state import load_state
from binlogsync.targets.duckdb.store import DuckStore
from binlogsync.targets.mirror_state import MirrorOptions
from tests.databases import FreshDatabase
from tests.duck import query
from tests.e2e.tailing import TailThread, config_of, drain, options_of, stream_sink
from tests.e2e.unusual_names import NamedTable, tables
from tests.examples import examples

SOFT = "deleted at, by binlogsync"
OPTIONS = [MirrorOptions(), MirrorOptions(history=True), MirrorOptions(deleted_at=SOFT)]
_NUMBERS = count(1)
_SHARED = [
    NamedTable("warehouse", "orders", ("rowid", "Valid_From", "deleted_at", "ref"), "PRIMARYx", ("a", "it's"), False),
    NamedTable("warehouse", "orders__history", ("id", "valid_from", "_valid_from", "rowid"), "i", ("", "b"), True),
    NamedTable("warehouse", "Orders", ("order", "a.b", 'q"`', "\u3042" * 64), "a`b", ("\\", "x"), True),
    NamedTable("..", "..", ("*", "?", "%s", "{x}"), "*", ("null", "0"), False),
    NamedTable("a.b", "*", ("before", "after", "op", "seq"), ".", (" x", "\U0001f600"), True),
]
Rows = Counter[tuple[Any, ...]]


def mysql_name(*names: str) -> str:
    """Quote a name for MySQL."""
    return ".".join("`" + name.replace("`", "``") + "`" for name in names)


@pytest.fixture(params=["mysql", "mariadb"])
def source(request: pytest.FixtureRequest) -> FreshDatabase:
    """A database of each server."""
    found: FreshDatabase = request.getfixturevalue(request.param)
    return found


def make(source: FreshDatabase, table: NamedTable) -> bool:
    """Create the table; False if the server refuses the names."""
    key, value, label, added = map(mysql_name, table.columns)
    labels = ", ".join(source.connection.escape(text) for text in table.labels)
    keys = f", PRIMARY KEY ({key})" if table.has_key else ""
    index = f", INDEX {mysql_name(table.index)} ({value})"
    try:
        source.execute(f"CREATE TEMPORARY TABLE probe ({key} INT, {value} INT, {label} INT, {added} INT)")
        source.execute("DROP TEMPORARY TABLE probe")
        source.execute(f"CREATE DATABASE IF NOT EXISTS {mysql_name(table.database)}")
        source.execute(
            f"CREATE TABLE {mysql_name(*table.name)} ({key} INT NOT NULL, {value} VARCHAR(20), "
            f"{label} ENUM({labels}){keys}{index})"
        )
        return True
    except pymysql.Error:
        return False


def write(source: FreshDatabase, table: NamedTable) -> None:
    """Insert and change rows, add a column, and insert rows with it."""
    name, (key, value, _, added) = mysql_name(*table.name), map(mysql_name, table.columns)
    rows = ", ".join(f"({n}, 'v{n % 3}', {n % len(table.labels) + 1})" for n in range(6))
    for sql in (
        f"INSERT INTO {name} VALUES {rows}",
        f"UPDATE {name} SET {value} = 'changed' WHERE {key} = 1",
        f"DELETE FROM {name} WHERE {key} IN (0, 2)",
        f"ALTER TABLE {name} ADD COLUMN {added} INT NULL",
        f"INSERT INTO {name} VALUES (10, NULL, 1, 7), (11, 'x', 2, 8)",
        f"UPDATE {name} SET {added} = 9 WHERE {key} = 10",
        f"DELETE FROM {name} WHERE {key} = 3",
    ):
        source.execute(sql)


def replayed(
    changes: Iterable[tuple[str, Mapping[str, Any] | None, Mapping[str, Any] | None]], table: NamedTable
) -> Rows:
    """The rows that result from changes; a row from before a column was added has NULL in it."""
    rows: Rows = Counter()
    for _, before, after in changes:
        for image, step in ((before, -1), (after, 1)):
            if image is not None:
                rows[tuple(image.get(name) for name in table.columns)] += step
    assert min(rows.values()) >= 0
    return +rows


class TailedTables:
    """Tables of one run: tailed into a stream and an audit log, mirrored into one file."""

    def __init__(self, source: FreshDatabase, nats: NATSServer, folder: Path) -> None:
        self.source, self.nats, self.folder = source, nats, folder
        self.config = config_of(source.server, f"names-{source.name}-{next(_NUMBERS)}")
        self.warehouse, self.audit = folder / "warehouse.duckdb", folder / "binlogsync.duckdb"
        self.store = MemoryPositionStore()

    def run(self, drawn: Sequence[NamedTable]) -> None:
        """Create, tail, mirror and compare the tables."""
        databases = {table.database for table in drawn}
        include = tuple(f"{mysql_name(name)}.*" for name in databases)
        options = options_of(self.config.source, "unused", include=include, start="now")
        made: dict[tuple[str, str], NamedTable] = {}
        try:
            with TailThread(
                self.config, [stream_sink(self.nats.url), AuditSink(self.audit)], self.store, options
            ) as tail:
                tail.wait_begun()
                for table in drawn:
                    if table.name not in made and make(self.source, table):
                        made[table.name] = table
                for table in made.values():
                    write(self.source, table)
                tail.catch_up()
                for number, table in enumerate(made.values()):
                    self.compare(table, OPTIONS[number % len(OPTIONS)], number)
        finally:
            for database in databases:
                self.source.execute(f"DROP DATABASE IF EXISTS {mysql_name(database)}")

    def compare(self, table: NamedTable, options: MirrorOptions, number: int) -> None:
        """Compare the result of every reader of the table's changes with SELECT."""
        wanted: Rows = Counter(self.source.execute(f"SELECT * FROM {mysql_name(*table.name)}"))
        assert wanted.total() == 5
        with StreamReader(NatsOptions(url=self.nats.url), self.config.source) as reader:
            target = Mirror(self.warehouse, *table.name, self.config, options)
            drain(reader, table.name, target, ConsumeOptions(idle_s=0.2, gather_s=0.1))
            assert self.mirrored(table, options) == wanted, table
            folder = ParquetTarget(self.folder / str(number))
            for to in (folder, TableTarget(self.warehouse, *table.name)):
                sources = ChangeSources(
                    self.config.source, self.config, StreamRangeReader(reader, *table.name), self.store
                )
                span = sources.resolve_range(f"seq:{reader.first_sequence()}", "head")
                plan = ReplayPlan(self.config.source, *table.name, "all", (span,), f"{number}")
                replay_ranges(ReplayTask(sources, plan, to, "auto", 300), threading.Event())
                to.close()
        replay = (f"replay_{table.database} ", table.table)
        assert self.rows_of(replay, f"SELECT {', '.join(map(quote, table.columns))} FROM {{}}") == wanted, table
        changes = (change for batch in read_parquet(folder.path) for change in batch.changes())
        assert replayed(((c.op, c.before, c.after) for c in changes), table) == wanted, table
        assert self.audited(table) == wanted, table
        self.verify(table, options)

    def verify(self, table: NamedTable, options: MirrorOptions) -> None:
        """The mirror is equal to its table; a changed row of it is found by its key, or as one row too many."""
        with StreamReader(NatsOptions(url=self.nats.url), self.config.source) as reader:
            file = DuckStore(self.warehouse, error=ConsumeError)
            verifier = Verifier(reader, self.config, file, VerifyOptions(timeout_s=240.0))
            found = verifier.verify(*table.name)
            assert found.is_equal, (table, str(found))
            assert found.rows is not None
            assert found.rows.here == found.rows.there == 5, table
            key, value = (quote(name) for name in table.columns[:2])
            changed = f"UPDATE {{}} SET {value} = 'other' WHERE {key} = 10 RETURNING {key}"
            assert self.rows_of(table.name, changed).total() == 1, table
            found = verifier.verify(*table.name)
            assert found.rows is not None, (table, str(found))
            (chunk,) = found.rows.differing
            counts = (chunk.different, chunk.missing, chunk.extra)
            assert counts == ((1, 0, 0) if table.has_key else (0, 1, 1)), (table, str(found))

    def mirrored(self, table: NamedTable, options: MirrorOptions) -> Rows:
        """The rows of the mirror, and of its history if it has one."""
        columns = ", ".join(map(quote, table.columns))
        alive = f" WHERE {quote(SOFT)} IS NULL" if options.deleted_at else ""
        found = self.rows_of(table.name, f"SELECT {columns} FROM {{}}{alive}")
        if options.history:
            kept = ", ".join(quote(history_column(name)) for name in table.columns)
            open_now = f"SELECT {kept} FROM {{}} WHERE valid_to IS NULL"
            assert self.rows_of(table.name, open_now, is_history=True) == found, table
        return found

    def rows_of(self, name: tuple[str, str], sql: str, *, is_history: bool = False) -> Rows:
        """The rows of a query on the mirror; {} in it is replaced by its name."""
        with DuckStore(self.warehouse, error=ConsumeError).transaction() as connection:
            (catalog,) = connection.execute("SELECT current_database()").fetchone() or ("",)
            path = quote(catalog, *locate(connection, *name))
            if is_history:
                state = load_state(connection, *name)
                path = sibling_sql(state, state.history_table or "")
            return Counter(connection.execute(sql.replace("{}", path, 1)).fetchall())

    def audited(self, table: NamedTable) -> Rows:
        """The rows of the table, computed from the audit log."""
        with DuckStore(self.audit).transaction() as connection:
            sql = "SELECT op, before, after FROM changes WHERE database = ? AND table_name = ? ORDER BY rowid"
            rows = connection.execute(sql, list(table.name)).fetchall()
        loaded = ((op, *(None if image is None else json.loads(image) for image in images)) for op, *images in rows)
        return replayed(loaded, table)


@pytest.mark.exhaustive
def test_names_that_failed_in_the_past(mysql: FreshDatabase, nats_server: NATSServer, tmp_path: Path) -> None:
    TailedTables(mysql, nats_server, tmp_path).run(_SHARED)
    assert query(tmp_path / "warehouse.duckdb", "SELECT count(*) FROM warehouse.warehouse.orders") == [(5,)]


def have_distinct_names(drawn: Sequence[NamedTable]) -> bool:
    """False for the simplest example, which is drawn first and repeats one table."""
    return len({table.name for table in drawn}) == len(drawn)


@pytest.mark.exhaustive
@pytest.mark.generated
@given(drawn=st.lists(tables(), min_size=3, max_size=4).filter(have_distinct_names))
@settings(
    max_examples=examples(1),
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_any_names(
    source: FreshDatabase, nats_server: NATSServer, tmp_path_factory: pytest.TempPathFactory, drawn: list[NamedTable]
) -> None:
    TailedTables(source, nats_server, tmp_path_factory.mktemp("names")).run(drawn)
