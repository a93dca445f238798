"""The tables of a source according to its stream: those with changes, and those that have a durable."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Set
from typing import TypeVar

import nats.js.errors
from nats.aio.client import Client
from nats.js.api import StreamInfo

from binlogsync.codec import subjects
from binlogsync.errors import WireError
from binlogsync.nats.client import NatsConnection, NatsOptions
from binlogsync.nats.durable import all_filters, list_configs
from binlogsync.nats.server_errors import refused_error

Table = tuple[str, str]
Answer = TypeVar("Answer")


async def count_messages(client: Client, source: str) -> Mapping[Table, int]:
    """(database, table) -> number of messages, for every table with changes in the stream.

    Raises WireError when the source has no stream.
    """
    found = dict[Table, int]()
    info = await stream_info(client, source, subjects.table_subjects(source))
    for subject, count in (info.state.subjects or {}).items():
        if (names := subjects.parse_names(subject)) is not None:
            found[names[1:]] = count
    return found


async def find_followed(client: Client, source: str) -> Set[Table]:
    """(database, table) of every durable of the stream, also of tables without changes in the stream."""
    found = await list_configs(client, subjects.stream_name(source))
    filters = {subject for config in found.values() for subject in all_filters(config)}
    own = (subject for subject in filters if subject.startswith(subjects.all_subjects(source)[:-1]))
    return {names[1:] for subject in own if (names := subjects.parse_names(subject)) is not None}


def list_stored_tables(options: NatsOptions, source: str) -> Set[Table]:
    """The tables with changes in the stream, over a separate connection. Raises SinkError, WireError."""
    return ask_stream(options, source, count_messages).keys()


def list_followed_tables(options: NatsOptions, source: str) -> Set[Table]:
    """The tables with a durable of the stream, over a separate connection. Raises SinkError."""
    return ask_stream(options, source, find_followed)


def ask_stream(options: NatsOptions, source: str, question: Callable[[Client, str], Awaitable[Answer]]) -> Answer:
    """The answer to a question about the stream of a source, over a separate connection. Raises SinkError."""
    with NatsConnection(options, f"binlogsync tables {source}") as connection:
        try:
            return connection.retry(lambda client: question(client, source))
        except nats.js.errors.APIError as error:
            raise refused_error(options.address, subjects.stream_name(source), error) from error


async def stream_info(client: Client, source: str, counted: str | None = None) -> StreamInfo:
    """What the server knows about the stream of a source, with the numbers of messages by subject for `counted`.

    Raises WireError when there is no stream yet.
    """
    try:
        return await client.jetstream().stream_info(subjects.stream_name(source), counted)
    except nats.js.errors.NotFoundError:
        raise no_stream_error(source) from None


def no_stream_error(source: str) -> WireError:
    """The error for a source without a stream."""
    stream = subjects.stream_name(source)
    return WireError(f"source {source} has no stream {stream} yet; start its tail, which creates it")
