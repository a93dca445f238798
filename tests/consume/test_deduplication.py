"""Deduplication of redelivered changes with SQLite, DuckDB, MySQL and Redis."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import duckdb
import pymysql
import pytest
import redis

from binlogsync.change import RowChange
from binlogsync.consume.deduplication import RedisSeenIds, SeenIds
from binlogsync.errors import ConfigError
from binlogsync.servers import RedisServer
from tests.databases import FreshDatabase
from tests.samples import sample_batch

FIRST, SECOND = list(sample_batch(2).changes())


@pytest.fixture(params=["sqlite", "duckdb", pytest.param("mysql", marks=pytest.mark.server)])
def connection(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "mysql":
        database: FreshDatabase = request.getfixturevalue("mysql")
        server = database.server
        opened: Any = pymysql.connect(
            host=server.host, port=server.port, user=server.user, password=server.password, database=database.name
        )
    else:
        opened = sqlite3.connect(":memory:") if request.param == "sqlite" else duckdb.connect()
    with closing(opened):
        execute(opened, "CREATE TABLE effects (id VARCHAR(300))")
        opened.commit()
        yield opened


def execute(connection: Any, sql: str) -> list[Any]:
    cursor = connection if "duckdb" in type(connection).__module__ else connection.cursor()
    cursor.execute(sql)
    return list(cursor.fetchall()) if sql.startswith("SELECT") else []


def effect(connection: Any, seen: SeenIds, change: RowChange, fails: bool = False) -> None:
    with seen.once(change) as is_first:
        if is_first:
            execute(connection, f"INSERT INTO effects VALUES ('{change.id}')")
        if fails:
            raise RuntimeError("not today")


def effects(connection: Any) -> list[str]:
    return [row[0] for row in execute(connection, "SELECT id FROM effects")]


def test_an_effect_and_its_mark_are_there_together_or_not_at_all(connection: Any) -> None:
    seen = SeenIds(connection)
    with pytest.raises(RuntimeError):
        effect(connection, seen, FIRST, fails=True)
    assert effects(connection) == []
    for change in (FIRST, FIRST, SECOND, FIRST):
        effect(connection, seen, change)
    effect(connection, SeenIds(connection), SECOND)
    assert effects(connection) == [FIRST.id, SECOND.id]


def test_scopes_and_forgetting(connection: Any) -> None:
    effect(connection, SeenIds(connection, "a"), FIRST)
    effect(connection, SeenIds(connection, "b"), FIRST)
    assert effects(connection) == [FIRST.id] * 2
    SeenIds(connection, "a").forget()
    effect(connection, SeenIds(connection, "a"), FIRST)
    assert effects(connection) == [FIRST.id] * 2
    SeenIds(connection, "a").forget(older_than_s=-1)
    effect(connection, SeenIds(connection, "a"), FIRST)
    effect(connection, SeenIds(connection, "b"), FIRST)
    assert effects(connection) == [FIRST.id] * 3


def test_connections_that_cannot_promise_it_are_refused() -> None:
    with (
        closing(sqlite3.connect(":memory:", isolation_level=None)) as by_itself,
        pytest.raises(ConfigError, match="auto"),
    ):
        SeenIds(by_itself)
    with pytest.raises(ConfigError, match="is not supported by SeenIds"):
        SeenIds(object())


def test_redis_marks_behind_the_effect(redis_server: RedisServer) -> None:
    with closing(redis.Redis(host=redis_server.host, port=redis_server.port, password=redis_server.password)) as client:
        seen = RedisSeenIds(client, "test", keep_s=60)
        found = []
        for fails in (True, False, False):
            try:
                with seen.once(FIRST) as is_first:
                    found.append(is_first)
                    if fails:
                        raise RuntimeError("not today")
            except RuntimeError:
                pass
        assert found == [True, True, False]
