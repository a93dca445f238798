"""Targets: what a consumer does with the changes of its tables: a mirror (mirror/target.py), or calls of a handler.

A target stores progress with its rows in one transaction, or after it applied the changes. It gets changes in order,
and has applied all of them when `take` returns. If it raises, the changes before the failed one are stored with their
progress, and no later change was applied.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Generator, Sequence, Set
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol, TypeVar

from binlogsync.consume.progress import ConsumerProgress, ProgressKey, ProgressStore, Tracker
from binlogsync.errors import BinlogSyncError, ConfigError
from binlogsync.nats.reader import StreamBatch, StreamReader
from binlogsync.snapshot.progress import ReadProgress


@dataclass(frozen=True, slots=True)
class TableChanges:
    """Changes of one table, in order, and the progress that is stored with them."""

    tracker: Tracker
    batches: Sequence[StreamBatch]


Work = TypeVar("Work")


def apply_rounds(rounds: Generator[Work], take: Callable[[Work, threading.Event], None], stop: threading.Event) -> None:
    """The loop of a consumer, and of a replay: `rounds` yields what `take` applies before the next is fetched."""
    with closing(rounds):
        for work in rounds:
            take(work, stop)


class ApplyAloneError(BinlogSyncError):
    """Changes of these tables, as (database, table), have to be applied alone, because a table has to be loaded again.

    Nothing was applied. The other tables would wait for the load.
    """

    def __init__(self, tables: Set[tuple[str, str]]) -> None:
        self.tables = tables
        super().__init__(f"{', '.join(map('.'.join, sorted(tables)))}: to be loaded again, without the other tables")


class Target(Protocol):
    """Receives the changes from `consume`.

    A target is a subclass: it implements `take`, and overrides the other methods if it supports them.

    Attributes:
        store: the store of its progress.
    """

    store: ProgressStore

    @abstractmethod
    def take(self, work: Sequence[TableChanges], stop: threading.Event) -> None:
        """Apply the changes, store progress with them, advance the trackers; returns early and cleanly on `stop`.

        `work` has one element, or for a target returned by `join` one for each table with changes; these end at a
        transaction boundary and become visible together.
        """

    def join(self, others: Sequence[Target], *, may_load: bool = True) -> Target:
        """A target that applies the changes of this one and of the others in one transaction.

        Without `may_load`, its `take` raises ApplyAloneError when a table has to be loaded again, and applies nothing.
        Raises ConfigError if joining is not supported.
        """
        raise ConfigError("only mirrors can be applied in one transaction")

    @property
    def join_scope(self) -> str | None:
        """Targets with an equal scope can be joined; None if this one cannot be joined."""
        return None

    @property
    def may_buffer_progress(self) -> bool:
        """True if progress may be stored some time after the changes were applied, for many targets at once."""
        return False

    @property
    def repairs_gaps(self) -> bool:
        """True when `repair` can repair a gap, as a mirror does, which reads its table again."""
        return False

    def repair(self, key: ProgressKey, progress: ConsumerProgress) -> None:
        """Try to repair the open gaps; a gap that cannot be repaired now stays open."""
        return

    @property
    def is_repair_due(self) -> bool:
        """True when a gap is open that `repair` could not repair, and it is time to try again."""
        return False

    @property
    def load_progress(self) -> ReadProgress | None:
        """How far the last load of existing rows is, for a target that loads them; None before the first one."""
        return None

    def use_stream(self, reader: StreamReader, key: ProgressKey, stop: threading.Event) -> None:
        """Get the stream of the changes, at the start of each run, before progress is loaded. No transaction is open.

        A mirror loads its table here if it has none, and later builds renamed tables from the stream. `stop` ends
        these early.
        """
        return

    def use_streams(self, reader: StreamReader, keys: Sequence[ProgressKey], stop: threading.Event) -> None:
        """`use_stream` for each table; a target returned by `join` may handle them at the same time."""
        for key in keys:
            self.use_stream(reader, key, stop)
