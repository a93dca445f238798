"""The thread that reads ahead: nothing lost, nothing late, nothing silent."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from binlogsync import servers
from binlogsync.errors import SourceError
from binlogsync.mysql import BinlogDump, DumpBlock, MySQLConfig, ReadAhead, inspect_server, readahead, resolve_start
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.start_notation import parse_start
from tests.mysql.sources import ENCRYPTED, PLAIN, run, source_of


@pytest.fixture
def config(mysql_server: servers.MySQLServer) -> MySQLConfig:
    run(
        mysql_server,
        "CREATE DATABASE IF NOT EXISTS ahead",
        "CREATE TABLE IF NOT EXISTS ahead.t (a LONGBLOB)",
    )
    return source_of(mysql_server)


def drain(ahead: ReadAhead) -> None:
    """Takes what comes until nothing comes for a moment."""
    while ahead.next(0.2) is not None:
        pass


def take(ahead: ReadAhead, seconds: float) -> None:
    """Takes what comes for so long, or until an error."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ahead.next(0.1)


def read_all(dump: BinlogDump, buffer: memoryview) -> None:
    """Reads until the end."""
    while dump.readinto(buffer):
        pass


@pytest.fixture(params=[False, True], ids=["thread", "here"])
def reads_here(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.parametrize("tls", [PLAIN, ENCRYPTED], ids=lambda tls: tls.mode)
@pytest.mark.parametrize("recycle", [True, False])
def test_the_bytes_are_those_of_the_dump(
    mysql_server: servers.MySQLServer, config: MySQLConfig, tls: object, recycle: bool, reads_here: bool
) -> None:
    config = replace(config, tls=tls)  # type: ignore[arg-type]
    run(mysql_server, "FLUSH BINARY LOGS", *["INSERT INTO ahead.t VALUES (REPEAT('y', 300000))"] * 20)
    begin = Checkpoint(BinlogPosition(inspect_server(config).end().file, 4), inspect_server(config).server_uuid)
    with BinlogDump(config, begin, blocking=False) as dump:
        plain, buffer = bytearray(), memoryview(bytearray(1 << 20))
        while count := dump.readinto(buffer):
            plain += buffer[:count]
    ahead_bytes = bytearray()
    with (
        BinlogDump(config, begin, blocking=False) as dump,
        ReadAhead(dump, buffer_bytes=1 << 18, headroom=1000, reads_here=reads_here) as ahead,
    ):
        while (chunk := ahead.next(60)) is not None:
            assert chunk.start == 1000
            assert chunk.buffer.dtype == np.uint8
            ahead_bytes += chunk.buffer[chunk.start : chunk.end].tobytes()
            if recycle:
                ahead.recycle(chunk)
        assert ahead.ended
    assert ahead_bytes[:-20] == plain[:-20]


def test_a_quiet_server_is_heard_at_once(
    mysql_server: servers.MySQLServer, config: MySQLConfig, reads_here: bool
) -> None:
    """No later byte pushes a row to the consumer: the next heartbeat comes in an hour."""
    config = replace(config, heartbeat_s=3600)
    with BinlogDump(config, resolve_start(config)) as dump, ReadAhead(dump, reads_here=reads_here) as ahead:
        drain(ahead)
        timer = threading.Timer(0.3, run, (mysql_server, "INSERT INTO ahead.t VALUES ('soon')"))
        timer.start()
        found = b""
        while b"soon" not in found:
            chunk = ahead.next(120)
            assert chunk is not None
            found = chunk.buffer[chunk.start : chunk.end].tobytes()
        timer.join()


def test_next_gives_nothing_when_nothing_comes(config: MySQLConfig, reads_here: bool) -> None:
    with BinlogDump(config, resolve_start(config)) as dump, ReadAhead(dump, reads_here=reads_here) as ahead:
        drain(ahead)
        assert not ahead.ended


def test_a_wake_ends_the_current_wait_or_the_next_one(config: MySQLConfig, reads_here: bool) -> None:
    with BinlogDump(config, resolve_start(config)) as dump, ReadAhead(dump, reads_here=reads_here) as ahead:
        drain(ahead)
        ahead.wake()
        assert ahead.next(3600) is None
        timer = threading.Timer(0.2, ahead.wake)
        timer.start()
        assert ahead.next(3600, "collect") is None
        timer.join()


def test_bytes_are_collected_until_they_are_asked_for(
    mysql_server: servers.MySQLServer, config: MySQLConfig, reads_here: bool
) -> None:
    """Five transactions arrive one by one, while their reader waits for many bytes: it gets all of them at once."""
    now = resolve_start(config)
    with BinlogDump(config, now) as dump, ReadAhead(dump, reads_here=reads_here) as ahead:
        drain(ahead)
        found: list[DumpBlock | None] = []
        reader = threading.Thread(target=lambda: found.append(ahead.next(3600, "collect")))
        reader.start()
        for number in range(5):
            run(mysql_server, f"INSERT INTO ahead.t VALUES ('transaction {number}')")
        time.sleep(0.2)
        ahead.wake()
        reader.join()
        parts = [part for part in (*found, ahead.next(60, "at_once")) if part is not None]
        while b"transaction 4" not in _bytes(parts):
            parts += [part for part in [ahead.next(60, "at_once")] if part is not None]
    text = _bytes(parts)
    assert [b"transaction %d" % number in text for number in range(5)] == [True] * 5


def test_many_bytes_are_not_held_back(mysql_server: servers.MySQLServer, config: MySQLConfig, reads_here: bool) -> None:
    now = resolve_start(config)
    run(mysql_server, *["INSERT INTO ahead.t VALUES (REPEAT('z', 400000))"] * 3)
    with BinlogDump(config, now) as dump, ReadAhead(dump, reads_here=reads_here) as ahead:
        found = 0
        while found < 1_200_000:
            part = ahead.next(60, "collect")
            assert part is not None
            found += len(part)


def _bytes(parts: list[DumpBlock]) -> bytes:
    return b"".join(bytes(part.buffer[part.start : part.end]) for part in parts)


def test_buffers_are_few_while_the_consumer_is_busy(
    mysql_server: servers.MySQLServer, config: MySQLConfig, reads_here: bool
) -> None:
    now = resolve_start(config)
    run(mysql_server, *["INSERT INTO ahead.t VALUES (REPEAT('z', 1000000))"] * 10)
    with (
        BinlogDump(config, now) as dump,
        ReadAhead(dump, buffer_bytes=1 << 16, headroom=0, reads_here=reads_here) as ahead,
    ):
        first = ahead.next(60)
        time.sleep(0.3)
        seen = {id(chunk.buffer) for chunk in (first, ahead.next(60), ahead.next(60)) if chunk is not None}
        assert len(seen) == 3
        for _ in range(20):
            chunk = ahead.next(60)
            assert chunk is not None
            assert len(chunk) <= 1 << 16
            ahead.recycle(chunk)


def test_leaving_the_block_ends_the_thread(config: MySQLConfig, reads_here: bool) -> None:
    with BinlogDump(config, resolve_start(config)) as dump, ReadAhead(dump, reads_here=reads_here):
        pass
    assert not [thread for thread in threading.enumerate() if thread.name == "binlog-read-ahead"]


def test_a_killed_connection_is_an_error_behind_the_last_bytes(
    mysql_server: servers.MySQLServer, config: MySQLConfig, reads_here: bool
) -> None:
    with BinlogDump(config, resolve_start(config)) as dump, ReadAhead(dump, reads_here=reads_here) as ahead:
        drain(ahead)
        sql = "SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%' AND user = 'binlogsync'"
        run(mysql_server, *[f"KILL {row[0]}" for row in run(mysql_server, sql)])
        with pytest.raises(SourceError, match="reconnect"):
            take(ahead, 120)


@contextmanager
def silent_proxy(host: str, port: int, silence: threading.Event) -> Iterator[int]:
    """A port that passes bytes on until `silence` is set; then it keeps the connections open and passes nothing."""
    listener = socket.create_server(("127.0.0.1", 0))
    sockets: list[socket.socket] = []

    def pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if not silence.is_set():
                    target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def accept() -> None:
        try:
            while True:
                near, _ = listener.accept()
                far = socket.create_connection((host, port))
                sockets.extend((near, far))
                for pair in ((near, far), (far, near)):
                    threads.append(threading.Thread(target=pump, args=pair, daemon=True))
                    threads[-1].start()
        except OSError:
            return

    threads = [threading.Thread(target=accept, daemon=True)]
    threads[0].start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        for each in sockets:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        for thread in threads:
            thread.join(5)
        for each in (*sockets, listener):
            each.close()


def test_silence_is_an_error(mysql_server: servers.MySQLServer, config: MySQLConfig, reads_here: bool) -> None:
    silence = threading.Event()
    with silent_proxy(mysql_server.host, mysql_server.port, silence) as port:
        through = replace(config, port=port, heartbeat_s=0.3)
        # A busy machine may delay several heartbeats.
        with (
            BinlogDump(through, resolve_start(through)) as dump,
            ReadAhead(dump, idle_s=6.0, reads_here=reads_here) as ahead,
        ):
            take(ahead, 6.5)  # longer than the watchdog waits: heartbeats keep it quiet
            silence.set()
            with pytest.raises(SourceError, match="not even a heartbeat"):
                take(ahead, 120)


def test_silence_is_an_error_while_other_threads_wake_the_reader(
    mysql_server: servers.MySQLServer, config: MySQLConfig, reads_here: bool
) -> None:
    silence, is_over = threading.Event(), threading.Event()
    with silent_proxy(mysql_server.host, mysql_server.port, silence) as port:
        through = replace(config, port=port, heartbeat_s=0.3)
        with (
            BinlogDump(through, resolve_start(through)) as dump,
            ReadAhead(dump, idle_s=2.0, reads_here=reads_here) as ahead,
        ):

            def wake() -> None:
                while not is_over.wait(0.01):
                    ahead.wake()

            drain(ahead)
            silence.set()
            thread = threading.Thread(target=wake)
            thread.start()
            try:
                with pytest.raises(SourceError, match="not even a heartbeat"):
                    take(ahead, 120)
            finally:
                is_over.set()
                thread.join()


def test_silence_is_an_error_without_read_ahead_too(mysql_server: servers.MySQLServer, config: MySQLConfig) -> None:
    silence = threading.Event()
    with silent_proxy(mysql_server.host, mysql_server.port, silence) as port:
        through = replace(config, port=port, heartbeat_s=0.3)
        with BinlogDump(through, resolve_start(through)) as dump:
            buffer = memoryview(bytearray(1 << 16))
            dump.readinto(buffer)
            silence.set()
            with pytest.raises(SourceError, match="not even a heartbeat"):
                read_all(dump, buffer)


def test_the_next_reader_takes_the_buffers_of_the_last(config: MySQLConfig, reads_here: bool) -> None:
    readahead.SPARE.clear()
    begin = resolve_start(config, parse_start("oldest"))
    with BinlogDump(config, begin) as dump, ReadAhead(dump, reads_here=reads_here) as ahead:
        chunk = ahead.next(120)
        while chunk is not None:
            ahead.recycle(chunk)
            chunk = ahead.next(0.2)
    kept = {buffer.ctypes.data for buffer in readahead.SPARE}
    assert 1 <= len(kept) <= 3
    with BinlogDump(config, begin) as dump, ReadAhead(dump, reads_here=reads_here) as ahead:
        first = ahead.next(60)
        assert first is not None
        assert first.buffer.ctypes.data in kept
