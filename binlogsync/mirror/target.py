"""The mirror target: applies changes, and rebuilds the table where they do not suffice (rebuild.py).

A gap (consume/gaps.py) is recorded in the transaction of the message that reports it, and resolved in the transaction
of the next rebuild.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import duckdb

from binlogsync.change import ChangeBatch
from binlogsync.consume.gaps import gap_from_batch, insert_gap
from binlogsync.consume.progress import ProgressKey, Tracker
from binlogsync.errors import ConfigError
from binlogsync.mirror import apply as mirror
from binlogsync.mirror.fingerprints import (
    FingerprintRequest,
    changes_up_to,
    count_changes,
    drop_first,
    ensure_requests,
    load_requests,
    write_fingerprint,
)
from binlogsync.mirror.rebuild import RebuildableMirror
from binlogsync.nats.messages import StreamBatch
from binlogsync.position import Checkpoint
from binlogsync.position_masks import changes_after
from binlogsync.position_order import compare
from binlogsync.targets.duckdb.state import ensure_meta, load_state


class Mirror(RebuildableMirror):
    """A DuckDB table `database.table` in the file `path` that stays equal to the table of the source (see apply.py).

    With `source` the mirror starts with a snapshot if the stream does not contain the table from its creation, and is
    rebuilt if the effect of a schema change is not provable. Without `source` the mirror starts empty, and such a
    schema change raises ConsumeError.
    """

    def take(self, batches: Sequence[StreamBatch], tracker: Tracker, stop: threading.Event) -> None:
        """Apply the batches in one transaction, or in several if the mirror is rebuilt in between."""
        for item in batches:
            if (item.batch.schema.database, item.batch.schema.table) != (self.database, self.table):
                raise ConfigError(
                    f"the mirror of {self.database}.{self.table} received changes of {item.batch.schema.name}"
                )
        todo, has_gap = list(batches), False
        while todo and not stop.is_set():
            with self.file.transaction(keep_open=True) as connection:
                items, request = self._changes_to_request(connection, todo)
                ensure_meta(connection)
                read_at = load_state(connection, self.database, self.table).read_at
                rebuild = mirror.apply(
                    connection, [item.batch for item in items], self.options, can_read=self.source is not None
                )
                done = items if rebuild is None else items[: rebuild.done]
                if request is not None and rebuild is None:
                    write_fingerprint(connection, load_state(connection, self.database, self.table), request)
                has_gap = record_gaps(connection, tracker.key, done, read_at) or has_gap
                moved = tracker.move(connection, [(item.batch, item.last_sequence) for item in done]) if done else None
            if moved is not None:
                tracker.confirm(moved, [item.batch for item in done])
            todo = drop_first(todo, count_changes(done))
            if rebuild is not None:
                if not self.wait_to_rebuild(rebuild, stop):
                    break  # the remaining changes are delivered again
                self.rebuild_before(rebuild, todo[0].batch, tracker.key)
        if has_gap and not stop.is_set():
            self.repair(tracker.key, tracker.progress)

    def _changes_to_request(
        self, connection: duckdb.DuckDBPyConnection, todo: Sequence[StreamBatch]
    ) -> tuple[Sequence[StreamBatch], FingerprintRequest | None]:
        """The changes before the first requested fingerprint, and its request; all changes if there is none."""
        ensure_requests(connection)
        found: tuple[Sequence[StreamBatch], FingerprintRequest | None] = todo, None
        for request in load_requests(connection, self.database, self.table):
            items = changes_up_to(todo, request.at)
            if count_changes(items) < count_changes(found[0]):
                found = items, request
        return found


def record_gaps(
    connection: duckdb.DuckDBPyConnection,
    key: ProgressKey,
    done: Sequence[StreamBatch],
    read_at: Checkpoint | None,
) -> bool:
    """Record the gaps that these messages report, in the open transaction; True if there is one.

    Changes before `read_at` are in the mirror already.
    """
    gaps = [(gap_from_batch(item.batch, is_mirror=True), item.batch) for item in done if item.batch.ddl is not None]
    wanted = [gap for gap, batch in gaps if gap and (read_at is None or not _is_read(batch, read_at))]
    for gap in wanted:
        insert_gap(connection, key, gap)
    return bool(wanted)


def _is_read(message: ChangeBatch, read_at: Checkpoint) -> bool:
    """True when every change that the message reports as missing precedes the snapshot."""
    until = None if message.ddl is None else message.ddl.until
    if until is not None:
        return message.server_uuid == read_at.server_uuid and compare(until, read_at.position).is_at_or_before
    return not len(changes_after(message, read_at))
