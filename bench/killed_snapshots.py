"""Publishes a snapshot of five tables under random writers, kills the tail twice, fails over once, and compares.

    python -m bench.killed_snapshots [ROWS]

ROWS (3,000,000) is the sum of the rows of the tables. `binlogsync tail` runs as a process, which is killed (SIGKILL)
twice while it publishes rows; then the server is killed too, and its replica takes over. At the end, the rows that a
handler has kept and those of a mirror, both from the stream alone, are compared with a SELECT of each table. Prints
what happens with the seconds since the start.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow as pa

from bench import killed_loads as load
from binlogsync import servers
from binlogsync.consume.engine import ConsumeOptions, consume
from binlogsync.consume.handler import Handler
from binlogsync.consume.targets import Target
from binlogsync.mirror.target import Mirror
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.snapshot.requests import SnapshotStatus
from binlogsync.snapshot.requests_nats import NatsSnapshotRequests
from binlogsync.targets.duckdb.file import DuckFile

_SHARES = {"orders": 0.4, "items": 0.3, "customers": 0.15, "places": 0.1, "notes": 0.05}
_COLUMNS = ("id", "v", "a")
_PASSWORD = "the same on both servers"  # noqa: S105 - of private servers
_NEVER = threading.Event()

Rows = dict[int, tuple[object, ...]]


def main(rows: int) -> None:
    """Run all; exits with 1 if a row differs."""
    begun = time.monotonic()

    def report(text: str) -> None:
        print(f"{time.monotonic() - begun:6.1f} s  {text}", flush=True)  # noqa: T201

    with (
        tempfile.TemporaryDirectory() as name,
        servers.mysql() as first,
        servers.mysql() as second,
        servers.nats() as nats,
    ):
        folder = Path(name)
        replicate(second, first)
        load.fill(first, rows, _SHARES)
        wait_for_all(second, first)
        report(f"{rows:,} rows in {len(_SHARES)} tables, on a server and its replica")
        with load.writing(first, rows, _SHARES) as counts:
            publish(folder, first, nats.url, rows, report)
        wait_for_all(second, first)
        first.kill()
        promote(second)
        published = status(nats.url).rows
        report(f"server killed with {published:,} rows published; {sum(counts.values()):,} statements; failing over")
        load.write_settings(folder, second, nats.url)
        with load.running(folder, "tail", "--take-over"):
            with load.writing(second, rows, _SHARES) as counts:
                load.wait(lambda: status(nats.url).has_ended)
            ended = status(nats.url)
            report(f"snapshot {ended.state} with {ended.rows:,} rows; {sum(counts.values()):,} statements after that")
            is_equal = compare(second, nats.url, folder, report)
    sys.exit(not is_equal)


def publish(folder: Path, server: servers.MySQLServer, url: str, rows: int, report: Callable[[str], None]) -> None:
    """Request the snapshot; kill the tail twice while it publishes it."""
    load.write_settings(folder, server, url)
    for number in range(2):
        with load.running(folder, "tail", "--take-over") as tail:
            if not number:
                load.wait(lambda: "reading from" in (folder / "tail.log").read_text())
                command(folder, "snapshot", "loading.*", "--no-wait")
            before = status(url).rows
            load.wait(lambda before=before: status(url).rows > before + rows // 8)
            tail.kill()
            tail.wait()
        report(f"tail killed with {status(url).rows:,} rows published")


def command(folder: Path, *arguments: str) -> str:
    """The output of a command of binlogsync."""
    line = [sys.executable, "-m", "binlogsync.cli", *arguments]
    done = subprocess.run(line, cwd=folder, env=load.clean_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{arguments}: {done.stderr}")
    return done.stdout


def status(url: str) -> SnapshotStatus:
    """The status of the only snapshot."""
    with closing(NatsSnapshotRequests(NatsOptions(url=url), "loading")) as requests:
        [stored] = requests.list()
        return stored.status


def replicate(replica: servers.MySQLServer, source: servers.MySQLServer) -> None:
    """Make `replica` a replica of `source`; the account of the tail has one password on both."""
    for server in (source, replica):
        server.cdc_password = _PASSWORD
        run(server, "SET sql_log_bin = 0", f"ALTER USER '{server.cdc_user}'@'%' IDENTIFIED BY '{_PASSWORD}'")
    run(
        replica,
        f"CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{source.host}', SOURCE_PORT = {source.port}, "
        f"SOURCE_USER = '{source.user}', SOURCE_PASSWORD = '{source.password}', SOURCE_AUTO_POSITION = 1, "
        "GET_SOURCE_PUBLIC_KEY = 1",
        "START REPLICA",
    )


def wait_for_all(replica: servers.MySQLServer, source: servers.MySQLServer) -> None:
    """Wait until the replica has executed all transactions of the source."""
    [(executed,)] = run(source, "SELECT @@GLOBAL.gtid_executed")
    if run(replica, f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{executed}', 600)") != ((0,),):
        raise SystemExit("the replica has not executed all transactions of the source")


def promote(replica: servers.MySQLServer) -> None:
    """Stop the replication."""
    run(replica, "STOP REPLICA", "RESET REPLICA ALL")


def run(server: servers.MySQLServer, *statements: str) -> tuple[tuple[object, ...], ...]:
    """Execute the statements, and return the rows of the last one."""
    with server.connect(autocommit=True) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        rows: tuple[tuple[object, ...], ...] = cursor.fetchall()
    return rows


def compare(server: servers.MySQLServer, url: str, folder: Path, report: Callable[[str], None]) -> bool:
    """Build both from the stream, and compare them with the tables."""
    is_equal = True
    path = folder / "stream.duckdb"
    for table in _SHARES:
        run(server, f"REPLACE INTO loading.{table} (id, v) VALUES (-1, -1)")  # the last change
        selected: Rows = {
            int(str(row[0])): tuple(row[1:]) for row in run(server, f"SELECT id, v, a FROM loading.{table}")
        }
        kept: Rows = {}
        target: Target
        for target in (Handler(None, keeper(kept), folder / "handler.duckdb"), Mirror(path, "loading", table)):
            name, found, counts = type(target).__name__, Rows(), Counter[str]()
            while -1 not in found:
                with StreamReader(NatsOptions(url=url), "loading") as reader:
                    done = consume(reader, ("loading", table), target, ConsumeOptions(client_id=name), _NEVER)
                counts.update(done.counts)
                found = kept if isinstance(target, Handler) else mirrored(path, table)
            wrong = sum(found.get(key) != row for key, row in selected.items()) + len(found.keys() - selected.keys())
            is_equal = is_equal and not wrong
            report(f"{table}: {name} has {len(found):,} of {len(selected):,} rows, {wrong} differ ({dict(counts)})")
    return is_equal


def keeper(kept: Rows) -> Callable[[pa.RecordBatch], None]:
    """A handler that keeps the current rows."""

    def keep(batch: pa.RecordBatch) -> None:
        before, after = (
            list(zip(*(batch.column(image).field(name).to_pylist() for name in _COLUMNS), strict=True))
            for image in ("before", "after")
        )
        for op, old, new in zip(batch.column("op").to_pylist(), before, after, strict=True):
            if op in ("u", "d"):
                kept.pop(old[0], None)
            if op != "d":
                kept[new[0]] = new[1:]

    return keep


def mirrored(path: Path, table: str) -> Rows:
    """The rows of a mirror."""
    with DuckFile(path).transaction() as connection:
        found = connection.execute(f"SELECT id, v, a FROM loading.{table}").fetchall()
    return {row[0]: tuple(row[1:]) for row in found}


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3_000_000)
