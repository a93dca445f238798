"""Programs that read a warehouse while continuous mirrors write to it: how long they wait for the file.

    python -m bench.warehouse_readers [MINUTES [SHELL]]

For MINUTES (10), one client commits 100 transactions per second over 20 tables, an eager tail publishes them, and
continuous mirrors apply them. Two programs read, each in its own process: a notebook, which calls `open_warehouse`,
queries, closes and thinks for a moment; and the DuckDB shell, which is started for each query, read-only, and again
after 0.1 s if the file is locked. SHELL is its path, of DuckDB 1.4 or newer (`pip install duckdb-cli` has it); without
it, a Python process per query opens the file in the same way. At the end each mirror is compared with its table.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.synchronize
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import binlogsync
from bench.latency import DATABASE, TABLES, create_tables, tailing, write
from binlogsync import servers
from binlogsync.consume.continuous import ContinuousOptions, ContinuousPool
from binlogsync.consume.engine import ConsumeOptions
from binlogsync.consume.pool import ConsumerTask
from binlogsync.errors import ConsumeError
from binlogsync.mirror.target import Mirror
from binlogsync.mysql import TLS, MySQLConfig
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.targets.factory import open_store

RATE = 100
SOURCE = "readers"
_STORAGE = "v1.4.0"  # so that the shell of an older DuckDB can read it
_THINK_S = 0.5
_RETRY_S = 0.1
_LOCKED = "Could not set lock"
_QUERY = " UNION ALL ".join(f"SELECT {n} AS n, count(*) AS total FROM {DATABASE}.t{n}" for n in range(TABLES))
_PYTHON = "import duckdb, sys; print(duckdb.connect(sys.argv[1], read_only=True).execute(sys.argv[2]).fetchall())"
Event = multiprocessing.synchronize.Event


@dataclass(slots=True)
class ReaderReport:
    """Seconds that each read waited for the file, attempts that were refused, and what failed."""

    waits: list[float] = field(default_factory=list)
    refused: int = 0
    failures: list[str] = field(default_factory=list)

    def line(self, name: str) -> str:
        """A row of the table."""
        waits = [each * 1e3 for each in self.waits]
        return (
            f"{name:<10} {len(waits):8,} {self.refused:8,} {len(self.failures):8} {median(waits):9.1f} "
            f"{quantiles(waits, n=100, method='inclusive')[98]:9.1f} {max(waits):9.1f}"
        )


@dataclass(slots=True)
class MirrorReport:
    """Changes that were applied, and reports of failures."""

    changes: int = 0
    failures: list[str] = field(default_factory=list)


def main(minutes: float, shell: str | None) -> None:
    """Run everything, and print a table. Exits with 1 if anything failed or a mirror differs."""
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="bench-readers-") as folder,
        servers.mysql(options={"innodb_flush_log_at_trx_commit": "2", "sync_binlog": "0"}) as mysql,
        servers.nats() as server,
    ):
        path, stop, ended = Path(folder, "warehouse.duckdb"), spawn.Event(), spawn.Event()
        config = MySQLConfig(mysql.host, mysql.port, mysql.user, mysql.password, tls=TLS("disabled"))
        mirrored, reports = spawn.Queue(), spawn.Queue()
        with tailing(config, server.url, (SOURCE, "eager")):
            create_tables(mysql)
            mirrors = spawn.Process(target=_mirror, args=(server.url, path, stop, mirrored), daemon=True)
            mirrors.start()
            write(mysql, TABLES, 1)
            _wait_for_mirrors(path)
            readers = [
                spawn.Process(target=_read, args=(name, path, shell, ended, reports), daemon=True)
                for name in ("notebook", "shell")
            ]
            for each in readers:
                each.start()
            committed = len(write(mysql, RATE, 60 * minutes))
            ended.set()
            found: dict[str, ReaderReport] = dict(reports.get(timeout=120) for _ in readers)
            is_equal = _wait_until_equal(path, mysql)
            stop.set()
            applied: MirrorReport = mirrored.get(timeout=120)
    print(f"{'reader':<10} {'reads':>8} {'refused':>8} {'failed':>8} {'median ms':>9} {'p99':>9} {'max':>9}")  # noqa: T201
    for name, report in sorted(found.items()):
        print(report.line(name))  # noqa: T201
    print(  # noqa: T201
        f"mirrors: {committed:,} transactions in {minutes:g} minutes, {applied.changes:,} changes applied, "
        f"{len(applied.failures)} failures; they are {'equal to' if is_equal else 'DIFFERENT from'} MySQL"
    )
    failures = [*applied.failures, *(text for report in found.values() for text in report.failures)]
    if failures or not is_equal:
        raise SystemExit("\n".join(failures) or 1)


def _mirror(url: str, path: Path, stop: Event, reports: multiprocessing.Queue[MirrorReport]) -> None:
    """The process of the mirrors."""
    report, ending = MirrorReport(), threading.Event()
    stores = [open_store(path, 60.0, ConsumeError, _STORAGE) for _ in range(TABLES)]
    tasks = [
        ConsumerTask((DATABASE, f"t{n}"), Mirror(store, DATABASE, f"t{n}"), ConsumeOptions())
        for n, store in enumerate(stores)
    ]
    open_reader = partial(StreamReader, NatsOptions(url=url), SOURCE)
    with ContinuousPool(tasks, open_reader, ContinuousOptions(), ending) as pool:
        while not stop.is_set():
            for each in pool.reports(0.25):
                report.changes += each.done.changes if each.done else 0
                report.failures += [f"{each.table}: {each.error}"] if each.error else []
    reports.put(report)


def _read(
    name: str, path: Path, shell: str | None, ended: Event, reports: multiprocessing.Queue[tuple[str, ReaderReport]]
) -> None:
    """The process of a reader: read until the end."""
    report = ReaderReport()
    while not ended.is_set():
        try:
            if name == "notebook":
                _read_in_notebook(path, report)
            else:
                _read_in_shell(path, shell, report)
        except Exception as error:  # noqa: BLE001 - whatever fails is the result
            report.failures.append(f"{name}: {error}")
        time.sleep(_THINK_S)
    reports.put((name, report))


def _read_in_notebook(path: Path, report: ReaderReport) -> None:
    begun = time.perf_counter()
    with binlogsync.open_warehouse(path) as connection:
        report.waits.append(time.perf_counter() - begun)
        assert len(connection.execute(_QUERY).fetchall()) == TABLES


def _read_in_shell(path: Path, shell: str | None, report: ReaderReport) -> None:
    command = [sys.executable, "-c", _PYTHON, str(path), _QUERY]
    if shell is not None:
        command = [shell, "-readonly", "-init", "/dev/null", "-c", _QUERY, str(path)]
    begun = tried = time.perf_counter()
    while (done := subprocess.run(command, capture_output=True, text=True, check=False)).returncode:
        if _LOCKED not in done.stderr:
            raise RuntimeError(done.stderr)
        report.refused += 1
        time.sleep(_RETRY_S)
        tried = time.perf_counter()
    report.waits.append(tried - begun)


def _rows(path: Path) -> dict[int, int]:
    with binlogsync.open_warehouse(path) as connection:
        return dict(connection.execute(_QUERY).fetchall())


def _wait_for_mirrors(path: Path) -> None:
    """Wait until each table has its mirror."""
    ends_at = time.monotonic() + 120
    while True:
        try:
            if path.exists() and all(_rows(path).values()):
                return
        except Exception:  # noqa: BLE001 - DuckDB's error for a missing table
            if time.monotonic() > ends_at:
                raise
        if time.monotonic() > ends_at:
            raise SystemExit("the mirrors were not made")
        time.sleep(0.2)


def _wait_until_equal(path: Path, mysql: servers.MySQLServer) -> bool:
    """Whether the mirrors have all rows within a minute after the last commit."""
    with mysql.connect(autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(_QUERY)
        wanted = {int(row[0]): int(row[1]) for row in cursor.fetchall()}
    ends_at = time.monotonic() + 60
    while (found := _rows(path)) != wanted and time.monotonic() < ends_at:
        time.sleep(0.2)
    return found == wanted


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 10.0, sys.argv[2] if len(sys.argv) > 2 else None)
