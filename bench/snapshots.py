"""Snapshots into the stream: rate in each format, beside the tail's own rate, and the latency that changes get.

    python -m bench.snapshots [CHANGES] [SECONDS]

For each format, twice in turn: the tail stores CHANGES (600,000) changes of one table, from the open stream on; and a
tail on the idle server publishes the rows of the table. Reading the rows in one view, without publishing them, is the
limit of that. Then one client commits 100 one-row transactions a
second for SECONDS (15), with an eager tail and with one that flushes every 0.5 s, without and with a snapshot of the
large table beside it; latency is from the end of COMMIT to the time of the message in the stream. The same beside a
copy of the table without a key, for whose rows all changes wait.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import product
from multiprocessing.synchronize import Event
from statistics import median, quantiles

import nats
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from bench.readers import tail_into_jetstream
from bench.streaming import FORMATS
from bench.workload import BULK, DATABASE, fill
from binlogsync import servers
from binlogsync.codec import subjects
from binlogsync.mysql import TLS, MySQLConfig
from binlogsync.nats.client import NatsOptions
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from binlogsync.snapshot.requests import SnapshotRequests, SnapshotStatus, new_request
from binlogsync.snapshot.requests_memory import MemorySnapshotRequests
from binlogsync.snapshot.requests_nats import NatsSnapshotRequests
from binlogsync.snapshot.view import read_table
from binlogsync.stores.memory import MemoryPositionStore
from binlogsync.tail.run import Tail, TailOptions

_WAIT_S = 600.0
_RATE = 100
_KEYLESS = "bulk_without_key"
_MODES: dict[str, dict[str, object]] = {"eager": {"flush": "eager"}, "interval 0.5 s": {"flush_interval_s": 0.5}}


def main(changes: int, seconds: float) -> None:
    """Run all, and print a line for each."""
    with (
        servers.mysql(options={"innodb_flush_log_at_trx_commit": "2", "sync_binlog": "0"}) as mysql,
        servers.nats() as server,
    ):
        config = MySQLConfig(mysql.host, mysql.port, mysql.user, mysql.password, tls=TLS("disabled"))
        changes = fill(mysql.connect(), BULK, changes)
        with mysql.connect(autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT COUNT(*) FROM {DATABASE}.bulk")
            count = int(cursor.fetchall()[0][0])
        for number in range(2):
            begun_s = time.perf_counter()
            with read_table(config, DATABASE, "bulk") as view:
                found = sum(map(len, view.batches()))
            print(f"reading alone  {found / (time.perf_counter() - begun_s):9,.0f} rows/s")  # noqa: T201
            for name, chosen in FORMATS.items():
                stream = JetStreamOptions(url=server.url, **chosen)
                own = tail_into_jetstream(config, stream, f"own{name.replace('_', '')}{number}", changes)
                published_s = publish(config, stream, f"snap{name.replace('_', '')}{number}", count)
                rate, snapshot_rate = own.changes / own.seconds, count / published_s
                print(f"{name:<14} tail {rate:9,.0f}/s  snapshot {snapshot_rate:9,.0f}/s  "  # noqa: T201
                      f"ratio {snapshot_rate / rate:.2f}", flush=True)  # fmt: skip
        with mysql.connect(autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE {DATABASE}.live (id INT PRIMARY KEY, memo VARCHAR(80))")
            cursor.execute(f"CREATE TABLE {DATABASE}.{_KEYLESS} AS SELECT * FROM {DATABASE}.bulk")
        for number, (name, table) in enumerate(product(_MODES, ("bulk", _KEYLESS)), 1):
            measure(mysql, config, server.url, number, name, table, seconds)


def publish(config: MySQLConfig, stream: JetStreamOptions, source: str, count: int) -> float:
    """Seconds of a snapshot of the table, from its begin until its end is stored."""
    requests, stop = MemorySnapshotRequests(), threading.Event()
    options = TailOptions(source, include=(f"{DATABASE}.*",), preflight=False)
    tail = Tail(
        replace(config, source=source),
        [JetStreamSink(stream)],
        MemoryPositionStore(),
        options,
        owner="bench",
        snapshots=requests,
    )
    thread = threading.Thread(target=tail.run, args=(stop,), daemon=True)
    thread.start()
    try:
        status = wait_for_end(requests, requests.create(new_request([f"{DATABASE}.bulk"])).request.id)
    finally:
        stop.set()
        thread.join(60)
    if status.rows != count:
        raise SystemExit(f"{status.rows} rows published, {count} in the table: {status}")
    return (status.ended_us - status.began_us) / 1e6


def wait_for_end(requests: SnapshotRequests, id: str) -> SnapshotStatus:
    """The status of a request at its end."""
    ends_s = time.monotonic() + _WAIT_S
    while time.monotonic() < ends_s:
        stored = requests.load(id)
        if stored is not None and stored.status.has_ended:
            return stored.status
        time.sleep(0.02)
    raise SystemExit("the snapshot did not end")


def measure(
    mysql: servers.MySQLServer, config: MySQLConfig, url: str, number: int, name: str, table: str, seconds: float
) -> None:
    """Print the latency without and with a snapshot of the table."""
    source, first = f"live{number}", number * 100_000
    with tailing(config, url, source, name), closing(NatsSnapshotRequests(NatsOptions(url=url), source)) as requests:
        write(mysql, first, 2.0)
        time.sleep(1.0)
        committed = write(mysql, first + 10_000, seconds)
        time.sleep(1.0)
        id = requests.create(new_request([f"{DATABASE}.{table}"])).request.id
        while not (stored := requests.load(id)) or not stored.status.rows:
            time.sleep(0.05)
        beside = write(mysql, first + 20_000, seconds)
        stored = requests.load(id)
        rows = stored.status.rows if stored is not None else 0
        is_over = stored is not None and stored.status.has_ended
        time.sleep(2.0)
        at = asyncio.run(_stored_at(url, source))
    for what, times in (("no snapshot", committed), (table, beside)):
        found = sorted((at[row] - when) * 1e3 for row, when in times.items())
        p99 = quantiles(found, n=100)[98]
        note = f"  {rows:,} rows published{', then over' if is_over else ''}" if what == table else ""
        print(f"{name:<15} {what:<16} median {median(found):7.1f} ms  p99 {p99:7.1f}  max {found[-1]:7.1f}{note}",  # noqa: T201
              flush=True)  # fmt: skip


@contextmanager
def tailing(config: MySQLConfig, url: str, source: str, name: str) -> Iterator[None]:
    """A tail in its own process."""
    spawn = multiprocessing.get_context("spawn")
    ready, stop = spawn.Event(), spawn.Event()
    process = spawn.Process(target=_tail, args=(config, url, source, name, ready, stop), daemon=True)
    process.start()
    try:
        if not ready.wait(60):
            raise SystemExit("the tail did not start")
        yield
    finally:
        stop.set()
        process.join(60)


def _tail(config: MySQLConfig, url: str, source: str, name: str, ready: Event, stop: Event) -> None:
    options = TailOptions(source, include=(f"{DATABASE}.*",), preflight=False, **_MODES[name])  # type: ignore[arg-type]
    sink, requests = JetStreamSink(JetStreamOptions(url=url)), NatsSnapshotRequests(NatsOptions(url=url), source)
    tail = Tail(
        replace(config, source=source), [sink], MemoryPositionStore(), options, owner="bench", snapshots=requests
    )

    def progress(now: object) -> None:
        if getattr(now, "bytes_read", 0):
            ready.set()

    stopping = threading.Event()

    def follow() -> None:
        stop.wait()
        stopping.set()

    threading.Thread(target=follow, daemon=True).start()
    tail.run(stopping, progress)


def write(mysql: servers.MySQLServer, first: int, seconds: float) -> dict[int, float]:
    """Number of each row, and when its COMMIT returned (seconds since 1970)."""
    committed: dict[int, float] = {}
    with mysql.connect(autocommit=True) as connection, connection.cursor() as cursor:
        begun_s = time.monotonic()
        for number in range(int(seconds * _RATE)):
            time.sleep(max(0.0, begun_s + number / _RATE - time.monotonic()))
            cursor.execute(f"REPLACE INTO {DATABASE}.live VALUES (%s, 'memo')", (first + number,))
            committed[first + number] = time.time()
    return committed


async def _stored_at(url: str, source: str) -> dict[int, float]:
    """Number of each row of the table `live` -> time of its last message."""
    client = await nats.connect(url)
    subject = subjects.table_subject(source, DATABASE, "live")
    settings = ConsumerConfig(deliver_policy=DeliverPolicy.ALL, ack_policy=AckPolicy.NONE, filter_subject=subject)
    reader = await client.jetstream().pull_subscribe(subject, stream=subjects.stream_name(source), config=settings)
    found: dict[int, float] = {}
    while True:
        try:
            messages = await reader.fetch(1000, timeout=2)
        except TimeoutError:
            break
        for message in messages:
            after = json.loads(message.data)["after"]
            if after is not None:
                found[after["id"]] = message.metadata.timestamp.timestamp()
    await client.close()
    return found


if __name__ == "__main__":
    main(int((sys.argv[1:] or ["600000"])[0]), float((sys.argv[2:] or ["15"])[0]))
