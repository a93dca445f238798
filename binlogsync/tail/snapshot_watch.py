"""Polls the snapshot requests of a source in a thread, begins them one after another, and reports their progress.

The thread of the tail asks for the current request, and reports, without waiting. A request that was begun is finished
before the next one begins, also while it is paused: its progress is in the stream, which holds that of one request.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from binlogsync.codec.snapshot_state import FIRST_ORDINAL
from binlogsync.codec.subjects import snapshot_prefix
from binlogsync.errors import BinlogSyncError, ConfigError, SinkError, StoreError
from binlogsync.sinks import Sink
from binlogsync.snapshot.condition import refuse_condition
from binlogsync.snapshot.consumer_tables import choose_tables
from binlogsync.snapshot.requests import (
    SnapshotRequest,
    SnapshotRequests,
    SnapshotState,
    SnapshotStatus,
    SnapshotTableStatus,
    StoredSnapshot,
    cancelled_tables,
)

log = logging.getLogger(__name__)

_POLL_S = 1.0
FindTables = Callable[[Sequence[str]], Sequence[tuple[str, str]]]
"""Returns (database, table) of the captured tables that match the patterns. May raise SourceError."""


@dataclass(frozen=True, slots=True)
class CurrentSnapshot:
    """The request that the tail has to carry out, with its tables and first ordinal, and its stored status."""

    request: SnapshotRequest
    status: SnapshotStatus

    @property
    def is_paused(self) -> bool:
        """True when an operator has paused it."""
        return self.status.state == "paused"

    @property
    def first_ordinal(self) -> int:
        """Ordinal of its first row."""
        return FIRST_ORDINAL if self.request.first_ordinal is None else self.request.first_ordinal


@dataclass(frozen=True, slots=True)
class SnapshotReport:
    """What the tail knows about a request: "running", "done", "failed" or "cancelled"; its tables, () if it does not
    know them; and what is wrong, or "".
    """

    id: str
    state: SnapshotState
    tables: tuple[SnapshotTableStatus, ...]
    error: str = ""


class SnapshotWatch:
    """See the module.

    Attributes:
        next_ordinal: set by the tail: of the first row of the next request; None while none may begin, because the
            tail still publishes rows of another one.
    """

    def __init__(
        self,
        source: str,
        requests: SnapshotRequests,
        find_tables: FindTables,
        begun: str | None,
        wake: Callable[[], None],
        sink: Sink,
    ) -> None:
        """`begun` is the id of the request whose progress is in the stream, `sink` takes the rows; `wake` is called
        when a request changed.
        """
        self.next_ordinal: int | None = None
        self._source = source
        self._requests = requests
        self._find_tables = find_tables
        self._sink = sink
        self._directed: tuple[object, ...] = ()  # where the sink directs rows for one consumer
        self._own = begun
        self._wake = wake
        self._current: CurrentSnapshot | None = None
        self._is_known = False
        self._report: SnapshotReport | None = None
        self._written: SnapshotReport | None = None
        self._problem = ""
        self._changed = threading.Event()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name=f"snapshot-requests-{source}", daemon=True)
        self._thread.start()

    @property
    def is_known(self) -> bool:
        """True once the requests have been read."""
        return self._is_known

    @property
    def current(self) -> CurrentSnapshot | None:
        """The request to carry out; None when there is none."""
        return self._current

    def report(self, report: SnapshotReport) -> None:
        """Report progress; it is stored within a second, and at once if the request has ended."""
        self._report = report
        if report.state != "running":
            self._changed.set()

    def close(self) -> None:
        """Store the last report and end the thread, without waiting for it longer than two seconds."""
        self._is_closing = True
        self._changed.set()
        self._thread.join(2.0)

    def _run(self) -> None:
        while True:
            try:
                self._look()
                self._problem = ""
            except BinlogSyncError as error:
                if str(error) != self._problem:
                    log.warning("%s: snapshot requests: %s; trying again", self._source, error)
                self._problem = str(error)
            except Exception:
                log.exception("%s: snapshot requests could not be read", self._source)
            if self._is_closing:
                return
            self._changed.wait(_POLL_S)
            self._changed.clear()

    def _look(self) -> None:
        """One round: store the last report, then find the current request."""
        stored = self._requests.list()
        report = self._report
        if report is not None and report != self._written and self._store(report, stored):
            self._written = report
            if report.state != "running":
                self._own = None
            stored = self._requests.list()
        if self._is_closing:
            return
        self._end_cancelled(stored)
        current = self._choose(stored)
        self._direct_rows(current)
        before, self._current = self._current, current
        is_new = not self._is_known
        self._is_known = True
        if is_new or before != self._current:
            self._wake()

    def _store(self, report: SnapshotReport, stored: Sequence[StoredSnapshot]) -> bool:
        """Store the report; False when the record has changed meanwhile, so that it is tried again."""
        record = next((each for each in stored if each.request.id == report.id), None)
        if record is None:
            return True
        was_over = record.status.has_ended
        if was_over and record.status.ended_us:
            return True
        now_us = time.time_ns() // 1000
        is_over = report.state != "running"
        is_kept = was_over or (record.status.state == "paused" and not is_over)
        status = replace(
            record.status,
            state=record.status.state if is_kept else report.state,
            error=report.error,
            tables=report.tables or cancelled_tables(record.status.tables),
            updated_us=now_us,
            ended_us=now_us if is_over else 0,  # of a cancelled one, the last report follows
        )
        try:
            return self._requests.update(record, status) is not None
        except StoreError:
            if self._requests.load(report.id) is None:
                return True  # it was deleted
            raise

    def _end_cancelled(self, stored: Sequence[StoredSnapshot]) -> None:
        """Store the end of requests that were cancelled, and of which the tail has nothing more to report."""
        for each in stored:
            status, now_us = each.status, time.time_ns() // 1000
            is_own = each.request.id == self._own and self.next_ordinal is None
            if status.state == "cancelled" and not status.ended_us and not is_own:
                tables = cancelled_tables(status.tables)
                ended = replace(status, tables=tables, updated_us=now_us, ended_us=now_us)
                self._requests.update(each, ended)

    def _choose(self, stored: Sequence[StoredSnapshot]) -> CurrentSnapshot | None:
        """The request that was begun, else the oldest that may begin."""
        open_ones = [each for each in stored if not each.status.has_ended]
        begun = [each for each in open_ones if each.status.began_us]
        own = [each for each in open_ones if each.request.id == self._own]
        for each in own or begun or [each for each in open_ones if each.status.state != "paused"]:
            found = each if each.status.began_us else self._begin(each)
            if found is not None:
                self._own = found.request.id
                return CurrentSnapshot(found.request, found.status)
        return None

    def _begin(self, stored: StoredSnapshot) -> StoredSnapshot | None:
        """The request with its tables; None when it cannot begin, or not now."""
        request, now_us, ordinal = stored.request, time.time_ns() // 1000, self.next_ordinal
        if ordinal is None:
            return None
        tables: tuple[tuple[str, str], ...] = ()
        try:
            tables = tuple(self._choose_tables(request))
            error = _refusal(request, tables)
        except SinkError as trouble:
            self._note(request.id, str(trouble))
            raise
        except ConfigError as refused:
            error = str(refused)
        if error:
            status = replace(stored.status, state="failed", error=error, updated_us=now_us, ended_us=now_us)
            self._requests.update(stored, status)
            log.warning("%s: snapshot %s: %s", self._source, request.id, error)
            return None
        status = replace(
            stored.status,
            state="running",
            error="",
            tables=(SnapshotTableStatus(),) * len(tables),
            began_us=now_us,
            updated_us=now_us,
        )
        begun = replace(request, tables=tables, first_ordinal=ordinal)
        names = ", ".join(".".join(table) for table in tables)
        log.info("%s: snapshot %s of %s begins", self._source, request.id, names)
        return self._requests.update(stored, status, begun)

    def _choose_tables(self, request: SnapshotRequest) -> Sequence[tuple[str, str]]:
        """The tables of a request. Raises ConfigError if its consumer cannot get rows of them."""
        if request.subject is None:
            return self._find_tables(request.patterns)
        if request.consumer is None or request.subject != snapshot_prefix(self._source, request.consumer):
            raise ConfigError(f"{request.subject} is no subject for the rows of {self._source} for one consumer")
        matched = {pattern: self._find_tables((pattern,)) for pattern in request.patterns}
        if not any(matched.values()):
            return ()
        return choose_tables(request.consumer, matched, self._sink.find_readers(self._source))

    def _direct_rows(self, current: CurrentSnapshot | None) -> None:
        """Make the consumer of the request read its rows, before the tail knows the request."""
        request = None if current is None else current.request
        directed = None if request is None or request.subject is None else request
        wanted = (None, ()) if directed is None else (directed.subject, directed.tables)
        is_ending = request is None and self.next_ordinal is None  # the tail may still publish rows
        if wanted == self._directed or is_ending:
            return
        try:
            self._sink.direct_rows(self._source, *wanted)
        except SinkError as error:
            if directed is not None:
                self._note(directed.id, str(error))
                raise  # the tail must not publish these rows
            log.warning("%s: rows of a snapshot are still directed to a consumer: %s", self._source, error)
            return
        self._directed = wanted
        if directed is not None:
            self._note(directed.id, "")

    def _note(self, id: str, error: str) -> None:
        """Store what a request waits for, which is tried again; "" for nothing."""
        stored = self._requests.load(id)
        if stored is not None and not stored.status.has_ended and stored.status.error != error:
            now_us = time.time_ns() // 1000
            self._requests.update(stored, replace(stored.status, error=error, updated_us=now_us))


def _refusal(request: SnapshotRequest, tables: Sequence[tuple[str, str]]) -> str:
    """Why the request cannot be carried out; "" if it can."""
    patterns = ", ".join(request.patterns)
    if not tables:
        return f"no captured table matches {patterns}; see which tables the source captures (include, exclude)"
    if request.where is not None and len(tables) > 1:
        return f"a condition needs one table, and {len(tables)} match {patterns}; name the table"
    if request.where is not None and (problem := refuse_condition(request.where)):
        return problem
    return ""
