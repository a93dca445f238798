"""`python -m bench.table_reading`: reads all rows of a table of 12 columns, side by side with other readers.

Each measurement runs in its own process, which imports and compiles before it starts, and the variants are
interleaved. connectorx, and DuckDB's MySQL scanner with the version of DuckDB that it belongs to, are no dependencies;
`--extras` is a folder in which they were installed:

    uv pip install --target FOLDER --no-deps connectorx duckdb-extension-mysql-scanner==VERSION duckdb==VERSION
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from bench import table_readers
from bench.table_readers import Login
from binlogsync import servers
from binlogsync.servers.mysql import MySQLServer

_TABLE = """
CREATE TABLE bench.orders (
    id BIGINT UNSIGNED NOT NULL PRIMARY KEY, a INT NOT NULL, amount DECIMAL(12,2) NOT NULL, at DATETIME(6) NOT NULL,
    day DATE, opens TIME, v VARCHAR(60) NOT NULL, note TEXT, f DOUBLE, b BIT(8),
    state ENUM('new','paid','sent','done','void') NOT NULL, token VARBINARY(16)
) CHARACTER SET utf8mb4"""
_FILL = """
INSERT INTO bench.orders WITH RECURSIVE n (i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last})
SELECT i, i * 7919 % 2000000 - 1000000, (i * 104729 % 20000000 - 10000000) / 100,
    TIMESTAMPADD(MICROSECOND, i * 7777777 % 1000000000000, '2024-01-01'),
    IF(i % 10 = 0, NULL, ADDDATE('2000-01-01', i % 9000)), SEC_TO_TIME(i % 80000), CONCAT('customer ', i % 99991, ' é'),
    IF(i % 10 = 1, NULL, CONCAT('a note of some length about order ', i, ', ', LEFT(SHA2(i, 224), 40))), i / 7, i % 256,
    1 + i % 5, UNHEX(LEFT(SHA2(i, 224), 32)) FROM n"""
_ROWS_A_STATEMENT = 50_000
VARIANTS: dict[str, Callable[[Login], int]] = {
    "socket read and dropped (the same bytes)": table_readers.drain,
    "binlogsync": table_readers.read_ours,
    "pymysql rows to Arrow (before)": table_readers.read_with_pymysql,
    "connectorx": table_readers.read_with_connectorx,
    "binlogsync into DuckDB": table_readers.load_ours,
    "DuckDB's scanner into DuckDB": table_readers.load_with_scanner,
}
_OPTIONAL = {"connectorx": "connectorx", "DuckDB's scanner into DuckDB": "duckdb_extension_mysql_scanner"}
_SCANNER = "DuckDB's scanner into DuckDB"


def main() -> None:
    """Fill the table, run all variants, and print medians and ratios; or run one variant, for the main process."""
    parser = argparse.ArgumentParser(prog="python -m bench.table_reading", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--extras", type=Path, help="folder with connectorx and DuckDB's scanner")
    parser.add_argument("--only", nargs="*", help="variants that contain one of these words")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _run_child(json.loads(options.child))
        return
    with servers.mysql(options={"innodb_buffer_pool_size": "1G", "sync_binlog": "0"}) as server:
        _fill(server, options.rows)
        names = [name for name in VARIANTS if not options.only or any(word in name for word in options.only)]
        names = [name for name in names if name not in _OPTIONAL or _is_installed(options.extras, _OPTIONAL[name])]
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for _ in range(options.repetitions):
            for name in names:
                found[name].append(_measure(server, name, options.extras, options.rows))
    sys.stdout.write("\n".join(_report(found, options.rows)) + "\n")


def _fill(server: MySQLServer, rows: int) -> None:
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE bench")
        cursor.execute("USE bench")
        cursor.execute(_TABLE)
        cursor.execute("SET SESSION cte_max_recursion_depth = 1000000")
        for first in range(1, rows + 1, _ROWS_A_STATEMENT):
            cursor.execute(_FILL.format(first=first, last=min(first + _ROWS_A_STATEMENT - 1, rows)))
        connection.commit()
        cursor.execute("SELECT SUM(a) FROM bench.orders")  # into the buffer pool


def _is_installed(extras: Path | None, package: str) -> bool:
    return extras is not None and (extras / package).exists()


def _measure(server: MySQLServer, name: str, extras: Path | None, rows: int) -> dict[str, Any]:
    """Run one variant in its own process."""
    environment = dict(os.environ)
    if name in _OPTIONAL:
        environment["PYTHONPATH"] = str(extras)
    with tempfile.TemporaryDirectory(prefix="bench-table-") as folder:
        login = [server.host, server.port, server.user, server.password, folder]
        command = [sys.executable, "-m", "bench.table_reading", "--child", json.dumps([name, login])]
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
        result: dict[str, Any] = json.loads(done.stdout)
        result["file"] = sum(file.stat().st_size for file in Path(folder).iterdir())
    if result["rows"] != rows:
        raise SystemExit(f"{name}: {result['rows']} rows read of {rows}")
    return result


def _run_child(given: list[Any]) -> None:
    name, login = given[0], Login(*given[1])
    read = VARIANTS[name]
    table_readers.prepare(login, name)
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    rows = read(login)
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    sys.stdout.write(json.dumps({"rows": rows, "seconds": seconds, "cpu": cpu}))


def _report(found: dict[str, list[dict[str, Any]]], rows: int) -> Iterator[str]:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    yield f"{rows:,} rows x 12 columns; medians of {len(next(iter(found.values())))}; load {load}"
    yield f"  {'':42}{'seconds':>9}{'rows/s':>11}{'client CPU s per M':>20}{'MB of file':>12}"
    rates = {}
    for name, results in found.items():
        seconds, cpu = (median(result[key] for result in results) for key in ("seconds", "cpu"))
        rates[name] = rows / seconds
        size = f"{results[0]['file'] / 1e6:12,.0f}" if results[0]["file"] else ""
        yield f"  {name:42}{seconds:9.2f}{rates[name]:11,.0f}{cpu / rows * 1e6:20.2f}{size}"
    names = list(VARIANTS)
    for ours, other in ((1, 0), (1, 3), (1, 2), (4, 5)):
        if names[ours] in rates and names[other] in rates:
            ratio = rates[names[ours]] / rates[names[other]]
            yield f"  {names[ours]}: {ratio:.2f} of {names[other]}"


if __name__ == "__main__":
    main()
