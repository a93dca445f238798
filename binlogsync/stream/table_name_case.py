"""How the server of a source compares names of tables: the tail keeps it in the source's bucket of schemas."""

from __future__ import annotations

import nats.js.errors
from nats.aio.client import Client

from binlogsync import table_names
from binlogsync.wire import subjects


async def check_spelling(client: Client, source: str, name: tuple[str, str]) -> None:
    """Raise ConfigError for a (database, table) that no change has, because the server folds names; NATS is asked about
    names that are not folded only.
    """
    if tuple(map(table_names.fold_case, name)) == name:
        return
    try:
        bucket = await client.jetstream().key_value(subjects.schema_bucket(source))
        value = (await bucket.get(subjects.CASE_KEY)).value
    except nats.js.errors.NotFoundError:
        return
    table_names.check_spelling(table_names.fold_of(value.decode() if value else None), *name, source)
