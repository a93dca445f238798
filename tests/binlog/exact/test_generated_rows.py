"""Generated rows equal SELECT: many types in one row, NULLs in any column; and tables of any width."""

from __future__ import annotations

import random
import secrets

import pytest
from hypothesis import HealthCheck, given, settings

from tests.binlog.exact.compare import ComparisonCounts, compare_filled
from tests.binlog.exact.generated import Generated, groups, rows_of
from tests.binlog.exact.type_sample import MARIADB, MYSQL, TypeSample
from tests.databases import FreshDatabase
from tests.examples import examples

_ROWS, _EXAMPLES = 12, 2


def _check(database: FreshDatabase, server: str, report: list[str]) -> None:
    tally = ComparisonCounts()
    for columns in groups(server):
        _run(database, tally, columns)
    report.append(tally.line(f"generated rows on {server}"))


def _run(database: FreshDatabase, tally: ComparisonCounts, columns: tuple[Generated, ...]) -> None:
    @settings(
        max_examples=examples(_EXAMPLES),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(rows_of(columns, _ROWS))
    def run(rows: list[list[str]]) -> None:
        name = f"g{secrets.token_hex(5)}"
        compare_filled(database, tally, [(name, tuple(sample for sample, _ in columns), rows)])
        assert not tally.differences, "\n".join(tally.differences[:20])

    run()


@pytest.mark.generated
def test_on_mysql(mysql: FreshDatabase, report: list[str]) -> None:
    _check(mysql, MYSQL, report)


@pytest.mark.exhaustive
@pytest.mark.generated
def test_on_mariadb(mariadb: FreshDatabase, report: list[str]) -> None:
    _check(mariadb, MARIADB, report)


_NARROW_ROWS = 5
_NARROW = (
    TypeSample("VARCHAR(9)", "text", ("'a'", "''", "'\u00e4\u20ac'")),
    TypeSample("SMALLINT", "integer", ("-1", "0", "32767")),
    TypeSample("DECIMAL(5,2)", "decimal", ("-1.25", "999.99")),
    TypeSample("DATE", "date", ("'2024-02-29'", "'0000-00-00'")),
)


@pytest.mark.parametrize("width", [1, 8, 9, 65, pytest.param(300, marks=pytest.mark.exhaustive), 1015])
def test_tables_of_any_width(mysql: FreshDatabase, width: int) -> None:
    """InnoDB allows at most 1,017 columns, and has no room for text in a row of that many."""
    some = _NARROW if width <= 300 else _NARROW[1:]
    columns = tuple(some[k % len(some)] for k in range(width))
    chance = random.Random(width)
    rows = [[sample.literal(chance.randrange(9)) for sample in columns] for _ in range(_NARROW_ROWS)]
    tally = ComparisonCounts()
    compare_filled(mysql, tally, [("wide", columns, rows)])
    assert tally.compared["json"] == 4 * _NARROW_ROWS * width
    assert not tally.differences, tally.differences[:20]
