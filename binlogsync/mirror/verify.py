"""Is a mirror equal to its table? Both at one and the same place in the binlog, row by row, while both are written to.

The table is read from the server in a consistent snapshot (snapshot.py), whose place the mirror is asked about
(mirror/fingerprints.py). Rows are compared by key and hash, in chunks of neighbouring keys; a table without a key as a
multiset of rows. Nothing is stopped, and nothing is changed but for the request in the mirror's file.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from binlogsync.consume.gaps import resolve_gaps
from binlogsync.consume.progress import NO_PROGRESS, ConsumerProgress, ProgressKey
from binlogsync.duckfile import DuckFile
from binlogsync.errors import ConfigError, ConsumeError
from binlogsync.flush import changes_after
from binlogsync.mirror.fingerprints import (
    Fingerprint,
    FingerprintRequest,
    delete_request,
    ensure_requests,
    insert_request,
    take_fingerprint,
    write_fingerprint,
)
from binlogsync.mirror.image_columns import ADVICE
from binlogsync.mirror.schema import has_same_shape
from binlogsync.mirror.state import ensure_meta, load_state
from binlogsync.mirror.verify_rows import Comparison, RowStore
from binlogsync.mysql.config import MySQLConfig
from binlogsync.mysql.privileges import grants_for_tail
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.snapshot import TableSnapshot, read_table
from binlogsync.stream.reader import StreamReader

log = logging.getLogger(__name__)

_LOOK_S = 0.3
_ASK_GRANTS_S = 10.0
_TRIES = 8


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found.

    Attributes:
        at: the place in the binlog at which both were looked at.
        is_equal: True when columns and rows are the same.
        columns: what differs between the columns; "" when nothing does.
        rows: how the rows compare; None when the columns differ, or one of the two is not there.
        seconds: it took.
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
            return f"equal at {self.at}: no such table on either side"
        if self.rows is None:
            return f"differs at {self.at}: {self.columns}"
        return f"{'equal' if self.is_equal else 'differs'} at {self.at}: {self.rows}"


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """How to verify.

    Attributes:
        client_id: of the mirror's consumer.
        timeout_s: how long the mirror may take to reach the place.
        chunk_rows: rows in a chunk.
        examples: keys shown of what differs in a chunk.
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
    file: DuckFile
    options: VerifyOptions = field(default_factory=VerifyOptions)

    def verify(self, database: str, table: str) -> Verification:
        """Compare one table; gaps of a mirror that is equal are resolved by it.

        Raises ConfigError for a table that neither side has, ConsumeError when the mirror does not reach the place in
        time, SourceError.
        """
        started, begun = time.monotonic(), datetime.now(UTC)
        self.reader.check_spelling(database, table)
        for _ in range(_TRIES):
            with read_table(self.config, database, table) as snapshot:
                self._refuse_unknown(database, table, snapshot)
                request = FingerprintRequest(uuid4().hex, snapshot.at)
                if not self._ask(database, table, request):
                    continue  # the mirror has passed that place already
                try:
                    with TemporaryDirectory(prefix="binlogsync-verify-") as folder:
                        store = RowStore(Path(folder), self.options.chunk_rows, self.options.examples)
                        store.fill(snapshot)
                        found = self._wait((database, table), request)
                        compared = _compared(snapshot, found, store, time.monotonic() - started)
                        if compared.is_equal:
                            self._resolve(self._key(database, table), snapshot.at, begun)
                        return replace(compared, left_out=snapshot.left_out)
                except LookupError:
                    continue
                finally:
                    self._forget(request)
        raise ConsumeError(
            f"{database}.{table}: the mirror was ahead of each of {_TRIES} readings of the table; verify it again"
        )

    def _key(self, database: str, table: str) -> ProgressKey:
        return ProgressKey(self.options.client_id, self.reader.source, database, table)

    def _refuse_unknown(self, database: str, table: str, snapshot: TableSnapshot) -> None:
        """Raise ConfigError for a table that was never on either side, which is most likely a typing error."""
        if snapshot.schema is not None:
            return
        with self.file.transaction() as connection:
            ensure_meta(connection)
            is_known = load_state(connection, database, table).is_known
        if not is_known:
            raise ConfigError(
                f"{database}.{table}: {self.config.address} has no such table, and {self.file.path} no mirror of it"
            )

    def _resolve(self, key: ProgressKey, at: Checkpoint, until: datetime) -> None:
        """What the mirror may have missed before the comparison, it did not."""
        with self.file.transaction() as connection:
            resolve_gaps(connection, key, f"found equal at {at}", "a verification", until)

    def _ask(self, database: str, table: str, request: FingerprintRequest) -> bool:
        """Leave the request; False when the mirror is behind the place already."""
        with self.file.transaction() as connection:
            ensure_meta(connection)
            ensure_requests(connection)
            state = load_state(connection, database, table)
            progress = self._key(database, table).load(connection)
            is_late = state.read_at is not None and request.at.precedes(state.read_at)
            if is_late or _is_behind(progress, request.at):
                return False
            insert_request(connection, state, request)
        return True

    def _wait(self, name: tuple[str, str], request: FingerprintRequest) -> Fingerprint:
        """Until the mirror has answered, or the stream proves that it is at that place, and it can be done here."""
        ends_at = time.monotonic() + self.options.timeout_s
        asks_at = time.monotonic() + _ASK_GRANTS_S
        before = self.reader.last_sequence()
        while True:
            with self.file.transaction() as connection:
                progress = self._key(*name).load(connection)
                found = take_fingerprint(connection, request)
            if found is not None:
                return found
            if self._is_there(name, progress, request.at):
                with self.file.transaction() as connection:
                    if self._key(*name).load(connection) == progress:
                        write_fingerprint(connection, load_state(connection, *name), request)
                continue
            if asks_at < time.monotonic() < ends_at and self.reader.last_sequence() == before:
                asks_at = ends_at
                self._check_grants(name)
            if time.monotonic() > ends_at:
                raise ConsumeError(
                    f"{name[0]}.{name[1]}: the mirror did not reach {request.at} within {self.options.timeout_s:g} s "
                    f"(it is at {progress}); see that the tail of {self.reader.source} runs, and the mirror's consumer"
                )
            time.sleep(_LOOK_S)

    def _is_there(self, name: tuple[str, str], progress: ConsumerProgress, at: Checkpoint) -> bool:
        """True when the stream has all changes up to the place, and none of this table that is not done."""
        checkpoint = self.reader.checkpoint_at(self.reader.last_sequence())
        if checkpoint is None or checkpoint.precedes(at):
            return False
        following = self.reader.changes_from(*name, progress.sequence + 1)
        return not following or len(changes_after(following[0].batch, at)) == len(following[0].batch)

    def _check_grants(self, name: tuple[str, str]) -> None:
        """Once the stream stands still: names what a tail with this account may not do, instead of waiting longer."""
        if grants := grants_for_tail(self.config):
            raise ConsumeError(
                f"{name[0]}.{name[1]}: the stream of {self.reader.source} has stood still for {_ASK_GRANTS_S:g} s, and "
                f"a tail cannot read the binlog as {self.config.user}; run: {' '.join(grants)}"
            )

    def _forget(self, request: FingerprintRequest) -> None:
        with self.file.transaction() as connection:
            ensure_requests(connection)
            delete_request(connection, request)


def _is_behind(progress: ConsumerProgress, at: Checkpoint) -> bool:
    """True when the change done last lies behind the place."""
    if progress == NO_PROGRESS:
        return False
    if progress.server_uuid != at.server_uuid:
        return False  # of a server before a failover
    return BinlogPosition(progress.file, progress.pos) > at.position


def _compared(snapshot: TableSnapshot, found: Fingerprint, store: RowStore, seconds: float) -> Verification:
    there, here = snapshot.schema, found.schema
    if there is None and here is None:
        return Verification(snapshot.at, True, seconds=seconds)
    if there is None or here is None:
        missing = "the server has no such table" if there is None else "there is no mirror of it yet"
        return Verification(snapshot.at, False, missing, seconds=seconds)
    if not has_same_shape(there, here) or there.primary_key != here.primary_key:
        texts = [
            ", ".join(f"{c.name} {c.declaration}" for c in schema.columns) + f" key {schema.primary_key}"
            for schema in (there, here)
        ]
        return Verification(snapshot.at, False, f"columns are {texts[0]}; the mirror has {texts[1]}", seconds=seconds)
    rows = store.compare(found.rows)
    return Verification(snapshot.at, rows.is_equal, "", rows, seconds)
