"""`binlogsync snapshot` while a tail runs, and the tables are written to: what a handler and mirrors build from the
stream alone equals the tables.
"""

from __future__ import annotations

import random
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pymysql
import pytest

from binlogsync import Change, Consumer
from binlogsync.consume.engine import ConsumeOptions, ConsumeResult, consume, consume_together
from binlogsync.consume.targets import Target
from binlogsync.mirror.target import Mirror
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.servers import NATSServer
from binlogsync.snapshot.requests_nats import NatsSnapshotRequests
from binlogsync.stores.memory import MemoryPositionStore
from binlogsync.targets.mirror_state import MirrorOptions
from tests.cli_deployment import TIMEOUT_S, Deployment
from tests.cli_here import run_here, tailing_here
from tests.databases import FreshDatabase
from tests.duck import mirror_rows, query
from tests.e2e.oracle import table_rows
from tests.e2e.snapshot_scenario import use_small_slices
from tests.e2e.tailing import TailThread, config_of, drain, options_of, stream_sink
from tests.nats_commands import delete_stream
from tests.waiting import paced, wait_until

pytestmark = pytest.mark.server
ROWS = 300
TABLES = ("things", "pairs", "loose")
SCHEMA = (
    "CREATE TABLE things (id INT PRIMARY KEY, name VARCHAR(40), price DECIMAL(10, 2), at DATETIME(3), doc JSON, "
    "kind ENUM('a', 'b'), data BLOB)",
    "CREATE TABLE pairs (a VARCHAR(20) COLLATE utf8mb4_0900_ai_ci, b BIGINT UNSIGNED, v DOUBLE, PRIMARY KEY (a, b))",
    "CREATE TABLE loose (code INT NOT NULL, v VARCHAR(20), UNIQUE KEY (code))",
)
KEYS = {"things": ("id",), "pairs": ("a", "b"), "loose": ("code",)}
QUICK = ConsumeOptions(idle_s=0.5, gather_s=0.1, max_changes=200)


class SnapshotDeployment(Deployment):
    """A deployment whose three tables have rows from before its tail began.

    Its tails and commands run in this process: a process takes a second or two of CPU time to start.
    """

    def __init__(self, folder: Path, mysql: FreshDatabase, nats: NATSServer) -> None:
        for statement in SCHEMA:
            mysql.execute(statement)
        with mysql.server.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"USE {mysql.name}")
            for table in TABLES:
                values = [self.row(table, number, random.Random(number)) for number in range(ROWS)]  # noqa: S311
                marks = ", ".join(["%s"] * len(values[0]))
                cursor.executemany(f"INSERT INTO {table} VALUES ({marks})", values)
            connection.commit()
        super().__init__(folder, mysql, nats)

    @staticmethod
    def row(table: str, number: int, pick: random.Random) -> tuple[Any, ...]:
        word = f"w{pick.randrange(1000)}"
        if table == "things":
            at = None if number % 9 == 0 else f"2026-01-0{number % 9} 10:00:00.123"
            return number, word, number / 4, at, '{"n": 1.50}', "ab"[number % 2], b"\x00\xff" * (number % 5)
        return (f"Key{number % 50}", number, number / 7) if table == "pairs" else (number, word)

    @contextmanager
    def writing(self, seed: int) -> Iterator[None]:
        """Three threads that write until the end of the block."""
        stop, failures = threading.Event(), list[BaseException]()

        def write(number: int) -> None:
            pick = random.Random(seed + number)  # noqa: S311
            try:
                with self.mysql.server.connect() as connection, connection.cursor() as cursor:
                    cursor.execute(f"USE {self.mysql.name}")
                    for _ in paced(stop, pick, 0.2):
                        self._change(cursor, pick)
                        connection.commit() if pick.random() < 0.9 else connection.rollback()
            except BaseException as error:  # noqa: BLE001 - the test fails with it
                failures.append(error)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not failures, failures

    def _change(self, cursor: Any, pick: random.Random) -> None:
        for _ in range(pick.randrange(1, 6)):
            table, number = pick.choice(TABLES), pick.randrange(ROWS + 500)
            row = self.row(table, number, pick)
            keys = KEYS[table]
            where = " AND ".join(f"{key} = %s" for key in keys)
            try:
                match pick.randrange(4):
                    case 0:
                        cursor.execute(f"DELETE FROM {table} WHERE {where}", row[: len(keys)])
                    case 1 if table != "pairs":
                        other = pick.randrange(ROWS + 500)
                        cursor.execute(f"UPDATE {table} SET {keys[0]} = %s WHERE {where}", (other, number))
                    case 2:
                        marks = ", ".join(["%s"] * len(row))
                        cursor.execute(f"REPLACE INTO {table} VALUES ({marks})", row)
                    case _:
                        column = {"things": "name", "pairs": "v", "loose": "v"}[table]
                        cursor.execute(
                            f"UPDATE {table} SET {column} = %s WHERE {where}", (number % 97, *row[: len(keys)])
                        )
            except pymysql.err.IntegrityError:  # the new key exists
                pass
            except pymysql.err.OperationalError:  # a deadlock
                cursor.execute("ROLLBACK")

    @contextmanager
    def tailing(self, *, flush: str = "interval", message_format: str = "json") -> Iterator[TailThread]:
        """A running tail, which takes requests from NATS."""
        config = config_of(self.mysql.server, self.source)
        options = options_of(
            self.source, self.mysql.name, start=self.settings["START"], flush=flush, flush_interval_s=0.05
        )
        sinks = [stream_sink(self.nats.url, format=message_format)]
        requests = NatsSnapshotRequests(NatsOptions(url=self.nats.url), self.source)
        tail = TailThread(config, sinks, MemoryPositionStore(), options, snapshots=requests)
        with closing(requests), tail:
            tail.wait_begun()
            yield tail

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, in this process."""
        return run_here(self, *arguments)

    def wait_snapshot(self) -> None:
        """Wait until a snapshot is done."""
        with closing(NatsSnapshotRequests(NatsOptions(url=self.nats.url), self.source)) as requests:
            wait_until(
                lambda: any(each.status.state == "done" for each in requests.list()), TIMEOUT_S, "a snapshot to end"
            )

    def consume(self, table: str, target: Target, options: ConsumeOptions = QUICK) -> Mapping[str, int]:
        with StreamReader(NatsOptions(url=self.nats.url), self.source) as reader:
            if options.max_s is not None:
                return consume(reader, (self.mysql.name, table), target, options, threading.Event()).counts
            return _total(drain(reader, (self.mysql.name, table), target, options))

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        return table_rows(self.mysql.server, self.mysql.name, table)


class HandledRows:
    """What a handler keeps: the last image of each row, by its key; and the ids of all changes."""

    def __init__(self) -> None:
        self.rows: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self.ids: list[str] = []
        self.read = 0

    def take(self, change: Change[Any], keys: tuple[str, ...]) -> None:
        """Apply a change."""
        self.ids.append(change.id)
        if change.op == "r":
            assert change.before is None
            self.read += 1
        before, after = change.rows
        if before is not None:
            self.rows.pop(tuple(before[key] for key in keys), None)
        if after is not None:
            self.rows[tuple(after[key] for key in keys)] = tuple(after.values())


def _total(rounds: Sequence[ConsumeResult]) -> Mapping[str, int]:
    counts: Counter[str] = Counter()
    for each in rounds:
        counts.update(each.counts)
    return counts


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes come between the rows of a table. Each poll for requests is a message to NATS."""
    use_small_slices(monkeypatch, 100, 50, poll_s=0.2)


@pytest.fixture
def deployment(tmp_path: Path, mysql: FreshDatabase, nats_server: NATSServer) -> Iterator[SnapshotDeployment]:
    made = SnapshotDeployment(tmp_path, mysql, nats_server)
    yield made
    delete_stream(nats_server.url, made.stream)


@dataclass
class ThingRow:
    id: int
    name: str | None


@dataclass
class PairRow:
    a: str
    b: int
    v: float | None


@dataclass
class LooseRow:
    code: int
    v: str | None


def handle(
    deployment: SnapshotDeployment,
    kept: Mapping[str, HandledRows],
    count: int | None = None,
    client_id: str = "handlers",
) -> None:
    """Consume all tables with handlers, until nothing has come for a while, or for about so many changes."""
    handlers(deployment, kept, count, client_id).run(idle_s=None if count is not None else 1.0)


def handlers(
    deployment: SnapshotDeployment,
    kept: Mapping[str, HandledRows],
    count: int | None = None,
    client_id: str = "handlers",
) -> Consumer:
    """A consumer with handlers of all tables, which stops after about so many changes."""
    consumer = Consumer(client_id, url=deployment.nats.url, source=deployment.source)
    for model, table in ((ThingRow, "things"), (PairRow, "pairs"), (LooseRow, "loose")):

        def take(change: Change[Any], table: str = table) -> None:
            kept[table].take(change, KEYS[table])
            if count is not None and len(kept[table].ids) >= count:
                consumer.stop()

        consumer.register(model, take, table=f"{deployment.mysql.name}.{table}")
    return consumer


def test_what_is_built_from_the_stream_alone_equals_the_tables(deployment: SnapshotDeployment) -> None:
    folder, name = deployment.folder, deployment.mysql.name
    kept = {table: HandledRows() for table in TABLES}
    with deployment.tailing() as tail:
        with deployment.writing(1):
            done = deployment.run("snapshot", f"{name}.*", "--rows-per-second", "4000")
            handle(deployment, kept, count=ROWS // 2)
        assert done.returncode == 0, done.stderr
        assert " done: 3 tables" in done.stderr.splitlines()[-1]
        tail.catch_up()
        handle(deployment, kept)
        for table in TABLES:
            deployment.consume(table, Mirror(folder / "plain.duckdb", name, table))
            deployment.consume(table, Mirror(folder / "soft.duckdb", name, table, options=MirrorOptions("gone")))
            deployment.consume(
                table, Mirror(folder / "versions.duckdb", name, table, options=MirrorOptions(None, True))
            )
    for table in TABLES:
        wanted = deployment.rows(table)
        assert len(kept[table].ids) == len(set(kept[table].ids))
        assert kept[table].read > 0
        assert len(kept[table].rows) == len(wanted)
        assert mirror_rows(folder / "plain.duckdb", name, table) == wanted
        live = query(folder / "soft.duckdb", f"SELECT * EXCLUDE gone FROM {name}.{table} WHERE gone IS NULL")
        assert sorted(live, key=repr) == wanted
        assert mirror_rows(folder / "versions.duckdb", name, table) == wanted
        current = query(
            folder / "versions.duckdb",
            f"SELECT * EXCLUDE (valid_from, from_file, from_pos, from_row, valid_to, to_file, to_pos, to_row) "
            f"FROM {name}.{table}__history WHERE valid_to IS NULL",
        )
        assert sorted(current, key=repr) == wanted
    assert sorted(kept["loose"].rows.values(), key=repr) == deployment.rows("loose")
    assert sorted(kept["pairs"].rows.values(), key=repr) == deployment.rows("pairs")


def test_groups_loaded_mirrors_and_conditions(deployment: SnapshotDeployment) -> None:
    folder, name = deployment.folder, deployment.mysql.name
    with deployment.tailing(flush="eager", message_format="arrow") as tail:
        loaded = Mirror(folder / "loaded.duckdb", name, "things", config_of(deployment.mysql.server, deployment.source))
        with deployment.writing(7):
            assert deployment.run("snapshot", f"{name}.things", f"{name}.loose").returncode == 0
            deployment.consume("things", loaded, replace(QUICK, max_s=3))  # loads the rows, and gets them again
            assert deployment.run("snapshot", f"{name}.*").returncode == 0
        tail.catch_up()
        group = {(name, table): Mirror(folder / "group.duckdb", name, table) for table in TABLES}
        with StreamReader(NatsOptions(url=deployment.nats.url), deployment.source) as reader:
            consume_together(reader, group, QUICK, threading.Event())
        deployment.consume("things", loaded)
        done = deployment.run("snapshot", f"{name}.things", "--where", "id < 10")  # the server is idle
        assert done.returncode == 0
        few = Mirror(folder / "few.duckdb", name, "things")
        counts = deployment.consume("things", few, replace(QUICK, client_id="few", start="all"))
    for table in TABLES:
        assert mirror_rows(folder / "group.duckdb", name, table) == deployment.rows(table)
    assert mirror_rows(folder / "loaded.duckdb", name, "things") == deployment.rows("things")
    assert mirror_rows(folder / "few.duckdb", name, "things") == deployment.rows("things")
    assert counts["r"] > 0


def test_a_new_stream_begins_with_the_existing_rows_if_the_setting_says_so(deployment: SnapshotDeployment) -> None:
    """With a tail that is a process, and a request for a table that its successor does not capture."""
    name = deployment.mysql.name
    deployment.settings["SNAPSHOT"] = "initial"
    with deployment.running("tail") as tail:
        tail.wait_for_message("waiting for changes")
        deployment.wait_snapshot()
        tail.interrupt()
    with tailing_here(deployment) as successor:  # a restart does not repeat it
        successor.wait_begun()
        assert len(deployment.run("snapshot", "status").stdout.splitlines()) == 1
        done = deployment.run("snapshot", "nowhere.*")
        assert done.returncode == 1
        assert "no captured table matches nowhere.*" in done.stderr
        status = deployment.run("snapshot", "status")
        assert (status.returncode, len(status.stdout.splitlines())) == (0, 2)
    for table in TABLES:
        counts = deployment.consume(table, Mirror(deployment.folder / "first.duckdb", name, table))
        assert counts == {"r": ROWS}
        assert mirror_rows(deployment.folder / "first.duckdb", name, table) == deployment.rows(table)
