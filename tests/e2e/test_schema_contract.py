"""Frozen columns of mirrors with real servers: a change of columns blocks the mirror until it is accepted."""

from __future__ import annotations

import threading

import pytest

from binlogsync.cli.main import main
from binlogsync.consume.engine import consume_together
from binlogsync.mirror.contract import FrozenColumnsError, accept_columns
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.targets.duckdb.store import DuckStore
from binlogsync.targets.mirror_options import MirrorOptions
from tests.e2e.loads import OPTIONS, Loads
from tests.e2e.mirror_policies import drain, rows, verify
from tests.e2e.mirror_policies import on_mysql as on_mysql
from tests.e2e.mirror_policies import scenario as scenario

pytestmark = [pytest.mark.server, pytest.mark.slow]


def test_frozen_columns_block_the_mirror_until_they_are_accepted(scenario: Loads) -> None:
    execute, options = scenario.database.execute, MirrorOptions(schema_contract="freeze")
    execute("CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(9))")
    execute("INSERT INTO t VALUES (1, 'a')")
    drain(scenario, "t", options)
    execute("ALTER TABLE t ADD INDEX i (a), COMMENT 'x'")
    execute("INSERT INTO t VALUES (2, 'b')")
    execute("ALTER TABLE t ADD b INT DEFAULT 7")
    execute("INSERT INTO t VALUES (3, 'c', 1)")
    refused = block(scenario, options)
    assert "ALTER TABLE t ADD b INT DEFAULT 7" in str(refused)
    assert "b int is new" in str(refused)
    assert rows(scenario, "t") == [(1, "a"), (2, "b")]
    move_on(scenario, refused)
    drain(scenario, "t", options)
    assert rows(scenario, "t") == [(1, "a", 7), (2, "b", 7), (3, "c", 1)]
    assert verify(scenario, "t").is_equal

    # Another table takes its place: its columns come from the server, or from the stream.
    execute("CREATE TABLE ghost (id INT PRIMARY KEY, a VARCHAR(9), b INT, c DATE)")
    execute("INSERT INTO ghost VALUES (9, 'new', 1, '2026-01-01')")
    execute("RENAME TABLE t TO old, ghost TO t")
    refused = block(scenario, options)
    assert "c date is new" in str(refused)
    assert len(rows(scenario, "t")) == 3
    move_on(scenario, refused)
    drain(scenario, "t", options)
    assert verify(scenario, "t").is_equal

    # Without the option, the mirror follows.
    execute("ALTER TABLE t DROP COLUMN c")
    block(scenario, options)
    drain(scenario, "t", MirrorOptions())
    assert verify(scenario, "t").is_equal


def test_columns_of_a_statement_that_needs_a_load_and_of_a_later_one_are_accepted(on_mysql: Loads) -> None:
    scenario, execute, options = on_mysql, on_mysql.database.execute, MirrorOptions(schema_contract="freeze")
    execute("CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(9))")
    execute("INSERT INTO t VALUES (1, 'a')")
    drain(scenario, "t", options)
    execute("ALTER TABLE t ADD b INT DEFAULT (id + 1)")
    execute("ALTER TABLE t ADD c INT")
    execute("INSERT INTO t VALUES (2, 'b', 1, 1)")
    first = block(scenario, options)
    move_on(scenario, first)
    second = block(scenario, options)  # the load finds the columns of both
    assert first.columns_id != second.columns_id
    move_on(scenario, second)
    drain(scenario, "t", options)
    assert rows(scenario, "t") == [(1, "a", 2, None), (2, "b", 1, 1)]
    assert verify(scenario, "t").is_equal


def test_a_group_stops_before_the_transaction_that_one_mirror_refuses(on_mysql: Loads) -> None:
    scenario, execute = on_mysql, on_mysql.database.execute
    for table in ("one", "two"):
        execute(f"CREATE TABLE {table} (id INT PRIMARY KEY)")
    mirrors = {
        (scenario.database.name, "one"): scenario.mirror("one"),
        (scenario.database.name, "two"): scenario.mirror("two", MirrorOptions(schema_contract="freeze")),
    }

    def insert(number: int) -> None:
        execute("BEGIN")
        for table in ("one", "two"):
            execute(f"INSERT INTO {table} (id) VALUES ({number})")
        execute("COMMIT")

    def consume_both() -> None:
        scenario.catch_up()
        with StreamReader(NatsOptions(url=scenario.nats_url), scenario.config.source) as reader:
            consume_together(reader, mirrors, OPTIONS, threading.Event())

    insert(1)
    consume_both()
    insert(2)
    execute("ALTER TABLE two ADD a INT")
    insert(3)
    with pytest.raises(FrozenColumnsError) as refused:
        consume_both()
    assert rows(scenario, "one") == rows(scenario, "two") == [(1,), (2,)]
    accept_columns(DuckStore(scenario.path), (scenario.database.name, "two"), refused.value.columns_id)
    consume_both()
    assert rows(scenario, "one") == [(1,), (2,), (3,)]
    assert rows(scenario, "two") == [(1, None), (2, None), (3, None)]


def test_new_columns_are_accepted_by_the_command(on_mysql: Loads, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario, options = on_mysql, MirrorOptions(schema_contract="freeze")
    given = {
        "SOURCE": scenario.config.source,
        "NATS_URL": scenario.nats_url,
        "POSITIONS_PATH": str(scenario.path.with_name("positions.db")),
    }
    for name, value in given.items():
        monkeypatch.setenv(f"BINLOGSYNC_{name}", value)
    scenario.database.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    drain(scenario, "t", options)
    name, progress = f"{scenario.database.name}.t", ["--progress", str(scenario.path), "--client", OPTIONS.client_id]
    assert main(["accept", f"{scenario.database.name}.other", "0123456789ab", *progress]) == 1
    scenario.database.execute("ALTER TABLE t ADD a INT")
    assert main(["accept", name, block(scenario, options).columns_id, *progress]) == 0
    drain(scenario, "t", options)
    assert verify(scenario, "t").is_equal


def block(scenario: Loads, options: MirrorOptions) -> FrozenColumnsError:
    """Consume until the frozen columns stop it, twice with the same error."""
    with pytest.raises(FrozenColumnsError) as first:
        drain(scenario, "t", options)
    with pytest.raises(FrozenColumnsError) as again:
        drain(scenario, "t", options)
    assert first.value.columns_id == again.value.columns_id
    return first.value


def move_on(scenario: Loads, refused: FrozenColumnsError) -> None:
    accept_columns(DuckStore(scenario.path), (scenario.database.name, "t"), refused.columns_id)
