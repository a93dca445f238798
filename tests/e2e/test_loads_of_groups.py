"""Mirrors that change together are loaded side by side."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from binlogsync.codec.subjects import stream_name
from binlogsync.consume.engine import consume_together
from binlogsync.errors import ConsumeError
from binlogsync.mirror.side_by_side import load_side_by_side
from binlogsync.mirror.target import Mirror
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.servers import NATSServer
from binlogsync.snapshot.throttle import LoadLimits
from binlogsync.targets.duckdb.file import META_SCHEMA, DuckFile
from tests.databases import FreshDatabase
from tests.e2e.held_loads import held_loads
from tests.e2e.loads import OPTIONS, Loads, check_equal, create_table, loads
from tests.nats_commands import purge_stream

pytestmark = pytest.mark.usefixtures("small_chunks")


@pytest.fixture
def scenario(mysql: FreshDatabase, nats_server: NATSServer, tmp_path: Path) -> Iterator[Loads]:
    create_table(mysql)
    mysql.execute("CREATE TABLE u LIKE t")
    mysql.execute("INSERT INTO u SELECT * FROM t")
    with loads(mysql, nats_server.url, tmp_path) as running:
        mysql.execute("CREATE TABLE other (id INT PRIMARY KEY)")  # the stream has a checkpoint
        running.tail.catch_up()
        yield running


def count_loads(scenario: Loads) -> int:
    """Number of loads that have stored rows, and are not complete."""
    with DuckFile(scenario.path).transaction() as connection:
        if connection.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'loads'").fetchone() == (0,):
            return 0
        [(count,)] = connection.execute(f"SELECT count(*) FROM {META_SCHEMA}.loads WHERE row_count > 0").fetchall()
        return int(count)


@pytest.mark.server
@pytest.mark.parametrize("is_quiet", [True, False], ids=["quiet tables", "changed tables"])
def test_the_tables_of_a_group_are_loaded_side_by_side(scenario: Loads, is_quiet: bool) -> None:
    database = scenario.database
    if is_quiet:
        purge_stream(scenario.nats_url, stream_name(scenario.config.source), 1)
    mirrors = {(database.name, name): scenario.mirror(name) for name in ("t", "u")}

    def load() -> None:
        with StreamReader(NatsOptions(url=scenario.nats_url), scenario.config.source) as reader:
            consume_together(reader, mirrors, replace(OPTIONS, idle_s=1.0), threading.Event())

    change = "UPDATE t JOIN u USING (a, b) SET t.v = t.v + {0}, u.v = u.v + {0} WHERE a < 40"
    if not is_quiet:
        database.execute(change.format(1))
        scenario.catch_up()
    loading = threading.Thread(target=load, daemon=True)
    with held_loads() as held:
        loading.start()
        held.wait(loading, tables=2)
        assert count_loads(scenario) == 2
        database.execute(change.format(1000))
        held.release(loading)
    for name in ("t", "u"):
        check_equal(scenario, name)


def mirrors_of(path: Path, count: int, limits: LoadLimits) -> list[Mirror]:
    return [Mirror(path, "shop", f"t{number}", limits=limits) for number in range(count)]


def test_no_more_loads_run_at_the_same_time_than_allowed(tmp_path: Path) -> None:
    both, guard = threading.Barrier(2, timeout=30), threading.Lock()
    running: list[int] = []
    most = 0

    def load() -> None:
        nonlocal most
        with guard:
            running.append(1)
            most = max(most, len(running))
        both.wait()  # breaks unless two run at the same time
        with guard:
            running.pop()

    limits = LoadLimits(group_tables=2)
    load_side_by_side([(one, load) for one in mirrors_of(tmp_path / "m.duckdb", 6, limits)])
    assert most == 2


def test_a_failed_load_does_not_end_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    has_failed, loaded = threading.Event(), threading.Event()

    def fail() -> None:
        has_failed.set()
        raise ConsumeError("no such column")

    def load() -> None:
        assert has_failed.wait(30)
        loaded.set()

    mirrors = mirrors_of(tmp_path / "m.duckdb", 2, LoadLimits())
    stores = [one.tables for one in mirrors]
    with pytest.raises(ConsumeError, match="no such column"):
        load_side_by_side(list(zip(mirrors, (fail, load), strict=True)))
    assert loaded.is_set()
    assert "shop.t0: no such column; the other tables of its group continue to load" in caplog.text
    assert [one.tables for one in mirrors] == stores
