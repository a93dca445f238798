"""The command line as a person runs it: a process of its own, a real MySQL and NATS, settings in a .env file."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from binlogsync import cli
from binlogsync.embedded import MySQLServer, NATSServer
from binlogsync.mysql import MySQLConfig, inspect_server
from binlogsync.stores.sqlite import SQLitePositionStore
from binlogsync.stream.client import NatsConnection, NatsOptions
from tests.databases import FreshDatabase
from tests.nats_commands import delete_stream
from tests.waiting import wait_until

ROOT = Path(__file__).parents[1]
_NUMBERS = itertools.count(1)
_QUICK_S = 60.0


class Deployment:
    """A folder with a .env file, and `binlogsync` run in it."""

    def __init__(self, folder: Path, mysql: FreshDatabase, nats: NATSServer) -> None:
        self.folder = folder
        self.mysql = mysql
        self.nats = nats
        self.source = f"cli{os.getpid()}n{next(_NUMBERS)}"
        self.stream = f"CDC_{self.source.upper()}"
        server = mysql.server
        self.settings = {
            "SOURCE": self.source,
            "MYSQL_HOST": server.host,
            "MYSQL_PORT": str(server.port),
            "MYSQL_USER": server.cdc_user,
            "MYSQL_PASSWORD": server.cdc_password,
            "NATS_URL": nats.url,
            "INCLUDE": f"{mysql.name}.*",
            "FLUSH_INTERVAL_S": "0.2",
            "START": self.here(),
        }

    def here(self) -> str:
        """The end of the binlog."""
        server = self.mysql.server
        config = MySQLConfig(server.host, server.port, server.cdc_user, server.cdc_password)
        return str(inspect_server(config).end())

    def command(self, *arguments: str) -> tuple[list[str], dict[str, str]]:
        lines = (f"BINLOGSYNC_{name}='{value}'\n" for name, value in self.settings.items())
        (self.folder / ".env").write_text("".join(lines))
        clean = {name: value for name, value in os.environ.items() if not name.startswith("BINLOGSYNC_")}
        return [sys.executable, "-m", "binlogsync.cli", *arguments], {**clean, "PYTHONPATH": str(ROOT)}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """To its end, without showing a password."""
        command, environment = self.command(*arguments)
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=_QUICK_S
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert self.settings["MYSQL_PASSWORD"] not in done.stdout + done.stderr
        return done

    @contextmanager
    def running(self, *arguments: str) -> Iterator[Running]:
        """In the background; killed at the end of the block when it still runs."""
        command, environment = self.command(*arguments)
        number = next(_NUMBERS)
        out, err = self.folder / f"out{number}", self.folder / f"err{number}"
        with out.open("w") as stdout, err.open("w") as stderr:
            process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=stdout, stderr=stderr)
        try:
            yield Running(process, out, err)
        finally:
            process.kill()
            process.wait()


class Running:
    """A command in the background."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path, err: Path) -> None:
        self.process = process
        self._out, self._err = out, err

    @property
    def said(self) -> str:
        return self._err.read_text()

    def lines(self, count: int) -> list[dict[str, Any]]:
        """Envelopes on stdout, when there are so many."""
        wait_until(lambda: self._alive() and self._out.read_text().count("\n") >= count, _QUICK_S, f"{count} lines")
        return [json.loads(line) for line in self._out.read_text().splitlines()]

    def wait_said(self, text: str) -> None:
        wait_until(lambda: self._alive() and text in self.said, _QUICK_S, text)

    def interrupt(self) -> str:
        """Ctrl-C; what it said, when it ended with 0."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(_QUICK_S) == 0, self.said
        assert "Traceback" not in self.said
        return self.said

    def _alive(self) -> bool:
        assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.said}"
        return True


@pytest.fixture
def deployment(tmp_path: Path, mysql: FreshDatabase, nats_server: NATSServer) -> Iterator[Deployment]:
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
    mysql.execute("CREATE TABLE other (id INT PRIMARY KEY)")
    made = Deployment(tmp_path, mysql, nats_server)
    yield made
    delete_stream(nats_server.url, made.stream)


@pytest.fixture
def filled(deployment: Deployment) -> Deployment:
    """Three changes of `t` and one of `other` in the stream."""
    deployment.mysql.execute("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    deployment.mysql.execute("INSERT INTO other VALUES (7)")
    deployment.mysql.execute("UPDATE t SET v = 'c' WHERE id = 2")
    with deployment.running("tail") as tail:
        tail.wait_said(" changes stored")
        wait_until(lambda: durables(deployment)[0] >= 4, _QUICK_S, "four messages")
        assert "4 changes stored" in tail.interrupt().splitlines()[-1]
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
    """Name of each thing looked at -> its line."""
    return {line[9:].split(":")[0]: line for line in done.stdout.splitlines()}


def test_tail_stores_goes_on_and_lets_go(filled: Deployment) -> None:
    store = SQLitePositionStore(filled.folder / ".binlogsync" / "positions.db")
    assert store.load(filled.source) is not None
    lease = store.lease(filled.source)
    store.close()
    assert lease is not None
    assert lease.released
    filled.mysql.execute("DELETE FROM t WHERE id = 1")
    with filled.running("tail") as tail:
        wait_until(lambda: durables(filled)[0] >= 5, _QUICK_S, "the delete")
        assert "1 changes stored" in tail.interrupt().splitlines()[-1]


@pytest.mark.slow
def test_tail_takes_over_only_when_told(deployment: Deployment) -> None:
    with deployment.running("tail") as first:
        first.wait_said(" changes stored")
        refused = deployment.run("tail")
        assert refused.returncode == 1
        assert "is held by" in refused.stderr
        assert "tail is running" in status_of(deployment.run("doctor"))["lease"]
        with deployment.running("tail", "--take-over") as second:
            second.wait_said(" changes stored")
            assert first.process.wait(_QUICK_S) == 1
            assert "has claimed it since" in first.said
            second.interrupt()


def test_tail_to_stdout_needs_no_nats_and_stores_nothing(deployment: Deployment) -> None:
    deployment.settings["NATS_URL"] = "nats://127.0.0.1:1"
    name, mysql = deployment.mysql.name, deployment.mysql
    mysql.execute("INSERT INTO t VALUES (1, 'a')")
    mysql.execute("INSERT INTO other VALUES (1)")
    with deployment.running("tail", "--stdout") as tail:
        assert [line["source"]["table"] for line in tail.lines(2)] == ["t", "other"]
        mysql.execute("UPDATE t SET v = 'ä'")
        line = tail.lines(3)[-1]
        assert (line["op"], line["before"], line["after"]) == ("u", {"id": 1, "v": "a"}, {"id": 1, "v": "ä"})
        assert line["source"]["name"] == deployment.source
        tail.interrupt()
    assert not (deployment.folder / ".binlogsync").exists()
    start = ("--start", deployment.settings["START"])
    deployment.settings["START"] = "now"
    with deployment.running("tail", "--stdout", *start, "--include", f"{name}.oth*") as tail:
        assert [line["source"]["table"] for line in tail.lines(1)] == ["other"]
        tail.interrupt()


def test_tail_to_stdout_disturbs_no_tail(deployment: Deployment) -> None:
    with deployment.running("tail", "--verbose") as tail:
        tail.wait_said(" changes stored")
        with deployment.running("tail", "--stdout") as look:
            deployment.mysql.execute("INSERT INTO t VALUES (1, 'a')")
            look.lines(1)
            wait_until(lambda: durables(deployment)[0] >= 1, _QUICK_S, "the insert in the stream")
            deployment.mysql.execute("INSERT INTO t VALUES (2, 'a')")
            look.lines(2)
            wait_until(lambda: durables(deployment)[0] >= 2, _QUICK_S, "the second insert in the stream")
            look.interrupt()
        assert "trying again" not in tail.interrupt()


@pytest.mark.parametrize("arguments", [("tail", "--stdout"), ("consume", "TABLE")])
def test_a_reader_that_goes_away_is_no_noise(filled: Deployment, arguments: tuple[str, ...]) -> None:
    command, environment = filled.command(
        *(f"{filled.mysql.name}.t" if word == "TABLE" else word for word in arguments)
    )
    with subprocess.Popen(
        command, cwd=filled.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["op"] == "c"
        process.stdout.close()
        filled.mysql.execute("INSERT INTO t VALUES (9, 'z')")
        if arguments[0] == "consume":
            with filled.running("tail") as tail:
                assert process.wait(_QUICK_S) == 0
                tail.interrupt()
        assert process.wait(_QUICK_S) == 0
        assert process.stderr.read() == ""


def test_consume(filled: Deployment) -> None:
    table = f"{filled.mysql.name}.t"
    found = lines_of(filled.run("consume", table, "--limit", "3"))
    assert [(line["op"], line["after"]["v"]) for line in found] == [("c", "a"), ("c", "b"), ("u", "c")]
    assert lines_of(filled.run("consume", table, "--from", "2", "--limit", "2"))[-1]["op"] == "u"
    assert durables(filled) == (4, 0)


def test_consume_follows(filled: Deployment) -> None:
    table = f"{filled.mysql.name}.t"
    with filled.running("consume", table, "--from", "new") as consume:
        wait_until(lambda: durables(filled)[1] == 1, _QUICK_S, "the durable")
        filled.mysql.execute("DELETE FROM t WHERE id = 1")
        with filled.running("tail") as tail:
            wait_until(lambda: durables(filled)[0] == 5, _QUICK_S, "the delete")
            tail.interrupt()
        assert [line["op"] for line in consume.lines(1)] == ["d"]
        consume.interrupt()


def test_consume_ends_in_good_order(filled: Deployment) -> None:
    with filled.running("consume", f"{filled.mysql.name}.t") as consume:
        assert len(consume.lines(3)) == 3
        consume.interrupt()
    assert durables(filled) == (4, 0)
    with filled.running("consume", f"{filled.mysql.name}.nothing") as consume:
        consume.wait_said(f"it holds {filled.mysql.name}.other, {filled.mysql.name}.t")
        wait_until(lambda: durables(filled)[1] == 1, _QUICK_S, "the durable")
        consume.interrupt()
    assert durables(filled) == (4, 0)


def test_consume_without_a_stream(deployment: Deployment) -> None:
    done = deployment.run("consume", "shop.orders")
    assert done.returncode == 1
    assert "start its tail" in done.stderr


def test_doctor_before_the_first_tail(deployment: Deployment) -> None:
    deployment.settings["AUDIT_PATH"] = "audit.duckdb"
    done = deployment.run("doctor")
    lines = status_of(done)
    assert done.returncode == 0, done.stdout
    assert "is not there yet" in lines["stream"]
    assert deployment.settings["START"] in lines["checkpoint"]
    assert {line.split()[0] for line in lines.values()} <= {"ok", "warning"}
    assert {"mysql", "binlog_row_metadata", "nats", "positions", "audit log", "warehouse"} <= set(lines)
    assert [path.name for path in deployment.folder.iterdir()] == [".env"]
    assert durables(deployment) == (0, 0)


def test_doctor_behind_a_tail(filled: Deployment) -> None:
    done = filled.run("doctor")
    lines = status_of(done)
    assert done.returncode == 0, done.stdout
    assert "holds 4 messages" in lines["stream"]
    assert "free; last held by" in lines["lease"]
    assert "still good" in lines["saved checkpoint"]
    assert "still good" in lines["stream's checkpoint"]
    assert "the tail at binlog." in lines["worth"]
    assert "hours at least" in lines["worth"]
    assert "as it was" in lines["server"]
    assert "clock is 0." in lines["clock"]


def test_doctor_says_what_is_wrong_and_goes_on(deployment: Deployment) -> None:
    deployment.settings |= {"MYSQL_PASSWORD": "wrong-secret", "NATS_URL": "nats://u:other-secret@127.0.0.1:1"}
    (deployment.folder / "taken").write_text("this is a file")
    deployment.settings |= {"POSITIONS_PATH": "taken/p.db", "AUDIT_PATH": "taken", "STREAM_FORMAT": "json"}
    done = deployment.run("doctor")
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
            done = deployment.run("doctor")
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
    assert done.stderr == "binlogsync: BINLOGSYNC_FLUSH_ROWS='many' is not a number; it is at least 1\n"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("dance",),
        ("consume",),
        ("consume", "a.b", "--limit", "0"),
        ("consume", "a.b", "--from", "last"),
        ("tail", "--start", "now"),
        ("tail", "--stdout", "--take-over"),
    ],
)
def test_a_wrong_command_line_ends_with_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage: binlogsync" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["", "doctor", "tail", "consume"])
def test_help_is_short(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*([command] if command else []), "--help"])
    assert ended.value.code == 0
    assert 5 < capsys.readouterr().out.count("\n") < 40


def test_help_needs_none_of_the_libraries(tmp_path: Path) -> None:
    code = "import sys, binlogsync.cli; print(sorted({'numba', 'nats', 'duckdb', 'pyarrow'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
