"""Every sample of every type equals SELECT, in every image and form, on every server."""

from __future__ import annotations

import pytest

from tests.binlog.exact.compare import ComparisonCounts, compare_filled, sample_rows
from tests.binlog.exact.type_sample import MARIADB, MARIADB_10, MYSQL
from tests.binlog.exact.type_samples import tables
from tests.databases import FreshDatabase


def _check(database: FreshDatabase, server: str, report: list[str], unlike: str = "") -> None:
    tally = ComparisonCounts()
    work = [(f"s{i}", columns, sample_rows(columns)) for i, columns in enumerate(tables(server, unlike))]
    compare_filled(database, tally, work)
    report.append(tally.line(f"type samples on {server}"))
    assert not tally.differences, "\n".join(tally.differences[:40])


def test_on_mysql(mysql: FreshDatabase, report: list[str]) -> None:
    _check(mysql, MYSQL, report)


def test_types_of_mariadb_alone(mariadb: FreshDatabase, report: list[str]) -> None:
    _check(mariadb, MARIADB, report, unlike=MYSQL)


@pytest.mark.exhaustive
def test_on_mariadb(mariadb: FreshDatabase, report: list[str]) -> None:
    _check(mariadb, MARIADB, report)


@pytest.mark.exhaustive
def test_on_mariadb_10(mariadb_10: FreshDatabase, report: list[str]) -> None:
    _check(mariadb_10, MARIADB_10, report)
