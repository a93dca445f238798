"""Finds the newest schema of a table in a stream."""

from __future__ import annotations

import nats.js.errors
from nats.aio.client import Client

from binlogsync.codec import subjects
from binlogsync.nats.reader import StreamReader
from binlogsync.schema import TableSchema

_MOST_MESSAGES = 1000
"""So many messages before the newest one are searched for row changes."""


def find_newest_schema(reader: StreamReader, database: str, table: str) -> TableSchema | None:
    """The schema of the table's newest row changes in the stream.

    None if there are none, or if a schema change is the newest message and no row change is near it. Raises SinkError,
    and WireError for a message that cannot be read.
    """
    subject = subjects.table_subject(reader.source, database, table)

    async def last(client: Client) -> int | None:
        try:
            return (await client.jetstream().get_msg(reader.stream, subject=subject)).seq
        except nats.js.errors.NotFoundError:
            return None

    newest = reader.ask(last, 0.0) or 0
    for sequence in range(newest, max(0, newest - _MOST_MESSAGES), -1):
        batch = reader.change_at(sequence)
        if batch is not None and (batch.schema.database, batch.schema.table) == (database, table) and not batch.ddl:
            return batch.schema
    return None
