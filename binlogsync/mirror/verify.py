"""Verifies that a mirror equals its table: compares all rows at the same binlog position, while both are written to.

The table is read from the server in a consistent snapshot (snapshot.py); a fingerprint of the mirror is requested for
the snapshot's position (targets/fingerprints.py). Rows are compared by key and hash, in chunks of consecutive keys; a
table without a key is compared as a multiset of rows. Neither side is stopped, and only the request is written.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TypeVar
from uuid import uuid4

from binlogsync.errors import ConfigError, ConsumeError
from binlogsync.mirror.image_columns import ADVICE
from binlogsync.mirror.verify_rows import RowStore
from binlogsync.mysql.config import MySQLConfig
from binlogsync.mysql.privileges import grants_for_tail
from binlogsync.nats.reader import StreamReader
from binlogsync.position import Checkpoint
from binlogsync.position_masks import changes_after
from binlogsync.position_order import PositionOrder, compare, compare_or_raise
from binlogsync.snapshot.view import TableSnapshot, read_table
from binlogsync.targets import TableStore, TableTransaction
from binlogsync.targets.comparison import Comparison
from binlogsync.targets.factory import open_comparer
from binlogsync.targets.fingerprints import Fingerprint, FingerprintRequest
from binlogsync.targets.mirror_options import with_key
from binlogsync.targets.progress import NO_PROGRESS, ConsumerProgress, ProgressKey
from binlogsync.waiting import RetryTimer

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

_POLL_S = 0.3
_CHECK_GRANTS_S = 10.0
_TRIES = 8


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of a verification.

    Attributes:
        at: the binlog position at which both were compared.
        is_equal: True when columns and rows are equal.
        columns: the difference between the columns; "" if they are equal.
        rows: the comparison of the rows; None if the columns differ, or the table or the mirror does not exist.
        seconds: duration.
        left_out: columns that were not compared, because the mirror cannot have them (mirror/image_columns.py).
    """

    at: Checkpoint
    is_equal: bool
    columns: str = ""
    rows: Comparison | None = None
    seconds: float = 0.0
    left_out: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self._result}; without {', '.join(self.left_out)}: {ADVICE}" if self.left_out else self._result

    @property
    def _result(self) -> str:
        if self.is_equal and self.rows is None:
            return f"equal at {self.at}: {self.columns or 'no such table on either side'}"
        if self.rows is None:
            return f"differs at {self.at}: {self.columns}"
        return f"{'equal' if self.is_equal else 'differs'} at {self.at}: {self.rows}"


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """Options of a verification.

    Attributes:
        client_id: of the mirror's consumer.
        timeout_s: how long the mirror may take to reach the position.
        chunk_rows: number of rows per chunk.
        examples: number of differing keys shown per chunk.
    """

    client_id: str = "binlogsync"
    timeout_s: float = 120.0
    chunk_rows: int = 10_000
    examples: int = 5


@dataclass(slots=True)
class Verifier:
    """Compares mirrors in one file with their tables on one source."""

    reader: StreamReader
    config: MySQLConfig
    tables: TableStore
    options: VerifyOptions = field(default_factory=VerifyOptions)

    def verify(self, database: str, table: str) -> Verification:
        """Compare one table; if it is equal, the gaps of the mirror are resolved.

        Raises ConfigError for a table that neither side has, ConsumeError if the mirror does not reach the position in
        time, SourceError.
        """
        started, begun = time.monotonic(), datetime.now(UTC)
        self.reader.check_spelling(database, table)
        for _ in range(_TRIES):
            with read_table(self.config, database, table) as read:
                snapshot = self._use_key(database, table, read)
                request = FingerprintRequest(uuid4().hex, snapshot.at)
                if not self._request(database, table, request):
                    continue  # the mirror is already after that position
                try:
                    with open_comparer(self.options.chunk_rows, self.options.examples) as comparer:
                        store = RowStore(comparer)
                        store.fill(snapshot)
                        found = self.wait_for(
                            (database, table),
                            request,
                            lambda transaction: transaction.take_fingerprint(request),  # noqa: B023 - runs now
                        )
                        seconds = time.monotonic() - started
                        compared = self._compare((database, table), snapshot, found, store, seconds)
                        if compared.is_equal:
                            self._resolve(self.key(database, table), snapshot.at, begun)
                        return replace(compared, left_out=snapshot.left_out)
                except LookupError:
                    continue
                finally:
                    self.forget(request)
        raise ConsumeError(
            f"{database}.{table}: the mirror was ahead of each of {_TRIES} snapshots of the table; verify it again"
        )

    def key(self, database: str, table: str) -> ProgressKey:
        """Identifies the mirror's consumer."""
        return ProgressKey(self.options.client_id, self.reader.source, database, table)

    def _use_key(self, database: str, table: str, snapshot: TableSnapshot) -> TableSnapshot:
        """The snapshot with the mirror's key as its primary key.

        Raises ConfigError for a table that never existed on either side, most likely a typing error; ConsumeError if it
        does not have the key any longer.
        """
        with self.tables.begin() as transaction:
            state = transaction.load_mirror(database, table)
        if snapshot.schema is not None:
            return replace(snapshot, schema=with_key(snapshot.schema, state.policies.key))
        if not state.is_known:
            raise ConfigError(
                f"{database}.{table}: {self.config.address} has no such table, and {self.tables.address} no mirror of "
                "it"
            )
        return snapshot

    def _resolve(self, key: ProgressKey, at: Checkpoint, until: datetime) -> None:
        """Resolve the mirror's gaps from before the comparison."""
        with self.tables.begin() as transaction:
            transaction.resolve_gaps(key, f"found equal at {at}", "a verification", until)

    def _request(self, database: str, table: str, request: FingerprintRequest) -> bool:
        """Store the request; False when the mirror is already after the position."""
        with self.tables.begin() as transaction:
            state = transaction.load_mirror(database, table)
            progress = transaction.load_progress(self.key(database, table))
            is_late = state.read_at is not None and compare_or_raise(request.at, state.read_at).may_be_before
            if is_late or _is_ahead(progress, request.at):
                return False
            transaction.insert_request(state, request)
        return True

    def wait_for(
        self,
        name: tuple[str, str],
        request: FingerprintRequest,
        take: Callable[[TableTransaction], Answer | None],
    ) -> Answer:
        """Wait until `take` finds the answer to the request.

        It is answered here if the stream proves that the mirror is at the position. Raises LookupError if the request
        was deleted, ConsumeError if the mirror does not reach the position in time.
        """
        progress, before = NO_PROGRESS, self.reader.last_sequence()
        asks_at = time.monotonic() + _CHECK_GRANTS_S

        def find() -> Answer | None:
            nonlocal progress, asks_at
            with self.tables.begin() as transaction:
                progress = transaction.load_progress(self.key(*name))
                found = take(transaction)
            if found is None and self._has_reached(name, progress, request.at):
                with self.tables.begin() as transaction:
                    if transaction.load_progress(self.key(*name)) == progress:
                        transaction.write_fingerprint(transaction.load_mirror(*name), request)
                with self.tables.begin() as transaction:
                    return take(transaction)
            if found is None and asks_at < time.monotonic() and self.reader.last_sequence() == before:
                asks_at = math.inf
                self._check_grants(name)
            return found

        return self.poll(
            find,
            lambda: (
                f"{name[0]}.{name[1]}: the mirror did not reach {request.at} within {self.options.timeout_s:g} s "
                f"(it is at {progress}); check that the tail of {self.reader.source} and the mirror's consumer run"
            ),
        )

    def poll(self, find: Callable[[], Answer | None], describe_timeout: Callable[[], str]) -> Answer:
        """Call `find` until it returns an answer. Raises ConsumeError with the description after the timeout."""
        timer = RetryTimer(self.options.timeout_s, _POLL_S)
        while (found := find()) is None:
            if timer.is_over:
                raise ConsumeError(describe_timeout())
            timer.pause()
        return found

    def _has_reached(self, name: tuple[str, str], progress: ConsumerProgress, at: Checkpoint) -> bool:
        """True when the stream has all changes before the position, and the mirror has applied those of its table."""
        checkpoint = self.reader.checkpoint_at(self.reader.last_sequence())
        if checkpoint is None or compare_or_raise(checkpoint, at).may_be_before:
            return False
        following = self.reader.changes_from(*name, progress.sequence + 1)
        return not following or len(changes_after(following[0].batch, at)) == len(following[0].batch)

    def _check_grants(self, name: tuple[str, str]) -> None:
        """While the stream has no new messages: raise ConsumeError if the account cannot read the binlog."""
        if grants := grants_for_tail(self.config):
            raise ConsumeError(
                f"{name[0]}.{name[1]}: the stream of {self.reader.source} had no message for {_CHECK_GRANTS_S:g} s, "
                f"and a tail cannot read the binlog as {self.config.user}; run: {' '.join(grants)}"
            )

    def forget(self, request: FingerprintRequest) -> None:
        """Delete the request, unless it was answered."""
        with self.tables.begin() as transaction:
            transaction.delete_request(request)

    def _compare(
        self,
        name: tuple[str, str],
        snapshot: TableSnapshot,
        found: Fingerprint,
        store: RowStore,
        seconds: float,
    ) -> Verification:
        source, mirrored = snapshot.schema, found.schema
        if source is None and mirrored is None:
            with self.tables.begin() as transaction:
                is_kept = transaction.load_mirror(*name).policies.kept_us is not None
            kept = "the server has no such table, and the mirror keeps its rows (on_drop)" if is_kept else ""
            return Verification(snapshot.at, True, kept, seconds=seconds)
        if source is None or mirrored is None:
            missing = "the server has no such table" if source is None else "it has no mirror yet"
            return Verification(snapshot.at, False, missing, seconds=seconds)
        with self.tables.begin() as transaction:
            has_same_shape = transaction.converter.has_same_shape(source, mirrored)
        if not has_same_shape or source.primary_key != mirrored.primary_key:
            texts = [
                ", ".join(f"{c.name} {c.declaration}" for c in schema.columns) + f" key {schema.primary_key}"
                for schema in (source, mirrored)
            ]
            return Verification(
                snapshot.at, False, f"columns are {texts[0]}; the mirror has {texts[1]}", seconds=seconds
            )
        rows = store.compare(found.rows)
        return Verification(snapshot.at, rows.is_equal, "", rows, seconds)


def _is_ahead(progress: ConsumerProgress, at: Checkpoint) -> bool:
    """True when the last applied change is after the checkpoint; False for a change from a server before a failover."""
    is_same_server = progress != NO_PROGRESS and progress.server_uuid == at.server_uuid
    return is_same_server and compare(progress.at, at) is PositionOrder.AFTER
