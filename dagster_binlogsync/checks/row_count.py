"""The asset check `row_count` of a mirror: it has as many rows as the table in MySQL.

Consumer runs do not execute it, because it scans the whole table in MySQL.
"""

import threading
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import dagster as dg

from binlogsync.errors import SourceError
from binlogsync.sql_identifiers import quote_mysql
from binlogsync.targets import TableStore
from dagster_binlogsync.checks.check_step import build_check_steps, mirrors_of
from dagster_binlogsync.keys import TableName
from dagster_binlogsync.resource_keys import ResourceKeys
from dagster_binlogsync.table_asset import TableAsset

if TYPE_CHECKING:
    from binlogsync.mysql.config import MySQLConfig

ATTEMPTS = 10
WAIT_S = 2.0
ADVICE = "; changes may still be in flight. If the counts stay different, rebuild the mirror."


def build_row_count_checks(
    source: str, tables: Sequence[TableAsset], keys: ResourceKeys
) -> list[dg.AssetChecksDefinition]:
    """The check `row_count` of the mirrors of a source; none if it has no mirrors."""
    mirrors = mirrors_of(tables)
    return build_check_steps(
        "row_count",
        source,
        mirrors,
        lambda name: (
            f"The mirror has as many rows as {name.markdown} in MySQL. Scans the whole table in MySQL, so it is only "
            "evaluated when you execute it."
        ),
        lambda _, resources, table: row_count(
            table.name, resources.mysql.config(table.name.source), resources.warehouse.file()
        ),
        keys.require(("mysql", "warehouse")),
        keys,
    )


def row_count(name: TableName, mysql: "MySQLConfig", tables: TableStore) -> dg.AssetCheckResult:
    """Compare the row counts. Repeats while they differ, because changes may still be in flight."""
    pause = threading.Event()
    for attempt in range(ATTEMPTS):
        if attempt:
            pause.wait(WAIT_S)
        in_mysql = _count_in_mysql(name, mysql)
        in_mirror = _count_in_mirror(name, tables)
        if in_mysql == in_mirror:
            break
    if in_mirror is None:
        mirror = "keeps the rows of the dropped table" if _is_kept(name, tables) else "does not exist"
    else:
        mirror = f"has {in_mirror}"
    source = "has no such table" if in_mysql is None else f"has {in_mysql} row(s)"
    return dg.AssetCheckResult(
        passed=in_mysql == in_mirror,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"MySQL {source}, the mirror {mirror}{'.' if in_mysql == in_mirror else ADVICE}",
        metadata={"mysql": in_mysql or 0, "mirror": in_mirror or 0, "attempts": attempt + 1},
    )


def _count_in_mirror(name: TableName, tables: TableStore) -> int | None:
    """Rows of the mirror without soft-deleted ones. None if the mirror does not exist yet."""
    with tables.begin() as transaction:
        if transaction.load_mirror(name.database, name.table).schema is None:
            return None
        return transaction.count_rows(name.database, name.table, with_deleted=False)


def _is_kept(name: TableName, tables: TableStore) -> bool:
    """Whether the table of the mirror is one that MySQL has dropped, which stays by its policy (`on_drop`)."""
    with tables.begin() as transaction:
        return transaction.load_mirror(name.database, name.table).policies.kept_us is not None


def _count_in_mysql(name: TableName, mysql: "MySQLConfig") -> int | None:
    """Rows of the table in MySQL. None if there is no such table."""
    from binlogsync.mysql.config import connect, error_code, fetch_row
    from binlogsync.mysql.table_errors import MISSING

    table = quote_mysql(name.database, name.table)
    try:
        with closing(connect(mysql)) as connection:
            return int(fetch_row(mysql, connection, f"SELECT COUNT(*) AS n FROM {table}")["n"])
    except SourceError as error:
        if error_code(error) in MISSING:
            return None
        raise
