"""Checks the letter case of table names against the source's server; the tail stores its rule in the schema bucket."""

from __future__ import annotations

import nats.js.errors
from nats.aio.client import Client

from binlogsync import table_names
from binlogsync.codec import subjects


async def check_spelling(client: Client, source: str, name: tuple[str, str]) -> None:
    """Raise ConfigError for a (database, table) in a letter case that the server does not use, because it folds names.
    NATS is queried only for names that are not folded already.
    """
    if tuple(map(table_names.fold_case, name)) == name:
        return
    try:
        bucket = await client.jetstream().key_value(subjects.schema_bucket(source))
        value = (await bucket.get(subjects.CASE_KEY)).value
    except nats.js.errors.NotFoundError:
        return
    table_names.check_spelling(table_names.fold_of(value.decode() if value else None), *name, source)
