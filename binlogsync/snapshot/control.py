"""What an operator does with the snapshot requests of a source: find, pause, resume, cancel and follow them.

An update is repeated while the tail updates the same request. `describe` writes a request as text, with the progress of
each table as direct loads write it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from binlogsync.errors import ConfigError, StoreError
from binlogsync.snapshot.progress import ReadProgress
from binlogsync.snapshot.requests import SnapshotRequests, SnapshotStatus, SnapshotTableStatus, StoredSnapshot

_POLL_S = 0.5
_TRIES = 20


def find_snapshot(requests: SnapshotRequests, id: str | None) -> StoredSnapshot:
    """The request with that id; without one, the only request that has not ended. Raises ConfigError, StoreError."""
    stored = requests.list()
    known = ", ".join(each.request.id for each in stored) or "none"
    if id is not None:
        found = [each for each in stored if each.request.id == id]
        if not found:
            raise ConfigError(f"there is no snapshot {id}; those of this source are: {known}")
        return found[0]
    active = [each for each in stored if not each.status.has_ended]
    if len(active) != 1:
        ids = ", ".join(each.request.id for each in active)
        raise ConfigError(
            f"{len(active)} snapshots have not ended ({ids}): name one of them"
            if active
            else "no snapshot is waiting, running or paused"
        )
    return active[0]


def pause(requests: SnapshotRequests, id: str) -> StoredSnapshot:
    """Pause a request: the tail publishes no further rows of it. Raises ConfigError if it has ended, StoreError."""
    return _update(requests, id, lambda status: replace(status, state="paused"))


def resume(requests: SnapshotRequests, id: str) -> StoredSnapshot:
    """Resume a paused request. Raises ConfigError if it has ended, StoreError."""
    return _update(requests, id, _resumed)


def cancel(requests: SnapshotRequests, id: str) -> StoredSnapshot:
    """Cancel a request for good; its rows that are in the stream stay there. Raises ConfigError if it has ended."""
    return _update(requests, id, _cancelled)


ACTIONS: Mapping[str, Callable[[SnapshotRequests, str], StoredSnapshot]] = {
    "pause": pause,
    "resume": resume,
    "cancel": cancel,
}


def has_failed(stored: StoredSnapshot) -> bool:
    """True if the request, or one of its tables, failed or was cancelled."""
    return stored.status.state in ("failed", "cancelled") or bool(failed_tables(stored))


def failed_tables(stored: StoredSnapshot) -> list[str]:
    """The lines of `describe_tables` for the tables that failed."""
    tables = zip(describe_tables(stored), stored.status.tables, strict=True)
    return [line for line, table in tables if table.state == "failed"]


def _resumed(status: SnapshotStatus) -> SnapshotStatus:
    if status.state != "paused":
        return status
    return replace(status, state="running" if status.began_us else "waiting")


def _cancelled(status: SnapshotStatus) -> SnapshotStatus:
    # The tail stores the end of a request that it has begun, with its last counts.
    return replace(status, state="cancelled", ended_us=0 if status.began_us else time.time_ns() // 1000)


def _update(requests: SnapshotRequests, id: str, change: Callable[[SnapshotStatus], SnapshotStatus]) -> StoredSnapshot:
    for _ in range(_TRIES):
        stored = _load(requests, id)
        if stored.status.has_ended:
            raise ConfigError(f"snapshot {id} has ended already: {stored.status.state}")
        changed = change(stored.status)
        if changed == stored.status:
            return stored
        updated = requests.update(stored, changed)
        if updated is not None:
            return updated
    raise StoreError(f"snapshot {id} was changed {_TRIES} times by other processes meanwhile; try again")


def _load(requests: SnapshotRequests, id: str) -> StoredSnapshot:
    return requests.load(id) or find_snapshot(requests, id)  # which raises the error with the ids that there are


def follow(requests: SnapshotRequests, id: str, stop: threading.Event) -> Iterator[StoredSnapshot]:
    """The request after each change, until it has ended or `stop` is set. Raises ConfigError, StoreError."""
    last = None
    while True:
        stored = _load(requests, id)
        if stored.revision != last:
            last = stored.revision
            yield stored
        if stored.status.has_ended or stop.wait(_POLL_S):
            return


def table_names(stored: StoredSnapshot) -> tuple[str, ...]:
    """Names of its tables, or the patterns while the tail has not begun it."""
    return tuple(".".join(table) for table in stored.request.tables) or stored.request.patterns


def table_progress(stored: StoredSnapshot, table: SnapshotTableStatus) -> ReadProgress:
    """The progress of one of its tables; the rate is that of the whole request while the table is running."""
    status = stored.status
    seconds = max(0.0, (status.updated_us - status.began_us) / 1e6) if status.began_us else 0.0
    is_running = table.state == "running" and status.state == "running"
    rate = status.rows / seconds if is_running and seconds else 0.0
    return ReadProgress(table.rows, table.estimate, rate, seconds, table.state == "done")


def share(stored: StoredSnapshot) -> float:
    """Which share of the rows is published, 0 to 1, by the server's estimates."""
    if stored.status.state == "done":
        return 1.0
    tables = stored.status.tables
    total = sum(table.rows if table.state == "done" else max(table.rows, table.estimate) for table in tables)
    return min(1.0, stored.status.rows / total) if total else 0.0


def describe(stored: StoredSnapshot) -> str:
    """State, rows and error of a request, in one line."""
    request, status = stored.request, stored.status
    names = table_names(stored)
    what = names[0] if len(names) == 1 else f"{len(names)} tables" if request.tables else ", ".join(names)
    condition = f" where {request.where}" if request.where is not None else ""
    reader = f" for consumer {request.consumer}" if request.consumer is not None else ""
    failed = sum(table.state == "failed" for table in status.tables)
    state = "waiting for the tail" if status.state == "waiting" else status.state
    parts = [f"{request.id} {state}: {what}{condition}{reader}, {status.rows:,} rows"]
    if status.state == "running":
        done = sum(table.state == "done" for table in status.tables)
        parts.append(f"{done} of {len(status.tables)} tables done")
    if failed:
        parts.append(f"{failed} tables failed")
    return ", ".join(parts) + (f": {status.error}" if status.error else "")


def describe_tables(stored: StoredSnapshot) -> Sequence[str]:
    """A line for each table, once the tail has begun the request."""
    names = table_names(stored)
    return [
        f"{name}: {table.state}, {table_progress(stored, table)}" + (f": {table.error}" if table.error else "")
        for name, table in zip(names, stored.status.tables, strict=False)
    ]
