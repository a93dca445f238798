"""A Tail in a thread of the test, and a consumer that drains a table once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from binlogsync.codec.subjects import durable_name
from binlogsync.consume.engine import ConsumeOptions, ConsumeResult, consume
from binlogsync.consume.targets import Target
from binlogsync.mirror.target import Mirror
from binlogsync.mysql import TLS, MySQLConfig, inspect_server
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.servers.database import DatabaseServer
from binlogsync.sinks import Sink
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from binlogsync.snapshot.requests import SnapshotRequests
from binlogsync.stores import PositionStore
from binlogsync.tail.run import Tail, TailOptions, TailProgress
from tests.waiting import wait_until

PLAIN = TLS("disabled")
QUICK = {"flush_interval_s": 0.2, "flush_rows": 200, "idle_checkpoint_s": 0.5, "start": "oldest"}


def config_of(server: DatabaseServer, source: str, tls: TLS = PLAIN) -> MySQLConfig:
    """The connection settings of the account for change data capture.

    Without TLS by default: a test opens many connections, and with TLS each takes ten times as long. Deployments have
    TLS, and so has the first login of an account, after which MySQL needs no key for others.
    """
    return MySQLConfig(
        host=server.host,
        port=server.port,
        user=server.cdc_user,
        password=server.cdc_password,
        source=source,
        heartbeat_s=1.0,
        tls=tls,
    )


def options_of(source: str, database: str, **options: Any) -> TailOptions:
    """Frequent flushes of one database, from the oldest binlog on."""
    return TailOptions(**{"source": source, "include": (f"{database}.*",), **QUICK, **options})


def stream_sink(url: str, **options: Any) -> JetStreamSink:
    """A sink with short timeouts."""
    return JetStreamSink(JetStreamOptions(**{"url": url, "reconnect_timeout_s": 20.0, **options}))


class TailThread:
    """Runs a tail in a thread; `error` is the exception that ended it."""

    def __init__(
        self,
        config: MySQLConfig,
        sinks: Sequence[Sink],
        store: PositionStore,
        options: TailOptions,
        *,
        owner: str = "test",
        take_over: bool = False,
        snapshots: SnapshotRequests | None = None,
    ) -> None:
        self.progress = TailProgress()
        self.error: BaseException | None = None
        self.stopping = threading.Event()
        self._config = config
        self._tail = Tail(config, sinks, store, options, owner=owner, take_over=take_over, snapshots=snapshots)
        self._thread = threading.Thread(target=self._run, name=f"tail-{owner}", daemon=True)

    def __enter__(self) -> TailThread:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        if kind is None and self.error is not None:
            raise self.error

    @property
    def has_ended(self) -> bool:
        return not self._thread.is_alive()

    def stop(self) -> TailProgress:
        """Stop the tail and wait for its end."""
        self.stopping.set()
        self._thread.join(60)
        assert self.has_ended
        return self.progress

    def end(self, timeout_s: float = 40.0) -> BaseException:
        """Wait until the tail ends with an error, and return the error."""
        wait_until(lambda: self.has_ended, timeout_s, "the tail to end with an error")
        assert self.error is not None, "the tail ended without an error"
        error, self.error = self.error, None
        return error

    def wait_begun(self, timeout_s: float = 30.0) -> None:
        """Wait until the tail reads the binlog."""
        wait_until(lambda: self.error or self.progress.bytes_read, timeout_s, "the dump to be read")

    def wait_stored(self, changes: int, timeout_s: float = 30.0) -> None:
        """Wait until the tail has stored this number of changes since its start."""
        wait_until(lambda: self.error or self.progress.changes >= changes, timeout_s, f"{changes} changes")
        if self.error is not None:
            raise self.error

    def catch_up(self, timeout_s: float = 40.0) -> None:
        """Wait until every transaction that the server has executed is stored."""
        executed = inspect_server(self._config).executed
        assert executed is not None

        def is_stored() -> bool:
            at = self.progress.checkpoint
            return self.error is not None or (at is not None and at.gtids is not None and at.gtids.contains(executed))

        wait_until(is_stored, timeout_s, f"{executed} to be stored")
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            self._update(self._tail.run(self.stopping, self._update))
        except BaseException as error:  # noqa: BLE001 - the test checks it
            self.error = error

    def _update(self, progress: TailProgress) -> None:
        self.progress = progress


def mirror(
    url: str,
    source: str,
    path: Path,
    table: tuple[str, str],
    max_s: float | None = None,
    client_id: str = "binlogsync",
) -> ConsumeResult:
    """Drain the table into its mirror, or consume for `max_s` seconds while writers are running."""
    options = ConsumeOptions(client_id=client_id, idle_s=0.5, gather_s=0.1, max_s=max_s)
    target = Mirror(path, *table)
    with StreamReader(NatsOptions(url=url), source) as reader:
        if max_s is not None:
            return consume(reader, table, target, options, threading.Event())
        return _sum_of(drain(reader, table, target, options))


def _sum_of(rounds: Sequence[ConsumeResult]) -> ConsumeResult:
    """The result of all rounds as if they were one; on a busy machine the first ones may end without a message."""
    counts: Counter[str] = Counter()
    for one in rounds:
        counts.update(one.counts)
    return replace(
        rounds[-1],
        counts=counts,
        first=next((one.first for one in rounds if one.first), None),
        last=next((one.last for one in reversed(rounds) if one.last), None),
        batches=sum(one.batches for one in rounds),
        skipped=sum(one.skipped for one in rounds),
        gap=next((one.gap for one in rounds if one.gap), None),
    )


def drain(reader: StreamReader, table: tuple[str, str], target: Target, options: ConsumeOptions) -> list[ConsumeResult]:
    """Consume until the durable has no pending message; returns the result of each round."""
    rounds: list[ConsumeResult] = []
    durable = options.durable or durable_name(options.client_id, *table)

    def is_drained() -> bool:
        rounds.append(consume(reader, table, target, options, threading.Event()))
        left = reader.pending(durable)
        return left is not None and not left.num_pending and not left.num_ack_pending

    wait_until(is_drained, 60.0, f"{durable} to be drained")
    return rounds
