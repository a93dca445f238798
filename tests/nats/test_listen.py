"""Listening readers: many durables share one connection, and a callback reports their messages."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import pytest

from binlogsync.codec.subjects import stream_name
from binlogsync.nats.client import ConnectionLostError, NatsConnection, NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.servers import NATSServer
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from tests.nats_commands import delete_stream
from tests.samples import SampleOptions, SampleSource, SampleTransaction, small_schema
from tests.waiting import wait_until

TABLES = 5


class Stream:
    """A source with five small tables."""

    def __init__(self, url: str) -> None:
        self.url, self.name = url, f"listen{time.time_ns()}"
        tables = tuple(small_schema(f"t{number}") for number in range(TABLES))
        self._made, self._sink = SampleSource(SampleOptions(source=self.name, tables=tables)), self._new_sink()

    def _new_sink(self) -> JetStreamSink:
        sink = JetStreamSink(JetStreamOptions(url=self.url))
        sink.open(self.name)
        return sink

    def write(self, *tables: int) -> None:
        self._sink.write(self._made.flush([SampleTransaction(tables)]))

    def close(self) -> None:
        self._sink.close()
        delete_stream(self.url, stream_name(self.name))


@pytest.fixture
def stream(nats_server: NATSServer) -> Iterator[Stream]:
    made = Stream(nats_server.url)
    yield made
    made.close()


class Listener:
    """Fetches the changes of every table over one connection, when they are reported."""

    def __init__(self, main: StreamReader) -> None:
        self.main = main
        self.readers = [main.beside() for _ in range(TABLES)]
        self.reported = Counter[int]()
        self.changes = Counter[int]()
        self.event = threading.Event()
        for number, reader in enumerate(self.readers):
            reader.ensure_durable(f"d{number}", "shop", f"t{number}", 1)
            reader.listen(f"d{number}", lambda number=number: self._report(number))  # type: ignore[misc]

    def _report(self, number: int) -> None:
        self.reported[number] += 1
        self.event.set()

    def fetch(self, number: int) -> int:
        """Fetch until there is nothing left; returns the number of changes."""
        before = self.changes[number]
        while items := self.readers[number].fetch(f"d{number}", 1000, 1.0):
            self.changes[number] += sum(len(item) for item in items)
        return self.changes[number] - before


def test_messages_are_reported_and_fetched_at_once(stream: Stream) -> None:
    stream.write(0, 1)
    with StreamReader(NatsOptions(url=stream.url), stream.name) as main:
        listener = Listener(main)
        assert [listener.fetch(number) for number in range(TABLES)] == [1, 1, 0, 0, 0]
        listener.reported.clear()
        stream.write(2, 2, 3)
        wait_until(lambda: set(listener.reported) == {2, 3}, 20, "reports of two tables")
        wait_until(lambda: listener.fetch(2) + listener.changes[2] >= 2, 20, "both changes")
        assert listener.fetch(3) == 1
        assert listener.fetch(2) == 0
        stream.write(2)
        wait_until(lambda: listener.reported[2] > 1, 20, "a second report")
        assert listener.fetch(2) == 1
        assert listener.changes == {0: 1, 1: 1, 2: 3, 3: 1}


def test_listening_continues_after_a_lost_connection(stream: Stream) -> None:
    options = NatsOptions(url=stream.url)
    with NatsConnection(options, "shared") as connection, StreamReader(options, stream.name, connection) as main:
        listener = Listener(main)
        for number in range(TABLES):
            listener.fetch(number)
        with suppress(ConnectionLostError):  # the call may end before the connection
            connection.call(lambda client: client.close())
        assert main.is_lost
        threads = [threading.Thread(target=listener.fetch, args=(number,)) for number in range(TABLES)]
        for thread in threads:  # all find the connection lost, and one of them reconnects
            thread.start()
        for thread in threads:
            thread.join(30)
        listener.reported.clear()
        stream.write(*range(TABLES))
        wait_until(lambda: set(listener.reported) == set(range(TABLES)), 20, "reports of all tables")
        assert [listener.fetch(number) for number in range(TABLES)] == [1] * TABLES


def test_a_deleted_durable_is_reported_and_created_again(stream: Stream) -> None:
    stream.write(0)
    with StreamReader(NatsOptions(url=stream.url), stream.name) as main:
        listener = Listener(main)
        assert listener.fetch(0) == 1
        listener.reported.clear()
        main.delete_durable("d0")
        wait_until(lambda: listener.reported[0] > 0, 20, "a report of the deletion")
        stream.write(0)
        wait_until(lambda: listener.fetch(0) + listener.changes[0] >= 2, 20, "the change after it")
