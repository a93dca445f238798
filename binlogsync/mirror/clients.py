"""Refuses a client that would apply the changes of a table to the rows or the progress of another consumer."""

from __future__ import annotations

from binlogsync.errors import ConfigError
from binlogsync.targets import TableTransaction
from binlogsync.targets.progress import ProgressKey


def check_client(transaction: TableTransaction, key: ProgressKey) -> None:
    """Raise ConfigError if the client cannot keep the mirror of this table where the transaction writes.

    That is so if its progress is that of a handler, or if another client or source keeps the mirror.
    """
    progress = transaction.load_progress(key)
    is_mirror = transaction.load_mirror(key.database, key.table).is_known
    if progress.changes and not is_mirror:
        raise ConfigError(
            f"{key}: the file has its progress, but no mirror, because a handler consumes the table under this client "
            "id; use another client id"
        )
    if not is_mirror or progress.epoch:
        return
    for other in transaction.list_consumers(key.database, key.table):
        raise ConfigError(
            f"{key}: client {other.client!r} of source {other.source!r} keeps the mirror of this table in the file; "
            "use that client id, or another file"
        )
