"""Deletes everything in NATS that belongs to one source: its stream with all durables, and its buckets."""

from __future__ import annotations

from collections.abc import Sequence

import nats.js.errors
from nats.aio.client import Client

from binlogsync.codec import subjects
from binlogsync.nats.client import NatsConnection, NatsOptions
from binlogsync.nats.server_errors import refused_error


def source_streams(source: str) -> Sequence[str]:
    """Names of the streams that a source may have, those of its buckets included; the stream of changes is the last."""
    return (
        *(f"KV_{subjects.key_value_bucket(source, kind)}" for kind in subjects.KEY_VALUE_KINDS),
        f"KV_{subjects.schema_bucket(source)}",
        f"OBJ_{subjects.schema_bucket(source)}",
        f"OBJ_{subjects.large_bucket(source)}",
        subjects.stream_name(source),
    )


def delete_source_streams(options: NatsOptions, source: str) -> list[str]:
    """Delete the streams of a source, over a separate connection; returns their names. Raises SinkError."""
    with NatsConnection(options, f"binlogsync remove {source}") as connection:
        return [name for name in source_streams(source) if _delete(connection, name)]


def _delete(connection: NatsConnection, name: str) -> bool:
    async def delete(client: Client) -> bool:
        try:
            return await client.jetstream().delete_stream(name)
        except nats.js.errors.NotFoundError:
            return False

    try:
        return connection.retry(delete)
    except nats.js.errors.APIError as error:
        raise refused_error(connection.options.address, name, error) from error
