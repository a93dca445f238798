"""Measures a DuckDB mirror, and nats-py fetching the same messages as its baseline."""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import nats
import nats.errors
from nats.js.api import AckPolicy, ConsumerConfig

from bench.readers import Measurement
from bench.workload import DATABASE
from binlogsync.codec import subjects
from binlogsync.consume.engine import ConsumeOptions, consume
from binlogsync.consume.targets import TableChanges
from binlogsync.mirror.target import Mirror
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader

_FETCH_BYTES = 16 << 20


class _TimedMirror(Mirror):
    """A mirror that stores the time of its last batch, and the CPU time until then."""

    at = cpu_at = 0.0

    def take(self, work: Sequence[TableChanges], stop: threading.Event) -> None:
        """Apply the batches, and store the times."""
        super().take(work, stop)
        self.at, self.cpu_at = time.perf_counter(), time.process_time()


def measure_mirror(url: str, source: str, table: str, changes: int) -> Measurement:
    """Consume the backlog of the table into a new DuckDB file. The final idle wait is not counted."""
    with tempfile.TemporaryDirectory(prefix="bench-mirror-") as folder:
        target = _TimedMirror(Path(folder) / "mirror.duckdb", DATABASE, table)
        with StreamReader(NatsOptions(url=url), source) as reader:
            begun, cpu = time.perf_counter(), time.process_time()
            options = ConsumeOptions(client_id="bench", idle_s=1.0)
            done = consume(reader, (DATABASE, table), target, options, threading.Event()).changes
    if done != changes:
        raise SystemExit(f"{done} changes mirrored, {changes} made")
    return Measurement(target.at - begun, 0, done, target.cpu_at - cpu)


def measure_fetch(url: str, source: str, table: str, changes: int) -> Measurement:
    """Fetch and acknowledge the messages of the table with nats-py, 1,000 or about 16 MB at a time, and drop them."""
    return asyncio.run(_fetch(url, source, table, changes))


async def _fetch(url: str, source: str, table: str, changes: int) -> Measurement:
    client = await nats.connect(url)
    js, stream = client.jetstream(), subjects.stream_name(source)
    config = ConsumerConfig(
        durable_name="bare",
        ack_policy=AckPolicy.ALL,
        max_ack_pending=-1,
        filter_subject=subjects.table_subject(source, DATABASE, table),
    )
    await js.add_consumer(stream, config)
    subscription = await js.pull_subscribe_bind("bare", stream, pending_msgs_limit=-1, pending_bytes_limit=-1)
    state = (await js.stream_info(stream)).state
    # nats-server disconnects a client with more than 64 MB of pending data.
    by = max(1, min(1000, _FETCH_BYTES * state.messages // state.bytes))
    begun, cpu, size = time.perf_counter(), time.process_time(), 0
    while True:
        try:
            found = await subscription.fetch(by, 1.0)
        except (nats.errors.TimeoutError, TimeoutError):
            break
        size += sum(len(message.data) for message in found)
        await found[-1].ack_sync()
        seconds, cpu_s = time.perf_counter() - begun, time.process_time() - cpu
    await js.delete_consumer(stream, "bare")
    await client.close()
    return Measurement(seconds, size, changes, cpu_s)
