"""The status of a source's stream, read without changes: server version, fitness for a tail, last message."""

from __future__ import annotations

from dataclasses import dataclass

import nats.js.errors
from nats.aio.client import Client

from binlogsync.codec import subjects
from binlogsync.errors import PositionError, SinkError
from binlogsync.nats.client import NatsConnection, NatsOptions
from binlogsync.nats.foreign_messages import ForeignMessage, foreign_messages
from binlogsync.nats.stream import StreamSpec, check_config
from binlogsync.nats.stream_end import StreamEnd, stream_end
from binlogsync.position import Checkpoint


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """The status of one stream.

    Attributes:
        version: of the server.
        name: of the stream.
        messages: number of messages; None when the stream does not exist yet.
        end: the last message of the stream; None when the stream does not exist yet.
        first: sequence of its first message.
        consumers: number of consumers, and the limit (0 or less: the default of the server).
        foreign: messages that no tail wrote, as far as a tail has found them.
        problem: why a tail cannot use it; "" when it can.
    """

    version: str
    name: str
    messages: int | None = None
    end: StreamEnd | None = None
    problem: str = ""
    first: int = 0
    foreign: tuple[ForeignMessage, ...] = ()
    consumers: tuple[int, int] = (0, -1)

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The checkpoint in the stream; None when it contains none."""
        text = self.end.checkpoint if self.end is not None else None
        return None if text is None else Checkpoint.from_text(text)


def read_stream_status(options: NatsOptions, spec: StreamSpec) -> StreamStatus:
    """Connect and read the status. Raises SinkError when NATS cannot be reached, is too old, or has no JetStream."""
    source, name = spec.source, subjects.stream_name(spec.source)

    async def read(client: Client) -> StreamStatus:
        version = str(client.connected_server_version)
        try:
            info = await client.jetstream().stream_info(name)
        except nats.js.errors.NotFoundError:
            return StreamStatus(version, name)
        end, foreign = await stream_end(client, source), tuple(await foreign_messages(client, source))
        try:
            check_config(info.config, spec)
            if not end.is_partial_batch:
                end.require_checkpoint(name)
        except (SinkError, PositionError) as error:
            return StreamStatus(version, name, info.state.messages, end, str(error), foreign=foreign)
        limits = (info.config.max_consumers or 0, (await client.jetstream().account_info()).limits.max_consumers or 0)
        # The limit of an account applies to each of its streams.
        consumers = (info.state.consumer_count, min((limit for limit in limits if limit > 0), default=0))
        return StreamStatus(version, name, info.state.messages, end, "", info.state.first_seq, foreign, consumers)

    with NatsConnection(options, f"binlogsync doctor {source}") as connection:
        try:
            return connection.call(read)
        except nats.js.errors.APIError as error:
            raise SinkError(
                f"NATS at {options.address} refused the request for stream {name}: "
                f"{error.description or 'no JetStream'} (code {error.err_code or error.code}); "
                "start nats-server with -js, or enable JetStream for this account"
            ) from error
