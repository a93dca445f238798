"""`binlogsync snapshot` with a real NATS, and a stand-in for the tail: requests, states, progress and exit codes."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from binlogsync.cli.main import main
from binlogsync.codec.subjects import durable_name, stream_name
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.servers import NATSServer
from binlogsync.snapshot.requests import SnapshotRequests
from binlogsync.snapshot.requests_nats import NatsSnapshotRequests
from tests.nats_commands import ask, delete_stream
from tests.snapshot.tail_stand_in import carry_out

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def source(nats_server: NATSServer) -> Iterator[str]:
    name = f"snap{secrets.token_hex(4)}"
    ask(nats_server.url, lambda js: js.add_stream(name=stream_name(name), subjects=[f"cdc.{name}.>"]))
    yield name
    delete_stream(nats_server.url, stream_name(name))


@pytest.fixture
def requests(nats_server: NATSServer, source: str) -> Iterator[SnapshotRequests]:
    made = NatsSnapshotRequests(NatsOptions(url=nats_server.url), source)
    yield made
    made.close()


@pytest.fixture
def run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    nats_server: NATSServer,
    source: str,
) -> Run:
    """Runs `binlogsync snapshot` in this process; returns exit code, stdout and stderr."""
    for name in [name for name in os.environ if name.startswith("BINLOGSYNC_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(f"BINLOGSYNC_SOURCE={source}\nBINLOGSYNC_NATS_URL={nats_server.url}\n")

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["snapshot", *arguments])
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


def test_a_request_is_followed_to_its_end(run: Run, requests: SnapshotRequests) -> None:
    tail = threading.Thread(target=carry_out, args=(requests, ["running", "running", "done"]))
    tail.start()
    code, out, err = run("shop.*", "--rows-per-second", "5000")
    tail.join()
    [stored] = requests.list()
    assert (code, out) == (0, f"{stored.request.id}\n")
    assert (stored.request.patterns, stored.request.rows_per_s) == (("shop.*",), 5000.0)
    assert f"snapshot {stored.request.id} of shop.* requested" in err
    assert "done: 2 tables, 60 rows" in err.splitlines()[-1]
    assert run("status", stored.request.id) == (
        0,
        f"{stored.request.id} done: 2 tables, 60 rows\nshop.orders: done, 30 rows of about 30\n"
        "shop.items: done, 30 rows of about 50\n",
        "",
    )


def test_a_failed_table_is_named_and_is_an_error(run: Run, requests: SnapshotRequests) -> None:
    tail = threading.Thread(target=carry_out, args=(requests, ["running", "failed"], "give it a primary key"))
    tail.start()
    code, _, err = run("shop.orders", "shop.items", "--where", "id > 3")
    tail.join()
    assert code == 1
    assert "shop.items: failed, 20 rows of about 50: give it a primary key" in err
    [stored] = requests.list()
    assert stored.request.where == "id > 3"
    code, out, _ = run("status", stored.request.id)
    assert code == 1
    assert "failed: 2 tables where id > 3, 50 rows, 1 tables failed: give it a primary key" in out


def test_the_consumer_has_to_be_known(
    run: Run, requests: SnapshotRequests, source: str, nats_server: NATSServer
) -> None:
    assert "those that do are: none" in run("shop.orders", "--consumer", "app", "--no-wait")[2]
    with StreamReader(NatsOptions(url=nats_server.url), source) as reader:
        reader.ensure_durable(durable_name("app", "shop", "orders"), "shop", "orders", 1, client_id="app")
    code, _, err = run("shop.orders", "--consumer", "ap", "--no-wait")
    assert code == 1
    assert "no consumer 'ap' reads the stream; those that do are: app" in err
    assert requests.list() == []
    code, out, _ = run("shop.orders", "--consumer", "app", "--no-wait")
    assert code == 0
    [stored] = requests.list()
    assert (stored.request.consumer, stored.request.subject) == ("app", f"cdc_snapshot.{source}.app")
    assert run("status")[1] == f"{out.strip()} waiting for the tail: shop.orders for consumer app, 0 rows\n"


def test_pause_resume_and_cancel(run: Run, requests: SnapshotRequests) -> None:
    code, out, _ = run("shop.orders", "--no-wait")
    id = out.strip()
    assert code == 0
    assert run("status")[:2] == (0, f"{id} waiting for the tail: shop.orders, 0 rows\n")
    assert run("pause")[:2] == (0, f"{id} paused: shop.orders, 0 rows\n")
    assert run("resume", id)[:2] == (0, f"{id} waiting for the tail: shop.orders, 0 rows\n")
    carry_out(requests, ["running"])
    assert "running: 2 tables, 40 rows, 1 of 2 tables done" in run("status")[1]
    assert "shop.items: running, 10 rows of about 50, 40 rows/s, about 1 s left" in run("status", id)[1]
    assert run("pause", id)[0] == 0
    [stored] = requests.list()
    assert (stored.status.state, stored.status.rows) == ("paused", 40)
    assert run("resume")[0] == 0
    assert [each.status.state for each in requests.list()] == ["running"]
    assert run("cancel")[:2] == (0, f"{id} cancelled: 2 tables, 40 rows\n")
    assert run("status", id)[0] == 1
    code, _, err = run("resume", id)
    assert code == 1
    assert f"snapshot {id} has ended already: cancelled" in err


def test_an_update_is_repeated_while_the_tail_updates_too(run: Run, requests: SnapshotRequests) -> None:
    run("shop.orders", "--no-wait")
    carry_out(requests, ["running"])
    [stored] = requests.list()
    stop = threading.Event()

    def count() -> None:
        while not stop.is_set():
            [now] = requests.list()
            requests.update(now, replace(now.status, updated_us=now.status.updated_us + 1))
            stop.wait(0.02)

    tail = threading.Thread(target=count)
    tail.start()
    code, _, _ = run("pause")
    stop.set()
    tail.join()
    assert code == 0
    [now] = requests.list()
    assert now.status.state == "paused"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("pause",), "no snapshot is waiting, running or paused"),
        (("status", "nope"), "there is no snapshot nope; those of this source are: none"),
    ],
)
def test_what_is_not_there_is_an_error(run: Run, arguments: tuple[str, ...], text: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert text in err


def test_the_id_is_required_while_several_wait(run: Run) -> None:
    ids = [run("shop.orders", "--no-wait")[1].strip() for _ in range(2)]
    code, _, err = run("cancel")
    assert code == 1
    assert f"2 snapshots have not ended ({', '.join(ids)}): name one of them" in err


def test_a_source_without_a_stream_is_an_error(run: Run, source: str, nats_server: NATSServer) -> None:
    assert run("status")[2] == "no snapshot was requested\n"
    delete_stream(nats_server.url, stream_name(source))
    code, _, err = run("shop.orders", "--no-wait")
    assert code == 1
    assert f"stream {stream_name(source)} does not exist: the tail creates it; start the tail first" in err
    code, _, err = run("shop.orders", "--consumer", "app", "--no-wait")
    assert code == 1
    assert f"has no stream {stream_name(source)} yet; start its tail" in err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("orders",), "not a table pattern"),
        (("status", "a", "b"), "at most one id"),
        (("pause", "--where", "id > 1"), "takes only an id"),
        (("shop.orders", "--where", " "), "--where is empty"),
        (("shop.orders", "--rows-per-second", "0"), "not a number above 0"),
        (("pause", "--consumer", "app"), "takes only an id"),
        (("shop.orders", "--consumer", ""), "--consumer is empty"),
        ((), "required: PATTERN"),
    ],
)
def test_a_wrong_command_line_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], text: str
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["snapshot", *arguments])
    assert raised.value.code == 2
    assert text in capsys.readouterr().err
