"""Progress in a NATS bucket that is deleted while a consumer runs."""

from __future__ import annotations

import pytest

from binlogsync.consume.progress import NO_PROGRESS, ProgressKey
from binlogsync.consume.progress_nats import NatsProgress
from binlogsync.errors import ConsumeError
from binlogsync.nats.client import NatsConnection
from binlogsync.servers import NATSServer
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from tests.nats_commands import ask

KEY = ProgressKey("client", "moved", "shop", "orders")


def test_a_deleted_bucket_is_written_again_and_another_consumer_is_still_refused(nats_server: NATSServer) -> None:
    options = JetStreamOptions(url=nats_server.url)
    sink = JetStreamSink(options)
    sink.open("moved")
    sink.close()
    with NatsConnection(options, "one") as one, NatsConnection(options, "two") as two:
        mine, other = NatsProgress(one, "moved"), NatsProgress(two, "moved")
        progress = mine.move(KEY, mine.load(KEY), NO_PROGRESS)
        ask(nats_server.url, lambda js: js.delete_key_value("CDC_MOVED_progress"))
        progress = mine.move(KEY, progress, NO_PROGRESS)
        assert mine.load(KEY) == progress
        assert other.load(KEY) == progress
        progress = mine.move(KEY, progress, NO_PROGRESS)
        with pytest.raises(ConsumeError, match="was changed by another consumer"):
            other.move(KEY, progress, NO_PROGRESS)
