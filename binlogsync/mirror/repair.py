"""Repairs a mirror: reads the rows that a verification found different again, by key, while both are written to.

The rows are read in a view at a binlog position that the mirror has not passed, and stored as a request in its file.
The transaction in which the mirror reaches that position replaces its rows by them (targets/duckdb/repairs.py): no
earlier change is applied to them afterwards, and every later one is. The mirror cannot pass the position before the
request is stored, because the file is held while the rows are read. A repair that is killed leaves a complete request,
which the mirror's consumer applies, or nothing.

A mirror that cannot be repaired by key is rebuilt by its consumer, as after a gap.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from uuid import uuid4

import pyarrow as pa

from binlogsync.change_batch import ChangeBatch
from binlogsync.errors import ConfigError, ConsumeError
from binlogsync.mirror.key_literals import can_select_keys, has_impossible_dates, select_keys
from binlogsync.mirror.verify import Verification, Verifier
from binlogsync.position_order import PositionOrder, compare, compare_or_raise
from binlogsync.schema import TableSchema
from binlogsync.snapshot.view import LockRequiredError, TableSnapshot, read_table
from binlogsync.targets import TableTransaction
from binlogsync.targets.fingerprints import FingerprintRequest
from binlogsync.targets.mirror_options import with_key
from binlogsync.targets.records import RepairRecord, new_gap

KEYS = 5_000
"""Number of keys per repair: the mirror's file is held while their rows are read."""
_KEYS_PER_SELECT = 500
_MOST_KEYS = 200_000
"""A mirror with more differing keys is rebuilt, which reads the table faster."""
_TRIES = 8
_POLL_S = 0.3


@dataclass(frozen=True, slots=True)
class Repair:
    """The result of a repair.

    Attributes:
        before: the verification that found what to repair.
        records: what was changed; empty if the mirror was equal, or was rebuilt.
        after: the verification after the repair; `before` if the mirror was equal.
        rebuilt: how the whole mirror was rebuilt; "" if it was not.
    """

    before: Verification
    records: tuple[RepairRecord, ...]
    after: Verification
    rebuilt: str = ""

    def count(self, name: str) -> int:
        """The sum of a number of the records: keys, rows_read, inserted, updated or deleted."""
        return sum(int(getattr(record, name)) for record in self.records)

    def __str__(self) -> str:
        if self.rebuilt:
            return f"{self.rebuilt}; now {self.after}"
        if not self.records:
            return str(self.after)
        counts = ", ".join(f"{self.count(name)} {name}" for name in ("inserted", "updated", "deleted"))
        return f"repaired {self.count('keys')} keys ({counts}; {self.count('rows_read')} rows read); now {self.after}"


@dataclass(slots=True)
class Repairer:
    """Repairs mirrors in one file.

    Attributes:
        verifier: compares the mirrors, and knows the source and the file.
        who: is recorded.
        on_record: called with each record of what was changed.
    """

    verifier: Verifier
    who: str
    on_record: Callable[[RepairRecord], None] = lambda _: None

    def repair(self, database: str, table: str) -> Repair:
        """Compare one table, replace the mirror's rows that differ, and compare it again.

        If it is equal then, the gaps of the mirror are resolved. Raises ConfigError for a table that neither side has,
        or of which the client has no mirror; ConsumeError if the mirror does not reach the position of a read in time,
        or can only be rebuilt; SourceError.
        """
        name = database, table
        before = self.verifier.verify(*name)
        if before.is_equal:
            return Repair(before, (), before)
        self._check_client(name)
        reason = _rebuild_reason(before)
        if reason or before.rows is None or before.rows.schema is None:
            rebuilt = self._rebuild(name, before, reason)
            return Repair(before, (), self.verifier.verify(*name), rebuilt)
        schema, keys = before.rows.schema, before.rows.keys
        parts = (keys.slice(first, KEYS) for first in range(0, keys.num_rows, KEYS))
        records = tuple(self._repair(name, schema, part) for part in parts)
        return Repair(before, records, self.verifier.verify(*name))

    def _check_client(self, name: tuple[str, str]) -> None:
        """Raise ConfigError unless the client keeps a mirror of the table."""
        key = self.verifier.key(*name)
        with self.verifier.tables.begin() as transaction:
            is_mirrored = name in transaction.list_mirrors(key.client, key.source)
        if not is_mirrored:
            raise ConfigError(
                f"{'.'.join(name)}: not repaired, because client {key.client!r} keeps no mirror of it in "
                f"{self.verifier.tables.address}; give the client id of the mirror's consumer"
            )

    def _rebuild(self, name: tuple[str, str], found: Verification, reason: str) -> str:
        """Record a gap, which makes the mirror's consumer rebuild it, and wait for that; returns its resolution."""
        key = self.verifier.key(*name)
        gap = new_gap("verification", f"a verification found a difference at {found.at}: {reason}", is_mirror=True)
        with self.verifier.tables.begin() as transaction:
            transaction.insert_gap(key, gap)

        def find_resolution() -> str | None:
            with self.verifier.tables.begin() as transaction:
                gaps = transaction.load_gaps(key)
            resolutions = [each.resolution for each in gaps if (each.kind, each.detail) == (gap.kind, gap.detail)]
            return resolutions[-1] if all(resolutions) else None

        return self.verifier.poll(
            find_resolution,
            lambda: (
                f"{'.'.join(name)}: the whole mirror must be rebuilt ({reason}), and its consumer did not do so "
                f"within {self.verifier.options.timeout_s:g} s. A gap is recorded: the consumer rebuilds the "
                "mirror when it runs next. Or stop the consumer, rebuild the mirror with binlogsync rewind "
                "--rebuild, and start it again"
            ),
        )

    def _repair(self, name: tuple[str, str], schema: TableSchema, keys: pa.Table) -> RepairRecord:
        may_lock = False
        for _ in range(_TRIES):
            try:
                request = self._request(name, schema, keys, may_lock=may_lock)
            except LockRequiredError:
                may_lock = True
                continue
            if request is None:  # the mirror is already after that position
                time.sleep(_POLL_S)
                continue
            try:
                record = self.verifier.wait_for(name, request, lambda transaction: transaction.take_repair(request))  # noqa: B023 - runs now
                self.on_record(record)
                return record
            except LookupError:
                continue
            finally:
                self.verifier.forget(request)
        raise ConsumeError(
            f"{'.'.join(name)}: not repaired in {_TRIES} attempts, because the mirror was ahead of each read of the "
            "table, or was rebuilt, or its columns changed meanwhile; run the repair again"
        )

    def _request(
        self, name: tuple[str, str], schema: TableSchema, keys: pa.Table, *, may_lock: bool
    ) -> FingerprintRequest | None:
        """Read the rows with these keys, and store them as a request; None if the mirror is after their position."""
        with ExitStack() as opened:
            if may_lock:  # the lock may take long, and the mirror's consumer waits while the file is held
                snapshot = opened.enter_context(read_table(self.verifier.config, *name))
                transaction = opened.enter_context(self.verifier.tables.begin())
            else:
                transaction = opened.enter_context(self.verifier.tables.begin())
                snapshot = opened.enter_context(read_table(self.verifier.config, *name, may_lock=False))
            state = transaction.load_mirror(*name)
            if snapshot.schema is None or with_key(snapshot.schema, state.policies.key) != schema:
                raise ConsumeError(f"{'.'.join(name)}: its columns changed since the comparison; run the repair again")
            if self._is_late(transaction, name, snapshot):
                return None
            request = FingerprintRequest(uuid4().hex, snapshot.at)
            texts = list(zip(*(column.to_pylist() for column in keys.columns), strict=True))
            first, last = ("/".join(texts[i]) for i in (0, -1))
            record = RepairRecord(self.verifier.key(*name), self.who, str(snapshot.at), first, last, len(texts))
            transaction.insert_repair(state, request, record, (schema, keys, _read(snapshot, schema, texts)))
        return request

    def _is_late(self, transaction: TableTransaction, name: tuple[str, str], snapshot: TableSnapshot) -> bool:
        """True when the mirror has changes from after the snapshot."""
        state, progress = transaction.load_mirror(*name), transaction.load_progress(self.verifier.key(*name))
        if state.read_at is not None and compare_or_raise(snapshot.at, state.read_at).may_be_before:
            return True
        order = PositionOrder.BEFORE if progress.is_new else compare(progress.at, snapshot.at)
        if order is PositionOrder.UNKNOWN:
            raise ConsumeError(
                f"{'.'.join(name)}: not repaired, because the position of the mirror ({progress}, server "
                f"{progress.server_uuid}) cannot be compared with that of {self.verifier.config.address} "
                f"({snapshot.at}); turn GTIDs on, or wait until the mirror has applied a change of that server"
            )
        return order is PositionOrder.AFTER


def _rebuild_reason(found: Verification) -> str:
    """Why the mirror cannot be repaired by key; "" if it can."""
    if found.rows is None or found.rows.schema is None:
        return found.columns
    if not can_select_keys(found.rows.schema):
        return "the table has no primary key, or one of a type that rows are not selected by"
    if has_impossible_dates(found.rows.keys):
        return "a key has a date that does not exist"
    if found.rows.keys.num_rows > _MOST_KEYS:
        return f"{found.rows.keys.num_rows} keys differ"
    return ""


def _read(snapshot: TableSnapshot, schema: TableSchema, keys: Sequence[Sequence[str]]) -> Iterator[ChangeBatch]:
    for first in range(0, len(keys), _KEYS_PER_SELECT):
        for batch in snapshot.batches(clauses=select_keys(schema, keys[first : first + _KEYS_PER_SELECT])):
            yield batch.with_schema(schema)  # with the key of the mirror, outside of which invalid dates are NULL
