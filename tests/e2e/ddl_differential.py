"""Random DDL on a server, and mirrors of its tables compared with SELECT after every few statements.

    python -m tests.e2e.ddl_differential --server mysql --statements 5000 --seed 7 [--lower-case-table-names 1]

The short run of the suite is tests/e2e/test_ddl_differential.py.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from binlogsync import servers
from binlogsync.servers import MariaDBServer
from binlogsync.servers.database import DatabaseServer
from tests.databases import FreshDatabase, fresh_database
from tests.e2e.ddl_statements import DdlStatements
from tests.e2e.mirrored_tables import MirroredTables, Table, mirrored_tables, server_rows
from tests.e2e.statements import MIRRORED

GROUP = 12
SERVERS: dict[str, Callable[..., AbstractContextManager[DatabaseServer]]] = {
    "mysql": servers.mysql,
    "mariadb": servers.mariadb,
    "mariadb-10.11": partial(servers.mariadb, release="10.11"),
}


@dataclass
class DifferentialResult:
    """Numbers of executed and refused statements, and why mirrors reread their tables from the server."""

    done: int = 0
    refused: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def run_differential(
    database: FreshDatabase, nats_url: str, folder: Path, statements: int, seed: int, *, folds_names: bool = False
) -> DifferentialResult:
    """Execute the statements. Raises AssertionError, with the last ones, when a mirror differs."""
    result = DifferentialResult()
    with mirrored_tables(database, nats_url, folder, include=(f"{database.name}_b.*",)) as mirrors:
        source = DdlStatements(database, seed, folder, folds_names=folds_names)
        tables = [*((database.name, name) for name in MIRRORED), (source.other, "b0")]
        while source.done < statements:
            begin, goal = len(source.log), source.done + GROUP
            while source.done < goal:
                source.step()
            group = source.log[begin:]
            _compare(database, mirrors, tables, group)
            for reasons in mirrors.take_reads().values():
                result.reasons.update(re.sub(r"t_[0-9a-f]{8}", "db", reason.partition(":")[0]) for reason in reasons)
    result.done, result.refused = source.done, source.refused
    return result


def _compare(database: FreshDatabase, mirrors: MirroredTables, tables: list[Table], group: list[str]) -> None:
    mirrors.drain(tables)
    mariadb = isinstance(database.server, MariaDBServer)
    with database.server.connect() as connection:
        with connection.cursor() as cursor:
            cursor.execute("SET time_zone = '+00:00'")
        for table in tables:
            wanted, found = server_rows(connection, table, mariadb=mariadb), mirrors.rows(table)
            if found != wanted:
                statements = "\n".join(group)
                raise AssertionError(f"{'.'.join(table)}\nmirror: {found}\nserver: {wanted}\nafter:\n{statements}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", choices=list(SERVERS), default="mysql")
    parser.add_argument("--statements", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lower-case-table-names", choices=["0", "1"], default="0")
    arguments = parser.parse_args()
    options = {"lower_case_table_names": "1"} if arguments.lower_case_table_names == "1" else {}
    folds = arguments.lower_case_table_names == "1"
    with ExitStack() as stack:
        server, nats = (
            stack.enter_context(SERVERS[arguments.server](options=options)),
            stack.enter_context(servers.nats()),
        )
        database = stack.enter_context(fresh_database(server))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        result = run_differential(database, nats.url, folder, arguments.statements, arguments.seed, folds_names=folds)
    print(f"{result.done} statements, {result.refused} refused; new reads: {dict(result.reasons.most_common())}")  # noqa: T201


if __name__ == "__main__":
    main()
