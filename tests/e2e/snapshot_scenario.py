"""A tail that publishes snapshots of one database, and checks of its stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from binlogsync.change_batch import ChangeBatch
from binlogsync.errors import SourceError
from binlogsync.mysql import TLS, inspect_server
from binlogsync.position_order import compare
from binlogsync.snapshot import chunks
from binlogsync.snapshot.requests import SnapshotStatus, new_request
from binlogsync.snapshot.requests_memory import MemorySnapshotRequests
from binlogsync.stores.memory import MemoryPositionStore
from binlogsync.tail import snapshot_pace, snapshot_watch
from binlogsync.tail.snapshot_whole import WholeTable
from tests.databases import FreshDatabase
from tests.e2e.oracle import envelopes
from tests.e2e.snapshot_oracle import CheckedTable, StreamFaults, check_stream
from tests.e2e.tailing import PLAIN, TailThread, config_of, options_of, stream_sink
from tests.waiting import wait_until


def use_small_slices(monkeypatch: pytest.MonkeyPatch, chunk: int = 40, rows: int = 15, poll_s: float = 0.02) -> None:
    """Chunks and slices of so many rows, and polls for requests that often."""
    for place, name, value in (
        (chunks, "CHUNK_ROWS", chunk),
        (chunks, "_FIRST_ROWS", chunk),
        (snapshot_pace, "_MOST", rows),
        (snapshot_pace, "_FIRST_ROWS", rows),
        (snapshot_watch, "_POLL_S", poll_s),
    ):
        monkeypatch.setattr(place, name, value)


def crash_among_rows(monkeypatch: pytest.MonkeyPatch, before: Callable[[], object] = lambda: None) -> None:
    """Let the connection to MySQL be lost at the fourth slice of the rows; `before` is called then."""
    take, calls = WholeTable.take, list[WholeTable]()

    def crash(table: WholeTable, *arguments: int) -> ChangeBatch:
        calls.append(table)
        if len(calls) == 4:
            before()
            raise SourceError("the connection was lost")
        return take(table, *arguments)

    monkeypatch.setattr(WholeTable, "take", crash)


@dataclass
class Snapshots:
    """Requests, and tails that carry them out, of one database."""

    database: FreshDatabase
    url: str
    tables: Sequence[CheckedTable]
    stream: dict[str, Any] = field(default_factory=dict)
    requests: MemorySnapshotRequests = field(default_factory=MemorySnapshotRequests)
    store: MemoryPositionStore = field(default_factory=MemoryPositionStore)
    tls: TLS = PLAIN

    def __post_init__(self) -> None:
        self.config = config_of(self.database.server, f"snap-{self.database.name.replace('_', '')}", self.tls)

    @contextmanager
    def tail(self, **options: Any) -> Iterator[TailThread]:
        """A running tail."""
        chosen = {"start": "now", "flush_interval_s": 0.05, **options}
        tail = TailThread(
            self.config,
            [stream_sink(self.url, **self.stream)],
            self.store,
            options_of(self.config.source, self.database.name, **chosen),
            snapshots=self.requests,
        )
        with tail:
            tail.wait_begun()
            yield tail

    def catch_up(self, tail: TailThread) -> None:
        """Wait until the tail has stored the end of the binlog."""
        end = inspect_server(self.config).end()

        def is_stored() -> bool:
            at = tail.progress.checkpoint
            return tail.error is not None or (at is not None and compare(at.position, end).is_at_or_after)

        wait_until(is_stored, 60, f"{end} to be stored")
        if tail.error is not None:
            raise tail.error

    def request(self, *names: str, **options: Any) -> str:
        """Request these tables, or all; returns the id."""
        patterns = [f"{self.database.name}.{name}" for name in names or ("*",)]
        return self.requests.create(new_request(patterns, **options)).request.id

    def status(self, id: str) -> SnapshotStatus:
        """The status of a request."""
        stored = self.requests.load(id)
        assert stored is not None
        return stored.status

    def set_state(self, id: str, state: Any) -> None:
        """What an operator does."""
        while True:
            stored = self.requests.load(id)
            assert stored is not None
            status = replace(stored.status, state=state)
            if self.requests.update(stored, status) is not None:
                return

    def wait(self, id: str, tail: TailThread, timeout_s: float = 100.0) -> SnapshotStatus:
        """Wait for the end of a request."""
        wait_until(lambda: tail.error or self.status(id).has_ended, timeout_s, f"snapshot {id} to end")
        if tail.error is not None:
            raise tail.error
        return self.status(id)

    def complete(self, tail: TailThread, **options: Any) -> SnapshotStatus:
        """Request a snapshot of all tables, and wait until it is done."""
        status = self.wait(self.request(**options), tail)
        assert status.state == "done", status
        return status

    def published(self) -> list[dict[str, Any]]:
        """The rows of snapshots in the stream."""
        found = [each for each in envelopes(self.url, self.config.source) if each["op"] == "r"]
        return [each for each in found if each["source"]["db"] == self.database.name]

    def check(self, **options: Any) -> StreamFaults:
        """Compare the stream with the binlog and the tables."""
        source = (self.config, self.url, self.database.name)
        return check_stream(*source, self.tables, self.database.execute, **options)
