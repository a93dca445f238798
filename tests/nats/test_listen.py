"""Listening readers: many durables share one connection, and a callback reports their messages."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import pytest
from nats.aio.client import Client

from binlogsync.codec.subjects import stream_name
from binlogsync.nats.client import ConnectionLostError, NatsConnection, NatsOptions
from binlogsync.nats.complete_reading import fetch_next
from binlogsync.nats.quick_requests import QuickRequests
from binlogsync.nats.reader import StreamReader
from binlogsync.servers import NATSServer
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from tests.nats_commands import ask, delete_stream, purge_stream
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


def test_messages_that_arrive_after_others_were_kept_are_reported(stream: Stream) -> None:
    with StreamReader(NatsOptions(url=stream.url), stream.name) as main:
        listener = Listener(main)
        assert [listener.fetch(number) for number in range(TABLES)] == [0] * TABLES
        stream.write(0)
        wait_until(lambda: listener.reported[0] > 0, 20, "a report")
        reader = listener.readers[0]
        reader.receive("d0", 1000)
        assert reader.has_received("d0")
        stream.write(0)
        wait_until(lambda: listener.reported[0] > 1, 20, "a report of the second message")
        reader.receive("d0", 1000)  # what is kept stays
        listener.reported.clear()
        assert [len(item) for item in reader.fetch("d0", 1000, 1.0)] == [1]
        assert listener.reported[0] > 0, "the second message was left, and is reported again"
        assert listener.fetch(0) == 1


def test_a_durable_deleted_after_messages_were_kept_is_created_again(stream: Stream) -> None:
    with StreamReader(NatsOptions(url=stream.url), stream.name) as main:
        listener = Listener(main)
        listener.fetch(0)
        stream.write(0)
        wait_until(lambda: listener.reported[0] > 0, 20, "a report")
        reader, seen = listener.readers[0], listener.reported[0]
        reader.receive("d0", 1000)
        ask(stream.url, lambda js: js.delete_consumer(stream_name(stream.name), "d0"))
        wait_until(lambda: listener.reported[0] > seen, 20, "a report of the deleted durable")
        listener.reported.clear()
        assert [len(item) for item in reader.fetch("d0", 1000, 1.0)] == [1]
        assert listener.reported[0] > 0, "it has to be fetched again"
        assert listener.fetch(0) == 0
        listener.reported.clear()
        stream.write(0)
        wait_until(lambda: listener.reported[0] > 0, 20, "a report of a later message")
        assert listener.fetch(0) == 1


def test_tables_share_a_request_for_the_bounds(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Counter[str]()
    ask_now = QuickRequests.ask

    def count(self: QuickRequests, client: Client, subject: str, timeout_s: float) -> bytes | None:
        asked["stream"] += ".STREAM.INFO." in subject
        return ask_now(self, client, subject, timeout_s)

    with StreamReader(NatsOptions(url=stream.url), stream.name) as main:
        listener = Listener(main)
        assert [listener.fetch(number) for number in range(TABLES)] == [0] * TABLES
        stream.write(*range(TABLES))
        wait_until(lambda: len(listener.reported) == TABLES, 20, "reports of all tables")
        monkeypatch.setattr(QuickRequests, "ask", count)
        for number, reader in enumerate(listener.readers):
            reader.receive(f"d{number}", 1000)
        created = main.created_at()
        for number, reader in enumerate(listener.readers):
            assert fetch_next(reader, f"d{number}", 0, 1000, stream=created)
        assert asked["stream"] == 1
        # A later fetch asks again, and finds what the stream has dropped since.
        last = main.last_sequence()
        purge_stream(stream.url, stream_name(stream.name), 0)
        stream.write(1)
        reader = listener.readers[1]
        wait_until(lambda: bool(reader.fetch("d1", 1000, 1.0)), 20, "another change")
        assert reader.first_after_fetch("d1") == last + 1


def test_an_ack_without_waiting_reaches_the_server(stream: Stream) -> None:
    stream.write(0, 0)
    with StreamReader(NatsOptions(url=stream.url), stream.name) as main:
        listener = Listener(main)
        reader = listener.readers[0]
        found = reader.fetch("d0", 1000, 5.0)
        reader.ack(found[-1], wait=False)

        def unacked() -> int | None:
            state = reader.pending("d0")
            return None if state is None else state.num_ack_pending

        wait_until(lambda: unacked() == 0, 20, "the ack")


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
