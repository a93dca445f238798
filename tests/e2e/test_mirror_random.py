"""Mirrors survive hundreds of random statements, DML and DDL, and equal SELECT at points between and at the end."""

from __future__ import annotations

import os
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from binlogsync.consume.engine import ConsumeOptions
from binlogsync.mirror import apply as mirror
from binlogsync.mirror.target import Mirror
from binlogsync.mysql import MySQLConfig, resolve_start
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.servers import NATSServer
from binlogsync.stores.memory import MemoryPositionStore
from binlogsync.targets.duckdb.file import quote
from binlogsync.targets.mirror_state import MirrorOptions
from tests.databases import MARIADB_TOO, FreshDatabase
from tests.duck import query
from tests.e2e.statements import MIRRORED, RandomStatements, ServerColumn
from tests.e2e.tailing import TailThread, config_of, drain, options_of, stream_sink

STATEMENTS = int(os.environ.get("BINLOGSYNC_RANDOM_STATEMENTS", "150"))
SEED = int(os.environ.get("BINLOGSYNC_RANDOM_SEED", "1"))
STOPS = 3
GONE = "gone at"


@pytest.fixture(params=["mysql", MARIADB_TOO])
def database(request: pytest.FixtureRequest) -> FreshDatabase:
    found: FreshDatabase = request.getfixturevalue(request.param)
    return found


class MirrorSet:
    """A mirror of each table, in one file."""

    def __init__(
        self,
        nats: NATSServer,
        config: MySQLConfig,
        database: str,
        path: Path,
        options: MirrorOptions = mirror.DEFAULT_OPTIONS,
    ) -> None:
        self.path = path
        self._stack = ExitStack()
        self._reader = self._stack.enter_context(StreamReader(NatsOptions(url=nats.url), config.source))
        self._targets = {name: Mirror(path, database, name, config, options) for name in MIRRORED}
        self._database = database

    def drain(self) -> None:
        options = ConsumeOptions(client_id=self.path.stem, idle_s=0.02, gather_s=0.02)
        for name, target in self._targets.items():
            drain(self._reader, (self._database, name), target, options)

    def close(self) -> None:
        self._stack.close()


def mirror_value(field: ServerColumn, value: Any) -> Any:
    """Convert a value of pymysql to the value in a mirror."""
    if value is None:
        return None
    if field.kind in ("date", "datetime", "timestamp") and isinstance(value, str):
        return None  # a zero date, which INSERT IGNORE makes
    if field.kind == "set":
        return value.split(",") if value else []
    if field.kind == "bit":
        number = int.from_bytes(value, "big")
        return bool(number) if field.declared == "bit(1)" else number
    if field.kind == "decimal" and int(field.declared.partition("(")[2].partition(",")[0]) > 38:
        return f"{value:f}"
    return value


def server_rows(statements: RandomStatements, table: str) -> list[str] | None:
    """The rows of SELECT; None without the table."""
    fields = statements.mirrored_fields(table)
    if not fields:
        return None
    wanted = ", ".join(f"`{f.name}`" + (" + 0e0" if f.kind == "float" else "") for f in fields)
    rows = statements.database.execute(f"SELECT {wanted} FROM {table}")
    names = [field.name for field in fields]
    return [repr(names), *sorted(repr([mirror_value(f, v) for f, v in zip(fields, row, strict=True)]) for row in rows)]


def mirrored_rows(path: Path, database: str, table: str, where: str = "true") -> list[str] | None:
    """The rows of the mirror, without its additional columns."""
    columns = query(
        path,
        "SELECT column_name FROM duckdb_columns() "
        f"WHERE schema_name = '{database}' AND table_name = '{table}' AND column_name <> '{GONE}' "
        "ORDER BY column_index",
    )
    if not columns:
        return None
    names = ", ".join(quote(name) for (name,) in columns)
    rows = query(path, f"SELECT {names} FROM {quote(database, table)} WHERE {where}")
    return [repr([name for (name,) in columns]), *sorted(repr([_without_zone(value) for value in row]) for row in rows)]


def check_history(statements: RandomStatements, path: Path) -> None:
    """In mirrors with soft deletes and history, the rows that are not deleted and the open versions equal SELECT."""
    for table in MIRRORED:
        wanted = server_rows(statements, table)
        found = mirrored_rows(path, statements.database.name, table, f"{quote(GONE)} IS NULL")
        assert found == wanted, _describe_difference(statements, table, found, wanted)
        if wanted is None:
            continue
        history = quote(statements.database.name, f"{table}__history")
        names = ", ".join(quote(field.name) for field in statements.mirrored_fields(table))
        if len(wanted) > 1:
            rows = query(path, f"SELECT {names} FROM {history} WHERE valid_to IS NULL")
            open_versions = sorted(repr([_without_zone(value) for value in row]) for row in rows)
            assert open_versions == wanted[1:], f"history of {table}"


def _without_zone(value: Any) -> Any:
    """A TIMESTAMP without its zone (UTC), as SELECT returns it."""
    return value.replace(tzinfo=None) if isinstance(value, datetime) else value


@pytest.mark.slow
def test_random_statements(database: FreshDatabase, nats_server: NATSServer, tmp_path: Path) -> None:
    run_random(database, nats_server, tmp_path, SEED)


def run_random(database: FreshDatabase, nats_server: NATSServer, tmp_path: Path, seed: int) -> RandomStatements:
    config = config_of(database.server, f"random-{database.name}")
    start = str(resolve_start(config, "now").position)
    path = tmp_path / "mirrors.duckdb"
    options = options_of(config.source, database.name, start=start)
    with TailThread(config, [stream_sink(nats_server.url)], MemoryPositionStore(), options) as tail:
        statements = RandomStatements(database, seed)
        tail.catch_up()
        mirrors = MirrorSet(nats_server, config, database.name, path)
        keeping = MirrorSet(nats_server, config, database.name, tmp_path / "kept.duckdb", MirrorOptions(GONE, True))
        for stop in range(1, STOPS + 1):
            while statements.done < STATEMENTS * stop // STOPS:
                statements.step()
            tail.catch_up()
            mirrors.drain()
            for table in MIRRORED:
                wanted, found = server_rows(statements, table), mirrored_rows(path, database.name, table)
                assert found == wanted, _describe_difference(statements, table, found, wanted)
            if stop == STOPS:
                keeping.drain()
                check_history(statements, keeping.path)
        mirrors.close()
        keeping.close()
    assert statements.refused < statements.done / 2
    return statements


def _describe_difference(
    statements: RandomStatements, table: str, found: list[str] | None, wanted: list[str] | None
) -> str:
    """The difference, and the statements about the table."""
    here, there = found or [], wanted or []
    differs = [f"only here:  {row}" for row in here if row not in there][:5]
    differs += [f"only there: {row}" for row in there if row not in here][:5]
    said = [sql for sql in statements.log if table in sql and not sql.startswith("--")][-40:]
    return "\n".join([f"{table}, {len(here)} rows instead of {len(there)}", *differs, *said])
