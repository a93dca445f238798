"""Loads four tables under random writers, with DDL on one and two kills of the loading process, and compares them.

    python -m bench.killed_loads [ROWS]

ROWS (5,000,000) is the sum of the rows of the tables. `binlogsync tail` and `binlogsync mirror` run as processes; the
second is killed (SIGKILL) twice while it loads. Prints what happens with the seconds since the start. At the end,
`binlogsync verify` compares all rows, while the writers are still writing.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymysql

from binlogsync import servers
from binlogsync.targets.duckdb.file import DuckFile

_SHARES = {"orders": 0.5, "items": 0.3, "customers": 0.14, "places": 0.06}
_DDL_TABLE = "customers"
_WAIT_S = 900.0
_DUPLICATE_OR_LOCK = (1062, 1205, 1213, 1412)
_COMMAND = [sys.executable, "-m", "binlogsync.cli"]


def main(rows: int) -> None:
    """Run all; exits with 1 if a mirror differs from its table."""
    with tempfile.TemporaryDirectory() as name, servers.mysql() as mysql, servers.nats() as nats:
        folder, begun = Path(name), time.monotonic()

        def report(text: str) -> None:
            print(f"{time.monotonic() - begun:6.1f} s  {text}", flush=True)  # noqa: T201

        fill(mysql, rows)
        write_settings(folder, mysql, nats.url)
        report(f"{rows:,} rows in {len(_SHARES)} tables")
        with running(folder, "tail"), writing(mysql, rows) as counts:
            load(folder, mysql, rows, report)
            with running(folder, "mirror", "loading.*", "--to", "mirrors.duckdb"):
                wait(lambda: loaded_tables(folder / "mirrors.duckdb") >= set(_SHARES))
                report("all tables are loaded")
                done = subprocess.run(
                    [*_COMMAND, "verify", *(f"loading.{table}" for table in _SHARES), "--client-id", "mirror"],
                    cwd=folder, capture_output=True, text=True, check=False,
                )  # fmt: skip
            for line in (folder / "mirror.log").read_text().splitlines():
                if re.search(r"resumes|begins again|loaded with", line):
                    report(line[:160])
            report(f"verified while writing; {sum(counts.values()):,} statements so far\n{done.stdout}{done.stderr}")
        sys.exit(done.returncode)


def load(folder: Path, mysql: servers.MySQLServer, rows: int, report: Any) -> None:
    """Load the mirrors; kill the process twice, and run a DDL statement in between."""
    path = folder / "mirrors.duckdb"
    for number in range(2):
        with running(folder, "mirror", "loading.*", "--to", path.name) as process:
            before = stored_rows(path)
            wait(lambda before=before: stored_rows(path) > before + rows // 20)
            process.send_signal(signal.SIGKILL)
            process.wait()
        report(f"killed with {stored_rows(path):,} rows stored")
        if not number:
            with mysql.connect(autocommit=True, database="loading") as connection:
                connection.query(f"ALTER TABLE {_DDL_TABLE} ADD COLUMN extra INT DEFAULT 7")
            report(f"ALTER TABLE {_DDL_TABLE}")


def fill(mysql: servers.MySQLServer, rows: int, shares: Mapping[str, float] = _SHARES) -> None:
    """Create the tables."""
    with mysql.connect(autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE loading")
        cursor.execute("USE loading")
        cursor.execute("SET SESSION cte_max_recursion_depth = 100000000")
        for name, share in shares.items():
            cursor.execute(f"CREATE TABLE {name} (id INT PRIMARY KEY, v INT, a VARCHAR(60), b DATETIME(6))")
            cursor.execute(
                f"INSERT INTO {name} WITH RECURSIVE n AS "
                f"(SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < {int(rows * share)}) "
                "SELECT i, i % 1000, concat('text ', i), now(6) FROM n"
            )
        cursor.execute("FLUSH BINARY LOGS")


def write_settings(folder: Path, mysql: servers.MySQLServer, nats_url: str) -> None:
    """Write the .env file of both commands."""
    settings = {
        "SOURCE": "loading",
        "MYSQL_HOST": mysql.host,
        "MYSQL_PORT": mysql.port,
        "MYSQL_USER": mysql.cdc_user,
        "MYSQL_PASSWORD": mysql.cdc_password,
        "NATS_URL": nats_url,
        "INCLUDE": "loading.*",
        "START": "now",
        "WAREHOUSE_PATH": "mirrors.duckdb",
    }
    (folder / ".env").write_text("".join(f"BINLOGSYNC_{name}='{value}'\n" for name, value in settings.items()))


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in the background; stderr goes to a log named for it."""
    environment = clean_environment()
    with (folder / f"{arguments[0]}.log").open("w") as stderr:
        process = subprocess.Popen([*_COMMAND, *arguments], cwd=folder, env=environment, stderr=stderr)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


def clean_environment() -> dict[str, str]:
    """The environment of the commands, without settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BINLOGSYNC_")}
    return {**clean, "PYTHONPATH": str(Path(__file__).parents[1])}


def wait(predicate: Any) -> None:
    """Wait until it is true."""
    ends_at = time.monotonic() + _WAIT_S
    while not predicate():
        if time.monotonic() > ends_at:
            raise TimeoutError
        time.sleep(0.5)


def stored_rows(path: Path) -> int:
    """Number of rows in the spare tables of loads, and in mirrors."""
    if not path.exists():
        return 0
    with DuckFile(path).transaction() as connection:
        found = connection.execute(
            "SELECT sum(estimated_size) FROM duckdb_tables() WHERE schema_name = 'loading'"
        ).fetchone()
    return int((found or (0,))[0] or 0)


def loaded_tables(path: Path) -> set[str]:
    """Names of the mirrors that are there."""
    with DuckFile(path).transaction() as connection:
        found = connection.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'loading'").fetchall()
    return {name for (name,) in found}


@contextmanager
def writing(mysql: servers.MySQLServer, rows: int, shares: Mapping[str, float] = _SHARES) -> Iterator[dict[str, int]]:
    """A thread per table that writes at random until the end; yields the number of statements by table."""
    stop, counts = threading.Event(), dict.fromkeys(shares, 0)

    def write(table: str) -> None:
        chance, most = random.Random(table), int(rows * shares[table] * 1.05)
        while not stop.is_set():
            try:  # an error ends the connection, and with it a transaction of any state
                with mysql.connect(autocommit=False, database="loading") as connection:
                    while not stop.wait(chance.random() * 0.01):
                        for _ in range(chance.choice((1, 1, 2, 5))):
                            connection.query(statement(table, chance, most))
                            counts[table] += 1
                        (connection.rollback if chance.random() < 0.1 else connection.commit)()
            except pymysql.MySQLError as error:
                if error.args[0] not in _DUPLICATE_OR_LOCK:
                    raise

    threads = [threading.Thread(target=write, args=(table,), daemon=True) for table in shares]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)


def statement(table: str, chance: random.Random, most: int) -> str:
    """A random statement: changes, deletes, inserts again, and changes of keys."""
    key = chance.randrange(1, most)
    return chance.choice(
        (
            f"UPDATE {table} SET v = v + 1, a = concat('changed ', v) WHERE id BETWEEN {key} AND {key + 3}",
            f"DELETE FROM {table} WHERE id = {key}",
            f"INSERT INTO {table} (id, v, a) VALUES ({key}, 1, 'new') ON DUPLICATE KEY UPDATE v = v + 1000",
            f"UPDATE {table} SET id = id + {most} WHERE id = {key}",
            f"REPLACE INTO {table} (id, v) VALUES ({key}, 5)",
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5_000_000)
