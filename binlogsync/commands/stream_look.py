"""A look at a source's stream that changes nothing: which server, whether a tail could use it, where it ends."""

from __future__ import annotations

from dataclasses import dataclass

import nats.js.errors
from nats.aio.client import Client

from binlogsync.errors import PositionError, SinkError
from binlogsync.position import Checkpoint
from binlogsync.sinks.jetstream import JetStreamOptions
from binlogsync.sinks.jetstream.foreign import ForeignMessage, foreign_messages
from binlogsync.sinks.jetstream.stream import StreamEnd, StreamSpec, ensure_stream, stream_end
from binlogsync.stream.client import NatsConnection
from binlogsync.wire import subjects


@dataclass(frozen=True, slots=True)
class StreamLook:
    """What there is.

    Attributes:
        version: of the server.
        name: of the stream.
        messages: in it, None when there is no stream yet.
        end: of the stream, None when there is none.
        first: sequence of its first message.
        consumers: how many it has, and how many it may have (0 for the server's default, -1 for no limit).
        foreign: messages in it that no tail wrote, as far as the tail has met them.
        wrong: why the tail could not use it, "" when it could.
    """

    version: str
    name: str
    messages: int | None = None
    end: StreamEnd | None = None
    wrong: str = ""
    first: int = 0
    foreign: tuple[ForeignMessage, ...] = ()
    consumers: tuple[int, int] = (0, -1)

    @property
    def checkpoint(self) -> Checkpoint | None:
        """What the stream says how far it got; None when it does not."""
        text = self.end.checkpoint if self.end is not None else None
        return None if text is None else Checkpoint.from_text(text)


def look_at_stream(options: JetStreamOptions, source: str) -> StreamLook:
    """Connect and look. Raises SinkError when NATS cannot be reached, is too old, or has no JetStream."""
    shape = StreamSpec(source, options.replicas, options.max_age_s, options.max_bytes)
    name = subjects.stream_name(source)

    async def look(client: Client) -> StreamLook:
        version = str(client.connected_server_version)
        try:
            info = await client.jetstream().stream_info(name)
        except nats.js.errors.NotFoundError:
            return StreamLook(version, name)
        end, foreign = await stream_end(client, source), tuple(await foreign_messages(client, source))
        try:
            await ensure_stream(client, shape)  # it is there, so this only compares
            if not end.is_partial_batch:
                end.require_checkpoint(name)
        except (SinkError, PositionError) as error:
            return StreamLook(version, name, info.state.messages, end, str(error), foreign=foreign)
        consumers = (info.state.consumer_count, info.config.max_consumers or 0)
        return StreamLook(version, name, info.state.messages, end, "", info.state.first_seq, foreign, consumers)

    with NatsConnection(options, f"binlogsync doctor {source}") as connection:
        try:
            return connection.call(look)
        except nats.js.errors.APIError as error:
            raise SinkError(
                f"NATS at {options.place} refuses to speak of stream {name}: {error.description or 'no JetStream'} "
                f"(code {error.err_code or error.code}); start nats-server with -js, or enable JetStream for this "
                "account"
            ) from error
