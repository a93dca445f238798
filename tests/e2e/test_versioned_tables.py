"""Mirrors of versioned tables and sequences of MariaDB: equal to SELECT, and read from the server once at most."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from binlogsync.servers import NATSServer
from tests.databases import FreshDatabase
from tests.e2e.test_generated_columns import GeneratedColumnsScenario, tailed
from tests.versioned_tables import COLUMNS, TABLES, change, naive

_MIRRORED = ("hidden", "keyless", "declared", "hashed")


@pytest.fixture
def scenario(mariadb: FreshDatabase, nats_server: NATSServer, tmp_path: Path) -> Iterator[GeneratedColumnsScenario]:
    """A tail of the database."""
    mariadb.execute("SET time_zone = '+00:00'")
    with tailed(mariadb, nats_server, tmp_path) as found:
        yield found


def test_a_mirror_is_not_read_again_in_each_run(
    scenario: GeneratedColumnsScenario, caplog: pytest.LogCaptureFixture
) -> None:
    mariadb = scenario.mariadb
    for table in _MIRRORED:
        mariadb.execute(f"CREATE TABLE {table} {TABLES[table]}")
        change(mariadb, table, 1)
    for table in _MIRRORED:
        scenario.mirrored(table, scenario.config)
    for table in _MIRRORED:
        change(mariadb, table, 10)
    with caplog.at_level(logging.INFO):
        caplog.clear()
        for table in _MIRRORED:
            columns, rows = scenario.mirrored(table, scenario.config)
            wanted_columns, wanted = scenario.wanted(table, *COLUMNS[table])
            assert columns == wanted_columns
            assert [naive(row) for row in rows] == [naive(row) for row in wanted]
        assert [record.getMessage() for record in caplog.records if ": rebuilding from " in record.getMessage()] == []
    scenario.verified("declared")


def test_a_mirror_of_a_sequence_has_one_row(scenario: GeneratedColumnsScenario) -> None:
    mariadb = scenario.mariadb
    mariadb.execute("CREATE SEQUENCE q CACHE 2")
    some = ["SELECT NEXTVAL(q)"] * 3
    for statements in (
        [*some, "DO SETVAL(q, 5000)"],
        ["ALTER SEQUENCE q RESTART 7000 MINVALUE -5"],
        ["SELECT NEXTVAL(q)", "CREATE OR REPLACE SEQUENCE q START 9", *some],
    ):
        for statement in statements:
            mariadb.execute(statement)
        columns, rows = scenario.mirrored("q", scenario.config)
        assert (columns, rows) == scenario.wanted("q", *columns)
        assert len(rows) == 1
    scenario.verified("q")
