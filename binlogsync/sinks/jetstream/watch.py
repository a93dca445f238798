"""A look, every few seconds, at what a tail writes to: is the stream configured as it must be, and is it all there?

A stream whose configuration was changed acknowledges messages that no reader finds (a subject transform), or drops
them (its retention). A bucket that was deleted and made again lacks the documents that messages need.
"""

from __future__ import annotations

from dataclasses import dataclass

import nats.js.errors
from nats.aio.client import Client

from binlogsync.errors import SinkError
from binlogsync.sinks.jetstream.stream import StreamSpec, check_config
from binlogsync.wire import subjects


@dataclass(frozen=True, slots=True)
class StreamWatch:
    """What the tail found at its start.

    Attributes:
        shape: what the stream has to be.
        stream_created: when the server made the stream.
        schemas_created: when it made the buckets of schemas; None for the one of large schemas where there is none yet.
    """

    shape: StreamSpec
    stream_created: str
    schemas_created: tuple[str | None, ...]

    @classmethod
    async def begin(cls, client: Client, shape: StreamSpec) -> StreamWatch:
        """Remember the stream and the bucket that are there now. Raises SinkError when there is no stream."""
        created = await _created(client, shape)
        return cls(shape, created, await _schemas_created(client, shape))

    async def has_schemas(self, client: Client) -> bool:
        """Look at stream and bucket; False when the bucket of schemas was deleted, or made again.

        Raises SinkError when the stream was changed, deleted or made again.
        """
        if await _created(client, self.shape) != self.stream_created:
            raise SinkError(
                f"stream {subjects.stream_name(self.shape.source)} was deleted and made again while the tail ran; the "
                f"tail writes again what is missing"
            )
        now = await _schemas_created(client, self.shape)
        return all(before in (None, after) for before, after in zip(self.schemas_created, now, strict=True))


async def _created(client: Client, shape: StreamSpec) -> str:
    name = subjects.stream_name(shape.source)
    try:
        info = await client.jetstream().stream_info(name)
    except nats.js.errors.NotFoundError as error:
        raise SinkError(
            f"stream {name} was deleted while the tail ran; the tail makes it and writes again what is missing"
        ) from error
    check_config(info.config, shape)
    return str(info.created)


async def _schemas_created(client: Client, shape: StreamSpec) -> tuple[str | None, ...]:
    found: list[str | None] = []
    for prefix in ("KV", "OBJ"):
        try:
            info = await client.jetstream().stream_info(f"{prefix}_{subjects.schema_bucket(shape.source)}")
            found.append(str(info.created))
        except nats.js.errors.NotFoundError:
            found.append(None)
    return tuple(found)
