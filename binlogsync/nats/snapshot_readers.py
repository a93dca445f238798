"""Directs rows of a snapshot to one consumer: its durables also read the subjects of these rows, while there are any.

A durable with two filters costs the server much more for each message if the stream has many subjects, so each has the
second one only as long as it needs it. The tail announces the consumer in the metadata of the stream, then adds the
filter to its durables, then publishes rows. A reader looks for the announcement after it has created a durable, and
before it reads (reader.py): so it has either seen the announcement, or its durable is among those that the tail
changes, and in no case passes a row unseen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

import nats.js.errors
from nats.aio.client import Client

from binlogsync.codec import subjects
from binlogsync.errors import ConfigError, SinkError
from binlogsync.nats.account import probe_publish, snapshot_probe
from binlogsync.nats.client import DeniedError, NatsConnection, NatsOptions
from binlogsync.nats.durable import ANNOUNCED, all_filters, list_configs
from binlogsync.nats.server_errors import refused_error
from binlogsync.nats.stream_tables import Table, ask_stream, no_stream_error
from binlogsync.nats.stream_update import request_api, update_stream
from binlogsync.nats.temporary_durable import is_temporary

Readers = Mapping[str, Collection[Table]]
"""Client id -> (database, table) of each table that it reads."""
_TRIES = 20
_FILTERS_S = 600.0
_AGAIN_S = 0.5
_SETTLE_S = 0.05
_UNAVAILABLE = 503


def list_readers(options: NatsOptions, source: str) -> Readers:
    """The consumers that have a durable in the stream, over a separate connection.

    Raises SinkError, WireError when the source has no stream yet.
    """
    return ask_stream(options, source, _find_readers)


def find_snapshot_readers(options: NatsOptions, source: str) -> Readers:
    """The same for a tail that is about to publish rows for one of them; adds the subjects of such rows to the stream.

    Raises ConfigError if the stream cannot have them, or the user may not publish to them; SinkError.
    """
    name = subjects.stream_name(source)
    with NatsConnection(options, f"binlogsync tail {source}") as connection:
        try:
            connection.call(lambda client: probe_publish(client, snapshot_probe(source)))
            connection.call(lambda client: update_stream(client, name, lambda config: _with_subjects(config, source)))
        except DeniedError as error:
            raise ConfigError(str(error)) from error
        except nats.js.errors.APIError as error:
            if error.code == _UNAVAILABLE:
                raise refused_error(options.address, name, error) from error
            raise ConfigError(
                f"stream {name} cannot have the subjects {subjects.all_snapshot_subjects(source)} of rows for one "
                f"consumer: {error.description}"
            ) from error
        return connection.retry(lambda client: _find_all_readers(client, source))


def direct_rows(options: NatsOptions, source: str, prefix: str | None, tables: Collection[Table]) -> None:
    """Make the durables of a consumer read the rows of these tables that are for it alone, from now on.

    Args:
        options, source: where the stream is.
        prefix: the first tokens of the subjects of the rows; None if no rows for one consumer are published.
        tables: (database, table) of each.

    Raises SinkError.
    """
    name = subjects.stream_name(source)

    async def announce(client: Client) -> None:
        await update_stream(client, name, lambda config: _with_announcement(config, source, prefix))

    with NatsConnection(options, f"binlogsync tail {source}") as connection:
        try:
            connection.retry(announce)
            if prefix is not None:
                connection.retry(lambda client: _add_filters(client, source, prefix, tables), _FILTERS_S)
        except nats.js.errors.APIError as error:
            raise refused_error(options.address, name, error) from error


def _with_subjects(config: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    wanted = subjects.stream_subjects(source)
    return {"subjects": wanted} if config["subjects"] == wanted[:1] else {}


def _with_announcement(config: Mapping[str, Any], source: str, prefix: str | None) -> Mapping[str, Any]:
    others = {key: value for key, value in (config.get("metadata") or {}).items() if key != ANNOUNCED}
    if prefix is None:
        return {"metadata": others} if ANNOUNCED in (config.get("metadata") or {}) else {}
    return {"metadata": {**others, ANNOUNCED: prefix}, **_with_subjects(config, source)}


async def _add_filters(client: Client, source: str, prefix: str, tables: Collection[Table]) -> None:
    """Add the subjects of the rows to those durables of the consumer that do not read them yet."""
    stream, parsed = subjects.stream_name(source), subjects.parse_snapshot_prefix(prefix)
    assert parsed is not None
    wanted = {
        subjects.durable_name(parsed[1], *table): [
            subjects.table_subject(source, *table),
            subjects.snapshot_subject(prefix, *table),
        ]
        for table in tables
    }
    refusal = ""
    for _ in range(_TRIES):
        configs = await list_configs(client, stream)
        late = [name for name in wanted.keys() & configs if all_filters(configs[name]) != set(wanted[name])]
        if not late:
            return
        for name in late:
            config = {key: value for key, value in configs[name].items() if key != "filter_subject"}
            body = {"stream_name": stream, "config": {**config, "filter_subjects": wanted[name]}, "action": "update"}
            try:
                await request_api(client, f"CONSUMER.CREATE.{stream}.{name}", body)
            except nats.js.errors.APIError as error:
                # Its reader may have deleted it, or created it again, meanwhile.
                refusal = f": {error.description} (code {error.err_code})"
        await asyncio.sleep(_SETTLE_S)  # servers of a cluster do not change it at the same time
    durables = f"the durables of {parsed[1]!r} ({', '.join(late[:3])})"
    raise SinkError(
        f"stream {stream}: {durables} cannot be changed{refusal}; see nats consumer info {stream} {late[0]}, or stop "
        "the consumer until the snapshot begins"
    )


async def _find_all_readers(client: Client, source: str) -> Readers:
    """Also those with a durable that does not exist for a moment, because its reader creates it again."""
    first = await _find_readers(client, source)
    await asyncio.sleep(_AGAIN_S)
    second = await _find_readers(client, source)
    return {each: {*first.get(each, ()), *second.get(each, ())} for each in {**first, **second}}


async def _find_readers(client: Client, source: str) -> Readers:
    found: dict[str, set[Table]] = {}
    try:
        configs = await list_configs(client, subjects.stream_name(source))
    except nats.js.errors.NotFoundError:
        raise no_stream_error(source) from None
    for name, config in configs.items():
        client_id = subjects.client_of_durable(name)
        if client_id is None or is_temporary(client_id):
            continue
        for subject in all_filters(config):
            names = subjects.parse_names(subject)
            if names is not None and subjects.durable_name(client_id, *names[1:]) == name:
                found.setdefault(client_id, set()).add(names[1:])
    return found
