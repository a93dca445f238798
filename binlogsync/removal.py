"""Removes consumers of single tables, and whole sources, with what is stored for them.

Nothing of the source itself is changed. Tables of mirrors, and the progress of consumers, are deleted only on request
(`drop`): without it, a consumer that is added again resumes where it was, and a mirror is rebuilt if the stream was
deleted.
"""

from __future__ import annotations

from collections.abc import Collection

from binlogsync.codec.subjects import durable_name
from binlogsync.consume.progress import ProgressKey
from binlogsync.consume.progress_nats import NatsProgress
from binlogsync.errors import ConfigError
from binlogsync.nats.client import NatsConnection, NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.nats.source_removal import delete_source_streams
from binlogsync.stores import PositionStore
from binlogsync.targets import TableStore, TableTransaction
from binlogsync.targets.records import ReplayRecord

PROGRESS_OF = "the progress of"
"""Begin of what `remove_table` returns for the progress of a consumer."""


def remove_table(
    nats: NatsOptions, reader: StreamReader, target: TableStore | None, key: ProgressKey, *, drop: bool
) -> list[str]:
    """Delete the durable of a consumer; with `drop` also its progress, in NATS and in `target`, where the table of its
    mirror, and what a first load has read, are deleted in the same transaction.

    The consumer must not run. `target` is None if its progress is in no file. Returns what was deleted, a line each.
    Raises ConfigError if another client has the same mirror, SinkError, ConsumeError.
    """
    deleted = []
    if drop and target is not None:
        with target.begin() as transaction:
            deleted = _drop_consumer(transaction, key, {key})
    if drop:
        with NatsConnection(nats, f"binlogsync remove {key.source}") as connection:
            progress = NatsProgress(connection, key.source)
            deleted += [f"{PROGRESS_OF} {key} in NATS"] if progress.forget(key) else []
    durable = durable_name(key.client, key.database, key.table)
    if reader.pending(durable) is not None:
        reader.delete_durable(durable)
        deleted.append(f"the durable {durable} of {reader.stream}")
    return deleted


def remove_source(
    nats: NatsOptions, positions: PositionStore, target: TableStore | None, source: str, *, owner: str, drop: bool
) -> list[str]:
    """Delete the stream of a source with its durables and buckets, its checkpoint, its bookmarks and its facts.

    With `drop` also the progress of its consumers in `target`, the tables of its mirrors, and its unfinished replays,
    whose tables stay. Returns what was deleted, a line each; a removal that was interrupted can be repeated. Raises
    ConfigError if a consumer of another source has the same mirror, LeaseLostError while a tail of the source is
    alive, SinkError, StoreError, ConsumeError.
    """
    lease = positions.leases.claim(source, owner)
    try:
        if drop and target is not None:
            with target.begin() as transaction:  # before anything is deleted
                keys = _find_consumers(transaction, source)
                for key in keys:
                    _check_owners(transaction, key, keys)
        deleted = [f"the stream {name}" for name in delete_source_streams(nats, source)]
        bookmarks = positions.bookmarks.load(source)
        for bookmark in bookmarks:
            positions.bookmarks.delete(source, bookmark.key)
        deleted += [f"{len(bookmarks)} bookmark(s)"] if bookmarks else []
        deleted += ["the checkpoint"] if positions.checkpoints.load(source) is not None else []
        positions.checkpoints.delete(lease)
    finally:
        positions.leases.release(lease)
    if drop and target is not None:
        with target.begin() as transaction:
            for replay in _find_replays(transaction, source):
                transaction.forget_replay(replay)
                deleted.append(f"the unfinished replay {replay.request!r} of {replay.database}.{replay.table}")
            keys = _find_consumers(transaction, source)
            for key in keys:
                deleted += _drop_consumer(transaction, key, keys)
    return deleted


def _find_consumers(transaction: TableTransaction, source: str) -> list[ProgressKey]:
    replays = {replay.key for replay in _find_replays(transaction, source)}
    return [key for key in transaction.load_all_progress() if key.source == source and key not in replays]


def _find_replays(transaction: TableTransaction, source: str) -> list[ReplayRecord]:
    """The unfinished replays of the source."""
    return [each for each in transaction.load_replays() if each.source == source and not each.is_finished]


def _check_owners(transaction: TableTransaction, key: ProgressKey, removed: Collection[ProgressKey]) -> bool:
    """Whether the consumer has a mirror. Raises ConfigError if one that is not removed has the same mirror."""
    name = (key.database, key.table)
    if name not in transaction.list_mirrors(key.client, key.source):
        return False
    for other in transaction.list_consumers(*name):
        if other not in removed and name in transaction.list_mirrors(other.client, other.source):
            raise ConfigError(
                f"the mirror of {'.'.join(name)} also belongs to {other} and source {other.source!r}; remove that "
                "consumer first"
            )
    return True


def _drop_consumer(transaction: TableTransaction, key: ProgressKey, removed: Collection[ProgressKey]) -> list[str]:
    """Delete the progress, and the mirror if the client has one."""
    name, deleted = f"{key.database}.{key.table}", []
    if _check_owners(transaction, key, removed):
        transaction.forget_mirror(key.database, key.table)
        deleted.append(f"the mirror {name}")
    elif not (state := transaction.load_mirror(key.database, key.table)).is_known and transaction.drop_load(state):
        deleted.append(f"the rows of {name} that its first load has read")
    if key in transaction.load_all_progress():
        transaction.forget_progress(key)
        deleted.append(f"{PROGRESS_OF} {key}")
    return deleted
