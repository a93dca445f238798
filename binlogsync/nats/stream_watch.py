"""Checks the stream and the schema buckets of a tail every few seconds, for changed configuration and deletion.

A stream with a changed configuration may acknowledge messages that no reader finds (a subject transform), or drop them
(its retention). A bucket that was deleted and recreated does not have the schemas that messages require.
"""

from __future__ import annotations

from dataclasses import dataclass

import nats.js.errors
from nats.aio.client import Client

from binlogsync.codec import subjects
from binlogsync.errors import SinkError
from binlogsync.nats.stream import StreamSpec, check_config


@dataclass(frozen=True, slots=True)
class StreamWatch:
    """State of stream and buckets at the start of the tail.

    Attributes:
        shape: the required configuration of the stream.
        stream_created: when the server created the stream.
        schemas_created: when it created the schema buckets; None for a bucket of large schemas that does not exist yet.
    """

    shape: StreamSpec
    stream_created: str
    schemas_created: tuple[str | None, ...]

    @classmethod
    async def begin(cls, client: Client, shape: StreamSpec) -> StreamWatch:
        """Record the current stream and buckets. Raises SinkError when the stream does not exist."""
        created = await _created(client, shape)
        return cls(shape, created, await _schemas_created(client, shape))

    async def has_schemas(self, client: Client) -> bool:
        """Check stream and buckets; False when a schema bucket was deleted or recreated.

        Raises SinkError when the stream was changed, deleted or recreated.
        """
        if await _created(client, self.shape) != self.stream_created:
            raise SinkError(
                f"stream {subjects.stream_name(self.shape.source)} was deleted and recreated while the tail ran; the "
                f"tail writes the missing changes again"
            )
        now = await _schemas_created(client, self.shape)
        return all(before in (None, after) for before, after in zip(self.schemas_created, now, strict=True))


async def _created(client: Client, shape: StreamSpec) -> str:
    name = subjects.stream_name(shape.source)
    try:
        info = await client.jetstream().stream_info(name)
    except nats.js.errors.NotFoundError as error:
        raise SinkError(
            f"stream {name} was deleted while the tail ran; the tail recreates it and writes the missing changes again"
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
