"""The server keeps the state of durables in memory: durables of earlier versions, and a restart of nats-server."""

from __future__ import annotations

from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig

from binlogsync import servers
from binlogsync.codec import subjects
from binlogsync.servers import NATSServer
from tests.nats.test_stream import FilledStream, drain, rows_of
from tests.nats_commands import ask

_FETCH_S = 60.0


def test_a_durable_whose_state_is_in_a_file_is_created_again(nats_server: NATSServer) -> None:
    filled = FilledStream(nats_server)
    filled.write(8)
    name = subjects.stream_name(filled.source)

    async def create(js: JetStreamContext) -> None:
        subject = subjects.table_subject(filled.source, "shop", "small")
        config = ConsumerConfig("d", ack_policy=AckPolicy.ALL, max_ack_pending=-1, filter_subject=subject)
        await js.add_consumer(name, config)

    ask(nats_server.url, create)
    with filled.reader() as reader:
        reader.ensure_durable("d", "shop", "small", 1)
        found = drain(reader)
        reader.ack(found[-1])
        assert rows_of(found) == filled.rows
    config = ask(nats_server.url, lambda js: js.consumer_info(name, "d")).config
    assert config.mem_storage
    filled.sink.close()


def test_a_reader_continues_after_the_server_has_lost_its_durable() -> None:
    with servers.nats() as server:
        filled = FilledStream(server)
        filled.write(12)
        with filled.reader() as reader:
            reader.ensure_durable("d", "shop", "small", 1)
            found = list(reader.fetch("d", 5, _FETCH_S))
            reader.ack(found[-1])
            found += reader.fetch("d", 2, _FETCH_S)
            server.kill()
            server.start()
            assert reader.pending("d") is None
            found += drain(reader)
            reader.ack(found[-1])
            assert rows_of(found) == filled.rows
            state = reader.pending("d")
            assert state is not None
            assert (state.num_pending, state.num_ack_pending) == (0, 0)
        filled.sink.close()
