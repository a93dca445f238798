"""Checks that a NATS account has the permissions and limits that a tail and its consumers require. Stores nothing.

It publishes a message to each subject with an expected last sequence that no stream has. With the permission to
publish, the server refuses the message for its sequence, or no stream has the subject; without it, the server reports a
permissions violation. The limits of the account are compared with the streams that have yet to be created.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.api import Header

from binlogsync.codec import subjects
from binlogsync.nats.client import DeniedError, NatsConnection, NatsOptions
from binlogsync.nats.stream import StreamSpec

_IMPOSSIBLE_SEQUENCE = {Header.EXPECTED_LAST_SEQUENCE.value: str(2**62)}
_PROBE_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class AccountProblem:
    """A missing permission, or a limit that is too low; not an error if it concerns a feature that is not used."""

    text: str
    is_error: bool = True


def find_account_problems(options: NatsOptions, spec: StreamSpec) -> Iterator[AccountProblem]:
    """One per missing permission and per limit that is too low. Raises SinkError."""
    rows = snapshot_probe(spec.source)
    with NatsConnection(options, f"binlogsync doctor {spec.source}") as connection:
        for subject in published_subjects(spec.source):
            try:
                connection.call(lambda client: probe_publish(client, subject))  # noqa: B023 - called at once
            except DeniedError as error:
                if subject != rows:
                    yield AccountProblem(str(error))
                    continue
                is_used = connection.call(lambda client: _has_snapshot_subjects(client, spec.source))
                text = f"{error}. It is needed for a snapshot for one consumer (binlogsync snapshot --consumer) alone"
                yield AccountProblem(text, is_error=is_used)
        yield from map(AccountProblem, connection.call(lambda client: _find_low_limits(client, spec)))


def published_subjects(source: str) -> list[str]:
    """One subject of each kind that a tail or a consumer publishes to."""
    name = subjects.stream_name(source)
    others = (subjects.key_value_bucket(source, kind) for kind in subjects.KEY_VALUE_KINDS)
    buckets = [subjects.schema_bucket(source), *others]
    return [
        f"cdc.{source}._checkpoint",
        f"cdc.{source}.doctor.doctor",
        snapshot_probe(source),
        *(f"$KV.{bucket}.doctor" for bucket in buckets),
        *(f"$O.{bucket}.C.doctor" for bucket in (subjects.large_bucket(source), subjects.schema_bucket(source))),
        f"$JS.ACK.{name}.doctor.1.1.1.1.1",
    ]


def snapshot_probe(source: str) -> str:
    """A subject of rows for one consumer."""
    return subjects.snapshot_subject(subjects.snapshot_prefix(source, "doctor"), "doctor", "doctor")


async def probe_publish(client: Client, subject: str) -> None:
    """Publish a message that no stream stores. Without permission, the connection fails the call that awaits this."""
    try:
        await client.request(subject, b"", timeout=_PROBE_TIMEOUT_S, headers=_IMPOSSIBLE_SEQUENCE)
    except (nats.errors.NoRespondersError, nats.errors.TimeoutError):
        await client.flush()


async def _has_snapshot_subjects(client: Client, source: str) -> bool:
    """Whether the stream has the subjects of rows for one consumer."""
    try:
        config = (await client.jetstream().stream_info(subjects.stream_name(source))).config
    except nats.js.errors.NotFoundError:
        return False
    return subjects.all_snapshot_subjects(source) in (config.subjects or ())


async def _find_low_limits(client: Client, spec: StreamSpec) -> list[str]:
    info = await client.jetstream().account_info()
    limits, name, problems = info.limits, subjects.stream_name(spec.source), []
    required = [name, f"KV_{subjects.schema_bucket(spec.source)}"]
    missing = [each for each in required if not await _has_stream(client, each)]
    if 0 < limits.max_streams < info.streams + len(missing):
        later = (f"KV_{subjects.key_value_bucket(spec.source, kind)}" for kind in subjects.KEY_VALUE_KINDS)
        problems.append(
            f"the account has {info.streams} of at most {limits.max_streams} streams: {', '.join(missing)} cannot be "
            f"created; raise its max_streams ({', '.join(later)} and OBJ_{name}_large follow later)"
        )
    if limits.max_bytes_required and missing and spec.max_bytes is None:
        problems.append("the account requires a size limit for each stream: set BINLOGSYNC_STREAM_MAX_BYTES")
    return problems


async def _has_stream(client: Client, name: str) -> bool:
    try:
        await client.jetstream().stream_info(name)
    except nats.js.errors.NotFoundError:
        return False
    return True
