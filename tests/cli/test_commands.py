"""The command line as a user runs it: a real MySQL and NATS, settings in a .env file.

Commands whose signals, pipes or start matter are processes. Others run in this one.
"""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from nats.js.api import ConsumerConfig

from binlogsync.nats.client import NatsConnection, NatsOptions
from binlogsync.servers import MySQLServer, NATSServer
from binlogsync.stores.sqlite import SQLitePositionStore
from tests.cli_deployment import TIMEOUT_S, Deployment
from tests.cli_here import run_here, tailing_here
from tests.databases import FreshDatabase, fresh_database
from tests.nats_commands import delete_stream
from tests.waiting import wait_until


@contextmanager
def deployed(folder: Path, mysql: FreshDatabase, nats_server: NATSServer) -> Iterator[Deployment]:
    """A deployment with two empty tables; its stream is deleted at the end of the block."""
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
    mysql.execute("CREATE TABLE other (id INT PRIMARY KEY)")
    made = Deployment(folder, mysql, nats_server)
    yield made
    delete_stream(nats_server.url, made.stream)


@pytest.fixture
def deployment(tmp_path: Path, mysql: FreshDatabase, nats_server: NATSServer) -> Iterator[Deployment]:
    with deployed(tmp_path, mysql, nats_server) as made:
        yield made


@pytest.fixture
def filled(deployment: Deployment) -> Deployment:
    return fill(deployment)


@pytest.fixture(scope="module")
def unchanged(
    tmp_path_factory: pytest.TempPathFactory, mysql_server: MySQLServer, nats_server: NATSServer
) -> Iterator[Deployment]:
    """A filled deployment that tests share; they leave its stream as it is."""
    with (
        fresh_database(mysql_server) as mysql,
        deployed(tmp_path_factory.mktemp("unchanged"), mysql, nats_server) as made,
    ):
        yield fill(made)


def write_four_changes(deployment: Deployment) -> None:
    """Three changes of `t` and one of `other`."""
    deployment.mysql.execute("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    deployment.mysql.execute("INSERT INTO other VALUES (7)")
    deployment.mysql.execute("UPDATE t SET v = 'c' WHERE id = 2")


def fill(deployment: Deployment) -> Deployment:
    """Four changes in the stream."""
    write_four_changes(deployment)
    with tailing_here(deployment) as tail:
        tail.wait_stored(4)
    return deployment


def durables(deployment: Deployment) -> tuple[int, int]:
    """(messages, durables) of the stream; zeros when there is none."""

    async def look(client: Any) -> tuple[int, int]:
        names = [info.config.name for info in await client.jetstream().streams_info()]
        if deployment.stream not in names:
            return 0, 0
        state = (await client.jetstream().stream_info(deployment.stream)).state
        return state.messages, state.consumer_count

    with NatsConnection(NatsOptions(url=deployment.nats.url), "test") as connection:
        return connection.call(look)


def lines_of(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def status_of(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Name of each check -> its line."""
    return {line[9:].split(":")[0]: line for line in done.stdout.splitlines()}


def assert_stored_and_released(deployment: Deployment) -> None:
    """The position store has a checkpoint, and the lease is free."""
    store = SQLitePositionStore(deployment.folder / ".binlogsync" / "positions.db")
    assert store.checkpoints.load(deployment.source) is not None
    lease = store.leases.load(deployment.source)
    store.close()
    assert lease is not None
    assert lease.released


@pytest.mark.slow
def test_tail_says_what_it_waits_for_stores_and_releases_its_lease(deployment: Deployment) -> None:
    server = deployment.mysql.server
    write_four_changes(deployment)
    with deployment.running("tail", is_forked=False) as tail:
        tail.wait_for_message("waiting for changes")
        tail.wait_for_message(" changes stored")
        wait_until(lambda: durables(deployment)[0] >= 4, TIMEOUT_S, "four messages")
        lines = tail.interrupt().splitlines()
    assert "4 changes stored" in lines[-1]
    texts = [line.partition(f"{deployment.source}: ")[2] for line in lines[1:4]]
    assert texts[:2] == [
        f"connecting to MySQL at {server.host}:{server.port}",
        f"opening the stream at {deployment.nats.url}",
    ]
    assert texts[2].startswith("reading from binlog.")
    assert_stored_and_released(deployment)
    deployment.settings["MYSQL_PORT"] = "1"
    with deployment.running("tail") as waiting:
        waiting.wait_for_message("retrying in")
        lines = waiting.interrupt().splitlines()
    assert lines[1].endswith(f"connecting to MySQL at {server.host}:1")
    assert not any("opening" in line for line in lines)


def test_tail_takes_over_only_with_the_option_and_resumes(deployment: Deployment) -> None:
    write_four_changes(deployment)
    with deployment.running("tail") as first:
        first.wait_for_message(" changes stored")
        wait_until(lambda: durables(deployment)[0] >= 4, TIMEOUT_S, "four messages")
        with deployment.running("tail") as refused:
            assert refused.process.wait(4 * TIMEOUT_S) == 1
        assert "is held by" in refused.stderr
        assert "tail is running" in status_of(run_here(deployment, "doctor"))["lease"]
        with deployment.running("tail", "--take-over") as second:
            second.wait_for_message(" changes stored")
            assert first.process.wait(4 * TIMEOUT_S) == 1
            assert "has claimed it since" in first.stderr
            deployment.mysql.execute("DELETE FROM t WHERE id = 1")
            wait_until(lambda: durables(deployment)[0] >= 5, TIMEOUT_S, "the delete")
            assert "1 changes stored" in second.interrupt().splitlines()[-1]
    assert_stored_and_released(deployment)


def test_tail_to_stdout_needs_no_nats_stores_nothing_and_does_not_interfere_with_a_tail(
    deployment: Deployment, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    mysql = deployment.mysql
    deployment.settings["POSITIONS_PATH"] = str(tmp_path / "of the tail" / "positions.db")
    mysql.execute("INSERT INTO t VALUES (1, 'a')")
    mysql.execute("INSERT INTO other VALUES (1)")
    with caplog.at_level(logging.INFO, "binlogsync"), tailing_here(deployment) as tail:
        tail.wait_stored(2)
        del deployment.settings["POSITIONS_PATH"]
        deployment.settings["NATS_URL"] = "nats://127.0.0.1:1"
        with deployment.running("tail", "--stdout") as look:
            assert [line["source"]["table"] for line in look.lines(2)] == ["t", "other"]
            mysql.execute("UPDATE t SET v = 'ä'")
            line = look.lines(3)[-1]
            assert (line["op"], line["before"], line["after"]) == ("u", {"id": 1, "v": "a"}, {"id": 1, "v": "ä"})
            assert line["source"]["name"] == deployment.source
            tail.wait_stored(3)
            mysql.execute("INSERT INTO t VALUES (2, 'a')")
            look.lines(4)
            tail.wait_stored(4)
            look.interrupt()
    assert any("tail" in record.name for record in caplog.records), "a reconnect would be logged"
    assert "another reader" not in caplog.text
    assert not (deployment.folder / ".binlogsync").exists()


@contextmanager
def piped(deployment: Deployment, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A command that writes to pipes; it ends without a message."""
    line, environment = deployment.command(*words)
    with subprocess.Popen(
        line, cwd=deployment.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            yield process
            assert process.wait(4 * TIMEOUT_S) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()


def read_and_close(process: subprocess.Popen[str]) -> Any:
    """The first line; then the reader goes away."""
    assert process.stdout is not None
    line = json.loads(process.stdout.readline())
    process.stdout.close()
    return line


def test_tail_to_stdout_has_its_own_start_and_tables_and_a_closed_pipe_causes_no_message(
    deployment: Deployment,
) -> None:
    mysql = deployment.mysql
    mysql.execute("INSERT INTO t VALUES (1, 'a')")
    mysql.execute("INSERT INTO other VALUES (1)")
    start = ("--start", deployment.settings["START"])
    deployment.settings["START"] = "now"
    with piped(deployment, "tail", "--stdout", *start, "--include", f"{mysql.name}.oth*") as tail:
        line = read_and_close(tail)
        assert (line["op"], line["source"]["table"]) == ("c", "other")
        mysql.execute("INSERT INTO other VALUES (2)")


def test_consume_from_new_follows_and_a_closed_pipe_causes_no_message(filled: Deployment) -> None:
    with piped(filled, "consume", f"{filled.mysql.name}.t", "--from", "new") as consume, tailing_here(filled) as tail:
        wait_until(lambda: durables(filled)[1] == 1, TIMEOUT_S, "the durable")
        filled.mysql.execute("DELETE FROM t WHERE id = 1")
        assert read_and_close(consume)["op"] == "d"
        filled.mysql.execute("INSERT INTO t VALUES (9, 'z')")
        tail.wait_stored(2)
        assert consume.wait(4 * TIMEOUT_S) == 0


def test_consume(unchanged: Deployment) -> None:
    table = f"{unchanged.mysql.name}.t"
    found = lines_of(run_here(unchanged, "consume", table, "--limit", "3"))
    assert [(line["op"], line["after"]["v"]) for line in found] == [("c", "a"), ("c", "b"), ("u", "c")]
    assert lines_of(run_here(unchanged, "consume", table, "--from", "2", "--limit", "2"))[-1]["op"] == "u"
    assert durables(unchanged) == (4, 0)


def test_consume_waits_for_a_table_and_deletes_its_durable_at_the_end(filled: Deployment) -> None:
    name = filled.mysql.name
    with filled.running("consume", f"{name}.later") as consume:
        consume.wait_for_message(f"tables in it: {name}.other, {name}.t")
        wait_until(lambda: durables(filled)[1] == 1, TIMEOUT_S, "the durable")
        filled.mysql.execute("CREATE TABLE later (id INT PRIMARY KEY)")
        filled.mysql.execute("INSERT INTO later VALUES (1), (2)")
        with tailing_here(filled):
            assert [line["op"] for line in consume.lines(2)] == ["c", "c"]
        consume.interrupt()
    messages, left = durables(filled)
    assert (messages >= 6, left) == (True, 0)


def test_consume_without_a_stream(deployment: Deployment) -> None:
    done = run_here(deployment, "consume", "shop.orders")
    assert done.returncode == 1
    assert "start its tail" in done.stderr


def test_doctor_before_the_first_tail(deployment: Deployment) -> None:
    deployment.settings["AUDIT_PATH"] = "audit.duckdb"
    done = run_here(deployment, "doctor")
    lines = status_of(done)
    assert done.returncode == 0, done.stdout
    assert "does not exist yet" in lines["stream"]
    assert deployment.settings["START"] in lines["checkpoint"]
    assert {line.split()[0] for line in lines.values()} <= {"ok", "warning"}
    assert {"mysql", "binlog_row_metadata", "nats", "positions", "audit log", "warehouse"} <= set(lines)
    assert [path.name for path in deployment.folder.iterdir()] == [".env"]
    assert durables(deployment) == (0, 0)


def test_doctor_after_a_tail(unchanged: Deployment) -> None:
    done = run_here(unchanged, "doctor")
    lines = status_of(done)
    assert done.returncode == 0, done.stdout
    assert "contains 4 messages" in lines["stream"]
    assert "free; last held by" in lines["lease"]
    assert "is valid" in lines["saved checkpoint"]
    assert "is valid" in lines["stream's checkpoint"]
    assert "the tail at binlog." in lines["retention"]
    assert "retained for at least" in lines["retention"]
    assert "unchanged since the last tail" in lines["server"]
    assert "clock is " in lines["clock"]
    assert lines["durables"].startswith("ok ")


def test_doctor_reports_a_stream_that_runs_out_of_durables(filled: Deployment) -> None:
    async def prepare(client: Any) -> None:
        js = client.jetstream()
        config = (await js.stream_info(filled.stream)).config
        await js.update_stream(config.evolve(max_consumers=5))

    async def add(client: Any, names: Sequence[str]) -> None:
        for name in names:
            await client.jetstream().add_consumer(filled.stream, ConsumerConfig(durable_name=name))

    with NatsConnection(NatsOptions(url=filled.nats.url), "test") as connection:
        connection.call(prepare)
        connection.call(lambda client: add(client, ("a", "b", "c")))
        connection.call(lambda client: add(client, ("d",)))
        done = run_here(filled, "doctor")
        line = status_of(done)["durables"]
        assert done.returncode == 0
        assert line.startswith("warning ")
        assert f"stream {filled.stream} has 4 of at most 5 durables" in line
        assert "an unused one is removed after 14 days" in line
        assert f"fix: nats consumer ls {filled.stream}, then nats consumer rm" in line
        assert "raise max_consumers of the stream and of its account" in line
        connection.call(lambda client: add(client, ("e",)))
    done = run_here(filled, "doctor")
    assert done.returncode == 1
    assert status_of(done)["durables"].startswith("error ")


def test_doctor_reports_each_error_and_continues(deployment: Deployment) -> None:
    deployment.settings |= {"MYSQL_PASSWORD": "wrong-secret", "NATS_URL": "nats://u:other-secret@127.0.0.1:1"}
    (deployment.folder / "taken").write_text("this is a file")
    deployment.settings |= {"POSITIONS_PATH": "taken/p.db", "AUDIT_PATH": "taken", "STREAM_FORMAT": "json"}
    done = run_here(deployment, "doctor")
    lines = status_of(done)
    assert done.returncode == 1
    assert {name for name, line in lines.items() if line.startswith("error ")} == {
        "mysql", "nats", "positions", "audit log",
    }  # fmt: skip
    assert lines["warehouse"].startswith("ok ")
    assert "check user and password" in lines["mysql"]
    assert "secret" not in done.stdout + done.stderr


def test_doctor_finds_a_setting_of_the_server_and_prints_its_sql(
    deployment: Deployment, mysql_server: MySQLServer
) -> None:
    with mysql_server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET GLOBAL binlog_format = 'MIXED'")
        try:
            done = run_here(deployment, "doctor")
        finally:
            cursor.execute("SET GLOBAL binlog_format = 'ROW'")
    line = status_of(done)["binlog_format"]
    assert done.returncode == 1
    assert line.startswith("error ")
    assert line.endswith("fix: SET PERSIST binlog_format = ROW;")


def test_a_wrong_setting_is_one_line(deployment: Deployment) -> None:
    deployment.settings["FLUSH_ROWS"] = "many"
    done = deployment.run("tail")
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr == "binlogsync: BINLOGSYNC_FLUSH_ROWS='many' (.env, line 10): allowed: whole number, at least 1\n"
    )
