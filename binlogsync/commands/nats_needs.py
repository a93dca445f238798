"""What a tail and its consumers need of an account of NATS, tried without storing anything.

A message is published to each subject with a fence that no stream can fulfil: the server refuses it for the fence, or
no stream takes it, where the account may publish there. The limits of the account are compared with what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.api import Header

from binlogsync.sinks.jetstream import JetStreamOptions
from binlogsync.stream.client import DeniedError, NatsConnection
from binlogsync.wire import subjects

_NEVER = {Header.EXPECTED_LAST_SEQUENCE.value: str(2**62)}
_TRY_S = 3.0


def unmet_needs(options: JetStreamOptions, source: str) -> Iterator[str]:
    """A sentence on each permission that is missing, and on each limit that is too low. Raises SinkError."""
    with NatsConnection(options, f"binlogsync doctor {source}") as connection:
        for subject in published(source):
            try:
                connection.call(lambda client: _try(client, subject))  # noqa: B023 - called at once
            except DeniedError as error:
                yield str(error)
        yield from connection.call(lambda client: _limits(client, options, source))


def published(source: str) -> list[str]:
    """A subject of each kind that is published to."""
    name = subjects.stream_name(source)
    buckets = [subjects.schema_bucket(source), f"{name}_progress", f"{name}_clients"]
    return [
        f"cdc.{source}._checkpoint",
        f"cdc.{source}.doctor.doctor",
        *(f"$KV.{bucket}.doctor" for bucket in buckets),
        *(f"$O.{bucket}.C.doctor" for bucket in (subjects.large_bucket(source), subjects.schema_bucket(source))),
        f"$JS.ACK.{name}.doctor.1.1.1.1.1",
    ]


async def _try(client: Client, subject: str) -> None:
    """Publish what no stream stores; a denial ends the call that waits for this."""
    try:
        await client.request(subject, b"", timeout=_TRY_S, headers=_NEVER)
    except (nats.errors.NoRespondersError, nats.errors.TimeoutError):
        await client.flush()


async def _limits(client: Client, options: JetStreamOptions, source: str) -> list[str]:
    info = await client.jetstream().account_info()
    limits, name, said = info.limits, subjects.stream_name(source), []
    wanted = [name, f"KV_{subjects.schema_bucket(source)}"]
    missing = [each for each in wanted if not await _has_stream(client, each)]
    if 0 < limits.max_streams < info.streams + len(missing):
        said.append(
            f"the account may have {limits.max_streams} streams and has {info.streams}: {', '.join(missing)} cannot be "
            f"made; raise its max_streams (KV_{name}_progress, KV_{name}_clients and OBJ_{name}_large come later)"
        )
    if limits.max_bytes_required and missing and options.max_bytes is None:
        said.append("the account requires a size for each stream: set BINLOGSYNC_STREAM_MAX_BYTES")
    if 0 < limits.max_consumers <= info.consumers:
        said.append(
            f"the account may have {limits.max_consumers} consumers and has {info.consumers}: raise its max_consumers, "
            f"or remove durables of clients that are gone (nats consumer rm)"
        )
    return said


async def _has_stream(client: Client, name: str) -> bool:
    try:
        await client.jetstream().stream_info(name)
    except nats.js.errors.NotFoundError:
        return False
    return True
