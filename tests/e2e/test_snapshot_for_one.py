"""`binlogsync snapshot --consumer`: one consumer gets each row once, among the changes; the others get none of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from binlogsync.consume.engine import consume_together
from binlogsync.mirror.target import Mirror
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.servers import NATSServer
from tests.cli_deployment import TIMEOUT_S
from tests.databases import FreshDatabase
from tests.duck import mirror_rows, query
from tests.e2e.oracle import envelopes
from tests.e2e.snapshot_scenario import use_small_slices
from tests.e2e.test_snapshot_consumers import QUICK, ROWS, TABLES, HandledRows, SnapshotDeployment, handle, handlers
from tests.nats_commands import ask, delete_stream
from tests.waiting import wait_until

pytestmark = pytest.mark.server
FORMATS: list[dict[str, str]] = [{}, {"flush": "eager", "message_format": "arrow"}]


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes come between the rows of a table. Each poll for requests is a message to NATS."""
    use_small_slices(monkeypatch, 100, 50, poll_s=0.2)


@pytest.fixture
def deployment(tmp_path: Path, mysql: FreshDatabase, nats_server: NATSServer) -> Iterator[SnapshotDeployment]:
    made = SnapshotDeployment(tmp_path, mysql, nats_server)
    yield made
    delete_stream(nats_server.url, made.stream)


def kept_rows() -> dict[str, HandledRows]:
    return {table: HandledRows() for table in TABLES}


def assert_complete(deployment: SnapshotDeployment, kept: dict[str, HandledRows]) -> None:
    """What the handlers kept equals the tables, and each change was handled once."""
    for table in TABLES:
        assert len(kept[table].ids) == len(set(kept[table].ids))
        assert len(kept[table].rows) == len(deployment.rows(table))
    for table in ("loose", "pairs"):
        assert sorted(kept[table].rows.values(), key=repr) == deployment.rows(table)


def is_complete(deployment: SnapshotDeployment, kept: dict[str, HandledRows]) -> bool:
    found = (sorted(kept[table].rows.values(), key=repr) == deployment.rows(table) for table in ("loose", "pairs"))
    return all(found) and len(kept["things"].rows) == len(deployment.rows("things"))


@pytest.mark.parametrize(
    "options", [FORMATS[0], pytest.param(FORMATS[1], marks=pytest.mark.exhaustive)], ids=["json", "arrow"]
)
def test_the_rows_reach_one_consumer_alone(deployment: SnapshotDeployment, options: dict[str, str]) -> None:
    name, file = deployment.mysql.name, deployment.folder / "other.duckdb"
    first, second = kept_rows(), kept_rows()
    counts: dict[str, Any] = {}
    with deployment.tailing(**options) as tail:
        handle(deployment, first, client_id="first")
        handle(deployment, second, client_id="second")
        deployment.consume("things", Mirror(file, name, "things"))
        with deployment.writing(5):
            words = [f"{name}.*", "--consumer", "first", "--rows-per-second", "3000", "--no-wait"]
            assert deployment.run("snapshot", *words).returncode == 0
            handle(deployment, first, count=ROWS // 2, client_id="first")
            deployment.wait_snapshot()
        tail.catch_up()
        handle(deployment, first, client_id="first")
        handle(deployment, second, client_id="second")
        counts |= deployment.consume("things", Mirror(file, name, "things"))
        done = deployment.run("snapshot", f"{name}.*", "--where", "id < 100", "--consumer", "binlogsync")
        assert done.returncode == 0, done.stderr
        assert "things for consumer binlogsync" not in done.stdout
        again = deployment.consume("things", Mirror(file, name, "things"))
        handle(deployment, first, client_id="first")
    assert_complete(deployment, first)
    assert all(first[table].read for table in TABLES)
    assert not any(second[table].read for table in TABLES)
    assert second["things"].ids == [each for each in first["things"].ids if not each.startswith("snapshot:")]
    assert "r" not in counts
    assert set(again) == {"r"}
    wanted = [row for row in deployment.rows("things") if row[0] < 100]
    assert query(file, f"SELECT count(*) FROM {name}.things WHERE id < 100") == [(len(wanted),)]
    assert set(wanted) <= set(mirror_rows(file, name, "things"))
    if not options:
        assert not [each for each in envelopes(deployment.nats.url, deployment.source) if each["op"] == "r"]


def test_a_whole_table_is_reset_for_one_consumer_alone(deployment: SnapshotDeployment) -> None:
    name, files = deployment.mysql.name, [deployment.folder / f"{client}.duckdb" for client in ("one", "two")]
    deployment.mysql.execute("CREATE TABLE heap (a INT, b VARCHAR(20))")
    deployment.mysql.execute("INSERT INTO heap VALUES (1, 'x'), (1, 'x'), (2, NULL)")
    options = [replace(QUICK, client_id=file.stem) for file in files]
    with deployment.tailing() as tail:
        deployment.mysql.execute("INSERT INTO heap VALUES (1, 'x'), (3, 'y')")
        tail.catch_up()
        for file, chosen in zip(files, options, strict=True):
            deployment.consume("heap", Mirror(file, name, "heap"), chosen)
            assert mirror_rows(file, name, "heap") == deployment.rows("heap")
        done = deployment.run("snapshot", f"{name}.heap", "--consumer", "one")
        assert done.returncode == 0, done.stderr
        found = [
            deployment.consume("heap", Mirror(file, name, "heap"), c) for file, c in zip(files, options, strict=True)
        ]
    assert [dict(counts) for counts in found] == [{"t": 1, "r": 5}, {}]
    assert [mirror_rows(file, name, "heap") for file in files] == [deployment.rows("heap")] * 2


def test_a_consumer_that_is_running_gets_the_rows_at_once(deployment: SnapshotDeployment) -> None:
    name, kept = deployment.mysql.name, kept_rows()
    with deployment.tailing() as tail:
        consumer = handlers(deployment, kept, client_id="app")
        running = threading.Thread(target=consumer.run)
        running.start()
        try:
            with StreamReader(NatsOptions(url=deployment.nats.url), deployment.source) as reader:
                wait_until(lambda: len(reader.pending_counts()) == len(TABLES), TIMEOUT_S, "the consumer to start")
            with deployment.writing(9):
                done = deployment.run("snapshot", f"{name}.*", "--consumer", "app")
                assert done.returncode == 0, done.stderr
            tail.catch_up()
            wait_until(lambda: is_complete(deployment, kept), TIMEOUT_S, "all rows and changes")
        finally:
            consumer.stop()
            running.join()
    assert_complete(deployment, kept)
    assert all(kept[table].read for table in TABLES)
    handle(deployment, kept, client_id="app")  # its durables read one subject again
    configs = ask(deployment.nats.url, lambda js: js.consumers_info(deployment.stream))
    assert {len(each.config.filter_subjects or ()) for each in configs} == {0}


@pytest.mark.exhaustive
def test_a_table_without_a_key_is_reset_for_one_consumer(deployment: SnapshotDeployment) -> None:
    name, mysql = deployment.mysql.name, deployment.mysql
    files = {client: deployment.folder / f"{client}.duckdb" for client in ("one", "other")}
    mysql.execute("CREATE TABLE heap (a INT, b VARCHAR(10))")
    mysql.execute("INSERT INTO heap VALUES (1, 'x'), (1, 'x'), (2, NULL)")
    deployment.settings["START"] = deployment.binlog_end()

    def mirror_heap() -> None:
        for client, file in files.items():
            deployment.consume("heap", Mirror(file, name, "heap"), replace(QUICK, client_id=client))

    with deployment.tailing():
        mirror_heap()
        for number in range(2):
            mysql.execute("INSERT INTO heap VALUES (3, 'new')")
            done = deployment.run("snapshot", f"{name}.heap", "--consumer", "one")
            assert done.returncode == 0, done.stderr
            mirror_heap()
            assert mirror_rows(files["one"], name, "heap") == deployment.rows("heap")
            assert mirror_rows(files["other"], name, "heap") == [(3, "new")] * (number + 1)
        for client in files:  # one after another
            assert deployment.run("snapshot", f"{name}.heap", "--consumer", client, "--no-wait").returncode == 0
        done = deployment.run("snapshot", f"{name}.heap", "--consumer", "other")
        assert done.returncode == 0, done.stderr
        mirror_heap()
        for file in files.values():
            assert mirror_rows(file, name, "heap") == deployment.rows("heap")
    assert {each["op"] for each in envelopes(deployment.nats.url, deployment.source)} == {"c"}
    assert len(envelopes(deployment.nats.url, deployment.source, "one")) == 2 + (1 + 4) + (1 + 5) + (
        1 + 5
    )  # a reset before the rows


def test_mirrors_that_change_together_get_the_rows(deployment: SnapshotDeployment) -> None:
    name, file = deployment.mysql.name, deployment.folder / "group.duckdb"
    options = replace(QUICK, client_id="group")

    def consume_group(max_s: float | None = None) -> None:
        group = {(name, table): Mirror(file, name, table) for table in TABLES}
        with StreamReader(NatsOptions(url=deployment.nats.url), deployment.source) as reader:
            consume_together(reader, group, replace(options, max_s=max_s), threading.Event())

    def is_equal() -> bool:
        consume_group()
        return all(mirror_rows(file, name, table) == deployment.rows(table) for table in TABLES)

    with deployment.tailing() as tail:
        consume_group()
        with deployment.writing(11):
            assert deployment.run("snapshot", f"{name}.*", "--consumer", "group", "--no-wait").returncode == 0
            consume_group(3.0)
            deployment.wait_snapshot()
        tail.catch_up()
        wait_until(is_equal, TIMEOUT_S, "the mirrors to equal the tables")
