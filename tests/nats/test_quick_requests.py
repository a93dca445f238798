"""Bounds of a stream, asked by the waiting thread."""

from __future__ import annotations

import threading

import pytest

from binlogsync.codec import subjects
from binlogsync.errors import WireError
from binlogsync.nats.client import NatsConnection, NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.servers import NATSServer
from tests.nats.test_stream import FilledStream
from tests.nats_commands import ask, delete_stream, purge_stream
from tests.sinks.nats_proxy import NatsProxy


def test_the_bounds_are_those_of_the_stream(nats_server: NATSServer, monkeypatch: pytest.MonkeyPatch) -> None:
    filled = FilledStream(nats_server)
    with filled.reader() as reader:
        monkeypatch.setattr(reader, "_info", None)  # the other way to ask is not used
        assert (reader.first_sequence(), reader.last_sequence()) == (1, 0)
        filled.write(6)
        last = ask(nats_server.url, lambda js: js.stream_info(reader.stream)).state.last_seq
        assert (reader.first_sequence(), reader.last_sequence()) == (1, last)
        purge_stream(nats_server.url, reader.stream, 2)
        assert (reader.first_sequence(), reader.last_sequence()) == (last - 1, last)
        purge_stream(nats_server.url, reader.stream, 0)
        assert (reader.first_sequence(), reader.last_sequence()) == (last + 1, last)
    filled.sink.close()


def test_a_lost_connection_is_opened_again(nats_server: NATSServer) -> None:
    filled = FilledStream(nats_server)
    filled.write(3)
    with NatsProxy(nats_server.host, nats_server.port) as proxy, filled.reader(proxy.url) as reader:
        last = reader.last_sequence()
        for _ in range(3):
            proxy.cut()
            assert reader.last_sequence() == last
    filled.sink.close()


def test_threads_get_their_own_replies(nats_server: NATSServer) -> None:
    streams = [FilledStream(nats_server) for _ in range(4)]
    for number, filled in enumerate(streams, 1):
        filled.write(number)
    last = {each.source: _last_sequence(nats_server.url, each.source) for each in streams}
    found: dict[str, set[int]] = {}
    with NatsConnection(NatsOptions(url=nats_server.url), "test") as connection:
        readers = [StreamReader(NatsOptions(url=nats_server.url), each.source, connection) for each in streams]

        def look(reader: StreamReader) -> None:
            found[reader.source] = {reader.last_sequence() for _ in range(50)}

        threads = [threading.Thread(target=look, args=(reader,)) for reader in readers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {source: {sequence} for source, sequence in last.items()}
    for filled in streams:
        filled.sink.close()


def test_a_stream_that_does_not_exist_is_an_error(nats_server: NATSServer) -> None:
    filled = FilledStream(nats_server)
    with filled.reader() as reader:
        assert reader.last_sequence() == 0
        filled.sink.close()
        delete_stream(nats_server.url, reader.stream)
        with pytest.raises(WireError, match="has no stream"):
            reader.last_sequence()


def _last_sequence(url: str, source: str) -> int:
    found: int = ask(url, lambda js: js.stream_info(subjects.stream_name(source))).state.last_seq
    return found
