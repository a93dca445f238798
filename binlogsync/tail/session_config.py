"""What a session of a tail is given, and what it leaves to the next one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from binlogsync.errors import MissingPrepareError
from binlogsync.filters import TableFilter
from binlogsync.mysql import MySQLConfig
from binlogsync.position import Checkpoint
from binlogsync.sinks import Sink
from binlogsync.snapshot.requests import SnapshotRequests
from binlogsync.stores import PositionStore
from binlogsync.tail.options import TailOptions


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """Source, sinks, position store, options, table filter and snapshot requests of one tail."""

    config: MySQLConfig
    sinks: tuple[Sink, ...]
    store: PositionStore
    options: TailOptions
    filter: TableFilter
    snapshots: SnapshotRequests | None = None


@dataclass(frozen=True, slots=True)
class SessionState:
    """State carried over from one session of a tail to its next session.

    Attributes:
        next_number: number of the next flush.
        start: where the tail started, while all sinks are empty: so "now" does not move after an outage.
        missing: the XA COMMIT that the last session could not apply, because its changes were logged before its start.
    """

    next_number: int = 1
    start: Checkpoint | None = None
    missing: MissingPrepareError | None = None


@dataclass(frozen=True, slots=True)
class TailCallbacks:
    """Callbacks from a session to its tail: stop flag, progress tick, checkpoint save.

    Attributes:
        stop: set when the tail has to end.
        tick: called about once a second, with True when the backlog is stored; may raise LeaseLostError.
        save: saves a checkpoint; called from other threads.
    """

    stop: threading.Event
    tick: Callable[[bool], None]
    save: Callable[[Checkpoint], None]
