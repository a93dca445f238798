"""Changes to a stream and its buckets while a tail runs: the next check detects them, or the data is written again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from nats.js.api import StreamConfig, StreamSource, SubjectTransform
from nats.js.errors import APIError

from binlogsync.codec import subjects
from binlogsync.errors import SinkError
from binlogsync.nats.foreign_messages import describe_foreign
from binlogsync.nats.server_errors import refused_error
from binlogsync.nats.stream_status import read_stream_status
from binlogsync.servers import NATSServer
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from dagster_binlogsync.checks.streams import stream_intact
from tests.nats_commands import ask
from tests.sinks.contract import coordinates
from tests.sinks.jetstream_streams import new_source, samples, stored


@pytest.fixture
def opened(nats_server: NATSServer) -> Iterator[Callable[[str], JetStreamSink]]:
    made: list[JetStreamSink] = []

    def make(source: str) -> JetStreamSink:
        made.append(JetStreamSink(JetStreamOptions(url=nats_server.url, reconnect_timeout_s=10.0)))
        made[-1].open(source)
        return made[-1]

    yield make
    for sink in made:
        sink.close()


CHANGES: dict[str, dict[str, Any]] = {
    "subject_transform": {"subject_transform": SubjectTransform(src="cdc.>", dest="away.>")},
    "subjects": {"subjects": ["elsewhere.>"]},
    "max_msgs_per_subject": {"max_msgs_per_subject": 1},
    "max_msg_size": {"max_msg_size": 100},
    "sources": {"sources": [StreamSource(name="SOURCE_OF_SOMETHING")]},
    "allow_direct": {"allow_direct": False},
    "allow_atomic": {"allow_atomic": False},
    "no_ack": {"no_ack": True},
}


@pytest.mark.parametrize("setting", CHANGES)
def test_a_changed_setting_is_noticed(
    nats_server: NATSServer, opened: Callable[[str], JetStreamSink], setting: str
) -> None:
    source = new_source()
    sink = opened(source)
    sink.write(samples(source).flush(1))
    sink.watch()
    name = subjects.stream_name(source)
    config: StreamConfig = ask(nats_server.url, lambda js: js.stream_info(name)).config
    ask(nats_server.url, lambda js: js.update_stream(config.evolve(**CHANGES[setting])))
    with pytest.raises(SinkError, match=rf"stream {name} cannot store the changes .*: {setting} is .* and must be"):
        sink.watch()
    failed = stream_intact(sink.options, source)
    assert (failed.passed, failed.severity.value) == (False, "ERROR")
    assert f"{setting} is " in str(failed.description)


def test_settings_of_the_operator_are_let_be(nats_server: NATSServer, opened: Callable[[str], JetStreamSink]) -> None:
    source = new_source()
    sink = opened(source)
    name = subjects.stream_name(source)
    config: StreamConfig = ask(nats_server.url, lambda js: js.stream_info(name)).config
    allowed = {"max_age": 3600.0, "max_bytes": 1 << 30, "max_msgs": 1 << 20, "description": "ours"}
    ask(nats_server.url, lambda js: js.update_stream(config.evolve(**allowed)))
    sink.watch()


@pytest.mark.parametrize("is_made_again", [False, True])
def test_a_deleted_stream_is_noticed(
    nats_server: NATSServer, opened: Callable[[str], JetStreamSink], is_made_again: bool
) -> None:
    source = new_source()
    sink = opened(source)
    name = subjects.stream_name(source)
    config: StreamConfig = ask(nats_server.url, lambda js: js.stream_info(name)).config
    ask(nats_server.url, lambda js: js.delete_stream(name))
    if is_made_again:
        ask(nats_server.url, lambda js: js.add_stream(config))
    with pytest.raises(SinkError, match=rf"stream {name} was deleted .*while the tail ran"):
        sink.watch()


def test_a_deleted_bucket_of_schemas_is_written_again(
    nats_server: NATSServer, opened: Callable[[str], JetStreamSink]
) -> None:
    source = new_source()
    sink, maker = opened(source), samples(source)
    flushes = [maker.flush(2)]
    sink.write(flushes[0])
    ask(nats_server.url, lambda js: js.delete_key_value(subjects.schema_bucket(source)))
    sink.watch()
    flushes.append(maker.flush(2))
    sink.write(flushes[1])
    assert stored(nats_server.url, source) == [each for flush in flushes for each in coordinates(flush)]
    sink.watch()


def test_a_connection_that_is_lost_is_left_to_the_next_write(
    nats_server: NATSServer, opened: Callable[[str], JetStreamSink]
) -> None:
    sink = opened(new_source())
    sink.close()
    sink.watch()


# Messages that no tail wrote


@pytest.mark.parametrize("count", [1, 3])
def test_a_foreign_message_does_not_end_the_tail(
    nats_server: NATSServer, opened: Callable[[str], JetStreamSink], caplog: pytest.LogCaptureFixture, count: int
) -> None:
    source = new_source()
    sink, maker = opened(source), samples(source)
    flushes = []
    for _ in range(3):
        flushes.append(maker.flush(3))
        sink.write(flushes[-1])
        for _ in range(count):
            ask(nats_server.url, lambda js: js.publish(subjects.table_subject(source, "a", "b"), b"x"))
    assert stored(nats_server.url, source) == [each for flush in flushes for each in coordinates(flush)]
    assert sum("no tail wrote them" in record.message for record in caplog.records) == 2
    again = JetStreamSink(sink.options)
    assert again.open(source) == flushes[-1].checkpoint, "the last message is foreign, and the tail resumes before it"
    again.write(maker.flush(1))
    again.close()
    failed = stream_intact(sink.options, source)
    assert not failed.passed
    found = read_stream_status(sink.options, sink.options.stream_spec(source)).foreign
    assert [each.subject for each in found] == [f"cdc.{source}.a.b"] * 3 * count
    said = describe_foreign(found, source)
    assert f"sequence {found[0].sequence} (cdc.{source}.a.b)" in said
    assert failed.description == said
    for each in found:
        ask(nats_server.url, lambda js: js.delete_msg(subjects.stream_name(source), each.sequence))  # noqa: B023
    assert stream_intact(sink.options, source).passed


def test_another_tail_is_still_fenced_behind_a_foreign_message(
    nats_server: NATSServer, opened: Callable[[str], JetStreamSink]
) -> None:
    source = new_source()
    first, second, maker = opened(source), opened(source), samples(source)
    first.write(maker.flush(2))
    ask(nats_server.url, lambda js: js.publish(subjects.table_subject(source, "a", "b"), b"x"))
    with pytest.raises(SinkError, match="another writer has written"):
        second.write(samples(source).flush(2))


@pytest.mark.parametrize("code", [10023, 10047, 10077])
def test_a_full_disk_names_the_restart_of_the_server(code: int) -> None:
    """nats-server keeps a write error of its store, also after space was freed."""
    said = str(refused_error("nats://here", "CDC_MAIN", APIError(503, "no space left on device", code)))
    assert "no space left on device" in said
    assert "then restart nats-server" in said
