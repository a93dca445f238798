"""Latency from commit to stored, and processor time of a flush: a bare loop, interval flushes and eager flushes.

    python -m bench.latency [SECONDS]

At each rate, one client commits one-row transactions over 20 tables, evenly spaced. Commit is the time at which the
client's COMMIT returned; stored is the time of the message in JetStream, from the same clock. Each variant runs in its
own process, for SECONDS (10). The bare loop reads the binlog from the socket, and publishes one small
acknowledged, fenced message for each transaction.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import multiprocessing.synchronize
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median, quantiles

import nats
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from bench.consumer_latency import IDLE_S, Kind, consumers, describe, wait_for
from binlogsync import servers
from binlogsync.codec import subjects
from binlogsync.mysql import TLS, BinlogDump, MySQLConfig, resolve_start
from binlogsync.signals import stop_on_signals
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from binlogsync.start_notation import parse_start
from binlogsync.stores.memory import MemoryPositionStore
from binlogsync.tail.run import Tail, TailOptions, TailProgress

RATES = (100, 1000)
TABLES = 20
_XID_EVENT = 16
DATABASE = "latency"
_CREATE = (
    f"CREATE TABLE {DATABASE}.t{{number}} "
    "(id INT AUTO_INCREMENT PRIMARY KEY, number INT, at DATETIME(6), memo VARCHAR(80))"
)
_SETTLE_S = 4.0  # more than the longest flush interval
_MODES: dict[str, dict[str, object]] = {
    "interval 3 s": {},
    "interval 0.05 s": {"flush_interval_s": 0.05},
    "eager": {"flush": "eager"},
}


@dataclass(frozen=True, slots=True)
class LatencyResult:
    """Milliseconds from commit to stored of each transaction, CPU milliseconds of the process, and its flushes."""

    latencies_ms: list[float]
    cpu_ms: float
    flushes: int

    def line(self, name: str, rate: int) -> str:
        """A row of the table."""
        found = sorted(self.latencies_ms)
        p99 = quantiles(found, n=100)[98]
        return (
            f"{rate:>5}/s  {name:<16} {median(found):9.2f} {p99:9.1f} {found[-1]:9.1f} "
            f"{self.flushes:8,} {self.cpu_ms / max(self.flushes, 1):8.2f} {self.cpu_ms / len(found):8.2f}"
        )


def main(seconds: float) -> None:
    """Run all variants, and print a table."""
    with (
        servers.mysql(options={"innodb_flush_log_at_trx_commit": "2", "sync_binlog": "0"}) as mysql,
        servers.nats() as server,
    ):
        config = MySQLConfig(mysql.host, mysql.port, mysql.user, mysql.password, tls=TLS("disabled"))
        create_tables(mysql)
        print(f"{'rate':>7}  {'variant':<16} {'median ms':>9} {'p99':>9} {'max':>9} {'flushes':>8} {'CPU ms':>8}"  # noqa: T201
              f" {'a change':>8}")  # fmt: skip
        for rate in RATES:
            for number, name in enumerate(("bare loop", *_MODES)):
                source = f"latency{rate}x{number}"
                found = measure(mysql, config, server.url, (source, name), rate, seconds)
                print(found.line(name, rate), flush=True)  # noqa: T201
        for kind in ("handlers", "mirrors"):
            measure_consumers(mysql, config, server.url, kind, seconds)


def measure(
    mysql: servers.MySQLServer, config: MySQLConfig, url: str, variant: tuple[str, str], rate: int, seconds: float
) -> LatencyResult:
    """Run one variant (source, name), with a writer beside it."""
    source, name = variant
    spawn = multiprocessing.get_context("spawn")
    ready, report = spawn.Event(), spawn.Queue()
    process = spawn.Process(target=_publish, args=(config, url, variant, ready, report), daemon=True)
    process.start()
    try:
        if not ready.wait(60):
            raise SystemExit(f"{name} did not start")
        while not asyncio.run(_count(url, source)):  # the publisher starts at the end of the binlog
            write(mysql, 1, 1)
        time.sleep(_SETTLE_S)
        before = asyncio.run(_count(url, source))
        committed = write(mysql, rate, seconds)
        stored = asyncio.run(_stored_at(url, source, before + len(committed)))[before:]
    finally:
        if process.pid is not None and process.is_alive():
            _end(process)
    cpu_ms, flushes = report.get(timeout=60)
    return LatencyResult([(stored[n] - at) * 1e3 for n, at in committed.items()], cpu_ms, flushes)


def create_tables(mysql: servers.MySQLServer) -> None:
    """Create the database with empty tables; tables that exist are created again."""
    with mysql.connect(autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE IF NOT EXISTS {DATABASE}")
        for number in range(TABLES):
            cursor.execute(f"DROP TABLE IF EXISTS {DATABASE}.t{number}")
            cursor.execute(_CREATE.format(number=number))


@contextmanager
def tailing(config: MySQLConfig, url: str, variant: tuple[str, str]) -> Iterator[None]:
    """Run the tail of a variant (source, name) in its own process."""
    spawn = multiprocessing.get_context("spawn")
    ready, report = spawn.Event(), spawn.Queue()
    tail = spawn.Process(target=_publish, args=(config, url, variant, ready, report), daemon=True)
    tail.start()
    try:
        if not ready.wait(60):
            raise SystemExit("the tail did not start")
        yield
    finally:
        _end(tail)


def measure_consumers(mysql: servers.MySQLServer, config: MySQLConfig, url: str, kind: Kind, seconds: float) -> None:
    """Print the latency of consumers of all tables at each rate, and their processor time without changes."""
    source = f"latency{kind}"
    with tailing(config, url, (source, "eager")):
        create_tables(mysql)  # again, so that the stream contains them from their creation
        write(mysql, TABLES, 1)
        while asyncio.run(_count(url, source)) < TABLES:
            time.sleep(0.1)
        with consumers(kind, url, source, [(DATABASE, f"t{number}") for number in range(TABLES)]) as running:
            running.report()
            time.sleep(IDLE_S)
            idle = running.report()
            print(f"{'idle':>7}  {kind:<24} {'':29} {idle.cpu_s / idle.seconds * 100:8.2f} %", flush=True)  # noqa: T201
            for rate in RATES:
                write(mysql, rate, 1.0)
                time.sleep(_SETTLE_S)
                running.report()
                committed = write(mysql, rate, seconds)
                print(describe(f"commit to {kind}", rate, committed, wait_for(running, committed)), flush=True)  # noqa: T201


def _end(process: multiprocessing.context.SpawnProcess) -> None:
    assert process.pid is not None
    os.kill(process.pid, signal.SIGTERM)
    process.join(60)


def write(mysql: servers.MySQLServer, rate: int, seconds: float) -> dict[int, float]:
    """Commit transactions, evenly spaced; when each commit returned, by number, in seconds since 1970."""
    committed: dict[int, float] = {}
    with mysql.connect(autocommit=True) as connection, connection.cursor() as cursor:
        begun = time.monotonic()
        for number in range(int(rate * seconds)):
            time.sleep(max(0.0, begun + number / rate - time.monotonic()))
            cursor.execute(
                f"INSERT INTO {DATABASE}.t{number % TABLES} (number, at, memo) "
                f"VALUES ({number}, NOW(6), 'a note of some length')"
            )
            committed[number] = time.time()
    return committed


async def _stored_at(url: str, source: str, count: int) -> list[float]:
    """The time at which the message of each transaction was stored, in seconds since 1970."""
    client = await nats.connect(url)
    js, stream = client.jetstream(), subjects.stream_name(source)
    ends_at = time.monotonic() + 120
    while await _message_count(js, stream) < count:
        if time.monotonic() > ends_at:
            raise SystemExit(f"stream {stream} has fewer than {count} messages")
        await asyncio.sleep(0.2)
    config = ConsumerConfig(deliver_policy=DeliverPolicy.ALL, ack_policy=AckPolicy.NONE)
    puller = await js.pull_subscribe("", stream=stream, config=config)
    found: list[float] = []
    while len(found) < count:
        messages = await puller.fetch(min(1000, count - len(found)), timeout=10)
        found += [message.metadata.timestamp.timestamp() for message in messages if message.data]
    await client.close()
    return found


async def _count(url: str, source: str) -> int:
    client = await nats.connect(url)
    count = await _message_count(client.jetstream(), subjects.stream_name(source))
    await client.close()
    return count


async def _message_count(js: JetStreamContext, stream: str) -> int:
    """Messages with a change; 0 if the stream does not exist."""
    try:
        state = (await js.stream_info(stream, subjects_filter=">")).state
    except nats.js.errors.NotFoundError:
        return 0
    return sum(count for subject, count in (state.subjects or {}).items() if "._checkpoint" not in subject)


def _publish(
    config: MySQLConfig,
    url: str,
    variant: tuple[str, str],
    ready: multiprocessing.synchronize.Event,
    report: multiprocessing.Queue[tuple[float, int]],
) -> None:
    """The process of one variant: publish until SIGTERM, then report (CPU milliseconds, flushes)."""
    source, name = variant
    begun: list[float] = []

    def begin() -> None:
        begun.append(time.process_time())
        ready.set()

    with stop_on_signals() as stop:
        if name in _MODES:
            flushes = _tail(config, url, source, _MODES[name], stop, begin)
        else:
            flushes = _bare_loop(config, url, source, stop, begin)
    report.put(((time.process_time() - begun[0]) * 1e3, flushes))


def _tail(
    config: MySQLConfig,
    url: str,
    source: str,
    mode: dict[str, object],
    stop: threading.Event,
    begin: Callable[[], None],
) -> int:
    options = TailOptions(source, include=(f"{DATABASE}.*",), **mode)  # type: ignore[arg-type]
    is_begun = False

    def report(progress: TailProgress) -> None:
        nonlocal is_begun
        if not is_begun and progress.phase == "reading":
            is_begun = True
            begin()

    tail = Tail(config, [JetStreamSink(JetStreamOptions(url=url))], MemoryPositionStore(), options, owner="bench")
    return tail.run(stop, report).flushes


def _bare_loop(config: MySQLConfig, url: str, source: str, stop: threading.Event, begin: Callable[[], None]) -> int:
    """Publish one message for each transaction that is read; returns their number."""
    stream = subjects.stream_name(source)
    host, _, port = url.removeprefix("nats://").partition(":")
    start = resolve_start(config, parse_start("now"))
    view, rest, sent, last = memoryview(bytearray(4 << 20)), b"", 0, 0
    with socket.create_connection((host, int(port))) as broker, BinlogDump(config, start) as dump:
        broker.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        broker.sendall(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\nSUB _INBOX.l.* 1\r\n')
        wanted = {"name": stream, "subjects": [f"{source}.>"], "storage": "file", "allow_direct": True}
        _request(broker, f"$JS.API.STREAM.CREATE.{stream}", b"", json.dumps(wanted).encode())
        dump.never_wait()
        begin()
        while not stop.is_set():
            if not select.select([dump.fileno()], [], [], 0.2)[0] or (size := dump.read_now(view)) <= 0:
                continue
            rest, at = rest + bytes(view[:size]), 0
            while at + 4 <= len(rest) and at + 4 + (length := int.from_bytes(rest[at : at + 3], "little")) <= len(rest):
                if length > 6 and rest[at + 9] == _XID_EVENT:
                    fence = f"NATS/1.0\r\nNats-Expected-Last-Sequence: {last}\r\nNats-Msg-Id: {sent}\r\n\r\n"
                    last = _request(broker, f"{source}.t", fence.encode(), b'{"number": %d}' % sent)["seq"]
                    sent += 1
                at += 4 + length
            rest = rest[at:]
    return sent


def _request(broker: socket.socket, subject: str, headers: bytes, body: bytes) -> dict[str, int]:
    """Publish, and return the reply."""
    headers = headers or b"NATS/1.0\r\n\r\n"
    sizes = f"{len(headers)} {len(headers) + len(body)}"
    broker.sendall(f"HPUB {subject} _INBOX.l.1 {sizes}\r\n".encode() + headers + body + b"\r\n")
    reply = b""
    while not (reply.endswith(b"}\r\n") and b"_INBOX.l.1" in reply):
        if not (part := broker.recv(65536)):
            raise SystemExit("NATS closed the connection")
        if part.startswith(b"PING\r\n"):
            broker.sendall(b"PONG\r\n")
            part = part[6:]
        reply += part
    found: dict[str, int] = json.loads(reply[reply.rindex(b"\r\n{") :])
    if "error" in found:
        raise SystemExit(f"NATS replied {found}")
    return found


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 10.0)
